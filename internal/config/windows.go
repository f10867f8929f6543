package config

import (
	"errors"
	"fmt"
	"time"

	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
)

type windowSpec struct {
	Name            string        `yaml:"name,required" example:"off-peak"`
	Daily           literal       `yaml:"daily"`
	Weekly          literal       `yaml:"weekly"`
	From            literal       `yaml:"from"`
	To              literal       `yaml:"to"`
	Holidays        holidayRule   `yaml:"holidays"`
	Floor           int           `yaml:"floor"`
	Ceiling         int           `yaml:"ceiling"`
	Lead            time.Duration `yaml:"lead"`
	CancelledByLoad bool          `yaml:"cancelled_by_load"` // default: true for a ceiling
}

type holidayRule schedule.HolidayRule

// holidayRuleNames are in the order of schedule.HolidayRule.
var holidayRuleNames = []string{"any", "skip", "only"}

func (h holidayRule) MarshalText() ([]byte, error) { return []byte(holidayRuleNames[h]), nil }
func (h *holidayRule) UnmarshalText(b []byte) error {
	i, err := oneOf("way to treat holidays", string(b), holidayRuleNames)
	*h = holidayRule(i)
	return err
}

// failSchedule reports what decide/schedule says of a text or of a window.
func (d *decoder) failSchedule(path string, err error) {
	var e *schedule.Error
	if errors.As(err, &e) {
		d.fail(path, e.Problem, e.Fix)
	}
}

// schedule resolves the windows of a fleet.
func (r *resolver) schedule(in *Instance) {
	if len(r.spec.Schedule) == 0 || r.zone == nil {
		return
	}
	s := &schedule.Schedule{Zone: r.zone, Holidays: r.holidays}
	first := map[string]string{}
	for i := range r.spec.Schedule {
		path := r.at("schedule.%d", i)
		r.unique(first, path+".name", r.spec.Schedule[i].Name, "window")
		if w, ok := r.scheduleWindow(path, &r.spec.Schedule[i], in); ok {
			s.Windows = append(s.Windows, w)
		}
	}
	r.out.Schedule = s
}

func (r *resolver) scheduleWindow(path string, s *windowSpec, in *Instance) (schedule.Window, bool) {
	w := schedule.Window{Name: s.Name, Holidays: schedule.HolidayRule(s.Holidays), Floor: s.Floor, Ceiling: s.Ceiling, Lead: s.Lead}
	var err error
	for _, text := range []struct {
		field string
		value literal
		read  func(string) error
	}{
		{"daily", s.Daily, func(v string) error { w.Daily, err = schedule.ParseDaily(v); return err }},
		{"weekly", s.Weekly, func(v string) error { w.Weekly, err = schedule.ParseDays(v); return err }},
		{"from", s.From, func(v string) error { w.From, err = schedule.ParseDate(v); return err }},
		{"to", s.To, func(v string) error { w.To, err = schedule.ParseDate(v); return err }},
	} {
		if at := path + "." + text.field; r.written(at) && r.ok(at) {
			if err := text.read(string(text.value)); err != nil {
				r.failSchedule(at, err)
			}
		}
	}
	if at := path + ".cancelled_by_load"; !r.written(at) {
		s.CancelledByLoad = s.Ceiling > 0
		r.given[at] = "default: a ceiling is"
	}
	w.CancelledByLoad = s.CancelledByLoad
	if !r.ok(path) {
		return w, false
	}
	for _, e := range w.Problems() {
		r.fail(path+"."+e.Field, e.Problem, e.Fix)
	}
	if w.Holidays != schedule.AnyDay && len(in.Holidays) == 0 {
		r.fail(path+".holidays", "speaks of holidays, and instance.holidays lists none", "write instance: {holidays: [2027-12-25, 01-01]}")
	}
	return w, r.ok(path)
}

// windowBounds checks a window against the bounds, and its floor against the time that it takes to get there.
func (r *resolver) windowBounds() {
	if r.out.Schedule == nil || !r.ok(r.at("bounds"), r.at("schedule")) {
		return
	}
	b := r.out.Bounds
	for i, w := range r.out.Schedule.Windows {
		path := r.at("schedule.%d", i)
		switch {
		case w.Floor > b.Max:
			r.fail(path+".floor", fmt.Sprintf("%d is more than bounds.max, %d, which is never exceeded", w.Floor, b.Max), fmt.Sprintf("write %d or less, or raise bounds.max", b.Max))
		case w.Floor > 0 && w.Floor <= b.Min:
			r.warn(path+".floor", fmt.Sprintf("%d is not more than bounds.min, %d, so it changes nothing", w.Floor, b.Min), fmt.Sprintf("write more than %d, or delete the window", b.Min))
		case w.Ceiling > 0 && w.Ceiling < b.Min:
			r.warn(path+".ceiling", fmt.Sprintf("%d is less than bounds.min, %d, which is kept", w.Ceiling, b.Min), fmt.Sprintf("write %d or more", b.Min))
		case w.Ceiling >= b.Max:
			r.warn(path+".ceiling", fmt.Sprintf("%d is not less than bounds.max, %d, so it changes nothing", w.Ceiling, b.Max), fmt.Sprintf("write less than %d, or delete the window", b.Max))
		}
		if took, why := r.climb(b.Min, w.Floor, r.out.StepUp); w.Floor > b.Min && r.ok(r.at("safeguards")) && took > w.Lead {
			at := path + ".lead"
			if !r.written(at) {
				at = path + ".floor"
			}
			r.warn(at, fmt.Sprintf("from %d to %d workers takes at least %s, %s, so the window begins with fewer", b.Min, w.Floor, fleet.Elapsed(took), why), "write lead: "+formatDuration(took)+", or raise safeguards.step.up")
		}
	}
}

// climb is the least time that the rate limit and the cooldown let pass on the way from one size to another, and why.
func (r *resolver) climb(from, to, step int) (time.Duration, string) {
	s := r.out.Safeguards
	if step < 1 || s.RateCount < 1 || to <= from {
		return 0, ""
	}
	scalings := (to - from + step - 1) / step
	byRate := time.Duration((scalings-1)/s.RateCount) * s.RateWindow
	byCooldown := time.Duration(scalings-1) * s.CooldownUp
	if byCooldown > byRate {
		return byCooldown, fmt.Sprintf("with a cooldown of %s and steps of %d", formatDuration(s.CooldownUp), step)
	}
	return byRate, fmt.Sprintf("with %d per %s and steps of %d", s.RateCount, formatDuration(s.RateWindow), step)
}
