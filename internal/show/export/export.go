// Package export writes what another autoscaler can express of a fleet's policy, and lists what it cannot: nobody should find out
// in production which of the safeguards stayed behind.
package export

import (
	"bytes"
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// Export is a policy in another system's words.
type Export struct {
	Format string   `json:"format"`
	Fleet  string   `json:"fleet"`
	Text   string   `json:"text"`
	Lost   []string `json:"lost"` // what the other system cannot do, or does otherwise, a sentence each
}

// format is one other system.
type format struct {
	system string // as sentences call it
	can    ability
	step   time.Duration // periods are multiples of it; 0: any
	most   longest
}

// longest is what a system can wait at most.
type longest struct{ cooldown, rate time.Duration }

// ability is what a system can express of a policy.
type ability uint16

const (
	twoThresholds ability = 1 << iota // one to grow and another to shrink, either way round; else one target, which a signal rises to with the load
	datapoints                        // M of N
	missing                           // what is assumed where data are missing
	agreement                         // it shrinks only when all signals allow
	rate                              // so many changes in so long
	floors                            // by schedule
	ceilings
)

var formats = map[string]format{
	"hpa":           {system: "the HorizontalPodAutoscaler", can: agreement | rate, most: longest{time.Hour, 30 * time.Minute}},
	"keda":          {system: "KEDA", can: agreement | rate | floors, most: longest{time.Hour, 30 * time.Minute}},
	"aws-terraform": {system: "AWS Application Auto Scaling", can: twoThresholds | datapoints | missing | floors | ceilings, step: time.Minute},
	"cloudwatch":    {system: "CloudWatch", can: twoThresholds | datapoints | missing, step: time.Minute},
}

// Formats lists what Write knows.
func Formats() []string { return slices.Sorted(maps.Keys(formats)) }

//go:embed *.tmpl
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"hcl":      hcl,
	"quantity": quantity,
	"ident":    func(s string) string { return strings.NewReplacer("-", "_", ".", "_").Replace(s) },
	"seconds":  func(d time.Duration) int { return int(d / time.Second) },
	"number":   number,
	"camel":    camel,
}).ParseFS(files, "*.tmpl"))

// Write exports a fleet's policy. It fails when nothing of it can be expressed, or the format is not known.
func Write(name string, c *config.Config, f *config.Fleet) (*Export, error) {
	to, ok := formats[name]
	if !ok {
		return nil, fmt.Errorf("%q is no system that a policy can be exported to; write one of %s", name, strings.Join(Formats(), ", "))
	}
	s := newSheet(to, c, f)
	if len(s.Rules) == 0 {
		return nil, fmt.Errorf("%s can express no rule of fleet %s:\n  %s", to.system, f.Name, strings.Join(s.Lost, "\n  "))
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name+".tmpl", s); err != nil {
		return nil, fmt.Errorf("export to %s: %w", name, err)
	}
	return &Export{Format: name, Fleet: f.Name, Text: b.String(), Lost: s.Lost}, nil
}

// sheet is what the templates write.
type sheet struct {
	Instance string
	System   string
	Fleet    string
	Bounds   fleet.Bounds
	Tick     time.Duration
	Zone     string
	Rules    []rule
	Windows  []window
	Pace     policy.Pace
	Freezing bool // it never shrinks
	Lost     []string
}

// Growing and Shrinking are how long Kubernetes waits before it adds, or removes, a step again: 15 s at least, its own round.
func (s *sheet) Growing() time.Duration {
	return max(min(max(s.Pace.CooldownUp, s.Pace.RateWindow), 30*time.Minute), 15*time.Second)
}

// Shrinking: see Growing.
func (s *sheet) Shrinking() time.Duration { return max(s.Pace.RateWindow, 15*time.Second) }

// rule is a rule of a policy that is on.
type rule struct {
	policy.Rule
	Policy string
	Number int // within the fleet, from 1
	Signal *policy.Signal
	Body   config.Body   // of the signal's source
	Period time.Duration // that the system can have
}

// Name and the like are for the templates. Name tells rules apart.
func (r rule) Name() string {
	way := "up"
	if !r.Out() {
		way = "down"
	}
	return fmt.Sprintf("%s-%s-%d", r.Signal.Name, way, r.Number)
}

// Comparison is CloudWatch's word for the operator.
func (r rule) Comparison() string {
	return map[fleet.Operator]string{
		fleet.AtLeast: "GreaterThanOrEqualToThreshold", fleet.Above: "GreaterThanThreshold",
		fleet.AtMost: "LessThanOrEqualToThreshold", fleet.Below: "LessThanThreshold",
	}[r.Operator]
}

// Rises reports whether the alarm is raised above the threshold.
func (r rule) Rises() bool { return r.Operator == fleet.AtLeast || r.Operator == fleet.Above }

// TreatMissing is CloudWatch's word.
func (r rule) TreatMissing() string {
	return [...]string{policy.MissingMissing: "missing", policy.MissingIgnore: "ignore", policy.MissingBreaching: "breaching", policy.MissingNotBreaching: "notBreaching"}[r.Missing]
}

// Statistic is CloudWatch's word, and Quantile its extended statistic; one of the two is empty. A source that keeps the distribution
// itself publishes the quantile, of which the worst counts.
func (r rule) Statistic() string {
	if r.Signal.FromSource {
		return "Maximum"
	}
	return map[policy.Statistic]string{policy.Avg: "Average", policy.Max: "Maximum", policy.Min: "Minimum", policy.Sum: "Sum", policy.Last: "Maximum"}[r.Signal.Statistic]
}

// Quantile: see Statistic.
func (r rule) Quantile() string {
	if r.Signal.FromSource || r.Signal.Statistic != policy.Quantile {
		return ""
	}
	return "p" + number(100*r.Signal.Q)
}
