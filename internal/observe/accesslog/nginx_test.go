package accesslog

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

// eventually polls a real process for at most 20 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// nginx is a real one of the test's own, that logs each request in the recommended format and as JSON.
type nginx struct {
	t                *testing.T
	addr, text, json string
	cmd              *exec.Cmd
	client           *http.Client
}

const jsonFormat = `log_format json escape=json '{"time":"$time_iso8601","request":"$request","uri":"$request_uri","status":"$status",' ` +
	`'"request_time":$request_time,"upstream":"$upstream_response_time","agent":"$http_user_agent"}';`

// startNginx starts nginx in front of worker; dead is an address where nobody listens.
func startNginx(t *testing.T, worker, dead string) *nginx {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		bin, err = exec.LookPath("/usr/sbin/nginx")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs nginx")
		}
		t.Skip("needs nginx")
	}
	dir := t.TempDir()
	n := &nginx{t: t, addr: servers.FreeAddress(t), text: filepath.Join(dir, "access.log"), json: filepath.Join(dir, "json.log")}
	conf := map[bool]string{true: "user root;\n"}[os.Getuid() == 0] + replace(`daemon off;
worker_processes 2;
pid DIR/nginx.pid;
error_log DIR/error.log;
events { worker_connections 256; }
http {
    client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
    `+Directive()+`
    `+jsonFormat+`
    access_log DIR/access.log tidemark;
    access_log DIR/json.log json;
    upstream twice { server DEAD max_fails=0; server WORKER backup; }
    server {
        listen ADDR;
        location / { return 200 "nginx itself\n"; }
        location /api/ { proxy_pass http://WORKER; }
        location /retry/ { proxy_pass http://twice; }
        location /down/ { proxy_pass http://DEAD; }
        location /redirect/ { proxy_pass http://WORKER; proxy_intercept_errors on; error_page 404 = @second; }
        location @second { proxy_pass http://WORKER; }
    }
}
`, "DIR", dir, "WORKER", worker, "DEAD", dead, "ADDR", n.addr)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	n.cmd = exec.Command(bin, "-e", filepath.Join(dir, "error.log"), "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	var out strings.Builder
	n.cmd.Stderr = &out
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.client.CloseIdleConnections()
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		_ = n.cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	n.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 20 * time.Second}
	eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return n
}

func replace(s string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(s) }

// get asks for a path and returns the status.
func (n *nginx) get(path string) int {
	r, err := n.client.Get("http://" + n.addr + path)
	if err != nil {
		n.t.Error(err)
		return 0
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body)
	return r.StatusCode
}

// raw sends bytes as they are and waits for nginx to close the connection.
func (n *nginx) raw(text string) {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		n.t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil {
		n.t.Fatal(err)
	}
}

// watched is one of nginx's logs with the signals read from it.
type watched struct {
	t             *testing.T
	log           *Log
	all, api, bad *Source
}

func watch(t *testing.T, path, format string) *watched {
	t.Helper()
	var logs Logs
	t.Cleanup(func() { logs.Close() })
	source := func(field, route string) *Source {
		cfg := DefaultConfig()
		cfg.Path, cfg.Format, cfg.Field, cfg.Route = path, format, field, route
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		s, err := logs.Source(cfg, 0.5, time.Hour, 1)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w := &watched{t: t, all: source(Rate, ""), api: source(Latency, "/api"), bad: source(Errors, "")}
	w.log = w.all.log
	w.log.tail.limits.time = time.Minute // this machine may be busy
	w.read()
	return w
}

func (w *watched) read() {
	w.t.Helper()
	if _, err := w.all.Read(w.t.Context(), fleet.Scene{Now: time.Now()}); err != nil {
		w.t.Fatal(err)
	}
}

// expect waits until the log says so many requests, and checks that it then says no more and how many of each kind.
func (w *watched) expect(requests, latencies, failed int) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%d lines in %s", requests, w.log.tail.path), func() bool {
		w.read()
		return w.log.Stats().Lines >= uint64(requests)
	})
	w.read()
	s := w.log.Stats()
	if s.Lines != uint64(requests) || s.Skipped != 0 || s.Torn != 0 || w.all.tally.now.requests != uint64(requests) {
		w.t.Errorf("%s: %+v, %d counted, want %d", w.log.tail.path, s, w.all.tally.now.requests, requests)
	}
	if n := w.api.latencies.Total().Count(); n != uint64(latencies) {
		w.t.Errorf("%s: %d latencies, want %d", w.log.tail.path, n, latencies)
	}
	if n := w.bad.tally.now.failed; n != uint64(failed) {
		w.t.Errorf("%s: %d failed, want %d", w.log.tail.path, n, failed)
	}
}

// What a real nginx writes for usual, odd and broken requests is understood in both formats.
func TestNginxLines(t *testing.T) {
	arrived, release := make(chan bool, 1), make(chan bool)
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/hang":
			arrived <- true
			<-release
		case strings.HasPrefix(r.URL.Path, "/redirect/") && r.Header.Get("Seen") == "":
			http.NotFound(w, r)
		}
	}))
	defer worker.Close()
	defer close(release)
	n := startNginx(t, worker.Listener.Addr().String(), servers.FreeAddress(t))
	text, json := watch(t, n.text, "tidemark"), watch(t, n.json, jsonFormat)

	for path, want := range map[string]int{
		"/": 200, "/api/a?x=1": 200, "/retry/a": 200, "/down/a": 502, "/redirect/a": 404, "/api/%22%5C%C3%A9": 200, "/api/a%20b": 200,
	} {
		if got := n.get(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	requests, latencies, failed := 7, 3, 1
	for _, request := range []string{
		"GET /api/\"quoted\"\\ HTTP/1.1\r\nHost: h\r\nUser-Agent: a \"b\" \\ \x01\xff {}\r\nConnection: close\r\n\r\n",
		"GET /api/caf\xc3\xa9 HTTP/1.0\r\n\r\n",
		"GET http://h.example/api/absolute?x HTTP/1.1\r\nHost: h.example\r\nConnection: close\r\n\r\n",
	} {
		n.raw(request)
		requests, latencies = requests+1, latencies+1
	}
	for _, request := range []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 32), // TLS on the wrong port
		"GET / HTTP/1.1\r\n\r\n", // no host
		"get\r\n\r\n", "GET /static\r\n", "\" rt=9 urt=\"9\r\n\r\n",
		"GET / HTTP/1.0\r\nAuthorization: Basic YSBiIFtjXSBkOng=\r\n\r\n", // user "a b [c] d"
		"GET /" + strings.Repeat("x", 40_000) + " HTTP/1.1\r\n\r\n",       // 414
	} {
		n.raw(request)
		requests++
	}
	// A client that leaves: 499, with the time that it waited.
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /api/hang HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	c.Close()
	requests, latencies = requests+1, latencies+1

	text.expect(requests, latencies, failed)
	json.expect(requests, latencies, failed)
	if t.Failed() {
		b, _ := os.ReadFile(n.text)
		t.Logf("%s", b)
	}
}

// Requests, rotations and truncations of a real nginx: each request is counted exactly once.
func TestNginxRotation(t *testing.T) {
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	defer worker.Close()
	n := startNginx(t, worker.Listener.Addr().String(), servers.FreeAddress(t))
	text, json := watch(t, n.text, "tidemark"), watch(t, n.json, jsonFormat)
	const clients, each = 4, 500
	load := func(phase int) *sync.WaitGroup {
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for i := range each {
					path := fmt.Sprintf("/api/x?phase=%d", phase) // within one second, what is rewritten must look different
					if i%5 == 0 {
						path = "/static"
					}
					if got := n.get(path); got != 200 {
						t.Errorf("%s: %d", path, got)
						return
					}
				}
			})
		}
		return &wg
	}
	const total, api = clients * each, clients * each * 4 / 5

	running := load(0)
	for i := range 5 {
		before := text.log.Stats().Lines
		eventually(t, "lines come", func() bool {
			text.read()
			json.read()
			s := text.log.Stats()
			return s.Lines > before || s.Lines == total
		})
		for _, path := range []string{n.text, n.json} {
			if err := os.Rename(path, fmt.Sprint(path, ".", i)); err != nil {
				t.Fatal(err)
			}
		}
		text.read() // nothing is at path
		if err := n.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "nginx opens its logs anew", func() bool {
			_, one := os.Stat(n.text)
			_, two := os.Stat(n.json)
			return one == nil && two == nil
		})
		text.read()
		json.read()
	}
	running.Wait()
	text.expect(total, api, 0)
	json.expect(total, api, 0)
	if s := text.log.Stats(); s.Rotations != 5 {
		t.Errorf("%+v", s)
	}
	for i := range 2 { // copytruncate
		for _, path := range []string{n.text, n.json} {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}
		load(i + 1).Wait()
		text.expect((i+2)*total, (i+2)*api, 0)
		json.expect((i+2)*total, (i+2)*api, 0)
	}
}
