package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/verdict"
	"tidemark/internal/show/chart"
	"tidemark/internal/show/text"
)

var statusTones = map[verdict.Status]Tone{
	verdict.Passed: Good, verdict.Within: Good, verdict.Failed: Bad, verdict.Invalid: Bad, verdict.Undecided: Warn, verdict.Unneeded: Plain,
}

// LoadTest is the page of a load test: the verdict, then each run over time. zone is that of its times.
func LoadTest(runs []*outcome.Run, v *verdict.Verdict, zone *time.Location) Page {
	p := Page{Title: "Load test", Zone: zone}
	if len(runs) > 0 {
		p.Title, p.Facts = "Load test: "+runs[0].Scenario, facts(runs, zone)
		p.Made = runs[len(runs)-1].Ended
	}
	p.Sections = append(p.Sections, judgement(v))
	for i, run := range runs {
		name := "The run"
		if len(runs) > 1 {
			name = fmt.Sprintf("Run %d", i+1)
		}
		p.Sections = append(p.Sections, overTime(name, run, v, zone))
	}
	return p
}

func facts(runs []*outcome.Run, zone *time.Location) (out []Fact) {
	add := func(name, value string) {
		if value != "" {
			out = append(out, Fact{name, value})
		}
	}
	r := runs[0]
	add("Target", r.Target)
	add("Started", r.Started.In(zone).Format("2006-01-02 15:04:05 MST"))
	length := fleet.Elapsed(time.Duration(r.Length))
	if r.Compress > 1 {
		length += fmt.Sprintf(", compressed %g times", r.Compress)
	}
	if r.WarmUp > 0 {
		length += fmt.Sprintf(", the first %s not judged", fleet.Elapsed(time.Duration(r.WarmUp)))
	}
	add("Length", length)
	if len(runs) > 1 {
		add("Runs", fmt.Sprint(len(runs)))
	}
	add("Environment", r.Environment)
	if m := r.Machine; m.Cores > 0 {
		add("Generator", strings.TrimSpace(fmt.Sprintf("%s, %s/%s %s, %d cores, load %.1f", m.Name, m.OS, m.Arch, m.CPU, m.Cores, m.Load)))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		add("Version of "+name, r.Versions[name])
	}
	short := func(digest string) string { return digest[:min(len(digest), 16)] }
	add("Configuration", short(r.ConfigDigest))
	add("Scenario", short(r.ScenarioDigest))
	add("Seed", fmt.Sprint(r.Seed))
	return out
}

func judgement(v *verdict.Verdict) Section {
	s := Section{Title: "Verdict"}
	s.Blocks = append(s.Blocks, Tiles{{Value: strings.ToUpper(text.StatusWords[v.Status]), Name: "verdict", Tone: statusTones[v.Status]}})
	for _, why := range v.Invalid {
		s.Blocks = append(s.Blocks, Note{Bad, why})
	}
	t := Table{Columns: []Column{{Name: "Criterion"}, {Name: "Asked"}, {Name: "Measured", Numeric: true}, {Name: "Bounds", Numeric: true}, {Name: "Verdict"}}, Empty: "No criterion was given."}
	for i := range v.Criteria {
		r := &v.Criteria[i]
		more := r.Why
		if r.Baseline != nil {
			more = strings.TrimPrefix(more+"; "+text.Against(r), "; ")
		}
		t.Rows = append(t.Rows, Row{{Text: r.Name, More: more}, {Text: strings.ReplaceAll(text.Asked(r), " %", "\u00a0%")}, {Text: text.Measured(r)}, {Text: text.Bounds(r)}, {Text: text.StatusWords[r.Status], Tone: statusTones[r.Status]}})
	}
	s.Blocks = append(s.Blocks, t, Text("Each bound holds with 95 % confidence, by a block bootstrap over time or, with five runs or more, by the runs' own figures. Passed: the bound on the bad side keeps the limit. Within variation: it keeps what is tolerated. Failed: even the other bound does not. Else undecided."))
	if len(v.Bottlenecks) > 0 {
		t := Table{Caption: "What was short", Columns: []Column{{Name: "Resource"}, {Name: "Evidence"}}}
		for _, b := range v.Bottlenecks {
			t.Rows = append(t.Rows, Cells(string(b.Resource), strings.Join(b.Evidence, "; ")))
		}
		s.Blocks = append(s.Blocks, t)
	}
	if len(v.Actions) > 0 {
		t := Table{Caption: "What to do", Columns: []Column{{Name: "", Numeric: true}, {Name: "Action"}}}
		for i, a := range v.Actions {
			t.Rows = append(t.Rows, Cells(fmt.Sprint(i+1), a))
		}
		s.Blocks = append(s.Blocks, t)
	}
	return s
}

// overTime is one run: charts that share their horizontal axis, then its tables.
func overTime(name string, run *outcome.Run, v *verdict.Verdict, zone *time.Location) Section {
	s := Section{Title: name}
	if run.Cut != "" {
		s.Blocks = append(s.Blocks, Tiles{{Value: "PARTIAL", Name: run.Cut, Tone: Bad}})
	}
	if len(run.Generator.Limits) > 0 || run.Generator.Dropped > 0 {
		s.Blocks = append(s.Blocks, Tiles{{Value: "INVALID", Name: "the generator was the limit, not the service", More: strings.Join(run.Generator.Limits, ", "), Tone: Bad}})
	}
	marks := scalings(run)
	for _, c := range charts(run, v, marks, zone) {
		s.Blocks = append(s.Blocks, c)
	}
	if len(marks) > 0 {
		s.Blocks = append(s.Blocks, deeds(run, marks))
	}
	if len(run.Levels) > 0 {
		s.Blocks = append(s.Blocks, staircase(run))
	}
	s.Blocks = append(s.Blocks, steps(run))
	for _, n := range append(slices.Clone(run.Notes), run.Cleanup...) {
		s.Blocks = append(s.Blocks, Note{Plain, n})
	}
	return s
}

// charted is how many points a chart over time has at most.
const charted = 240

func charts(run *outcome.Run, v *verdict.Verdict, marks []chart.Mark, zone *time.Location) (out []*chart.Chart) {
	slot := time.Duration(run.Slot)
	if slot <= 0 || run.Length <= 0 {
		return nil
	}
	slots := int((time.Duration(run.Length) + slot - 1) / slot)
	each := (slots + charted - 1) / charted
	n, width := (slots+each-1)/each, time.Duration(each)*slot
	all, count, failed := make([]signal.Histogram, n), make([]float64, n), make([]float64, n)
	var whole signal.Histogram
	for i := range run.Steps {
		for j := range run.Steps[i].Slots {
			one := &run.Steps[i].Slots[j]
			if at := one.At / each; at < n {
				all[at].Add(&one.Latency.Histogram)
				count[at] += float64(one.Count)
				failed[at] += float64(one.Failures())
			}
			whole.Add(&one.Latency.Histogram)
		}
	}
	from, to := chart.At(run.Started), chart.At(run.Started.Add(time.Duration(run.Length)))
	for i := range run.Fleets {
		for _, size := range run.Fleets[i].Sizes {
			to = max(to, chart.At(size.Time)) // on the way back to the minimum
		}
	}
	x := chart.Axis{Scale: chart.Time, Zone: zone, Min: from, Max: to}
	var spans []chart.Span
	if run.WarmUp > 0 {
		spans = []chart.Span{{Name: "warm-up", From: from, To: chart.At(run.Started.Add(time.Duration(run.WarmUp)))}}
	}
	quantile := func(q float64) chart.Series {
		values := make([]float64, n)
		for t := range all {
			values[t] = all[t].Quantile(q) // NaN without requests: a gap
		}
		return chart.Series{Name: fmt.Sprintf("p%g", q*100), Points: chart.Times(run.Started.Add(width/2), width, values)}
	}
	perSecond := func(values []float64) []chart.Point {
		rates := make([]float64, len(values))
		for t, v := range values {
			rates[t] = v / width.Seconds()
		}
		return chart.Times(run.Started.Add(width/2), width, rates)
	}
	limits := limitsOf(v)
	out = append(out, &chart.Chart{Title: "Response time", About: "from when a request was due; the marks are changes of size", X: x, Y: chart.Axis{Unit: fleet.Seconds},
		Series: []chart.Series{quantile(0.5), quantile(0.95), quantile(0.99)}, Thresholds: limits, Marks: marks, Spans: spans, Height: 220})
	out = append(out, &chart.Chart{Title: "Percentiles of all requests", About: "how long the given share of requests took at most", X: chart.Axis{Scale: chart.Percentile}, Y: chart.Axis{Unit: fleet.Seconds},
		Series: []chart.Series{{Name: "response time", Points: chart.Percentiles(whole.Count(), whole.Quantile)}}, Thresholds: limits})
	out = append(out, &chart.Chart{Title: "Throughput and errors", About: "requests a second that ended, and those that failed", X: x, Y: chart.Axis{Per: "/s"},
		Series: []chart.Series{{Name: "requests", Kind: chart.Area, Points: perSecond(count)}, {Name: "failed", Points: perSecond(failed)}}, Marks: marks, Spans: spans})
	for i := range run.Fleets {
		out = append(out, ofFleet(&run.Fleets[i], x, marks)...)
	}
	return out
}

// limitsOf are the levels that latencies are held to.
func limitsOf(v *verdict.Verdict) (out []chart.Threshold) {
	for i := range v.Criteria {
		if c := &v.Criteria[i]; c.Measure == outcome.Latency {
			out = append(out, chart.Threshold{Name: c.Name, Value: c.Limit})
		}
	}
	return out
}

// scalings marks what the daemon did.
func scalings(run *outcome.Run) (out []chart.Mark) {
	for _, e := range run.Events {
		at := chart.At(e.Time)
		switch {
		case e.Kind == fleet.EventDecision && e.Decision != nil && !e.Decision.Shadow && e.From != e.To:
			out = append(out, chart.Mark{X: at, Text: text.Scaling(e.Decision)})
		case e.Kind == fleet.EventActionDone && e.To > e.From:
			out = append(out, chart.Mark{X: at, Text: fmt.Sprintf("%d -> %d serves, %s after the breach", e.From, e.To, fleet.Elapsed(time.Duration(e.Duration)))})
		case e.Kind == fleet.EventActionFailed:
			out = append(out, chart.Mark{X: at, Text: fmt.Sprintf("%d -> %d was given up: %s", e.From, e.To, e.Note), Bad: true})
		case e.Kind == fleet.EventGuard && e.State == "holds":
			out = append(out, chart.Mark{X: at, Text: "guard " + e.Policy + " holds: " + e.Note, Bad: true})
		}
	}
	return out
}

// ofFleet draws a fleet's size and each of its signals: CPU, pool, queue, whatever the daemon reads.
func ofFleet(f *outcome.Fleet, x chart.Axis, marks []chart.Mark) (out []*chart.Chart) {
	var size []chart.Point
	for _, s := range f.Sizes {
		y := math.NaN()
		if s.Size.Known {
			y = float64(s.Size.Serving)
		}
		size = append(size, chart.Point{X: chart.At(s.Time), Y: y})
	}
	if len(size) > 0 {
		c := &chart.Chart{Title: f.Name + ": workers that serve", X: x, Series: []chart.Series{{Name: "workers", Kind: chart.Step, Points: size}}, Marks: marks, Height: 110}
		if f.Bounds.Max > 0 {
			c.Thresholds = []chart.Threshold{{Name: "maximum", Value: float64(f.Bounds.Max)}}
		}
		out = append(out, c)
	}
	for _, s := range f.Signals {
		var points []chart.Point
		measured := false
		for _, r := range s.Readings {
			y := math.NaN()
			if r.Quality == fleet.Fresh {
				y, measured = r.Value, true
			}
			points = append(points, chart.Point{X: chart.At(r.Time), Y: y})
		}
		if !measured {
			continue
		}
		c := &chart.Chart{Title: f.Name + ": " + s.Signal, X: x, Y: chart.Axis{Unit: s.Unit}, Series: []chart.Series{{Name: s.Signal, Points: points}}, Marks: marks, Height: 110}
		for _, r := range f.Rules {
			if r.Signal == s.Signal {
				c.Thresholds = append(c.Thresholds, chart.Threshold{Name: r.Policy + " " + r.Condition(), Value: r.Threshold})
			}
		}
		out = append(out, c)
	}
	return out
}

// steps is the table of what was asked, the whole run with its warm-up.
func steps(run *outcome.Run) Table {
	t := Table{Caption: "Steps", Columns: []Column{{Name: "Step"}, {Name: "Kind"}, {Name: "Requests", Numeric: true}, {Name: "Failed", Numeric: true}, {Name: "p50", Numeric: true}, {Name: "p95", Numeric: true}, {Name: "p99", Numeric: true}}}
	for i := range run.Steps {
		s := &run.Steps[i]
		var h signal.Histogram
		count, classes := uint64(0), map[outcome.Class]uint64{}
		for j := range s.Slots {
			h.Add(&s.Slots[j].Latency.Histogram)
			count += s.Slots[j].Count
			for c, n := range s.Slots[j].Failed {
				classes[c] += n
			}
		}
		if count == 0 {
			continue
		}
		failed, kinds := uint64(0), []string{}
		for _, c := range slices.Sorted(maps.Keys(classes)) {
			failed += classes[c]
			kinds = append(kinds, fmt.Sprintf("%d %s", classes[c], c))
		}
		cell := Cell{Text: fmt.Sprint(failed), More: strings.Join(kinds, ", ")}
		if failed > 0 {
			cell.Tone = Bad
		}
		name := s.Name
		if s.Journey != "" {
			name = s.Journey + ": " + name
		}
		row := Row{{Text: name}, {Text: string(s.Kind)}, {Text: fmt.Sprint(count)}, cell}
		for _, q := range []float64{0.5, 0.95, 0.99} {
			row = append(row, Cell{Text: fleet.Seconds.Format(h.Quantile(q))})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// deeds is the table of what the marks over the charts are, which paper does not tell otherwise.
func deeds(run *outcome.Run, marks []chart.Mark) Table {
	t := Table{Caption: "What the daemon did: the marks over the charts", Columns: []Column{{Name: "After", Numeric: true}, {Name: "What"}}}
	for _, m := range marks {
		what := Cell{Text: m.Text}
		if m.Bad {
			what.Tone = Bad
		}
		after := time.Duration((m.X - chart.At(run.Started)) * float64(time.Second))
		t.Rows = append(t.Rows, Row{{Text: fleet.Elapsed(after.Round(100 * time.Millisecond))}, what})
	}
	return t
}

// staircase is the table of the levels that were reached.
func staircase(run *outcome.Run) Table {
	t := Table{Caption: "The staircase to the knee", Columns: []Column{{Name: "Offered", Numeric: true}, {Name: "Requests", Numeric: true}, {Name: "Failed", Numeric: true}, {Name: "p95", Numeric: true}, {Name: "Service level"}}}
	for _, l := range run.Levels {
		if !l.Reached() {
			break
		}
		held := Cell{Text: "held", Tone: Good}
		if l.Broke != "" {
			held = Cell{Text: "broke", More: l.Broke, Tone: Bad}
		}
		t.Rows = append(t.Rows, Row{{Text: fmt.Sprintf("%.4g visits/s", l.Rate)}, {Text: fmt.Sprint(l.Requests)}, {Text: fmt.Sprint(l.Failed)}, {Text: fleet.Seconds.Format(l.P95)}, held})
	}
	return t
}
