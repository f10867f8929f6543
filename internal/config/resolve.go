package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

func (d *decoder) decodeRoot(root *yaml.Node, s *spec) {
	d.places[""] = place{key: mark{root.Line, root.Column}, value: mark{root.Line, root.Column}}
	d.decode("", root, reflect.ValueOf(s).Elem(), "")
}

// resolve fills in what depends on other settings, checks them against each other, and writes both back into s.
func (d *decoder) resolve(dir string, s *spec) *Config {
	d.instance(&s.Instance)
	d.settle(&s.Instance)
	if d.ok("state_dir") {
		s.StateDir = absolute(dir, s.StateDir)
	}
	if !d.written("socket") {
		s.Socket = filepath.Join(s.StateDir, "tidemark.sock")
	}
	s.Socket = absolute(dir, s.Socket)
	d.socket(s)
	d.between("tick", s.Tick, 100*time.Millisecond, 10*time.Minute)
	d.journal(&s.Journal, &s.Retention)
	d.lease(&s.Lease, &s.Journal)
	d.scalingPolicies(dir, &s.ScalingPolicies)
	d.retention(&s.Retention)
	d.listen(dir, s.StateDir, &s.Listen)
	d.push(dir, &s.Push)
	d.alerts(s)
	d.daemons(dir, s)
	d.keda(dir, s)

	cfg := &Config{
		Instance: s.Instance, Environment: string(s.Environment), StateDir: s.StateDir, Socket: s.Socket, Listen: s.Listen, text: d.text,
		Tick: s.Tick, Journal: s.Journal, Lease: s.Lease, Policies: s.ScalingPolicies, Retention: s.Retention, Push: s.Push, KEDA: s.KEDA, Notify: d.notify(s.Notify), Alerts: s.Alerts, Daemons: s.Daemons,
		spec: s, places: d.places, given: d.given, holidays: d.holidays,
	}
	switch {
	case len(s.Fleets) > 0 || s.ScalingPolicies.Wanted() || !d.ok("fleets"):
	case d.written("fleets"):
		d.fail("fleets", "names no fleet", "write an entry for each fleet, or there is nothing to do")
	case !d.failed[""]:
		d.fail("fleets", "is missing", "write fleets: with an entry for each fleet")
	}
	first := map[string]string{}
	for i := range s.Fleets {
		d.unique(first, fmt.Sprintf("fleets.%d.name", i), s.Fleets[i].Name, "fleet")
		cfg.Fleets = append(cfg.Fleets, d.fleet(s, i))
	}
	d.quota(s)
	d.monthly(s, cfg.Fleets)
	cfg.Report = s.Report
	return cfg
}

// fleet resolves fleet i.
func (d *decoder) fleet(s *spec, i int) Fleet {
	r := &resolver{
		decoder: d, path: fmt.Sprintf("fleets.%d", i), spec: &s.Fleets[i], tick: s.Tick, zone: s.Instance.Zone,
		watched: []string{s.Alerts.CPUSignal, s.Alerts.ErrorsSignal, s.Report.Levels.API.Signal, s.Report.Levels.Pages.Signal, s.Report.Levels.Sync.Signal},
	}
	r.environment(s.Environment)
	f := r.fleet(&s.Instance)
	r.unjudged(s)
	return f
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// between checks a duration against what makes sense for it.
func (d *decoder) between(path string, v, least, most time.Duration) {
	if d.ok(path) && (v < least || v > most) {
		d.fail(path, formatDuration(v)+" is out of range", fmt.Sprintf("write %s to %s", formatDuration(least), formatDuration(most)))
	}
}

// count checks a number of things, of which there is at least one.
func (d *decoder) count(path string, v, most int) {
	if d.ok(path) && (v < 1 || v > most) {
		d.fail(path, fmt.Sprintf("%d is out of range", v), fmt.Sprintf("write 1 to %d", most))
	}
}

// unique checks a name, and that it is there once; first remembers where.
func (d *decoder) unique(first map[string]string, path, name, what string) {
	if !d.ok(path) {
		return
	}
	if msg := unfitName(name); msg != "" {
		d.fail(path, msg, "use small letters, digits, - and _, and begin with a letter")
		return
	}
	if before, ok := first[name]; ok {
		d.fail(path, fmt.Sprintf("%q is the name of another %s, in line %d", name, what, d.locate(before).line), "choose another")
		return
	}
	first[name] = path
}

var goodName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

func unfitName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > 63:
		return fmt.Sprintf("has %d letters, and names have at most 63", len(name))
	case !goodName.MatchString(name):
		return fmt.Sprintf("%q cannot be a name", name)
	}
	return ""
}

// maxSocketPath is what Linux keeps of a socket's path, less the zero at its end.
const maxSocketPath = 107

func (d *decoder) socket(s *spec) {
	if len(s.Socket) <= maxSocketPath || !d.ok("socket", "state_dir") {
		return
	}
	at := "state_dir"
	if d.written("socket") {
		at = "socket"
	}
	d.fail(at, fmt.Sprintf("the path of the command socket, %s, has %d bytes, and the system allows %d", s.Socket, len(s.Socket), maxSocketPath), "write socket: /run/tidemark/tidemark.sock")
}

func (d *decoder) retention(r *Retention) {
	const century = 36500 * day
	d.between("retention.raw", r.Raw, time.Hour, century)
	d.between("retention.minutes", r.Minutes, time.Hour, century)
	d.between("retention.hours", r.Hours, time.Hour, century)
	d.between("retention.decisions", r.Decisions, day, century)
	if d.ok("retention.max_size") && r.MaxBytes < 16<<20 {
		d.fail("retention.max_size", formatBytes(r.MaxBytes)+" would not hold the records of one day", "write 16MiB or more")
	}
	if d.ok("retention") && (r.Raw > r.Minutes || r.Minutes > r.Hours) {
		d.fail("retention", fmt.Sprintf("coarser records are dropped before finer ones (raw %s, minutes %s, hours %s)", formatDuration(r.Raw), formatDuration(r.Minutes), formatDuration(r.Hours)), "write raw <= minutes <= hours")
	}
}

// resolver resolves one fleet.
type resolver struct {
	*decoder
	path string
	spec *fleetSpec
	tick time.Duration
	zone *time.Location
	out  policy.Fleet
	// watching are the signals of guards and budgets, by index
	watching []int
	// inputs are the signals that a derived one is computed from, by index
	inputs map[int][]int
	// watched are signals that alerts and the month's report use.
	watched []string
}

func (r *resolver) at(format string, args ...any) string {
	return r.path + "." + fmt.Sprintf(format, args...)
}

func (r *resolver) fleet(in *Instance) Fleet {
	s := r.spec
	r.out = policy.Fleet{Name: s.Name, Mode: fleet.Mode(s.Mode), Bounds: fleet.Bounds{Min: s.Bounds.Min, Max: s.Bounds.Max}}
	r.bounds()
	r.signals()
	r.policies()
	r.forecasts()
	r.safeguards()
	r.guards()
	r.supplies()
	r.schedule(in)
	r.crossCheck()
	r.windowBounds()
	r.hybrid(in)
	r.timeouts(in)

	f := Fleet{Name: s.Name, Target: s.Target.Adapter, Balancer: s.Balancer.Adapter, Front: s.Front.Adapter, Policy: r.out, Priority: s.ScalingPriority, Budget: r.budget(&s.Safeguards.Budget), Tags: maps.Clone(in.Tags)}
	if f.Tags == nil {
		f.Tags = map[string]string{}
	}
	maps.Copy(f.Tags, s.Tags)
	for _, sig := range s.Signals {
		f.Signals = append(f.Signals, Signal{sig.Name, sig.Source})
	}
	return f
}

const maxWorkers = 10_000

func (r *resolver) bounds() {
	b, least, most := r.spec.Bounds, r.at("bounds.min"), r.at("bounds.max")
	if r.ok(least) && b.Min < 1 {
		r.fail(least, fmt.Sprintf("%d is too few: nothing can be measured on a fleet without workers", b.Min), "write 1 or more; 2 if one may fail")
	}
	r.count(most, b.Max, maxWorkers)
	if !r.ok(least, most) {
		return
	}
	switch {
	case b.Min > b.Max:
		r.fail(least, fmt.Sprintf("%d is more than max, %d", b.Min, b.Max), fmt.Sprintf("write %d or less, or raise max", b.Max))
	case b.Min == b.Max:
		r.warn(r.at("bounds"), fmt.Sprintf("min and max are both %d, so the size never changes", b.Min), "write a max above min")
	}
}

func (r *resolver) signals() {
	first := map[string]string{}
	for i := range r.spec.Signals {
		s := &r.spec.Signals[i]
		path := r.at("signals.%s", s.Name)
		if r.ok(path) {
			r.unique(first, path, s.Name, "signal")
		}
		if r.ok(path) && s.Name == Workers {
			r.fail(path, "is what formulas call the number of workers that serve", "choose another name")
		}
		r.out.Signals = append(r.out.Signals, r.signal(path, s))
	}
	r.formulas()
}

// signal resolves a signal and refuses settings that its source would not heed.
func (r *resolver) signal(path string, s *signalSpec) policy.Signal {
	out := policy.Signal{
		Name: s.Name, Statistic: s.Statistic.kind, Q: float64(s.Statistic.quantile) / 100,
		Period: s.Period, Window: s.Period, MinSamples: 1, PerWorker: s.PerWorker, Optional: s.Optional,
	}
	if r.ok(path+".period", "tick") && s.Period < r.tick {
		r.fail(path+".period", fmt.Sprintf("%s is shorter than the tick, %s, so most periods would see nothing", formatDuration(s.Period), formatDuration(r.tick)), "write "+formatDuration(r.tick)+" or more, or shorten the tick")
	}
	r.between(path+".period", s.Period, 0, day)
	body, ok := s.Source.Body.(SignalBody)
	if !ok || !r.ok(path+"."+s.Source.Kind) {
		return out
	}
	out.Unit = body.Unit()
	if !r.written(path + ".per_worker") {
		out.PerWorker = body.PerWorker()
		s.PerWorker = out.PerWorker
		r.given[path+".per_worker"] = "default of " + s.Source.Kind
	}
	out.FromSource = body.Distribution()
	over, ok := s.Source.Body.(Windowed)
	if !out.FromSource && (!ok || !over.Windowed()) {
		r.noWindow(path, s)
		r.readings(path, s)
		s.Window, s.MinSamples = 0, 0 // there are none to show
		return out
	}
	if !r.written(path + ".window") {
		s.Window = s.Period
		r.given[path+".window"] = "default: the period"
	}
	r.window(path, s)
	if out.FromSource {
		r.distribution(path, s)
	} else {
		r.readings(path, s)
		if !r.written(path + ".min_samples") {
			s.MinSamples = 1
		}
		r.count(path+".min_samples", s.MinSamples, 1_000_000)
	}
	out.Window, out.MinSamples = s.Window, s.MinSamples
	return out
}

// noWindow refuses what a source would not heed.
func (r *resolver) noWindow(path string, s *signalSpec) {
	if r.written(path + ".window") {
		r.fail(path+".window", s.Source.Kind+" gives one value at each tick, and the statistic is over one period", "delete window, or lengthen period")
	}
	if r.written(path + ".min_samples") {
		r.fail(path+".min_samples", s.Source.Kind+" gives one value at each tick, and counts no samples", "delete min_samples")
	}
}

// readings checks the statistic of a signal whose source gives one number at each tick.
func (r *resolver) readings(path string, s *signalSpec) {
	if r.ok(path+".statistic", path+".period") && s.Statistic.kind == policy.Quantile && r.tick > 0 {
		if n := int(s.Period / r.tick); n*(100-s.Statistic.quantile) < 100 {
			r.warn(path+".statistic", fmt.Sprintf("a period has %d readings, and their p%d is simply the highest", n, s.Statistic.quantile), "write max")
		}
	}
}

// distribution checks a signal whose source keeps a window of single values.
func (r *resolver) distribution(path string, s *signalSpec) {
	if r.ok(path+".statistic") && s.Statistic.kind != policy.Quantile {
		msg := "is missing"
		if r.written(path + ".statistic") {
			name, _ := s.Statistic.MarshalText()
			msg = string(name) + " hides the slow ones"
		}
		r.fail(path+".statistic", msg, "write p95, or another of p50 to p99")
	}
	r.minSamples(path, s)
}

func (r *resolver) window(path string, s *signalSpec) {
	if !r.ok(path+".window", path+".period") {
		return
	}
	switch {
	case s.Window < s.Period:
		r.fail(path+".window", fmt.Sprintf("%s is shorter than the period, %s, so some would never be looked at", formatDuration(s.Window), formatDuration(s.Period)), "write "+formatDuration(s.Period)+" or more")
	case s.Window > day:
		r.between(path+".window", s.Window, s.Period, day)
	case s.Window%s.Period != 0:
		r.fail(path+".window", fmt.Sprintf("%s is not a whole number of periods of %s", formatDuration(s.Window), formatDuration(s.Period)), "write "+formatDuration((s.Window/s.Period+1)*s.Period))
	}
}

// minSamples: of fewer than 100/(100-q) values, p<q> is simply the highest.
func (r *resolver) minSamples(path string, s *signalSpec) {
	at, name := path+".min_samples", fmt.Sprintf("p%d", s.Statistic.quantile)
	if !r.ok(path + ".statistic") {
		return
	}
	enough := (99 - s.Statistic.quantile + 100) / (100 - s.Statistic.quantile)
	if !r.written(at) {
		s.MinSamples = enough
		r.given[at] = "default for " + name
		return
	}
	r.count(at, s.MinSamples, 1_000_000)
	if r.ok(at) && s.MinSamples < enough {
		r.warn(at, fmt.Sprintf("of %d samples, %s is simply the highest, so one slow request is an alarm", s.MinSamples, name), fmt.Sprintf("write %d or more", enough))
	}
}

func (r *resolver) policies() {
	first := map[string]string{}
	for i := range r.spec.Policies {
		s := &r.spec.Policies[i]
		path := r.at("policies.%d", i)
		r.unique(first, path+".id", s.ID, "policy")
		if r.ok(path+".mode") && fleet.Mode(s.Mode) == fleet.ScaleOutOnly {
			r.fail(path+".mode", "scale_out_only is a fleet's mode", "write on, shadow or off, and set the fleet's mode")
		}
		p := policy.Policy{ID: s.ID, Mode: fleet.Mode(s.Mode), SLO: r.objective(path, s)}
		r.purpose(path, s)
		if r.suits(path, s) {
			for j := range s.Rules {
				p.Rules = append(p.Rules, r.rule(fmt.Sprintf("%s.rules.%d", path, j), &s.Rules[j]))
			}
		}
		r.out.Policies = append(r.out.Policies, p)
	}
}

func (r *resolver) rule(path string, s *ruleSpec) policy.Rule {
	out := policy.Rule{
		Signal: -1, Operator: fleet.Operator(s.Operator), Change: s.ScaleChange,
		N: s.EvaluationPeriods, M: s.DatapointsToAlarm, Missing: policy.Missing(s.MissingData),
	}
	if r.ok(path + ".signal") {
		out.Signal = r.signalIndex(path+".signal", s.Signal)
	}
	if r.ok(path+".scale_change") && s.ScaleChange == 0 {
		r.fail(path+".scale_change", "0 changes nothing", "write +1 to add a worker, -1 to remove one")
	}
	r.periods(path, s)
	out.M = s.DatapointsToAlarm
	r.harm(path, s, out)
	if out.Signal >= 0 {
		r.threshold(path+".threshold", string(s.Threshold), &out)
	}
	return out
}

// periods checks evaluation_periods (N) and datapoints_to_alarm (M).
func (r *resolver) periods(path string, s *ruleSpec) {
	n, m := path+".evaluation_periods", path+".datapoints_to_alarm"
	if !r.written(m) && r.given[m] == "" {
		s.DatapointsToAlarm = s.EvaluationPeriods
		r.given[m] = "default: evaluation_periods"
	}
	r.count(n, s.EvaluationPeriods, 1440)
	if r.ok(m) && r.written(m) && s.DatapointsToAlarm < 1 {
		r.fail(m, fmt.Sprintf("%d is out of range", s.DatapointsToAlarm), "write 1 or more")
	}
	if !r.ok(n, m) || s.DatapointsToAlarm <= s.EvaluationPeriods {
		return
	}
	by := ""
	if !r.written(n) {
		by = ", the default"
	}
	r.fail(m, fmt.Sprintf("%d is more than evaluation_periods, %d%s, so there is never an alarm", s.DatapointsToAlarm, s.EvaluationPeriods, by), fmt.Sprintf("write %d or less, or raise evaluation_periods", s.EvaluationPeriods))
}

func (r *resolver) signalIndex(path, name string) int {
	var known []string
	for i, s := range r.out.Signals {
		if s.Name == name {
			return i
		}
		known = append(known, s.Name)
	}
	switch near := nearest(name, known); {
	case r.failed[r.at("signals")]: // one mistake, one message
	case len(known) == 0:
		r.fail(path, fmt.Sprintf("%q is no signal of this fleet, which has none", name), "write it under signals")
	case near != "":
		r.fail(path, fmt.Sprintf("%q is no signal of this fleet", name), "did you mean "+near+"?")
	default:
		r.fail(path, fmt.Sprintf("%q is no signal of this fleet", name), "write one of "+strings.Join(known, ", ")+", or add it under signals")
	}
	return -1
}

// threshold reads a threshold in its signal's unit.
func (r *resolver) threshold(path, s string, out *policy.Rule) {
	sig := r.spec.Signals[out.Signal]
	if !r.ok(path) || sig.Source.Kind == "" || !r.ok(r.at("signals.%s.%s", sig.Name, sig.Source.Kind)) {
		return
	}
	var err error
	switch unit := r.out.Signals[out.Signal].Unit; unit {
	case fleet.Number:
		out.Threshold, err = parseNumber(s)
	case fleet.Percent:
		out.Threshold, err = r.percentage(path, s, sig.PerWorker)
		if err == nil && out.Threshold > 0 && out.Threshold < 1 && !strings.HasSuffix(s, "%") {
			r.warn(path, s+" is less than one percent", fmt.Sprintf("write %.4g if %.4g %% is meant", out.Threshold*100, out.Threshold*100))
		}
	case fleet.Seconds:
		out.Threshold, err = parseLatency(s)
	case fleet.Bytes:
		var n int64
		n, err = parseBytes(s)
		out.Threshold = float64(n)
	default:
		err = wrong("", "%s is measured in %s, and no threshold can be written for that", sig.Name, unit)
	}
	if err != nil {
		r.failWith(path, err)
	}
}

// parseLatency reads a duration in seconds; of a bare number it guesses the unit.
func parseLatency(s string) (float64, error) {
	bare := "s"
	if f, _ := parseNumber(s); f >= 20 {
		bare = "ms"
	}
	t, err := parseDuration(s, bare)
	return t.Seconds(), err
}

// percentage reads a share, or the CPU of a worker, which with several threads may be more than one core's.
func (r *resolver) percentage(path, s string, perWorker bool) (float64, error) {
	if !perWorker {
		return parsePercent(s)
	}
	f, err := parseRatio(s)
	switch {
	case err != nil:
		return 0, err
	case f < 0:
		return 0, wrong("write 0% or more", "%s is negative", s)
	case f > 100:
		r.warn(path, fleet.Percent.Format(f)+" is more than one core, which only workers of several threads reach", "write 100% or less if they have one")
	}
	return f, nil
}

func (r *resolver) safeguards() {
	s := &r.spec.Safeguards
	r.between(r.at("safeguards.cooldown.scale_up"), s.Cooldown.ScaleUp, 0, day)
	r.between(r.at("safeguards.cooldown.scale_down"), s.Cooldown.ScaleDown, 0, day)
	r.count(r.at("safeguards.step.up"), s.Step.Up, maxWorkers)
	r.count(r.at("safeguards.step.down"), s.Step.Down, maxWorkers)
	r.between(r.at("safeguards.action_timeout"), s.ActionTimeout, max(r.tick, time.Second), time.Hour)
	r.out.Safeguards = policy.Safeguards{
		Pace: policy.Pace{CooldownUp: s.Cooldown.ScaleUp, CooldownDown: s.Cooldown.ScaleDown, StepUp: s.Step.Up, StepDown: s.Step.Down,
			RateCount: s.MaxScalingRate.count, RateWindow: s.MaxScalingRate.window}, ActionLimit: s.ActionTimeout,
	}
	r.paces()
	for i := range s.Freeze {
		r.freeze(r.at("safeguards.freeze.%d", i), &s.Freeze[i])
	}
}

func (r *resolver) freeze(path string, s *freezeSpec) {
	if r.ok(path+".name") && strings.TrimSpace(s.Name) == "" {
		r.fail(path+".name", "is empty", "say what it is for")
	}
	if r.zone == nil {
		return
	}
	from, to := r.instant(path+".from", string(s.From)), r.instant(path+".to", string(s.To))
	if !r.ok(path+".from", path+".to") {
		return
	}
	if !to.After(from) {
		r.fail(path+".to", fmt.Sprintf("%s is not after from, %s", s.To, s.From), "swap them, or correct the date")
		return
	}
	s.From, s.To = literal(from.Format(time.RFC3339)), literal(to.Format(time.RFC3339))
	r.out.Freezes = append(r.out.Freezes, policy.Freeze{Name: s.Name, From: from, To: to})
}
