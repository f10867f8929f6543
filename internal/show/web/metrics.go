package web

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
)

const metricsKind = "text/plain; version=0.0.4; charset=utf-8"

// metric is one name of /metrics. Names, labels and meanings stay as they are from version to version.
type metric struct {
	name, help string
	labels     string // their names, for the description
	collect    func(s *samples, o *Overview)
}

// Metrics lists the names of /metrics and what they mean; all are gauges.
func Metrics() (out []struct{ Name, Labels, Help string }) {
	for _, m := range metrics {
		out = append(out, struct{ Name, Labels, Help string }{m.name, m.labels, m.help})
	}
	return out
}

// ofFleet collects one value of each fleet.
func ofFleet(value func(st *control.Status) (v float64, known bool)) func(*samples, *Overview) {
	return func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			if v, known := value(st); known {
				s.add(v, "fleet", st.Fleet)
			}
		}
	}
}

var metrics = []metric{
	{"tidemark_build_info", "1; the version that runs.", "version, instance", func(s *samples, o *Overview) { s.add(1, "version", o.Version, "instance", o.Instance) }},
	{"tidemark_lead_start_time_seconds", "When this daemon took the lead, in seconds since 1970.", "", func(s *samples, o *Overview) { s.add(seconds(o.Since)) }},
	{"tidemark_fleet_workers", "Workers by phase: starting, serving, draining. Absent while the target cannot be read.", "fleet, phase", func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			if st.Size.Known {
				s.add(float64(st.Size.Starting), "fleet", st.Fleet, "phase", "starting")
				s.add(float64(st.Size.Serving), "fleet", st.Fleet, "phase", "serving")
				s.add(float64(st.Size.Draining), "fleet", st.Fleet, "phase", "draining")
			}
		}
	}},
	{"tidemark_fleet_workers_min", "The fleet's minimum.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return float64(st.Bounds.Min), true })},
	{"tidemark_fleet_workers_max", "The fleet's maximum.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return float64(st.Bounds.Max), true })},
	{"tidemark_fleet_workers_wanted", "The size that policies, schedule or operator ask for, before any safeguard. Absent when nothing was decided.", "fleet", ofFleet(func(st *control.Status) (float64, bool) {
		return float64(st.Decision.Wanted), st.Decision.Wanted > 0
	})},
	{"tidemark_fleet_workers_short", "Workers wanted beyond the maximum, which is reached.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return float64(st.Short), true })},
	{"tidemark_fleet_blocked", "1 while something holds a wanted change back.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return truth(st.Decision.Would.Code != fleet.NoCode), true })},
	{"tidemark_fleet_target_up", "1 while the target can be read.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return truth(st.Size.Known), !st.Time.IsZero() })},
	{"tidemark_fleet_last_tick_time_seconds", "When the fleet was last looked at, in seconds since 1970.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return seconds(st.Time), !st.Time.IsZero() })},
	{"tidemark_fleet_last_tick_duration_seconds", "How long the last look took: from its start, with all signals read, until what was decided was recorded and begun.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return time.Duration(st.Took).Seconds(), !st.Time.IsZero() })},
	{"tidemark_fleet_last_scale_up_time_seconds", "When the last scale-up was decided, in seconds since 1970. Absent before the first.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return seconds(st.LastUp), !st.LastUp.IsZero() })},
	{"tidemark_fleet_last_scale_down_time_seconds", "When the last scale-down was decided, in seconds since 1970. Absent before the first.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return seconds(st.LastDown), !st.LastDown.IsZero() })},
	{"tidemark_fleet_mode", "1 for the mode in force: off, shadow, scale_out_only or on.", "fleet, mode", func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			for _, name := range fleet.ModeNames() {
				s.add(truth(st.Mode.String() == name), "fleet", st.Fleet, "mode", name)
			}
		}
	}},
	{"tidemark_fleet_held", "1 while an operator holds the fleet or has set its size.", "fleet", ofFleet(func(st *control.Status) (float64, bool) { return truth(st.Order != nil), true })},
	{"tidemark_signal_value", "The latest reading, in seconds, percent (0 to 100), bytes or a plain number. Absent unless fresh.", "fleet, signal, unit", func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			for i := range st.Signals {
				if g := &st.Signals[i]; g.Reading.Quality == fleet.Fresh {
					s.add(g.Reading.Value, "fleet", st.Fleet, "signal", g.Name, "unit", g.Unit.String())
				}
			}
		}
	}},
	{"tidemark_signal_up", "0 while a signal is missing or stale, 1 otherwise.", "fleet, signal", func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			for i := range st.Signals {
				s.add(truth(st.Signals[i].Lost.IsZero()), "fleet", st.Fleet, "signal", st.Signals[i].Name)
			}
		}
	}},
	{"tidemark_alarm", "1 while a rule's alarm is raised, 0 while it is ok. Absent while there are too few data.", "fleet, policy, signal, rule", func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			for i := range st.Rules {
				if r := &st.Rules[i]; r.State != fleet.InsufficientData {
					s.add(truth(r.State == fleet.Alarm), "fleet", st.Fleet, "policy", r.Policy, "signal", r.Signal, "rule", fmt.Sprintf("%s %s, %+d", r.Operator, r.Unit.Format(r.Threshold), r.Change))
				}
			}
		}
	}},
	{"tidemark_guard_holds", "1 while a guard holds back scale-outs.", "fleet, guard", func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			for _, g := range st.Guards {
				s.add(truth(g.Holds), "fleet", st.Fleet, "guard", g.Name)
			}
		}
	}},
	{"tidemark_objective_seconds", "The service level that a policy holds.", "fleet, policy, signal", func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			for _, g := range st.Objectives {
				s.add(g.Within, "fleet", st.Fleet, "policy", g.Policy, "signal", g.Signal)
			}
		}
	}},
	{"tidemark_policy_workers", "The size that one policy alone would have led to. Absent while not known.", "fleet, policy", func(s *samples, o *Overview) {
		for _, st := range o.Fleets {
			for _, g := range st.Objectives {
				if g.Alone > 0 {
					s.add(float64(g.Alone), "fleet", st.Fleet, "policy", g.Policy)
				}
			}
			for _, g := range st.Forecasts {
				if g.Need > 0 {
					s.add(float64(g.Need), "fleet", st.Fleet, "policy", g.Policy)
				}
			}
		}
	}},
	{"tidemark_alerts", "Alerts that are raised, by severity.", "severity", func(s *samples, o *Overview) {
		n := map[alert.Severity]int{}
		for i := range o.Raised {
			n[o.Raised[i].Severity]++
		}
		for _, v := range []alert.Severity{alert.Info, alert.Warning, alert.Critical} {
			s.add(float64(n[v]), "severity", v.String())
		}
	}},
	{"tidemark_alerts_undelivered", "Messages that wait for a channel.", "", func(s *samples, o *Overview) { s.add(float64(o.Untold)) }},
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// samples are the lines of one metric.
type samples struct {
	name string
	bytes.Buffer
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// add writes a line; labels are names and values in turn.
func (s *samples) add(v float64, labels ...string) {
	s.WriteString(s.name)
	for i := 0; i < len(labels); i += 2 {
		s.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + labels[i] + `="` + labelEscapes.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		s.WriteByte('}')
	}
	s.WriteByte(' ')
	s.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	s.WriteByte('\n')
}

func (a *API) metrics(w http.ResponseWriter, _ *http.Request) {
	o := a.b.Overview()
	var s samples
	for _, m := range metrics {
		s.name = m.name
		fmt.Fprintf(&s, "# HELP %s %s\n# TYPE %s gauge\n", m.name, strings.ReplaceAll(m.help, `\`, `\\`), m.name)
		m.collect(&s, &o)
	}
	w.Header().Set("Content-Type", metricsKind)
	_, _ = w.Write(s.Bytes()) // the client may be gone
}
