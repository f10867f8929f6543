package app

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
	"tidemark/test/servers"
)

// yearSignals is how many signals a fleet of benchmarks has, and yearTick the time between two readings of each.
const (
	yearSignals = 20
	yearTick    = 15 * time.Second
	yearSpan    = 365 * 24 * time.Hour
)

// yearVersion is to rise when what writeYear writes changes: a journal that was written before is not taken any more.
const yearVersion = 1

// keptYear is the path of a journal with a year of a fleet up to now, or up to some days ago: to write one takes minutes, so that it is
// kept in the user's cache folder. What opens it gets a copy.
func keptYear(b *testing.B) string {
	b.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Fatal(err)
	}
	dir := filepath.Join(cache, "tidemark")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("year-%d.db", yearVersion))
	if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) < 14*24*time.Hour {
		return path
	}
	b.Logf("writing %s, once", path)
	fresh := filepath.Join(b.TempDir(), "year.db")
	writeYear(b, fresh)
	copyFile(b, path+".new", fresh)
	if err := os.Rename(path+".new", path); err != nil {
		b.Fatal(err)
	}
	return path
}

func copyFile(b *testing.B, to, from string) {
	b.Helper()
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		b.Fatal(err)
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
}

// writeYear fills a daemon's journal with a year of its fleet up to now, all of it kept raw: 2,102,400 readings of each signal, with the
// days and weeks that real load has, gaps, and a change of size every half hour.
func writeYear(b *testing.B, path string) {
	b.Helper()
	j, err := sqlite.Open(b.Context(), path, record.Retention{Raw: 2 * yearSpan, Minutes: 2 * yearSpan, MaxBytes: 16 << 30})
	if err != nil {
		b.Fatal(err)
	}
	const batch = 2048 // it is rolled up at once: what waits is sorted anew for each part of it
	begin := time.Now().UTC().Add(-yearSpan).Truncate(yearTick)
	ticks := int(yearSpan / yearTick)
	start := time.Now()
	for n := 0; n < ticks; n += batch {
		all := make([]record.Tick, 0, batch)
		for i := n; i < min(n+batch, ticks); i++ {
			all = append(all, yearOf(begin, i))
		}
		if err := j.Commit(b.Context(), all...); err != nil {
			b.Fatal(err)
		}
		if err := j.RollUp(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	b.Logf("a year of %d ticks was written in %s", ticks, time.Since(start).Round(time.Second))
}

// yearNames are the signals' names.
var yearNames = func() (out [yearSignals]string) {
	for s := range out {
		out[s] = fmt.Sprintf("signal-%02d", s)
	}
	return out
}()

// yearOf is the n-th tick of the year.
func yearOf(begin time.Time, n int) record.Tick {
	at := begin.Add(time.Duration(n) * yearTick)
	tide := 0.5 + 0.4*math.Sin(float64(n)*2*math.Pi/5760) // a day has 5,760 ticks
	size := 2 + int(8*tide)
	t := record.Tick{Fleet: "f", Time: at, Size: fleet.Size{Known: true, Serving: size}, Readings: make([]record.Sample, 0, yearSignals)}
	for s := range yearSignals {
		r := fleet.Reading{Value: 100*tide + float64((n*(s+7))%13), Time: at, Quality: fleet.Fresh}
		if n%5000 < 20 {
			r = fleet.Reading{Time: at, Quality: fleet.Missing}
		}
		t.Readings = append(t.Readings, record.Sample{Signal: yearNames[s], Reading: r})
	}
	if n%120 == 0 {
		d := &fleet.Decision{Fleet: "f", Time: at, From: size, To: size + 1, Reasons: []fleet.Reason{{Code: fleet.RuleOut, Policy: "by-hand", Signal: "signal-00", Operator: fleet.AtLeast, Value: 80, Threshold: 70, Breaching: 2, M: 2, N: 3}}}
		t.Decision = d
		t.Events = []fleet.Event{{Time: at, Fleet: "f", Kind: fleet.EventDecision, From: size, To: size + 1, Decision: d},
			{Time: at, Fleet: "f", Kind: fleet.EventActionDone, From: size, To: size + 1, Duration: fleet.Duration(20 * time.Second), Parts: &fleet.Parts{}}}
	}
	return t
}

// BenchmarkYear opens the page of a fleet whose journal holds a year of 20 signals, 2 million readings each, at each zoom, now and at
// other times of the year. The figure to see is longest-ms; the bar is 300 ms.
func BenchmarkYear(b *testing.B) {
	address := servers.FreeAddress(b)
	w := emptyWorld(b, 2)
	w.tick = yearTick.String()
	var signals strings.Builder
	signals.WriteString("    signals:\n")
	for _, name := range yearNames {
		fmt.Fprintf(&signals, "      %s: {push: {expiry: 1h}}\n", name)
	}
	w.write("listen: "+address+"\nretention: {raw: 730d, minutes: 730d, max_size: 16GiB}", signals.String()+`    policies:
      - id: by-hand
        rules:
          - {signal: signal-00, operator: ">=", threshold: 70, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: signal-00, operator: "<=", threshold: 30, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}`)
	if _, problems, err := Check(w.path); err != nil || problems.Failed() {
		b.Fatal(err, problems) // before the year is written
	}
	copyFile(b, filepath.Join(w.dir, "journal.db"), keptYear(b))
	w.start()
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	random := rand.New(rand.NewPCG(1, 2))
	for _, zoom := range []string{"1h", "6h", "1d", "1w", "30d", "90d", "1y"} {
		b.Run(zoom, func(b *testing.B) {
			var longest time.Duration
			size := 0
			for b.Loop() {
				until := time.Now().Add(-time.Duration(random.Int64N(int64(yearSpan / 2))))
				start := time.Now()
				a := ask(b, http.MethodGet, "http://"+address+"/fleets/f?"+url.Values{"zoom": {zoom}, "until": {until.UTC().Format(time.RFC3339)}}.Encode(), nil)
				longest = max(longest, time.Since(start))
				if a.code != http.StatusOK || strings.Count(a.body, "<figure") != yearSignals+1 {
					b.Fatalf("%d with %d charts", a.code, strings.Count(a.body, "<figure"))
				}
				size = len(a.body)
			}
			b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
			b.ReportMetric(float64(size)/1024, "KB")
		})
	}
}
