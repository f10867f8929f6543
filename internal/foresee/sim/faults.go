package sim

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// Fault is something that goes wrong, by chance of the seed, in a stretch of the run.
type Fault struct {
	Kind  FaultKind
	Value float64       // what Kind says
	From  time.Duration // since the start
	For   time.Duration // 0: to the end
}

// FaultKind is what can go wrong.
type FaultKind uint8

// The kinds, and what Value is.
const (
	SlowStarts     FaultKind = iota // share of workers that take four times as long to boot
	FailingActions                  // share of actions that do nothing
	LostSignals                     // share of readings that are missing
	LateSignals                     // nanoseconds by which readings are late; stale when that is more than a signal's window and a tick
	Deaths                          // workers that die, an hour; the target starts another at once
	SlowDatabase                    // factor by which a service takes longer: of its share in the database, where that is simulated
	ClockJump                       // nanoseconds that the wall clock is off from then on
)

// slowStart is by how much longer a worker takes to boot that starts slowly.
const slowStart = 4

var faultNames = []string{"slow-starts", "failing-actions", "lost-signals", "late-signals", "deaths", "slow-database", "clock"}

func (k FaultKind) String() string { return faultNames[k] }

// FaultNames lists the kinds, as ParseFault reads them.
func FaultNames() []string { return slices.Clone(faultNames) }

// Faults are what goes wrong. None is a good day.
type Faults []Fault

// ParseFault reads KIND=VALUE[,at=TIME][,for=TIME], such as "lost-signals=0.3,at=9h,for=20m" or "clock=-2h,at=10h". Shares are 0 to
// 1, deaths are a number an hour, slow-database is a factor, late-signals and clock are durations.
func ParseFault(s string) (Fault, error) {
	parts := strings.Split(s, ",")
	name, value, ok := strings.Cut(parts[0], "=")
	kind := slices.Index(faultNames, name)
	if kind < 0 || !ok {
		return Fault{}, fmt.Errorf("fault %q: write KIND=VALUE, with one of %s", s, strings.Join(faultNames, ", "))
	}
	f := Fault{Kind: FaultKind(kind)}
	var err error
	switch f.Kind {
	case LateSignals, ClockJump:
		var d time.Duration
		d, err = time.ParseDuration(value)
		f.Value = float64(d)
		if err != nil || f.Kind == LateSignals && (d <= 0 || d > 24*time.Hour) || d == 0 {
			return Fault{}, fmt.Errorf("fault %q: %q is no time that it can take; write a duration such as %s=90s", s, value, name)
		}
	default:
		f.Value, err = strconv.ParseFloat(value, 64)
		most := map[FaultKind]float64{Deaths: 1e4, SlowDatabase: 1e3}[f.Kind]
		if most == 0 {
			most = 1
		}
		if err != nil || !(f.Value > 0 && f.Value <= most) {
			return Fault{}, fmt.Errorf("fault %q: %q must be a number above 0, and at most %g", s, value, most)
		}
	}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		into := map[string]*time.Duration{"at": &f.From, "for": &f.For}[key]
		if into == nil {
			return Fault{}, fmt.Errorf("fault %q: %q is not known; write at=TIME or for=TIME, such as %s,at=9h,for=20m", s, part, parts[0])
		}
		if *into, err = time.ParseDuration(value); err != nil || *into < 0 {
			return Fault{}, fmt.Errorf("fault %q: %q is no duration; write one such as 90m", s, part)
		}
	}
	return f, nil
}

// holds reports whether a fault is on at a time, in seconds since the start.
func (f *Fault) holds(now float64) bool {
	from := f.From.Seconds()
	return now >= from && (f.For == 0 || now < from+f.For.Seconds())
}

// sum adds up the values of a kind at a time.
func (all Faults) sum(kind FaultKind, now float64) float64 {
	sum := 0.0
	for i := range all {
		if f := &all[i]; f.Kind == kind && f.holds(now) {
			sum += f.Value
		}
	}
	return sum
}

// happens draws whether something happens that a share says.
func (all Faults) happens(kind FaultKind, now float64, chance *Random) bool {
	share := all.sum(kind, now)
	return share > 0 && chance.Float() < share
}

// slowed is by how much longer services take.
func (all Faults) slowed(now float64) float64 {
	factor := 1.0
	for i := range all {
		if f := &all[i]; f.Kind == SlowDatabase && f.holds(now) {
			factor *= f.Value
		}
	}
	return factor
}

// latest is the longest that a reading is late, at any time.
func (all Faults) latest() time.Duration {
	late := 0.0
	for _, f := range all {
		if f.Kind == LateSignals {
			late += f.Value
		}
	}
	return time.Duration(min(late, float64(48*time.Hour)))
}

// spoil loses readings, and brings others late.
func (r *run) spoil(now time.Time) {
	late := time.Duration(r.Faults.sum(LateSignals, r.now))
	for i := range r.input.Readings {
		reading := &r.input.Readings[i]
		if r.last != nil {
			ring, tick := r.last[i], int(math.Round(r.now/r.Tick.Seconds()))
			ring[tick%len(ring)] = *reading
			if behind := int((late + r.Tick - 1) / r.Tick); behind > 0 {
				*reading = fleet.Reading{Time: now}
				if tick > behind {
					*reading = ring[(tick-behind)%len(ring)]
				}
				if late > r.Policy.Signals[i].Window+r.Tick {
					reading.Quality = min(reading.Quality, fleet.Stale)
				}
			}
		}
		if r.Faults.happens(LostSignals, r.now, r.chance) {
			*reading = fleet.Reading{Time: now}
		}
	}
}

// die takes workers by chance; the target starts another in its place.
func (r *run) die() {
	if len(r.Faults) > 0 && r.chance.Float() < r.Faults.sum(Deaths, r.now)*r.Tick.Hours() {
		r.fleet.remove()
		r.boot()
	}
}
