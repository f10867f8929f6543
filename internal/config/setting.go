package config

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// Setting is a number of a fleet's policy as it stands in the file: what may be tuned. What the file leaves to defaults is none.
type Setting struct {
	Kind         SettingKind
	Policy, Rule int    // indexes into the fleet's policies, and of a rule's kinds into their rules; -1
	Signal       int    // index into the fleet's signals: what a threshold is for, or whose period it is; -1
	Path         string // as Problem.Field
	Line, Column int    // of Text, from 1; columns in characters
	Text         string // as it is written, without quotes
	Unit         fleet.Unit
	Value        float64 // of a rate, the seconds in which its count may happen; durations are in seconds
}

// SettingKind is what a setting is for.
type SettingKind uint8

// The kinds.
const (
	Threshold SettingKind = iota
	EvaluationPeriods
	DatapointsToAlarm
	ScaleChange
	CooldownUp
	CooldownDown
	StepUp
	StepDown
	ScalingRate
	Within
	Drain
	Settle
	Period
)

// settingNames are the fields, as they are written.
var settingNames = [...]string{
	"threshold", "evaluation_periods", "datapoints_to_alarm", "scale_change", "cooldown.scale_up", "cooldown.scale_down", "step.up", "step.down", "max_scaling_rate",
	"objective.within", "objective.drain", "objective.settle", "period",
}

func (k SettingKind) String() string { return settingNames[k] }

// Settings lists what stands in the file of the policies, safeguards and signals of a fleet, in no order that means anything. What another
// fleet uses too, by an alias, is left out.
func (c *Config) Settings(name string) []Setting {
	var out []Setting
	elsewhere := map[mark]bool{}
	for i := range c.spec.Fleets { // those of the file
		for _, s := range c.settings(i) {
			if c.Fleets[i].Name == name {
				out = append(out, s)
			} else {
				elsewhere[mark{s.Line, s.Column}] = true
			}
		}
	}
	seen := map[mark]bool{}
	return slices.DeleteFunc(out, func(s Setting) bool {
		at := mark{s.Line, s.Column}
		twice := seen[at] // an alias within the fleet: both change together
		seen[at] = true
		return twice || elsewhere[at]
	})
}

// settings are those of fleet i.
func (c *Config) settings(i int) (out []Setting) {
	s, p := &c.spec.Fleets[i], &c.Fleets[i].Policy
	add := func(kind SettingKind, policy, rule, signal int, under string, unit fleet.Unit, value float64) {
		set := Setting{Kind: kind, Policy: policy, Rule: rule, Signal: signal, Path: fmt.Sprintf("fleets.%d.%s.%s", i, under, kind), Unit: unit, Value: value}
		if c.find(&set) {
			out = append(out, set)
		}
	}
	for k := range s.Signals {
		add(Period, -1, -1, k, "signals."+s.Signals[k].Name, fleet.Seconds, s.Signals[k].Period.Seconds())
	}
	for k := range s.Policies {
		under := fmt.Sprintf("policies.%d", k)
		if slo := p.Policies[k].SLO; slo != nil {
			add(Within, k, -1, slo.Objective, under, fleet.Seconds, slo.Within)
			add(Drain, k, -1, -1, under, fleet.Seconds, slo.Drain.Seconds())
			add(Settle, k, -1, -1, under, fleet.Seconds, slo.Settle.Seconds())
		}
		for j, r := range p.Policies[k].Rules {
			at := fmt.Sprintf("%s.rules.%d", under, j)
			add(Threshold, k, j, r.Signal, at, p.Signals[r.Signal].Unit, r.Threshold)
			add(EvaluationPeriods, k, j, -1, at, fleet.Number, float64(r.N))
			add(DatapointsToAlarm, k, j, -1, at, fleet.Number, float64(r.M))
			add(ScaleChange, k, j, -1, at, fleet.Number, float64(r.Change))
		}
	}
	pace := p.Pace
	add(CooldownUp, -1, -1, -1, "safeguards", fleet.Seconds, pace.CooldownUp.Seconds())
	add(CooldownDown, -1, -1, -1, "safeguards", fleet.Seconds, pace.CooldownDown.Seconds())
	add(StepUp, -1, -1, -1, "safeguards", fleet.Number, float64(pace.StepUp))
	add(StepDown, -1, -1, -1, "safeguards", fleet.Number, float64(pace.StepDown))
	add(ScalingRate, -1, -1, -1, "safeguards", fleet.Seconds, pace.RateWindow.Seconds())
	return out
}

// About names a setting for an operator: "threshold of cpu, to scale out". p is its fleet's policy.
func (s *Setting) About(p *policy.Fleet) string {
	switch {
	case s.Rule >= 0:
		r := p.Policies[s.Policy].Rules[s.Rule]
		way := "in"
		if r.Out() {
			way = "out"
		}
		return fmt.Sprintf("%s of %s, to scale %s", s.Kind, p.Signals[r.Signal].Name, way)
	case s.Kind == Period:
		return "period of " + p.Signals[s.Signal].Name
	case s.Policy >= 0:
		return fmt.Sprintf("%s of %s", s.Kind, p.Policies[s.Policy].ID)
	}
	return s.Kind.String()
}

// writtenNumber is how the numbers of a policy are written: 70%, 400ms, +1, 1h30m, 1 per 5m.
var writtenNumber = regexp.MustCompile(`^(["']?)([+-]?[0-9][0-9A-Za-zµ.]*(?: ?%| per [0-9A-Za-zµ.]+)?)`)

// find fills in where a setting stands and how it is written there; it is false when it stands nowhere in such a form.
func (c *Config) find(s *Setting) bool {
	at, ok := c.places[s.Path]
	if !ok || at.hasRaw {
		return false
	}
	m := writtenNumber.FindStringSubmatch(c.text.rest(at.value))
	if m == nil {
		return false
	}
	s.Line, s.Column, s.Text = at.value.line, at.value.column+len(m[1]), m[2]
	v, err := s.read()
	return err == nil && v == s.Value
}

// read is what the text says.
func (s *Setting) read() (float64, error) {
	switch {
	case s.Kind == ScalingRate:
		var r rate
		err := r.UnmarshalText([]byte(s.Text))
		return r.window.Seconds(), err
	case s.Unit == fleet.Percent:
		return parseRatio(s.Text)
	case s.Unit == fleet.Seconds:
		return parseLatency(s.Text)
	}
	return parseNumber(strings.TrimPrefix(s.Text, "+"))
}

// Try is the setting with what somebody wrote in its place. The error says how such a value is written.
func (s Setting) Try(text string) (Edit, error) {
	e := Edit{Setting: s}
	s.Text = strings.TrimSpace(text)
	v, err := s.read()
	if err != nil {
		return e, fmt.Errorf("%s: %w", s.Path, err)
	}
	e.To = v
	return e, nil
}

// Write writes another value the way the setting is written.
func (s *Setting) Write(v float64) string {
	number := strconv.FormatFloat(v, 'f', -1, 64)
	switch {
	case s.Kind == ScalingRate:
		count, _, _ := strings.Cut(s.Text, " per ")
		return count + " per " + formatDuration(seconds(v))
	case s.Unit == fleet.Percent:
		return number + strings.TrimLeft(s.Text, "+0123456789.")
	case s.Unit == fleet.Seconds:
		return s.span(v)
	case v > 0 && s.Text[0] == '+':
		return "+" + number
	}
	return number
}

func seconds(v float64) time.Duration { return time.Duration(math.Round(v * 1e9)) }

// span writes a duration in the unit that it is written in, when that makes a whole number.
func (s *Setting) span(v float64) string {
	if m := withUnit.FindStringSubmatch(s.Text); m != nil {
		if one, err := parseDuration("1"+m[2], "s"); err == nil {
			if n := v / one.Seconds(); math.Abs(n-math.Round(n)) < 1e-9 && n >= 0.5 {
				return fmt.Sprintf("%.0f%s", n, m[2])
			}
		}
	}
	if ms := v * 1000; v < 1 && v > 0 {
		return fmt.Sprintf("%.0fms", ms)
	}
	return formatDuration(seconds(v))
}

// Edit is another value for a setting.
type Edit struct {
	Setting
	To float64
}

// Rewrite puts other values in the place of settings, and leaves every other byte of the file as it is. The settings must be those of these
// very bytes.
func Rewrite(data []byte, edits []Edit) []byte {
	edits = slices.Clone(edits)
	slices.SortFunc(edits, func(a, b Edit) int { // from the end, so that what is before stays where it is
		if a.Line != b.Line {
			return b.Line - a.Line
		}
		return b.Column - a.Column
	})
	out := slices.Clone(data)
	for i := range edits {
		e := &edits[i]
		from := byteAt(data, mark{e.Line, e.Column})
		out = slices.Replace(out, from, from+len(e.Text), []byte(e.Write(e.To))...)
	}
	return out
}

// byteAt is where a position begins in the bytes of a file.
func byteAt(data []byte, m mark) int {
	at := 0
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		at = len("\ufeff")
	}
	for range m.line - 1 {
		at += bytes.IndexByte(data[at:], '\n') + 1
	}
	for range m.column - 1 {
		_, n := utf8.DecodeRune(data[at:])
		at += n
	}
	return at
}
