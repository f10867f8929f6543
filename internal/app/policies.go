package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/act/kubernetes"
	"tidemark/internal/atomicfile"
	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
	"tidemark/internal/kubeapi/scalingpolicy"
	kubernetespods "tidemark/internal/observe/kubernetes"
	"tidemark/internal/show/text"
)

// policies are the fleets that stand in a cluster as ScalingPolicies. A policy that is new or changed comes into force by the way of a
// reload; one that is refused leaves its last good one in force, which is kept in the state folder too; while the API server is away all
// go on as they are.
type policies struct {
	app    *App
	place  config.ScalingPolicies
	file   string // of what is in force
	follow *kubeapi.Following[scalingpolicy.Object]
	writer *scalingpolicy.Writer
	stop   context.CancelFunc
	wg     sync.WaitGroup

	// Under App.turn.
	entries map[string]*entry // by namespace/name
	under   *config.Config    // the file's, with which they were read
	said    string            // of the API server
	applied string            // which generation of each is in force
	verdict []verdict         // to be told

	last map[string]string // the last change of each fleet; of say alone

	mu   sync.Mutex
	news []fleet.Event // of the journal, to be told
}

// entry is one policy.
type entry struct {
	object  scalingpolicy.Object
	good    *kept // in force; nil: none
	before  *kept // in force until good is
	refusal refusal
	judged  int64 // the generation that was read last with this file
}

// refusal is why a policy's newest generation is not in force; the zero value: it is.
type refusal struct{ reason, message string }

// The reasons. The last two may end by themselves.
const (
	invalid       = "Invalid"
	cannotBeMade  = "CannotBeMade"
	targetTaken   = "TargetTaken"
	quotaExceeded = "QuotaExceeded"
)

// verdict is news of a policy that the journal and the cluster are told.
type verdict struct {
	meta            kubeapi.Meta
	reason, message string
}

// kept is a policy that is in force.
type kept struct {
	Namespace  string          `json:"namespace"`
	Name       string          `json:"name"`
	UID        string          `json:"uid"`
	Generation int64           `json:"generation"`
	Spec       json.RawMessage `json:"spec"`

	cfg *config.Config // what it was read as
}

func (k *kept) fleet() *config.Fleet { return &k.cfg.Fleets[0] }

// firstList is how long a start waits for the API server before it goes on with what it knows.
const firstList = 5 * time.Second

// PolicyCatalog lists what a ScalingPolicy may name: what is read over the network, and what belongs to the policy's namespace. What is of
// the daemon's own host is not for those who may write policies.
func PolicyCatalog(c *config.ScalingPolicies, namespace string) config.Catalog {
	all := Catalog()
	place := kubeapi.Place{Kubeconfig: c.Kubeconfig, Context: c.Context, Namespace: namespace}
	out := config.Catalog{
		Targets: map[string]func() config.Body{"kubernetes": func() config.Body { t := kubernetes.DefaultConfig(); t.Place = place; return &t }},
		Signals: map[string]func() config.SignalBody{"kubernetes": func() config.SignalBody { s := kubernetespods.DefaultConfig(); s.Place = place; return &s }},
	}
	for _, kind := range []string{"prometheus", "http", "pgbouncer", "postgres", "expression"} {
		out.Signals[kind] = all.Signals[kind]
	}
	return out
}

// PolicyDefinition is the CustomResourceDefinition of what PolicyCatalog lets a policy name.
func PolicyDefinition() any {
	return scalingpolicy.Definition(PolicyCatalog(&config.ScalingPolicies{}, ""))
}

// openPolicies begins to follow the policies that the configuration asks for; nil where it asks for none.
func (a *App) openPolicies(ctx context.Context) (*policies, error) {
	place := a.cfg.Policies
	if !place.Wanted() {
		return nil, nil
	}
	client, err := a.shared.clusters.Client(kubeapi.Place{Kubeconfig: place.Kubeconfig, Context: place.Context, Namespace: place.Namespace})
	if err != nil {
		return nil, fmt.Errorf("scaling_policies: %w", err)
	}
	host, err := hostname()
	if err != nil {
		return nil, err
	}
	p := &policies{
		app: a, place: place, file: filepath.Join(a.cfg.StateDir, "policies.json"), entries: map[string]*entry{}, last: map[string]string{},
		follow: scalingpolicy.Follow(client, place.Namespace), writer: scalingpolicy.NewWriter(client, host, time.Now),
	}
	if err := p.recall(); err != nil {
		return nil, err
	}
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	p.wg.Go(func() { p.follow.Run(follow) })
	timer := time.NewTimer(firstList)
	defer timer.Stop()
	select {
	case <-p.follow.Changed():
	case <-timer.C:
	case <-ctx.Done():
	}
	p.look()
	a.file = a.cfg
	a.cfg = p.with(a.file)
	return p, p.keep()
}

// start has run go on until end.
func (p *policies) start(ctx context.Context) {
	if p == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	before := p.stop
	p.stop = func() { stop(); before() }
	p.wg.Go(func() { p.run(ctx) })
}

// with is the file's configuration with the policies that are to be in force beside it.
func (p *policies) with(file *config.Config) *config.Config {
	if p == nil {
		return file
	}
	cfg := file.With(p.read(file))
	p.applied = p.state()
	return cfg
}

// end stops following. The fleets are left as they are.
func (p *policies) end() {
	if p != nil {
		p.stop()
		p.wg.Wait()
	}
}

// recall reads what was in force when a daemon of this state folder ran last.
func (p *policies) recall() error {
	text, err := os.ReadFile(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the ScalingPolicies that were in force: %w", err)
	}
	var all []*kept
	if err := json.Unmarshal(text, &all); err != nil {
		p.app.opts.Log(p.file + " is damaged: ScalingPolicies that are wrong now have no last good one: " + err.Error())
		return nil
	}
	for _, k := range all {
		e := &entry{good: k}
		e.object.Meta = kubeapi.Meta{Namespace: k.Namespace, Name: k.Name, UID: k.UID}
		p.entries[k.Namespace+"/"+k.Name] = e
	}
	return nil
}

// keep writes what is in force.
func (p *policies) keep() error {
	all := []*kept{}
	for _, e := range p.sorted() {
		if e.good != nil {
			all = append(all, e.good)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if was, err := os.ReadFile(p.file); err == nil && string(was) == string(text) {
		return nil
	}
	return atomicfile.Write(p.file, text, 0o600, nil)
}

// sorted are the entries, oldest first.
func (p *policies) sorted() []*entry {
	var out []*entry
	for _, e := range p.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(x, y *entry) int {
		a, b := &x.object.Meta, &y.object.Meta
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return out
}

// look takes in what the cluster has now. What it cannot tell stays as it was.
func (p *policies) look() {
	objects, listed, err := p.follow.Objects()
	said := ""
	if err != nil {
		said = err.Error()
	}
	if said != p.said {
		if p.said = said; said == "" {
			p.app.opts.Log("ScalingPolicies are followed again")
		} else {
			p.app.opts.Log(fmt.Sprintf("ScalingPolicies cannot be followed: %s; the %d that are known go on as they are", said, len(p.entries)))
		}
	}
	if !listed {
		return
	}
	for key := range p.entries {
		if _, there := objects[key]; !there {
			delete(p.entries, key)
		}
	}
	for key, o := range objects {
		e := p.entries[key]
		if e == nil || e.object.Meta.UID != o.Meta.UID {
			e = &entry{}
			p.entries[key] = e
		}
		e.object = o
	}
}

// read reads each policy that is new or changed, all of them when the file is another, and returns what shall be in force.
func (p *policies) read(file *config.Config) (out []*config.Config) {
	entries := p.sorted()
	for _, e := range entries {
		e.before = e.good
		if file != p.under {
			e.judged = 0
			e.good = p.reread(file, e.good)
		}
	}
	p.under = file
	c := p.claims(file, entries)
	for _, e := range entries {
		if g := e.object.Meta.Generation; e.object.Spec != nil && (e.judged != g || e.refusal.reason == targetTaken || e.refusal.reason == quotaExceeded) {
			p.judge(file, e, c)
			e.judged = g
		}
		if e.good != nil {
			out = append(out, e.good.cfg)
		}
	}
	return out
}

// reread is what was in force, by another file; as it was, where that file does not suit it.
func (p *policies) reread(file *config.Config, k *kept) *kept {
	if k == nil {
		return nil
	}
	again := *k
	cfg, _ := p.parse(file, k)
	if cfg == nil {
		cfg = k.cfg
	}
	if again.cfg = cfg; cfg == nil {
		return nil
	}
	return &again
}

func (p *policies) parse(file *config.Config, k *kept) (*config.Config, config.Problems) {
	of := &config.ScalingPolicy{Namespace: k.Namespace, Name: k.Name, Spec: k.Spec}
	return file.Policy(of, PolicyCatalog(&p.place, k.Namespace), p.place.Known(os.LookupEnv))
}

// claims are what the fleets in force take of what is there once.
type claims struct {
	holders map[string]string // of targets
	least   int               // the minima together
}

func (p *policies) claims(file *config.Config, entries []*entry) *claims {
	c := &claims{holders: map[string]string{}}
	for i := range file.Fleets {
		c.take(p.target(&file.Fleets[i]), &file.Fleets[i])
	}
	for _, e := range entries {
		if e.good != nil {
			c.take(p.target(e.good.fleet()), e.good.fleet())
		}
	}
	return c
}

func (c *claims) take(target string, f *config.Fleet) {
	c.least += f.Policy.Bounds.Min
	if target != "" && c.holders[target] == "" {
		c.holders[target] = f.Name
	}
}

func (c *claims) leave(target string, f *config.Fleet) {
	c.least -= f.Policy.Bounds.Min
	if c.holders[target] == f.Name {
		delete(c.holders, target)
	}
}

// target names what a fleet scales in the cluster; empty for what is not there.
func (p *policies) target(f *config.Fleet) string {
	c, ok := f.Target.Body.(*kubernetes.Config)
	if !ok || c.Kubeconfig != p.place.Kubeconfig || c.Context != p.place.Context {
		return ""
	}
	client, err := p.app.shared.clusters.Client(c.Place)
	if err != nil {
		return ""
	}
	return c.Kind + " " + client.Namespace() + "/" + c.Name
}

// judge decides whether a policy's newest generation comes into force.
func (p *policies) judge(file *config.Config, e *entry, c *claims) {
	m := &e.object.Meta
	next := &kept{Namespace: m.Namespace, Name: m.Name, UID: m.UID, Generation: m.Generation, Spec: e.object.Spec}
	var problems config.Problems
	if next.cfg, problems = p.parse(file, next); next.cfg == nil {
		p.refuse(e, invalid, firstOf(problems))
		return
	}
	f, target := next.fleet(), p.target(next.fleet())
	if e.good != nil {
		c.leave(p.target(e.good.fleet()), e.good.fleet())
	}
	least, quota := c.least+f.Policy.Bounds.Min, file.Instance.Quota.Workers
	switch by := c.holders[target]; {
	case by != "":
		p.refuse(e, targetTaken, fmt.Sprintf("spec.target.kubernetes: %s is scaled by fleet %s already, and two would undo each other's work; delete one of them", target, by))
	case quota > 0 && least > quota:
		p.refuse(e, quotaExceeded, fmt.Sprintf("spec.bounds.min: with it the minima of all fleets are %d together, more than the instance's quota of %d workers; lower it", least, quota))
	default:
		if e.good == nil || e.good.Generation != next.Generation || e.refusal != (refusal{}) {
			p.verdict = append(p.verdict, verdict{*m, accepted, fmt.Sprintf("generation %d is in force", m.Generation)})
		}
		e.good, e.refusal = next, refusal{}
	}
	if e.good != nil {
		c.take(p.target(e.good.fleet()), e.good.fleet())
	}
}

const accepted = "Accepted"

func (p *policies) refuse(e *entry, reason, message string) {
	if e.refusal == (refusal{reason, message}) && e.judged == e.object.Meta.Generation {
		return // said already
	}
	e.refusal = refusal{reason, message}
	if e.good != nil {
		message += fmt.Sprintf(" (generation %d stays in force)", e.good.Generation)
	}
	p.verdict = append(p.verdict, verdict{e.object.Meta, reason, message})
}

// firstOf is the first error of a policy, by its path, and how many more there are.
func firstOf(problems config.Problems) string {
	problems = slices.DeleteFunc(slices.Clone(problems), func(p config.Problem) bool { return p.Severity != config.Error })
	one := &problems[0]
	out := one.Message
	if one.Field != "" {
		out = one.Field + ": " + out
	}
	if one.Fix != "" {
		out += "; " + one.Fix
	}
	if n := len(problems) - 1; n > 0 {
		out += fmt.Sprintf(" (and %d more)", n)
	}
	return out
}

// apply puts in force what the cluster has now; App.turn is held. One that cannot be made is refused, and the others go on.
func (p *policies) apply(ctx context.Context) error {
	for {
		cfg := p.app.file.With(p.read(p.app.file))
		if p.state() == p.applied {
			return nil
		}
		err := p.app.enforce(ctx, cfg)
		if err == nil {
			p.applied = p.state()
			return p.keep()
		}
		if !p.blame(err) {
			return err
		}
	}
}

// blame refuses the policy that cannot be made; false: it is none.
func (p *policies) blame(err error) bool {
	bad, ok := errors.AsType[*fleetError](err)
	if !ok {
		return false
	}
	for _, e := range p.entries {
		if e.good != nil && e.good != e.before && e.good.fleet().Name == bad.fleet {
			e.good = e.before
			p.refuse(e, cannotBeMade, bad.err.Error())
			return true
		}
	}
	return false
}

// state says which generation of each policy is in force.
func (p *policies) state() string {
	var out strings.Builder
	for _, e := range p.sorted() {
		if e.good != nil {
			fmt.Fprintf(&out, "%s %s %d\n", e.good.cfg.Fleets[0].Name, e.good.UID, e.good.Generation)
		}
	}
	return out.String()
}

// gather is how long further changes are waited for: kubectl apply of a folder is one change.
const gather = 300 * time.Millisecond

// run follows the cluster, and tells it what is the case, until ctx ends.
func (p *policies) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.follow.Changed():
			if due == nil {
				due = time.After(gather)
			}
			continue
		case <-due:
			due = nil
			p.app.turn.Lock()
			p.look()
			err := p.apply(ctx)
			p.app.turn.Unlock()
			if err != nil && ctx.Err() == nil {
				p.app.opts.Log("what was in force stays so: " + err.Error())
			}
		case <-ticker.C:
		}
		p.say(ctx)
	}
}

// hear takes note of an event of the journal.
func (p *policies) hear(e *fleet.Event) {
	if p == nil || eventReasons[e.Kind].reason == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.news = append(p.news, *e)
}

// say tells the journal and the cluster what is new of the policies, where this daemon leads.
func (p *policies) say(ctx context.Context) {
	a := p.app
	if a.leads() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	a.turn.Lock()
	verdicts, byFleet, there := p.verdict, map[string]*entry{}, map[string]bool{}
	p.verdict = nil
	var all []*entry
	for _, e := range p.sorted() {
		if e.object.Spec == nil {
			continue // not seen since the start
		}
		of := *e
		all = append(all, &of)
		byFleet[config.PolicyFleet(of.object.Meta.Namespace, of.object.Meta.Name)], there[of.object.Meta.UID] = &of, true
	}
	a.turn.Unlock()
	p.mu.Lock()
	news := p.news
	p.news = nil
	p.mu.Unlock()
	statuses := map[string]*control.Status{}
	for _, st := range a.loop.Status() {
		statuses[st.Fleet] = st
	}
	trouble := func(err error) {
		if err != nil && ctx.Err() == nil {
			a.opts.Log(err.Error())
		}
	}
	for _, v := range verdicts {
		kind, journal := scalingpolicy.Normal, fleet.EventReloaded
		if v.reason != accepted {
			kind, journal = scalingpolicy.Warning, fleet.EventReloadRefused
		}
		trouble(a.tell(ctx, fleet.Event{Kind: journal, Note: fmt.Sprintf("ScalingPolicy %s/%s: %s", v.meta.Namespace, v.meta.Name, v.message)}))
		trouble(p.writer.Event(ctx, &v.meta, kind, v.reason, v.message))
	}
	for i := range news {
		if e := byFleet[news[i].Fleet]; e != nil {
			if d := news[i].Decision; d != nil {
				p.last[news[i].Fleet] = d.Headline() + because(d)
			}
			r := eventReasons[news[i].Kind]
			trouble(p.writer.Event(ctx, &e.object.Meta, r.kind, r.reason, text.Event(&news[i])))
		}
	}
	for _, e := range all {
		var st *control.Status
		if e.good != nil {
			st = statuses[e.good.fleet().Name]
		}
		trouble(p.writer.Status(ctx, &e.object, describe(e, st, p.last[config.PolicyFleet(e.object.Meta.Namespace, e.object.Meta.Name)])))
	}
	p.writer.Keep(func(uid string) bool { return there[uid] })
}

// eventReasons are what of the journal kubectl describe shows.
var eventReasons = map[fleet.Kind]struct{ kind, reason string }{
	fleet.EventDecision:     {scalingpolicy.Normal, "Decided"},
	fleet.EventActionDone:   {scalingpolicy.Normal, "Scaled"},
	fleet.EventActionFailed: {scalingpolicy.Warning, "ScalingFailed"},
	fleet.EventSizeChanged:  {scalingpolicy.Normal, "SizeChangedByOthers"},
	fleet.EventOrder:        {scalingpolicy.Normal, "Operator"},
	fleet.EventSignalLost:   {scalingpolicy.Warning, "SignalLost"},
	fleet.EventSignalBack:   {scalingpolicy.Normal, "SignalBack"},
	fleet.EventTargetLost:   {scalingpolicy.Warning, "TargetLost"},
	fleet.EventTargetBack:   {scalingpolicy.Normal, "TargetBack"},
	fleet.EventGuard:        {scalingpolicy.Normal, "Guard"},
}
