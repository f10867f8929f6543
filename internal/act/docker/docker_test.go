package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/act/acttest"
	"tidemark/internal/act/copies"
	"tidemark/internal/act/health"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

// daemonVar has what the daemon that is killed does, as JSON: the test binary is also that.
const daemonVar = "TIDEMARK_TEST_DAEMON"

type order struct {
	Config Config
	Size   int
}

func TestMain(m *testing.M) {
	if text := os.Getenv(daemonVar); text != "" {
		var o order
		err := json.Unmarshal([]byte(text), &o)
		if err == nil {
			var target *Target
			if target, err = New(o.Config, testFleet); err == nil {
				err = target.Scale(context.Background(), o.Size, nil)
			}
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

var testFleet = Options{Fleet: "odoo-workers", Instance: "dfr-test"}

const image = "worker:1"

// startEngine starts an engine that has the image of the test worker.
func startEngine(t *testing.T) *servers.Docker {
	t.Helper()
	d := servers.StartDocker(t)
	d.Import(t, image, acttest.BuildWorker(t), `CMD ["/worker"]`)
	return d
}

// hostFleet is a template on the host's network, created and not started, and the target that copies it.
func hostFleet(t *testing.T, d *servers.Docker, change func(map[string]any)) (cfg Config, ctl string) {
	t.Helper()
	ctl = t.TempDir()
	template := map[string]any{
		"Image":       image,
		"Env":         []string{"PORT=1", "KEPT=yes", "SPOIL=/ctl/spoil"},
		"StopTimeout": 20,
		"Labels":      map[string]string{"app": "registry"},
		"HostConfig":  map[string]any{"NetworkMode": "host", "Binds": []string{ctl + ":/ctl:ro"}, "Memory": 64 << 20, "SecurityOpt": []string{"seccomp=unconfined"}}, // soon started
	}
	if change != nil {
		change(template)
	}
	d.Create(t, "template", template)
	t.Cleanup(func() { d.Clear(t) })
	cfg = DefaultConfig()
	cfg.Socket, cfg.Container = d.Socket, "template"
	first := servers.FreePorts(t, 8)
	cfg.Ports = copies.Ports{First: first, Last: first + 7}
	cfg.Env = map[string]string{"PORT": "{port}"}
	cfg.Health = health.Config{Path: "/health", Interval: 200 * time.Millisecond, Timeout: 5 * time.Second, Failures: 3}
	return cfg, ctl
}

func open(t *testing.T, cfg Config) *Target {
	t.Helper()
	target, err := New(cfg, testFleet)
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

// TestEngine is all that takes a real engine, which starts once.
func TestEngine(t *testing.T) {
	d := startEngine(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *servers.Docker)
	}{
		{"conformance", conformance},
		{"compose service", composeService},
		{"template serves", templateServes},
		{"published ports", publishedPorts},
		{"graceful stop", gracefulStop},
		{"daemon killed", daemonKilled},
		{"own health check", ownHealthCheck},
		{"keeps ending", keepsEnding},
		{"no template", noTemplate},
		{"ports taken", portsTaken},
		{"unused volumes", unusedVolumes},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, d) })
	}
}

func conformance(t *testing.T, d *servers.Docker) {
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
				for end := time.Now().Add(time.Minute); copies.Local(w.PID, "") != 0; time.Sleep(time.Millisecond) {
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
			Away: func(t *testing.T) func() {
				d.Crash(t)
				return d.Start
			},
		}
	}, Within: time.Minute})
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

func composeService(t *testing.T, d *servers.Docker) {
	cfg, _ := hostFleet(t, d, func(template map[string]any) {
		template["Labels"] = map[string]string{"app": "registry", labelProject: "dfr", labelService: "odoo", labelNumber: "1", labelOneOff: "False"}
	})
	cfg.Container, cfg.Compose = "", Compose{Project: "dfr", Service: "odoo"}
	w := scaled(t, open(t, cfg), 1)[0]
	env := "\n" + get(t, w, "/env") + "\n"
	for _, want := range []string{fmt.Sprint("PORT=", cfg.Ports.First), "KEPT=yes"} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("the copy's environment lacks %s: %s", want, env)
		}
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
		l["app"] != "registry" || l[labelProject] != "dfr" || l[labelOneOff] != "True" || l[labelFleet] != "odoo-workers" {
		t.Errorf("the copy is not as its template: %+v", made)
	}

	d.Clear(t)
	if ws, err := open(t, cfg).Workers(t.Context()); err == nil {
		t.Errorf("there is neither template nor copy: want an error, have %+v", ws)
	}
}

// network makes a network of the test's own.
func network(t *testing.T, d *servers.Docker, name string) {
	t.Helper()
	if err := d.Call(http.MethodPost, "/networks/create", map[string]any{"Name": name, "CheckDuplicate": true}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Clear(t)
		if err := d.Call(http.MethodDelete, "/networks/"+name, nil, nil); err != nil {
			t.Error(err)
		}
	})
}

// networked is a template in two networks of its own, where all copies listen on one port.
func networked(t *testing.T, d *servers.Docker) Config {
	t.Helper()
	network(t, d, "front")
	network(t, d, "back")
	id := d.Create(t, "template", map[string]any{
		"Image":            image,
		"Env":              []string{"PORT=8069"},
		"HostConfig":       map[string]any{"NetworkMode": "front", "RestartPolicy": map[string]any{"Name": "always"}},
		"NetworkingConfig": map[string]any{"EndpointsConfig": map[string]any{"front": map[string]any{"Aliases": []string{"odoo", "template"}}}},
	})
	if err := d.Call(http.MethodPost, "/networks/back/connect", map[string]any{"Container": id}, nil); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Socket, cfg.Container, cfg.Port, cfg.Network = d.Socket, "template", 8069, "front"
	cfg.Health.Path = "/health"
	return cfg
}

// templateServes: a template that runs is a worker, and is never stopped.
func templateServes(t *testing.T, d *servers.Docker) {
	cfg := networked(t, d)
	target := open(t, cfg)
	if err := d.Call(http.MethodPost, "/containers/template/start", nil, nil); err != nil {
		t.Fatal(err)
	}
	ws := scaled(t, target, 2)
	if ws[0].ID != "template" || ws[1].ID != "odoo-workers-1" || ws[0].Address == ws[1].Address || !strings.HasSuffix(ws[1].Address, ":8069") {
		t.Errorf("want the template and a copy, each with its address, have %+v", ws)
	}
	for _, w := range ws {
		get(t, w, "/health")
	}
	var made container
	if err := d.Call(http.MethodGet, "/containers/odoo-workers-1/json", nil, &made); err != nil {
		t.Fatal(err)
	}
	if in := made.NetworkSettings.Networks; len(in) != 2 || !slices.Contains(in["front"].Aliases, "odoo") || slices.Contains(in["front"].Aliases, "template") {
		t.Errorf("want a copy in both networks, with the service's alias and without the template's name: %+v", in)
	}
	says(t, target.Scale(t.Context(), 0, nil), "1 containers are the service's own")
	if ws := scaled(t, target, 1); ws[0].ID != "template" || ws[0].Phase != fleet.Serving {
		t.Errorf("want the template serving, have %+v", ws)
	}
	cfg.Network = ""
	says(t, firstTrouble(t, open(t, cfg)), "write which one the balancer is in")
	cfg.Network = "other"
	says(t, firstTrouble(t, open(t, cfg)), "it is not in the network other")
}

// firstTrouble is what the first worker says.
func firstTrouble(t *testing.T, target *Target) error {
	t.Helper()
	ws, err := target.Workers(t.Context())
	if err != nil || len(ws) == 0 {
		t.Fatal(ws, err)
	}
	return errors.New(ws[0].Detail)
}

func publishedPorts(t *testing.T, d *servers.Docker) {
	cfg := networked(t, d)
	first := servers.FreePorts(t, 2)
	cfg.Ports = copies.Ports{First: first, Last: first + 1}
	for i, w := range scaled(t, open(t, cfg), 2) {
		if want := fmt.Sprint("127.0.0.1:", first+i); w.Address != want {
			t.Errorf("want the address %s, have %+v", want, w)
		}
		get(t, w, "/health")
	}
}

// gracefulStop: a request under way when its worker leaves is answered; one that takes longer than the stop time-out is not.
func gracefulStop(t *testing.T, d *servers.Docker) {
	cfg, _ := hostFleet(t, d, func(template map[string]any) { template["StopTimeout"] = 4 })
	target := open(t, cfg)
	for _, c := range []struct {
		takes  string
		answer bool
	}{{"1s", true}, {"1h", false}} {
		w := scaled(t, target, 1)[0]
		answered := make(chan error, 1)
		err := target.Scale(t.Context(), 0, func(context.Context, fleet.Worker) error {
			sent := make(chan struct{})
			req, err := http.NewRequest(http.MethodGet, "http://"+w.Address+"/work?d="+c.takes, nil)
			if err != nil {
				return err
			}
			req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }}))
			go func() {
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				resp, err := client.Do(req)
				if err == nil {
					err = resp.Body.Close()
				}
				answered <- err
			}()
			<-sent
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-answered; (err == nil) != c.answer {
			t.Errorf("a request of %s: want an answer: %v, have %v", c.takes, c.answer, err)
		}
	}
	if all, err := target.engine.list(t.Context(), labelFleet+"=odoo-workers"); err != nil || len(all) != 0 {
		t.Errorf("copies that left are still there: %v, %v", all, err)
	}
}

// daemonKilled: a daemon dies by kill -9 while the engine does what it was asked for. The next one goes on, and nothing is left over.
func daemonKilled(t *testing.T, d *servers.Docker) {
	cfg, _ := hostFleet(t, d, func(template map[string]any) { template["StopTimeout"] = 1 })
	target := open(t, cfg)
	// until starts a daemon that scales to n and kills it when the engine shows what is waited for.
	until := func(n int, seen func(own, leaving int) bool) {
		t.Helper()
		text, err := json.Marshal(order{cfg, n})
		if err != nil {
			t.Fatal(err)
		}
		daemon := exec.Command(os.Args[0])
		daemon.Env = append(os.Environ(), daemonVar+"="+string(text))
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) { // an outside process: nothing to wait on
			v, err := target.look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			own := len(v.own())
			if seen(own, len(v.members)-own-1) { // less the template
				break
			}
			if time.Now().After(end) {
				t.Fatal("the daemon does not get there")
			}
		}
		_ = daemon.Process.Kill() // it may have ended
		_ = daemon.Wait()         // killed
	}
	before := scaled(t, target, 1)
	for _, seen := range []func(own, leaving int) bool{
		func(own, _ int) bool { return own >= 2 },
		func(own, _ int) bool { return own >= 3 },
	} {
		until(4, seen)
		if after := scaled(t, open(t, cfg), 4); after[0] != before[0] {
			t.Errorf("a worker was replaced that need not be: %+v, %+v", before, after)
		}
		scaled(t, target, 1)
	}
	for _, seen := range []func(own, leaving int) bool{
		func(_, leaving int) bool { return leaving >= 1 },
		func(own, _ int) bool { return own == 1 },
	} {
		scaled(t, target, 4)
		until(1, seen)
		scaled(t, open(t, cfg), 1)
	}
	if all, err := target.engine.list(t.Context(), labelFleet+"=odoo-workers"); err != nil || len(all) != 1 {
		t.Errorf("want one copy and nothing left over, have %v, %v", all, err)
	}
}

// ownHealthCheck: the container's HEALTHCHECK counts where the operator wrote no path. The image has no program but the worker, so
// this one fails.
func ownHealthCheck(t *testing.T, d *servers.Docker) {
	cfg, _ := hostFleet(t, d, func(template map[string]any) {
		template["Healthcheck"] = map[string]any{"Test": []string{"CMD", "/nothing"}, "Interval": 10 * time.Millisecond, "Retries": 1}
	})
	cfg.Health.Path = ""
	target := open(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- target.Scale(ctx, 1, nil) }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // an outside process: nothing to wait on
		ws, err := target.Workers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(ws) == 1 && ws[0].Phase == fleet.Starting && strings.HasPrefix(ws[0].Detail, "health check: the container's own says unhealthy: ") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the container does not become unhealthy: %+v", ws)
		}
	}
	cancel()
	says(t, <-ended, "0 of 1 workers serve")
	cfg.Health.Path = "/health"
	if w := scaled(t, open(t, cfg), 1)[0]; w.Phase != fleet.Serving {
		t.Errorf("the path that the operator wrote is fine: %+v", w)
	}
}

func keepsEnding(t *testing.T, d *servers.Docker) {
	cfg, _ := hostFleet(t, d, nil)
	cfg.Env["PORT"] = "none-{port}"
	target := open(t, cfg)
	says(t, target.Scale(t.Context(), 1, nil), "it ended with exit code 1")
	scaled(t, target, 0)
	cfg.Env["PORT"], cfg.Command = "{port}", []string{"/nothing"}
	says(t, open(t, cfg).Scale(t.Context(), 1, nil), "make odoo-workers-1: the Docker engine says: ")
}

func noTemplate(t *testing.T, d *servers.Docker) {
	cfg, _ := hostFleet(t, d, nil)
	cfg.Container = "absent"
	_, err := open(t, cfg).Workers(t.Context())
	says(t, err, "there is no container absent to copy")
	says(t, open(t, cfg).Scale(t.Context(), 1, nil), "there is no container absent to copy")
	cfg.Container, cfg.Compose = "", Compose{"dfr", "odoo"}
	_, err = open(t, cfg).Workers(t.Context())
	says(t, err, "compose project dfr has no container of service odoo")
	cfg.Socket += ".absent"
	_, err = open(t, cfg).Workers(t.Context())
	says(t, err, "ask the Docker engine: dial unix "+cfg.Socket)
}

// portsTaken: a port on which somebody listens is passed over; without one that is free, that is said.
func portsTaken(t *testing.T, d *servers.Docker) {
	cfg, _ := hostFleet(t, d, nil)
	ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", cfg.Ports.First))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg.Ports.Last = cfg.Ports.First + 1
	target := open(t, cfg)
	if w := scaled(t, target, 1)[0]; w.ID != "odoo-workers-2" {
		t.Errorf("want the second slot, have %+v", w)
	}
	says(t, target.Scale(t.Context(), 2, nil), "do not suffice")
}

func unusedVolumes(t *testing.T, d *servers.Docker) {
	if err := d.Call(http.MethodPost, "/volumes/create", map[string]any{"Name": "spare"}, nil); err != nil {
		t.Fatal(err)
	}
	d.Create(t, "user", map[string]any{"Image": image, "HostConfig": map[string]any{"Binds": []string{"used:/data"}}})
	unused, err := UnusedVolumes(t.Context(), d.Socket)
	if err != nil || len(unused) != 1 || unused[0].Name != "spare" || time.Since(unused[0].Created) > time.Hour {
		t.Errorf("want the spare volume, have %+v, %v", unused, err)
	}
	d.Clear(t)
	for _, v := range []string{"spare", "used"} {
		if err := d.Call(http.MethodDelete, "/volumes/"+v, nil, nil); err != nil {
			t.Error(err)
		}
	}
}
