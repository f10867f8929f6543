package systemd

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/act/acttest"
	"tidemark/internal/act/copies"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestManager is all that takes a real service manager, which starts once.
func TestManager(t *testing.T) {
	spoil := filepath.Join(t.TempDir(), "spoil")
	worker := acttest.BuildWorker(t)
	s := servers.StartSystemd(t, map[string]string{
		"w@.service":     "[Service]\nEnvironment=PORT=%i SPOIL=" + spoil + "\nExecStart=" + worker + "\nTimeoutStopSec=20\n",
		"slow@.service":  "[Service]\nEnvironment=PORT=%i\nExecStart=" + worker + "\nTimeoutStopSec=1\nRestart=always\nRestartSec=0\nStartLimitIntervalSec=0\n",
		"plain@.service": "[Service]\nExecStart=/bin/sleep 1000\n",
		"false@.service": "[Service]\nExecStart=/bin/false\n",
		"again@.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=10ms\n",
		"bad@.service":   "[Service]\n",
	})
	t.Setenv("XDG_RUNTIME_DIR", s.Runtime)
	t.Run("conformance", func(t *testing.T) { conformance(t, s, spoil) })
	for name, run := range map[string]func(*testing.T){
		"without ports": withoutPorts, "graceful stop": gracefulStop, "restarts by itself": restartsItself, "keeps ending": keepsEnding, "no unit": noUnit,
		"ports taken": portsTaken, "others": others,
	} {
		t.Run(name, run)
	}
}

// over is a target over a template unit, which is stopped at the end.
func over(t *testing.T, unit string, slots int) *Target {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Unit, cfg.Manager = unit, "user"
	if slots > 0 {
		first := servers.FreePorts(t, slots)
		cfg.Ports = copies.Ports{First: first, Last: first + slots - 1}
		cfg.Health.Path, cfg.Health.Interval = "/health", 200*time.Millisecond
	}
	target := open(t, cfg)
	t.Cleanup(func() { clear(t, cfg) })
	return target
}

func open(t *testing.T, cfg Config) *Target {
	t.Helper()
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() }) // never fails
	return target
}

// clear stops all instances.
func clear(t *testing.T, cfg Config) {
	t.Helper()
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := target.Scale(ctx, 0, nil); err != nil {
		t.Error(err)
	}
}

func conformance(t *testing.T, s *servers.Systemd, spoil string) {
	acttest.Conform(t, acttest.Harness{New: func(t *testing.T) acttest.Fleet {
		cfg := over(t, "w@{port}.service", 8).cfg
		return acttest.Fleet{
			Drains: true,
			Open: func(t *testing.T) (acttest.Target, func()) {
				target := open(t, cfg)
				return target, func() { _ = target.Close() }
			},
			Kill: func(t *testing.T, w fleet.Worker) {
				if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				for end := time.Now().Add(time.Minute); copies.Local(w.PID, w.ID) != 0; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("the worker does not die")
					}
				}
			},
			Busy: func(t *testing.T, w fleet.Worker) func() {
				get(t, w, "/busy")
				return func() { get(t, w, "/idle") }
			},
			Spoil: func(t *testing.T) func() {
				if err := os.WriteFile(spoil, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				return func() { _ = os.Remove(spoil) }
			},
			Away: func(*testing.T) func() {
				_ = syscall.Kill(s.PID(), syscall.SIGSTOP) // cannot fail
				return func() { _ = syscall.Kill(s.PID(), syscall.SIGCONT) }
			},
		}
	}, Within: time.Minute})
}

// get asks a worker.
func get(t *testing.T, w fleet.Worker, path string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + w.Address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
}

// scaled scales and returns the workers.
func scaled(t *testing.T, target *Target, n int) []fleet.Worker {
	t.Helper()
	if err := target.Scale(t.Context(), n, nil); err != nil {
		t.Fatalf("scale to %d: %v", n, err)
	}
	ws, err := target.Workers(t.Context())
	if err != nil || len(ws) != n {
		t.Fatalf("want %d workers, have %+v, %v", n, ws, err)
	}
	return ws
}

// says expects an error that contains a text.
func says(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("want an error with %q, have %v", text, err)
	}
}

func withoutPorts(t *testing.T) {
	target := over(t, "plain@{slot}.service", 0)
	ws := scaled(t, target, 2)
	for i, w := range ws {
		if w.ID != fmt.Sprintf("plain@%d.service", i+1) || w.PID == 0 || w.Address != "" || w.Phase != fleet.Serving || time.Since(w.Started).Abs() > time.Minute {
			t.Errorf("have %+v", w)
		}
	}
	if ws := scaled(t, target, 1); ws[0].ID != "plain@1.service" {
		t.Errorf("the youngest of the idle leaves first: %+v", ws)
	}
	says(t, target.Scale(t.Context(), copies.MaxSlot+1, nil), "0 to 9999 are possible")
}

// gracefulStop: a worker that does not end by itself is killed after its unit's own time-out.
func gracefulStop(t *testing.T) {
	target := over(t, "slow@{port}.service", 2)
	w := scaled(t, target, 1)[0]
	answered := make(chan error, 1)
	err := target.Scale(t.Context(), 0, func(context.Context, fleet.Worker) error {
		conn, err := net.Dial("tcp", w.Address)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprint(conn, "GET /work?d=1h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		get(t, w, "/health") // the request before has been read by then
		go func() {
			_, err := io.Copy(io.Discard, conn)
			answered <- err
			_ = conn.Close()
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-answered
	if copies.Local(w.PID, w.ID) != 0 {
		t.Errorf("%+v still runs", w)
	}
}

// restartsItself: a worker that dies is started again by systemd, as its unit says, and is the same worker.
func restartsItself(t *testing.T) {
	target := over(t, "slow@{port}.service", 2)
	w := scaled(t, target, 1)[0]
	if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for copies.Local(w.PID, w.ID) != 0 {
		time.Sleep(time.Millisecond) // an outside process: nothing to wait on
	}
	if now := scaled(t, target, 1)[0]; now.ID != w.ID || now.PID == w.PID {
		t.Errorf("want another life of %+v, have %+v", w, now)
	}
}

func keepsEnding(t *testing.T) {
	says(t, over(t, "false@{slot}.service", 0).Scale(t.Context(), 1, nil), "false@1.service does not stay up: it ended with exit code 1")
	target := over(t, "again@{slot}.service", 2)
	target.cfg.Health.Path = ""
	says(t, target.Scale(t.Context(), 1, nil), "is being started again; journalctl shows why")
}

func noUnit(t *testing.T) {
	for unit, want := range map[string]string{"none@{slot}.service": "there is no template unit none@.service", "bad@{slot}.service": "bad@1.service cannot be started, it is bad-setting"} {
		cfg := DefaultConfig()
		cfg.Unit, cfg.Manager = unit, "user"
		target := open(t, cfg)
		_, err := target.Workers(t.Context())
		says(t, err, want)
		says(t, target.Scale(t.Context(), 1, nil), "start "+cfg.name(1))
	}
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	cfg := DefaultConfig()
	cfg.Unit, cfg.Manager = "w@{slot}.service", "user"
	_, err := open(t, cfg).Workers(t.Context())
	says(t, err, "reach systemd: dial unix ")
}

// portsTaken: a port on which somebody listens is passed over; without one that is free, that is said.
func portsTaken(t *testing.T) {
	target := over(t, "w@{port}.service", 2)
	ln, err := net.Listen("tcp", target.cfg.Ports.Address(1))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if w := scaled(t, target, 1)[0]; w.Address != target.cfg.Ports.Address(2) {
		t.Errorf("want the second slot, have %+v", w)
	}
	says(t, target.Scale(t.Context(), 2, nil), "do not suffice")
}

// others: instances that are not numbered as the fleet's are none of it.
func others(t *testing.T) {
	target := over(t, "plain@{slot}.service", 0)
	for _, name := range []string{"plain@test.service", "plain@0.service", "plain@01.service"} {
		if err := target.manager.start(t.Context(), name, false); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := target.manager.stop(context.Background(), name); err != nil {
				t.Error(err)
			}
		}()
	}
	scaled(t, target, 1)
	scaled(t, target, 0)
}
