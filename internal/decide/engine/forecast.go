package engine

import (
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/decide/forecast"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
)

// ForecastState is what a forecast's policy remembers. What it learned of the weeks before is no part of it: the journal has
// that, and Input.Outlook brings it.
type ForecastState struct {
	Key   string        `json:"key"`
	Band  forecast.Band `json:"band"`            // of this tick
	Need  int           `json:"need"`            // within the bounds; 0: nothing is known
	Asked time.Time     `json:"asked,omitzero"`  // since when it has needed more than there are
	Doubt string        `json:"doubt,omitempty"` // why nothing is known
}

func (s *State) fitForecasts(p *policy.Fleet) {
	var out []ForecastState
	for i := range p.Policies {
		pol := &p.Policies[i]
		if pol.Forecast == nil {
			continue
		}
		now := ForecastState{Key: fmt.Sprintf("%s/%s", pol.ID, p.Signals[pol.Forecast.Signal].Name)}
		if i := slices.IndexFunc(s.Forecasts, func(old ForecastState) bool { return old.Key == now.Key }); i >= 0 {
			now = s.Forecasts[i]
		}
		out = append(out, now)
	}
	s.Forecasts = out
}

// eachForecast visits the forecasts in the order of their states.
func (s *State) eachForecast(p *policy.Fleet, visit func(*policy.Policy, *ForecastState)) {
	at := 0
	for i := range p.Policies {
		if p.Policies[i].Forecast != nil {
			visit(&p.Policies[i], &s.Forecasts[at])
			at++
		}
	}
}

// foresee sizes the fleet for what is expected. The objectives' service times have been measured by then.
func (s *State) foresee(p *policy.Fleet, in *Input) {
	at := 0
	for i := range p.Policies {
		f := p.Policies[i].Forecast
		if f == nil {
			continue
		}
		m := &s.Forecasts[at]
		m.Band, m.Need, m.Doubt = forecast.Band{}, 0, ""
		if at < len(in.Outlook) {
			m.Band = in.Outlook[at]
		}
		at++
		if !m.Band.Known {
			m.Doubt = "this time of the week was not seen often enough"
		} else {
			m.Need, m.Doubt = s.carry(p, f, &m.Band)
		}
		switch {
		case m.Need == 0 || in.Size.Known && m.Need <= in.Size.Workers():
			m.Asked = time.Time{}
		case m.Asked.IsZero():
			m.Asked = in.Now
		}
	}
}

// carry is how many workers the upper end of a band needs; 0 and why when that is not known.
func (s *State) carry(p *policy.Fleet, f *policy.Forecast, b *forecast.Band) (need int, doubt string) {
	if f.PerWorker > 0 {
		return p.Bounds.Clamp(int(math.Ceil(min(b.High/f.PerWorker, float64(p.Bounds.Max))))), ""
	}
	slo, m := p.Policies[f.SizedBy].SLO, s.slo(p, f.SizedBy)
	o := queueing.Objective{
		Quantile: p.Signals[slo.Objective].Q, Within: slo.Within, Drain: slo.Drain.Seconds(), Bounds: p.Bounds,
		Law: queueing.Law{Contention: slo.Contention, Coherence: slo.Coherence},
	}
	l := queueing.Load{Rate: b.Median * m.Factor, RateHigh: b.High * m.Factor, Arrivals: max(m.Bursts, 1), Service: &m.service, Backlog: math.NaN(), Wait: math.NaN()}
	a := o.Need(&l)
	if !a.Known() {
		return 0, a.Unknown.String()
	}
	return a.Size, ""
}

// slo is the state of the objective of policy i.
func (s *State) slo(p *policy.Fleet, i int) *SLOState {
	at := 0
	for _, pol := range p.Policies[:i] {
		if pol.SLO != nil {
			at++
		}
	}
	return &s.SLOs[at]
}

// forecasts hears the policies that look ahead. They add, and keep what they would add again; they remove nothing.
func (c *chain) forecasts(out, in int, anyIn bool) (int, int) {
	c.s.eachForecast(c.p, func(pol *policy.Policy, m *ForecastState) {
		if pol.Mode == fleet.Off || m.Need == 0 {
			return
		}
		reason := c.outlook(pol, m)
		reason.Size = m.Need
		switch {
		case pol.Mode == fleet.Shadow && m.Need > c.from:
			reason.Code = fleet.ForecastShadow
		case pol.Mode == fleet.Shadow:
			return
		case m.Need > c.from:
			reason.Code = fleet.ForecastOut
			if m.Need > out {
				out, c.breach, c.alarm, c.modelled = m.Need, m.Asked, m.Asked, true
			}
		default:
			if anyIn {
				in = max(in, m.Need)
			}
			return
		}
		c.add(reason)
	})
	return out, in
}

// foreseen lists the forecasts that need all the workers there are, and reports whether there are none.
func (c *chain) foreseen() bool {
	agreed := true
	c.s.eachForecast(c.p, func(pol *policy.Policy, m *ForecastState) {
		if pol.Mode == fleet.Off || pol.Mode == fleet.Shadow || m.Need != c.from || c.from <= c.p.Bounds.Min {
			return
		}
		reason := c.outlook(pol, m)
		reason.Code, reason.Size, reason.Limit = fleet.ForecastNeeds, c.from, m.Need
		c.add(reason)
		agreed = false
	})
	return agreed
}

func (c *chain) outlook(pol *policy.Policy, m *ForecastState) fleet.Reason {
	sig := &c.p.Signals[pol.Forecast.Signal]
	return fleet.Reason{Policy: pol.ID, Signal: sig.Name, Unit: sig.Unit, Model: fleet.Model{
		Rate: m.Band.High, Expected: m.Band.Median, Low: m.Band.Low, Weeks: m.Band.Weeks, Ahead: pol.Forecast.Lead.Seconds(),
	}}
}
