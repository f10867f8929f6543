// Package scenario is what a load test is written as: who comes, when, and what they do, what the service is held to, and what the test
// must not do. It reads, checks and shortens scenarios, and has those that are built in; the package rehearsal plays them.
package scenario

import (
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
	"tidemark/internal/prove"
	"tidemark/internal/prove/journey"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/shape"
)

// Scenario is one load test.
type Scenario struct {
	Name     string        `yaml:"name,required" example:"my-rehearsal"`
	About    string        `yaml:"about"`
	Duration time.Duration `yaml:"duration,required" example:"1h"` // in which visits begin
	WarmUp   time.Duration `yaml:"warm_up"`                        // the beginning of it that is not judged
	Drain    time.Duration `yaml:"drain"`                          // how long visits may go on after that
	// Settle is how long the fleet is watched after the last visit: it should come back to its minimum.
	Settle  time.Duration `yaml:"settle"`
	Timeout time.Duration `yaml:"timeout"` // of a request
	// Allow are the hosts that may be loaded, beside this machine's own loopback addresses.
	Allow  []string `yaml:"allow"`
	Limits Limits   `yaml:"limits"`
	// Library is the built-in set of journeys that this scenario's own come on top of: registry or odoo.
	Library  string `yaml:"library"`
	Journeys `yaml:",inline"`
	Load     []Load      `yaml:"load,required" example:"[{journey: home, users: 10}]"`
	Stop     Stop        `yaml:"stop_when"`
	Criteria []Criterion `yaml:"criteria"`

	library  string // that is asked for, instead of Library
	programs map[string]*journey.Program
	rates    []prove.Rate // of Load, nil for users and replays
	arrivals [][]Arrival  // of Load, nil for all but replays
	notes    []string
	levels   []outcome.Level
	dir      string
	compress float64
	digest   string
}

// Journeys are what users do, and what belongs to it.
type Journeys struct {
	Vars     map[string]string `yaml:"vars"` // for templates; --set changes them
	Short    Short             `yaml:"compressed"`
	Data     map[string]string `yaml:"data"`     // CSV files with a header, one row for each user; empty: given by --data, or nothing
	Setup    string            `yaml:"setup"`    // the journey that is played once before; what it extracts all others know
	Cleanup  string            `yaml:"cleanup"`  // the journey that removes what was created, a hundred at a time: {{.created}}
	Leftover string            `yaml:"leftover"` // what the clean-up cannot remove, and how it goes
	Journeys []journey.Journey `yaml:"journeys"`
}

// library is a file of journeys; whoever uses it checks them.
type library struct {
	Journeys `yaml:",inline"`
}

func (*library) Validate() error { return nil }

// Limits bound a run, whatever else is written.
type Limits struct {
	Duration    time.Duration `yaml:"duration"`
	Requests    int64         `yaml:"requests"`
	Connections int           `yaml:"connections"` // visits that are open at a time
}

// Short is what is different when a run is compressed.
type Short struct {
	Vars map[string]string `yaml:"vars"`
}

// Load is one stream of visits: arrivals by a rate, or users who come again and again.
type Load struct {
	Journey string `yaml:"journey"`
	// Users visit, pause, and visit again. The first visits are spread over Spread.
	Users  int           `yaml:"users"`
	Pause  journey.Span  `yaml:"pause"`
	Spread time.Duration `yaml:"spread"`
	// Rate are visits/s through points in time, with straight lines between.
	Rate []Point `yaml:"rate"`
	// Steps rise by Factor from First, each for Each: a staircase to the knee.
	Steps Steps `yaml:"steps"`
	// Shape is one of tidemark simulate's, or a CSV file of rates; Peak scales it to so many visits/s.
	Shape    string   `yaml:"shape"`
	Peak     float64  `yaml:"peak"`
	Replay   Replay   `yaml:"replay"`
	Arrivals Arrivals `yaml:"arrivals"`
	Network  Network  `yaml:"network"`
	// Connection is kept (users' default) or new for each visit (arrivals' default).
	Connection Connection `yaml:"connection"`
}

// Point is a rate at a time.
type Point struct {
	At   time.Duration `yaml:"at"`
	Rate float64       `yaml:"rate"`
}

// Steps are levels of load.
type Steps struct {
	First  float64       `yaml:"first"` // visits/s
	Factor float64       `yaml:"factor"`
	Each   time.Duration `yaml:"each"`
}

// Stop ends a run early: there is no use in loading what has broken. Zero fields stop nothing.
type Stop struct {
	P95    time.Duration `yaml:"p95"`            // of all requests of the last tenth of the run, or of the last level
	Errors float64       `yaml:"errors,percent"` // of the requests
}

// Criterion is outcome.Criterion as it is written.
type Criterion struct {
	Name      string   `yaml:"name"`
	Measure   Measure  `yaml:"measure,required" example:"latency"`
	Of        string   `yaml:"of"`
	Quantile  Quantile `yaml:"quantile"`
	AtMost    string   `yaml:"at_most"`
	AtLeast   string   `yaml:"at_least"`
	Variation float64  `yaml:"variation,percent"`
	// Compressed is the limit of a compressed run, where it is another one.
	Compressed string `yaml:"compressed"`
}

// Measure is outcome.Measure as it is written.
type Measure outcome.Measure

// unit is what a limit is written in.
type unit uint8

const (
	noLimit unit = iota
	ofTime
	ofShare
	ofCount
	ofSignal
)

var measures = map[outcome.Measure]struct {
	unit  unit
	least bool // the limit is a lower one
}{
	outcome.Latency: {ofTime, false}, outcome.Duration: {ofTime, false}, outcome.Signal: {ofSignal, false}, outcome.ErrorRate: {ofShare, false},
	outcome.Availability: {ofShare, true}, outcome.Throughput: {ofCount, true}, outcome.Knee: {ofCount, true}, outcome.TimeToScale: {ofTime, false}, outcome.Triggers: {noLimit, false},
	outcome.Improvement: {noLimit, false}, outcome.Flapping: {ofCount, false}, outcome.Returned: {ofTime, false}, outcome.GuardsHeld: {noLimit, false},
}

func (m *Measure) UnmarshalText(b []byte) error {
	if _, ok := measures[outcome.Measure(b)]; !ok {
		var known []string
		for k := range measures {
			known = append(known, string(k))
		}
		slices.Sort(known)
		return &config.FieldError{Msg: fmt.Sprintf("%q is no measure", b), Fix: "write one of " + strings.Join(known, ", ")}
	}
	*m = Measure(b)
	return nil
}

// Quantile is written p95.
type Quantile float64

func (q *Quantile) UnmarshalText(b []byte) error {
	n, err := strconv.ParseFloat(strings.TrimPrefix(string(b), "p"), 64)
	if err != nil || n <= 0 || n >= 100 || b[0] != 'p' {
		return &config.FieldError{Msg: fmt.Sprintf("%q is no quantile", b), Fix: "write p95"}
	}
	*q = Quantile(n / 100)
	return nil
}

// Arrivals is prove.Arrivals as it is written.
type Arrivals prove.Arrivals

func (a *Arrivals) UnmarshalText(b []byte) error {
	known := map[string]prove.Arrivals{"poisson": prove.Poisson, "even": prove.Even}
	v, ok := known[string(b)]
	if !ok {
		return &config.FieldError{Msg: fmt.Sprintf("%q is no kind of arrivals", b), Fix: "write poisson or even"}
	}
	*a = Arrivals(v)
	return nil
}

// Network is one of shape.Profiles.
type Network struct{ shape.Profile }

func (n *Network) UnmarshalText(b []byte) error {
	p, ok := shape.Named(string(b))
	if !ok {
		var known []string
		for _, p := range shape.Profiles {
			known = append(known, p.Name)
		}
		return &config.FieldError{Msg: fmt.Sprintf("%q is no network", b), Fix: "write one of " + strings.Join(known, ", ") + ", or nothing for the bare network"}
	}
	n.Profile = p
	return nil
}

// Connection says how long a connection is used.
type Connection string

const (
	Kept Connection = "kept"
	New  Connection = "new"
)

func (c *Connection) UnmarshalText(b []byte) error {
	if string(b) != string(Kept) && string(b) != string(New) {
		return &config.FieldError{Msg: fmt.Sprintf("%q is no way to use a connection", b), Fix: "write kept, or new for one of its own for each visit"}
	}
	*c = Connection(b)
	return nil
}

//go:embed builtin/*.yaml builtin/library/*.yaml
var builtin embed.FS

// Builtin lists the names of the scenarios that are built in.
func Builtin() []string {
	files, err := fs.Glob(builtin, "builtin/*.yaml")
	if err != nil {
		panic(err) // the pattern is right
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".yaml")
	}
	return files
}

// Text is a built-in scenario, or a library of journeys, as it is written.
func Text(name string) (string, error) {
	b, err := builtin.ReadFile("builtin/" + name + ".yaml")
	if err != nil {
		b, err = builtin.ReadFile("builtin/library/" + name + ".yaml")
	}
	if err != nil {
		return "", fmt.Errorf("there is no scenario %q: take one of %s, or name a file such as ./mine.yaml", name, strings.Join(Builtin(), ", "))
	}
	return string(b), nil
}

// Options change a scenario for a run.
type Options struct {
	Library  string            // over the scenario's
	Compress float64           // times shorter; 0 and 1: as it is written
	Vars     map[string]string // over the scenario's
	Data     map[string]string // files, over the scenario's
}

// Open reads a built-in scenario, or a file. The error shows each problem at its place.
func Open(name string, o Options) (*Scenario, error) {
	if !strings.ContainsAny(name, "./") {
		text, err := Text(name)
		if err != nil {
			return nil, err
		}
		return Parse(name+".yaml", []byte(text), o)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the scenario: %w", err)
	}
	return Parse(name, data, o)
}

const (
	defaultTimeout = 30 * time.Second
	defaultDrain   = time.Minute
	maxConnections = 20_000
)

// Parse reads a scenario. name is how its file is called; files that it names are taken from that file's folder.
func Parse(name string, data []byte, o Options) (*Scenario, error) {
	sum := sha256.Sum256(data)
	s := &Scenario{Timeout: defaultTimeout, Drain: defaultDrain, Limits: Limits{Duration: 24 * time.Hour, Requests: 10_000_000, Connections: 2000}, library: o.Library,
		dir: filepath.Dir(name), digest: hex.EncodeToString(sum[:])}
	if _, problems := config.Decode("scenario", name, data, os.LookupEnv, s); len(problems) > 0 {
		return nil, problems
	}
	return s, s.apply(o)
}

// Digest is the SHA-256 of the file, in hexadecimal.
func (s *Scenario) Digest() string { return s.digest }

// Compress is how many times shorter it was made.
func (s *Scenario) Compress() float64 { return s.compress }

// Program is a journey of the scenario, ready to be played.
func (s *Scenario) Program(name string) *journey.Program { return s.programs[name] }

// Rate is the rate of one of Load, nil for users.
func (s *Scenario) Rate(i int) prove.Rate { return s.rates[i] }

// Arrivals are those of one of Load that is a replay, nil for others.
func (s *Scenario) Arrivals(i int) []Arrival { return s.arrivals[i] }

// Notes are what was found in traces that a reader of the outcome must know.
func (s *Scenario) Notes() []string { return s.notes }

// Levels are those of a staircase, of which nothing has come yet; nil without one.
func (s *Scenario) Levels() []outcome.Level { return slices.Clone(s.levels) }

// Validate finds all problems that can be found without opening anything.
func (s *Scenario) Validate() error {
	var errs config.FieldErrors
	for field, d := range map[string]time.Duration{"duration": s.Duration, "timeout": s.Timeout} {
		if d <= 0 {
			errs.Add(field, fmt.Sprintf("is %s", d), "write more than 0s")
		}
	}
	if s.WarmUp < 0 || s.WarmUp >= max(s.Duration, 1) {
		errs.Add("warm_up", fmt.Sprintf("%s leaves nothing to judge", s.WarmUp), "write less than the duration")
	}
	if s.Duration+s.Settle > s.Limits.Duration {
		errs.Add("duration", fmt.Sprintf("%s and what follows are more than limits.duration, %s", s.Duration, s.Limits.Duration), "raise the limit, if so long a run is meant")
	}
	if s.Limits.Connections < 1 || s.Limits.Connections > maxConnections {
		errs.Add("limits.connections", fmt.Sprintf("is %d", s.Limits.Connections), fmt.Sprintf("write 1 to %d", maxConnections))
	}
	if s.Limits.Requests < 1 {
		errs.Add("limits.requests", fmt.Sprintf("is %d", s.Limits.Requests), "write 1 or more")
	}
	own := len(s.Journeys.Journeys)
	replays := slices.ContainsFunc(s.Load, func(l Load) bool { return l.Replay != Replay{} })
	s.borrow(&errs, replays)
	if replays {
		s.Journeys.Journeys = append(s.Journeys.Journeys, replayed())
	}
	s.compile(&errs, own)
	users := 0
	for i := range s.Load {
		if s.Load[i].Replay != (Replay{}) && s.Load[i].Journey == "" {
			s.Load[i].Journey = replayName
		}
		s.load(&errs, fmt.Sprintf("load.%d", i), &s.Load[i])
		users += s.Load[i].Users
	}
	if users > s.Limits.Connections {
		errs.Add("limits.connections", fmt.Sprintf("%d is less than the %d users", s.Limits.Connections, users), "raise it, if so many are meant")
	}
	for i := range s.Criteria {
		s.criterion(&errs, fmt.Sprintf("criteria.%d", i), &s.Criteria[i])
	}
	for _, host := range s.Allow {
		if strings.ContainsAny(host, "/:*") {
			errs.Add("allow", fmt.Sprintf("%q is no host", host), "write the name or address only, such as staging.moa.example")
		}
	}
	return errs.Err()
}

// borrow adds what the library has and the scenario does not say itself.
func (s *Scenario) borrow(errs *config.FieldErrors, replays bool) {
	name := cmp.Or(s.library, s.Library)
	if name == "" {
		if len(s.Journeys.Journeys) == 0 && !replays {
			errs.Add("journeys", "there are none", "write journeys:, or library: registry")
		}
		return
	}
	text, err := builtin.ReadFile("builtin/library/" + name + ".yaml")
	if err != nil {
		errs.Add("library", fmt.Sprintf("there is no library %q", name), "write registry or odoo")
		return
	}
	var l library
	if _, problems := config.Decode("library", name+".yaml", text, os.LookupEnv, &l); len(problems) > 0 {
		errs.Add("library", problems.Error(), "")
		return
	}
	fill := func(into *map[string]string, from map[string]string) {
		all := maps.Clone(from)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, *into)
		*into = all
	}
	fill(&s.Vars, l.Vars)
	fill(&s.Short.Vars, l.Short.Vars)
	fill(&s.Data, l.Data)
	s.Setup, s.Cleanup, s.Leftover = cmp.Or(s.Setup, l.Setup), cmp.Or(s.Cleanup, l.Cleanup), cmp.Or(s.Leftover, l.Leftover)
	for _, j := range l.Journeys.Journeys {
		if !slices.ContainsFunc(s.Journeys.Journeys, func(own journey.Journey) bool { return own.Name == j.Name }) {
			s.Journeys.Journeys = append(s.Journeys.Journeys, j)
		}
	}
}

// compile takes the journeys apart, of which the first stand in the scenario itself.
func (s *Scenario) compile(errs *config.FieldErrors, own int) {
	s.programs = map[string]*journey.Program{}
	vars, data := slices.Collect(maps.Keys(s.Vars)), slices.Collect(maps.Keys(s.Data))
	for name := range s.Short.Vars {
		if _, ok := s.Vars[name]; !ok {
			errs.Add("compressed.vars."+name, "is not among vars", "write it there too, for a run of full length")
		}
	}
	for _, j := range s.Journeys.Journeys {
		if j.Name == s.Setup {
			for _, step := range j.Steps {
				vars = slices.AppendSeq(vars, maps.Keys(step.Extract))
			}
		}
	}
	for i, j := range s.Journeys.Journeys {
		at := fmt.Sprintf("journeys.%d.", i)
		if s.programs[j.Name] != nil {
			errs.Add(at+"name", fmt.Sprintf("%q is the name of two journeys", j.Name), "give one of them another")
		}
		known := vars
		if j.Name == replayName && i >= own {
			known = []string{"path"}
		}
		p, err := journey.Compile(j, known, data)
		for _, e := range parts(err) {
			f, ok := errors.AsType[*config.FieldError](e)
			switch {
			case ok && i < own:
				errs.Add(at+f.Field, f.Msg, f.Fix)
			default:
				errs.Add("library", fmt.Sprintf("journey %s: %v", j.Name, e), "")
			}
		}
		s.programs[j.Name] = p
	}
	for field, name := range map[string]string{"setup": s.Setup, "cleanup": s.Cleanup} {
		if name != "" && s.programs[name] == nil {
			errs.Add(field, fmt.Sprintf("there is no journey %q", name), "write the name of one under journeys")
		}
	}
}

func parts(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return nil
}

func (s *Scenario) load(errs *config.FieldErrors, at string, l *Load) {
	if s.programs[l.Journey] == nil {
		errs.Add(at+".journey", fmt.Sprintf("there is no journey %q", l.Journey), "write the name of one under journeys")
	}
	ways := 0
	for _, is := range []bool{l.Users != 0, l.Rate != nil, l.Steps != Steps{}, l.Shape != "", l.Replay != Replay{}} {
		if is {
			ways++
		}
	}
	if ways != 1 {
		errs.Add(at, fmt.Sprintf("says in %d ways how visits come", ways), "write one of users, rate, steps, shape and replay")
	}
	if l.Users < 0 {
		errs.Add(at+".users", fmt.Sprintf("is %d", l.Users), "write 1 or more")
	}
	for i, p := range l.Rate {
		if p.Rate < 0 || p.At < 0 || i > 0 && p.At < l.Rate[i-1].At {
			errs.Add(fmt.Sprintf("%s.rate.%d", at, i), "is negative, or comes before the point above it", "write {at: 10m, rate: 5}, in the order of time")
		}
	}
	if (l.Steps != Steps{}) && (l.Steps.First <= 0 || l.Steps.Factor <= 1 || l.Steps.Each <= 0) {
		errs.Add(at+".steps", "is no staircase", "write steps: {first: 5, factor: 1.5, each: 3m}")
	}
	if l.Peak < 0 || l.Peak > 0 && l.Shape == "" {
		errs.Add(at+".peak", "scales a shape, and there is none, or is negative", "write shape: with it")
	}
}

func (s *Scenario) criterion(errs *config.FieldErrors, at string, c *Criterion) {
	kind, ok := measures[outcome.Measure(c.Measure)]
	if !ok {
		return // reported where it is written
	}
	name, limit, other := "at_most", c.AtMost, c.AtLeast
	if kind.least {
		name, limit, other = "at_least", c.AtLeast, c.AtMost
	}
	switch {
	case kind.unit == noLimit && (c.AtMost != "" || c.AtLeast != ""):
		errs.Add(at, fmt.Sprintf("%s has no limit", c.Measure), "delete it")
	case kind.unit != noLimit && (limit == "" || other != ""):
		errs.Add(at, fmt.Sprintf("%s needs %s, and no other limit", c.Measure, name), "write "+name+": with it")
	}
	for field, text := range map[string]string{name: limit, "compressed": c.Compressed} {
		if text == "" {
			continue
		}
		if _, err := amount(text, kind.unit); err != nil {
			errs.Add(at+"."+field, err.Error(), "")
		}
	}
	quantile := c.Measure == Measure(outcome.Latency) || c.Measure == Measure(outcome.Duration)
	if quantile != (c.Quantile > 0) {
		errs.Add(at+".quantile", fmt.Sprintf("latency and duration have one, and this is %s", c.Measure), "write quantile: p95 there, and nowhere else")
	}
	if c.Measure == Measure(outcome.Duration) && s.programs[c.Of] == nil {
		errs.Add(at+".of", fmt.Sprintf("there is no journey %q", c.Of), "write the name of one under journeys")
	}
	if c.Measure == Measure(outcome.Knee) && (s.Stop == (Stop{}) || !slices.ContainsFunc(s.Load, func(l Load) bool { return l.Steps != (Steps{}) })) {
		errs.Add(at+".measure", "there is no knee to be found", "write steps: in a load, and stop_when: with the p95 or the errors at which the service level is broken")
	}
	if c.Measure == Measure(outcome.Signal) && c.Of == "" {
		errs.Add(at+".of", "is missing", "write the signal's name, such as cpu")
	}
}

// amount reads a limit.
func amount(text string, u unit) (float64, error) {
	share, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(share, 64)
	d, wrong := time.ParseDuration(text)
	switch {
	case (u == ofTime || u == ofSignal) && wrong == nil && err != nil:
		return d.Seconds(), nil
	case u == ofTime:
		return 0, fmt.Errorf("%q is no time; write 500ms", text)
	case err != nil || n < 0:
		return 0, fmt.Errorf("%q is no number", text)
	case u == ofShare && !percent:
		return 0, fmt.Errorf("%q is no percentage; write 1%%", text)
	case u == ofShare:
		return n / 100, nil
	case u == ofCount && percent:
		return 0, fmt.Errorf("%q is a percentage, and this is a count", text)
	}
	return n, nil
}

// Networks are those that its loads have, each once.
func (s *Scenario) Networks() (all []shape.Profile) {
	for _, l := range s.Load {
		if p := l.Network.Profile; p.Name != "" && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// Outcome is the criteria as the verdict reads them.
func (s *Scenario) Outcome() []outcome.Criterion {
	var out []outcome.Criterion
	for _, c := range s.Criteria {
		o := outcome.Criterion{Name: c.Name, Measure: outcome.Measure(c.Measure), Of: c.Of, Quantile: float64(c.Quantile), Variation: c.Variation / 100}
		limit := c.AtMost + c.AtLeast
		if s.compress > 1 && c.Compressed != "" {
			limit = c.Compressed
		}
		if kind := measures[o.Measure]; kind.unit != noLimit {
			o.Limit, _ = amount(limit, kind.unit) // read once already by Validate
		}
		if o.Name == "" {
			o.Name = strings.TrimSpace(c.Of + " " + string(c.Measure))
		}
		out = append(out, o)
	}
	return out
}

// apply takes in what is asked for a run, and opens the traces.
func (s *Scenario) apply(o Options) error {
	s.compress = max(o.Compress, 1)
	if o.Compress < 0 || o.Compress > 0 && o.Compress < 1 || o.Compress > 3600 {
		return fmt.Errorf("compress %g: must be from 1 to 3600", o.Compress)
	}
	if s.compress > 1 {
		maps.Copy(s.Vars, s.Short.Vars)
	}
	for name, v := range o.Vars {
		if _, ok := s.Vars[name]; !ok {
			return fmt.Errorf("the scenario has no var %q to set: it has %s", name, strings.Join(keys(s.Vars), ", "))
		}
		s.Vars[name] = v
	}
	for name, file := range o.Data {
		if _, ok := s.Data[name]; !ok {
			return fmt.Errorf("the scenario has no data %q: it has %s", name, strings.Join(keys(s.Data), ", "))
		}
		s.Data[name] = file
	}
	shorter := func(d time.Duration) time.Duration { return time.Duration(float64(d) / s.compress) }
	s.Duration, s.WarmUp, s.Settle = shorter(s.Duration), shorter(s.WarmUp), shorter(s.Settle)
	for i := range s.Load {
		l := &s.Load[i]
		l.Pause.From, l.Pause.To, l.Spread, l.Steps.Each = shorter(l.Pause.From), shorter(l.Pause.To), shorter(l.Spread), shorter(l.Steps.Each)
		rate, err := s.rate(l)
		if err != nil {
			return fmt.Errorf("load of %s: %w", l.Journey, err)
		}
		s.rates = append(s.rates, rate)
		var arrivals []Arrival
		if l.Replay != (Replay{}) {
			var left int
			if arrivals, left, err = l.Replay.read(s.file(l.Replay.File), s.compress); err != nil {
				return fmt.Errorf("replay: %w", err)
			}
			if left > 0 {
				s.notes = append(s.notes, fmt.Sprintf("%d lines of %s are no GET that can be asked again, and were left out", left, l.Replay.File))
			}
		}
		s.arrivals = append(s.arrivals, arrivals)
	}
	return nil
}

// rate is the rate of a load in the run's own time.
func (s *Scenario) rate(l *Load) (prove.Rate, error) {
	switch {
	case l.Rate != nil:
		var points []prove.Point
		for _, p := range l.Rate {
			points = append(points, prove.Point{At: time.Duration(float64(p.At) / s.compress), Rate: p.Rate})
		}
		return prove.Tide(points...), nil
	case l.Steps.Each > 0:
		rate := l.Steps.First
		for at := time.Duration(0); at < s.Duration; at += l.Steps.Each {
			s.levels = append(s.levels, outcome.Level{Rate: rate, From: fleet.Duration(at), To: fleet.Duration(min(at+l.Steps.Each, s.Duration))})
			rate *= l.Steps.Factor
		}
		levels := s.levels
		return func(at time.Duration) float64 {
			i := min(int(at/l.Steps.Each), len(levels)-1)
			return levels[i].Rate
		}, nil
	case l.Shape != "":
		series, err := s.series(l)
		if err != nil {
			return nil, err
		}
		return func(at time.Duration) float64 { return series.At(time.Duration(float64(at) * s.compress)) }, nil
	}
	return nil, nil
}

// series is a named shape, or a trace.
func (s *Scenario) series(l *Load) (*load.Series, error) {
	if !strings.ContainsAny(l.Shape, "./") {
		peak := l.Peak
		if peak == 0 {
			peak = 1
		}
		return load.Make(l.Shape, time.Date(2027, time.March, 1, 0, 0, 0, 0, time.UTC), time.Duration(float64(s.Duration)*s.compress), peak)
	}
	path := s.file(l.Shape)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	series, _, err := load.CSV(path, f, 0)
	if err == nil && l.Peak > 0 && series.Peak(0.001) > 0 {
		series = series.Scaled(l.Peak / series.Peak(0.001))
	}
	return series, err
}

// Rows are the rows of the data files by name; each is a map from the header's names. A file that is not named has none.
func (s *Scenario) Rows() (map[string][]map[string]string, error) {
	out := map[string][]map[string]string{}
	for name, file := range s.Data {
		if file == "" {
			continue
		}
		f, err := os.Open(s.file(file))
		if err != nil {
			return nil, fmt.Errorf("data %s: %w", name, err)
		}
		rows, err := csv.NewReader(f).ReadAll()
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("data %s: %s: %w", name, file, err)
		}
		if len(rows) < 2 {
			return nil, fmt.Errorf("data %s: %s has no rows below a header", name, file)
		}
		for _, row := range rows[1:] {
			m := map[string]string{}
			for i, column := range rows[0] {
				m[column] = row[i]
			}
			out[name] = append(out[name], m)
		}
	}
	return out, nil
}

func (s *Scenario) file(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

func keys(m map[string]string) []string {
	out := slices.Sorted(maps.Keys(m))
	if out == nil {
		return []string{"none"}
	}
	return out
}

// Permit says whether a target may be loaded: this machine's loopback addresses may, and what the scenario allows.
func (s *Scenario) Permit(target *url.URL) error {
	if target.Scheme != "http" && target.Scheme != "https" || target.Host == "" || target.RawQuery != "" || target.Fragment != "" {
		return fmt.Errorf("the target %q is no base URL: write http://127.0.0.1:8069", target.Redacted())
	}
	if target.User != nil {
		return errors.New("the target has a password in it: name it in a header of the scenario instead")
	}
	host := target.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() || host == "localhost" || slices.Contains(s.Allow, host) {
		return nil
	}
	return fmt.Errorf("the scenario does not allow to load %s: only this machine itself (127.0.0.1, ::1, localhost) is allowed, and the hosts under allow. If that host is yours to load, take a copy of the scenario (tidemark loadtest --show %s > mine.yaml) and write allow: [%s] in it",
		host, s.Name, host)
}
