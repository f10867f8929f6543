package schedule

import (
	"time"

	"tidemark/internal/fleet"
)

// Schedule is the windows of a fleet, in the zone of its instance.
type Schedule struct {
	Zone     *time.Location // nil is UTC
	Holidays Holidays
	Windows  []Window
}

// Limit is a floor or ceiling in force. The zero value is none.
type Limit struct {
	Workers int       `json:"workers"`
	By      string    `json:"by"`                // the window's name
	Until   time.Time `json:"until"`             // when that window ends
	Leading bool      `json:"leading,omitempty"` // its window has not begun: it holds by its lead
}

// Limits are what windows ask of a fleet at one instant.
type Limits struct {
	Floor   Limit // the highest
	Ceiling Limit // the lowest
	// CeilingUnderLoad is the lowest that live load does not cancel. It takes the place of Ceiling while a scale-out rule is in
	// alarm.
	CeilingUnderLoad Limit
}

// same reports whether the numbers are.
func (l Limits) same(o Limits) bool {
	return l.Floor.Workers == o.Floor.Workers && l.Ceiling.Workers == o.Ceiling.Workers &&
		l.CeilingUnderLoad.Workers == o.CeilingUnderLoad.Workers
}

// Conflict says which limit gave way to another.
type Conflict uint8

const (
	FloorCut      Conflict = 1 << iota // the floor lies above the maximum, which wins
	CeilingRaised                      // the ceiling lies below the floor or the minimum, which win
)

// Bounds narrows a fleet's bounds to the limits. underLoad says that a scale-out rule is in alarm. Of limits that contradict each
// other the maximum always wins, then the minimum and the floor, then the ceiling: it is better to pay for a worker too many
// than to have one too few, and never to have more than the machine holds.
func (l Limits) Bounds(b fleet.Bounds, underLoad bool) (fleet.Bounds, Conflict) {
	var conflict Conflict
	low, high := max(b.Min, l.Floor.Workers), b.Max
	if low > high {
		low = high
		if l.Floor.Workers > high {
			conflict |= FloorCut
		}
	}
	ceiling := l.Ceiling
	if underLoad {
		ceiling = l.CeilingUnderLoad
	}
	if ceiling.Workers > 0 && ceiling.Workers < high {
		high = ceiling.Workers
		if high < low {
			high = low
			conflict |= CeilingRaised
		}
	}
	return fleet.Bounds{Min: low, Max: high}, conflict
}

// At is what holds at t.
func (s *Schedule) At(t time.Time) Limits {
	var l Limits
	clock := wallAt(s.zone(), t)
	now := t.Unix()
	today := floorDay(now + clock.offset)
	for i := range s.Windows {
		w := &s.Windows[i]
		// Occurrences last up to a day, begin up to a day early, and clocks may be set by a day.
		for number := today - 2; number <= today+2; number++ {
			o, ok := w.on(number, s.Holidays, &clock)
			if !ok || now < o.lead || now >= o.end {
				continue
			}
			until := time.Unix(o.end, 0).UTC()
			if w.Floor > l.Floor.Workers {
				l.Floor = Limit{w.Floor, w.Name, until, now < o.start}
			}
			if w.Ceiling == 0 || now < o.start {
				continue
			}
			ceiling := Limit{w.Ceiling, w.Name, until, false}
			lower(&l.Ceiling, ceiling)
			if !w.CancelledByLoad {
				lower(&l.CeilingUnderLoad, ceiling)
			}
		}
	}
	return l
}

// Holding is At, and an instant until which it says the same: the next at which a window begins or ends, half an hour on at most.
func (s *Schedule) Holding(t time.Time) (Limits, time.Time) {
	until, _ := s.boundary(t.Unix(), t.Add(30*time.Minute))
	return s.At(t), time.Unix(until, 0).UTC()
}

func lower(into *Limit, ceiling Limit) {
	if into.Workers == 0 || ceiling.Workers < into.Workers {
		*into = ceiling
	}
}

// ahead is how far Next looks, in days.
const ahead = 366

// Next is the next instant after t at which a number changes, and what holds from then on; false when none does within a year.
func (s *Schedule) Next(t time.Time) (time.Time, Limits, bool) {
	before := s.At(t)
	end := t.Add(ahead * 24 * time.Hour)
	for {
		next, ok := s.boundary(t.Unix(), end)
		if !ok {
			return time.Time{}, Limits{}, false
		}
		t = time.Unix(next, 0).UTC()
		if l := s.At(t); !l.same(before) {
			return t, l, true
		}
	}
}

// boundary is the next instant after now, before end, at which an occurrence begins, with or without its lead, or ends.
func (s *Schedule) boundary(now int64, end time.Time) (int64, bool) {
	least := end.Unix()
	found := false
	zone := s.zone()
	clock := wallAt(zone, time.Unix(now, 0))
	today := floorDay(now + clock.offset)
	for i := range s.Windows {
		w := &s.Windows[i]
		for number := today - 2; number*day < least+2*day; number++ {
			o, ok := w.on(number, s.Holidays, &clock)
			if !ok {
				continue
			}
			for _, at := range [...]int64{o.lead, o.start, o.end} {
				if at > now && at < least {
					least, found = at, true
				}
			}
		}
	}
	return least, found
}

func (s *Schedule) zone() *time.Location {
	if s.Zone == nil {
		return time.UTC
	}
	return s.Zone
}

func floorDay(local int64) int64 {
	n := local / day
	if local%day < 0 {
		n--
	}
	return n
}
