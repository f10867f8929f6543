package engine_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/forecast"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
)

// The scenario language: readings over time in, expected alarms and decisions out. A file is
//
//	# what it shows
//	fleet requirements            the requirements' two policies; or: fleet empty
//	bounds 2 10                   and mode, cooldown UP DOWN, rate N WINDOW, step UP DOWN, action LIMIT, period D
//	signal NAME UNIT [per_worker] [optional] [source] [avg|max|min|sum|last|pNN]
//	rule POLICY SIGNAL OP THRESHOLD CHANGE M of N [missing|ignore|breaching|not_breaching] [shadow|off]
//	objective POLICY SIGNAL WITHIN rate R service S50,S95 (or: busy B) [backlog B] [drain D] [boot D] [settle D] [coherence X] [shadow|off]
//	forecast POLICY SIGNAL per N  (or: by POLICY) [shadow|off]; what it expects 15m ahead is given as a signal is, under ahead
//	freeze NAME FROM TO           as offsets from the start
//	guard NAME PROTECTS SIGNAL OP THRESHOLD M of N [release X] [when SIGNAL OP THRESHOLD]
//	supply RESOURCE FREE[,FREE] RESERVE EACH      EACH is a number, or the signal of what all workers take together
//	start TIME ZONE               when it begins, by the clock of the zone, which is also the schedule's
//	window NAME DAILY [days DAYS] [floor N] [ceiling N] [lead D] [hard]
//	tick 60s                      one tick every 60 s, the first 60 s after the start
//	workers 2                     the size at the start; it follows the decisions at once
//	cpu: 50x3 75 75 _ s stale     one reading a tick; _ missing, s sparse; the last one goes on
//	at 3m: ...                    before that tick: order hold|scale N|release|mode M [for D] [by NAME] [note TEXT]
//	                              target lost|back|stuck|follows|boots D, workers N, clock +1h, restart, room N (by the quota),
//	                              reserved RESOURCE X
//	expect 3m: 2 -> 3             the decision of that tick: FROM -> TO, or FROM when it stays
//	           because CODE, ...  all of these reasons, in this order
//	           would N in D       (or: would N)
//	           short N            of workers, at the maximum
//	           alarm SIGNAL OP THRESHOLD STATE
//
// Each change of size must be expected. Every scenario runs three times: as written, again (the same bytes must come
// out), and with the state written to JSON and read back at each tick (a restart anywhere changes nothing).
type scenario struct {
	policy  policy.Fleet
	tick    time.Duration
	size    int
	series  map[string][]fleet.Reading
	before  map[time.Duration][]string
	expect  map[time.Duration][]string
	start   time.Time
	last    time.Duration
	comment string
}

var start = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d scenarios found (%v); want at least 60", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			sc := readScenario(t, f)
			first := sc.run(t, false)
			t.Helper()
			if again := sc.run(t, false); !bytes.Equal(first, again) {
				t.Error("a second run of the same input gave other decisions")
			}
			if restarted := sc.run(t, true); !bytes.Equal(first, restarted) {
				t.Errorf("decisions differ when the state is stored and read back at each tick:\n%s\n%s", first, restarted)
			}
		})
	}
}

// requirements are the policies of the requirements document, word for word.
func requirements() policy.Fleet {
	return policy.Fleet{
		Name: "odoo-workers", Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 10},
		Signals: []policy.Signal{
			{Name: "cpu", Unit: fleet.Percent, Statistic: policy.Avg, Period: time.Minute, PerWorker: true},
			{Name: "sync_p95", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute, PerWorker: true},
		},
		Policies: []policy.Policy{
			{ID: "odoo-worker-cpu-scaling-policy", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: 0, Operator: fleet.AtLeast, Threshold: 70, Change: 1, N: 3, M: 2},
				{Signal: 0, Operator: fleet.AtMost, Threshold: 30, Change: -1, N: 5, M: 4},
			}},
			{ID: "odoo-worker-api-latency-scaling-policy", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: 1, Operator: fleet.AtLeast, Threshold: 0.4, Change: 1, N: 2, M: 2},
			}},
		},
		Safeguards: policy.Safeguards{
			Pace: policy.Pace{CooldownUp: 300 * time.Second, CooldownDown: 600 * time.Second, StepUp: 1, StepDown: 1,
				RateCount: 1, RateWindow: 5 * time.Minute}, ActionLimit: 2 * time.Minute,
		},
	}
}

func readScenario(t *testing.T, file string) *scenario {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sc := &scenario{start: start, tick: time.Minute, size: 2, series: map[string][]fleet.Reading{},
		before: map[time.Duration][]string{}, expect: map[time.Duration][]string{}}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line, comment, _ := strings.Cut(lines.Text(), "#")
		sc.comment += comment
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := sc.read(strings.TrimSpace(line)); err != nil {
			t.Fatalf("%s:%d: %v", file, n, err)
		}
	}
	if strings.TrimSpace(sc.comment) == "" {
		t.Fatalf("%s: says nowhere what it shows", file)
	}
	if len(sc.expect) == 0 {
		t.Fatalf("%s: expects nothing", file)
	}
	return sc
}

func (sc *scenario) read(line string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", line, r)
		}
	}()
	if head, rest, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "window ") && !strings.HasPrefix(line, "start ") {
		f := strings.Fields(head)
		switch f[0] {
		case "at":
			at := duration(f[1])
			sc.before[at] = append(sc.before[at], strings.TrimSpace(rest))
			sc.last = max(sc.last, at)
		case "expect":
			at := duration(f[1])
			sc.expect[at] = append(sc.expect[at], strings.TrimSpace(rest))
			sc.last = max(sc.last, at)
		default:
			sc.series[f[0]] = sc.readings(f[0], strings.Fields(rest))
		}
		return nil
	}
	sc.header(strings.Fields(line))
	return nil
}

func (sc *scenario) header(f []string) {
	p := &sc.policy
	switch f[0] {
	case "fleet":
		*p = requirements()
		if f[1] == "empty" {
			p.Signals, p.Policies = nil, nil
		}
	case "mode":
		check(p.Mode.UnmarshalText([]byte(f[1])))
	case "bounds":
		p.Bounds = fleet.Bounds{Min: number(f[1]), Max: number(f[2])}
	case "cooldown":
		p.CooldownUp, p.CooldownDown = duration(f[1]), duration(f[2])
	case "rate":
		p.RateCount, p.RateWindow = number(f[1]), duration(f[2])
	case "step":
		p.StepUp, p.StepDown = number(f[1]), number(f[2])
	case "action":
		p.ActionLimit = duration(f[1])
	case "period":
		for i := range p.Signals {
			p.Signals[i].Period = duration(f[1])
		}
	case "freeze":
		p.Freezes = append(p.Freezes, policy.Freeze{Name: f[1], From: start.Add(duration(f[2])), To: start.Add(duration(f[3]))})
	case "signal":
		p.Signals = append(p.Signals, readSignal(f[1:]))
	case "rule":
		sc.rule(f[1:])
	case "guard":
		sc.guard(f[1:])
	case "supply":
		sc.supply(f[1:])
	case "start":
		zone, err := time.LoadLocation(f[2])
		check(err)
		sc.start, err = time.ParseInLocation("2006-01-02T15:04", f[1], zone)
		check(err)
		p.Schedule = &schedule.Schedule{Zone: zone}
	case "window":
		if p.Schedule == nil {
			p.Schedule = &schedule.Schedule{}
		}
		p.Schedule.Windows = append(p.Schedule.Windows, readWindow(f[1:]))
	case "objective":
		sc.objective(f[1:])
	case "forecast":
		sc.forecast(f[1:])
	case "tick":
		sc.tick = duration(f[1])
	case "workers":
		sc.size = number(f[1])
	default:
		panic("unknown word " + f[0])
	}
}

func readSignal(f []string) policy.Signal {
	s := policy.Signal{Name: f[0], Period: time.Minute, Window: time.Minute}
	check(s.Unit.UnmarshalText([]byte(f[1])))
	for _, w := range f[2:] {
		statistics := map[string]policy.Statistic{"avg": policy.Avg, "max": policy.Max, "min": policy.Min, "sum": policy.Sum, "last": policy.Last}
		st, known := statistics[w]
		switch {
		case known:
			s.Statistic = st
		case w == "per_worker":
			s.PerWorker = true
		case w == "optional":
			s.Optional = true
		case w == "source":
			s.FromSource = true
		case w[0] == 'p':
			s.Statistic, s.Q = policy.Quantile, float64(number(w[1:]))/100
		default:
			panic("unknown word " + w)
		}
	}
	return s
}

func (sc *scenario) rule(f []string) {
	p := &sc.policy
	r := policy.Rule{Signal: sc.signal(f[1]), Change: number(f[4]), M: number(f[5]), N: number(f[7])}
	check(r.Operator.UnmarshalText([]byte(f[2])))
	r.Threshold = value(f[3])
	mode := fleet.On
	for _, w := range f[8:] {
		missing := map[string]policy.Missing{"missing": policy.MissingMissing, "ignore": policy.MissingIgnore, "breaching": policy.MissingBreaching, "not_breaching": policy.MissingNotBreaching}
		if m, ok := missing[w]; ok {
			r.Missing = m
		} else {
			check(mode.UnmarshalText([]byte(w)))
		}
	}
	for i := range p.Policies {
		if p.Policies[i].ID == f[0] {
			p.Policies[i].Rules = append(p.Policies[i].Rules, r)
			return
		}
	}
	p.Policies = append(p.Policies, policy.Policy{ID: f[0], Mode: mode, Rules: []policy.Rule{r}})
}

func (sc *scenario) guard(f []string) {
	g := policy.Guard{Name: f[0], Protects: map[string]policy.Protected{"database": policy.ProtectsDatabase, "host_cpu": policy.ProtectsHostCPU, "other": policy.ProtectsOther}[f[1]]}
	condition := func(f []string) policy.Condition {
		c := policy.Condition{Rule: policy.Rule{Signal: sc.signal(f[0])}, Release: value(f[2])}
		check(c.Operator.UnmarshalText([]byte(f[1])))
		c.Threshold = value(f[2])
		return c
	}
	first := condition(f[2:])
	first.M, first.N = number(f[5]), number(f[7])
	g.If = append(g.If, first)
	for f = f[8:]; len(f) > 0; {
		switch f[0] {
		case "release":
			g.If[0].Release, f = value(f[1]), f[2:]
		case "when":
			c := condition(f[1:])
			c.M, c.N = first.M, first.N
			g.If, f = append(g.If, c), f[4:]
		default:
			panic("unknown word " + f[0])
		}
	}
	sc.policy.Guards = append(sc.policy.Guards, g)
}

func (sc *scenario) supply(f []string) {
	s := policy.Supply{Resource: resource(f[0]), Reserve: value(f[2])}
	for name := range strings.SplitSeq(f[1], ",") {
		s.Free = append(s.Free, sc.signal(name))
	}
	if f[3][0] >= '0' && f[3][0] <= '9' {
		s.PerWorker = value(f[3])
	} else {
		s.Taken = sc.signal(f[3])
	}
	sc.policy.Supplies = append(sc.policy.Supplies, s)
}

func resource(name string) policy.Resource {
	for r := range policy.Resources {
		if policy.Resource(r).String() == name {
			return policy.Resource(r)
		}
	}
	panic("no resource " + name)
}

func readWindow(f []string) schedule.Window {
	daily, err := schedule.ParseDaily(f[1])
	check(err)
	w := schedule.Window{Name: f[0], Daily: daily}
	hard := false
	for f = f[2:]; len(f) > 0; f = f[2:] {
		switch f[0] {
		case "hard":
			hard, f = true, append([]string{"", ""}, f[1:]...)
		case "days":
			w.Weekly, err = schedule.ParseDays(f[1])
			check(err)
		case "floor":
			w.Floor = number(f[1])
		case "ceiling":
			w.Ceiling = number(f[1])
		case "lead":
			w.Lead = duration(f[1])
		default:
			panic("unknown word " + f[0])
		}
	}
	w.CancelledByLoad = w.Ceiling > 0 && !hard
	for _, p := range w.Problems() {
		panic(p)
	}
	return w
}

func (sc *scenario) objective(f []string) {
	slo := &policy.SLO{Objective: sc.signal(f[1]), Within: value(f[2]), Busy: -1, Backlog: -1, Drain: 2 * time.Minute, Boot: time.Minute, Settle: 4 * time.Minute}
	mode := fleet.On
	for f := f[3:]; len(f) > 0; f = f[1:] {
		if mode.UnmarshalText([]byte(f[0])) == nil {
			continue
		}
		key, v := f[0], f[1]
		f = f[1:]
		switch key {
		case "rate":
			slo.Rate = sc.signal(v)
		case "service":
			for _, name := range strings.Split(v, ",") {
				slo.Service = append(slo.Service, sc.signal(name))
			}
		case "busy":
			slo.Busy = sc.signal(v)
		case "backlog":
			slo.Backlog = sc.signal(v)
		case "drain":
			slo.Drain = duration(v)
		case "boot":
			slo.Boot = duration(v)
		case "settle":
			slo.Settle = duration(v)
		case "coherence":
			slo.Coherence = value(v)
		default:
			panic("unknown word " + key)
		}
	}
	sc.policy.Policies = append(sc.policy.Policies, policy.Policy{ID: f[0], Mode: mode, SLO: slo})
}

func (sc *scenario) forecast(f []string) {
	fc := &policy.Forecast{Signal: sc.signal(f[1]), Lead: 15 * time.Minute, MinWeeks: 2}
	if f[2] == "per" {
		fc.PerWorker = value(f[3])
	} else {
		fc.SizedBy = slices.IndexFunc(sc.policy.Policies, func(p policy.Policy) bool { return p.ID == f[3] })
	}
	mode := fleet.On
	for _, w := range f[4:] {
		check(mode.UnmarshalText([]byte(w)))
	}
	sc.policy.Policies = append(sc.policy.Policies, policy.Policy{ID: f[0], Mode: mode, Forecast: fc})
}

func (sc *scenario) signal(name string) int {
	for i, s := range sc.policy.Signals {
		if s.Name == name {
			return i
		}
	}
	panic("no signal " + name)
}

func (sc *scenario) readings(name string, words []string) (out []fleet.Reading) {
	if name != "ahead" {
		sc.signal(name)
	}
	for _, w := range words {
		n := 1
		if v, times, ok := strings.Cut(w, "x"); ok {
			w, n = v, number(times)
		}
		r := fleet.Reading{Quality: fleet.Fresh}
		switch w {
		case "_":
			r.Quality = fleet.Missing
		case "s":
			r.Quality = fleet.Sparse
		case "stale":
			r.Quality = fleet.Stale
		default:
			r.Value = value(w)
		}
		for range n {
			out = append(out, r)
		}
	}
	return out
}

// world is the target of a scenario.
type world struct {
	size    int
	lost    bool
	stuck   bool
	boot    time.Duration
	booting time.Time // when the starting worker serves
	restart bool
	allot   engine.Allotment
}

func (sc *scenario) run(t *testing.T, restarts bool) []byte {
	t.Helper()
	s := &engine.State{}
	s.Fit(&sc.policy)
	w := world{size: sc.size}
	var log bytes.Buffer
	var d fleet.Decision
	now := sc.start.UTC()
	for off := sc.tick; off <= sc.last+sc.tick; off += sc.tick {
		now = now.Add(sc.tick)
		in := engine.Input{Now: now}
		for _, cmd := range sc.before[off] {
			w.command(strings.Fields(cmd), now, &in)
		}
		now = now.Add(in.ClockJump)
		w.booting = w.booting.Add(in.ClockJump)
		in.Now, in.Allotment = now, w.allot
		tick := int(off/sc.tick) - 1
		for i := range sc.policy.Signals {
			r := fleet.Reading{}
			if readings := sc.series[sc.policy.Signals[i].Name]; len(readings) > 0 {
				r = readings[min(tick, len(readings)-1)]
			}
			r.Time = now
			in.Readings = append(in.Readings, r)
		}
		if ahead := sc.series["ahead"]; len(ahead) > 0 {
			r := ahead[min(tick, len(ahead)-1)]
			in.Outlook = []forecast.Band{{Known: r.Quality == fleet.Fresh, Low: r.Value * 0.8, Median: r.Value * 0.9, High: r.Value, Weeks: 3, Level: 1}}
		}
		if !w.lost {
			in.Size = fleet.Size{Known: true, Serving: w.size}
			if now.Before(w.booting) {
				in.Size.Serving, in.Size.Starting = w.size-1, 1
			}
		}
		if restarts || w.restart {
			s = storeAndLoad(t, s, &sc.policy)
			w.restart = false
		}
		engine.Step(&sc.policy, s, &in, &d)
		line, err := json.Marshal(&d)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&log, "%s\n", line)
		sc.check(t, off, &d, s)
		if d.To != w.size && !w.stuck && !w.lost && !d.Shadow {
			if d.To > w.size {
				w.booting = now.Add(w.boot)
			}
			w.size = d.To
		}
	}
	return log.Bytes()
}

func (w *world) command(f []string, now time.Time, in *engine.Input) {
	switch f[0] {
	case "workers":
		w.size = number(f[1])
	case "clock":
		in.ClockJump = duration(f[1])
	case "restart":
		w.restart = true
	case "room":
		w.allot.Limited, w.allot.Workers = true, number(f[1])
	case "reserved":
		w.allot.Reserved[resource(f[1])] = value(f[2])
	case "target":
		switch f[1] {
		case "lost":
			w.lost = true
		case "back":
			w.lost = false
		case "stuck":
			w.stuck = true
		case "follows":
			w.stuck = false
		case "boots":
			w.boot = duration(f[2])
		default:
			panic("unknown word " + f[1])
		}
	case "order":
		in.Orders = append(in.Orders, readOrder(f[1:], now))
	default:
		panic("unknown word " + f[0])
	}
}

func readOrder(f []string, now time.Time) engine.Order {
	o := engine.Order{At: now}
	check(o.Kind.UnmarshalText([]byte(f[0])))
	f = f[1:]
	switch o.Kind {
	case engine.Pin:
		o.Size, f = number(f[0]), f[1:]
	case engine.SetMode:
		check(o.Mode.UnmarshalText([]byte(f[0])))
		f = f[1:]
	}
	for ; len(f) > 1; f = f[2:] {
		switch f[0] {
		case "for":
			o.Until = now.Add(duration(f[1]))
		case "by":
			o.By = f[1]
		case "note":
			o.Note = f[1]
		}
	}
	return o
}

func storeAndLoad(t *testing.T, s *engine.State, p *policy.Fleet) *engine.State {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	loaded := &engine.State{}
	if err := json.Unmarshal(b, loaded); err != nil {
		t.Fatal(err)
	}
	loaded.Fit(p)
	return loaded
}

func (sc *scenario) check(t *testing.T, off time.Duration, d *fleet.Decision, s *engine.State) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		var why []string
		for _, r := range d.Reasons {
			why = append(why, fmt.Sprintf("\t%s: %s", r.Code, r.Sentence(d.Time)))
		}
		t.Errorf("at %v: %s\n\tgot %s (would: %s)\n%s", off, fmt.Sprintf(format, args...), d.Headline(), d.Counterfactual(), strings.Join(why, "\n"))
	}
	expected := false
	for _, e := range sc.expect[off] {
		f := strings.Fields(strings.ReplaceAll(e, ",", " "))
		if f[0] == "alarm" {
			sc.checkAlarm(f[1:], s, fail)
			continue
		}
		expected = true
		from, to := number(f[0]), number(f[0])
		f = f[1:]
		if len(f) > 1 && f[0] == "->" {
			to, f = number(f[1]), f[2:]
		}
		if d.From != from || d.To != to {
			fail("want %d -> %d", from, to)
		}
		if len(f) > 0 && f[0] == "because" {
			f = f[1:]
			at := 0
			for len(f) > 0 && f[0] != "would" && f[0] != "short" {
				for at < len(d.Reasons) && d.Reasons[at].Code.String() != f[0] {
					at++
				}
				if at == len(d.Reasons) {
					fail("reason %s is missing or out of order", f[0])
					break
				}
				at++
				f = f[1:]
			}
		}
		if len(f) > 1 && f[0] == "short" {
			if n := d.Short(sc.policy.Bounds.Max); n != number(f[1]) {
				fail("want to be short of %s, got %d", f[1], n)
			}
			continue
		}
		if len(f) > 1 && f[0] == "would" {
			if d.Would.To != number(f[1]) {
				fail("want: would go to %s", f[1])
			}
			var after time.Time
			if len(f) > 3 && f[2] == "in" {
				after = d.Time.Add(duration(f[3]))
			}
			if !d.Would.After.Equal(after) {
				fail("want: would %s, got after %v (in %v)", strings.Join(f[1:], " "), d.Would.After, d.Would.After.Sub(d.Time))
			}
		}
	}
	if d.To != d.From && !expected && len(d.Reasons) > 0 && d.Reasons[0].Code != fleet.ActionPending {
		fail("a change that is not expected")
	}
}

func (sc *scenario) checkAlarm(f []string, s *engine.State, fail func(string, ...any)) {
	at := 0
	for _, p := range sc.policy.Policies {
		for _, r := range p.Rules {
			if sc.policy.Signals[r.Signal].Name == f[0] && r.Operator.String() == f[1] && r.Threshold == value(f[2]) {
				if got := s.Rules[at].State.String(); got != f[3] {
					fail("alarm %s is %s", strings.Join(f, " "), got)
				}
				return
			}
			at++
		}
	}
	panic("no such rule: " + strings.Join(f, " "))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(s, "+"))
	check(err)
	return n
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(strings.TrimPrefix(s, "+"))
	check(err)
	return d
}

// value reads "70", "400ms" or "1.5".
func value(s string) float64 {
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		return v
	}
	return duration(s).Seconds()
}
