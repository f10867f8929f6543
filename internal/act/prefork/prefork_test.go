package prefork

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/fleet"
)

func TestOdooLikeUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: a hundred times 2 -> 6 -> 2")
	}
	t.Parallel()
	o := startOdoo(t)
	others := o.others()
	target := newTarget(t, testConfig("odoo", o.pidFile))
	l := startLoad("http://"+o.addr+"/?ms=10", 50)
	start := time.Now()
	for range 100 {
		scale(t, target, 6)
		scale(t, target, 2)
		o.unharmed(others)
	}
	t.Logf("100 times 2 -> 6 -> 2 in %s", time.Since(start).Round(time.Millisecond))
	l.end(t)
	if wanted, lost := o.said(); wanted != 2 || lost != 0 {
		t.Errorf("the master wants %d workers and lost %d signals; want 2 and none", wanted, lost)
	}
}

// The quick form of the above, with and without titles.
func TestOdooLike(t *testing.T) {
	for name, options := range map[string][]odooOption{"no titles": nil, "titles": {withTitles}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := startOdoo(t, options...)
			others := o.others()
			target := newTarget(t, testConfig("odoo", o.pidFile))
			l := startLoad("http://"+o.addr+"/?ms=10", 50)
			for _, n := range []int{4, 4, 1, 3, 2} {
				scale(t, target, n)
				if got := o.http(); got != n {
					t.Errorf("%d HTTP workers, want %d", got, n)
				}
			}
			l.end(t)
			o.unharmed(others)
			eventually(t, "the master wants 2", func() bool { wanted, _ := o.said(); return wanted == 2 })
		})
	}
}

func TestWorkers(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	target := newTarget(t, testConfig("odoo", o.pidFile))
	detail := func() (details []string) {
		workers, err := target.Workers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range workers {
			if age := time.Since(w.Started); age < -2*time.Second || age > time.Minute || w.PID == 0 || w.ID == "" || w.Address != "" {
				t.Errorf("worker %+v, %s old", w, age)
			}
			details = append(details, w.Phase.String()+" "+w.Detail)
		}
		return details
	}
	eventually(t, "both idle", func() bool { return fmt.Sprint(detail()) == "[serving idle serving idle]" })
	end := o.hold()
	eventually(t, "one busy", func() bool {
		d := fmt.Sprint(detail())
		return strings.Contains(d, "serving busy") && strings.Contains(d, "serving idle")
	})
	// The busy one is not the one that leaves, whatever it has computed.
	scale(t, target, 1)
	if d := detail(); len(d) != 1 || d[0] != "serving busy" {
		t.Errorf("after the scale-in: %v, want the busy one", d)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// With nobody idle, busy workers are told, and finish what they have.
func TestBusyWorkersFinish(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	target := newTarget(t, testConfig("odoo", o.pidFile))
	scale(t, target, 4)
	var ends []func() error
	for range 4 {
		ends = append(ends, o.hold())
	}
	eventually(t, "all are busy", func() bool {
		v, err := target.look()
		if err != nil {
			return false
		}
		load, err := target.load(v)
		return err == nil && load.Busy() == 4
	})
	result := make(chan error)
	go func() { result <- target.Scale(t.Context(), 1, nil) }()
	eventually(t, "one drains", func() bool {
		workers, err := target.Workers(t.Context())
		return err == nil && fleet.Count(workers).Draining == 1
	})
	for _, end := range ends {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if err := <-result; err != nil || o.http() != 1 {
		t.Errorf("Scale = %v with %d workers, want 1", err, o.http())
	}
}

// A worker that does not obey SIGINT: a clear error, nobody else is stopped, and the master's target falls by one only,
// however often scaling in is tried again.
func TestWorkerIgnoresInterrupt(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: waits for what does not come")
	}
	t.Parallel()
	o := startOdoo(t)
	others := o.others()
	cfg := testConfig("odoo", o.pidFile)
	cfg.StopTimeout = time.Second
	target := newTarget(t, cfg)
	scale(t, target, 3)
	all := func(sig syscall.Signal) {
		for _, p := range o.family("http") {
			if err := syscall.Kill(p.pid, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	all(syscall.SIGUSR1)
	var told string
	for range 3 {
		err := target.Scale(t.Context(), 2, nil)
		if err == nil || !strings.Contains(err.Error(), "told to finish (SIGINT) and still runs") {
			t.Fatalf("Scale = %v, want that a worker still runs", err)
		}
		if told != "" && err.Error() != told {
			t.Errorf("another worker was told this time: %v", err)
		}
		told = err.Error()
	}
	if wanted, _ := o.said(); wanted != 2 || o.http() != 3 {
		t.Errorf("the master wants %d and has %d workers; want 2 and 3", wanted, o.http())
	}
	workers, err := target.Workers(t.Context())
	if size := fleet.Count(workers); err != nil || size.Draining != 1 || size.Workers() != 2 {
		t.Errorf("workers %+v, %v; want 2 and one that drains", workers, err)
	}
	o.unharmed(others)

	t.Run("then more are wanted", func(t *testing.T) {
		scale(t, target, 4)
		if wanted, _ := o.said(); wanted != 4 {
			t.Errorf("the master wants %d, want 4", wanted)
		}
	})
	t.Run("then it obeys", func(t *testing.T) {
		all(syscall.SIGHUP)
		scale(t, target, 2)
		eventually(t, "the master wants 2", func() bool { wanted, _ := o.said(); return wanted == 2 })
		o.unharmed(others)
	})
}

// A worker that ends by itself after it was chosen and before it is told: nobody is told in its place who must not be.
func TestVictimEndsByItself(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	others := o.others()
	target := newTarget(t, testConfig("odoo", o.pidFile))
	scale(t, target, 5)
	drains := 0
	err := target.Scale(t.Context(), 2, func(_ context.Context, w fleet.Worker) error {
		drains++
		return syscall.Kill(w.PID, syscall.SIGKILL)
	})
	// A worker that the master replaced before it took SIGTTOU does not count as one less.
	if err != nil || o.http() != 2 || drains < 3 {
		t.Errorf("Scale = %v with %d workers after %d drains; want 2 after 3 or more", err, o.http(), drains)
	}
	eventually(t, "the master wants 2", func() bool { wanted, _ := o.said(); return wanted == 2 })
	o.unharmed(others)
}

func TestDrainFails(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	target := newTarget(t, testConfig("odoo", o.pidFile))
	scale(t, target, 3)
	refused := errors.New("refused")
	if err := target.Scale(t.Context(), 2, func(context.Context, fleet.Worker) error { return refused }); !errors.Is(err, refused) || o.http() != 3 {
		t.Errorf("Scale = %v with %d workers; want the drain's error and all three", err, o.http())
	}
	scale(t, target, 2)
	eventually(t, "the master wants 2", func() bool { wanted, _ := o.said(); return wanted == 2 })
}

// retry scales until it works, as the loop does at each tick.
func retry(t *testing.T, target *Target, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d workers", n), func() bool {
		err := target.Scale(t.Context(), n, nil)
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
}

func TestReloadMidway(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: waits for what does not come")
	}
	t.Parallel()
	o := startOdoo(t)
	target := newTarget(t, testConfig("odoo", o.pidFile))
	for _, n := range []int{6, 1, 5} {
		before, err := target.look()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			eventually(t, "the number of workers changes", func() bool {
				now, err := target.look()
				return err == nil && len(now.workers) != len(before.workers)
			})
			o.kill(syscall.SIGHUP)
		}()
		retry(t, target, n)
		<-done
		retry(t, target, n) // the reload may come just after the last step
		eventually(t, "cron and gevent are back", func() bool { return len(o.others()) == 2 })
		retry(t, target, n)
		if o.http() != n {
			t.Errorf("%d workers, want %d", o.http(), n)
		}
		o.unharmed(o.others())
	}
}

func TestMasterRestartsMidway(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: waits for what does not come")
	}
	t.Parallel()
	o := startOdoo(t)
	target := newTarget(t, testConfig("odoo", o.pidFile))
	result := make(chan error)
	go func() { result <- target.Scale(t.Context(), 8, nil) }()
	eventually(t, "it begins", func() bool { return o.http() > 2 })
	o.kill(syscall.SIGTERM)
	_ = o.cmd.Wait()
	if w, err := target.Workers(t.Context()); err == nil || !strings.Contains(err.Error(), "there is no pid file") {
		t.Errorf("Workers = %v, %v; want an error while the master is away", w, err)
	}
	o.start()
	if err := <-result; err != nil {
		t.Log(err)
	}
	retry(t, target, 4)
	o.unharmed(o.others())
	if o.http() != 4 {
		t.Errorf("%d workers, want 4", o.http())
	}
}

// A person who moves the master at the same time is corrected.
func TestSomebodyElseMovesIt(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	target := newTarget(t, testConfig("odoo", o.pidFile))
	o.kill(syscall.SIGTTIN)
	eventually(t, "three workers", func() bool { return o.http() == 3 })
	scale(t, target, 2)
	if o.http() != 2 {
		t.Errorf("%d workers, want 2", o.http())
	}
}

func TestMasterStopped(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	cfg := testConfig("odoo", o.pidFile)
	cfg.StepTimeout = time.Second
	target := newTarget(t, cfg)
	o.kill(syscall.SIGSTOP)
	err := target.Scale(t.Context(), 1, nil)
	if err == nil || !strings.Contains(err.Error(), "kill -CONT") || o.http() != 2 {
		t.Errorf("Scale = %v with %d workers; want that the master is stopped, and nobody told to leave", err, o.http())
	}
	o.kill(syscall.SIGCONT)
	scale(t, target, 1)
	eventually(t, "the master wants 1", func() bool { wanted, _ := o.said(); return wanted == 1 })
}

func TestScaleRefuses(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	target := newTarget(t, testConfig("odoo", o.pidFile))
	for _, n := range []int{0, -1} {
		if err := target.Scale(t.Context(), n, nil); err == nil || !strings.Contains(err.Error(), "the least is 1") {
			t.Errorf("Scale(%d) = %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := target.Scale(ctx, 5, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Scale with an ended context = %v", err)
	}
	if o.http() > 3 {
		t.Errorf("%d workers after an ended context", o.http())
	}
}

// What signal is asked to do is done only to the very process that was meant.
func TestSignalVerifies(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	target := newTarget(t, testConfig("odoo", o.pidFile))
	v, err := target.look()
	if err != nil {
		t.Fatal(err)
	}
	other := func(id ident) ident { id.start++; return id }
	cron, gevent := o.family("cron")[0].ident, o.family("gevent")[0].ident
	restarted := v
	restarted.master.ident = other(v.master.ident)
	for _, c := range []struct {
		name string
		v    view
		to   ident
		sig  syscall.Signal
		n    int
	}{
		{"a worker whose pid is another's now", v, other(v.workers[0].ident), syscall.SIGINT, 0},
		{"cron", v, cron, syscall.SIGINT, 0},
		{"gevent", v, gevent, syscall.SIGINT, 0},
		{"the master interrupted", v, v.master.ident, syscall.SIGINT, 0},
		{"a worker told to start workers", v, v.workers[0].ident, syscall.SIGTTIN, 0},
		{"a worker told to want fewer", v, v.workers[0].ident, syscall.SIGTTOU, 0},
		{"a master that was started anew", restarted, restarted.master.ident, syscall.SIGTTIN, 0},
		{"its worker", restarted, v.workers[0].ident, syscall.SIGINT, 0},
		{"no such process", v, ident{pid: 1 << 22, start: 1}, syscall.SIGINT, 0},
		{"below the floor", v, v.master.ident, syscall.SIGTTOU, 2},
	} {
		if _, err := target.signal(c.v, c.to, c.sig, c.n); !errors.Is(err, errChanged) {
			t.Errorf("%s: %v, want that nothing is sent", c.name, err)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGHUP} {
		if _, err := target.signal(v, v.workers[0].ident, sig, 0); err == nil {
			t.Errorf("signal %v was sent", sig)
		}
	}
	eventually(t, "the master has looked at its queue", func() bool { wanted, lost := o.said(); return wanted == 2 && lost == 0 })
	o.unharmed([]process{{ident: cron}, {ident: gevent}})
	if now := (view{workers: o.family("http")}); now.remain(v.workers) != 2 {
		t.Errorf("workers were %v and are %v", v.workers, now.workers)
	}
}

// bystander is a program that no master's signal must reach: the default of SIGTTIN and SIGTTOU would stop it.
func bystander(t *testing.T, title string) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Args = []string{title}
	cmd.Env = append(os.Environ(), roleVar+"=bystander")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p, err := readProcess(cmd.Process.Pid)
		if err != nil || p.state == 'T' {
			t.Errorf("the bystander is in state %c, %v", p.state, err)
			_ = cmd.Process.Kill()
		}
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the bystander ended by %v", err)
		}
	})
	return cmd.Process.Pid
}

func TestWrongPIDFile(t *testing.T) {
	t.Parallel()
	o := startOdoo(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"missing", "", "there is no pid file"},
		{"empty", "\n", "is empty"},
		{"garbage", "odoo\x00\xff", "and no process id"},
		{"a number too many", "12 13", "and no process id"},
		{"huge", strings.Repeat("9", 100_000), "and no process id"},
		{"zero", "0", "cannot be its process id"},
		{"a process group", "-2", "cannot be its process id"},
		{"init", "1", "cannot be its process id"},
		{"a process that has ended", strconv.Itoa(gone.ProcessState.Pid()), "which does not run"},
		{"another program", strconv.Itoa(bystander(t, "nginx: master process")), `which is "nginx: master process" and no odoo master`},
		{"another program that has the word", strconv.Itoa(bystander(t, "vi /etc/odoo/odoo.conf")), "does not handle SIGTTIN"},
		{"a worker", strconv.Itoa(o.family("http")[0].pid), "it is one of the workers"},
		{"cron", strconv.Itoa(o.family("cron")[0].pid), "it is one of the workers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			if c.text != "" {
				if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			target := newTarget(t, testConfig("odoo", file))
			_, errWorkers := target.Workers(t.Context())
			for call, err := range map[string]error{"Workers": errWorkers, "Scale(1)": target.Scale(t.Context(), 1, nil), "Scale(9)": target.Scale(t.Context(), 9, nil)} {
				if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 700 {
					t.Errorf("%s: %v; want %q", call, err, c.want)
				}
			}
		})
	}
	o.unharmed(o.others())
	if wanted, _ := o.said(); wanted != 2 {
		t.Errorf("the master wants %d, want 2", wanted)
	}
}

// What one tick of the loop costs.
func BenchmarkWorkers(b *testing.B) {
	o := startOdoo(b)
	target := newTarget(b, testConfig("odoo", o.pidFile))
	for b.Loop() {
		if _, err := target.Workers(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
