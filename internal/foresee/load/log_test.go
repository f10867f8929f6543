package load

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"tidemark/internal/observe/accesslog"
)

const logStart = 1_800_000_000 // 2027-01-15T08:00:00Z

const msecFormat = `$remote_addr [$msec] "$request" $status rt=$request_time urt="$upstream_response_time"`

func logLine(at, request, upstream float64) string {
	return fmt.Sprintf("10.0.0.7 [%.3f] \"GET /api/farmer/lookup?q=1 HTTP/1.1\" 200 rt=%.3f urt=\"%.3f\"\n", at, request, upstream)
}

func readLog(t *testing.T, text string) *Log {
	t.Helper()
	l, err := ReadLog("a.log", strings.NewReader(text), LogOptions{Format: msecFormat})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A request came when its line was written, less what it took; lines are written as requests end, and sorted by arrival.
func TestLogAsItWas(t *testing.T) {
	l := readLog(t, logLine(logStart+1.2, 0.1, 0.09)+logLine(logStart+3, 2.9, 2.5)+logLine(logStart+2.5, 0.2, 0.2)) // the last stands out of order
	if want := time.Unix(logStart, 0).UTC(); !l.Start.Equal(want) || l.Step != time.Second {
		t.Fatalf("starts at %s in steps of %s", l.Start, l.Step)
	}
	for i, want := range []Request{{100, 2.5}, {1100, 0.09}, {2300, 0.2}} {
		if len(l.Requests) != 3 || l.Requests[i] != want {
			t.Fatalf("%v, want %v at %d", l.Requests, want, i)
		}
	}
	if len(l.Rates) != 3 || l.Rates[0] != 1 || l.Rates[1] != 1 || l.Rates[2] != 1 || math.Abs(l.Mean-0.93) > 1e-9 || len(l.Notes) != 0 {
		t.Errorf("%v, mean %g, %q", l.Rates, l.Mean, l.Notes)
	}
	if l.Scaled(2).Requests != nil || l.Scaled(2).Rates[0] != 2 {
		t.Error("a scaled log is by chance")
	}
}

// gzip reads the same, and a gzip that is cut off is said so.
func TestLogGzip(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for i := range 1000 {
		fmt.Fprint(z, logLine(logStart+float64(i)/10, 0.1, 0.1))
	}
	z.Close()
	l, err := ReadLog("a.log.gz", bytes.NewReader(b.Bytes()), LogOptions{Format: msecFormat})
	if err != nil || len(l.Requests) != 1000 {
		t.Fatalf("%v", err)
	}
	if _, err = ReadLog("a.log.gz", bytes.NewReader(b.Bytes()[:b.Len()-20]), LogOptions{Format: msecFormat}); err == nil || !strings.Contains(err.Error(), "a.log.gz:") || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("%v", err)
	}
}

// What cannot be used is counted and told, with the first line of it.
func TestLogNotes(t *testing.T) {
	good := logLine(logStart, 0.1, 0.1)
	own := strings.Replace(good, `urt="0.100"`, `urt="-"`, 1)
	long := strings.Repeat("x", longestLine+10) + "\n"
	for _, c := range []struct{ name, text, note string }{
		{"another format", good + "hello\n\n" + good + "again\n", `2 of 4 lines are not in the log_format; the first is line 2 (the line does`},
		{"too long", good + long + good, "1 of 3 lines are not in the log_format; the first is line 2 (longer than 1 MiB)"},
		{"its own", good + own, "1 lines are left out: nginx answered these itself"},
		{"far behind", good + logLine(logStart+2000, 0.1, 0.1) + logLine(logStart+3, 0.1, 0.1), "1 lines are left out, from line 3 on: they stand more than 10m behind"},
		{"a gap", good + logLine(logStart+7300, 0.1, 0.1), "in the longest gap nothing was logged for 2h2m"},
	} {
		l := readLog(t, c.text)
		if notes := strings.Join(l.Notes, "\n"); !strings.Contains(notes, c.note[:min(len(c.note), 60)]) {
			t.Errorf("%s: %q, want %q", c.name, notes, c.note)
		}
	}
	for _, c := range []struct{ name, text, format, err string }{
		{"nothing in the format", "hello\nworld\n", msecFormat, "a.log:1: no line is in the log_format"},
		{"nothing", "", msecFormat, "a.log holds no request to a worker (0 lines)"},
		{"no time", good, `$remote_addr $status`, "says nothing about the time"},
		{"no format", good, `$a$b`, "log_format: position"},
		{"ages", good + logLine(logStart+1e8, 0.1, 0.1), msecFormat, "a.log:2: the log spans more than two years"},
	} {
		if _, err := ReadLog("a.log", strings.NewReader(c.text), LogOptions{Format: c.format}); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %s", c.name, err, c.err)
		}
	}
}

// nginx's combined format tells arrivals to the second and no times of service; that is said.
func TestLogCombined(t *testing.T) {
	line := `10.0.0.7 - - [15/Jan/2027:08:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "curl"` + "\n"
	l, err := ReadLog("a.log", strings.NewReader(strings.Repeat(line, 50)), LogOptions{Format: "combined"})
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(l.Notes, "\n")
	if l.Requests != nil || l.Mean != 0 || len(l.Rates) != 1 || l.Rates[0] != 50 || !strings.Contains(notes, "whole seconds") || !strings.Contains(notes, "give --service") {
		t.Errorf("%+v %q", l.Series, notes)
	}
}

// repeat gives a text again and again, with no more memory than it takes once.
type repeat struct {
	text []byte
	left int64
	at   int
}

func (r *repeat) Read(to []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("the end")
	}
	n := copy(to, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	r.left -= int64(n)
	return n, nil
}

// A log is never in memory whole: 100 MB of lines that cannot be used leave nothing behind.
func TestLogMemoryIsBounded(t *testing.T) {
	text := []byte(strings.Repeat(strings.Replace(logLine(logStart, 0.1, 0.1), "rt=", "xx=", 1), 5000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ReadLog("a.log", &repeat{text: text, left: 100 << 20}, LogOptions{Format: msecFormat})
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "the end") {
		t.Fatal(err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 20<<20 {
		t.Errorf("%d MiB were allocated for 100 MiB of log", got>>20)
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(logLine(logStart, 0.1, 0.1) + logLine(logStart+5, 0.1, 0.1))
	f.Add("10.0.0.7 [1800000000.000] \"GET / HTTP/1.1\" 101 rt=0.1 urt=\"0.1, 0.2\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ReadLog("f", strings.NewReader(text), LogOptions{Format: msecFormat})
		if err != nil {
			return
		}
		total := 0.0
		for _, r := range l.Rates {
			total += r * l.Step.Seconds()
		}
		if l.Requests != nil && math.Abs(total-float64(len(l.Requests))) > 1e-6 {
			t.Fatalf("%g requests by rates, %d one by one", total, len(l.Requests))
		}
	})
}

// The figure to print is million lines/s, of the format that Tidemark recommends.
func BenchmarkReadLog(b *testing.B) {
	var text bytes.Buffer
	const lines = 200_000
	for i := range lines {
		at := time.Unix(logStart, 0).Add(time.Duration(i) * 20 * time.Millisecond).UTC()
		fmt.Fprintf(&text, `203.0.113.%d - - [%s] "POST /api/mobile/sync HTTP/1.1" 200 %d "-" "DFR/2.1 (Android 13; SM-A145F)" rt=0.%03d urt="0.%03d" uct="0.000" uht="0.080" addr="unix:/run/odoo.sock" len=%d`+"\n",
			i%250, at.Format("02/Jan/2006:15:04:05 -0700"), 400+i%5000, 80+i%300, 70+i%290, 900+i%3000)
	}
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, 6)
	z.Write(text.Bytes())
	z.Close()
	for name, content := range map[string][]byte{"plain": text.Bytes(), "gzip": packed.Bytes()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(text.Len()))
			b.ReportAllocs()
			for b.Loop() {
				l, err := ReadLog("bench", bytes.NewReader(content), LogOptions{Format: accesslog.Tidemark})
				if err != nil || len(l.Requests) != lines {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*lines/b.Elapsed().Seconds()/1e6, "Mlines/s")
		})
	}
}
