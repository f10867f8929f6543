package load

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxSteps bounds a series: five years of minutes are 2.6 million.
const maxSteps = 20_000_000

// CSV reads a trace: a time and a count or rate in each line, with or without a header. The time is in seconds since 1970 or
// RFC 3339; lines are in order and equally far apart, but for gaps, which must be whole steps: what is missing is told, never
// taken as no load. step is the length of an interval, 0 to take it from the first two lines. The header
// says whether the second column is requests/s (rate) or counts the requests of the interval; without one it is requests/s.
func CSV(name string, r io.Reader, step time.Duration) (*Series, []string, error) {
	s := &Series{Name: name, Step: step}
	var notes []string
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 4096), 1<<16)
	var last time.Time
	perStep := false
	gaps, missing := 0, 0
	n := 0
	for lines.Scan() {
		n++
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		cells := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == '\t' })
		if len(cells) < 2 {
			return nil, nil, fmt.Errorf("%s:%d: there are not two columns: write time,rate", name, n)
		}
		at, ok := parseTime(cells[0])
		if !ok {
			if !last.IsZero() {
				return nil, nil, fmt.Errorf("%s:%d: %q is no time: write seconds since 1970, or 2027-03-01T08:00:00Z", name, n, cells[0])
			}
			perStep = !strings.Contains(strings.ToLower(cells[1]), "rate") && !strings.Contains(cells[1], "/s")
			continue // the header
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(cells[1]), 64)
		switch {
		case err != nil || math.IsNaN(v) || math.IsInf(v, 0):
			return nil, nil, fmt.Errorf("%s:%d: %q is no number", name, n, cells[1])
		case v < 0:
			return nil, nil, fmt.Errorf("%s:%d: the load is negative (%g)", name, n, v)
		}
		switch {
		case last.IsZero():
			s.Start = at
			s.Rates = append(s.Rates, v)
		case !at.After(last):
			return nil, nil, fmt.Errorf("%s:%d: the times are not in order: %s comes after %s", name, n, at.UTC().Format(time.RFC3339), last.UTC().Format(time.RFC3339))
		default:
			apart := at.Sub(last)
			if s.Step == 0 {
				s.Step = apart
			}
			if apart%s.Step != 0 {
				return nil, nil, fmt.Errorf("%s:%d: the intervals differ: %s here, %s before", name, n, apart, s.Step)
			}
			if skipped := int(apart/s.Step) - 1; skipped > 0 {
				if len(s.Rates)+skipped > maxSteps {
					return nil, nil, fmt.Errorf("%s:%d: a gap of %s", name, n, apart)
				}
				gaps++
				missing += skipped
				before := s.Rates[len(s.Rates)-1]
				for range skipped {
					s.Rates = append(s.Rates, before) // what came before goes on: nothing is known
				}
			}
			if len(s.Rates) >= maxSteps {
				return nil, nil, fmt.Errorf("%s:%d: more than %d intervals", name, n, maxSteps)
			}
			s.Rates = append(s.Rates, v)
		}
		last = at
	}
	if err := lines.Err(); err != nil {
		return nil, nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
	}
	if len(s.Rates) < 2 {
		return nil, nil, fmt.Errorf("%s holds no load: write lines of time,rate", name)
	}
	if perStep {
		for i := range s.Rates {
			s.Rates[i] /= s.Step.Seconds()
		}
	}
	if gaps > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d intervals are missing, in %d gaps: the load before each is taken to go on", missing, len(s.Rates), gaps))
	}
	return s, notes, nil
}

func parseTime(text string) (time.Time, bool) {
	text = strings.TrimSpace(text)
	const most = 9e9 // the year 2255: beyond, times overflow
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 && n < most {
		return time.Unix(n, 0).UTC(), true
	}
	if v, err := strconv.ParseFloat(text, 64); err == nil && v >= 0 && v < most {
		return time.Unix(int64(v), int64(math.Round((v-math.Floor(v))*1e6))*1000).UTC(), true // a float64 holds microseconds of now
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
