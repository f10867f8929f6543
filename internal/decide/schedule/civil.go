package schedule

import (
	"fmt"
	"math"
	"time"
)

const (
	minute = 60
	day    = 24 * 60 * minute
)

// Date is a day of the calendar, somewhere. The zero value is none.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, int(d.Month), d.Day) }

// IsZero reports whether there is no date.
func (d Date) IsZero() bool { return d == Date{} }

// number counts days since 1970-01-01, a Thursday.
func (d Date) number() int64 {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Unix() / day
}

func dateOf(number int64) Date {
	y, m, d := time.Unix(number*day, 0).UTC().Date()
	return Date{y, m, d}
}

func weekday(number int64) time.Weekday { return time.Weekday(((number+4)%7 + 7) % 7) }

// wall is the clock on the wall of a zone. Its times are local: seconds since 1970-01-01 00:00 by that clock.
type wall struct {
	zone *time.Location
	stretch
}

// stretch is a time, in Unix seconds, during which the clock is not changed.
type stretch struct{ from, to, offset int64 }

// apart is more than any two offsets of a zone differ, and than any differs from UTC: date lines were moved by 24 hours.
const apart = 26 * 60 * minute

func wallAt(zone *time.Location, t time.Time) wall {
	return wall{zone, stretchAt(zone, t.Unix())}
}

func stretchAt(zone *time.Location, unix int64) stretch {
	t := time.Unix(unix, 0).In(zone)
	_, offset := t.Zone()
	s := stretch{math.MinInt64 / 2, math.MaxInt64 / 2, int64(offset)}
	from, to := t.ZoneBounds()
	if !from.IsZero() {
		s.from = from.Unix()
	}
	if !to.IsZero() {
		s.to = to.Unix()
	}
	return s
}

// reaches is the first instant, in Unix seconds, at which the clock shows local or more.
func (w *wall) reaches(local int64) int64 {
	if at := local - w.offset; at >= w.from+apart && at < w.to {
		return at
	}
	// Stretch by stretch, from where the clock cannot have been there yet.
	for s := stretchAt(w.zone, local-apart); ; s = stretchAt(w.zone, s.to) {
		if at := max(local-s.offset, s.from, local-apart); at < s.to {
			return at
		}
	}
}
