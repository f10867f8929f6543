// Package policies has a daemon keep the fleets that ScalingPolicies describe, custom resources of a cluster whose spec is what a fleet of
// a configuration is. It owns how they are read and watched, and what they are told: status, conditions and events. What a spec may say is
// config's, and what becomes of it is the loop's.
package policies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
	"tidemark/internal/show/text"
)

// Options are what the daemon brings.
type Options struct {
	Client *kubeapi.Client
	Check  func(fleets string) error // of a configuration with these fleets only
	Log    func(line string)
}

// Policies are those of one namespace.
type Policies struct {
	opts    Options
	changed chan struct{}

	mu      sync.Mutex
	entries map[string]*entry
}

// entry is one ScalingPolicy.
type entry struct {
	object  kubeapi.ScalingPolicy
	fleet   string // its text in a configuration
	problem error  // why it is none
	written kubeapi.PolicyStatus
	told    *fleet.Decision // that the status was written of
}

// New makes them; Run reads them.
func New(opts Options) *Policies {
	return &Policies{opts: opts, changed: make(chan struct{}, 1), entries: map[string]*entry{}}
}

// Changed is sent to when Fleets may return something else. The first time is when the policies have been read.
func (p *Policies) Changed() <-chan struct{} { return p.changed }

func (p *Policies) change() {
	select {
	case p.changed <- struct{}{}:
	default: // it is known already
	}
}

// Fleets is the text of the fleets that can be kept, to stand at the end of a configuration without any; empty when there is none.
func (p *Policies) Fleets() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.entries)) {
		if e := p.entries[name]; e.problem == nil {
			b.WriteString(e.fleet)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\nfleets:\n" + b.String()
}

// pause is how long a server that does not answer is left alone.
const pause = 2 * time.Second

// Run reads the policies, and then each change, until ctx ends.
func (p *Policies) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := p.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.opts.Log("ScalingPolicies: " + err.Error())
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// errStart: what is known is too old to be gone on from.
var errStart = errors.New("the watch is begun anew")

func (p *Policies) follow(ctx context.Context) error {
	all, version, err := p.opts.Client.Policies(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, o := range all {
		there[o.Meta.Name] = true
		p.take(o)
	}
	p.mu.Lock()
	maps.DeleteFunc(p.entries, func(name string, _ *entry) bool { return !there[name] })
	p.mu.Unlock()
	p.change()
	for ctx.Err() == nil {
		err := p.opts.Client.WatchPolicies(ctx, version, func(c kubeapi.Change) error {
			var o kubeapi.ScalingPolicy
			if err := json.Unmarshal(c.Object, &o); err != nil {
				return fmt.Errorf("read a change: %w", err)
			}
			switch c.Type {
			case "ERROR":
				return errStart
			case "DELETED":
				p.mu.Lock()
				delete(p.entries, o.Meta.Name)
				p.mu.Unlock()
				p.change()
			case "ADDED", "MODIFIED":
				if p.take(o) {
					p.change()
				}
			}
			version = o.Meta.ResourceVersion
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// take takes in a policy as it is now, and reports whether its spec is another.
func (p *Policies) take(o kubeapi.ScalingPolicy) bool {
	p.mu.Lock()
	e := p.entries[o.Meta.Name]
	p.mu.Unlock()
	if e != nil && e.object.Meta.UID == o.Meta.UID && e.object.Meta.Generation == o.Meta.Generation {
		return false // our own status, for one
	}
	fresh := &entry{object: o, written: o.Status}
	fresh.fleet, fresh.problem = p.read(&o)
	p.mu.Lock()
	p.entries[o.Meta.Name] = fresh
	p.mu.Unlock()
	return true
}

// read makes a fleet of a policy. Its writer need not be the daemon's administrator: it gets at neither environment nor files.
func (p *Policies) read(o *kubeapi.ScalingPolicy) (string, error) {
	if bytes.Contains(o.Spec, []byte("${")) {
		return "", errors.New("spec: ${NAME} stands for a variable of the daemon's environment, which a ScalingPolicy does not get at; write the value itself")
	}
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(o.Spec, &spec); err != nil {
		return "", fmt.Errorf("spec: %w", err)
	}
	spec["name"], _ = json.Marshal(o.Meta.Name) // a string
	text, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("spec: %w", err)
	}
	line := "  - " + string(text) + "\n"
	return line, p.opts.Check("\nfleets:\n" + line)
}

// Condition types.
const (
	Accepted = "Accepted" // the spec is good, and in force
	Able     = "Able"     // the target can be read and moved
	Limited  = "Limited"  // a decision is held back, or could not have all that was wanted
)

// Report writes what has become of the policies, where that has changed since it was last written: once a decision says something else.
func (p *Policies) Report(ctx context.Context, statuses []*control.Status) {
	by := map[string]*control.Status{}
	for _, st := range statuses {
		by[st.Fleet] = st
	}
	p.mu.Lock()
	names := slices.Sorted(maps.Keys(p.entries))
	p.mu.Unlock()
	for _, name := range names {
		p.mu.Lock()
		e := p.entries[name]
		p.mu.Unlock()
		if e == nil {
			continue // it went meanwhile
		}
		now := e.status(by[name], time.Now())
		if same(&now, &e.written) {
			continue
		}
		if err := p.opts.Client.WriteStatus(ctx, name, now); err != nil {
			if ctx.Err() == nil {
				p.opts.Log(err.Error())
			}
			return // the others would fare the same
		}
		e.written = now
	}
}

func same(a, b *kubeapi.PolicyStatus) bool {
	x, _ := json.Marshal(a) // of strings and numbers
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// status says what has become of the policy. It is called by Report only. Sentences and figures are those of the last decision that said
// something else than the one before, so that a figure that moves is no reason to write.
func (e *entry) status(st *control.Status, now time.Time) kubeapi.PolicyStatus {
	out := e.written
	out.Generation = e.object.Meta.Generation
	out.Conditions = slices.Clone(out.Conditions)
	set := func(kind string, holds bool, reason, message string) {
		c := kubeapi.Condition{Type: kind, Status: "False", Reason: reason, Message: message, Since: now.UTC().Truncate(time.Second)}
		if holds {
			c.Status = "True"
		}
		i := slices.IndexFunc(out.Conditions, func(o kubeapi.Condition) bool { return o.Type == kind })
		switch {
		case i < 0:
			out.Conditions = append(out.Conditions, c)
		case out.Conditions[i].Status == c.Status:
			c.Since = out.Conditions[i].Since
			fallthrough
		default:
			out.Conditions[i] = c
		}
	}
	if e.problem != nil {
		set(Accepted, false, "Refused", e.problem.Error())
		return out
	}
	set(Accepted, true, "Good", "")
	if st == nil || st.Time.IsZero() {
		return out // its first tick is to come
	}
	out.Mode, out.Size = st.Mode.String(), st.Size.Serving
	switch {
	case st.TargetErr != "":
		set(Able, false, "TargetLost", st.TargetErr)
	case st.ActionErr != "":
		set(Able, false, "ActionFails", st.ActionErr)
	default:
		set(Able, true, "Reachable", "")
	}
	d := &st.Decision
	if e.told != nil && e.told.SameAs(d) {
		return out
	}
	e.told = d
	out.Wanted, out.Decision, out.Why = d.To, d.Headline(), nil
	for i := range d.Reasons {
		out.Why = append(out.Why, d.Reasons[i].Sentence(d.Time))
	}
	if why := d.Counterfactual(); why != "" {
		set(Limited, true, camel(d.Would.Code.String()), why)
	} else {
		set(Limited, false, "Free", "")
	}
	return out
}

// camel writes a code such as host_cpu as conditions' reasons are written: HostCpu.
func camel(code string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(code, "_") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// reasons are the events that are told to the cluster, too.
var reasons = map[fleet.Kind]string{
	fleet.EventDecision: "Decided", fleet.EventActionDone: "Scaled", fleet.EventActionFailed: "ScaleFailed", fleet.EventSizeChanged: "SizeChanged",
	fleet.EventGuard: "Guard", fleet.EventSignalLost: "SignalLost", fleet.EventSignalBack: "SignalBack", fleet.EventTargetLost: "TargetLost", fleet.EventTargetBack: "TargetBack",
	fleet.EventOrder: "Ordered",
}

// Tell records an event of a fleet with its policy, if it is one of those that people look for there.
func (p *Policies) Tell(ctx context.Context, e *fleet.Event) {
	p.mu.Lock()
	of := p.entries[e.Fleet]
	p.mu.Unlock()
	reason := reasons[e.Kind]
	if of == nil || reason == "" {
		return
	}
	if err := p.opts.Client.Happened(ctx, &of.object.Meta, e.Time, reason, text.Event(e), text.Trouble(e)); err != nil && ctx.Err() == nil {
		p.opts.Log(err.Error()) // the journal has it
	}
}
