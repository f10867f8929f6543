// Package accesslog reads signals from nginx's access log: latency quantiles, request rate and share of errors, for all
// requests or for one route. It compiles nginx's own log_format into a parser (Format, also for replaying logs), follows
// the file through rotation and truncation, and keeps one sliding window for each signal.
//
// A line counts when it was read, a tick after it was written at most; the times in it are not looked at, so that clocks and
// time zones play no part. For the same reason windows run on the time that really passed, not on the wall clock.
//
// What is counted:
//
//   - rate: every line of the route, whoever answered it.
//   - errors: of these, status 500 and more. 499 (the client left) is none.
//   - latency: lines that state a time. nginx writes "-" for requests that it answered itself, and those say nothing about the
//     workers. Left out too are 502 and 503, since a quick refusal is no quick answer, and 101, since a websocket lasts as
//     long as its page. 499 and 504 are counted with the time waited: leaving them out would make an overloaded
//     service look fast.
package accesslog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"tidemark/internal/fleet"
)

// Log is one access log that any number of signals are read from. Each line is read and parsed once.
type Log struct {
	turn    chan struct{} // held while reading; a channel, so that waiting for it ends with the context
	format  *Format
	tail    tail
	sources []*Source
	closed  bool

	at    time.Time // the tick that was read last, and
	err   error     // what came of it
	known time.Time // until when everything was read

	entry      Entry
	good       int // lines of this read
	bad        int
	mismatched bool   // the last lines were all not of the format
	sample     []byte // the first of them
	why        error

	stats atomic.Pointer[Stats]
}

// New returns a log in the given log_format (as for Compile). The file is opened when it is first read, at its end: nothing that it
// holds by then counts.
func New(path, format string) (*Log, error) {
	f, err := Compile(format)
	if err != nil {
		return nil, err
	}
	l := &Log{turn: make(chan struct{}, 1), format: f, tail: tail{path: path, limits: defaultLimits}}
	l.stats.Store(&Stats{})
	return l, nil
}

// Stats returns the counts as they stood after the last read.
func (l *Log) Stats() Stats { return *l.stats.Load() }

// Close closes the files once a read under way has ended. Sources are Missing from then on.
func (l *Log) Close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.closed = true
	l.tail.close()
	return nil
}

// take waits for its turn.
func (l *Log) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("read %s: waiting for an earlier read: %w", l.tail.path, ctx.Err())
	}
}

// advance reads on, once for each tick: signals that are read at the same tick see the same lines.
func (l *Log) advance(ctx context.Context, at time.Time) error {
	if l.closed {
		return errors.New("the access log is closed")
	}
	if !at.Equal(l.at) {
		l.at = at
		l.err = l.read(ctx)
		stats := l.tail.stats
		l.stats.Store(&stats)
	}
	return l.err
}

func (l *Log) read(ctx context.Context) error {
	now := time.Now()
	for _, s := range l.sources {
		s.begin(now)
	}
	l.good, l.bad = 0, 0
	err := l.tail.read(ctx, now, l.line)
	if l.good+l.bad > 0 {
		l.mismatched = l.good == 0
	}
	if err == nil && l.mismatched {
		err = l.mismatch()
	}
	for _, s := range l.sources {
		if err != nil || l.tail.jumped { // some requests went uncounted
			s.tally.restart()
		}
		if err == nil && !l.tail.behind {
			s.tally.mark(now)
		}
		switch {
		case l.tail.jumped:
			s.late = l.tail.overtaken()
		case s.latencies != nil && !l.known.IsZero() && now.Sub(l.known) > 2*s.window:
			// Counts are spread over such a gap; latencies cannot be.
			s.late = fmt.Errorf("%s was not read for %s: most latencies in it are older than the window", l.tail.path, fleet.Elapsed(now.Sub(l.known)))
		}
	}
	if !l.tail.behind {
		l.known = now
	}
	return err
}

// line takes in one line.
func (l *Log) line(b []byte) {
	if err := l.format.Parse(b, &l.entry); err != nil {
		l.tail.stats.Skipped++
		if l.bad++; l.bad == 1 {
			l.sample = append(l.sample[:0], b[:min(len(b), sampleBytes)]...)
			if len(b) > sampleBytes {
				l.sample = append(l.sample, "..."...)
			}
			l.why = err
		}
		return
	}
	l.good++
	for _, s := range l.sources {
		s.count(&l.entry)
	}
}

// sampleBytes is how much of a line is shown to the operator.
const sampleBytes = 160

// mismatch says that the log is not in the format, which must not look like no traffic.
func (l *Log) mismatch() error {
	return fmt.Errorf("%s is not in the log_format given (%w): expected %s, found %s; copy the log_format that nginx uses for it into format",
		l.tail.path, l.why, l.format, strconv.QuoteToASCII(string(l.sample)))
}

// Logs shares one Log among all signals that read the same file in the same format. The zero value is ready.
type Logs struct{ logs map[logKey]*Log }

type logKey struct{ path, format string }

// Source returns a source on the Log for cfg, as Log.Source.
func (l *Logs) Source(cfg Config, q float64, window time.Duration, minSamples int) (*Source, error) {
	key := logKey{cfg.Path, cfg.Format}
	log := l.logs[key]
	if log == nil {
		var err error
		if log, err = New(cfg.Path, cfg.Format); err != nil {
			return nil, err
		}
		if l.logs == nil {
			l.logs = map[logKey]*Log{}
		}
		l.logs[key] = log
	}
	return log.Source(cfg, q, window, minSamples), nil
}

// Close closes all logs.
func (l *Logs) Close() error {
	var errs []error
	for _, log := range l.logs {
		errs = append(errs, log.Close())
	}
	return errors.Join(errs...)
}
