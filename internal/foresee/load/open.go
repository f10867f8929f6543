package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"tidemark/internal/lines"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/record"
)

// Options say how a file is read.
type Options struct {
	Step      time.Duration // of a CSV trace; 0: from its first two lines
	LogFormat string        // of an access log; empty: tidemark or combined, whichever the first line is in
	Progress  func(lines uint64)
}

// Open reads a file that holds a load: a CSV trace, or an access log, plain or gzip. A trace has no service times.
func Open(path string, o Options) (*Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	name := filepath.Base(path)
	format, err := o.format(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if format != "" {
		return ReadLog(name, f, LogOptions{Format: format, Progress: o.Progress})
	}
	s, notes, err := CSV(name, f, o.Step)
	if err != nil {
		return nil, err
	}
	return &Log{Series: *s, Notes: notes}, nil
}

// format is the log_format of a file; empty when it is no access log.
func (o Options) format(f io.ReadSeeker) (string, error) {
	if o.LogFormat != "" {
		return o.LogFormat, nil
	}
	text, packed, err := lines.Plain(f)
	if err != nil {
		return "", err
	}
	first, _ := bufio.NewReaderSize(text, 64<<10).ReadSlice('\n') // what cannot be read now cannot be read later, and is told then
	first = bytes.TrimRight(first, "\r\n")
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	for _, format := range []string{"tidemark", "combined"} {
		compiled, err := accesslog.Compile(format)
		if err != nil {
			return "", err
		}
		if compiled.Parse(first, new(accesslog.Entry)) == nil {
			return format, nil
		}
	}
	if packed || bytes.Count(first, []byte(" ")) > 6 {
		return "", fmt.Errorf("an access log whose first line is neither in the format tidemark nor in combined: give --log-format '...' as in nginx's configuration; the line is %.160q", first)
	}
	return "", nil
}

// History makes a load of what the journal has of a signal that reads requests/s. Points are as the journal answers: each stands until the
// next. Where nothing was measured, what came before goes on.
func History(name string, points []record.Point) (*Series, []string, error) {
	first := 0
	for first < len(points) && points[first].N == 0 {
		first++
	}
	points = points[first:]
	if len(points) < 2 {
		return nil, nil, fmt.Errorf("the journal has no history of %s", name)
	}
	step := points[1].Time.Sub(points[0].Time)
	for i := 2; i < len(points); i++ {
		step = min(step, points[i].Time.Sub(points[i-1].Time))
	}
	step = max(step, time.Second)
	n := int(points[len(points)-1].Time.Sub(points[0].Time)/step) + 1
	if n > maxSteps {
		return nil, nil, fmt.Errorf("the history of %s has %d steps of %s: ask for less", name, n, step)
	}
	s := &Series{Name: name, Start: points[0].Time, Step: step, Rates: make([]float64, n)}
	filled, at := 0, 0
	var notes []string
	for i := range s.Rates {
		t := s.Start.Add(time.Duration(i) * step)
		for at+1 < len(points) && !points[at+1].Time.After(t) {
			at++
		}
		p := points[at]
		if p.N == 0 || p.Mean < 0 || t.Sub(p.Time) > 2*step {
			filled++
			s.Rates[i] = s.Rates[max(i-1, 0)]
			continue
		}
		s.Rates[i] = p.Mean
	}
	if filled > 0 {
		notes = append(notes, fmt.Sprintf("%s was not measured in %d of %d steps of %s: the load before is taken to go on", name, filled, n, step))
	}
	return s, notes, nil
}
