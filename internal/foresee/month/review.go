package month

import (
	"fmt"
	"slices"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// The requirements' figures that a month is held against, beside those that a configuration writes.
const (
	CPULow      = 50.0 // percent: the workers' average, to allow for bursts
	CPUHigh     = 60.0
	CPUPeak     = 70.0 // under peak load
	CacheHits   = 95.0 // percent of the database's reads, above which it is large enough
	DatabaseCPU = 70.0 // percent on average, below which it is
)

// Fit says how a fleet's workers are used.
type Fit string

// The fits.
const (
	Right  Fit = "right"
	Over   Fit = "over_provisioned"
	Under  Fit = "under_provisioned"
	Unsaid Fit = "unknown"
)

// Sizing is whether the fleet is as large as its work.
type Sizing struct {
	Fit Fit `json:"fit"`
	// Workers would do the same work at the middle of the band, on average. 0: not known.
	Workers float64 `json:"workers_at_target,omitempty"`
	// AtMinimum is the share of the known time, in percent, in which the fleet could not be smaller.
	AtMinimum float64 `json:"at_minimum_percent"`
	Reserve   int     `json:"reserve"` // workers that always run: what a 1- or 3-year reservation may rest on
}

func sizing(f *Fleet) Sizing {
	s := Sizing{Fit: Unsaid, Reserve: f.Bounds.Min}
	if f.Size == nil || f.CPU == nil {
		return s
	}
	if known := float64(f.Coverage.Known); known > 0 {
		s.AtMinimum = 100 * float64(f.Size.AtMinimum) / known
	}
	s.Workers = f.Size.Mean * f.CPU.Mean / ((CPULow + CPUHigh) / 2)
	switch {
	case f.CPU.Mean < CPULow:
		s.Fit = Over
	case f.CPU.Mean > CPUHigh:
		s.Fit = Under
	default:
		s.Fit = Right
	}
	return s
}

// Criterion is one of the three by which the requirements' monthly review decides.
type Criterion struct {
	Name     string     `json:"name"`
	Verdict  Verdict    `json:"verdict"`
	Evidence []Evidence `json:"evidence"`
}

// Evidence is one finding.
type Evidence struct {
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
}

// add takes a finding in. One that is missed decides; else one that is not known does.
func (c *Criterion) add(v Verdict, format string, args ...any) {
	c.Evidence = append(c.Evidence, Evidence{v, fmt.Sprintf(format, args...)})
	if v == Missed || v == Unknown && c.Verdict == Met {
		c.Verdict = v
	}
}

// Risk is one of the requirements' four, and what was seen of it.
type Risk struct {
	Risk        string   `json:"risk"`
	Impact      string   `json:"impact"`
	Probability string   `json:"probability"`
	Seen        []string `json:"seen"` // empty: nothing
	Unknown     string   `json:"unknown,omitempty"`
	Mitigation  string   `json:"mitigation"`
	Contingency string   `json:"contingency"`
}

// Refinement is why the requirements ask for a policy to be refined: levels missed again and again, or too much provisioned. What to
// refine is tune's to say.
type Refinement struct {
	Fleet string `json:"fleet"`
	Why   string `json:"why"`
}

// Validation is whether a load test is due: before go-live, after major updates, and each year.
type Validation struct {
	Known bool          `json:"known"` // dates are written in the configuration
	Last  config.Date   `json:"last"`  // load test; zero: none
	Next  config.Date   `json:"next"`  // when the yearly one is due
	Due   []DueTest     `json:"due"`
	Dates []config.Date `json:"load_tests"`
}

// DueTest is a load test that is due.
type DueTest struct {
	Why  string      `json:"why"`
	From config.Date `json:"since"` // when it became due; in the future: by when
}

func validate(c *config.Report, at time.Time) Validation {
	v := Validation{Due: []DueTest{}, Dates: slices.Clone(c.LoadTests), Known: len(c.LoadTests)+len(c.Updates) > 0 || !c.GoLive.IsZero()}
	if v.Dates == nil {
		v.Dates = []config.Date{}
	}
	for _, t := range c.LoadTests {
		if t.After(v.Last.Time) && !t.After(at) {
			v.Last = t
		}
	}
	if !v.Known {
		return v
	}
	passedBefore := func(d config.Date) bool {
		return slices.ContainsFunc(c.LoadTests, func(t config.Date) bool { return !t.After(d.Time) })
	}
	if g := c.GoLive; !g.IsZero() && !passedBefore(g) && (v.Last.IsZero() || g.After(at)) { // one that was made later stands in for it
		v.Due = append(v.Due, DueTest{"before go-live", g})
	}
	for _, u := range c.Updates {
		if !u.After(at) && u.After(v.Last.Time) {
			v.Due = append(v.Due, DueTest{"after the major update", u})
		}
	}
	switch {
	case !v.Last.IsZero():
		v.Next = config.Date{Time: v.Last.AddDate(1, 0, 0)}
		if !v.Next.After(at) {
			v.Due = append(v.Due, DueTest{"once a year", v.Next})
		}
	case len(v.Due) == 0:
		v.Due = append(v.Due, DueTest{"none is on record", config.Date{}})
	}
	return v
}

func percent(v float64) string { return fleet.Percent.Format(v) }

func elapsed(d fleet.Duration) string { return fleet.Elapsed(time.Duration(d)) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// LevelNames are the service levels as people call them.
var LevelNames = map[string]string{"api": "API response time (p95)", "pages": "page load", "sync": "mobile synchronisation"}

// review weighs the month by the requirements' decision criteria and risks.
func (r *Report) review() {
	levels, cost, stable := Criterion{Name: "service levels", Verdict: Met}, Criterion{Name: "cost efficiency", Verdict: Met}, Criterion{Name: "system stability", Verdict: Met}
	for i := range r.Fleets {
		f := &r.Fleets[i]
		of := ""
		if len(r.Fleets) > 1 {
			of = f.Name + ": "
		}
		f.levels(&levels, of)
		f.cost(&cost, of)
		f.stability(&stable, of)
		r.refine(f)
	}
	if n := r.Alerts.Critical; n > 0 {
		stable.add(Missed, "%s raised", count(n, "critical alert"))
	} else {
		stable.add(Met, "no critical alert was raised")
	}
	r.Criteria = []Criterion{levels, cost, stable}
	r.Risks = r.risks()
}

func (f *Fleet) levels(c *Criterion, of string) {
	if a := &f.Availability; a.Percent == nil {
		c.add(Unknown, "%savailability was not measured", of)
	} else {
		c.add(a.Verdict, "%savailable %s of the time (required: %s)", of, Floor(*a.Percent), percent(a.Required))
	}
	for _, l := range f.Levels {
		limit := elapsed(l.Within)
		if l.Kept == nil {
			c.add(Unknown, "%s%s was not measured (required: within %s)", of, LevelNames[l.Name], limit)
			continue
		}
		c.add(l.Verdict, "%s%s within %s for %s of the time that could be judged", of, LevelNames[l.Name], limit, Floor(*l.Kept))
	}
}

// Floor writes a percentage cut off, so that 99.499 is not said to be 99.5.
func Floor(v float64) string {
	return fmt.Sprintf("%.2f %%", float64(int(v*100))/100)
}

func (f *Fleet) cost(c *Criterion, of string) {
	switch m := f.Money; {
	case m == nil:
		c.add(Unknown, "%sno price and budget are written (safeguards.budget)", of)
	case m.Verdict == Unknown:
		c.add(Unknown, "%stoo little is known to set the cost against the budget", of)
	default:
		at := m.Spent
		if m.Projected != nil {
			at = *m.Projected
		}
		c.add(m.Verdict, "%s%.2f of %.2f %s", of, at, m.Budget, m.Currency)
	}
	band := fmt.Sprintf("%g to %g %%", CPULow, CPUHigh)
	switch s := &f.Sizing; {
	case s.Fit == Unsaid:
		c.add(Unknown, "%sthe workers' CPU was not measured", of)
	case s.Fit == Over && s.AtMinimum >= 50:
		c.add(Met, "%sCPU %s on average, below %s: the fleet is at its minimum, which is for availability, %s of the time", of, percent(f.CPU.Mean), band, percent(s.AtMinimum))
	case s.Fit == Over:
		c.add(Missed, "%sCPU %s on average, below %s: over-provisioned", of, percent(f.CPU.Mean), band)
	default:
		c.add(Met, "%sCPU %s on average (to be %s)", of, percent(f.CPU.Mean), band)
	}
}

func (f *Fleet) stability(c *Criterion, of string) {
	s := &f.Scaling
	changes := s.Ups + s.Downs
	c.add(judge(s.Failed == 0), "%s%s of %d failed", of, count(s.Failed, "scaling action"), changes)
	c.add(judge(20*s.Flaps <= changes), "%s%s taken back within %s (at most one in 20)", of, count(s.Flaps, "change"), fleet.Elapsed(FlapWithin))
	switch t := &s.Time; t.Verdict {
	case Unknown:
		c.add(Met, "%sno scale-up was driven by an alarm", of)
	case Met, Missed:
		c.add(t.Verdict, "%s%d of %d scale-ups within %s, %s at worst", of, t.Within, t.Count, elapsed(t.Target), elapsed(t.Worst))
	}
	if share := f.Coverage.UnknownShare(); share >= 1 {
		c.add(Unknown, "%s%s of the time is without readings", of, percent(share))
	}
}

func (r *Report) refine(f *Fleet) {
	add := func(format string, args ...any) {
		r.Refine = append(r.Refine, Refinement{f.Name, fmt.Sprintf(format, args...)})
	}
	for _, l := range f.Levels {
		if l.Verdict == Missed {
			add("%s was missed for %s, for an hour or more on %s", LevelNames[l.Name], elapsed(l.Missed), count(len(l.Days), "day"))
		}
	}
	switch s := &f.Sizing; {
	case s.Fit == Over && s.AtMinimum < 50:
		add("over-provisioned: CPU %s on average; %.1f workers would do the same at %g %%", percent(f.CPU.Mean), s.Workers, (CPULow+CPUHigh)/2)
	case s.Fit == Under:
		add("CPU %s on average leaves little for bursts", percent(f.CPU.Mean))
	}
	if s := &f.Scaling; 20*s.Flaps > s.Ups+s.Downs {
		add("%s of %d were taken back within %s", count(s.Flaps, "change"), s.Ups+s.Downs, fleet.Elapsed(FlapWithin))
	}
}

// guards are codes by what is short.
var databaseBound = []fleet.Code{fleet.BlockedDatabase, fleet.LimitedConnections}
var hostBound = []fleet.Code{fleet.BlockedHostCPU, fleet.LimitedMemory}

// Held is for how long scale-outs were held back by any of some codes.
func (f *Fleet) Held(codes []fleet.Code) (total fleet.Duration, episodes int) {
	for _, b := range f.Blocked {
		if b.Out && slices.Contains(codes, b.Code) {
			total, episodes = total+b.Time, episodes+b.Episodes
		}
	}
	return total, episodes
}

// DatabaseBound is for how long the database held scale-outs back.
func (f *Fleet) DatabaseBound() (total fleet.Duration, episodes int) { return f.Held(databaseBound) }

// HostBound is for how long the host's CPU or memory did.
func (f *Fleet) HostBound() (total fleet.Duration, episodes int) { return f.Held(hostBound) }

// risks are the requirements', with what was seen of each.
func (r *Report) risks() []Risk {
	under := Risk{
		Risk: "Too few workers at peak load", Impact: "high", Probability: "medium",
		Mitigation:  "Thorough load tests; a careful first size; monitoring and alerts.",
		Contingency: "Add workers, or database capacity, by hand when an alert says so.",
	}
	lag := Risk{
		Risk: "Scaling comes too late", Impact: "medium", Probability: "medium",
		Mitigation:  "Faster starts of workers; enough time for health checks; a forecast or a schedule where the pattern is clear.",
		Contingency: "Tell users that it is slow for a while; shed load where possible.",
	}
	money := Risk{
		Risk: "Cost overrun", Impact: "medium", Probability: "low",
		Mitigation:  "A maximum for each fleet; budget alerts; a regular look at scaling and cost.",
		Contingency: "Change the policies; go back to scaling by hand.",
	}
	database := Risk{
		Risk: "The database is the bottleneck", Impact: "high", Probability: "medium",
		Mitigation:  "Tune queries and indexes all the time; pool connections (PgBouncer); read replicas where the application allows.",
		Contingency: "A larger database at once; caching in the application for what is mostly read.",
	}
	for i := range r.Fleets {
		f := &r.Fleets[i]
		see := func(to *Risk, format string, args ...any) {
			to.Seen = append(to.Seen, f.Name+": "+fmt.Sprintf(format, args...))
		}
		if f.Size != nil && f.Size.AtMaximum > 0 {
			see(&under, "at the maximum of %d for %s", f.Bounds.Max, elapsed(f.Size.AtMaximum))
		}
		if s := &f.Short; s.Workers > 0 {
			see(&under, "and still short of up to %s, for %s", count(s.Workers, "worker"), elapsed(s.Time))
		}
		if t, n := f.HostBound(); n > 0 {
			see(&under, "the host had no room for more workers %s, for %s", times(n), elapsed(t))
		}
		if t := &f.Scaling.Time; t.Within < t.Count {
			see(&lag, "%d of %d scale-ups took %s or more, %s at worst", t.Count-t.Within, t.Count, elapsed(t.Target), elapsed(t.Worst))
		}
		if s := &f.Scaling; s.Slow > 0 {
			see(&lag, "response times were still too long after %d of %d scale-ups", s.Slow, s.SlowOf)
		}
		if s := &f.Scaling; s.Hot > 0 {
			see(&lag, "CPU stayed above %s after %d of %d scale-ups", percent(s.HotLevel), s.Hot, s.HotOf)
		}
		switch m := f.Money; {
		case m == nil:
			money.Unknown = "no price and budget are written for " + f.Name
		case m.Verdict == Missed:
			see(&money, "the month's cost is above its budget of %.2f %s", m.Budget, m.Currency)
		}
		if t, n := f.DatabaseBound(); n > 0 {
			see(&database, "held scale-outs back %s, for %s", times(n), elapsed(t))
		}
		for _, d := range f.Database {
			if d.Verdict == Missed {
				see(&database, "%s %s on average (to be above %s)", d.Field, percent(d.Mean), percent(d.Required))
			}
		}
	}
	out := []Risk{under, lag, money, database}
	for i := range out {
		if out[i].Seen == nil {
			out[i].Seen = []string{}
		}
	}
	return out
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
