package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// Addressed is for a channel's Body that knows whom it tells: nobody is told twice.
type Addressed interface{ Addresses() []string }

// notifySpecs are in the order in which they are written; one kind may stand once, or as a list.
type notifySpecs []notifySpec

type notifySpec struct {
	path string // "notify.mail", or "notify.mail.0" of a list
	Adapter
}

func (s *notifySpecs) decode(d *decoder, path string, n *yaml.Node) {
	known := slices.Sorted(maps.Keys(d.cat.Notify))
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		d.fail(path, "names no channel", "write notify: {kind: {...}} with one or more of the kinds "+strings.Join(known, ", "))
		return
	}
	for key, value := range d.pairs(path, n) {
		newBody := d.cat.Notify[key.Value]
		if newBody == nil {
			d.unknownKind(path, key, "channel", known)
			continue
		}
		at := d.enter(path, key, value)
		d.follow(value, func(n *yaml.Node) {
			if n.Kind != yaml.SequenceNode {
				*s = append(*s, d.channel(at, key.Value, n, newBody()))
				return
			}
			for i, entry := range n.Content {
				one := fmt.Sprintf("%s.%d", at, i)
				m := mark{entry.Line, entry.Column}
				d.places[one] = place{key: m, value: m}
				d.follow(entry, func(n *yaml.Node) { *s = append(*s, d.channel(one, key.Value, n, newBody())) })
			}
		})
	}
}

func (d *decoder) channel(path, kind string, n *yaml.Node, body Body) notifySpec {
	d.decodeBody(path, n, body)
	return notifySpec{path, Adapter{kind, body}}
}

// notify checks the channels against each other.
func (d *decoder) notify(specs notifySpecs) (out []Adapter) {
	first := map[string]string{}
	for _, s := range specs {
		out = append(out, s.Adapter)
		body, ok := s.Body.(Addressed)
		if !ok || !d.ok(s.path) {
			continue
		}
		for _, a := range body.Addresses() {
			if before, ok := first[a]; ok {
				d.fail(s.path, fmt.Sprintf("%s is told already, by what begins in line %d", a, d.locate(before).line), "leave it out here or there")
				continue
			}
			first[a] = s.path
		}
	}
	return out
}

// alerts checks the thresholds of alerts.
func (d *decoder) alerts(s *spec) {
	if target := s.Instance.Targets.Availability; target > 0 && !d.written("alerts.availability") && d.ok("instance.performance_targets.availability") {
		s.Alerts.Availability = target
		d.given["alerts.availability"] = "instance.performance_targets"
	}
	s.Alerts.Check(func(field, msg, fix string) {
		if path := "alerts." + field; d.ok(path) {
			d.fail(path, msg, fix)
		}
	})
}

// unjudged warns of alerts that somebody waits for, and that will never come because nothing measures what they rest on.
func (r *resolver) unjudged(s *spec) {
	if len(s.Notify) == 0 || !r.ok(r.at("signals"), r.at("policies"), "alerts") {
		return
	}
	percent := func(name string) bool {
		return slices.ContainsFunc(r.out.Signals, func(sig policy.Signal) bool { return sig.Name == name && sig.Unit == fleet.Percent })
	}
	if name := s.Alerts.CPUSignal; !percent(name) {
		r.warn(r.path, fmt.Sprintf("no signal of %s is called %s and measured in percent, so nobody is told that its CPU stays high after a scale-up", r.spec.Name, name),
			"add one, such as "+name+": {procfs: {field: cpu}}, or name it in alerts.cpu_signal")
	}
	if name := s.Alerts.ErrorsSignal; !percent(name) {
		r.warn(r.path, fmt.Sprintf("no signal of %s is called %s and measured in percent, so a minute counts as available when a worker serves, whatever it answers", r.spec.Name, name),
			"add one, such as "+name+": {access_log: {path: ..., field: errors}}, or name it in alerts.errors_signal")
	}
	for _, p := range r.out.Policies {
		for _, rule := range p.Rules {
			if rule.Out() && rule.Signal >= 0 && r.out.Signals[rule.Signal].Unit == fleet.Seconds {
				return
			}
		}
	}
	r.warn(r.path, fmt.Sprintf("no rule scales %s out by a response time, so nobody is told that one does not improve after a scale-up", r.spec.Name),
		"add a signal of a latency, and a rule with it")
}

// onExceed is what happens when the month's budget is exceeded.
type onExceed string

// tellOfIt is the one thing that a budget does: workers on a machine that is paid for anyway save nothing by being stopped.
const tellOfIt onExceed = "alert"

func (o onExceed) MarshalText() ([]byte, error) { return []byte(o), nil }

func (o *onExceed) UnmarshalText(b []byte) error {
	*o = onExceed(b)
	if *o != tellOfIt {
		return wrong("write alert, and bound the fleet by bounds.max", "%q is nothing that a budget does", b)
	}
	return nil
}

type budgetSpec struct {
	Monthly    float64  `yaml:"monthly,required" example:"120.00"`
	Currency   string   `yaml:"currency"`
	WorkerHour float64  `yaml:"worker_hour"` // default: neutral prices, in USD
	OnExceed   onExceed `yaml:"on_exceed"`
}

// Budget is a fleet's money. Without one Monthly is 0.
type Budget struct {
	Monthly    float64
	Currency   string
	WorkerHour float64 // what one worker costs for an hour
}

// neutralWorkerHour is a worker of one vCPU and half a GB of memory at OpenCost's default prices, in USD.
const neutralWorkerHour = 0.031611 + 0.5*0.004237

func (r *resolver) budget(s *budgetSpec) Budget {
	path := r.at("safeguards.budget")
	if !r.written(path) {
		return Budget{}
	}
	if at := path + ".monthly"; r.ok(at) && (!(s.Monthly > 0) || s.Monthly > 1e12) {
		r.fail(at, fmt.Sprintf("%g is no budget", s.Monthly), "write an amount above 0, or delete the budget")
	}
	if at := path + ".currency"; r.ok(at) && (len(s.Currency) != 3 || strings.Trim(s.Currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		r.fail(at, fmt.Sprintf("%q is no currency", s.Currency), "write its three letters, such as NZD")
	}
	at := path + ".worker_hour"
	switch {
	case !r.ok(at, path+".currency"):
	case r.written(at):
		if !(s.WorkerHour > 0) || s.WorkerHour > 1e6 {
			r.fail(at, fmt.Sprintf("%g is no price", s.WorkerHour), "write what a worker costs for an hour")
		}
	case s.Currency != "USD":
		r.fail(at, "is missing: the neutral price is in USD, and the budget in "+s.Currency, "write what a worker costs for an hour, or currency: USD")
	default:
		s.WorkerHour = neutralWorkerHour
		r.given[at] = "neutral price of 1 vCPU and 0.5 GB"
	}
	return Budget{Monthly: s.Monthly, Currency: s.Currency, WorkerHour: s.WorkerHour}
}

// channels writes notify as it was written: a kind once, or as a list.
func (p *printer) channels(indent string, specs notifySpecs) {
	if len(specs) == 0 {
		return
	}
	p.line(indent+"notify:", "")
	for i, s := range specs {
		if s.path == "notify."+s.Kind {
			p.body(indent+"  ", "notify", s.Adapter)
			continue
		}
		if i == 0 || specs[i-1].Kind != s.Kind {
			p.line(indent+"  "+s.Kind+":", "")
		}
		begin := len(p.lines)
		p.structure(indent+"      ", s.path, reflect.ValueOf(s.Body).Elem())
		p.dash(indent+"  ", begin)
	}
}
