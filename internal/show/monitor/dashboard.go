package monitor

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The parts of a dashboard of Grafana (schema 39) that are used here.
type dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Timezone      string     `json:"timezone"`
	Refresh       string     `json:"refresh"`
	Time          span       `json:"time"`
	Templating    templating `json:"templating"`
	Annotations   templating `json:"annotations"`
	Panels        []panel    `json:"panels"`
}

type span struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name       string  `json:"name"`
	Label      string  `json:"label"`
	Type       string  `json:"type"`
	Query      string  `json:"query"`
	Datasource *source `json:"datasource,omitempty"`
	Refresh    int     `json:"refresh,omitempty"`
	IncludeAll bool    `json:"includeAll,omitempty"`
	Multi      bool    `json:"multi,omitempty"`
	AllValue   string  `json:"allValue,omitempty"`
	Current    any     `json:"current,omitempty"`
}

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int         `json:"id"`
	Title       string      `json:"title"`
	Description string      `json:"description"`
	Type        string      `json:"type"`
	Datasource  source      `json:"datasource"`
	GridPos     place       `json:"gridPos"`
	Targets     []query     `json:"targets"`
	FieldConfig fieldConfig `json:"fieldConfig"`
	Options     any         `json:"options,omitempty"`
}

type place struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type query struct {
	RefID        string `json:"refId"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []any         `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string         `json:"unit,omitempty"`
	Min        *float64       `json:"min,omitempty"`
	Decimals   *int           `json:"decimals,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
	Thresholds *thresholds    `json:"thresholds,omitempty"`
	Mappings   []any          `json:"mappings,omitempty"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

const of = `instance=~"$instance",fleet=~"$fleet"`

// view is one panel as it is thought of: a line of queries under a title.
type view struct {
	title, about, kind, unit string
	width, height            int
	queries                  [][2]string // expression, legend; %s is what selects instance and fleet
	stepped                  bool        // values hold until the next
	bad                      float64     // at and above it a stat is red; 0: never
}

var views = []view{
	{title: "Workers", about: "Workers that serve.", kind: "stat", unit: "none", width: 4, height: 4, queries: [][2]string{{`sum(tidemark_fleet_workers{%s,phase="serving"})`, "serving"}}},
	{title: "Short", about: "Workers wanted beyond the maximum.", kind: "stat", unit: "none", width: 4, height: 4, bad: 1, queries: [][2]string{{`sum(tidemark_fleet_workers_short{%s})`, "short"}}},
	{title: "Held back", about: "Fleets whose wanted change is held back.", kind: "stat", unit: "none", width: 4, height: 4, bad: 1, queries: [][2]string{{`sum(tidemark_fleet_blocked{%s})`, "held back"}}},
	{title: "Signals lost", about: "Signals that are missing or stale.", kind: "stat", unit: "none", width: 4, height: 4, bad: 1, queries: [][2]string{{`count(tidemark_signal_up{%s} == 0) or vector(0)`, "lost"}}},
	{title: "Alerts", about: "Alerts that are raised, by severity.", kind: "stat", unit: "none", width: 4, height: 4, bad: 1, queries: [][2]string{{`sum by (severity) (tidemark_alerts{instance=~"$instance",severity!="info"})`, "{{severity}}"}}},
	{title: "Last look", about: "Time since the fleet that was looked at longest ago was looked at.", kind: "stat", unit: "s", width: 4, height: 4, bad: 120, queries: [][2]string{{`max(time() - tidemark_fleet_last_tick_time_seconds{%s})`, "ago"}}},

	{title: "Size", about: "Workers by phase, what is wanted before any safeguard, and the bounds.", kind: "timeseries", unit: "none", width: 24, height: 9, stepped: true, queries: [][2]string{
		{`sum by (fleet, phase) (tidemark_fleet_workers{%s})`, "{{fleet}} {{phase}}"}, {`tidemark_fleet_workers_wanted{%s}`, "{{fleet}} wanted"},
		{`tidemark_fleet_workers_min{%s}`, "{{fleet}} minimum"}, {`tidemark_fleet_workers_max{%s}`, "{{fleet}} maximum"}}},

	{title: "Response times", about: "Signals that are times, and the service levels that policies hold.", kind: "timeseries", unit: "s", width: 12, height: 9, queries: [][2]string{
		{`tidemark_signal_value{%s,unit="seconds"}`, "{{fleet}} {{signal}}"}, {`tidemark_objective_seconds{%s}`, "{{fleet}} {{signal}} objective"}}},
	{title: "Shares", about: "Signals in percent: CPU, memory, errors.", kind: "timeseries", unit: "percent", width: 12, height: 9, queries: [][2]string{{`tidemark_signal_value{%s,unit="percent"}`, "{{fleet}} {{signal}}"}}},
	{title: "Counts and rates", about: "Signals that are plain numbers: queues, sessions, requests a second.", kind: "timeseries", unit: "none", width: 12, height: 9, queries: [][2]string{{`tidemark_signal_value{%s,unit="number"}`, "{{fleet}} {{signal}}"}}},
	{title: "Bytes", about: "Signals that are sizes.", kind: "timeseries", unit: "bytes", width: 12, height: 9, queries: [][2]string{{`tidemark_signal_value{%s,unit="bytes"}`, "{{fleet}} {{signal}}"}}},

	{title: "Alarms", about: "1 while a rule's alarm is raised.", kind: "state-timeline", unit: "none", width: 12, height: 9, queries: [][2]string{{`tidemark_alarm{%s}`, "{{fleet}} {{signal}} {{rule}}"}}},
	{title: "Guards and holds", about: "1 while a guard holds back scale-outs, or an operator holds the fleet.", kind: "state-timeline", unit: "none", width: 12, height: 9, queries: [][2]string{
		{`tidemark_guard_holds{%s}`, "{{fleet}} guard {{guard}}"}, {`tidemark_fleet_held{%s}`, "{{fleet}} held"}}},

	{title: "What each policy alone would use", about: "The size that one policy alone would have led to, shadow ones too.", kind: "timeseries", unit: "none", width: 12, height: 8, stepped: true, queries: [][2]string{{`tidemark_policy_workers{%s}`, "{{fleet}} {{policy}}"}}},
	{title: "Mode", about: "The mode in force.", kind: "timeseries", unit: "none", width: 6, height: 8, stepped: true, queries: [][2]string{{`tidemark_fleet_mode{%s} == 1`, "{{fleet}} {{mode}}"}}},
	{title: "Undelivered messages", about: "Messages that wait for a channel.", kind: "timeseries", unit: "none", width: 6, height: 8, queries: [][2]string{{`tidemark_alerts_undelivered{instance=~"$instance"}`, "{{instance}}"}}},
}

// Dashboard is the dashboard as Grafana imports it.
func Dashboard() ([]byte, error) {
	from := source{"prometheus", "${datasource}"}
	d := dashboard{
		UID: "tidemark", Title: "Tidemark", Description: "Fleets of workers kept between their marks. Made by 'go generate ./internal/show/monitor': change it there.",
		Tags: []string{"tidemark"}, SchemaVersion: 39, Timezone: "browser", Refresh: "30s", Time: span{"now-24h", "now"}, Annotations: templating{List: []variable{}},
		Templating: templating{List: []variable{
			{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus"},
			{Name: "instance", Label: "Instance", Type: "query", Query: "label_values(tidemark_build_info, instance)", Datasource: &from, Refresh: 2, IncludeAll: true, Multi: true, AllValue: ".*"},
			{Name: "fleet", Label: "Fleet", Type: "query", Query: `label_values(tidemark_fleet_workers_min{instance=~"$instance"}, fleet)`, Datasource: &from, Refresh: 2, IncludeAll: true, Multi: true, AllValue: ".*"},
		}},
	}
	x, y, tall := 0, 0, 0
	for i, v := range views {
		if x+v.width > 24 {
			x, y, tall = 0, y+tall, 0
		}
		p := panel{ID: i + 1, Title: v.title, Description: v.about, Type: v.kind, Datasource: from, GridPos: place{v.height, v.width, x, y}, FieldConfig: fieldConfig{Defaults: fieldDefaults{Unit: v.unit, Min: new(float64)}, Overrides: []any{}}}
		x, tall = x+v.width, max(tall, v.height)
		for n, q := range v.queries {
			expr := strings.ReplaceAll(q[0], "%s", of)
			if err := known(expr); err != nil {
				return nil, fmt.Errorf("panel %s: %w", v.title, err)
			}
			p.Targets = append(p.Targets, query{string(rune('A' + n)), expr, q[1]})
		}
		v.style(&p)
		d.Panels = append(d.Panels, p)
	}
	out, err := json.MarshalIndent(d, "", "  ")
	return append(out, '\n'), err
}

// style is how a kind of panel shows its values.
func (v *view) style(p *panel) {
	f := &p.FieldConfig.Defaults
	switch v.kind {
	case "stat":
		f.Thresholds = &thresholds{"absolute", []step{{"green", nil}}}
		if v.bad > 0 {
			f.Thresholds.Steps = append(f.Thresholds.Steps, step{"red", &v.bad})
		}
		p.Options = map[string]any{"colorMode": "value", "reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}}}
	case "state-timeline":
		one := 1.0
		f.Thresholds = &thresholds{"absolute", []step{{"green", nil}, {"red", &one}}}
		f.Mappings = []any{map[string]any{"type": "value", "options": map[string]any{"0": map[string]string{"text": "ok"}, "1": map[string]string{"text": "raised"}}}}
	default:
		f.Custom = map[string]any{"lineWidth": 1, "fillOpacity": 0, "spanNulls": false} // a gap is a gap
		if v.stepped {
			f.Custom["lineInterpolation"] = "stepAfter"
		}
	}
}
