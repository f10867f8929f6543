package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
)

// purpose checks that a policy has one.
func (r *resolver) purpose(path string, s *policySpec) {
	rules, objective := r.written(path+".rules") || s.preset != nil, r.written(path+".objective") || r.written(path+".demand")
	var has []string
	for _, p := range []struct {
		name string
		is   bool
	}{{"rules", rules}, {"objective", objective}, {"forecast", r.written(path + ".forecast")}} {
		if p.is {
			has = append(has, p.name)
		}
	}
	switch {
	case len(has) == 0 && r.ok(path, path+".rules"):
		r.fail(path+".rules", "is missing", "write rules: with at least one entry, or objective: and demand:, or forecast:")
	case len(has) > 1:
		r.fail(path+"."+has[0], "stands beside "+has[1]+" in one policy", "give each a policy of its own, so that each can be switched to shadow by itself")
	case rules && len(s.Rules) == 0 && r.ok(path+".rules"):
		r.fail(path+".rules", "is empty", "write at least one rule, or delete the policy")
	case !objective && r.written(path+".workers"):
		r.fail(path+".workers", "means nothing without an objective", "delete it, or write objective: and demand:")
	}
}

// forecasts resolves the policies that look ahead, when all objectives are known that may size for them.
func (r *resolver) forecasts() {
	for i := range r.spec.Policies {
		if path := r.at("policies.%d", i); r.written(path + ".forecast") {
			r.out.Policies[i].Forecast = r.forecast(path+".forecast", &r.spec.Policies[i].Forecast)
		}
	}
}

func (r *resolver) forecast(path string, s *forecastSpec) *policy.Forecast {
	out := &policy.Forecast{Signal: r.counted(path+".signal", s.Signal, "{proxy: {field: rate}, period: 15s}"), PerWorker: s.PerWorker, Lead: s.Lead, MinWeeks: s.Weeks}
	r.between(path+".lead", s.Lead, r.tick, day)
	r.count(path+".weeks", s.Weeks, 8)
	by, per := s.SizedBy != "", s.PerWorker != 0
	switch {
	case by == per && r.ok(path):
		r.fail(path, "must be sized by an objective, or by what one worker carries", "write sized_by: and the id of an objective's policy, or per_worker: and a number, and not both")
	case per && r.ok(path+".per_worker") && !(s.PerWorker > 0):
		r.fail(path+".per_worker", fmt.Sprintf("%g is out of range", s.PerWorker), "write how much of the signal one worker carries, above 0")
	case by && r.ok(path+".sized_by"):
		var known []string
		out.SizedBy = -1
		for i, p := range r.out.Policies {
			if r.written(r.at("policies.%d.objective", i)) {
				known = append(known, p.ID)
			}
			if p.ID == s.SizedBy && p.SLO != nil {
				out.SizedBy = i
			}
		}
		fix := "write one of " + strings.Join(known, ", ")
		if len(known) == 0 {
			fix = "write a policy with objective: and demand: first, or per_worker: instead"
		}
		if out.SizedBy < 0 && !slices.Contains(known, s.SizedBy) { // else what is wrong with it has been said
			r.fail(path+".sized_by", fmt.Sprintf("%q is no policy with an objective", s.SizedBy), fix)
		}
		if out.SizedBy >= 0 && r.ok(path+".signal") && out.Signal != r.out.Policies[out.SizedBy].SLO.Rate {
			r.fail(path+".signal", fmt.Sprintf("%s is not the rate that %s is sized by", s.Signal, s.SizedBy), "write "+r.out.Signals[r.out.Policies[out.SizedBy].SLO.Rate].Name)
		}
	}
	if !r.ok(path) || out.SizedBy < 0 {
		return nil
	}
	return out
}

// objective resolves a service level; nil when there is none, or none that can be relied on.
func (r *resolver) objective(path string, s *policySpec) *policy.SLO {
	has := [2]bool{r.written(path + ".objective"), r.written(path + ".demand")}
	if !has[0] && !has[1] {
		return nil
	}
	for i, name := range []string{".objective", ".demand"} {
		if !has[i] && r.ok(path) {
			r.fail(path+name, "is missing", "write "+name[1:]+": "+[]string{"{signal: sync_p95, within: 400ms}", "{rate: rate, service_time: [service_p50, service_p95, service_p99]}"}[i])
		}
	}
	o, d, w := &s.Objective, &s.Demand, &s.Workers
	at := func(name string) string { return path + "." + name }
	r.between(at("objective.drain"), o.Drain, time.Second, time.Hour)
	r.between(at("objective.settle"), o.Settle, r.tick, day)
	r.between(at("workers.boot"), w.Boot, 0, time.Hour)
	r.law(path, w)
	out := &policy.SLO{
		Objective: r.latency(at("objective.signal"), o.Signal), Rate: r.counted(at("demand.rate"), d.Rate, "{proxy: {field: rate}, period: 15s}"), Busy: -1, Backlog: -1,
		Drain: o.Drain, Settle: o.Settle, Boot: w.Boot, Contention: w.Contention, Coherence: w.Coherence,
	}
	if r.ok(at("objective.within")) {
		within, err := parseLatency(string(o.Within))
		switch {
		case err != nil:
			r.failWith(at("objective.within"), err)
		case within <= 0:
			r.fail(at("objective.within"), "0s cannot be met", "write the longest response time that is good enough, such as 400ms")
		}
		out.Within = within
	}
	if d.Backlog != "" {
		out.Backlog = r.counted(at("demand.backlog"), d.Backlog, "{proxy: {field: queued}}")
	}
	switch busy := d.Busy != ""; {
	case busy == r.written(at("demand.service_time")) && r.ok(at("demand")):
		r.fail(at("demand"), "must say how long a request takes, in one way", "write service_time: [service_p50, service_p95, service_p99]; or, where that cannot be measured, busy: and a signal that counts busy workers")
	case busy:
		out.Busy = r.counted(at("demand.busy"), d.Busy, "{proxy: {field: in_flight}, period: 15s}")
		if d.Backlog == "" {
			r.warn(at("demand.busy"), "when all workers are busy, only what waits shows how many more are needed, and no backlog is measured", "write backlog: and a signal that counts requests that wait")
		}
	default:
		r.serviceTime(at("demand.service_time"), d.ServiceTime, out)
	}
	if out.Rate >= 0 && r.ok(at("demand.rate"), "tick") {
		if sig := r.out.Signals[out.Rate]; sig.Window > 2*r.tick {
			r.warn(at("demand.rate"), fmt.Sprintf("%s is an average over %s, so a surge is seen late", sig.Name, formatDuration(sig.Window)), "give it a period of "+formatDuration(r.tick))
		}
	}
	if !r.ok(path) {
		return nil
	}
	return out
}

// law checks the law of a shared database.
func (r *resolver) law(path string, w *workersSpec) {
	if r.ok(path+".workers.contention") && !(w.Contention >= 0 && w.Contention < 1) {
		r.fail(path+".workers.contention", fmt.Sprintf("%g is out of range", w.Contention), "write the share of the work that only one worker can do at a time, from 0 to less than 1")
	}
	if r.ok(path+".workers.coherence") && !(w.Coherence >= 0 && w.Coherence < 1) {
		r.fail(path+".workers.coherence", fmt.Sprintf("%g is out of range", w.Coherence), "write 0 to less than 1, such as 0.001")
	}
	if !r.ok(path+".workers", r.at("bounds")) {
		return
	}
	law := queueing.Law{Contention: w.Contention, Coherence: w.Coherence}
	if peak := law.Peak(); peak > 0 && peak < r.out.Bounds.Max {
		r.warn(path+".workers", fmt.Sprintf("by this law more than %d workers do less, so the objective never asks for more, and max is %d", peak, r.out.Bounds.Max), "lower bounds.max, or measure the law again")
	}
}

// latency finds a signal that is a quantile of a measured distribution of times.
func (r *resolver) latency(path, name string) int {
	if !r.ok(path) {
		return -1
	}
	i := r.signalIndex(path, name)
	if i < 0 || !r.ok(r.at("signals.%s", name)) {
		return -1
	}
	if sig := r.out.Signals[i]; sig.Unit != fleet.Seconds || sig.Statistic != policy.Quantile || !sig.FromSource {
		r.fail(path, name+" is no quantile of a distribution of times", "name a signal such as {proxy: {field: latency}, statistic: p95, window: 5m}")
		return -1
	}
	return i
}

// counted finds a signal that counts over the whole fleet.
func (r *resolver) counted(path, name, example string) int {
	if !r.ok(path) {
		return -1
	}
	i := r.signalIndex(path, name)
	if i < 0 || !r.ok(r.at("signals.%s", name)) {
		return -1
	}
	if sig := r.out.Signals[i]; sig.Unit != fleet.Number || sig.PerWorker {
		r.fail(path, name+" is no count over the whole fleet", "name a signal that is, such as "+example)
		return -1
	}
	return i
}

// serviceTime finds the signals that measure a service time, and puts them in rising order.
func (r *resolver) serviceTime(path string, names []string, out *policy.SLO) {
	if !r.ok(path) {
		return
	}
	for i, name := range names {
		if at := r.latency(fmt.Sprintf("%s.%d", path, i), name); at >= 0 {
			out.Service = append(out.Service, at)
		}
	}
	if !r.ok(path) {
		return
	}
	if len(out.Service) < 2 {
		r.fail(path, "one quantile does not make a distribution", "write at least two, such as [service_p50, service_p95, service_p99]")
		return
	}
	q := func(i int) float64 { return r.out.Signals[i].Q }
	slices.SortStableFunc(out.Service, func(a, b int) int { return int(100*q(a)) - int(100*q(b)) })
	for i := range out.Service[1:] {
		if a, b := out.Service[i], out.Service[i+1]; q(a) == q(b) {
			r.fail(path, fmt.Sprintf("%s and %s are the same quantile", r.out.Signals[a].Name, r.out.Signals[b].Name), "write different ones, such as p50, p95 and p99")
			return
		}
	}
}

// pace says whose steps, cooldowns and rate an objective keeps to.
type pace string

const (
	ownPace        pace = "own"        // none: it jumps by as many as it needs, counts those that start, and scales in to its need of the time to settle
	safeguardsPace pace = "safeguards" // those of the rules
)

func (p *pace) UnmarshalText(b []byte) error {
	i, err := oneOf("pace", string(b), []string{string(ownPace), string(safeguardsPace)})
	if err == nil {
		*p = []pace{ownPace, safeguardsPace}[i]
	}
	return err
}

// paces decides for the objectives that say nothing of it: what an operator wrote in safeguards holds for them too; what stands there because of the
// environment is for rules, which do not know how much is missing. Forecasts keep the pace of the objectives.
func (r *resolver) paces() {
	written := false
	for _, f := range []string{"cooldown.scale_up", "cooldown.scale_down", "step.up", "step.down", "max_scaling_rate"} {
		at := r.at("safeguards.%s", f)
		written = written || r.written(at) && r.given[at] == ""
	}
	for i := range r.spec.Policies {
		p := &r.spec.Policies[i].Objective
		at := r.at("policies.%d.objective", i)
		if !r.written(at) {
			continue
		}
		if !r.written(at + ".pace") {
			p.Pace = ownPace
			if written {
				p.Pace = safeguardsPace
			}
		}
		if p.Pace == ownPace {
			r.out.Modelled = &policy.Pace{}
		}
	}
}
