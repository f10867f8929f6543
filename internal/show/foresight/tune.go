package foresight

import (
	"fmt"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/tune"
	"tidemark/internal/show/chart"
	"tidemark/internal/show/report"
	"tidemark/internal/show/text"
)

// Tuned is the report of a search for better settings.
func Tuned(v text.View, r *tune.Result, objective time.Duration) report.Page {
	limit := fleet.Elapsed(objective)
	page := report.Page{
		Title: "Tuning of " + r.Fleet, Zone: v.Zone, Made: v.Now,
		Lead: "Settings of " + r.File + " that were tried in the simulator. Nothing was changed.",
		Facts: []report.Fact{{Name: "policies tried", Value: fmt.Sprint(r.Tried)}, {Name: "requests simulated", Value: fmt.Sprintf("%.3g", r.Simulated)}, {Name: "level", Value: r.Level.String()},
			{Name: "seeds", Value: fmt.Sprint(r.Seeds)}, {Name: "allowed", Value: fmt.Sprintf("%g %% of the minutes above %s", r.Allowed, limit)}},
	}
	s := report.Section{Title: "Recommendation"}
	best := r.Recommended
	switch {
	case r.Interrupted && best == nil:
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Warn, Text: "Stopped: nothing better was found so far."})
	case r.Interrupted:
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Warn, Text: "Stopped: the best so far. It was not validated on the days held out, so it is no recommendation. On the days to train on, your policy costs " +
			text.Gap(r.Present.Train) + "; this change " + text.Gap(best.Train) + "."})
	case best == nil:
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Good, Text: "Nothing is recommended: the policy is already as good as anything that was found, on the days held out. It costs " + text.Gap(*r.Present.HoldOut) + ". " + text.Gained(r)})
	default:
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Good, Text: "On the days held out, your policy costs " + text.Gap(*r.Present.HoldOut) + "; what was found without them " + text.Gap(*best.HoldOut) + ". " + text.Gained(r)})
	}
	if best != nil {
		t := report.Table{Columns: []report.Column{{Name: "line", Numeric: true}, {Name: "setting"}, {Name: "from"}, {Name: "to"}, {Name: "why"}}}
		for _, c := range best.Changes {
			t.Rows = append(t.Rows, report.Row{{Text: fmt.Sprint(c.Line)}, {Text: c.What}, {Text: c.From}, {Text: c.To}, {Text: c.Reason}})
		}
		s.Blocks = append(s.Blocks, t, report.Code(r.Diff))
	}
	for _, n := range r.Notes {
		s.Blocks = append(s.Blocks, report.Text(n))
	}
	page.Sections = append(page.Sections, s)
	if len(r.Front) > 0 {
		page.Sections = append(page.Sections, folds(v, r), front(r, limit))
	}
	return page
}

// front is the Pareto front, drawn and as a table.
func front(r *tune.Result, limit string) report.Section {
	t := report.Table{Columns: []report.Column{{Name: "policy"}, {Name: "worker-hours", Numeric: true}, {Name: "x clairvoyant", Numeric: true}, {Name: "minutes above " + limit, Numeric: true}, {Name: "in minutes", Numeric: true}, {Name: "actions a day", Numeric: true}}}
	line := chart.Series{Name: "front", Kind: chart.Line}
	listed := false
	row := func(name string, f *tune.Figures) {
		t.Rows = append(t.Rows, report.Row{{Text: name}, figure(f.WorkerHours, "%.1f"), figure(f.Cost, "%.3f"), figure(f.Violations, "%.3f %%"), figure(f.Minutes, "%.1f"), figure(f.Actions, "%.1f")})
	}
	for _, p := range r.Front {
		listed = listed || len(p.Changes) == 0
		row(text.Named(r, p), p.Fresh)
		line.Points = append(line.Points, chart.Point{X: p.Fresh.WorkerHours.Mean, Y: p.Fresh.Minutes.Mean})
	}
	c := &chart.Chart{Title: "Violation minutes against worker-hours", About: "No other policy that was tried is better in both.", Height: 160, Series: []chart.Series{line}}
	if own := r.Present.Fresh; !listed {
		row("your policy (not of the front)", own)
		c.Marks = append(c.Marks, chart.Mark{X: own.WorkerHours.Mean, Text: "your policy"})
	}
	return report.Section{Title: "Pareto front", Blocks: []report.Block{report.Text("On all days, with arrivals that the search did not see."), c, t}}
}

// folds are what was found without some days, judged by these.
func folds(v text.View, r *tune.Result) report.Section {
	t := report.Table{Columns: []report.Column{
		{Name: "held out"}, {Name: "your policy, x clairvoyant", Numeric: true}, {Name: "found", Numeric: true}, {Name: "your policy, P(violation)", Numeric: true}, {Name: "found", Numeric: true}, {Name: "gain", Numeric: true}, {Name: "found, by line"},
	}}
	for i, f := range r.Folds {
		t.Rows = append(t.Rows, report.Row{
			{Text: text.HeldOut(v, r, i+1)}, figure(f.Present.Cost, "%.3f"), figure(f.Found.Cost, "%.3f"), figure(f.Present.Violations, "%.3f %%"), figure(f.Found.Violations, "%.3f %%"),
			{Text: fmt.Sprintf("%.3f", f.Gain)}, {Text: text.Changed(f.Changes)},
		})
	}
	return report.Section{Title: "Cross-validation", Blocks: []report.Block{
		report.Text("Each row's days were played with what a search found that had never seen them. Cost and violations make one measure, of which the gain is the difference."), t,
	}}
}
