package foresight

import (
	"fmt"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/plan"
	"tidemark/internal/show/chart"
	"tidemark/internal/show/report"
	"tidemark/internal/show/text"
)

// Plan is the report of a plan: what is needed when, what it costs, and what all of it starts from.
func Plan(v text.View, p *plan.Plan) report.Page {
	page := report.Page{
		Title: "Capacity and cost of " + p.Name, Zone: v.Zone, Made: v.Now,
		Lead: "What so many users and so much growth will need. It is calculation alone: each figure that it starts from stands at the end, with where it comes from.",
		Facts: []report.Fact{
			{Name: "from", Value: text.Day(p.Start)}, {Name: "at the peak", Value: fmt.Sprintf("%.1f requests/s", p.Peak)}, {Name: "on average", Value: fmt.Sprintf("%.1f requests/s", p.Mean)},
			{Name: "growth", Value: fmt.Sprintf("%g %% (%g to %g) in %g years", p.Growth.Percent, p.Growth.Low, p.Growth.High, p.Growth.Years)},
		},
	}
	page.Sections = []report.Section{
		short(p), {Title: "What the busiest time needs", Blocks: needs(v, p)}, {Title: "When it is outgrown", Blocks: []report.Block{outgrown(p)}}, {Title: "Right-sizing", Blocks: sizing(p)},
		{Title: "What to reserve", Blocks: reserved(p)}, {Title: "What a month saves", Blocks: saved(p)}, {Title: "What a month costs", Blocks: costs(v, p)}, {Title: "What it starts from", Blocks: []report.Block{figures(p)}},
	}
	return page
}

// short is what counts most.
func short(p *plan.Plan) report.Section {
	first, last := p.Needs[0], p.Needs[len(p.Needs)-1]
	now := p.Costs[0]
	t := report.Tiles{
		{Value: fmt.Sprint(first.Workers), Name: "workers at the busiest time", More: fmt.Sprintf("%d on %s", last.Workers, text.Day(last.Date))},
		{Value: fmt.Sprintf("%.0f %s", now.Expected, p.Currency), Name: "in the first month", More: fmt.Sprintf("%.0f to %.0f", now.Low, now.High)},
	}
	limit := p.Limits[0]
	tone := report.Good
	if !limit.Outgrown.IsZero() && limit.Outgrown.Before(last.Date.Time) {
		tone = report.Warn
	}
	t = append(t, report.Tile{Value: text.Day(limit.Outgrown), Name: "outgrown first: " + limit.Resource, More: "at the earliest: " + text.Day(limit.Earliest), Tone: tone})
	s := report.Section{Blocks: []report.Block{t}}
	if p.Unattainable {
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Bad, Text: "The service alone takes longer than the objective: no number of workers cures that."})
	}
	if b := p.Budget; b != nil && !b.Expected.IsZero() {
		s.Blocks = append(s.Blocks, report.Note{Tone: report.Warn, Text: fmt.Sprintf("The budget of %.0f %s a month is exceeded from %s on.", b.Monthly, p.Currency, text.Day(b.Expected))})
	}
	return s
}

func needs(v text.View, p *plan.Plan) []report.Block {
	workers, instances := chart.Series{Name: "workers", Kind: chart.Step}, chart.Series{Name: "instances", Kind: chart.Step}
	t := report.Table{Columns: []report.Column{{Name: "from"}, {Name: "requests/s", Numeric: true}, {Name: "workers", Numeric: true}, {Name: "p95", Numeric: true}, {Name: "busy", Numeric: true}, {Name: "instances", Numeric: true},
		{Name: "workers' memory", Numeric: true}, {Name: "connections", Numeric: true}, {Name: "database", Numeric: true}, {Name: "disk", Numeric: true}}}
	for _, n := range p.Needs {
		at := chart.At(n.Date.Time)
		workers.Points = append(workers.Points, chart.Point{X: at, Y: float64(n.Workers)})
		instances.Points = append(instances.Points, chart.Point{X: at, Y: float64(n.Instances)})
		t.Rows = append(t.Rows, report.Row{
			{Text: text.Day(n.Date)}, {Text: fmt.Sprintf("%.1f", n.Rate)}, {Text: fmt.Sprint(n.Workers)}, {Text: fleet.Seconds.Format(n.P95)}, {Text: fmt.Sprintf("%.0f %%", n.Utilisation)}, {Text: fmt.Sprint(n.Instances)},
			{Text: text.GiB(n.Memory)}, {Text: fmt.Sprintf("%d at the server", n.Connections), More: fmt.Sprintf("%d clients, pool_size %d", n.Clients, n.Pool)}, {Text: fmt.Sprintf("%.2f vCPU", n.DBVCPUs), More: text.GiB(n.DBMemory)}, {Text: text.GiB(n.Disk)},
		})
	}
	c := &chart.Chart{Title: "Workers and instances at the busiest time", About: "As the load grows as expected.", X: chart.Axis{Scale: chart.Time, Zone: v.Zone}, Series: []chart.Series{workers, instances}}
	if len(p.Sizing.Options) == 0 { // one machine
		c.Title, c.Series = "Workers at the busiest time", c.Series[:1]
	}
	return []report.Block{c, t}
}

func outgrown(p *plan.Plan) report.Table {
	t := report.Table{Columns: []report.Column{{Name: "resource"}, {Name: "there is", Numeric: true}, {Name: "needed now", Numeric: true}, {Name: "needed at the end", Numeric: true}, {Name: "outgrown", Numeric: true}, {Name: "at the earliest", Numeric: true}, {Name: "then"}}}
	for _, l := range p.Limits {
		when := report.Cell{Text: text.Day(l.Outgrown)}
		if l.Ends > l.Have {
			when.Tone = report.Warn
		}
		t.Rows = append(t.Rows, report.Row{{Text: l.Resource}, {Text: fmt.Sprintf("%.4g %s", l.Have, l.Unit)}, {Text: fmt.Sprintf("%.3g", l.Needs)}, {Text: fmt.Sprintf("%.3g", l.Ends)}, when, {Text: text.Day(l.Earliest)}, {Text: l.Mend}})
	}
	return t
}

func sizing(p *plan.Plan) []report.Block {
	t := report.Table{Columns: []report.Column{{Name: "workers on an instance", Numeric: true}, {Name: "CPU on average", Numeric: true}, {Name: "of a fixed size", Numeric: true}, {Name: "at the peak", Numeric: true}, {Name: "instances on average", Numeric: true}, {Name: "at most", Numeric: true}}}
	for _, o := range p.Sizing.Options {
		row := report.Cells(fmt.Sprint(o.PerInstance), fmt.Sprintf("%.0f %%", o.Average), fmt.Sprintf("%.0f %%", o.Fixed), fmt.Sprintf("%.0f %%", o.Peak), fmt.Sprintf("%.1f", o.Instances), fmt.Sprint(o.Most))
		if o.PerInstance == p.Sizing.PerInstance {
			row[0].Tone, row[0].More = report.Good, "chosen"
		}
		t.Rows = append(t.Rows, row)
	}
	said := report.Text(fmt.Sprintf("As it is, %s. All on one machine would take %.0f vCPU.", p.Sizing.Text, p.Sizing.MachineVCPUs))
	if len(t.Rows) == 0 {
		return []report.Block{said}
	}
	return []report.Block{said, t}
}

func reserved(p *plan.Plan) []report.Block {
	t := report.Table{Empty: "The machine is paid for: there is nothing to reserve.", Columns: []report.Column{{Name: "term"}, {Name: "pays from", Numeric: true}, {Name: "instances", Numeric: true}, {Name: "saves a month", Numeric: true},
		{Name: "with the minimum alone", Numeric: true}, {Name: "database", Numeric: true}, {Name: "committed", Numeric: true}}}
	for _, r := range p.Reserve {
		t.Rows = append(t.Rows, report.Row{
			{Text: r.Name, More: fmt.Sprintf("%g %% off", r.Discount)}, {Text: fmt.Sprintf("%.0f %% of the time", r.BreakEven)}, {Text: fmt.Sprint(r.Instances), More: fmt.Sprintf("%d to %d by growth", r.Low, r.High)},
			{Text: fmt.Sprintf("%.2f", r.Saves)}, {Text: fmt.Sprintf("%.2f", r.Baseline)}, {Text: fmt.Sprintf("%.2f", r.Database)}, {Text: fmt.Sprintf("%.0f %s", r.Committed, p.Currency), More: fmt.Sprintf("%.0f upfront", r.Upfront)},
		})
	}
	if len(t.Rows) == 0 {
		return []report.Block{t}
	}
	return []report.Block{report.Text("An instance is worth its reservation when it runs more than the break-even share of the term."), t}
}

func saved(p *plan.Plan) []report.Block {
	t := report.Table{Columns: []report.Column{{Name: "what"}, {Name: "instance- or worker-hours", Numeric: true}, {Name: "vCPU-hours freed", Numeric: true}, {Name: "GB-hours freed", Numeric: true}, {Name: "cash saved", Numeric: true}}}
	for _, s := range p.Savings {
		t.Rows = append(t.Rows, report.Cells(s.What, fmt.Sprintf("%.0f", s.InstanceHours), fmt.Sprintf("%.0f", s.VCPUHours), fmt.Sprintf("%.0f", s.GBHours), fmt.Sprintf("%.2f %s", s.Cash, p.Currency)))
	}
	o := p.OffPeak
	return []report.Block{t, report.Text(fmt.Sprintf("Off-peak hours, %.0f a week with at most %d workers (%d needed): %s.", o.Hours, o.Ceiling, o.Needed, o.Sentence))}
}

func costs(v text.View, p *plan.Plan) []report.Block {
	band := chart.Band{Name: "low growth and prices to high ones"}
	expected, with := chart.Series{Name: "expected"}, chart.Series{Name: "with the best reservation"}
	t := report.Table{Columns: []report.Column{{Name: "month"}, {Name: "instances or workers", Numeric: true}, {Name: "expected", Numeric: true}, {Name: "low", Numeric: true}, {Name: "high", Numeric: true}, {Name: "with the best reservation", Numeric: true}}}
	for i, c := range p.Costs {
		at := chart.At(p.Start.AddDate(0, i, 0))
		band.Points = append(band.Points, chart.Range{X: at, Low: c.Low, High: c.High})
		expected.Points = append(expected.Points, chart.Point{X: at, Y: c.Expected})
		with.Points = append(with.Points, chart.Point{X: at, Y: c.Reserved})
		t.Rows = append(t.Rows, report.Cells(c.Month, fmt.Sprintf("%.1f", c.Instances), fmt.Sprintf("%.0f", c.Expected), fmt.Sprintf("%.0f", c.Low), fmt.Sprintf("%.0f", c.High), fmt.Sprintf("%.0f", c.Reserved)))
	}
	c := &chart.Chart{Title: "Cost of a month, " + p.Currency, About: "Expected, and from the low growth at the low prices to the high growth at the high ones.", X: chart.Axis{Scale: chart.Time, Zone: v.Zone}, Bands: []chart.Band{band}, Series: []chart.Series{expected, with}}
	if len(p.Reserve) == 0 {
		c.Series = c.Series[:1]
	}
	if p.Budget != nil {
		c.Thresholds = []chart.Threshold{{Name: "budget", Value: p.Budget.Monthly}}
	}
	return []report.Block{c, report.Details{Summary: "Each month", Blocks: []report.Block{t}}}
}

// tones of how well a figure is known.
var tones = map[plan.Kind]report.Tone{plan.Measured: report.Good, plan.Assumed: report.Warn}

func figures(p *plan.Plan) report.Table {
	t := report.Table{Columns: []report.Column{{Name: "figure"}, {Name: "value"}, {Name: "known"}, {Name: "from"}}}
	for _, f := range p.Figures {
		row := report.Cells(f.Name, f.Value, string(f.Kind), f.Source)
		row[2].Tone = tones[f.Kind]
		t.Rows = append(t.Rows, row)
	}
	return t
}
