// Package command is the target for whatever Tidemark does not know: the operator's own program is told the size that is
// wanted, and another (or the same) says the size that is. What the workers are, how they are drained and stopped, and
// whether they are healthy is the program's to know; they are reported as so many anonymous serving workers.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config is what an operator writes under `target: {command: ...}`. Programs are run without a shell, with the daemon's
// environment, one at a time. What they leave running must not hold on to their output.
type Config struct {
	Scale   []string      `yaml:"scale"`   // told the size wanted as {size}; called again with the same size, it must change nothing
	Size    []string      `yaml:"size"`    // prints the size that is, a whole number, and nothing else
	Timeout time.Duration `yaml:"timeout"` // for one run of either; then it is killed, with what it started
}

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config { return Config{Timeout: time.Minute} }

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	for _, p := range []struct {
		field string
		argv  []string
		fix   string
	}{
		{"scale", c.Scale, `write the program and its arguments: [/usr/local/bin/scale-app, "{size}"]`},
		{"size", c.Size, "write the program and its arguments: [/usr/local/bin/count-app]"},
	} {
		switch {
		case len(p.argv) == 0 || p.argv[0] == "":
			errs.Add(p.field, "is missing", p.fix)
		case len(p.argv) == 1 && strings.ContainsAny(p.argv[0], " \t"):
			errs.Add(p.field, fmt.Sprintf("%q is one word with blanks in it, and no shell splits it", p.argv[0]), "write a list: [prog, arg, arg]")
		case strings.Contains(p.argv[0], placeholder):
			errs.Add(p.field, "the program has a placeholder", "use {size} in its arguments only")
		case strings.ContainsRune(strings.Join(p.argv, ""), 0):
			errs.Add(p.field, "has a zero byte", "remove it")
		}
	}
	told := func(argv []string) bool { return strings.Contains(strings.Join(argv, "\n"), placeholder) }
	if len(c.Scale) > 0 && !told(c.Scale) {
		errs.Add("scale", "has no {size}: the program would not know the size wanted", `add an argument such as "--workers={size}"`)
	}
	if told(c.Size) {
		errs.Add("size", "has {size}, and it is the program that says the size", "remove it")
	}
	if c.Timeout < 10*time.Millisecond || c.Timeout > time.Hour {
		errs.Add("timeout", fmt.Sprintf("%v is not between 10ms and 1h", c.Timeout), "write for example 60s")
	}
	return errs.Err()
}

const (
	placeholder = "{size}"
	most        = 100_000         // workers: what is above is no size
	outLimit    = 4 << 10         // bytes of standard output and error that are kept
	pipeWait    = 2 * time.Second // for output that a child left behind holds open
	firstPoll   = 50 * time.Millisecond
	lastPoll    = 5 * time.Second
)

// Target scales by the operator's programs.
type Target struct {
	cfg  Config
	turn chan struct{} // holds a token while a Scale runs
}

// New makes a target of a valid configuration.
func New(cfg Config) (*Target, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Target{cfg: cfg, turn: make(chan struct{}, 1)}, nil
}

// Workers reports as many serving workers as the size program says. They have no PID and no address.
func (t *Target) Workers(ctx context.Context) ([]fleet.Worker, error) {
	n, err := t.size(ctx)
	if err != nil {
		return nil, err
	}
	ws := make([]fleet.Worker, n)
	for i := range ws {
		ws[i] = fleet.Worker{ID: strconv.Itoa(i + 1), Phase: fleet.Serving}
	}
	return ws, nil
}

// Scale tells the program the size wanted, then asks for the size that is until the two agree or ctx ends. Draining is
// the program's: which of its workers leaves is not known here, so drain is not called.
func (t *Target) Scale(ctx context.Context, n int, _ fleet.Drain) error {
	if n < 0 || n > most {
		return fmt.Errorf("%d is no size of a fleet", n)
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the scaling before: %w", context.Cause(ctx))
	}
	argv := make([]string, len(t.cfg.Scale))
	for i, a := range t.cfg.Scale {
		argv[i] = strings.ReplaceAll(a, placeholder, strconv.Itoa(n))
	}
	if _, err := t.run(ctx, "scale", argv); err != nil {
		return err
	}
	for every := firstPoll; ; every = min(2*every, lastPoll) {
		is, err := t.size(ctx)
		if err == nil && is == n {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("the size program says %d workers, and %d are wanted", is, n)
		}
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

func (t *Target) size(ctx context.Context) (int, error) {
	out, err := t.run(ctx, "size", t.cfg.Size)
	if err != nil {
		return 0, err
	}
	return parseSize(out)
}

// parseSize reads what the size program printed: one whole number.
func parseSize(out string) (int, error) {
	s := strings.TrimSpace(out)
	n, err := strconv.ParseUint(s, 10, 31)
	switch {
	case s == "":
		return 0, errors.New("the size program printed nothing; it must print the number of workers")
	case err != nil:
		return 0, fmt.Errorf("the size program printed %q; it must print the number of workers and nothing else", clip(s))
	case n > most:
		return 0, fmt.Errorf("the size program printed %d; that is no size of a fleet", n)
	}
	return int(n), nil
}

// run runs one of the programs and returns what it printed.
func (t *Target) run(ctx context.Context, what string, argv []string) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	cmd := exec.CommandContext(bounded, argv[0], argv[1:]...)
	var out, errOut tail
	cmd.Stdout, cmd.Stderr = &out, &errOut
	// A group of its own, to be killed whole. Cancel is called before the program is waited for: its pid is its own still.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeWait
	err := cmd.Run()
	name := fmt.Sprintf("the %s program %s", what, argv[0])
	said := ""
	if s := clip(strings.TrimSpace(errOut.String())); s != "" {
		said = fmt.Sprintf("; it says: %q", s)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s was killed before it was done: %w", name, context.Cause(ctx))
	case bounded.Err() != nil:
		return "", fmt.Errorf("%s did not finish within %s and was killed%s", name, fleet.Elapsed(t.cfg.Timeout), said)
	case errors.Is(err, exec.ErrWaitDelay): // it ended well, and left something running that holds its output
	case errors.As(err, &exit):
		return "", fmt.Errorf("%s failed (%s)%s", name, exit.ProcessState, said)
	case err != nil:
		return "", fmt.Errorf("%s cannot be run: %w", name, err)
	}
	return out.String(), nil
}

// tail keeps the last bytes written to it and takes all of them, so that the program never blocks.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if over := t.buf.Len() - outLimit; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.buf.String() }

// clip keeps the end of a message, where programs put what went wrong.
func clip(s string) string {
	const keep = 500
	if len(s) > keep {
		s = "..." + s[len(s)-keep:]
	}
	return strings.ToValidUTF8(s, "?")
}
