package front

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/observe/accesslog"
)

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                             func(*Config) {},
		"upstream: \"a b\" is no":      func(c *Config) { c.Upstream = "a b" },
		"upstream: \"x;}\" is no":      func(c *Config) { c.Upstream = "x;}" },
		"classes.0.name: \"A\" is no":  func(c *Config) { c.Classes = []Class{{Name: "A", Priority: 1, Routes: []string{"/a"}}} },
		"classes.0.name: \"other\" is": func(c *Config) { c.Classes = []Class{{Name: "other", Priority: 1, Routes: []string{"/a"}}} },
		"classes.0.priority: is 0":     func(c *Config) { c.Classes = []Class{{Name: "a", Routes: []string{"/a"}}} },
		"classes.0.routes: is empty":   func(c *Config) { c.Classes = []Class{{Name: "a", Priority: 1}} },
		"classes.0.routes.0: \"/a;\"":  func(c *Config) { c.Classes = []Class{{Name: "a", Priority: 1, Routes: []string{"/a;"}}} },
		"cache.routes.1: \"/a\" is al": func(c *Config) { c.Cache.Routes = []string{"/a", "/a"} },
		"cache.dir: \"x\" is no":       func(c *Config) { c.Cache.Dir = "x" },
		"timeout: is 0s":               func(c *Config) { c.Timeout = 0 },
		"cache.stale: is 1s":           func(c *Config) { c.Cache.Stale = time.Second },
		"max_body: is 5 bytes":         func(c *Config) { c.MaxBody = 5 },
		"per_client.rate: is -1":       func(c *Config) { c.PerClient.Rate = -1 },
		"message: has 2000 bytes":      func(c *Config) { c.Message = strings.Repeat("x", 2000) },
	} {
		c := DefaultConfig()
		c.Upstream = "127.0.0.1:8069"
		change(&c)
		if got := fmt.Sprint(c.Validate()); (want == "") != (c.Validate() == nil) || !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// nginx serves a snippet on loopback.
type nginx struct {
	addr, dir string
	held      atomic.Int64
	gate      chan struct{}
	backend   *httptest.Server
}

// ServeHTTP is the workers: /hold waits for the gate, /public counts, all else says which cookie came.
func (n *nginx) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Set-Cookie", "session_id=secret")
	if strings.HasSuffix(r.URL.Path, "/hold") {
		n.held.Add(1)
		<-n.gate
	}
	_, _ = fmt.Fprintf(rw, "%s cookie=%q", r.URL.Path, r.Header.Get("Cookie"))
}

func start(t *testing.T, change func(*Config)) *nginx {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		bin = "/usr/sbin/nginx"
	}
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs nginx")
		}
		t.Skip("needs nginx")
	}
	n := &nginx{dir: t.TempDir(), gate: make(chan struct{})}
	n.backend = httptest.NewServer(n)
	t.Cleanup(n.backend.Close)
	cfg := DefaultConfig()
	cfg.Upstream = n.backend.Listener.Addr().String()
	cfg.Cache.Dir = n.dir + "/cache"
	cfg.Classes = []Class{
		{Name: "sync", Priority: 1, Routes: []string{"/api/mobile/sync", "/api/farmer"}},
		{Name: "pages", Priority: 9, Routes: []string{"/web"}, Connections: 2, RetryAfter: 20 * time.Second},
	}
	cfg.Cache.Routes = []string{"/public"}
	cfg.PerClient = PerClient{Connections: 50, Rate: 5, Burst: 10}
	cfg.Message = `Fa'amolemole "fa’atali" $uri \ <b>`
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := Render("odoo-workers", 10, n.dir+"/access.log", cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	l.Close()
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n"
	}
	for file, text := range map[string]string{"http.conf": s.HTTP, "server.conf": s.Server, "nginx.conf": user + `daemon off;
worker_processes 1;
pid ` + n.dir + `/nginx.pid;
error_log ` + n.dir + `/error.log warn;
events { worker_connections 512; }
http {
    client_body_temp_path ` + n.dir + `/body; proxy_temp_path ` + n.dir + `/proxy; fastcgi_temp_path ` + n.dir + `/fastcgi;
    uwsgi_temp_path ` + n.dir + `/uwsgi; scgi_temp_path ` + n.dir + `/scgi;
    include ` + n.dir + `/http.conf;
    server { listen ` + n.addr + `; include ` + n.dir + `/server.conf; }
}
`} {
		if err := os.WriteFile(filepath.Join(n.dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-e", n.dir + "/early.log", "-p", n.dir, "-c", n.dir + "/nginx.conf"}
	if out, err := exec.Command(bin, append(args, "-t")...).CombinedOutput(); err != nil || strings.Contains(string(out), "[warn]") {
		t.Fatalf("nginx -t: %v\n%s\n%s\n%s", err, out, s.HTTP, s.Server)
	}
	cmd := exec.Command(bin, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-ticker.C:
		}
	}
}

type reply struct {
	status int
	body   string
	header http.Header
}

// ask makes one request on a connection of its own.
func (n *nginx) ask(t *testing.T, method, path, accept string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.addr+path, nil)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Cookie", "session_id=mine")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return reply{resp.StatusCode, string(b), resp.Header}
}

// Two pages hold all that pages may take: the third is told to come back, by a page or by JSON, while sync and what is merely called
// alike pass.
func TestClassesAreLimited(t *testing.T) {
	n := start(t, nil)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if got := n.ask(t, http.MethodGet, "/web/hold", "text/html"); got.status != http.StatusOK {
				t.Errorf("held: %+v", got)
			}
		})
	}
	eventually(t, "two pages are held", func() bool { return n.held.Load() == 2 })
	got := n.ask(t, http.MethodGet, "/web/x", "text/html,*/*")
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "20" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") ||
		!strings.Contains(got.body, "very busy") || !strings.Contains(got.body, `Fa&#39;amolemole &#34;fa’atali&#34; &#36;uri &#92; &lt;b&gt;`) {
		t.Errorf("a visitor gets %+v", got)
	}
	got = n.ask(t, http.MethodGet, "/web/x", "application/json")
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "20" || got.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(got.body, `"status":503`) {
		t.Errorf("a program gets %+v", got)
	}
	for _, path := range []string{"/api/mobile/sync", "/api/farmer/lookup", "/webx", "/"} {
		if got := n.ask(t, http.MethodPost, path, "*/*"); got.status != http.StatusOK || !strings.Contains(got.body, "mine") {
			t.Errorf("%s: %+v", path, got)
		}
	}
	close(n.gate)
	wg.Wait()
}

// One address may ask 5 times a second and 10 times at once; sync as often as it likes.
func TestClientsAreLimited(t *testing.T) {
	n := start(t, nil)
	count := func(path string) map[int]int {
		out := map[int]int{}
		for range 60 {
			got := n.ask(t, http.MethodGet, path, "*/*")
			out[got.status]++
			if retry, err := strconv.Atoi(got.header.Get("Retry-After")); got.status == http.StatusTooManyRequests && (err != nil || retry != 10) {
				t.Errorf("%+v", got)
			}
		}
		return out
	}
	if got := count("/"); got[200] < 11 || got[429] == 0 || got[200]+got[429] != 60 {
		t.Errorf("answers by status: %v", got)
	}
	if got := count("/api/mobile/sync"); got[200] != 60 {
		t.Errorf("sync: answers by status: %v", got)
	}
}

// A public page is the same for everybody, goes on while the workers are away, and is read only.
func TestPublicPagesAreCached(t *testing.T) {
	n := start(t, func(c *Config) { c.Cache.For = time.Second })
	first := n.ask(t, http.MethodGet, "/public/prices", "text/html")
	if first.status != http.StatusOK || first.header.Get("Set-Cookie") != "" || !strings.Contains(first.body, `cookie=""`) || first.header.Get("X-Cache-Status") != "MISS" {
		t.Fatalf("%+v", first)
	}
	if got := n.ask(t, http.MethodPost, "/public/prices", "text/html"); got.status != http.StatusForbidden {
		t.Errorf("POST: %+v", got)
	}
	n.backend.Close()
	var got reply
	eventually(t, "the page is old", func() bool { // and is shown all the same
		got = n.ask(t, http.MethodGet, "/public/prices", "text/html")
		return got.status != http.StatusOK || got.header.Get("X-Cache-Status") != "HIT"
	})
	if got.status != http.StatusOK || got.header.Get("X-Cache-Status") != "STALE" && got.header.Get("X-Cache-Status") != "UPDATING" || got.body != first.body {
		t.Errorf("without workers: %+v", got)
	}
	got = n.ask(t, http.MethodGet, "/web", "text/html")
	if got.status != http.StatusBadGateway || got.header.Get("Retry-After") != "20" || !strings.Contains(got.body, "cannot be reached") {
		t.Errorf("what is not cached: %+v", got)
	}
}

// The signals read what nginx logs.
func TestTheLogIsRead(t *testing.T) {
	n := start(t, nil)
	n.ask(t, http.MethodGet, "/api/farmer/lookup", "*/*")
	format, err := accesslog.Compile(accesslog.Tidemark)
	if err != nil {
		t.Fatal(err)
	}
	var line []byte
	eventually(t, "it is logged", func() bool {
		line, err = os.ReadFile(n.dir + "/access.log")
		return err == nil && strings.HasSuffix(string(line), "\n")
	})
	var e accesslog.Entry
	if err := format.Parse([]byte(strings.TrimSpace(string(line))), &e); err != nil || string(e.Path) != "/api/farmer/lookup" || e.Status != http.StatusOK || !(e.UpstreamTime >= 0) {
		t.Errorf("%q: %+v (%v)", line, e, err)
	}
}
