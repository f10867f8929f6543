package month

import (
	"context"
	"math"
	"slices"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres"
	"tidemark/internal/record"
)

// fleet reckons one fleet's month.
func (r *Report) fleet(ctx context.Context, j Journal, cfg *config.Config, f *config.Fleet, all []fleet.Event, boots []time.Time) (*Fleet, error) {
	out := &Fleet{Name: f.Name, Bounds: f.Policy.Bounds, Tags: f.Tags, Database: []DatabaseUse{}}
	points, err := j.Series(ctx, record.SeriesQuery{Fleet: f.Name, Signal: record.SizeSignal, Since: r.From, Until: r.Until, MaxPoints: mostPoints})
	if err != nil {
		return nil, err
	}
	g := newGrid(r.From, r.Until, stepOf(points))
	out.Step = fleet.Duration(g.step)
	read := func(signal string) []cell {
		if !slices.ContainsFunc(f.Policy.Signals, func(s policy.Signal) bool { return s.Name == signal }) || err != nil {
			return nil
		}
		var cells []cell
		cells, err = g.cells(ctx, j, f.Name, signal)
		return cells
	}
	size, err := g.cells(ctx, j, f.Name, record.SizeSignal)
	if err != nil {
		return nil, err
	}
	errors, cpu, api := read(cfg.Alerts.ErrorsSignal), read(cfg.Alerts.CPUSignal), read(cfg.Report.Levels.API.Signal)
	pages, sync := read(cfg.Report.Levels.Pages.Signal), read(cfg.Report.Levels.Sync.Signal)
	if err != nil {
		return nil, err
	}
	blind, err := lost(ctx, j, all, f.Name, cfg.Alerts.ErrorsSignal, r.From, r.Until)
	if err != nil {
		return nil, err
	}
	looked := coverage(size)
	s := g.watch(size, errors, blind, boots)
	out.Availability = g.availability(&s, cfg.Alerts.Availability, f.Name, errors != nil)
	_, known := g.hours(size, looked, g.from, g.until)
	reported := g.until.Sub(g.from)
	out.Coverage = Coverage{Reported: fleet.Duration(reported), Known: fleet.Duration(known), Unknown: fleet.Duration(reported - known), Off: fleet.Duration(sum(s.off))}
	for _, l := range []struct {
		name  string
		is    config.ServiceLevel
		cells []cell
	}{{"api", cfg.Report.Levels.API, api}, {"pages", cfg.Report.Levels.Pages, pages}, {"sync", cfg.Report.Levels.Sync, sync}} {
		level := Level{Name: l.name, Within: fleet.Duration(l.is.Within)}
		if l.cells != nil {
			level.Signal = l.is.Signal
		}
		out.Levels = append(out.Levels, g.level(level, l.cells, r.Zone))
	}
	out.Size = g.size(size, looked, out.Bounds)
	out.CPU = g.use(cfg.Alerts.CPUSignal, cpu, size)
	for _, sig := range f.Signals {
		body, ok := sig.Body.(*postgres.Config)
		if !ok || body.Field != "cache_hit_ratio" {
			continue
		}
		cells, err := g.cells(ctx, j, f.Name, sig.Name)
		if err != nil {
			return nil, err
		}
		if u := g.use(sig.Name, cells, nil); u != nil {
			out.Database = append(out.Database, DatabaseUse{Use: *u, Field: body.Field, Required: CacheHits, Least: true, Verdict: judge(u.Mean > CacheHits)})
		}
	}
	own := slices.DeleteFunc(slices.Clone(all), func(e fleet.Event) bool { return e.Fleet != f.Name })
	out.Scaling = g.scaling(own, &cfg.Alerts, cpu, api, cfg.Report.Levels.API.Within)
	list, err := decisions(ctx, j, f.Name, r.From, r.Until)
	if err != nil {
		return nil, err
	}
	out.Blocked, out.Short = g.blocked(list, looked, out.Bounds)
	out.Money = g.money(f.Budget, size, looked, r.To)
	out.Sizing = sizing(out)
	out.Days = r.days(&g, &s, size, looked, f.Budget.WorkerHour)
	out.Hours = r.hours(&g, size, cpu, api)
	return out, nil
}

// size sums the sizes up; nil when none is known.
func (g *grid) size(size []cell, looked []float64, bounds fleet.Bounds) *Size {
	s := Size{Min: math.MaxInt}
	hours, known := g.hours(size, looked, g.from, g.until)
	if known == 0 {
		return nil
	}
	s.Mean = hours / known.Hours()
	for i, c := range size {
		if c.n == 0 {
			continue
		}
		s.Min, s.Max = min(s.Min, int(c.min)), max(s.Max, int(c.max))
		d := fleet.Duration(looked[i] * float64(g.whole(i)))
		if int(c.min) >= bounds.Max {
			s.AtMaximum += d
		}
		if int(c.max) <= bounds.Min {
			s.AtMinimum += d
		}
	}
	return &s
}

// use sums a share up, by the workers that it is of where their number is given; nil when it was not measured.
func (g *grid) use(name string, cells, by []cell) *Use {
	u := Use{Signal: name}
	var total, weight float64
	var means []float64
	for i, c := range cells {
		d := g.whole(i)
		w := d.Hours()
		if by != nil {
			w *= by[i].mean
		}
		if c.n == 0 || math.IsNaN(w) || w == 0 {
			u.Unknown += fleet.Duration(d)
			continue
		}
		u.Known += fleet.Duration(d)
		total, weight = total+w*c.mean, weight+w
		means = append(means, c.mean)
	}
	if len(means) == 0 {
		return nil
	}
	slices.Sort(means)
	u.Mean, u.P95, u.Max = total/weight, means[min(int(0.95*float64(len(means))), len(means)-1)], means[len(means)-1]
	return &u
}

// days cuts the month into local days; one in which the clocks change has 23 or 25 hours.
func (r *Report) days(g *grid, s *seen, size []cell, looked []float64, price float64) []Day {
	out := []Day{}
	for from := r.From; from.Before(r.Until); {
		local := from.In(r.Zone)
		to := time.Date(local.Year(), local.Month(), local.Day()+1, 0, 0, 0, 0, r.Zone)
		if !to.After(from) { // midnight does not exist on the day that the clocks go forward at it
			to = from.Add(24 * time.Hour)
		}
		end := earlier(to, r.Until)
		d := Day{Date: local.Format(time.DateOnly), From: from, To: end}
		hours, known := g.hours(size, looked, from, end)
		d.WorkerHours, d.Known, d.Unknown = hours, fleet.Duration(known), fleet.Duration(end.Sub(from)-known)
		if price > 0 && known > 0 {
			d.Cost = number(hours * price)
		}
		var served, down float64
		for i := max(g.index(from), 0); i < g.n && g.at(i).Before(end); i++ {
			if whole := g.whole(i); whole > 0 {
				share := float64(g.weight(i, from, end)) / float64(whole)
				served, down = served+share*float64(s.served[i]), down+share*float64(s.down[i])
			}
		}
		if served+down > 0 {
			d.Availability = number(100 * served / (served + down))
		}
		out = append(out, d)
		from = to
	}
	return out
}

// hours are what charts show.
func (r *Report) hours(g *grid, size, cpu, api []cell) []Hour {
	out := []Hour{}
	fold := func(cells []cell, from, to int, worst bool) *float64 {
		var c cell
		for i := from; i < to && i < len(cells); i++ {
			c.add(record.Point{N: cells[i].n, Min: cells[i].min, Max: cells[i].max, Mean: cells[i].mean})
		}
		switch {
		case c.n == 0:
			return nil
		case worst:
			return number(c.max)
		}
		return number(c.mean)
	}
	each := int(coarse / g.step)
	for i := 0; i < g.n; i += each {
		out = append(out, Hour{later(g.at(i), r.From), fold(size, i, i+each, false), fold(cpu, i, i+each, false), fold(api, i, i+each, true)})
	}
	return out
}
