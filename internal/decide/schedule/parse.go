package schedule

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Error is a problem in what an operator wrote, and how to mend it.
type Error struct {
	Field   string // of a window; empty when a text was parsed
	Problem string
	Fix     string
}

func (e *Error) Error() string {
	s := e.Problem + "; " + e.Fix
	if e.Field != "" {
		return e.Field + ": " + s
	}
	return s
}

func wrong(fix, format string, args ...any) error {
	return &Error{Problem: fmt.Sprintf(format, args...), Fix: fix}
}

// Daily is a stretch of each day by the clock on the wall, in minutes since midnight. From is inclusive and To exclusive. It runs
// over midnight when To is before From. The zero value is the whole day.
type Daily struct{ From, To int }

var dailyForm = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)$`)

// ParseDaily reads "22:00-06:00". The whole day is "00:00-24:00".
func ParseDaily(s string) (Daily, error) {
	m := dailyForm.FindStringSubmatch(s)
	if m == nil {
		return Daily{}, wrong(`write two times of 24 hours, such as "22:00-06:00"`, "%q is no part of a day", s)
	}
	d := Daily{clock(m[1], m[2]), 24 * 60}
	if m[3] != "" {
		d.To = clock(m[3], m[4])
	}
	if d.From == d.To {
		return Daily{}, wrong(`write "00:00-24:00" for the whole day`, "%q begins when it ends", s)
	}
	return d, nil
}

func clock(hour, min string) int {
	h, _ := strconv.Atoi(hour) // the form leaves nothing to fail
	m, _ := strconv.Atoi(min)
	return h*60 + m
}

func (d Daily) String() string {
	if d == (Daily{}) {
		d.To = 24 * 60
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", d.From/60, d.From%60, d.To/60, d.To%60)
}

// span is in seconds from the beginning of the day on which it begins.
func (d Daily) span() (from, to int64) {
	from, to = int64(d.From)*minute, int64(d.To)*minute
	if to <= from {
		to += day
	}
	return from, to
}

// Days is a set of days of the week.
type Days uint8

// Has reports whether a day is in the set.
func (d Days) Has(w time.Weekday) bool { return d&(1<<w) != 0 }

var dayNames = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseDays reads days of the week: "mon-fri", "sat,sun", "fri-mon". Names may be written out, in any case.
func ParseDays(s string) (Days, error) {
	var days Days
	for part := range strings.SplitSeq(s, ",") {
		from, to, ranged := strings.Cut(part, "-")
		first, err := parseDay(from)
		if err != nil {
			return 0, err
		}
		last := first
		if ranged {
			if last, err = parseDay(to); err != nil {
				return 0, err
			}
		}
		for w := first; ; w = (w + 1) % 7 {
			if days.Has(w) {
				return 0, wrong("write each day once", "%q names %s twice", s, dayNames[w])
			}
			days |= 1 << w
			if w == last {
				break
			}
		}
	}
	return days, nil
}

func parseDay(s string) (time.Weekday, error) {
	name := strings.ToLower(strings.TrimSpace(s))
	for w, short := range dayNames {
		if name == short || name == strings.ToLower(time.Weekday(w).String()) {
			return time.Weekday(w), nil
		}
	}
	return 0, wrong(`write days such as "mon-fri" or "sat,sun"`, "%q is no day of the week", strings.TrimSpace(s))
}

// String writes the set from Monday on, with ranges of three days or more: "mon-fri,sun".
func (d Days) String() string {
	var parts []string
	for i := 1; i <= 7; i++ {
		if !d.Has(time.Weekday(i % 7)) {
			continue
		}
		first := i
		for i < 7 && d.Has(time.Weekday((i+1)%7)) {
			i++
		}
		switch name := dayNames[first%7]; i {
		case first:
			parts = append(parts, name)
		case first + 1:
			parts = append(parts, name, dayNames[i%7])
		default:
			parts = append(parts, name+"-"+dayNames[i%7])
		}
	}
	return strings.Join(parts, ",")
}

// ParseDate reads "2027-03-01".
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, wrong("write year, month and day, such as 2027-03-01", "%q is no date", s)
	}
	y, m, d := t.Date()
	return Date{y, m, d}, nil
}

// Holidays is a set of dates.
type Holidays struct {
	ranges []dateRange
	yearly []monthDay // sorted
}

type dateRange struct{ first, last int64 }

type monthDay int // month x 100 + day

// ParseHolidays reads a list of holidays: a date "2027-03-26", several "2027-12-24..2028-01-02", or a day of every year "12-25".
func ParseHolidays(list []string) (Holidays, error) {
	var h Holidays
	for _, s := range list {
		if t, err := time.Parse("2006-01-02", "2000-"+s); err == nil { // a leap year, for 02-29
			h.yearly = append(h.yearly, monthDay(int(t.Month())*100+t.Day()))
			continue
		}
		from, to, ranged := strings.Cut(s, "..")
		first, err := ParseDate(from)
		if err != nil {
			return Holidays{}, wrong("write 2027-03-26, 2027-12-24..2028-01-02, or 12-25 for every year", "%q is no holiday", s)
		}
		last := first
		if ranged {
			if last, err = ParseDate(to); err != nil {
				return Holidays{}, err
			}
		}
		r := dateRange{first.number(), last.number()}
		if r.last < r.first || r.last-r.first > ahead {
			return Holidays{}, wrong("write the earlier date first, and the dates of at most a year", "%q is no range of dates", s)
		}
		h.ranges = append(h.ranges, r)
	}
	slices.Sort(h.yearly)
	return h, nil
}

// Has reports whether a date is a holiday.
func (h Holidays) Has(d Date) bool {
	if _, ok := slices.BinarySearch(h.yearly, monthDay(int(d.Month)*100+d.Day)); ok {
		return true
	}
	number := d.number()
	return slices.ContainsFunc(h.ranges, func(r dateRange) bool { return r.first <= number && number <= r.last })
}
