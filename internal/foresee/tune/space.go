package tune

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/sim"
)

// dimension is one setting, and the values that are tried for it, in rising order.
type dimension struct {
	config.Setting
	values []float64
	now    int // index of the operator's own
}

// What is tried: besides, the operator's own value always is.
var (
	percents = steps(5, 95, 5)
	ratios   = []float64{0.25, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2, 3}
	counts   = []float64{1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30}
	pauses   = []float64{0, 15, 30, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1200, 1800} // seconds
	windows  = []float64{30, 60, 90, 120, 180, 300, 600, 900}
	drains   = []float64{10, 15, 20, 30, 45, 60, 90, 120, 180, 300}
	settles  = []float64{60, 120, 180, 300, 420, 600, 900, 1200, 1800, 2700, 3600}
	periods  = []float64{15, 30, 60, 120, 300}
	within   = []float64{0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1, 1.1, 1.25} // of the objective
)

func steps(from, to, by float64) (out []float64) {
	for v := from; v <= to; v += by {
		out = append(out, v)
	}
	return out
}

// times multiplies, and rounds to two significant digits; what is whole stays whole.
func times(by []float64, v float64) (out []float64) {
	for _, f := range by {
		x := v * f
		unit := math.Pow(10, math.Floor(math.Log10(x))-1)
		x = math.Round(x/unit) * unit
		if v == math.Trunc(v) && v >= 1 {
			x = max(math.Round(x), 1)
		}
		out = append(out, math.Round(x*1e6)/1e6)
	}
	return out
}

// dimensions are the settings of the file that do something in the simulator. Modes are as the fleet's copy has them.
func (st *Study) dimensions(cfg *config.Config, f *config.Fleet) ([]dimension, error) {
	p := &f.Policy
	probes, _ := foresee.Probes(f, st.Loads[0].Work)
	read := func(signal int) bool { return probes[signal].Reads != sim.Constant }
	used := map[int]bool{} // signals
	paced := false         // something keeps to the safeguards' pace
	for _, pol := range p.Policies {
		if pol.Mode != fleet.On {
			continue
		}
		for _, r := range pol.Rules {
			if read(r.Signal) {
				used[r.Signal], paced = true, true
			}
		}
		if pol.SLO != nil {
			paced = paced || p.Modelled == nil
			for _, i := range pol.SLO.Signals() {
				used[i] = true
			}
		}
	}
	room := float64(p.Bounds.Max - p.Bounds.Min)
	var out []dimension
	for _, s := range cfg.Settings(f.Name) {
		switch {
		case s.Policy >= 0 && p.Policies[s.Policy].Mode != fleet.On, s.Rule >= 0 && !read(p.Policies[s.Policy].Rules[s.Rule].Signal), s.Kind == config.Period && !used[s.Signal],
			s.Policy < 0 && s.Kind != config.Period && !paced:
			continue
		}
		d := dimension{Setting: s, values: st.grid(&s, room)}
		if s.Kind == config.Period {
			d.values = slices.DeleteFunc(d.values, func(v float64) bool { return v < cfg.Tick.Seconds() })
		}
		if !slices.Contains(d.values, s.Value) {
			d.values = append(d.values, s.Value)
		}
		slices.Sort(d.values)
		d.values = slices.Compact(d.values)
		d.now = slices.Index(d.values, s.Value)
		if len(d.values) > 1 {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no number of this fleet's policy that does anything in the simulator stands in the file: write those that are to be tuned, such as thresholds and cooldowns (tidemark check --effective shows what is in force)")
	}
	slices.SortFunc(out, func(a, b dimension) int { // in the file's order
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return out, nil
}

// grid is what is tried for a setting; room is by how many workers the fleet may grow.
func (st *Study) grid(s *config.Setting, room float64) []float64 {
	some := func(list []float64, most float64) []float64 {
		var out []float64
		for _, v := range list {
			if v <= most {
				out = append(out, v)
			}
		}
		return out
	}
	switch s.Kind {
	case config.Threshold:
		if s.Unit == fleet.Percent {
			return slices.Clone(percents)
		}
		if s.Value <= 0 {
			return nil // there is nothing to take a share of
		}
		return times(ratios, s.Value)
	case config.EvaluationPeriods, config.DatapointsToAlarm:
		return slices.Clone(counts)
	case config.ScaleChange:
		out := some(counts, max(room, 1))
		if s.Value < 0 {
			for i := range out {
				out[i] = -out[i]
			}
		}
		return out
	case config.StepUp, config.StepDown:
		return some(counts, max(room, 1))
	case config.CooldownUp, config.CooldownDown:
		return slices.Clone(pauses)
	case config.ScalingRate:
		return slices.Clone(windows)
	case config.Within:
		return times(within, st.Objective.Limit.Seconds())
	case config.Drain:
		return slices.Clone(drains)
	case config.Settle:
		return slices.Clone(settles)
	default: // Period
		return slices.Clone(periods)
	}
}

// mend moves what another setting needs, so that a change of one does not fail for want of the other: no rule asks for more than a step, and
// no alarm for more datapoints than it looks at.
func (x *search) mend(at []int) {
	raise := func(kind config.SettingKind, least float64, same func(*dimension) bool) {
		for i := range x.dims {
			d := &x.dims[i]
			for d.Kind == kind && same(d) && d.values[at[i]] < least && at[i]+1 < len(d.values) {
				at[i]++
			}
		}
	}
	for i := range x.dims {
		d := &x.dims[i]
		switch v := d.values[at[i]]; d.Kind {
		case config.ScaleChange:
			step := config.StepUp
			if v < 0 {
				step = config.StepDown
			}
			raise(step, math.Abs(v), func(*dimension) bool { return true })
		case config.DatapointsToAlarm:
			raise(config.EvaluationPeriods, v, func(o *dimension) bool { return o.Policy == d.Policy && o.Rule == d.Rule })
		default:
		}
	}
}

// candidate is a policy that is tried: the operator's file with some settings at other values.
type candidate struct {
	at     []int // by dimension
	data   []byte
	policy *policy.Fleet
	probes [][]sim.Probe // by load
	train  []outcome     // by trial, where it was played
	hold   []outcome
	tried  bool // somewhere
}

// candidate is one that this search has not tried; nil when it has, or it is not legal.
func (x *climb) candidate(at []int) *candidate {
	x.mend(at)
	key := string(runes(at))
	if x.seen[key] {
		return nil
	}
	x.seen[key] = true
	return x.make(at)
}

// make builds a candidate, once; nil when the configuration would be wrong, or be warned about where the operator's is not.
func (x *search) make(at []int) *candidate {
	x.mend(at)
	key := string(runes(at))
	c, ok := x.made[key]
	if !ok {
		if c = x.build(at); c != nil {
			x.legal = append(x.legal, c)
		}
		x.made[key] = c
	}
	return c
}

func (x *search) build(at []int) *candidate {
	c := &candidate{at: at, data: x.Data}
	if edits := x.edits(at); len(edits) > 0 {
		c.data = config.Rewrite(x.Data, edits)
	}
	cfg, problems := x.Parse(c.data)
	if cfg == nil {
		return nil
	}
	for _, p := range problems {
		if !x.warned[p.Field] {
			return nil
		}
	}
	f, err := foresee.FleetNamed(cfg, x.Fleet)
	if err != nil {
		return nil
	}
	c.policy = &f.Policy
	c.policy.Mode = fleet.On
	for _, l := range x.Loads {
		probes, _ := foresee.Probes(f, l.Work)
		c.probes = append(c.probes, probes)
	}
	return c
}

func runes(at []int) []rune {
	out := make([]rune, len(at))
	for i, v := range at {
		out[i] = rune(v)
	}
	return out
}

// edits are the changes from the operator's own.
func (x *search) edits(at []int) (out []config.Edit) {
	for i := range x.dims {
		if d := &x.dims[i]; at[i] != d.now {
			out = append(out, config.Edit{Setting: d.Setting, To: d.values[at[i]]})
		}
	}
	return out
}

// present is the operator's policy.
func (x *search) present() []int {
	out := make([]int, len(x.dims))
	for i := range x.dims {
		out[i] = x.dims[i].now
	}
	return out
}

// diff writes two versions of a file that differ within lines as a unified diff.
func diff(name string, before, after []byte) string {
	const around = 3
	a, b := strings.SplitAfter(string(before), "\n"), strings.SplitAfter(string(after), "\n")
	if a[len(a)-1] == "" {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var out strings.Builder
	line := func(sign, text string) {
		out.WriteString(sign + text)
		if !strings.HasSuffix(text, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
	for from := 0; from < len(a); {
		if a[from] == b[from] {
			from++
			continue
		}
		to := from + 1 // the end of the hunk: no change within twice the context after it
		for i := to; i < min(to+2*around, len(a)); i++ {
			if a[i] != b[i] {
				to = i + 1
			}
		}
		if out.Len() == 0 {
			out.WriteString("--- " + name + "\n+++ " + name + "\n")
		}
		begin, end := max(from-around, 0), min(to+around, len(a))
		fmt.Fprintf(&out, "@@ -%d,%d +%d,%d @@\n", begin+1, end-begin, begin+1, end-begin)
		for i := begin; i < end; {
			if a[i] == b[i] {
				line(" ", a[i])
				i++
				continue
			}
			j := i
			for ; j < end && a[j] != b[j]; j++ {
				line("-", a[j])
			}
			for ; i < j; i++ {
				line("+", b[i])
			}
		}
		from = end
	}
	return out.String()
}
