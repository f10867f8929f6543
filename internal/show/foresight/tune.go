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
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Good, Text: "Nothing is recommended: the policy is already as good as anything that was found, on the days held out. It costs " + text.Gap(*r.Present.HoldOut) + "."})
	default:
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Good, Text: "On the days held out, your policy costs " + text.Gap(*r.Present.HoldOut) + "; this change " + text.Gap(*best.HoldOut) + "."})
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
		page.Sections = append(page.Sections, front(r, limit))
	}
	page.Sections = append(page.Sections, report.Section{Title: "Days", Blocks: []report.Block{dayTable(v, r)}})
	return page
}

// front is the Pareto front on the days held out, drawn and as a table.
func front(r *tune.Result, limit string) report.Section {
	t := report.Table{Columns: []report.Column{{Name: "policy"}, {Name: "worker-hours", Numeric: true}, {Name: "x clairvoyant", Numeric: true}, {Name: "minutes above " + limit, Numeric: true}, {Name: "in minutes", Numeric: true}, {Name: "actions a day", Numeric: true}}}
	line := chart.Series{Name: "front", Kind: chart.Line}
	listed := false
	row := func(name string, f *tune.Figures) {
		t.Rows = append(t.Rows, report.Row{{Text: name}, figure(f.WorkerHours, "%.1f"), figure(f.Cost, "%.3f"), figure(f.Violations, "%.3f %%"), figure(f.Minutes, "%.1f"), figure(f.Actions, "%.1f")})
	}
	for _, p := range r.Front {
		listed = listed || len(p.Changes) == 0
		row(text.Named(r, p), p.HoldOut)
		line.Points = append(line.Points, chart.Point{X: p.HoldOut.WorkerHours.Mean, Y: p.HoldOut.Minutes.Mean})
	}
	c := &chart.Chart{Title: "Violation minutes against worker-hours", About: "No other policy that was tried is better in both.", Height: 160, Series: []chart.Series{line}}
	if own := r.Present.HoldOut; !listed {
		row("your policy (not of the front)", own)
		c.Marks = append(c.Marks, chart.Mark{X: own.WorkerHours.Mean, Text: "your policy"})
	}
	return report.Section{Title: "Pareto front on the days held out", Blocks: []report.Block{c, t}}
}

func dayTable(v text.View, r *tune.Result) report.Table {
	t := report.Table{Columns: []report.Column{{Name: "load"}, {Name: "day"}, {Name: "used to"}}}
	for _, part := range []struct {
		days []tune.Day
		use  string
	}{{r.Train, "train"}, {r.HoldOut, "validate"}} {
		for _, d := range part.days {
			t.Rows = append(t.Rows, report.Row{{Text: d.Load}, {Text: d.From.In(v.Zone).Format("Mon 2006-01-02")}, {Text: part.use}})
		}
	}
	return t
}
