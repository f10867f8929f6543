package month

import (
	"maps"
	"slices"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Money is what worker-hours cost. What was not seen is not in Spent: Unseen is what it would come to at the month's mean size.
type Money struct {
	Currency    string         `json:"currency"`
	WorkerHour  float64        `json:"worker_hour,omitempty"` // 0: of several fleets
	WorkerHours float64        `json:"worker_hours"`          // of the known time
	Spent       float64        `json:"spent"`                 // likewise
	Unknown     fleet.Duration `json:"unknown"`
	Unseen      *float64       `json:"unseen"`    // nil: less than a day is known
	Budget      float64        `json:"budget"`    // of the month
	Projected   *float64       `json:"projected"` // the whole month, Unseen included; nil: less than a day is known
	Next        *float64       `json:"next_month"`
	Verdict     Verdict        `json:"verdict"`
}

// TagCost is what carries a tag.
type TagCost struct {
	Tag         string   `json:"tag"`
	Value       string   `json:"value"`
	Fleets      []string `json:"fleets"`
	WorkerHours float64  `json:"worker_hours"`
	Cost        *float64 `json:"cost"`
	Currency    string   `json:"currency,omitempty"`
}

const (
	// meanOver is what a projection rests on: working days and the weekend, as decide/alert's.
	meanOver = 7 * 24 * time.Hour
	// enough must be known of it: each hour of the day once.
	enough = 24 * time.Hour
)

// hours are the worker-hours of a span, and how much of it is known.
func (g *grid) hours(size []cell, looked []float64, from, to time.Time) (workerHours float64, known time.Duration) {
	for i := max(g.index(from), 0); i < g.n && g.at(i).Before(to); i++ {
		if size[i].n > 0 {
			d := time.Duration(looked[i] * float64(g.weight(i, from, to)))
			workerHours += size[i].mean * d.Hours()
			known += d
		}
	}
	return workerHours, known
}

// money reckons a fleet's month; nil without a price.
func (g *grid) money(b config.Budget, size []cell, looked []float64, to time.Time) *Money {
	if b.WorkerHour <= 0 {
		return nil
	}
	m := &Money{Currency: b.Currency, WorkerHour: b.WorkerHour, Budget: b.Monthly, Verdict: Unknown}
	var known time.Duration
	m.WorkerHours, known = g.hours(size, looked, g.from, g.until)
	m.Spent = m.WorkerHours * b.WorkerHour
	unknown := g.until.Sub(g.from) - known
	m.Unknown = fleet.Duration(unknown)
	if known == 0 {
		return m
	}
	if known >= enough {
		m.Unseen = number(m.WorkerHours / known.Hours() * unknown.Hours() * b.WorkerHour)
	}
	lately, of := g.hours(size, looked, g.until.Add(-meanOver), g.until)
	if of >= enough {
		mean := lately / of.Hours()
		m.Projected = number(m.Spent + *m.Unseen + mean*to.Sub(g.until).Hours()*b.WorkerHour)
		m.Next = number(mean * to.AddDate(0, 1, 0).Sub(to).Hours() * b.WorkerHour)
	}
	switch {
	case m.Budget > 0 && m.Spent > m.Budget:
		m.Verdict = Missed
	case m.Budget > 0 && m.Projected != nil:
		m.Verdict = judge(*m.Projected <= m.Budget)
	}
	return m
}

// sumMoney adds the fleets up, over all and by tag, where they are in one currency.
func (r *Report) sumMoney() {
	total := &Money{Verdict: Met}
	for i := range r.Fleets {
		m := r.Fleets[i].Money
		switch {
		case m == nil || total == nil:
			continue
		case total.Currency != "" && m.Currency != total.Currency:
			total = nil
			continue
		case total.Currency == "":
			*total = *m
			if len(r.Fleets) > 1 {
				total.WorkerHour = 0
			}
			continue
		}
		total.WorkerHours, total.Spent, total.Budget = total.WorkerHours+m.WorkerHours, total.Spent+m.Spent, total.Budget+m.Budget
		total.Unknown = max(total.Unknown, m.Unknown)
		total.Unseen, total.Projected, total.Next = both(total.Unseen, m.Unseen), both(total.Projected, m.Projected), both(total.Next, m.Next)
		if m.Verdict != Met && total.Verdict != Missed {
			total.Verdict = m.Verdict // one fleet's budget is not another's
		}
	}
	if total != nil && total.Currency != "" {
		r.Money = total
	}
	tags := map[[2]string]*TagCost{}
	for i := range r.Fleets {
		f := &r.Fleets[i]
		for _, key := range slices.Sorted(maps.Keys(f.Tags)) {
			at := [2]string{key, f.Tags[key]}
			t := tags[at]
			if t == nil {
				t = &TagCost{Tag: key, Value: f.Tags[key], Cost: number(0)}
				tags[at] = t
			}
			t.Fleets = append(t.Fleets, f.Name)
			for _, d := range f.Days {
				t.WorkerHours += d.WorkerHours
			}
			switch m := f.Money; {
			case m == nil || t.Currency != "" && t.Currency != m.Currency:
				t.Cost = nil // a part of it has no price, or another's money
			case t.Cost != nil:
				*t.Cost += m.Spent
				t.Currency = m.Currency
			}
		}
	}
	for _, t := range tags {
		r.Tags = append(r.Tags, *t)
	}
	slices.SortFunc(r.Tags, func(a, b TagCost) int { return slices.Compare([]string{a.Tag, a.Value}, []string{b.Tag, b.Value}) })
}

// both is a sum that is known when both are.
func both(a, b *float64) *float64 {
	if a == nil || b == nil {
		return nil
	}
	return number(*a + *b)
}
