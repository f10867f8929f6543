package plan

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/observe/proxystats"
	"tidemark/internal/record"
)

// Take takes the setting at a path from another input; flags use it.
func (in *Input) Take(path string, from *Input) {
	switch path {
	case "load.administrators":
		in.Load.Administrators = from.Load.Administrators
	case "load.visitors":
		in.Load.Visitors = from.Load.Visitors
	case "load.devices":
		in.Load.Devices = from.Load.Devices
	case "load.farmers":
		in.Load.Farmers = from.Load.Farmers
	case "load.peak":
		in.Load.Peak = from.Load.Peak
	case "growth.percent":
		p := from.Growth.Percent
		in.Growth.Percent, in.Growth.Low, in.Growth.High = p, min(in.Growth.Low, p/2), max(in.Growth.High, 1.5*p)
	case "years":
		in.Years = from.Years
	case "request.service_time":
		in.Request.CPU = min(in.Request.CPU, from.Request.Service)
		in.Request.Service = from.Request.Service
	case "request.cv":
		in.Request.CV = from.Request.CV
	case "prices.budget":
		in.Prices.Budget = from.Prices.Budget
	}
}

// Configured takes what a configuration says and the plan does not; it notes where from.
func (in *Input) Configured(cfg *config.Config, f *config.Fleet, given map[string]string) {
	if given["fleet.min"] == "" && given["fleet.max"] == "" {
		in.Fleet.Min, in.Fleet.Max = f.Policy.Bounds.Min, f.Policy.Bounds.Max
		given["fleet.max"] = "bounds of " + f.Name + " in " + cfg.File
	}
	if given["name"] == "" {
		in.Name = cfg.Instance.Name
	}
	if given["time_zone"] == "" {
		in.TimeZone = cfg.Instance.TimeZone
	}
	if given["objective.response_time_p95"] == "" && cfg.Instance.Targets.P95 > 0 {
		in.Objective.P95 = cfg.Instance.Targets.P95
		given["objective.response_time_p95"] = "performance_targets in " + cfg.File
	}
	if given["prices.budget"] == "" && f.Budget.Monthly > 0 && f.Budget.Currency == in.Prices.Currency {
		in.Prices.Budget = f.Budget.Monthly
		given["prices.budget"] = "budget of " + f.Name + " in " + cfg.File
	}
}

// Journal is where what was measured is read.
type Journal interface {
	Series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error)
}

// Measure takes from the journal what is not given: the peak, the service times, the CPU of a request and the memory of a worker, as
// far as the fleet has signals of them. A peak that was measured is that of the last day that was. measured says how, by path. The service is nil when its quantiles were not measured.
func (in *Input) Measure(ctx context.Context, j Journal, f *config.Fleet, given map[string]string, since time.Time) (service *queueing.Service, measured map[string]string, err error) {
	measured = map[string]string{}
	m := measuring{ctx: ctx, j: j, f: f, since: since}
	rate := m.find(func(b any) bool {
		switch b := b.(type) {
		case *proxystats.Config:
			return b.Field == "rate"
		case *accesslog.Config:
			return b.Field == "rate"
		}
		return false
	})
	said := func(path, signal string, n int) bool {
		if given[path] != "" {
			return false
		}
		measured[path] = fmt.Sprintf("%s of %s, %d points since %s", signal, f.Name, n, m.first.Format(time.DateOnly))
		return true
	}
	rates := m.series(rate)
	if peak, over := highest(rates); peak > 0 && said("load.peak", fmt.Sprintf("%s over %s", rate, over), len(rates)) {
		in.Load.Peak = peak
		if given["start"] == "" {
			in.Start = Date{Time: rates[len(rates)-1].Time.Truncate(24 * time.Hour)}
		}
	}
	if s, n := m.service(); s != nil && n > 0 && given["request.service_time"] == "" && given["request.cv"] == "" {
		said("request.service_time", "service_time", n)
		said("request.cv", "service_time", n)
		in.Request.Service, in.Request.CV = time.Duration(s.Mean()*1e9), math.Sqrt(s.SCV())
		in.Request.CPU = min(in.Request.CPU, in.Request.Service)
		service = s
	}
	sizes := byTime(m.series(record.SizeSignal))
	field := func(want string) string {
		return m.find(func(b any) bool { p, ok := b.(*procfs.Config); return ok && p.Field == want })
	}
	cpu := field("cpu")
	work, requests, n := 0.0, 0.0, 0
	perRate := byTime(rates)
	for _, p := range m.series(cpu) {
		size, r := sizes[p.Time.UnixNano()], perRate[p.Time.UnixNano()]
		if size > 0 && r > 0 {
			work, requests, n = work+p.Mean/100*size, requests+r, n+1
		}
	}
	if n > 0 && work > 0 && said("request.cpu", cpu+" x workers / "+rate, n) {
		in.Request.CPU = min(time.Duration(work/requests*1e9), in.Request.Service)
	}
	pss := field("memory_pss")
	most, n := 0.0, 0
	for _, p := range m.series(pss) {
		if size := sizes[p.Time.UnixNano()]; size > 0 {
			most, n = max(most, p.Mean/size), n+1
		}
	}
	if n > 0 && said("worker.memory", pss+" / workers, the highest", n) {
		in.Worker.Memory = int64(most)
	}
	return service, measured, m.err
}

type measuring struct {
	ctx   context.Context
	j     Journal
	f     *config.Fleet
	since time.Time
	first time.Time // of all points, the earliest
	err   error
}

func (m *measuring) find(is func(body any) bool) string {
	for _, s := range m.f.Signals {
		if is(s.Body) {
			return s.Name
		}
	}
	return ""
}

// series are the points that have a value.
func (m *measuring) series(signal string) []record.Point {
	if signal == "" || m.err != nil {
		return nil
	}
	points, err := m.j.Series(m.ctx, record.SeriesQuery{Fleet: m.f.Name, Signal: signal, Since: m.since, MaxPoints: 10_000})
	m.err = err
	points = slices.DeleteFunc(points, func(p record.Point) bool { return p.N == 0 || math.IsNaN(p.Mean) })
	if len(points) > 0 && (m.first.IsZero() || points[0].Time.Before(m.first)) {
		m.first = points[0].Time
	}
	return points
}

// service fits the service times to the medians, over the points, of the quantiles that are measured.
func (m *measuring) service() (*queueing.Service, int) {
	var points []queueing.Quantile
	least := math.MaxInt
	for i, s := range m.f.Signals {
		sig := m.f.Policy.Signals[i]
		if b, ok := s.Body.(*proxystats.Config); !ok || b.Field != "service_time" || sig.Statistic != policy.Quantile {
			continue
		}
		var values []float64
		for _, p := range m.series(s.Name) {
			values = append(values, p.Mean)
		}
		if len(values) == 0 {
			continue
		}
		slices.Sort(values)
		points = append(points, queueing.Quantile{Q: sig.Q, Time: values[len(values)/2]})
		least = min(least, len(values))
	}
	slices.SortFunc(points, func(a, b queueing.Quantile) int { return int(math.Copysign(1, a.Q-b.Q)) })
	var s queueing.Service
	if s.Fit(points); !s.Known() {
		return nil, 0
	}
	return &s, least
}

// highest is the 99.9th percentile of the points' means over stretches of five minutes, or of a twentieth of the whole where there is
// less than that: over moments, chance would make the peak.
func highest(points []record.Point) (peak float64, over time.Duration) {
	if len(points) == 0 {
		return 0, 0
	}
	whole := points[len(points)-1].Time.Sub(points[0].Time)
	over = max(min(5*time.Minute, (whole/20).Round(100*time.Millisecond)), 100*time.Millisecond)
	var values []float64
	for i := 0; i < len(points); {
		end, sum, n := points[i].Time.Add(over), 0.0, 0
		for ; i < len(points) && points[i].Time.Before(end); i++ {
			sum += points[i].Mean
			n++
		}
		values = append(values, sum/float64(n))
	}
	slices.Sort(values)
	return values[int(math.Ceil(0.999*float64(len(values))))-1], over
}

func byTime(points []record.Point) map[int64]float64 {
	out := map[int64]float64{}
	for _, p := range points {
		out[p.Time.UnixNano()] = p.Mean
	}
	return out
}
