package docker

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/act/copies"
)

// recorded is an engine of which only its version and one image are known.
func recorded(t *testing.T, version, imageID string) *Target {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := DefaultConfig()
	cfg.Socket, cfg.Container, cfg.Port = filepath.Join(dir, "s"), "dfr-odoo-1", 8069
	ln, err := net.Listen("unix", cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"Version": "0", "ApiVersion": version})
	})
	mux.HandleFunc("/v"+version+"/images/odoo:18/json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"Id": imageID})
	})
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	target, err := New(cfg, testFleet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() }) // never fails
	return target
}

// inspected is a compose service's container as an engine describes it, with edits.
func inspected(t *testing.T, edits ...string) *container {
	t.Helper()
	text, err := os.ReadFile("testdata/inspect.json")
	if err != nil {
		t.Fatal(err)
	}
	c := container{raw: []byte(strings.NewReplacer(edits...).Replace(string(text)))}
	if err := json.Unmarshal(c.raw, &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

func bodyOf(t *testing.T, target *Target, c *container, slot int) (map[string]any, *template) {
	t.Helper()
	from, err := target.newTemplate(c)
	if err != nil {
		t.Fatal(err)
	}
	made, err := target.body(t.Context(), from, slot)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(text, &body); err != nil {
		t.Fatal(err)
	}
	return body, from
}

// A copy is as its template but for what must be its own.
func TestBody(t *testing.T) {
	target := recorded(t, "1.50", "sha256:aaaa")
	target.cfg.Env = map[string]string{"HOST": "pgbouncer", "SLOT": "{slot}"}
	body, from := bodyOf(t, target, inspected(t), 3)
	var want map[string]any
	if err := json.Unmarshal([]byte(`{
		"User": "odoo",
		"ExposedPorts": {"8069/tcp": {}, "8072/tcp": {}},
		"Env": ["PATH=/usr/bin", "HOST=pgbouncer", "SLOT=3"],
		"Cmd": ["odoo"],
		"Image": "odoo:18",
		"Healthcheck": {"Test": ["CMD", "curl", "-f", "http://localhost:8069/web/health"]},
		"Entrypoint": ["/entrypoint.sh"],
		"StopSignal": "SIGINT",
		"StopTimeout": 120,
		"Labels": {
			"com.docker.compose.oneoff": "True",
			"com.docker.compose.project": "dfr",
			"com.docker.compose.service": "odoo",
			"owner": "moa-ict",
			"tidemark.fleet": "odoo-workers",
			"tidemark.instance": "dfr-test",
			"tidemark.slot": "3",
			"tidemark.template": "`+from.digest+`"
		},
		"HostConfig": {
			"Binds": ["dfr_data:/var/lib/odoo:rw"],
			"NetworkMode": "dfr_default",
			"PortBindings": {},
			"PublishAllPorts": false,
			"ContainerIDFile": "",
			"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
			"AutoRemove": false,
			"Memory": 2147483648,
			"NanoCpus": 1500000000,
			"SettingOfTheFuture": {"kept": true}
		},
		"NetworkingConfig": {"EndpointsConfig": {"dfr_default": {"Aliases": ["odoo"], "Links": null, "DriverOpts": null}}}
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("the body of a copy (- want + have):\n%s", diff)
	}
	if further := from.further(); !slices.Equal(further, []string{"database"}) {
		t.Errorf("want the network database to be connected to besides, have %v", further)
	}
}

// The tag of the image names another one now: the copy is made of the template's.
func TestBodyOfMovedTag(t *testing.T) {
	body, _ := bodyOf(t, recorded(t, "1.41", "sha256:bbbb"), inspected(t), 1)
	if body["Image"] != "sha256:aaaa" {
		t.Errorf("want the template's own image, have %v", body["Image"])
	}
}

// The digest tells forms of a template apart, and nothing else.
func TestDigest(t *testing.T) {
	target := recorded(t, "1.50", "sha256:aaaa")
	_, first := bodyOf(t, target, inspected(t), 1)
	for _, c := range []struct {
		name  string
		edits []string
		same  bool
	}{
		{"restarted", []string{"4242", "4243", "172.18.0.4", "172.18.0.9", "08:00:01Z", "09:00:01Z"}, true},
		{"made anew by compose", []string{"4f3c9a1b2c3d", "5f3c9a1b2c3d", `"com.docker.compose.container-number": "1"`, `"com.docker.compose.container-number": "2"`}, true},
		{"another image", []string{"sha256:aaaa", "sha256:cccc"}, false},
		{"another limit", []string{"2147483648", "4294967296"}, false},
		{"another network", []string{`"database"`, `"front"`}, false},
	} {
		_, now := bodyOf(t, target, inspected(t, c.edits...), 1)
		if (now.digest == first.digest) != c.same {
			t.Errorf("%s: the same digest: %v, want %v", c.name, !c.same, c.same)
		}
	}
}

func TestTemplatesThatCannotBeCopied(t *testing.T) {
	for _, c := range []struct {
		mode   string
		change func(*Config)
		want   string
	}{
		{"container:abc", func(*Config) {}, "uses the network of another container"},
		{"host", func(*Config) {}, "write ports"},
		{"host", func(c *Config) { c.Ports = copies.Ports{First: 9001} }, "neither command nor env has {port}"},
		{"dfr_default", func(c *Config) { c.Port = 0 }, "write port"},
	} {
		target := recorded(t, "1.50", "sha256:aaaa")
		c.change(&target.cfg)
		_, err := target.newTemplate(inspected(t, `"NetworkMode": "dfr_default"`, `"NetworkMode": "`+c.mode+`"`))
		says(t, err, c.want)
	}
}

func TestOldEngine(t *testing.T) {
	_, err := recorded(t, "1.40", "").Workers(t.Context())
	says(t, err, `speaks version "1.40" of the API, and 1.41 is needed`)
}
