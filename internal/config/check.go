package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// crossCheck looks for settings that are legal one by one and do not work together.
func (r *resolver) crossCheck() {
	for i := range r.out.Policies {
		for j := range r.out.Policies[i].Rules {
			r.pace(i, j)
		}
	}
	for i := range r.out.Signals {
		r.opposites(i)
	}
	r.balancing()
	r.reach()
	r.uses()
}

// balancing knows which targets need a balancer: Tidemark's own copies have an address each; the workers of a prefork
// master share one socket.
func (r *resolver) balancing() {
	if !r.ok(r.at("target"), r.at("balancer")) {
		return
	}
	target, balancer := r.spec.Target.Kind, r.spec.Balancer.Kind
	for _, s := range r.spec.Signals {
		if kind := s.Source.Kind; slices.Contains([]string{"proxy", "haproxy"}, kind) && balancer != kind {
			r.fail(r.at("signals.%s.%s", s.Name, kind), "this fleet has no "+kind+" that could be asked", "add balancer: {"+kind+": {...}}, or take the signal from another source")
		}
	}
	switch {
	case target == "prefork" && balancer != "":
		r.warn(r.at("balancer"), "the workers of a prefork master share one socket, so there is nothing to balance", "delete balancer")
	case target == "process" && balancer == "":
		r.warn(r.at("target.process"), "each copy has an address of its own, and no balancer sends requests to them", "add a balancer: "+strings.Join(slices.Sorted(maps.Keys(r.cat.Balancers)), " or "))
	}
}

// reach warns when the way from min to max is long. A sync burst is over in minutes.
func (r *resolver) reach() {
	const patience = 15 * time.Minute
	s := r.out.Safeguards
	if !r.ok(r.at("bounds"), r.at("safeguards"), r.at("policies")) || s.StepUp < 1 || s.RateCount < 1 {
		return
	}
	most := 0
	for _, p := range r.out.Policies {
		if p.SLO != nil || p.Forecast != nil {
			most = s.StepUp // as many as it needs
		}
		for _, rule := range p.Rules {
			most = max(most, rule.Change)
		}
	}
	least := r.out.Bounds.Min // or what a schedule has there before the load
	if r.out.Schedule != nil {
		for _, w := range r.out.Schedule.Windows {
			least = max(least, w.Floor)
		}
	}
	if took, why := r.climb(least, r.out.Bounds.Max, min(s.StepUp, most)); took > patience {
		at := r.at("safeguards.max_scaling_rate")
		if strings.Contains(why, "cooldown") {
			at = r.at("safeguards.cooldown.scale_up")
		}
		r.warn(at, fmt.Sprintf("from %d to %d workers takes at least %s, %s", least, r.out.Bounds.Max, fleet.Elapsed(took), why),
			"raise bounds.min or safeguards.step.up if load rises faster, or have a floor there before it by schedule")
	}
}

// uses warns of policies and signals that have no effect.
func (r *resolver) uses() {
	if !r.ok(r.at("policies"), r.at("signals"), r.at("name")) {
		return
	}
	used := map[int]bool{}
	for _, i := range r.watching {
		used[i] = true
	}
	for _, inputs := range r.inputs {
		for _, i := range inputs {
			used[i] = true
		}
	}
	grows, shrinks := false, false
	for i, p := range r.out.Policies {
		out, in := 0, 0
		for _, rule := range p.Rules {
			used[rule.Signal] = true
			if rule.Out() {
				out++
			} else {
				in++
			}
		}
		grows, shrinks = grows || out > 0 || p.SLO != nil || p.Forecast != nil, shrinks || in > 0 || p.SLO != nil
		if slo := p.SLO; slo != nil {
			for _, i := range slo.Signals() {
				used[i] = true
			}
		}
		if p.Forecast != nil {
			used[p.Forecast.Signal] = true
		}
		if out == 0 && in > 0 {
			r.warn(r.at("policies.%d.rules", i), fmt.Sprintf("%s has no scale-out rule, so it only ever removes workers", p.ID), "add a rule with scale_change: +1")
		}
	}
	switch {
	case len(r.out.Policies) == 0:
		r.warn(r.path, r.spec.Name+" has no policies, so only an operator changes its size", "write policies, each with rules or an objective")
	case grows && !shrinks:
		r.warn(r.at("policies"), "no rule removes workers, so the fleet grows and never shrinks", "add a rule with scale_change: -1")
	}
	for i, s := range r.out.Signals {
		if !used[i] && len(r.out.Policies) > 0 && !slices.Contains(r.watched, s.Name) {
			r.warn(r.at("signals.%s", s.Name), "is read and recorded, and no policy uses it", "add a rule, or delete the signal")
		}
	}
}

// pace checks one rule against the time that it needs and the step that it is allowed.
func (r *resolver) pace(i, j int) {
	const kpi = 5 * time.Minute // from breach to a new worker serving
	path := r.at("policies.%d.rules.%d", i, j)
	rule := r.out.Policies[i].Rules[j]
	if !r.ok(path) || rule.Signal < 0 {
		return
	}
	sig := r.out.Signals[rule.Signal]
	if r.ok(r.at("signals.%s.period", sig.Name)) {
		if long := time.Duration(rule.N) * sig.Period; long > day {
			r.fail(path+".evaluation_periods", fmt.Sprintf("%d periods of %s are longer than a day", rule.N, formatDuration(sig.Period)), fmt.Sprintf("write %d or less", day/sig.Period))
		} else if slow := time.Duration(rule.M) * sig.Period; rule.Out() && slow >= kpi {
			r.warn(path+".datapoints_to_alarm", fmt.Sprintf("%d periods of %s pass before this scales out, and a new worker should serve within %s", rule.M, formatDuration(sig.Period), formatDuration(kpi)), "lower datapoints_to_alarm, or shorten the period of "+sig.Name)
		}
	}
	if !r.ok(r.at("safeguards.step")) {
		return
	}
	if rule.Change > r.out.StepUp {
		r.warn(path+".scale_change", fmt.Sprintf("+%d is cut to safeguards.step.up, %d", rule.Change, r.out.StepUp), "raise the step, or lower the change")
	}
	if -rule.Change > r.out.StepDown {
		r.warn(path+".scale_change", fmt.Sprintf("%d is cut to safeguards.step.down, %d", rule.Change, r.out.StepDown), "raise the step, or lower the change")
	}
	if w := r.out.CooldownUp; rule.Out() && sig.FromSource && r.ok(r.at("signals.%s", sig.Name), r.at("safeguards.cooldown")) && w < sig.Window {
		r.warn(r.at("safeguards.cooldown.scale_up"), fmt.Sprintf("%s is shorter than the window of %s, %s: after a scale-up the slow requests before it still count", formatDuration(w), sig.Name, formatDuration(sig.Window)), "write "+formatDuration(sig.Window)+" or more, or shorten the window")
	}
}

// placed is a rule and where it stands.
type placed struct {
	policy.Rule
	path string
}

// upwards reports whether the rule looks for high values.
func (p placed) upwards() bool { return p.Operator == fleet.AtLeast || p.Operator == fleet.Above }

// opposites checks the rules of signal i against each other: which way they look, and how far apart they are.
func (r *resolver) opposites(i int) {
	sig := r.out.Signals[i]
	if !r.ok(r.at("signals.%s", sig.Name)) {
		return
	}
	var out, in []placed
	for p := range r.out.Policies {
		for j, rule := range r.out.Policies[p].Rules {
			path := r.at("policies.%d.rules.%d", p, j)
			switch {
			case rule.Signal != i || !r.ok(path) || r.out.Policies[p].Mode == fleet.Off:
			case rule.Out():
				out = append(out, placed{rule, path})
			default:
				in = append(in, placed{rule, path})
			}
		}
	}
	for _, p := range slices.Concat(out, in) {
		r.direction(sig, p, len(out) > 0 && len(in) > 0)
	}
	for _, down := range in {
		for _, up := range out {
			r.gap(sig, up, down)
		}
	}
}

// direction checks the sign of a change against its operator. A value per worker rises with load, always. A total may as well
// be one of idle things; then both its rules are the other way round.
func (r *resolver) direction(sig policy.Signal, p placed, both bool) {
	if p.upwards() == p.Out() {
		return
	}
	load := "falls"
	if p.upwards() {
		load = "rises"
	}
	change := "would shrink"
	other := map[fleet.Operator]string{fleet.AtLeast: "<=", fleet.Above: "<", fleet.AtMost: ">=", fleet.Below: ">"}[p.Operator]
	if p.Out() {
		change = "would grow"
	}
	msg := fmt.Sprintf("%+d with %s %s the fleet as %s %s", p.Change, p.Operator, change, sig.Name, load)
	fix := fmt.Sprintf("write scale_change: %+d, or operator: %q", -p.Change, other)
	if r.dependency(p.Signal) != "" { // it must not scale out
		fix = fmt.Sprintf("write operator: %q", other)
	}
	switch {
	case sig.PerWorker:
		r.fail(p.path+".scale_change", msg, fix)
	case !both:
		r.warn(p.path+".scale_change", msg, fix+", unless it counts idle things")
	}
}

// gap checks that a scale-in rule is far enough from a scale-out rule of the same signal.
func (r *resolver) gap(sig policy.Signal, up, down placed) {
	if !r.ok(up.path, down.path) {
		return
	}
	at, f := down.path+".threshold", sig.Unit.Format
	upAt, downAt := f(up.Threshold), f(down.Threshold)
	if up.upwards() == down.upwards() {
		r.fail(down.path+".operator", fmt.Sprintf("%s scales in on the same side as the rule in line %d scales out", sig.Name, r.locate(up.path).line), "turn one of the operators round")
		return
	}
	low, high := down.Threshold, up.Threshold
	if !up.upwards() {
		low, high = high, low
	}
	if low >= high {
		side := "below"
		if !up.upwards() {
			side = "above"
		}
		r.fail(at, fmt.Sprintf("%s scales in at %s and out at %s (line %d), so both rules hold at once", sig.Name, downAt, upAt, r.locate(up.path+".threshold").line), "write a threshold well "+side+" "+upAt)
		return
	}
	least := r.out.Bounds.Min
	if !sig.PerWorker || !up.upwards() || least < 1 || !r.ok(r.at("bounds")) {
		return
	}
	most := up.Threshold * float64(least) / float64(least+1)
	if down.Threshold >= most {
		r.warn(at, fmt.Sprintf("%d workers at %s make %d at %s, which scales out again (%s %s)", least+1, downAt, least, f(down.Threshold*float64(least+1)/float64(least)), up.Operator, upAt),
			"write less than "+f(roundDown(most)))
	}
}

// roundDown keeps two significant digits.
func roundDown(v float64) float64 {
	if v <= 0 {
		return v
	}
	unit := math.Pow(10, math.Floor(math.Log10(v))-1)
	return math.Floor(v/unit+1e-9) * unit
}
