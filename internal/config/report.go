package config

import (
	"bytes"
	"fmt"
	"net/mail"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// ReportsDir is where reports are kept: the months', and what is written there by hand.
func (c *Config) ReportsDir() string { return filepath.Join(c.StateDir, "reports") }

// Report is the month's report: what it judges, and, where it is written in the file, when it is made by itself and who gets it.
type Report struct {
	Day    int           `yaml:"day"` // of the month on which the one before is reported
	At     TimeOfDay     `yaml:"at"`
	To     []string      `yaml:"to"` // mail addresses; by notify.mail's server
	Levels ServiceLevels `yaml:"service_levels"`
	// When load tests passed, and what makes one due: the requirements ask for them before go-live, after major updates, and each year.
	GoLive    Date   `yaml:"go_live"`
	Updates   []Date `yaml:"major_updates"`
	LoadTests []Date `yaml:"load_tests"`

	Scheduled bool `yaml:"-"` // it is written in the file
}

// ServiceLevels are the requirements' three: each is a signal, and what it must stay within.
type ServiceLevels struct {
	API   ServiceLevel `yaml:"api"`
	Pages ServiceLevel `yaml:"pages"`
	Sync  ServiceLevel `yaml:"sync"`
}

// ServiceLevel is one of them. Without a signal it is not measured.
type ServiceLevel struct {
	Signal string        `yaml:"signal"`
	Within time.Duration `yaml:"within"`
}

// Date is a day, written as 2027-01-01. The zero Date is none.
type Date struct{ time.Time }

// UnmarshalText reads a day.
func (d *Date) UnmarshalText(b []byte) (err error) {
	if d.Time, err = time.Parse(time.DateOnly, string(b)); err != nil {
		return &FieldError{Msg: fmt.Sprintf("%q is no date", b), Fix: "write one such as 2027-01-01"}
	}
	return nil
}

// MarshalText writes a day; none is empty.
func (d Date) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.Format(time.DateOnly)), nil
}

// MarshalJSON and UnmarshalJSON do so too: those of time.Time are for moments.
func (d Date) MarshalJSON() ([]byte, error) {
	b, err := d.MarshalText()
	return append(append([]byte{'"'}, b...), '"'), err
}

func (d *Date) UnmarshalJSON(b []byte) error {
	text := bytes.Trim(b, `"`)
	if len(text) == 0 {
		*d = Date{}
		return nil
	}
	return d.UnmarshalText(text)
}

// TimeOfDay is a local time, written as 07:00; since midnight by the clock.
type TimeOfDay time.Duration

// UnmarshalText reads a time of day.
func (t *TimeOfDay) UnmarshalText(b []byte) error {
	at, err := time.Parse("15:04", string(b))
	if err != nil {
		return &FieldError{Msg: fmt.Sprintf("%q is no time of day", b), Fix: `write one such as "07:00"`}
	}
	*t = TimeOfDay(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute)
	return nil
}

// MarshalText writes a time of day.
func (t TimeOfDay) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%02d:%02d", int(time.Duration(t).Hours()), int(time.Duration(t).Minutes())%60), nil
}

// The requirements' service levels (SRS 4.1).
var defaultReport = Report{
	Day: 1, At: TimeOfDay(7 * time.Hour),
	Levels: ServiceLevels{API: ServiceLevel{Within: 500 * time.Millisecond}, Pages: ServiceLevel{Within: 3 * time.Second}, Sync: ServiceLevel{Within: 120 * time.Second}},
}

// monthly checks what is written about the report, once the fleets are known.
func (d *decoder) monthly(s *spec, fleets []Fleet) {
	r := &s.Report
	r.Scheduled = d.written("report")
	if at := "report.day"; d.ok(at) && (r.Day < 1 || r.Day > 28) {
		d.fail(at, fmt.Sprintf("%d is no day that each month has", r.Day), "write 1 to 28")
	}
	mailed := slices.ContainsFunc(s.Notify, func(n notifySpec) bool { return n.Kind == "mail" })
	if at := "report.to"; d.ok(at) && len(r.To) > 0 && !mailed {
		d.fail(at, "there is no mail server to send it by", "write notify: {mail: {smtp: ..., to: [...]}}")
	}
	for i, to := range r.To {
		at := fmt.Sprintf("report.to.%d", i)
		if _, err := mail.ParseAddress(to); d.ok(at) && err != nil {
			d.fail(at, fmt.Sprintf("%q is no mail address", to), "write one such as director@moa.example")
		}
	}
	if t := s.Instance.Targets.P95; t > 0 && !d.written("report.service_levels.api.within") && d.ok("instance.performance_targets.response_time_p95") {
		r.Levels.API.Within = t
		d.given["report.service_levels.api.within"] = "instance.performance_targets"
	}
	if api := &r.Levels.API; !d.written("report.service_levels.api.signal") {
		if api.Signal = tailOf(fleets); api.Signal != "" {
			d.given["report.service_levels.api.signal"] = "the first p95 of a response time"
		}
	}
	for _, l := range []struct {
		name string
		ServiceLevel
	}{{"api", r.Levels.API}, {"pages", r.Levels.Pages}, {"sync", r.Levels.Sync}} {
		at := "report.service_levels." + l.name
		d.between(at+".within", l.Within, time.Millisecond, time.Hour)
		if l.Signal != "" && d.ok(at+".signal", "fleets") {
			d.levelSignal(at+".signal", l.Signal, fleets)
		}
	}
}

// levelSignal checks that a service level's signal is there, and is a time.
func (d *decoder) levelSignal(at, name string, fleets []Fleet) {
	var times []string
	for _, f := range fleets {
		for _, sig := range f.Policy.Signals {
			if sig.Unit == fleet.Seconds {
				times = append(times, sig.Name)
			}
		}
	}
	if slices.Contains(times, name) {
		return
	}
	fix := "no fleet measures a time: add a signal such as page_p95: {access_log: {path: ..., route: /}, statistic: p95}"
	if len(times) > 0 {
		fix = "name one of " + strings.Join(times, ", ")
	}
	d.fail(at, fmt.Sprintf("no fleet has a signal %q that is a time", name), fix)
}

// tailOf is the first signal that is the p95 of a time, of an objective or a rule before any other; empty when there is none.
func tailOf(fleets []Fleet) string {
	for _, f := range fleets {
		tail := func(i int) bool {
			return i >= 0 && i < len(f.Policy.Signals) && f.Policy.Signals[i].Unit == fleet.Seconds && f.Policy.Signals[i].Q == 0.95
		}
		for _, p := range f.Policy.Policies {
			if p.SLO != nil && tail(p.SLO.Objective) {
				return f.Policy.Signals[p.SLO.Objective].Name
			}
			if i := slices.IndexFunc(p.Rules, func(r policy.Rule) bool { return r.Out() && tail(r.Signal) }); i >= 0 {
				return f.Policy.Signals[p.Rules[i].Signal].Name
			}
		}
		for i := range f.Policy.Signals {
			if tail(i) {
				return f.Policy.Signals[i].Name
			}
		}
	}
	return ""
}
