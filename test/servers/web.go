package servers

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
)

// Web is an nginx that serves files.
type Web struct {
	*process
	Port int
	Dir  string // of the files
}

// Nginx starts an nginx that serves files, with directives such as "location = /down { return 503; }" in its server block. Its access log
// is LogFile, in the format that is given.
func Nginx(t testing.TB, format, directives string) *Web {
	t.Helper()
	dir := folder(t, "nginx", nil)
	w := &Web{Port: FreePort(t), Dir: filepath.Join(dir, "files")}
	if err := os.Mkdir(w.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
events { worker_connections 2048; }
http {
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	log_format given %[3]s;
	access_log %[1]s/access.log given;
	default_type text/plain;
	server {
		listen 127.0.0.1:%[2]d;
		root %[1]s/files;
		%[4]s
	}
}
`, dir, w.Port, format, directives)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	w.process = &process{
		t: t, name: "nginx", stop: syscall.SIGQUIT, log: log,
		start: func() *exec.Cmd { return command(t, "nginx", "-e", "stderr", "-p", dir, "-c", path) },
		ready: func() error { return answers(w.URL("/")) },
	}
	w.Start()
	t.Cleanup(w.end)
	return w
}

// URL is the address of a page.
func (w *Web) URL(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", w.Port, path) }

// AccessLog is the path of the access log.
func (w *Web) AccessLog() string { return filepath.Join(filepath.Dir(w.Dir), "access.log") }

// Write replaces a page at once, so that nobody sees half of it.
func (w *Web) Write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.Dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

// Prom is a Prometheus.
type Prom struct {
	*process
	Port int
}

// Prometheus starts a Prometheus that scrapes itself each second, as job prometheus, and waits until it has.
func Prometheus(t testing.TB) *Prom {
	t.Helper()
	p := &Prom{Port: FreePort(t)}
	dir := folder(t, "prometheus", map[string]string{"prometheus.yml": fmt.Sprintf(
		"global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- {job_name: prometheus, static_configs: [{targets: ['127.0.0.1:%d']}]}\n", p.Port)})
	p.process = &process{
		t: t, name: "prometheus", stop: syscall.SIGTERM, log: filepath.Join(dir, "log"),
		start: func() *exec.Cmd {
			return command(t, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
				fmt.Sprintf("--web.listen-address=127.0.0.1:%d", p.Port), "--log.level=error")
		},
		ready: func() error { return answers(p.URL()+"/api/v1/query?query=up", `"up"`) },
	}
	p.Start()
	t.Cleanup(p.end)
	return p
}

// URL is the server's address.
func (p *Prom) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.Port) }

// answers fails until an HTTP server answers, with those words, and does not say that it is not ready.
func answers(url string, words ...string) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	for _, w := range words {
		if !strings.Contains(string(text), w) {
			return fmt.Errorf("it answers %s", text)
		}
	}
	return nil
}
