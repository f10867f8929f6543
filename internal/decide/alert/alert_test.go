package alert_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
)

// The scenario language: facts over time in, notices out. A file is
//
//	# what it shows
//	instance                   the facts are the machine's, not a fleet's (default: the fleet odoo-workers, bounds 2 to 10)
//	signal NAME UNIT [THRESHOLD] [optional]
//	tick 1m                    one tick a minute, the first one minute after the start
//	cpu: 50x3 90 _             one reading a tick; _ missing, s sparse; the last one goes on
//	at 3m: ...                 from that tick on (or at it: decided, done, failed, jump):
//	                           size N | size unknown WHY | bounds MIN MAX
//	                           decided A B [shadow] | done A B [TOOK] | failed A B WHY     events of the tick
//	                           asks N CODE [LIMIT] ...      N workers are asked for, and these links answer; the size stays
//	                           asks nothing | scales N | in_shadow | no_decision
//	                           journal WHY | journal ok | jump D | month GOOD TOTAL | budget SPENT PROJECTED LIMIT | forget NAME
//	expect 7m: + KEY SEVERITY [| PART OF THE TITLE OR LINES ...]    raised at that tick
//	expect 9m: - KEY [| ...]                                        ended at that tick
//	until 2h                   how long it goes on (default: the last time named)
//
// Each notice must be expected. Every scenario runs three times: as written, again, and with the state written to JSON and read
// back at each tick; the same bytes must come out.
type scenario struct {
	facts   alert.Facts
	tick    time.Duration
	series  map[string][]string
	at      map[time.Duration][]string
	expect  map[time.Duration][]string
	last    time.Duration
	comment bool
}

var start = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d scenarios found (%v); want at least 20", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			first := read(t, f).run(t, false)
			if again := read(t, f).run(t, false); !bytes.Equal(first, again) {
				t.Error("a second run gave other notices")
			}
			if restarted := read(t, f).run(t, true); !bytes.Equal(first, restarted) {
				t.Errorf("notices differ when the state is stored and read back at each tick:\n%s\n%s", first, restarted)
			}
		})
	}
}

func read(t *testing.T, file string) *scenario {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sc := &scenario{tick: time.Minute, series: map[string][]string{}, at: map[time.Duration][]string{}, expect: map[time.Duration][]string{}}
	sc.facts = alert.Facts{Instance: "dfr", Fleet: "odoo-workers", Bounds: fleet.Bounds{Min: 2, Max: 10}, Size: fleet.Size{Known: true, Serving: 3}}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line, comment, _ := strings.Cut(lines.Text(), "#")
		sc.comment = sc.comment || strings.TrimSpace(comment) != ""
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := sc.read(line); err != nil {
			t.Fatalf("%s:%d: %v", file, n, err)
		}
	}
	if !sc.comment {
		t.Fatalf("%s says nowhere what it shows", file)
	}
	return sc
}

func (sc *scenario) read(line string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", line, r)
		}
	}()
	f := strings.Fields(line)
	head, rest, _ := strings.Cut(line, ":")
	rest = strings.TrimSpace(rest)
	switch f[0] {
	case "instance":
		sc.facts.Fleet = ""
	case "tick":
		sc.tick = duration(f[1])
	case "until":
		sc.last = max(sc.last, duration(f[1]))
	case "signal":
		s := alert.Signal{Name: f[1]}
		check(s.Unit.UnmarshalText([]byte(f[2])))
		for _, w := range f[3:] {
			if w == "optional" {
				s.Optional = true
			} else {
				s.Threshold = float(w)
			}
		}
		sc.facts.Signals = append(sc.facts.Signals, s)
	case "at", "expect":
		into := map[string]map[time.Duration][]string{"at": sc.at, "expect": sc.expect}[f[0]]
		at := duration(strings.Fields(head)[1])
		into[at] = append(into[at], rest)
		sc.last = max(sc.last, at)
	default:
		if rest == "" || !slices.ContainsFunc(sc.facts.Signals, func(s alert.Signal) bool { return s.Name == head }) {
			return errors.New("unknown word")
		}
		for _, w := range strings.Fields(rest) {
			v, times, _ := strings.Cut(w, "x")
			n := 1
			if times != "" {
				n = number(times)
			}
			sc.series[head] = append(sc.series[head], slices.Repeat([]string{v}, n)...)
		}
	}
	return nil
}

// run plays the scenario and returns all that was raised and ended, as JSON.
func (sc *scenario) run(t *testing.T, restarting bool) []byte {
	t.Helper()
	rules, state := alert.DefaultRules(), &alert.State{}
	f := &sc.facts
	f.Decision = &fleet.Decision{Reasons: []fleet.Reason{{Code: fleet.NothingProposed}}}
	known := map[string]alert.Notice{}
	var out bytes.Buffer
	jumped := time.Duration(0)
	for n, at := 0, sc.tick; at <= sc.last; n, at = n+1, at+sc.tick {
		f.Events, f.Jump = nil, 0
		for _, what := range sc.at[at] {
			if err := sc.happen(what); err != nil {
				t.Fatalf("at %v: %s: %v", at, what, err)
			}
		}
		jumped += f.Jump
		f.Now = start.Add(at + jumped)
		sc.readings(n)
		if f.Decision != nil {
			f.Decision.Time, f.Decision.From = f.Now, f.Size.Workers()
			if f.Decision.To == 0 {
				f.Decision.To = f.Decision.From
			}
		}
		if restarting {
			b, err := json.Marshal(state)
			if err != nil {
				t.Fatal(err)
			}
			state = &alert.State{}
			if err := json.Unmarshal(b, state); err != nil {
				t.Fatal(err)
			}
		}
		notices := alert.Step(&rules, state, f)
		if f.Decision != nil {
			f.Decision.To = 0
		}
		var told []string
		for _, is := range notices {
			was, had := known[is.Key]
			said := "\n    " + is.Title + "\n    " + strings.Join(is.Lines, "\n    ")
			switch {
			case is.Firing() && (!had || !was.Started.Equal(is.Started)):
				told = append(told, "+ "+is.Key+" "+is.Severity.String()+said)
			case !is.Firing() && had && was.Firing():
				told = append(told, "- "+is.Key+said)
			case !is.Firing() && !had:
				t.Errorf("at %v: %s ended before it was raised", at, is.Key)
			}
			known[is.Key] = is
			if is.Title == "" || is.Rule == "" || is.Instance != "dfr" || (is.Firing() && (len(is.Lines) == 0 || is.Ended.After(is.Started))) {
				t.Errorf("at %v: %+v", at, is)
			}
		}
		sc.compare(t, at, told)
		b, err := json.Marshal(notices)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(b, '\n'))
	}
	return out.Bytes()
}

// compare holds what was told at a tick against what is expected.
func (sc *scenario) compare(t *testing.T, at time.Duration, told []string) {
	t.Helper()
	if testing.Verbose() && len(told) > 0 {
		t.Logf("%v:\n%s", at, strings.Join(told, "\n"))
	}
	want := slices.Clone(sc.expect[at])
	for _, is := range told {
		i := slices.IndexFunc(want, func(w string) bool {
			head, parts, _ := strings.Cut(w, "|")
			first, rest, _ := strings.Cut(is, "\n")
			if strings.TrimSpace(head) != first {
				return false
			}
			for part := range strings.SplitSeq(parts, "|") {
				if !strings.Contains(rest, strings.TrimSpace(part)) {
					return false
				}
			}
			return true
		})
		if i < 0 {
			t.Errorf("at %v: not expected: %s", at, is)
			continue
		}
		want = slices.Delete(want, i, i+1)
	}
	for _, w := range want {
		t.Errorf("at %v: expected, and not told: %s", at, w)
	}
}

func (sc *scenario) readings(n int) {
	f := &sc.facts
	for i := range f.Signals {
		s := &f.Signals[i]
		series := sc.series[s.Name]
		if len(series) == 0 {
			continue
		}
		v := series[min(n, len(series)-1)]
		s.Reading, s.Error = fleet.Reading{Time: f.Now}, ""
		switch v {
		case "_":
			if s.Lost.IsZero() {
				s.Lost = f.Now
			}
			s.Error = "connection refused"
			continue
		case "s":
			s.Reading.Quality = fleet.Sparse
		default:
			s.Reading.Quality, s.Reading.Value = fleet.Fresh, float(v)
		}
		s.Lost = time.Time{}
	}
}

func (sc *scenario) happen(what string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	f, w := &sc.facts, strings.Fields(what)
	after := func(n int) string { return strings.Join(w[n:], " ") }
	event := func(kind fleet.Kind) *fleet.Event {
		f.Events = append(f.Events, fleet.Event{Kind: kind, From: number(w[1]), To: number(w[2])})
		return &f.Events[len(f.Events)-1]
	}
	links := func(rs ...fleet.Reason) { f.Decision = &fleet.Decision{Reasons: rs} }
	switch w[0] {
	case "size":
		f.Size, f.Target = fleet.Size{}, after(2)
		if w[1] != "unknown" {
			f.Size, f.Target = fleet.Size{Known: true, Serving: number(w[1])}, ""
		}
	case "bounds":
		f.Bounds = fleet.Bounds{Min: number(w[1]), Max: number(w[2])}
	case "decided":
		event(fleet.EventDecision).Decision = &fleet.Decision{Shadow: len(w) > 3}
	case "done":
		e := event(fleet.EventActionDone)
		e.Duration = fleet.Duration(time.Minute)
		if len(w) > 3 {
			took := duration(w[3])
			e.Duration = fleet.Duration(took)
			e.Parts = &fleet.Parts{BreachToAlarm: fleet.Duration(time.Minute), ActionToServing: fleet.Duration(took - time.Minute)}
		}
		f.Size = fleet.Size{Known: true, Serving: e.To}
	case "failed":
		e := event(fleet.EventActionFailed)
		e.Note, e.Duration = after(3), fleet.Duration(2*time.Minute)
	case "asks":
		if w[1] == "nothing" {
			links(fleet.Reason{Code: fleet.NothingProposed})
			break
		}
		n := number(w[1])
		rs := []fleet.Reason{{Code: fleet.RuleOut, Size: n, Policy: "cpu-policy", Signal: "cpu", Unit: fleet.Percent, Operator: fleet.AtLeast, Threshold: 70, Value: 92, M: 2, N: 3, Breaching: 3}}
		for _, word := range w[2:] {
			code, limit, _ := strings.Cut(word, "=")
			r := fleet.Reason{Size: f.Size.Workers(), Note: "note", By: "moa"}
			check(r.Code.UnmarshalText([]byte(code)))
			if limit != "" {
				r.Limit = number(limit)
			}
			rs = append(rs, r)
		}
		links(rs...)
	case "scales":
		links(fleet.Reason{Code: fleet.RuleOut, Size: number(w[1])})
		f.Decision.To = number(w[1])
	case "in_shadow":
		f.Decision.Shadow = true
	case "no_decision":
		f.Decision = nil
	case "journal":
		if f.Journal = after(1); f.Journal == "ok" {
			f.Journal = ""
		}
	case "jump":
		f.Jump = duration(w[1])
		for i := range f.Signals { // the engine moves its times as well
			if !f.Signals[i].Lost.IsZero() {
				f.Signals[i].Lost = f.Signals[i].Lost.Add(f.Jump)
			}
		}
	case "month":
		f.Month = &alert.Month{Good: float(w[1]), Total: float(w[2]), Unit: "requests"}
	case "budget":
		f.Budget = &alert.Budget{Spent: float(w[1]), Projected: float(w[2]), Limit: float(w[3]), Currency: "NZD"}
	case "forget":
		f.Signals = slices.DeleteFunc(f.Signals, func(s alert.Signal) bool { return s.Name == w[1] })
	default:
		return errors.New("unknown word")
	}
	return nil
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	check(err)
	return n
}

func float(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	check(err)
	return v
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	check(err)
	return d
}

func TestRulesCheck(t *testing.T) {
	for want, change := range map[string]func(*alert.Rules){
		"":                             func(*alert.Rules) {},
		"cpu_signal is empty":          func(r *alert.Rules) { r.CPUSignal = "" },
		"cpu 100 % is not":             func(r *alert.Rules) { r.CPU = 100 },
		"availability 10 % is not":     func(r *alert.Rules) { r.Availability = 10 },
		"improve -1 % is not":          func(r *alert.Rules) { r.Improve = -1 },
		"short_for 0s is not":          func(r *alert.Rules) { r.ShortFor = 0 },
		"after_scale_up 4m is shorter": func(r *alert.Rules) { r.AfterScaleUp = 4 * time.Minute },
	} {
		r := alert.DefaultRules()
		change(&r)
		var got []string
		r.Check(func(field, msg, fix string) {
			if fix == "" {
				t.Errorf("%s: no fix", field)
			}
			got = append(got, field+" "+msg)
		})
		if (want == "") != (len(got) == 0) || len(got) > 1 || !strings.Contains(strings.Join(got, ";"), want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSeverity(t *testing.T) {
	for _, s := range []alert.Severity{alert.Info, alert.Warning, alert.Critical} {
		b, err := s.MarshalText()
		var got alert.Severity
		if err != nil || got.UnmarshalText(b) != nil || got != s {
			t.Errorf("%v: %s %v", s, b, err)
		}
	}
	var s alert.Severity
	if err := s.UnmarshalText([]byte("loud")); err == nil || !strings.Contains(err.Error(), "info, warning, critical") {
		t.Errorf("%v", err)
	}
}

func BenchmarkStep(b *testing.B) {
	rules, state := alert.DefaultRules(), &alert.State{}
	f := &alert.Facts{Instance: "dfr", Fleet: "odoo-workers", Now: start, Bounds: fleet.Bounds{Min: 2, Max: 10}, Size: fleet.Size{Known: true, Serving: 3},
		Decision: &fleet.Decision{From: 3, To: 3, Reasons: []fleet.Reason{{Code: fleet.NothingProposed, Size: 3}}}}
	for i := range 5 {
		f.Signals = append(f.Signals, alert.Signal{Name: fmt.Sprint("s", i), Unit: fleet.Percent, Reading: fleet.Reading{Value: 50, Quality: fleet.Fresh}})
	}
	for b.Loop() {
		f.Now = f.Now.Add(15 * time.Second)
		alert.Step(&rules, state, f)
	}
}
