package scenario

import (
	"bufio"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"tidemark/internal/observe/accesslog"
	"tidemark/internal/prove/journey"
)

// Replay plays an access log again: who read what, and when. Requests that write are left out, for a log does not say what was written.
type Replay struct {
	File   string `yaml:"file,required" example:"/var/log/nginx/access.log"`
	Format string `yaml:"format"` // nginx's log_format, or combined or tidemark; combined
}

// Arrival is one request of a replay.
type Arrival struct {
	At   time.Duration
	Path string // with its query
}

// replayed is the journey of a replay. What is refused was refused before: only the service's own errors are failures.
func replayed() journey.Journey {
	var good []int
	for status := 200; status < 500; status++ {
		good = append(good, status)
	}
	return journey.Journey{Name: replayName, Steps: []journey.Step{{Name: "get", Path: "{{.path}}", Check: journey.Check{Status: good}}}}
}

const (
	replayName  = "replay"
	maxArrivals = 10_000_000
)

// read reads the log. A line is written when a request ends, mostly to the second: requests are spread within it by a seed of their own.
func (p *Replay) read(path string, compress float64) (all []Arrival, left int, err error) {
	format, err := accesslog.Compile(cmp.Or(p.Format, "combined"))
	if err != nil {
		return nil, 0, err
	}
	if !format.Has(accesslog.URI | accesslog.Time | accesslog.Method) {
		return nil, 0, fmt.Errorf("the format does not say what was asked for and when: it needs $request and $time_local")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	type line struct {
		at   time.Time
		path string
	}
	var found []line
	rng := rand.New(rand.NewPCG(1, 0x7265706c6179))
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	var e accesslog.Entry
	for lines.Scan() {
		if err := format.Parse(lines.Bytes(), &e); err != nil {
			left++
			continue
		}
		at, ok := e.Time()
		if method := string(e.Method); !ok || method != "GET" || len(e.URI) == 0 || e.URI[0] != '/' {
			left++
			continue
		}
		if at.Nanosecond() == 0 {
			at = at.Add(time.Duration(rng.Int64N(int64(time.Second))))
		}
		if !math.IsNaN(e.RequestTime) {
			at = at.Add(-time.Duration(e.RequestTime * float64(time.Second)))
		}
		if len(found) == maxArrivals {
			return nil, 0, fmt.Errorf("%s has more than %d requests: take a part of it", path, maxArrivals)
		}
		found = append(found, line{at, string(e.URI)})
	}
	if err := lines.Err(); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	if len(found) == 0 {
		return nil, 0, fmt.Errorf("%s: none of its %d lines is a GET that can be asked again: is it written in the format that is given?", path, left)
	}
	slices.SortStableFunc(found, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range found {
		all = append(all, Arrival{time.Duration(float64(l.at.Sub(found[0].at)) / compress), l.path})
	}
	return all, left, nil
}
