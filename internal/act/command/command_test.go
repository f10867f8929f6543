package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/act/acttest"
	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script writes a shell script and returns its path.
func script(t *testing.T, name, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func target(t *testing.T, c Config) *Target {
	t.Helper()
	tg, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// counter is an engine that keeps its size in a file, and the flags that spoil it beside.
func counter(t *testing.T) (Config, string) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "n"), []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Scale = []string{script(t, "scale", `cd `+dir+`; [ -e away ] && { echo "engine is away" >&2; exit 7; }; [ -e spoil ] || { echo $1 >n.tmp && mv n.tmp n; }`), "{size}"}
	c.Size = []string{script(t, "size", `cd `+dir+`; [ -e away ] && { echo "engine is away" >&2; exit 7; }; cat n`)}
	return c, dir
}

func flag(t *testing.T, path string) func() {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.Remove(path) }
}

func TestConformance(t *testing.T) {
	acttest.Conform(t, acttest.Harness{New: func(t *testing.T) acttest.Fleet {
		cfg, dir := counter(t)
		return acttest.Fleet{
			Open: func(t *testing.T) (acttest.Target, func()) { return target(t, cfg), func() {} },
			Kill: func(t *testing.T, _ fleet.Worker) {
				b, err := os.ReadFile(filepath.Join(dir, "n"))
				if err != nil {
					t.Fatal(err)
				}
				n, err := strconv.Atoi(strings.TrimSpace(string(b)))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "n"), fmt.Append(nil, n-1), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			Spoil: func(t *testing.T) func() { return flag(t, filepath.Join(dir, "spoil")) },
			Away:  func(t *testing.T) func() { return flag(t, filepath.Join(dir, "away")) },
		}
	}})
}

func TestValidate(t *testing.T) {
	good := Config{Scale: []string{"s", "{size}"}, Size: []string{"c"}, Timeout: time.Second}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		fields string
	}{
		{"nothing", func(c *Config) { *c = DefaultConfig() }, "scale size"},
		{"no placeholder", func(c *Config) { c.Scale = []string{"s"} }, "scale"},
		{"placeholder as program", func(c *Config) { c.Scale = []string{"{size}"} }, "scale"},
		{"one word", func(c *Config) { c.Scale = []string{"scale.sh {size}"} }, "scale"},
		{"size is told", func(c *Config) { c.Size = []string{"c", "{size}"} }, "size"},
		{"no time", func(c *Config) { c.Timeout = 0 }, "timeout"},
		{"a day", func(c *Config) { c.Timeout = 24 * time.Hour }, "timeout"},
		{"zero byte", func(c *Config) { c.Size = []string{"c", "\x00"} }, "size"},
	} {
		cfg := good
		c.change(&cfg)
		if got := fields(cfg.Validate()); got != c.fields {
			t.Errorf("%s: problems with %q, want %q", c.name, got, c.fields)
		}
	}
}

func fields(err error) string {
	var out []string
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			var f *config.FieldError
			if errors.As(e, &f) {
				out = append(out, f.Field)
			}
		}
	}
	return strings.Join(out, " ")
}

func TestSize(t *testing.T) {
	for _, c := range []struct{ prints, want string }{
		{`echo 3`, "3"},
		{`printf ' 0 \n\n'`, "0"},
		{`true`, "printed nothing"},
		{`echo`, "printed nothing"},
		{`echo 3 workers`, `printed "3 workers"`},
		{`echo -1`, `printed "-1"`},
		{`echo 2.5`, `printed "2.5"`},
		{`echo 1e3`, `printed "1e3"`},
		{`echo 99999999`, "no size of a fleet"},
		{`echo 99999999999999999999`, "nothing else"},
		{`head -c 1000000 /dev/zero | tr '\0' x; echo 3`, "nothing else"},
		{`echo 3; exit 4`, "failed (exit status 4)"},
		{`echo "no such service" >&2; exit 1`, `it says: "no such service"`},
		{`kill -KILL $$`, "failed (signal: killed)"},
		{`echo 3; sleep 5 >/dev/null 2>&1 </dev/null & :`, "3"},
	} {
		tg := target(t, Config{Scale: []string{"true", "{size}"}, Size: []string{script(t, "size", c.prints)}, Timeout: 20 * time.Second})
		ws, err := tg.Workers(t.Context())
		if n, convErr := strconv.Atoi(c.want); convErr == nil {
			if err != nil || len(ws) != n {
				t.Errorf("%s: %d workers, %v; want %d", c.prints, len(ws), err, n)
			}
			continue
		}
		if err == nil || ws != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", c.prints, ws, err, c.want)
		}
	}
}

func TestProgramMissing(t *testing.T) {
	tg := target(t, Config{Scale: []string{"/nonexistent/scale", "{size}"}, Size: []string{"/nonexistent/size"}, Timeout: time.Second})
	if _, err := tg.Workers(t.Context()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/nonexistent/size cannot be run") {
		t.Error(err)
	}
	if err := tg.Scale(t.Context(), 1, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A program that hangs is killed with the children that it started.
func TestTimeoutKillsTheGroup(t *testing.T) {
	for name, bound := range map[string]func(*Config, context.Context) (context.Context, context.CancelFunc){
		"timeout": func(c *Config, ctx context.Context) (context.Context, context.CancelFunc) {
			c.Timeout = 200 * time.Millisecond
			return ctx, func() {}
		},
		"ctx": func(_ *Config, ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 200*time.Millisecond)
		},
	} {
		pidFile := filepath.Join(t.TempDir(), "pid")
		c := DefaultConfig()
		c.Scale = []string{"true", "{size}"}
		c.Size = []string{script(t, "size", `echo working on it >&2; sleep 300 & echo $! >`+pidFile+`; wait`)}
		ctx, cancel := bound(&c, t.Context())
		began := time.Now()
		_, err := target(t, c).Workers(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "was killed") {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
		b, err := os.ReadFile(pidFile)
		if err != nil {
			continue // killed before it wrote it
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); running(child); {
			if time.Now().After(end) {
				t.Fatalf("%s: the child %d lives on", name, child)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// running reports whether a pid is a process that has not ended.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// Scale waits until the size is there, and says what it is when it is not.
func TestScalePolls(t *testing.T) {
	dir := t.TempDir()
	c := DefaultConfig()
	c.Scale = []string{script(t, "scale", `echo $1 >`+dir+`/want`), "{size}"}
	// Each look brings one worker more, and never more than 4.
	c.Size = []string{script(t, "size", `cd `+dir+`; n=$(cat n 2>/dev/null || echo 0); [ $n -lt $(cat want) ] && [ $n -lt 4 ] && n=$((n+1)); echo $n | tee n`)}
	tg := target(t, c)
	if err := tg.Scale(t.Context(), 3, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := tg.Scale(ctx, 5, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	// The last look may have been cut short itself.
	if s := err.Error(); !strings.Contains(s, "says 4 workers, and 5 are wanted") && !strings.Contains(s, "was killed before it was done") {
		t.Error(err)
	}
}

func TestScaleRefuses(t *testing.T) {
	c, _ := counter(t)
	tg := target(t, c)
	for _, n := range []int{-1, most + 1} {
		if err := tg.Scale(t.Context(), n, nil); err == nil {
			t.Errorf("%d is accepted", n)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"3\n", "", "-1", "3 4", "0x3", "٣", "+3", "1_000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err != nil {
			return
		}
		if n < 0 || n > most {
			t.Fatalf("%q is %d", s, n)
		}
		if back, err := parseSize(strconv.Itoa(n)); err != nil || back != n {
			t.Fatalf("%q is %d, and that is %d", s, n, back)
		}
	})
}
