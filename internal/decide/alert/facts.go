package alert

import (
	"time"

	"tidemark/internal/fleet"
)

// Facts are what one tick of one fleet shows. What is true of the machine and not of one fleet (Jump, Journal) is told once, from
// Facts with no Fleet and a State of their own: a clock that jumps is one piece of news, not one for each fleet.
type Facts struct {
	Now      time.Time
	Instance string
	Fleet    string
	Bounds   fleet.Bounds
	Size     fleet.Size
	Target   string // why the target cannot be read, when Size is not known
	Signals  []Signal
	Decision *fleet.Decision // the tick's; nil: nothing was decided, so nothing is known
	Events   []fleet.Event   // the tick's
	Jump     time.Duration   // how far the wall clock moved by itself; given to every State, since it moves their times
	Journal  string          // why the journal cannot be written; empty while it can
	Month    *Month          // nil: not measured
	Budget   *Budget         // nil: none
}

// Signal is one signal at the tick.
type Signal struct {
	Name    string
	Unit    fleet.Unit
	Reading fleet.Reading
	Lost    time.Time // since when it is missing or stale; zero while it is there
	Error   string    // why
	// Threshold of its scale-out rule, the lowest if there are several; 0: it has none that looks for high values.
	Threshold float64
	Optional  bool
}

// Month is the availability of the month so far, in local time.
type Month struct {
	Good, Total float64
	Unit        string // what is counted: "requests", "minutes"
}

// Budget is the money of the month so far.
type Budget struct {
	Spent, Projected, Limit float64 // Projected: at the month's end, if it goes on so
	Currency                string
}

// Rules say when facts are worth a notice.
type Rules struct {
	CPUSignal    string        `yaml:"cpu_signal"`           // the signal that is the workers' CPU
	ErrorsSignal string        `yaml:"errors_signal"`        // the signal that is the share of requests that failed; Tally uses it
	CPU          float64       `yaml:"cpu,percent"`          // above it after a scale-up ...
	CPUFor       time.Duration `yaml:"cpu_for"`              // ... for so long
	AfterScaleUp time.Duration `yaml:"after_scale_up"`       // a scale-up answers so long for what follows
	Settle       time.Duration `yaml:"settle"`               // before a response time is compared with the one before the scale-up
	Improve      float64       `yaml:"improve,percent"`      // by so much it must have fallen, unless it is under its threshold
	ShortFor     time.Duration `yaml:"short_for"`            // a scale-out is wanted and held back
	MissingFor   time.Duration `yaml:"signal_missing"`       // a signal is missing or stale
	TargetFor    time.Duration `yaml:"target_lost"`          // the target cannot be read
	TimeToScale  time.Duration `yaml:"time_to_scale"`        // from the breach to the new worker serving
	Availability float64       `yaml:"availability,percent"` // of the month
	ClockJump    time.Duration `yaml:"clock_jump"`           // a jump of at least so much
	JournalFor   time.Duration `yaml:"journal_failing"`      // the journal cannot be written
}

// DefaultRules are the requirements': CPU above 85 % after a scale-up, time to scale under 5 minutes, 99.5 % available. Ten
// minutes to settle are two windows of the 5-minute p95: all requests in it are of after the scale-up.
func DefaultRules() Rules {
	return Rules{
		CPUSignal: "cpu", ErrorsSignal: "errors", CPU: 85, CPUFor: 5 * time.Minute, AfterScaleUp: 30 * time.Minute, Settle: 10 * time.Minute, Improve: 10,
		ShortFor: 5 * time.Minute, MissingFor: 10 * time.Minute, TargetFor: 3 * time.Minute, TimeToScale: 5 * time.Minute,
		Availability: 99.5, ClockJump: time.Minute, JournalFor: time.Minute,
	}
}

// Check adds what is wrong with the rules: the field, what it is, and what to write.
func (r *Rules) Check(add func(field, msg, fix string)) {
	for _, s := range []struct{ field, name string }{{"cpu_signal", r.CPUSignal}, {"errors_signal", r.ErrorsSignal}} {
		if s.name == "" {
			add(s.field, "is empty", "write the name of a signal")
		}
	}
	for _, p := range []struct {
		field string
		value float64
		least float64
	}{{"cpu", r.CPU, 10}, {"improve", r.Improve, 0}, {"availability", r.Availability, 50}} {
		if !(p.value >= p.least && p.value < 100) {
			add(p.field, fleet.Percent.Format(p.value)+" is not between "+fleet.Percent.Format(p.least)+" and 100 %", "write for example "+map[string]string{"cpu": "85%", "improve": "10%", "availability": "99.5%"}[p.field])
		}
	}
	for _, p := range []struct {
		field string
		value time.Duration
	}{
		{"cpu_for", r.CPUFor}, {"after_scale_up", r.AfterScaleUp}, {"settle", r.Settle}, {"short_for", r.ShortFor}, {"signal_missing", r.MissingFor},
		{"target_lost", r.TargetFor}, {"time_to_scale", r.TimeToScale}, {"clock_jump", r.ClockJump}, {"journal_failing", r.JournalFor},
	} {
		if p.value < 10*time.Second || p.value > 24*time.Hour {
			add(p.field, fleet.Elapsed(p.value)+" is not between 10s and 24h", "write for example 5m")
		}
	}
	if r.AfterScaleUp < r.Settle || r.AfterScaleUp < r.CPUFor {
		add("after_scale_up", fleet.Elapsed(r.AfterScaleUp)+" is shorter than settle or cpu_for, so they are never reached", "write a longer one")
	}
}
