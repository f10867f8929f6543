package docker

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/act/acttest"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const image = "worker:1"

// startEngine starts an engine that has the image of the test worker.
func startEngine(t *testing.T) *servers.Docker {
	t.Helper()
	d := servers.StartDocker(t)
	program := filepath.Join(t.TempDir(), "worker")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, "./testdata/worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the worker: %v\n%s", err, out)
	}
	d.Import(t, image, program, `CMD ["/worker"]`)
	return d
}

// hostFleet is a template on the host's network, created and not started, and the target that copies it.
func hostFleet(t *testing.T, d *servers.Docker, change func(map[string]any)) (cfg Config, ctl string) {
	t.Helper()
	ctl = t.TempDir()
	template := map[string]any{
		"Image":       image,
		"Env":         []string{"PORT=1", "KEPT=yes"},
		"StopTimeout": 20,
		"Labels":      map[string]string{"app": "registry"},
		"HostConfig":  map[string]any{"NetworkMode": "host", "Binds": []string{ctl + ":/ctl:ro"}, "Memory": 64 << 20},
	}
	if change != nil {
		change(template)
	}
	d.Create(t, "template", template)
	t.Cleanup(func() { d.Clear(t) })
	cfg = DefaultConfig()
	cfg.Socket, cfg.Container = d.Socket, "template"
	first := servers.FreePorts(t, 8)
	cfg.Ports = Ports{First: first, Last: first + 7}
	cfg.Env = map[string]string{"PORT": "{port}"}
	cfg.Health = Health{Path: "/health", Interval: 200 * time.Millisecond, Timeout: 5 * time.Second, Failures: 3}
	return cfg, ctl
}

func open(t *testing.T, cfg Config) *Target {
	t.Helper()
	target, err := New(cfg, Options{Fleet: "odoo-workers", Instance: "dfr-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() }) // never fails
	return target
}

// get asks a worker.
func get(t *testing.T, w fleet.Worker, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + w.Address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConformance(t *testing.T) {
	d := startEngine(t)
	acttest.Conform(t, acttest.Harness{New: func(t *testing.T) acttest.Fleet {
		cfg, ctl := hostFleet(t, d, nil)
		spoil := filepath.Join(ctl, "spoil")
		return acttest.Fleet{
			Drains: true,
			Open: func(t *testing.T) (acttest.Target, func()) {
				target := open(t, cfg)
				return target, func() { _ = target.Close() }
			},
			Kill: func(t *testing.T, w fleet.Worker) {
				if w.PID == 0 {
					t.Fatalf("no process of %+v is known", w)
				}
				if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				for end := time.Now().Add(time.Minute); local(w.PID, "") != 0; time.Sleep(time.Millisecond) {
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
				d.Kill()
				return d.Start
			},
		}
	}, Within: time.Minute})
}

func TestCopy(t *testing.T) {
	d := startEngine(t)
	cfg, _ := hostFleet(t, d, func(template map[string]any) {
		template["Labels"] = map[string]string{"app": "registry", composeProject: "dfr", composeService: "odoo", composeNumber: "1", composeOneOff: "False"}
	})
	cfg.Container, cfg.Compose = "", Compose{Project: "dfr", Service: "odoo"}
	target := open(t, cfg)
	if err := target.Scale(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	ws, err := target.Workers(t.Context())
	if err != nil || len(ws) != 1 {
		t.Fatalf("want one worker, have %+v, %v", ws, err)
	}
	if want := fmt.Sprint("PORT=", cfg.Ports.First, "\n"); !strings.Contains(get(t, ws[0], "/env")+"\n", want) || !strings.Contains(get(t, ws[0], "/env"), "KEPT=yes") {
		t.Errorf("the copy's environment lacks KEPT=yes or %q: %s", want, get(t, ws[0], "/env"))
	}
	var made struct {
		Config struct {
			Image       string
			StopTimeout int
			Labels      map[string]string
		}
		HostConfig struct {
			NetworkMode   string
			Binds         []string
			Memory        int64
			RestartPolicy struct{ Name string }
		}
	}
	if err := d.Call(http.MethodGet, "/containers/odoo-workers-1/json", nil, &made); err != nil {
		t.Fatal(err)
	}
	l := made.Config.Labels
	if made.Config.Image != image || made.Config.StopTimeout != 20 || made.HostConfig.NetworkMode != "host" || len(made.HostConfig.Binds) != 1 ||
		made.HostConfig.Memory != 64<<20 || made.HostConfig.RestartPolicy.Name != "unless-stopped" ||
		l["app"] != "registry" || l[composeProject] != "dfr" || l[composeOneOff] != "True" || l[labelFleet] != "odoo-workers" {
		t.Errorf("the copy is not as its template: %+v", made)
	}
}
