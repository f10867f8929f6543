package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// The words of the file. Each reads itself, and writes itself as it is read.

type literal string // read later, when it is known what it means

func (l *literal) UnmarshalText(b []byte) error { *l = literal(b); return nil }

type environment string

// environmentPreset is what a fleet does that says nothing itself. Thresholds and windows are always written, so no environment
// changes them.
//
//	aggressiveness  moderate: grows again 300s after it grew; conservative: 600s
//	cost priority   balanced: shrinks by 1, 600s after a change; cost-optimized: by 2, after 300s
type environmentPreset struct {
	name                 string
	mode                 fleet.Mode
	scaleUp, scaleDown   time.Duration // cooldowns
	stepUp, stepDown     int
	rate                 rate
	aggressiveness, cost string
}

var environments = []environmentPreset{
	{"production", fleet.On, 300 * time.Second, 600 * time.Second, 1, 1, rate{1, 5 * time.Minute}, "moderate", "balanced"},
	{"staging", fleet.On, 600 * time.Second, 300 * time.Second, 1, 2, rate{1, 5 * time.Minute}, "conservative", "cost-optimized"},
	{"development", fleet.Off, 300 * time.Second, 300 * time.Second, 1, 2, rate{1, 5 * time.Minute}, "", "cost-optimized"},
}

func (e *environment) UnmarshalText(b []byte) error {
	var known []string
	for _, p := range environments {
		known = append(known, p.name)
	}
	i, err := oneOf("environment", string(b), known)
	*e = environment(known[i])
	return err
}

// title is the environment with what it stands for: "staging (conservative, cost-optimized)".
func (e environment) title() string {
	p := e.preset()
	return fmt.Sprintf("%s (%s)", p.name, strings.TrimPrefix(p.aggressiveness+", "+p.cost, ", "))
}

// preset is what the environment stands for; production's, when it is not known.
func (e environment) preset() environmentPreset {
	return environments[max(0, slices.IndexFunc(environments, func(p environmentPreset) bool { return p.name == string(e) }))]
}

// environment fills in what the environment says and the file does not.
func (r *resolver) environment(e environment) {
	p, s := e.preset(), &r.spec.Safeguards
	for _, f := range []struct {
		path string
		set  func()
	}{
		{"mode", func() { r.spec.Mode = mode(p.mode) }},
		{"safeguards.cooldown.scale_up", func() { s.Cooldown.ScaleUp = p.scaleUp }},
		{"safeguards.cooldown.scale_down", func() { s.Cooldown.ScaleDown = p.scaleDown }},
		{"safeguards.step.up", func() { s.Step.Up = p.stepUp }},
		{"safeguards.step.down", func() { s.Step.Down = p.stepDown }},
		{"safeguards.max_scaling_rate", func() { s.MaxScalingRate = p.rate }},
	} {
		if at := r.at("%s", f.path); !r.written(at) {
			f.set()
			r.given[at] = "environment " + string(e)
		}
	}
}

type mode fleet.Mode

func (m mode) MarshalText() ([]byte, error) { return fleet.Mode(m).MarshalText() }
func (m *mode) UnmarshalText(b []byte) error {
	alike := map[string]string{"true": "on", "enabled": "on", "yes": "on", "false": "off", "disabled": "off", "no": "off", "dry_run": "shadow"}
	if meant := alike[string(b)]; meant != "" {
		return wrong("write "+meant, "%q is no mode", b)
	}
	i, err := oneOf("mode", string(b), fleet.ModeNames())
	*m = mode(i)
	return err
}

type operator fleet.Operator

// operatorNames are in the order of fleet.Operator, twice: as signs, and in the words of the requirements.
var operatorNames = []string{
	">=", ">", "<=", "<",
	"GREATER_THAN_OR_EQUAL", "GREATER_THAN", "LESS_THAN_OR_EQUAL", "LESS_THAN",
}

func (o operator) MarshalText() ([]byte, error) { return fleet.Operator(o).MarshalText() }
func (o *operator) UnmarshalText(b []byte) error {
	i := slices.Index(operatorNames, string(b))
	switch {
	case i >= 0:
		*o = operator(int(fleet.AtLeast) + i%4)
		return nil
	case len(b) == 0:
		return wrong(`write it in quotes, such as ">="`, "is empty: without quotes, > begins a block of text")
	}
	alike := map[string]string{
		"=>": ">=", "=<": "<=", "≥": ">=", "≤": "<=", "GreaterThanOrEqualToThreshold": ">=", "GreaterThanThreshold": ">",
		"LessThanOrEqualToThreshold": "<=", "LessThanThreshold": "<",
	}
	if meant := alike[string(b)]; meant != "" {
		return wrong(`write "`+meant+`"`, "%q is no operator", b)
	}
	if near := nearest(string(b), operatorNames); len(near) > 2 {
		return wrong("did you mean "+near+"?", "%q is no operator", b)
	}
	return wrong(`write ">=", ">", "<=" or "<"`, "%q is no operator", b)
}

type missing policy.Missing

// missingNames are in the order of policy.Missing.
var missingNames = []string{"missing", "ignore", "breaching", "not_breaching"}

func (m missing) MarshalText() ([]byte, error) { return []byte(missingNames[m]), nil }
func (m *missing) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "notBreaching" { // as CloudWatch writes it
		s = "not_breaching"
	}
	i, err := oneOf("way to treat missing data", s, missingNames)
	*m = missing(i)
	return err
}

type statistic struct {
	kind     policy.Statistic
	quantile int // p50 to p99
}

// statisticNames are in the order of policy.Statistic, which ends with Quantile.
var statisticNames = []string{"avg", "max", "min", "sum", "last"}

var quantileName = regexp.MustCompile(`^[pP]([5-9][0-9])$`)

func (s statistic) MarshalText() ([]byte, error) {
	if s.kind == policy.Quantile {
		return fmt.Appendf(nil, "p%d", s.quantile), nil
	}
	return []byte(statisticNames[s.kind]), nil
}

func (s *statistic) UnmarshalText(b []byte) error {
	if m := quantileName.FindSubmatch(b); m != nil {
		q, err := strconv.Atoi(string(m[1]))
		*s = statistic{policy.Quantile, q}
		return err
	}
	alike := map[string]string{"average": "avg", "mean": "avg", "maximum": "max", "minimum": "min", "median": "p50", "total": "sum"}
	if meant := alike[strings.ToLower(string(b))]; meant != "" {
		return wrong("write "+meant, "%q is no statistic", b)
	}
	if i := slices.Index(statisticNames, string(b)); i >= 0 {
		*s = statistic{kind: policy.Statistic(i)}
		return nil
	}
	return wrong("write avg, max, min, sum, last, or p50 to p99", "%q is no statistic", b)
}

type rate struct {
	count  int
	window time.Duration
}

var (
	rateForm  = regexp.MustCompile(`^([0-9]+) per (\S+)$`)
	rateWords = regexp.MustCompile(`^([0-9]+)\s*[A-Za-z]*\s*(?:per|/|every|in)\s*([0-9]+)?\s*([A-Za-z]+)$`)
)

func (r rate) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d per %s", r.count, formatDuration(r.window)), nil
}

func (r *rate) UnmarshalText(b []byte) error {
	m := rateForm.FindSubmatch(b)
	if m == nil {
		if w := rateWords.FindSubmatch(b); w != nil {
			if unit := timeWords[strings.ToLower(string(w[3]))]; unit != "" {
				every := string(w[2])
				if every == "" {
					every = "1"
				}
				return wrong(fmt.Sprintf("write %s per %s%s", w[1], every, unit), "%q is not how a rate is written", b)
			}
		}
		return wrong("write how many scalings in how long, such as 1 per 5m", "%q is no rate", b)
	}
	n, err := parseInt(string(m[1]), 32)
	if err != nil {
		return err
	}
	d, err := parseDuration(string(m[2]), "s")
	var f *FieldError
	if errors.As(err, &f) {
		return wrong(strings.Replace(f.Fix, "write ", fmt.Sprintf("write %d per ", n), 1), "%s", f.Msg)
	}
	if n < 1 || d < time.Second {
		return wrong("write at least 1 per 1s", "%q lets nothing happen", b)
	}
	*r = rate{int(n), d}
	return nil
}
