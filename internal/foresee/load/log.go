package load

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
	"tidemark/internal/lines"
	"tidemark/internal/observe/accesslog"
)

// Request is one that a log tells of: when it came, in milliseconds since the series' start, and how long it took, in seconds.
type Request struct {
	At      uint32
	Service float32
}

// Log is the load of a site as its access log has it.
type Log struct {
	Series
	// Service are the times that workers took, in seconds, as far as the log tells: what a request waited for a worker is part of it.
	// Mean is their mean; 0 when the format has no times.
	Service signal.Histogram
	Mean    float64
	Notes   []string // what was left out and assumed
}

// LogOptions say how a log is read.
type LogOptions struct {
	Format string // as accesslog.Compile takes it
	// Progress, unless nil, is told now and then how many lines were read.
	Progress func(lines uint64)
	// Disorder is how far a line may stand behind one with a later time; default 10 minutes. Those further behind are left out.
	Disorder time.Duration
}

const (
	// keepRequests is how many requests of a log are kept one by one, at 8 bytes each: beyond, only how many came in each second.
	keepRequests = 20_000_000
	longestLine  = 1 << 20
	sampleBytes  = 160
	// longestLog is how long a log may last: one count of 4 bytes a second.
	longestLog = 2 * 366 * day
)

// ReadLog reads an access log, plain or gzip. It keeps at most a few hundred MB however long the log is. Lines that are not of the format are
// counted, and the first is shown; a log in which there is no line of the format is an error.
func ReadLog(name string, from io.Reader, o LogOptions) (*Log, error) {
	format, err := accesslog.Compile(o.Format)
	if err != nil {
		return nil, err
	}
	if !format.Has(accesslog.Time) {
		return nil, fmt.Errorf("the log_format %s says nothing about the time: it needs $msec, $time_iso8601 or $time_local", format)
	}
	if o.Disorder == 0 {
		o.Disorder = 10 * time.Minute
	}
	r := reading{name: name, format: format, LogOptions: o, keeping: true, upstream: format.Has(accesslog.UpstreamTime), timed: format.Has(accesslog.RequestTime)}
	text, _, err := lines.Plain(from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ahead := readAhead(text)
	defer ahead.stop()
	if err := r.take(ahead); err != nil {
		return nil, err
	}
	return r.log()
}

// reading is a log being read.
type reading struct {
	LogOptions
	name            string
	format          *accesslog.Format
	upstream, timed bool
	entry           accesslog.Entry
	stamp           []byte // the time of the line before, which most lines share, and
	stamped         int64  // what it is, in milliseconds since 1970
	coarse          bool   // times are whole seconds

	n, bad, own, late   uint64
	firstBad, firstLate uint64
	sample              string
	why                 error

	origin  int64 // of counts and requests: the first line's time, less an hour for what began before it, in milliseconds
	latest  int64
	counts  []uint32 // by second since origin
	kept    []Request
	keeping bool
	service signal.Histogram
	sum     float64
	some    uint64 // that have a service time
}

// take takes in all lines.
func (r *reading) take(text io.Reader) error {
	for line, err := range lines.Of(text, longestLine) {
		switch {
		case errors.Is(err, lines.ErrTooLong):
			r.n++
			r.wrong(line, errors.New("longer than 1 MiB"))
		case err != nil:
			return fmt.Errorf("%s:%d: %w", r.name, r.n+1, err)
		case len(line) > 0:
			r.n++
			if err := r.line(line); err != nil {
				return err
			}
		}
		if r.n&0x3ffff == 0 && r.Progress != nil {
			r.Progress(r.n)
		}
	}
	return nil
}

func (r *reading) wrong(line []byte, why error) {
	if r.bad++; r.bad == 1 {
		r.firstBad, r.why = r.n, why
		r.sample = strconv.QuoteToASCII(string(line[:min(len(line), sampleBytes)]))
	}
}

// line takes in one.
func (r *reading) line(line []byte) error {
	e := &r.entry
	if err := r.format.Parse(line, e); err != nil {
		r.wrong(line, err)
		return nil
	}
	at, ok := r.when()
	if !ok {
		r.wrong(line, errors.New("its time cannot be read"))
		return nil
	}
	took := math.NaN()
	switch {
	case e.Status == 101 || r.upstream && math.IsNaN(e.UpstreamTime):
		r.own++
		return nil
	case r.upstream:
		took = e.UpstreamTime
	case r.timed:
		took = e.RequestTime
	}
	if r.origin == 0 {
		r.origin = at - at%1000 - int64(time.Hour/time.Millisecond)
	}
	if at < r.latest-r.Disorder.Milliseconds() {
		if r.late++; r.late == 1 {
			r.firstLate = r.n
		}
		return nil
	}
	r.latest = max(r.latest, at)
	came := at
	if r.coarse { // somewhere in its second, by chance of its line
		came += int64((r.n * 0x9e3779b97f4a7c15) >> 32 * 1000 >> 32)
	}
	switch { // nginx writes a line when the request is done
	case r.timed && !math.IsNaN(e.RequestTime):
		came -= int64(e.RequestTime * 1000)
	case !math.IsNaN(took):
		came -= int64(took * 1000)
	}
	came = max(came-r.origin, 0)
	second := int(came / 1000)
	if second >= len(r.counts) {
		if time.Duration(second)*time.Second > longestLog {
			return fmt.Errorf("%s:%d: the log spans more than two years: %s comes after %s", r.name, r.n,
				time.UnixMilli(at).UTC().Format(time.RFC3339), time.UnixMilli(r.origin).UTC().Format(time.RFC3339))
		}
		r.counts = append(r.counts, make([]uint32, second+1-len(r.counts))...)
	}
	r.counts[second]++
	if !math.IsNaN(took) {
		r.some++
		r.sum += took
		r.service.Record(took)
	}
	if r.keeping {
		if len(r.kept) == keepRequests || came > math.MaxUint32 || math.IsNaN(took) {
			r.keeping, r.kept = false, nil
		} else {
			r.kept = append(r.kept, Request{uint32(came), float32(took)})
		}
	}
	return nil
}

// when is the line's time, in milliseconds since 1970. Most lines of a busy site have the time of the one before.
func (r *reading) when() (int64, bool) {
	if text := r.entry.TimeText(); !bytes.Equal(text, r.stamp) || len(text) == 0 {
		t, ok := r.entry.Time()
		if !ok || t.Unix() <= int64(time.Hour/time.Second) {
			return 0, false
		}
		r.coarse = bytes.IndexByte(text, '.') < 0
		r.stamp, r.stamped = append(r.stamp[:0], text...), t.UnixMilli()
	}
	return r.stamped, true
}

// log is the load that was read.
func (r *reading) log() (*Log, error) {
	first := slices.IndexFunc(r.counts, func(n uint32) bool { return n > 0 })
	if first < 0 {
		if r.bad > 0 {
			return nil, fmt.Errorf("%s:%d: no line is in the log_format %s (%w): found %s; give the log_format that nginx uses for it", r.name, r.firstBad, r.format, r.why, r.sample)
		}
		return nil, fmt.Errorf("%s holds no request to a worker (%d lines)", r.name, r.n)
	}
	l := &Log{Series: Series{Name: r.name, Start: time.UnixMilli(r.origin + int64(first)*1000).UTC(), Step: time.Second}, Service: r.service}
	if len(r.counts)-first > maxSteps {
		l.Step = time.Minute
	}
	per := int(l.Step / time.Second)
	l.Rates = make([]float64, (len(r.counts)-first+per-1)/per)
	quiet, longest := 0, 0
	for i, n := range r.counts[first:] {
		l.Rates[i/per] += float64(n) / float64(per)
		if quiet++; n > 0 {
			quiet = 0
		}
		longest = max(longest, quiet)
	}
	if r.some > 0 {
		l.Mean = r.sum / float64(r.some)
	}
	if r.keeping {
		for i := range r.kept {
			r.kept[i].At -= uint32(first) * 1000
		}
		slices.SortFunc(r.kept, func(a, b Request) int { return cmp.Compare(a.At, b.At) })
		l.Requests = r.kept
	}
	note := func(when bool, format string, args ...any) {
		if when {
			l.Notes = append(l.Notes, fmt.Sprintf(format, args...))
		}
	}
	note(r.bad > 0, "%d of %d lines are not in the log_format; the first is line %d (%v): %s", r.bad, r.n, r.firstBad, r.why, r.sample)
	note(r.own > 0, "%d lines are left out: nginx answered these itself, or they are websockets", r.own)
	note(r.late > 0, "%d lines are left out, from line %d on: they stand more than %s behind lines with later times", r.late, r.firstLate, fleet.Elapsed(r.Disorder))
	note(longest > 3600, "in the longest gap nothing was logged for %s: taken as no load", fleet.Elapsed(time.Duration(longest)*time.Second))
	note(r.coarse, "times in the log are whole seconds: within its second each request is placed by chance; $msec would tell")
	note(r.some == 0, "the log_format has no times of service ($upstream_response_time, $request_time): give --service")
	note(r.some > 0 && !r.keeping, "more than %d requests (or 49 days): arrivals are those of each second, and service times those of the whole log, by chance", keepRequests)
	return l, nil
}
