package accesslog

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/fleet"
)

const benchCount = 200_000

// benchText is lines as a registry's nginx writes them in the recommended format, 280 bytes each on average.
var benchText = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	paths := []string{"/api/mobile/sync?since=2027-03-01T00:00:00Z", "/web/dataset/call_kw/farmer.farmer/web_search_read", "/web/health", "/api/farmer/lookup?q=moa"}
	agents := []string{"okhttp/4.12.0", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36"}
	for i := range benchCount {
		ms := 20 + i*7919%480
		fmt.Fprintf(&b, `10.20.%d.%d - - [01/Mar/2027:07:%02d:%02d -1000] "POST %s HTTP/1.1" 200 %d "https://dfr.example/web" "%s" rt=0.%03d urt="0.%03d" uct="0.000" uht="0.%03d" addr="127.0.0.1:8069" len=%d`+"\n",
			i%200, i%251, i/60%60, i%60, paths[i%len(paths)], 300+i%5000, agents[i%len(agents)], ms+3, ms, ms, 200+i%4000)
	}
	return b.Bytes()
})

// cpu is the CPU time of this process: on a busy machine the wall clock measures the neighbours.
func cpu(tb testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkParse takes single lines apart. lines/s is by the wall clock, lines/cpu-s by CPU time: what one core does when it is
// not shared.
func BenchmarkParse(b *testing.B) {
	f, err := Compile("tidemark")
	if err != nil {
		b.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(benchText()), []byte("\n"))[:10_000]
	var e Entry
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu(b)
	for i := 0; b.Loop(); i++ {
		if err := f.Parse(lines[i%len(lines)], &e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(b.N)/(cpu(b)-start).Seconds(), "lines/cpu-s")
}

// BenchmarkFollow is end to end: read the file, split, parse, match the routes of three signals, record.
func BenchmarkFollow(b *testing.B) {
	text := benchText()
	path := filepath.Join(b.TempDir(), "access.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	l, err := New(path, "tidemark")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	cfg := DefaultConfig()
	cfg.Path, cfg.Route = path, "/api/mobile/sync"
	p95 := l.Source(cfg, 0.95, 5*time.Minute, 50)
	cfg.Route, cfg.Field = "", Rate
	l.Source(cfg, 0, time.Minute, 1)
	cfg.Field = Errors
	l.Source(cfg, 0, time.Minute, 1)
	now := time.Unix(1_800_000_000, 0)
	read := func() fleet.Reading {
		now = now.Add(time.Second)
		r, _ := p95.Read(context.Background(), fleet.Scene{Now: now})
		return r
	}
	read()
	var used time.Duration
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		b.StopTimer()
		if err := f.Truncate(0); err != nil {
			b.Fatal(err)
		}
		read()
		if _, err := f.Write(text); err != nil {
			b.Fatal(err)
		}
		before := l.Stats().Lines
		start := cpu(b)
		b.StartTimer()
		for l.Stats().Lines-before < benchCount {
			read()
		}
		used += cpu(b) - start
	}
	if s := l.Stats(); s.Skipped != 0 || s.Lines != uint64(b.N)*benchCount {
		b.Fatalf("%d runs: %+v", b.N, s)
	}
	b.ReportMetric(float64(b.N)*benchCount/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(b.N)*benchCount/used.Seconds(), "lines/cpu-s")
}
