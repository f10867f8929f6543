package schedule

import (
	"time"
)

// Window is a floor or a ceiling, or both, and when they hold.
type Window struct {
	Name     string
	From, To Date  // of the dates on which it may begin, both inclusive; zero sets no limit
	Weekly   Days  // on which it may begin; zero is any
	Daily    Daily // zero is the whole day
	Holidays HolidayRule
	Floor    int           // workers at least; 0 sets none
	Ceiling  int           // workers at most; 0 sets none
	Lead     time.Duration // the floor holds so much earlier, so that workers serve when the window begins; at most a day
	// CancelledByLoad lifts the ceiling while a scale-out rule is in alarm.
	CancelledByLoad bool
}

// HolidayRule is what a holiday is to a window.
type HolidayRule uint8

const (
	AnyDay        HolidayRule = iota // a day like any other
	NotOnHolidays                    // the window does not begin on one
	OnlyHolidays                     // it begins on no other day
)

// Problems lists what is wrong with a window by itself.
func (w Window) Problems() []*Error {
	var all []*Error
	wrong := func(when bool, field, problem, fix string) {
		if when {
			all = append(all, &Error{field, problem, fix})
		}
	}
	wrong(w.Floor == 0 && w.Ceiling == 0, "floor", "has neither a floor nor a ceiling", "write floor: N, ceiling: N or both")
	wrong(w.Floor < 0, "floor", "is below 0", "write the least number of workers in this window")
	wrong(w.Ceiling < 0, "ceiling", "is below 0", "write the largest number of workers in this window")
	wrong(w.Floor > 0 && w.Ceiling > 0 && w.Floor > w.Ceiling, "ceiling", "is below the floor", "write a ceiling that is not below the floor")
	wrong(w.Lead < 0 || w.Lead > 24*time.Hour, "lead", "is not within 0s and 24h", "write the time that new workers take to serve, such as 15m")
	wrong(w.Lead > 0 && w.Floor == 0, "lead", "has no floor to bring forward", "write floor: N, or leave lead out")
	wrong(w.CancelledByLoad && w.Ceiling == 0, "cancelled_by_load", "has no ceiling to lift", "write ceiling: N, or leave it out")
	if dated := !w.From.IsZero() && !w.To.IsZero(); dated {
		first, last := w.From.number(), w.To.number()
		wrong(last < first, "to", "is before from", "write the last date of the window, or change the two")
		never := last >= first && last-first < 7 && w.Weekly != 0
		for d := first; d <= last && never; d++ {
			never = !w.Weekly.Has(weekday(d))
		}
		wrong(never, "weekly", "names no day that lies between from and to", "leave weekly out, or write another day")
	}
	return all
}

// begins reports whether an occurrence may begin on a day.
func (w *Window) begins(number int64, holidays Holidays) bool {
	switch {
	case w.Weekly != 0 && !w.Weekly.Has(weekday(number)):
		return false
	case !w.From.IsZero() && number < w.From.number():
		return false
	case !w.To.IsZero() && number > w.To.number():
		return false
	case w.Holidays == AnyDay:
		return true
	}
	return holidays.Has(dateOf(number)) == (w.Holidays == OnlyHolidays)
}

// occurrence is one time that a window holds, in Unix seconds; end is exclusive.
type occurrence struct{ lead, start, end int64 }

// on is the occurrence that begins on a day; false if there is none.
func (w *Window) on(number int64, holidays Holidays, clock *wall) (occurrence, bool) {
	if !w.begins(number, holidays) {
		return occurrence{}, false
	}
	from, to := w.Daily.span()
	o := occurrence{start: clock.reaches(number*day + from), end: clock.reaches(number*day + to)}
	o.lead = o.start - int64(w.Lead/time.Second)
	return o, o.start < o.end
}
