package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
)

// Config is what an operator wrote, complete and checked.
type Config struct {
	File        string // as it was named
	Instance    Instance
	Environment string        // production, staging or development
	StateDir    string        // where the records are; absolute when Load read it
	Socket      string        // where the daemon listens for the operator's commands
	Listen      Listen        // where the dashboard and its API are
	Tick        time.Duration // between two looks at a fleet
	Journal     Journal
	Lease       Lease
	Policies    ScalingPolicies // of a cluster: fleets that are not in the file
	Retention   Retention
	Push        Push
	KEDA        KEDA
	Notify      []Adapter   // the channels, in order
	Alerts      alert.Rules // when somebody is told
	Report      Report      // of the month
	Daemons     []Daemon    // others, in the overview
	Fleets      []Fleet

	text   *text // for Written
	spec   *spec // for Effective
	places map[string]place
	given  map[string]string
	// holidays are the instance's, read; policies what With added, by fleet.
	holidays schedule.Holidays
	policies map[string]*Config
}

// Retention bounds what the journal keeps; it converts to record.Retention.
type Retention struct {
	Raw       time.Duration `yaml:"raw"`       // readings as they were read
	Minutes   time.Duration `yaml:"minutes"`   // roll-ups of 5 minutes
	Hours     time.Duration `yaml:"hours"`     // roll-ups of an hour
	Decisions time.Duration `yaml:"decisions"` // decisions and events
	MaxBytes  int64         `yaml:"max_size,bytes"`
}

// Push is where programs on this machine send the values of signals that take them, beside the operator's socket. The zero value is
// nowhere else.
type Push struct {
	Listen string `yaml:"listen"` // host:port of the loopback interface
	// Token is what who pushes must show; TokenFile names a file that holds it in its only line. One of the two.
	Token     string `yaml:"token"`
	TokenFile string `yaml:"token_file"`
}

// Fleet is one fleet: what is read, what is moved, and by which policy.
type Fleet struct {
	Name     string
	Target   Adapter
	Balancer Adapter // no kind: none
	Front    Adapter // what stands before the workers and is only written for; no kind: none
	Signals  []Signal
	Policy   policy.Fleet // its Signals are in the order of Signals
	Priority int          // 1 goes first when there is not enough for all
	Budget   Budget
	Tags     map[string]string // the instance's, and its own beside or in place of them; of the cost
}

// Signal is where a signal comes from.
type Signal struct {
	Name string
	Adapter
}

// Catalog lists the adapters that a file may name. Each function makes a Body with its defaults, a pointer to a struct.
type Catalog struct {
	Signals   map[string]func() SignalBody
	Targets   map[string]func() Body
	Balancers map[string]func() Body
	Fronts    map[string]func() Body
	Notify    map[string]func() Body
}

// SignalBody is the configuration of a source. What it says may depend on what is written in it.
type SignalBody interface {
	Body
	// Unit is the unit of the readings; thresholds are written in it.
	Unit() fleet.Unit
	// Distribution: the source keeps every single value of a window, and gives p50 to p99 of them by itself.
	Distribution() bool
	// PerWorker: the value rises as workers leave (CPU share, latency), unlike a total (queue length).
	PerWorker() bool
}

// Windowed is for a SignalBody that keeps no distribution and yet reads over a window, such as a rate or a share of failures.
// Without it, or when it says no, window and min_samples are refused: nothing is accepted and ignored.
type Windowed interface{ Windowed() bool }

// Formula is for a SignalBody that is read nowhere: it is computed from the fleet's other signals at the same tick.
type Formula interface {
	// Formula is the setting that holds the formula, and its text in the language of decide/expression.
	Formula() (setting, text string)
}

// Workers is what formulas call the number of workers that serve. No signal has this name.
const Workers = "workers"

// FormulaNames are what a formula of a fleet may name: the signals that are read, and Workers after them. inputs are the indexes
// of those signals.
func FormulaNames(signals []Signal) (names []string, inputs []int) {
	for i, s := range signals {
		if _, derived := s.Body.(Formula); !derived {
			names, inputs = append(names, s.Name), append(inputs, i)
		}
	}
	return append(names, Workers), inputs
}

// Parse reads a configuration. name is how the file is called in messages; relative paths in it are taken from its folder.
// env looks up an environment variable. The Config is nil when the problems are more than warnings.
func Parse(name string, data []byte, cat Catalog, env func(string) (string, bool)) (*Config, Problems) {
	return parse(name, filepath.Dir(name), data, cat, env)
}

// Load reads a file. The error says that the file could not be read at all.
func Load(path string, cat Catalog) (*Config, Problems, error) {
	data, err := readAll(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration: %w", err)
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration: %w", err)
	}
	cfg, problems := parse(path, filepath.Dir(full), data, cat, os.LookupEnv)
	return cfg, problems, nil
}

// readAll reads no more than is needed to see that a file is too large.
func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

const configuration = "configuration" // what a file is when nothing else is said

func parse(name, dir string, data []byte, cat Catalog, env func(string) (string, bool)) (*Config, Problems) {
	t, body, problems := readText(name, data)
	if problems != nil {
		return nil, problems
	}
	root, problems := readYAML(t, body, configuration)
	if problems != nil {
		return nil, problems
	}
	d := newDecoder(t, env)
	d.cat = cat
	s := defaultSpec()
	d.decodeRoot(root, &s)
	if problems := d.tooMany(); problems != nil {
		return nil, problems
	}
	cfg := d.resolve(dir, &s)
	cfg.File = name
	problems = d.probs.sorted()
	if problems.Failed() {
		return nil, problems
	}
	return cfg, problems
}

func newDecoder(t *text, env func(string) (string, bool)) *decoder {
	return &decoder{
		text: t, env: env,
		places: map[string]place{}, given: map[string]string{}, failed: map[string]bool{}, around: map[string]bool{}, hidden: map[string]string{},
	}
}

// tooMany is the problem of a file whose aliases bring in too much.
func (d *decoder) tooMany() Problems {
	if d.aliased <= maxAliased {
		return nil
	}
	return Problems{d.text.problem(mark{1, 1}, Error, "", fmt.Sprintf("the aliases (*name) in this file bring in more than %d values", maxAliased), "write what they stand for, or split the file")}
}
