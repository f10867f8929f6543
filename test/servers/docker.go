package servers

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Docker is a real engine over a containerd of its own, as Debian runs them. It touches neither the machine's firewall nor its
// bridges: containers use the host's network, or one that a test makes. They live on when the engine crashes.
type Docker struct {
	*process
	Socket string
	client *http.Client
}

// StartDocker starts an engine until the end of the test, and ends all its containers then. It takes root.
func StartDocker(t testing.TB) *Docker {
	t.Helper()
	program := Need(t, "dockerd")
	needRoot(t, "a Docker engine takes root")
	dir, err := os.MkdirTemp("", "docker") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Mount("tmpfs", dir, "tmpfs", 0, "") // an engine waits for the disk often; where it may not be had, it takes longer
	if err := os.Chmod(dir, 0o711); err != nil {    // who may ask, the socket says
		t.Fatal(err)
	}
	within := func(name string) string { return filepath.Join(dir, name) }
	serve := func(name, program string, ready func() error, args ...string) *process {
		return &process{
			t: t, name: name, stop: syscall.SIGTERM, log: within(name + ".log"), ready: ready,
			start: func() *exec.Cmd {
				cmd := exec.Command(program, args...)
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				return cmd
			},
		}
	}
	address, settings := within("containerd.sock"), within("containerd.toml")
	containerd := serve("containerd", Need(t, "containerd"), func() error {
		conn, err := net.Dial("unix", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	}, "--config", settings, "--address", address, "--root", within("containerd"), "--state", within("tasks"), "--log-level", "warn")
	if err := os.WriteFile(settings, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Docker{Socket: within("docker.sock")}
	d.client = &http.Client{Timeout: ages, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dial net.Dialer
			return dial.DialContext(ctx, "unix", d.Socket)
		},
	}}
	d.process = serve("dockerd", program, func() error { return d.Call(http.MethodGet, "/_ping", nil, nil) },
		"--iptables=false", "--bridge=none", "--storage-driver=vfs", "--live-restore", "--log-level=warn", "--containerd", address,
		"--data-root", within("data"), "--exec-root", within("exec"), "--pidfile", within("pid"), "-H", "unix://"+d.Socket)
	t.Cleanup(func() {
		for _, mount := range []string{"exec/netns/default", "data", ""} { // an engine leaves the host's network there, one that crashed also its folder
			_ = syscall.Unmount(within(mount), syscall.MNT_DETACH)
		}
		_ = os.RemoveAll(dir) // what stays behind is only litter
	})
	containerd.Start()
	t.Cleanup(containerd.end)
	d.Start()
	t.Cleanup(func() {
		d.Clear(t)
		d.Stop()
		containerd.Stop()
	})
	return d
}

// Crash ends the engine alone at once, as a fault of its own does: containerd and the containers are untouched. Start brings it
// back.
func (d *Docker) Crash(t testing.TB) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.exited
}

// Call asks the engine's API: body is sent as JSON (or as it is, an io.Reader), and the answer read into what into points to.
func (d *Docker) Call(method, path string, body, into any) error {
	send, plain := body.(io.Reader)
	if !plain && body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://docker"+path, send)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if plain {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// Import makes an image of one static program, without any other file. changes are lines of a Dockerfile, such as CMD.
func (d *Docker) Import(t testing.TB, image, program string, changes ...string) {
	t.Helper()
	code, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err = w.WriteHeader(&tar.Header{Name: filepath.Base(program), Mode: 0o755, Size: int64(len(code)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(code)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	repo, tag, _ := strings.Cut(image, ":")
	q := url.Values{"fromSrc": {"-"}, "repo": {repo}, "tag": {tag}, "changes": changes}
	if err := d.Call(http.MethodPost, "/images/create?"+q.Encode(), &layer, nil); err != nil {
		t.Fatal(err)
	}
}

// Create creates a container and returns its id.
func (d *Docker) Create(t testing.TB, name string, config map[string]any) string {
	t.Helper()
	var made struct{ ID string }
	if err := d.Call(http.MethodPost, "/containers/create?name="+name, config, &made); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// Clear removes all containers.
func (d *Docker) Clear(t testing.TB) {
	t.Helper()
	var all []struct{ ID string }
	if err := d.Call(http.MethodGet, "/containers/json?all=1", nil, &all); err != nil {
		t.Error(err)
	}
	for _, c := range all {
		if err := d.Call(http.MethodDelete, "/containers/"+c.ID+"?force=1&v=1", nil, nil); err != nil {
			t.Error(err)
		}
	}
}
