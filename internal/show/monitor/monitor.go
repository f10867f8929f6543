// Package monitor is how others watch Tidemark: alert rules for Prometheus, a dashboard for Grafana, and the description of the figures that
// both rest on. All are made from the definitions of /metrics (package web) and from the thresholds of the alerts (decide/alert); a name
// that is not there is an error when they are made. What is made stands in deploy and docs, and a test holds it to the letter.
//
//go:generate go run ./generate ../../..
package monitor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/show/web"
)

// File is one that is made.
type File struct {
	Path string // within the source tree
	// Make makes it; of one that is only made in part it is given what stands there.
	Make func(before []byte) ([]byte, error)
}

// Files are all.
var Files = []File{
	{"deploy/prometheus/tidemark.rules.yaml", func([]byte) ([]byte, error) { return Rules() }},
	{"deploy/grafana/tidemark.json", func([]byte) ([]byte, error) { return Dashboard() }},
	{"docs/metrics.md", Describe},
}

// AlertRule is one alert of Prometheus.
type AlertRule struct {
	Name, Expr           string
	For                  time.Duration
	Severity             alert.Severity
	Summary, Description string
}

// AlertRules are for those who have a Prometheus, beside or in place of Tidemark's own alerts; what only Prometheus can see, that Tidemark
// is gone, comes first. Thresholds and times are those of the alerts where nothing else is written.
func AlertRules() []AlertRule {
	r := alert.DefaultRules()
	const fleet = "{{ $labels.fleet }}"
	return []AlertRule{
		{"TidemarkGone", "absent(tidemark_build_info)", 5 * time.Minute, alert.Critical, "Tidemark cannot be read",
			"No daemon has answered Prometheus for 5 minutes. The fleets stay as they are, and nobody scales them. See that 'tidemark run' runs, and that Prometheus reaches it."},
		{"TidemarkFleetNotLookedAt", "time() - tidemark_fleet_last_tick_time_seconds > 120", time.Minute, alert.Critical, fleet + " is not looked at",
			"The last look at " + fleet + " was {{ $value | humanizeDuration }} ago. See 'tidemark status' and the daemon's log."},
		{"TidemarkTargetUnreadable", "tidemark_fleet_target_up == 0", r.TargetFor, alert.Critical, "the workers of " + fleet + " cannot be counted",
			"The target cannot be read, so nothing is changed. 'tidemark status' says why."},
		{"TidemarkNobodyServes", `tidemark_fleet_workers{phase="serving"} == 0`, time.Minute, alert.Critical, "no worker of " + fleet + " serves",
			"Every request waits or fails. See 'tidemark status' and the workers' own log."},
		{"TidemarkBelowMinimum", `sum without (phase) (tidemark_fleet_workers{phase=~"starting|serving"}) < tidemark_fleet_workers_min`, 5 * time.Minute, alert.Critical, fleet + " has fewer workers than its minimum",
			"It has {{ $value }}. A minimum is restored at once, so workers do not start: see 'tidemark status'."},
		{"TidemarkShortAtMaximum", "tidemark_fleet_workers_short > 0", r.ShortFor, alert.Critical, fleet + " is at its maximum and short of {{ $value }}",
			"More workers are wanted than the maximum allows. Raise the maximum if the host and the database can carry it."},
		{"TidemarkScaleOutHeldBack", `tidemark_fleet_blocked == 1 and tidemark_fleet_workers_wanted > sum without (phase) (tidemark_fleet_workers{phase=~"starting|serving"})`, 15 * time.Minute, alert.Warning, "a scale-out of " + fleet + " is held back",
			"'tidemark explain " + fleet + "' says by what."},
		{"TidemarkGuardHolds", "tidemark_guard_holds == 1", 15 * time.Minute, alert.Warning, "guard {{ $labels.guard }} of " + fleet + " holds back scale-outs",
			"What it guards (the database, the host) is short: more workers would do harm. 'tidemark status' has its figures."},
		{"TidemarkObjectiveMissed", "max without (unit) (tidemark_signal_value) > on (instance, job, fleet, signal) max without (policy) (tidemark_objective_seconds)", 10 * time.Minute, alert.Warning, "{{ $labels.signal }} of " + fleet + " is {{ $value | humanizeDuration }}, above its objective",
			"The service level is missed. 'tidemark explain " + fleet + "' says why the fleet is as large as it is."},
		{"TidemarkCPUHighAfterScaleUp", fmt.Sprintf(`tidemark_signal_value{signal=%q,unit="percent"} > %g and on (instance, job, fleet) time() - tidemark_fleet_last_scale_up_time_seconds < %g`, r.CPUSignal, r.CPU, r.AfterScaleUp.Seconds()), r.CPUFor, alert.Warning, "CPU of " + fleet + " is {{ $value | humanize }} % after a scale-up",
			"The new worker did not help, or one more is needed. See whether the host has cores left."},
		{"TidemarkSignalLost", "tidemark_signal_up == 0", r.MissingFor, alert.Warning, "signal {{ $labels.signal }} of " + fleet + " is missing or stale",
			"What is not seen is not guessed: the fleet does not scale in. 'tidemark status' says why it cannot be read."},
		{"TidemarkCriticalAlert", `tidemark_alerts{severity="critical"} > 0`, 0, alert.Critical, "Tidemark has {{ $value }} critical alerts",
			"'tidemark alert list' has them."},
		{"TidemarkAlertsUndelivered", "tidemark_alerts_undelivered > 0", time.Hour, alert.Warning, "{{ $value }} messages of Tidemark's wait to be delivered",
			"See 'tidemark alert list', then try the channels with 'tidemark alert test'."},
		{"TidemarkNotScaling", `tidemark_fleet_mode{mode=~"off|shadow"} == 1 or tidemark_fleet_held == 1`, 24 * time.Hour, alert.Info, fleet + " has not been scaled for a day, by order",
			"An operator holds it, or its mode is {{ or $labels.mode \"on\" }}. 'tidemark release' and 'tidemark mode' let it go."},
	}
}

// Rules are the alert rules as Prometheus reads them.
func Rules() ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Alert rules on Tidemark's /metrics. Made by 'go generate ./internal/show/monitor': change them there.\n# In prometheus.yml: rule_files: [tidemark.rules.yaml]\ngroups:\n  - name: tidemark\n    rules:\n")
	for _, r := range AlertRules() {
		if err := known(r.Expr); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		fmt.Fprintf(&b, "      - alert: %s\n        expr: %s\n", r.Name, quote(r.Expr))
		if r.For > 0 {
			fmt.Fprintf(&b, "        for: %s\n", prometheusDuration(r.For))
		}
		fmt.Fprintf(&b, "        labels: {severity: %s}\n        annotations:\n          summary: %s\n          description: %s\n", r.Severity, quote(r.Summary), quote(r.Description))
	}
	return []byte(b.String()), nil
}

// quote writes a YAML string in single quotes, in which nothing is special but they themselves.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func prometheusDuration(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

var metricName = regexp.MustCompile(`tidemark_[a-z_]+`)

// known checks that an expression names no figure that /metrics does not have.
func known(expr string) error {
	for _, name := range metricName.FindAllString(expr, -1) {
		if !slices.ContainsFunc(web.Metrics(), func(m struct{ Name, Labels, Help string }) bool { return m.Name == name }) {
			return fmt.Errorf("/metrics has no %s", name)
		}
	}
	return nil
}

const (
	begin = "<!-- made by go generate: begin -->\n"
	end   = "<!-- made by go generate: end -->\n"
)

// Describe puts the tables of figures and alerts into the page that describes them, between its marks.
func Describe(before []byte) ([]byte, error) {
	head, rest, ok := strings.Cut(string(before), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return nil, fmt.Errorf("the marks %q and %q are not there", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	var b strings.Builder
	b.WriteString(head + begin + "\n| name | labels | what it is |\n|---|---|---|\n")
	for _, m := range web.Metrics() {
		labels := "none"
		if m.Labels != "" {
			labels = "`" + strings.ReplaceAll(m.Labels, ", ", "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.Name, labels, m.Help)
	}
	b.WriteString("\n| alert | severity | raised when | after |\n|---|---|---|---|\n")
	for _, r := range AlertRules() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", r.Name, r.Severity, strings.ReplaceAll(r.Expr, "|", `\|`), map[bool]string{true: prometheusDuration(r.For), false: "at once"}[r.For > 0])
	}
	b.WriteString("\n" + end + tail)
	return []byte(b.String()), nil
}
