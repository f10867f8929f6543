package expression

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/fleet"
)

var signals = []string{"cpu", "queue", "pool_waiting", "s3", "old-name"}

// at makes fresh readings of the signals.
func at(values ...float64) []fleet.Reading {
	out := make([]fleet.Reading, len(signals))
	for i := range out {
		out[i] = fleet.Reading{Quality: fleet.Fresh}
		if i < len(values) {
			out[i].Value = values[i]
		}
	}
	return out
}

func compile(t *testing.T, text string, unit fleet.Unit) *Expression {
	t.Helper()
	e, err := Compile(text, signals, unit)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

var now = time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)

func TestFormulas(t *testing.T) {
	for text, want := range map[string]float64{
		"cpu":                              80,
		"pool_waiting + 2 * queue":         17,
		"(cpu + queue) / 2":                42.5,
		"queue / pool_waiting":             5.0 / 7,
		"cpu / 3":                          80.0 / 3,
		"-queue + 3 - -1":                  -1,
		"queue ** 2":                       25,
		"cpu > 70 && queue < 10 ? 1 : 0":   1,
		"cpu > 70 and queue >= 10 ? 1 : 0": 0,
		"not (cpu == 80 or queue != 5) ? queue : 2":       2,
		"max(queue, pool_waiting, 6)":                     7,
		"min(cpu, 50)":                                    50,
		"abs(queue - cpu)":                                75,
		"floor(cpu / 7) + ceil(cpu / 7) + round(cpu / 7)": 34,
		"cpu > 90 ? 1 : cpu > 70\n? 0.5\n: 0":             0.5,
		"s3 + cpu":                                        81,
	} {
		e := compile(t, text, fleet.Number)
		for range 2 { // an expression is used again and again
			if r, err := e.Reading(now, at(80, 5, 7, 1)); err != nil || r != (fleet.Reading{Value: want, Time: now, Quality: fleet.Fresh}) {
				t.Errorf("%s: %+v, %v; want %v", text, r, err, want)
			}
		}
		if r, err := e.Reading(now, at(1, 1, 1, 1)); err != nil || r.Quality != fleet.Fresh {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"cpu + queu":                        `1:7: "queu" is no signal of this fleet; write one of cpu, queue, pool_waiting, s3, old-name`,
		"cpu +\n  (wait * queue)":           `2:4: "wait" is no signal of this fleet`,
		"b + a":                             `1:1: "b" is no signal`,
		"old-name * 2":                      `1:1: "old" is no signal of this fleet; the - of old-name means minus here: call the signal old_name`,
		"S0":                                `1:1: "S0" is no signal`,
		"$env":                              `1:1: "$env" is no signal`,
		"":                                  "1:1: ",
		"cpu +":                             "1:5: ",
		"cpu cpu":                           "1:5: ",
		"5":                                 "1:1: the expression names no signal; write one of cpu, queue",
		"cpu > 5":                           "1:1: ",
		"cpu ? 1 : 2":                       "1:1: ",
		"cpu > 5 + (queue > 2)":             "1:9: ",
		"now() - cpu":                       `1:1: "now" is no function here; write one of min max abs floor ceil round`,
		"len([cpu])":                        `1:1: "len" is no function here`,
		"reduce(1..1000000000, cpu)":        `1:1: "reduce" is no function here`,
		"sum(map(1..9, # * cpu))":           `1:1: "sum" is no function here`,
		"secret(cpu)":                       `1:1: "secret" is no`,
		"cpu % 2":                           `1:5: "%" is no operator here; write one of + - * /`,
		"cpu in [1, 2] ? 1 : 0":             `1:5: "in" is no operator here`,
		"cpu + 'a'":                         "1:7: only numbers, signals",
		"cpu.real":                          "1:5: only numbers, signals",
		"let a = cpu; a":                    "1:5: only numbers, signals",
		"[cpu][0]":                          "only numbers, signals",
		strings.Repeat("cpu+", 250) + "cpu": "1:1: the expression has 1003 bytes, and may have 1000",
	} {
		e, err := Compile(text, signals, fleet.Number)
		var at *Error
		if err == nil || !errors.As(err, &at) || at.Line < 1 || at.Column < 1 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %s", text, e, err, want)
		}
	}
}

// Each input counts, needed or not.
func TestQuality(t *testing.T) {
	e := compile(t, "cpu > 50 ? queue : pool_waiting", fleet.Number)
	if !slices.Equal(e.Inputs(), []int{0, 1, 2}) {
		t.Errorf("%v", e.Inputs())
	}
	for _, c := range []struct {
		q    [3]fleet.Quality
		want fleet.Quality
		err  string
	}{
		{[3]fleet.Quality{fleet.Fresh, fleet.Fresh, fleet.Sparse}, fleet.Sparse, ""},
		{[3]fleet.Quality{fleet.Sparse, fleet.Stale, fleet.Fresh}, fleet.Stale, "queue, which it is derived from, is stale"},
		{[3]fleet.Quality{fleet.Sparse, fleet.Stale, fleet.Missing}, fleet.Missing, "pool_waiting, which it is derived from, is missing"},
	} {
		in := at(80, 5, 7)
		for i, q := range c.q {
			in[i].Quality = q
		}
		in[3].Quality = fleet.Missing // which is not named
		r, err := e.Reading(now, in)
		if r != (fleet.Reading{Time: now, Quality: c.want}) || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%v: %+v, %v", c.q, r, err)
		}
	}
}

func TestOutcomesThatAreNone(t *testing.T) {
	for _, c := range []struct {
		text string
		unit fleet.Unit
		want string
	}{
		{"cpu / queue", fleet.Number, "the outcome is +Inf, with cpu 80, queue 0"},
		{"queue / queue", fleet.Number, "the outcome is NaN, with queue 0"},
		{"(queue - cpu) ** 0.5", fleet.Number, "the outcome is NaN"},
		{"queue - cpu", fleet.Percent, "the outcome is -80, and percent are never negative, with cpu 80, queue 0"},
		{"queue - cpu", fleet.Seconds, "never negative"},
		{"queue - cpu", fleet.Bytes, "never negative"},
	} {
		e := compile(t, c.text, c.unit)
		if r, err := e.Reading(now, at(80, 0)); r != (fleet.Reading{Time: now}) || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", c.text, r, err)
		}
		if r, err := e.Reading(now, at(80, 100)); err != nil || r.Quality != fleet.Fresh { // and it recovers
			t.Errorf("%s: %+v, %v", c.text, r, err)
		}
	}
	if r, err := compile(t, "queue - cpu", fleet.Number).Reading(now, at(80, 0)); err != nil || r.Value != -80 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A formula means what Go means by it.
func TestAsGo(t *testing.T) {
	e := compile(t, "(cpu + 2 * queue - pool_waiting) * (cpu >= queue ? 1 : -1) + max(cpu, s3)", fleet.Number)
	rapid.Check(t, func(rt *rapid.T) {
		f := rapid.Float64Range(-1e6, 1e6)
		cpu, queue, waiting, s3 := f.Draw(rt, "cpu"), f.Draw(rt, "queue"), f.Draw(rt, "waiting"), f.Draw(rt, "s3")
		sign := -1.0
		if cpu >= queue {
			sign = 1
		}
		want := (cpu+2*queue-waiting)*sign + math.Max(cpu, s3)
		if r, err := e.Reading(now, at(cpu, queue, waiting, s3)); err != nil || math.Abs(r.Value-want) > 1e-6 {
			rt.Fatalf("%+v, %v; want %v", r, err, want)
		}
	})
}

// Whatever is written, it is refused at a place in the text, or gives a number or none.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"cpu + queue", "cpu > 90 ? 1 : min(queue, 2)", "cpu |> max(3)", "cpu ?? 1", "0x7fffffffffffffff * cpu", "1e999 * cpu", "-cpu ** -2", "let x = 1; x", "cpu[1:2]", "\"\\x", "cpu; queue", "if cpu > 1 { 1 } else { 2 }"} {
		f.Add(s, 1.0, 0.0)
	}
	f.Fuzz(func(t *testing.T, text string, a, b float64) {
		e, err := Compile(text, signals, fleet.Percent)
		if err != nil {
			var at *Error
			if !errors.As(err, &at) || at.Line < 1 || at.Column < 1 || at.Line > strings.Count(text, "\n")+1 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		r, err := e.Reading(now, at(a, b))
		if (err == nil) != (r.Quality == fleet.Fresh) || math.IsNaN(r.Value) || math.IsInf(r.Value, 0) || r.Value < 0 {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	})
}

func BenchmarkReading(b *testing.B) {
	e, err := Compile("cpu > 50 ? queue + 2 * pool_waiting : max(queue, 3)", signals, fleet.Number)
	if err != nil {
		b.Fatal(err)
	}
	in := at(80, 5, 7)
	for b.Loop() {
		if _, err := e.Reading(now, in); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleCompile() {
	e, err := Compile("100 * queue / (queue + served)", []string{"queue", "served"}, fleet.Percent)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := e.Reading(now, []fleet.Reading{{Value: 5, Quality: fleet.Fresh}, {Value: 15, Quality: fleet.Fresh}})
	fmt.Println(r.Value, r.Quality, err)
	_, err = Compile("queue + srved", []string{"queue", "served"}, fleet.Percent)
	fmt.Println(err)
	// Output:
	// 25 fresh <nil>
	// 1:9: "srved" is no signal of this fleet; write one of queue, served
}
