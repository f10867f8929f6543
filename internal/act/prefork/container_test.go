package prefork

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

// TestContainer: a master in a container, with pids of its own, is found through the engine and moved as any other.
func TestContainer(t *testing.T) {
	d := servers.StartDocker(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "registry")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, "tidemark/cmd/registry")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the registry: %v\n%s", err, out)
	}
	database := filepath.Join(dir, "db")
	if out, err := exec.Command(program, "seed", "--db", database, "--farmers", "10").CombinedOutput(); err != nil {
		t.Fatalf("seed: %v\n%s", err, out)
	}
	d.Import(t, "registry:1", program)
	address := servers.FreeAddress(t)
	d.Create(t, "registry", map[string]any{
		"Image":      "registry:1",
		"Cmd":        []string{"/registry", "serve", "--open", "--db", database, "--workers", "2", "--listen", address},
		"HostConfig": map[string]any{"NetworkMode": "host", "Binds": []string{dir + ":" + dir}},
	})
	cfg := DefaultConfig()
	cfg.Flavour, cfg.Container, cfg.Socket, cfg.Settle = "registry", "registry", d.Socket, 0
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.Workers(t.Context()); err == nil || !strings.Contains(err.Error(), "the container registry does not run: it is created") {
		t.Fatalf("want an error that says that the container does not run, have %v", err)
	}
	up := func() {
		t.Helper()
		if err := d.Call(http.MethodPost, "/containers/registry/restart", nil, nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the master has two workers", func() bool {
			ws, err := target.Workers(t.Context())
			return err == nil && fleet.Count(ws).Serving == 2
		})
	}
	up()
	for _, n := range []int{4, 1} {
		if err := target.Scale(t.Context(), n, nil); err != nil {
			t.Fatalf("scale to %d: %v", n, err)
		}
		if ws, err := target.Workers(t.Context()); err != nil || fleet.Count(ws).Serving != n {
			t.Fatalf("want %d serving workers, have %+v, %v", n, ws, err)
		}
	}
	up() // another main process
}
