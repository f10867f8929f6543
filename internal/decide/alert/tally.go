package alert

import (
	"math"
	"time"

	"tidemark/internal/fleet"
)

// Tally counts one fleet's month, by local time: for how long it was served, and how long its workers worked. Plain data, to be
// stored as JSON.
//
// Served is counted in time, not in requests: while nothing is up nobody is counted, and a month of nights must not hide a
// morning. A minute counts as served by the share of its requests that did not fail; without requests, when a worker serves. The
// machine off counts as not served. Time in which nobody looked (the daemon stopped, the signal gone) counts neither way.
type Tally struct {
	Month  string    `json:"month"` // 2027-03
	Last   time.Time `json:"last"`
	Boot   string    `json:"boot"`
	Served float64   `json:"served_minutes"`
	Down   float64   `json:"down_minutes"`
	Unseen float64   `json:"unseen_minutes"`
	Hours  float64   `json:"worker_hours"`
	// Workers and Weight are the mean size of the last days, and the hours that it rests on: they go on over the month's end.
	Workers float64 `json:"mean_workers"`
	Weight  float64 `json:"mean_hours"`
	Size    int     `json:"size"`
}

// Look is what a Tally is given at each tick.
type Look struct {
	Now    time.Time
	Zone   *time.Location // of the month; nil is UTC
	Jump   time.Duration  // how far the wall clock moved by itself since the last look
	Boot   string         // the machine's run: another one than before means that it was off
	Tick   time.Duration
	Size   fleet.Size
	Errors *fleet.Reading // percent of the requests that failed; nil: it is not measured
}

const (
	monthForm = "2006-01"
	// meanOver is how long a size counts for the mean: working days and the weekend.
	meanOver = 7 * 24.0 // hours
	// enough hours of the mean before the month is projected by it: each hour of the day once.
	enough = 24.0
)

// Add counts the time since the last look.
func (t *Tally) Add(l Look) {
	zone := l.Zone
	if zone == nil {
		zone = time.UTC
	}
	later(&t.Last, l.Jump)
	passed := max(0, l.Now.Sub(t.Last))
	if t.Last.IsZero() {
		passed = 0
	}
	local := l.Now.In(zone)
	if month := local.Format(monthForm); month != t.Month {
		t.Month, t.Served, t.Down, t.Unseen, t.Hours = month, 0, 0, 0, 0
		passed = min(passed, l.Now.Sub(begin(local)))
	}
	minutes := passed.Minutes()
	off := t.Boot != "" && t.Boot != l.Boot
	share, known := served(&l)
	switch {
	case off:
		t.Down += minutes
	case !known || passed > max(3*l.Tick, 2*time.Minute):
		t.Unseen += minutes
	default:
		t.Served += minutes * share
		t.Down += minutes * (1 - share)
	}
	if !off { // workers go on while nobody looks
		hours := passed.Hours()
		t.Hours += float64(t.Size) * hours
		t.mean(hours)
	}
	t.Last, t.Boot = l.Now, l.Boot
	if l.Size.Known {
		t.Size = l.Size.Workers()
	}
}

// mean moves the mean size on by hours with the present size; before it has its weight all hours count the same.
func (t *Tally) mean(hours float64) {
	if hours <= 0 {
		return
	}
	t.Weight += hours
	t.Workers += (float64(t.Size) - t.Workers) * min(1, hours/t.Weight)
	t.Weight = min(t.Weight, meanOver)
}

// served is the share of the moment that was served, if it can be told.
func served(l *Look) (share float64, known bool) {
	switch {
	case l.Size.Known && l.Size.Serving == 0:
		return 0, true
	case l.Errors == nil || l.Errors.Quality == fleet.Sparse:
		return 1, l.Size.Known
	case l.Errors.Quality != fleet.Fresh:
		return 0, false
	}
	return 1 - math.Min(math.Max(l.Errors.Value, 0), 100)/100, true
}

// Availability is the month so far.
func (t *Tally) Availability() *Month {
	return &Month{Good: t.Served, Total: t.Served + t.Down, Unit: "minutes"}
}

// Cost is the month's money at a price for a worker's hour. Before a day was seen nothing is projected: what was spent stands for
// it.
func (t *Tally) Cost(workerHour, limit float64, currency string, zone *time.Location) *Budget {
	b := &Budget{Spent: t.Hours * workerHour, Limit: limit, Currency: currency}
	b.Projected = b.Spent
	if t.Weight >= enough {
		local := t.Last.In(zone)
		rest := begin(local).AddDate(0, 1, 0).Sub(t.Last)
		b.Projected += t.Workers * max(0, rest.Hours()) * workerHour
	}
	return b
}

// begin is the local beginning of t's month.
func begin(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, t.Location()) }
