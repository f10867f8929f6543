// Package foresight makes the reports of what policies would do: of forecasts, and of backtests.
package foresight

import (
	"fmt"
	"math"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/show/chart"
	"tidemark/internal/show/report"
	"tidemark/internal/show/text"
)

// Forecasts is the report of a simulation: policies side by side, over time, and each decision with its reason.
func Forecasts(v text.View, all []*foresee.Forecast, objective time.Duration, quantile float64) report.Page {
	f := all[0]
	limit, p := fleet.Elapsed(objective), fmt.Sprintf("p%g", quantile*100)
	page := report.Page{
		Title: f.Fleet + " under " + f.Load, Zone: v.Zone, Made: v.Now,
		Lead: "What a policy would have done: a virtual fleet, request by request, driven by the code that decides in the daemon.",
		Facts: []report.Fact{
			{Name: "load", Value: fmt.Sprintf("%s, %s from %s", f.Load, fleet.Elapsed(time.Duration(f.Duration)), f.Start.In(v.Zone).Format("2006-01-02 15:04"))},
			{Name: "requests", Value: fmt.Sprintf("%.0f", f.Requests.Mean)}, {Name: "objective", Value: p + " within " + limit}, {Name: "seeds", Value: fmt.Sprint(f.Seeds)},
		},
	}
	outcome := report.Section{Title: "Outcome"}
	if len(all) == 1 {
		outcome.Blocks = append(outcome.Blocks, tiles(f, limit))
	} else {
		outcome.Blocks = append(outcome.Blocks, compared(all, limit), bars(all, limit))
	}
	if f.Seeds == 1 {
		outcome.Blocks = append(outcome.Blocks, report.Text("One run: with --seeds, figures come with the 95 % interval of their mean, which shows how much of them is chance."))
	} else {
		outcome.Blocks = append(outcome.Blocks, report.Text(fmt.Sprintf("Figures are means of %d runs; ± is half of the 95 %% interval. Charts and decisions are those of the first run.", f.Seeds)))
	}
	outcome.Blocks = append(outcome.Blocks, assumed(f)...)
	page.Sections = append(page.Sections, outcome)
	for _, f := range all {
		if f.Around != nil {
			page.Sections = append(page.Sections, around(f))
		}
	}
	page.Sections = append(page.Sections, overTime(v, all, objective, p))
	for _, f := range all {
		page.Sections = append(page.Sections, decided(v, f))
	}
	return page
}

// assumed says which signals are not simulated.
func assumed(f *foresee.Forecast) []report.Block {
	if len(f.Assumed) == 0 {
		return nil
	}
	names, list := "", report.Details{Summary: "What they are taken to be"}
	for i, a := range f.Assumed {
		if i > 0 {
			names += ", "
		}
		names += a.Signal
		list.Blocks = append(list.Blocks, report.Text(a.Text))
	}
	return []report.Block{report.Note{Tone: report.Warn, Text: "Not simulated, and taken to ask for nothing: " + names + ". What rules on these would do is not in the figures."}, list}
}

// around is what came of a site's routes, its queue and its database.
func around(f *foresee.Forecast) report.Section {
	t := report.Table{Columns: []report.Column{{Name: "route"}, {Name: "requests", Numeric: true}, {Name: "p95", Numeric: true}, {Name: "p99", Numeric: true}, {Name: "rejected", Numeric: true}, {Name: "abandoned", Numeric: true}}}
	for _, r := range f.Around.Routes {
		t.Rows = append(t.Rows, report.Row{{Text: r.Name}, figure(r.Requests, "%.0f"), seconds(r.P95), seconds(r.P99), figure(r.Rejected, "%.0f"), figure(r.Abandoned, "%.0f")})
	}
	s := report.Section{Title: "Routes of " + f.Name, Blocks: []report.Block{t,
		report.Text("Times are those of the requests that were served. Rejected ones found the queue full, abandoned ones waited too long for a worker: both miss the objective.")}}
	if d := f.Around.Database; d != nil {
		s.Blocks = append(s.Blocks, report.Text(fmt.Sprintf("The database was used to %.1f %% %s of what it can do, at worst to %.0f %%. It does most with %d queries at once: more workers than that at the database do harm.",
			d.Utilisation.Mean, half(d.Utilisation), d.Worst, d.Peak)))
	}
	return s
}

// half writes half of a figure's interval; empty with one seed.
func half(f foresee.Figure) string {
	if h := (f.High - f.Low) / 2; h > 0 {
		return fmt.Sprintf("± %.2g", h)
	}
	return ""
}

func seconds(f foresee.Figure) report.Cell {
	c := report.Cell{Text: fleet.Seconds.Format(f.Mean)}
	if h := (f.High - f.Low) / 2; h > 0 {
		c.More = "± " + fleet.Seconds.Format(h)
	}
	return c
}

func figure(f foresee.Figure, format string) report.Cell {
	return report.Cell{Text: fmt.Sprintf(format, f.Mean), More: half(f)}
}

func tiles(f *foresee.Forecast, limit string) report.Tiles {
	tone := report.Good
	if f.Violations.Mean > 0.1 {
		tone = report.Bad
	}
	t := report.Tiles{
		{Value: fmt.Sprintf("%.2f %%", f.Violations.Mean), Name: "minutes above " + limit, More: half(f.Violations), Tone: tone},
		{Value: fleet.Seconds.Format(f.P95.Mean), Name: "p95 of all requests", More: seconds(f.P95).More},
		{Value: fmt.Sprintf("%.1f", f.WorkerHours.Mean), Name: "worker-hours", More: half(f.WorkerHours)},
		{Value: fmt.Sprintf("%.2f", f.MeanSize.Mean), Name: "workers on average", More: fmt.Sprintf("%d to %d", f.Least, f.Most)},
		{Value: fmt.Sprintf("%.3g", f.Ups.Mean+f.Downs.Mean), Name: "changes of size", More: fmt.Sprintf("%.3g up, %.3g down", f.Ups.Mean, f.Downs.Mean)},
		{Value: fmt.Sprint(f.Queue), Name: "longest queue"},
	}
	if f.Cost != nil {
		t = append(t, report.Tile{Value: fmt.Sprintf("%.2f %s", f.Cost.Mean, f.Cost.Currency), Name: "cost", More: fmt.Sprintf("at %.4g a worker-hour", f.Cost.WorkerHour)})
	}
	return t
}

// compared sets policies side by side.
func compared(all []*foresee.Forecast, limit string) report.Table {
	t := report.Table{Columns: []report.Column{{Name: "policy"}, {Name: "minutes above " + limit, Numeric: true}, {Name: "p95", Numeric: true}, {Name: "p99", Numeric: true}, {Name: "worker-hours", Numeric: true},
		{Name: "workers", Numeric: true}, {Name: "ups a day", Numeric: true}, {Name: "downs a day", Numeric: true}, {Name: "longest queue", Numeric: true}, {Name: "cost", Numeric: true}}}
	days := time.Duration(all[0].Duration).Hours() / 24
	per := func(f foresee.Figure) foresee.Figure {
		return foresee.Figure{Mean: f.Mean / days, Low: f.Low / days, High: f.High / days}
	}
	least := all[0]
	for _, f := range all {
		if f.WorkerHours.Mean < least.WorkerHours.Mean {
			least = f
		}
	}
	for _, f := range all {
		cost, hours, violations := report.Cell{Text: "–"}, figure(f.WorkerHours, "%.1f"), figure(f.Violations, "%.2f %%")
		if f.Cost != nil {
			cost = report.Cell{Text: fmt.Sprintf("%.2f %s", f.Cost.Mean, f.Cost.Currency)}
		}
		if f == least {
			hours.Tone = report.Good
		}
		if f.Violations.Mean > 0.1 {
			violations.Tone = report.Bad
		}
		t.Rows = append(t.Rows, report.Row{{Text: f.Name}, violations, seconds(f.P95), seconds(f.P99), hours,
			{Text: fmt.Sprintf("%.2f", f.MeanSize.Mean), More: fmt.Sprintf("%d to %d", f.Least, f.Most)}, figure(per(f.Ups), "%.1f"), figure(per(f.Downs), "%.1f"), {Text: fmt.Sprint(f.Queue)}, cost})
	}
	return t
}

func bars(all []*foresee.Forecast, limit string) *chart.Chart {
	c := &chart.Chart{Title: "Worker-hours", Height: 120, X: chart.Axis{Scale: chart.Named}, About: "What each policy takes; minutes above " + limit + " stand in the table.",
		Series: []chart.Series{{Name: "worker-hours", Kind: chart.Bars}}}
	for i, f := range all {
		c.X.Names = append(c.X.Names, f.Name)
		c.Series[0].Points = append(c.Series[0].Points, chart.Point{X: float64(i), Y: f.WorkerHours.Mean})
	}
	return c
}

// overTime draws load, sizes, response times and queues of all policies, one below the other.
func overTime(v text.View, all []*foresee.Forecast, objective time.Duration, p string) report.Section {
	x := chart.Axis{Scale: chart.Time, Zone: v.Zone, Min: chart.At(all[0].Start), Max: chart.At(all[0].Start.Add(time.Duration(all[0].Duration)))}
	series := func(kind chart.Kind, of func(foresee.Moment) float64) (out []chart.Series) {
		for _, f := range all {
			s := chart.Series{Name: f.Name, Kind: kind}
			for _, m := range f.Moments {
				s.Points = append(s.Points, chart.Point{X: chart.At(m.Time), Y: of(m)})
			}
			out = append(out, s)
		}
		return out
	}
	load := series(chart.Area, func(m foresee.Moment) float64 { return m.Rate })[:1]
	load[0].Name = "load"
	size := &chart.Chart{Title: "Workers", About: "The size of the fleet.", X: x, Series: series(chart.Step, func(m foresee.Moment) float64 { return m.Size })}
	if len(all) == 1 && len(all[0].Decisions) <= 60 {
		for i := range all[0].Decisions {
			d := &all[0].Decisions[i]
			size.Marks = append(size.Marks, chart.Mark{X: chart.At(d.Time), Text: text.Scaling(d)})
		}
	}
	latency := series(chart.Line, func(m foresee.Moment) float64 { return missing(m.P95) })
	response := &chart.Chart{Title: p + ", the worst of each stretch", About: "Response times over the trailing five minutes.", X: x, Y: chart.Axis{Unit: fleet.Seconds}, Series: latency,
		Thresholds: []chart.Threshold{{Name: "objective " + fleet.Elapsed(objective), Value: objective.Seconds()}}}
	if top := 6 * objective.Seconds(); highest(latency) > top {
		response.Y.Max = top
		response.Title += " (drawn up to " + fleet.Elapsed(6*objective) + ")"
	}
	over := report.Section{Title: "Over time", Blocks: []report.Block{
		&chart.Chart{Title: "Load", About: "Requests that arrive, a second.", X: x, Y: chart.Axis{Per: "/s"}, Height: 100, Series: load},
		size,
		response,
		&chart.Chart{Title: "Waiting requests, the most of each stretch", X: x, Height: 90, Series: series(chart.Line, func(m foresee.Moment) float64 { return float64(m.Queued) })},
		&chart.Chart{Title: "Utilisation", About: "The share of their time in which workers had a request.", X: x, Y: chart.Axis{Unit: fleet.Percent}, Height: 90, Series: series(chart.Line, func(m foresee.Moment) float64 { return m.Utilisation })},
	}}
	if all[0].Around != nil {
		over.Blocks = append(over.Blocks,
			&chart.Chart{Title: "Database", About: "What it does, of the most that it can do.", X: x, Y: chart.Axis{Unit: fleet.Percent}, Height: 90, Series: series(chart.Line, func(m foresee.Moment) float64 { return m.Database })},
			&chart.Chart{Title: "Rejected and abandoned", About: "Requests of each stretch.", X: x, Height: 90, Series: series(chart.Line, func(m foresee.Moment) float64 { return float64(m.Failed) })})
	}
	return over
}

// most is how many decisions a report lists.
const most = 1000

func decided(v text.View, f *foresee.Forecast) report.Section {
	t := report.Table{Columns: []report.Column{{Name: "time"}, {Name: "decision"}, {Name: "why"}}, Empty: "No decision changed the size."}
	for i := range f.Decisions[:min(len(f.Decisions), most)] {
		t.Rows = append(t.Rows, decision(v, &f.Decisions[i]))
	}
	s := report.Section{Title: "Decisions of " + f.Name, Blocks: []report.Block{report.Details{Summary: fmt.Sprintf("%d in the first run", len(f.Decisions)), Open: len(t.Rows) <= 100, Blocks: []report.Block{t}}}}
	if len(f.Decisions) > most {
		s.Blocks = append(s.Blocks, report.Text(fmt.Sprintf("The first %d are listed; --json has up to 5000.", most)))
	}
	return s
}

func decision(v text.View, d *fleet.Decision) report.Row {
	why := report.Cell{}
	for i, r := range d.Reasons {
		if i == 0 {
			why.Text = r.Sentence(d.Time)
		} else {
			why.More += r.Sentence(d.Time) + ". "
		}
	}
	return report.Row{{Text: d.Time.In(v.Zone).Format("Mon 2006-01-02 15:04:05")}, {Text: d.Headline()}, why}
}

// missing makes of a forecast's -1 a value that is not there.
func missing(v float64) float64 {
	if v < 0 {
		return math.NaN()
	}
	return v
}

// highest is the largest value of all series.
func highest(all []chart.Series) (top float64) {
	for _, s := range all {
		for _, p := range s.Points {
			if p.Y > top {
				top = p.Y
			}
		}
	}
	return top
}
