package foresight

import (
	"fmt"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/backtest"
	"tidemark/internal/show/chart"
	"tidemark/internal/show/report"
	"tidemark/internal/show/text"
)

// Backtests is the report of replays of a journal.
func Backtests(v text.View, all []*backtest.Result) report.Page {
	r := all[0]
	page := report.Page{
		Title: "Backtest of " + r.Fleet, Zone: v.Zone, Made: v.Now, Lead: "Where a policy would have decided otherwise than was decided, by the readings that the journal has.",
		Facts: []report.Fact{
			{Name: "from", Value: r.Since.In(v.Zone).Format("2006-01-02 15:04")}, {Name: "to", Value: r.Until.In(v.Zone).Format("2006-01-02 15:04")},
			{Name: "ticks", Value: fmt.Sprint(r.Ticks)}, {Name: "worker-hours used", Value: fmt.Sprintf("%.1f", r.WorkerHours)},
		},
	}
	for _, r := range all {
		page.Sections = append(page.Sections, replayed(v, r))
	}
	return page
}

func replayed(v text.View, r *backtest.Result) report.Section {
	tone := report.Good
	if r.Differ > 0 {
		tone = report.Warn
	}
	s := report.Section{Title: r.Name, Blocks: []report.Block{report.Tiles{
		{Value: fmt.Sprint(r.Differ), Name: "decisions otherwise", Tone: tone}, {Value: fmt.Sprint(r.Agree), Name: "as they were"},
		{Value: fleet.Elapsed(r.SureUntil.Sub(r.Since)), Name: "exact, from the start"},
	}}}
	for _, n := range r.Notes {
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Warn, Text: n})
	}
	if r.Differ > 0 {
		s.Blocks = append(s.Blocks, report.Note{Text: text.Limit})
	}
	c := Replayed(v, r)
	t := report.Table{Columns: []report.Column{{Name: "time"}, {Name: "verdict"}, {Name: "size", Numeric: true}, {Name: "why"}}, Empty: "No change of size, in the journal or in the replay."}
	for i := range r.Changes {
		d := &r.Changes[i]
		if i >= most {
			break
		}
		why := report.Cell{}
		if d.Replay != nil {
			why.Text = "replayed: " + text.Scaling(d.Replay)
		}
		if d.Journal != nil {
			why.More = "was: " + text.Scaling(d.Journal)
		}
		cell := report.Cell{Text: text.Verdicts[d.Verdict]}
		if d.Verdict != backtest.Agree {
			cell.Tone = report.Warn
		}
		t.Rows = append(t.Rows, report.Row{{Text: d.Time.In(v.Zone).Format("Mon 2006-01-02 15:04:05")}, cell, {Text: text.Change(d)}, why})
	}
	s.Blocks = append(s.Blocks, c, t)
	if len(r.Changes) > most {
		s.Blocks = append(s.Blocks, report.Text(fmt.Sprintf("The first %d are listed; --json has all.", most)))
	}
	return s
}

// Replayed draws the size as it was, what was asked for, and where that differs.
func Replayed(v text.View, r *backtest.Result) *chart.Chart {
	was, would := chart.Series{Name: "as it was", Kind: chart.Step}, chart.Series{Name: "asked for, given that", Kind: chart.Step}
	for _, m := range r.Moments {
		was.Points = append(was.Points, chart.Point{X: chart.At(m.Time), Y: missing(float64(m.Size))})
		would.Points = append(would.Points, chart.Point{X: chart.At(m.Time), Y: missing(float64(m.Would))})
	}
	c := &chart.Chart{Title: "Workers", About: "The size as it was, and what the policy asked for.", X: chart.Axis{Scale: chart.Time, Zone: v.Zone}, Series: []chart.Series{was, would}}
	for i := range r.Changes {
		if d := &r.Changes[i]; d.Verdict != backtest.Agree && len(c.Marks) < 60 {
			c.Marks = append(c.Marks, chart.Mark{X: chart.At(d.Time), Text: text.Verdicts[d.Verdict] + ": " + text.Change(d), Bad: true})
		}
	}
	return c
}
