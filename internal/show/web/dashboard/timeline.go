package dashboard

import (
	"context"
	"fmt"
	"html/template"
	"math"
	"slices"
	"sync"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/show/chart"
	"tidemark/internal/show/text"
)

// zoom is how much of the past a timeline shows.
type zoom struct {
	Name string
	span time.Duration
}

const day = 24 * time.Hour

var zooms = []zoom{{"5m", 5 * time.Minute}, {"1h", time.Hour}, {"6h", 6 * time.Hour}, {"1d", day}, {"1w", 7 * day}, {"30d", 30 * day}, {"90d", 90 * day}, {"1y", 365 * day}}

// leastTicks is how many ticks a zoom is to hold: fewer are not worth a look.
const leastTicks = 200

// zoomsOf are those that are worth a look at a fleet that ticks so often.
func zoomsOf(tick time.Duration) []zoom {
	i := slices.IndexFunc(zooms, func(z zoom) bool { return z.span >= leastTicks*tick })
	return zooms[max(i, 0):]
}

// find is the zoom of a name; without one that is known, the first.
func find(all []zoom, name string) zoom {
	return all[max(slices.IndexFunc(all, func(z zoom) bool { return z.Name == name }), 0)]
}

// Bounds of what is drawn.
const (
	mostPoints = 400 // of a line: 365 days of a year, 336 half hours of a week, 360 minutes of six hours
	mostMarks  = 120
	atOnce     = 3 // series that are read at the same time
)

// timeline is the past of a fleet, drawn.
type timeline struct {
	From, To time.Time
	Charts   []template.HTML
	KPI      kpi
}

// kpi sums up what a timeline shows.
type kpi struct {
	Ups, Downs, Failed int
	Longest, Median    time.Duration // time to scale; 0: none
	WorkerHours        float64
	Known              bool // the size was recorded
	Cost               float64
	Currency           string // empty: no price is known
}

// charts keeps what was drawn: whoever looks at the same within the same moment gets the same.
type charts struct {
	mu   sync.Mutex
	kept map[string]*drawn
}

type drawn struct {
	once sync.Once
	at   time.Time
	of   *timeline
	err  error
}

// timeline draws a fleet's past up to a moment; the zero time is now. The present moves in steps that can be seen.
// Its charts tell what is pointed at by the page's script, or by titles, which are as heavy as all the rest.
func (s *Site) timeline(ctx context.Context, p *page, st *control.Status, z zoom, until time.Time, titles bool) (*timeline, error) {
	end := until
	if end.IsZero() {
		end = st.Time
		if end.IsZero() {
			end = p.Now
		}
		if step := z.span / (2 * mostPoints); step > time.Duration(st.Tick) {
			end = end.Truncate(step).Add(step)
		}
	}
	key := fmt.Sprint(st.Fleet, " ", z.Name, " ", end.UnixNano(), " ", p.Overview.Since.UnixNano(), titles)
	s.charts.mu.Lock()
	d := s.charts.kept[key]
	if d == nil {
		for k, old := range s.charts.kept {
			if len(s.charts.kept) > 64 || p.Now.Sub(old.at) > 10*time.Minute {
				delete(s.charts.kept, k)
			}
		}
		d = &drawn{at: p.Now}
		s.charts.kept[key] = d
	}
	s.charts.mu.Unlock()
	d.once.Do(func() { d.of, d.err = s.draw(context.WithoutCancel(ctx), p, st, end.Add(-z.span), end, !titles) })
	if d.err != nil {
		s.charts.mu.Lock()
		delete(s.charts.kept, key)
		s.charts.mu.Unlock()
	}
	return d.of, d.err
}

// draw reads a span of a fleet's past and draws it.
func (s *Site) draw(ctx context.Context, p *page, st *control.Status, from, to time.Time, told bool) (*timeline, error) {
	names := []string{record.SizeSignal}
	var policies []string
	for _, o := range st.Objectives {
		policies = append(policies, o.Policy)
	}
	for _, f := range st.Forecasts {
		policies = append(policies, f.Policy)
	}
	policies = policies[:min(len(policies), 5)] // there are six colours
	for _, id := range policies {
		names = append(names, record.PolicySignal(id))
	}
	for i := range st.Signals {
		names = append(names, st.Signals[i].Name)
	}
	all, err := s.series(ctx, st.Fleet, names, from, to)
	if err != nil {
		return nil, err
	}
	expected, err := s.forecasts(ctx, st, from, to)
	if err != nil {
		return nil, err
	}
	events, err := s.b.Events(ctx, record.EventQuery{Fleet: st.Fleet, Since: from, Until: to.Add(time.Second), Limit: 2000, Kinds: []fleet.Kind{
		fleet.EventDecision, fleet.EventActionDone, fleet.EventActionFailed, fleet.EventSizeChanged, fleet.EventOrder, fleet.EventNote, fleet.EventAlertRaised}})
	if err != nil {
		return nil, err
	}
	shadows, err := s.shadows(ctx, st, from, to)
	if err != nil {
		return nil, err
	}
	out := &timeline{From: from, To: to}
	x := chart.Axis{Scale: chart.Time, Zone: p.Zone, Min: chart.At(from), Max: chart.At(reach(to, expected))}
	size := chart.Chart{Title: "Workers", About: "The size of the fleet over time, and what changed it.", X: x, Y: chart.Axis{Max: float64(st.Bounds.Max + 1)}, Height: 120, Told: told,
		Thresholds: []chart.Threshold{{Name: fmt.Sprintf("max %d", st.Bounds.Max), Value: float64(st.Bounds.Max)}, {Name: fmt.Sprintf("min %d", st.Bounds.Min), Value: float64(st.Bounds.Min)}}}
	size.Series = append(size.Series, line("workers", chart.Step, all[0]))
	for i, id := range policies {
		if len(all[1+i]) > 0 {
			size.Series = append(size.Series, line(id+" alone", chart.Step, all[1+i]))
		}
	}
	size.Marks = append(marks(events), shadows...)
	out.Charts = append(out.Charts, size.HTML())
	for i := range st.Signals {
		out.Charts = append(out.Charts, signalChart(st, &st.Signals[i], all[1+len(policies)+i], expected[st.Signals[i].Name], x, told))
	}
	out.KPI = sumUp(events, all[0])
	s.price(st.Fleet, &out.KPI)
	return out, nil
}

// series reads several series, a few at a time.
func (s *Site) series(ctx context.Context, of string, names []string, from, to time.Time) ([][]record.Point, error) {
	out, errs := make([][]record.Point, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(atOnce, len(names)) {
		wg.Go(func() {
			for i := range next {
				out[i], errs[i] = s.b.Series(ctx, record.SeriesQuery{Fleet: of, Signal: names[i], Since: from, Until: to.Add(time.Nanosecond), MaxPoints: mostPoints})
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err // one says enough
		}
	}
	return out, nil
}

func line(name string, kind chart.Kind, points []record.Point) chart.Series {
	s := chart.Series{Name: name, Kind: kind, Gap: 3 * record.StepOf(points).Seconds()}
	for _, p := range points {
		s.Points = append(s.Points, chart.Point{X: chart.At(p.Time), Y: p.Mean}) // NaN where nothing was measured
	}
	return s
}

// expectation is what a policy forecast, each point at the time that it is of.
type expectation struct {
	policy string
	lead   time.Duration
	median []record.Point
	band   []chart.Range
}

// forecasts reads what each policy with a forecast expected of a span, by the signal that it is of. It reaches a lead time beyond the
// present.
func (s *Site) forecasts(ctx context.Context, st *control.Status, from, to time.Time) (map[string]expectation, error) {
	out := map[string]expectation{}
	for i := range st.Forecasts {
		f := &st.Forecasts[i]
		if _, there := out[f.Signal]; there || f.Mode == fleet.Off {
			continue // one band is enough to look at
		}
		lead := time.Duration(f.Lead)
		names := []string{record.ForecastSignal(f.Policy, "low"), record.ForecastSignal(f.Policy, "median"), record.ForecastSignal(f.Policy, "high")}
		all, err := s.series(ctx, st.Fleet, names, from.Add(-lead), to)
		if err != nil {
			return nil, err
		}
		low, e := all[0], expectation{policy: f.Policy, lead: lead, median: all[1]}
		for j := range e.median {
			e.median[j].Time = e.median[j].Time.Add(lead)
			if e.median[j].Time.After(to.Add(min(lead, to.Sub(from)/4))) {
				e.median = e.median[:j] // what is to come takes a fifth of the chart at most
				break
			}
			if j < len(low) && j < len(all[2]) { // they are recorded together
				e.band = append(e.band, chart.Range{X: chart.At(e.median[j].Time), Low: low[j].Mean, High: all[2][j].Mean})
			}
		}
		if len(e.median) > 0 {
			out[f.Signal] = e
		}
	}
	return out, nil
}

// reach is how far a timeline goes: to the end of what is forecast.
func reach(to time.Time, expected map[string]expectation) time.Time {
	for _, e := range expected {
		if last := e.median[len(e.median)-1].Time; last.After(to) {
			to = last
		}
	}
	return to
}

// shadows mark what policies in shadow would have done.
func (s *Site) shadows(ctx context.Context, st *control.Status, from, to time.Time) (out []chart.Mark, err error) {
	shadowed := false
	for i := range st.Rules {
		shadowed = shadowed || st.Rules[i].Mode == fleet.Shadow
	}
	if !shadowed {
		return nil, nil
	}
	decisions, err := s.b.Decisions(ctx, st.Fleet, from, to, 5*mostMarks)
	for i := range decisions {
		d := &decisions[i]
		if len(out) == mostMarks {
			break // newest first
		}
		if words := would(d); words != "" {
			out = append(out, chart.Mark{X: chart.At(d.Time), Text: words, Faint: true})
		}
	}
	return out, err
}

// would is what a decision says of a policy in shadow; empty: nothing. That of a fleet in shadow is an event, and is marked as such.
func would(d *fleet.Decision) string {
	for _, r := range d.Reasons {
		if r.Code == fleet.RuleShadow {
			return r.Sentence(d.Time)
		}
	}
	return ""
}

// signalChart draws one signal with the thresholds of its rules, where points stand for many readings their range, and what was expected.
func signalChart(st *control.Status, sig *control.SignalStatus, points []record.Point, expected expectation, x chart.Axis, told bool) template.HTML {
	c := chart.Chart{Title: sig.Name, About: fmt.Sprintf("The signal %s over time, with the thresholds of its rules.", sig.Name), X: x, Y: chart.Axis{Unit: sig.Unit}, Height: 90, Told: told,
		Series: []chart.Series{line(sig.Name, chart.Line, points)}}
	var reach []chart.Range
	for _, p := range points {
		if p.N > 1 {
			reach = append(reach, chart.Range{X: chart.At(p.Time), Low: p.Min, High: p.Max})
		}
	}
	if len(reach) > 1 {
		c.Bands = []chart.Band{{Name: "lowest to highest", Points: reach}}
	}
	if expected.policy != "" {
		c.About += fmt.Sprintf(" With it what %s had forecast, %s ahead.", expected.policy, fleet.Elapsed(expected.lead))
		c.Series = append(c.Series, line("forecast "+fleet.Elapsed(expected.lead)+" ahead", chart.Line, expected.median))
		c.Bands = []chart.Band{{Name: "as it was forecast to lie", Points: expected.band}}
	}
	for i := range st.Rules {
		if r := &st.Rules[i]; r.Signal == sig.Name {
			t := chart.Threshold{Name: fmt.Sprintf("%s %s: %+d", r.Operator, r.Unit.Format(r.Threshold), r.Change), Value: r.Threshold}
			if !slices.Contains(c.Thresholds, t) {
				c.Thresholds = append(c.Thresholds, t)
			}
		}
	}
	for _, o := range st.Objectives {
		if o.Signal == sig.Name {
			c.Thresholds = append(c.Thresholds, chart.Threshold{Name: "objective " + fleet.Seconds.Format(o.Within), Value: o.Within})
		}
	}
	return c.HTML()
}

// marks are what changed the size, the latest where there are many.
func marks(events []fleet.Event) (out []chart.Mark) {
	for i := range events {
		e := &events[i]
		if e.Kind == fleet.EventActionDone || len(out) == mostMarks {
			continue // its decision is marked
		}
		m := chart.Mark{X: chart.At(e.Time), Text: text.Event(e), Bad: text.Trouble(e)}
		if d := e.Decision; e.Kind == fleet.EventDecision && d != nil {
			m.Text, m.Faint = text.Scaling(d), d.Shadow
			if d.Shadow {
				m.Text = "in shadow: " + m.Text
			}
		}
		out = append(out, m)
	}
	return out
}

func sumUp(events []fleet.Event, size []record.Point) (k kpi) {
	var took []time.Duration
	for i := range events {
		e := &events[i]
		switch {
		case e.Kind == fleet.EventActionFailed:
			k.Failed++
		case e.Kind != fleet.EventActionDone:
		case e.To < e.From:
			k.Downs++
		default:
			k.Ups++
			if e.Parts != nil {
				took = append(took, time.Duration(e.Duration))
			}
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		k.Longest, k.Median = took[len(took)-1], took[len(took)/2]
	}
	each := record.StepOf(size).Hours()
	for _, p := range size {
		if !math.IsNaN(p.Mean) {
			k.WorkerHours += p.Mean * each
			k.Known = true
		}
	}
	return k
}

// price says what the workers cost, where the configuration has a price.
func (s *Site) price(of string, k *kpi) {
	p, err := s.b.Policies(of)
	if err == nil && p.Budget != nil && k.Known {
		k.Cost, k.Currency = k.WorkerHours*p.Budget.WorkerHour, p.Budget.Currency
	}
}
