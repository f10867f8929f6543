package prometheus

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/observe/httpget/httpgettest"
	"tidemark/test/servers"
)

// ages is how long a test waits for what should take no time: as long as a loaded machine may need.
const ages = time.Minute

// server is a real Prometheus that scrapes a program each second.
type server struct {
	t    *testing.T
	addr string
	args []string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// serve starts one. web is its web configuration; empty for none.
func serve(t *testing.T, target, web string) *server {
	t.Helper()
	program, dir := servers.Need(t, "prometheus"), t.TempDir()
	// An address that nobody else uses, so that the port is still free when the server starts, and starts again.
	ln, err := net.Listen("tcp4", "127.0.47.2:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: ln.Addr().String()}
	ln.Close()
	cfg := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- {job_name: odoo, static_configs: [{targets: ['%s']}]}\n", strings.TrimPrefix(target, "http://"))
	s.args = []string{program, "--config.file=" + write(t, dir, "prometheus.yml", cfg), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + s.addr, "--log.level=error"}
	if web != "" {
		s.args = append(s.args, "--web.config.file="+write(t, dir, "web.yml", web))
	}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stderr = &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	if s.t.Failed() {
		s.t.Log(s.log.String())
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) config(query string) Config {
	c := DefaultConfig()
	c.URL, c.Query, c.Server.Timeout = "http://"+s.addr, query, 5*time.Second
	return c
}

func read(t *testing.T, s *Source) (fleet.Reading, error) {
	return s.Read(t.Context(), fleet.Scene{Now: time.Unix(1_800_000_000, 0)})
}

// eventually reads until it is as it should be.
func eventually(t *testing.T, s *Source, ok func(fleet.Reading, error) bool) {
	t.Helper()
	for deadline := time.Now().Add(ages); ; time.Sleep(50 * time.Millisecond) {
		r, err := read(t, s)
		if ok(r, err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v, %v", s.cfg.Query, r, err)
		}
	}
}

func fresh(want float64) func(fleet.Reading, error) bool {
	return func(r fleet.Reading, err error) bool {
		return err == nil && r.Quality == fleet.Fresh && r.Value == want
	}
}

func failed(q fleet.Quality, want string) func(fleet.Reading, error) bool {
	return func(r fleet.Reading, err error) bool {
		return err != nil && r.Quality == q && strings.Contains(err.Error(), want)
	}
}

func TestARealServer(t *testing.T) {
	var gone atomic.Bool
	target := httpgettest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "sessions 17\ndepth{queue=\"a\"} 1\ndepth{queue=\"b\"} 4\nnothing NaN\n")
		fmt.Fprintf(w, "old 5 %d\n", time.Now().Add(-100*time.Second).UnixMilli())
		if !gone.Load() {
			_, _ = io.WriteString(w, "going 9\n")
		}
	}))
	s := serve(t, target.URL(), "")
	source := func(query string) *Source { return New(s.config(query), 0, 0, 0) }
	eventually(t, source("sessions"), fresh(17))

	for query, want := range map[string]float64{
		`depth{queue="b"}`:                                4,
		"sum(depth) + 1 # all queues":                     6,
		"100 *\n max by (job) (depth) / scalar(sessions)": 400.0 / 17,
		"sum(none) or vector(0)":                          0,
		"max_over_time(sessions[1m]) or going":            17,
	} {
		eventually(t, source(query), fresh(want))
	}
	for query, want := range map[string]string{
		"depth":        `the query returns 2 series: depth{instance="` + strings.TrimPrefix(target.URL(), "http://") + `", job="odoo", queue="a"}, depth{`,
		"none":         "the query returns no series: is what it asks for scraped, and spelt like this?",
		"nothing":      "is no figure: it is NaN",
		"sum(depth":    "parse error",
		"1 + 1":        "which must return an instant vector: ",
		"depth[1m]":    "which must return an instant vector: ",
		"sessions / 0": "is no figure: it is +Inf",
	} {
		eventually(t, source(query), failed(fleet.Missing, want))
	}

	// How old a sample is, is asked for in the same breath.
	young := s.config("old")
	eventually(t, New(young, 0, 0, 0), fresh(5))
	young.MaxAge = time.Minute
	eventually(t, New(young, 0, 0, 0), failed(fleet.Stale, "and max_age is 1m: does the server still scrape its target?"))

	// A quantile of the values at each step of the window.
	stepped := s.config("sessions")
	stepped.Step = time.Second
	eventually(t, New(stepped, 0.95, time.Hour, 1_000_000), func(r fleet.Reading, err error) bool {
		return err == nil && r.Quality == fleet.Sparse && r.Value == 17
	})
	eventually(t, New(stepped, 0.95, time.Minute, 3), fresh(17))
	stepped.Query = "going # for now"
	eventually(t, New(stepped, 0.5, time.Minute, 1), fresh(9))
	gone.Store(true)
	eventually(t, New(stepped, 0.5, time.Hour, 1), failed(fleet.Stale, "the series has ended"))
	eventually(t, source("going"), failed(fleet.Missing, "no series"))

	// Frozen, killed, started again: the same source goes on.
	short := s.config("sessions")
	short.Server.Timeout = 200 * time.Millisecond
	src := New(short, 0, 0, 0)
	s.signal(syscall.SIGSTOP)
	eventually(t, src, failed(fleet.Missing, "no complete answer within 200ms"))
	s.signal(syscall.SIGCONT)
	eventually(t, src, fresh(17))
	s.kill()
	eventually(t, src, failed(fleet.Missing, "the connection is refused: is the server running?"))
	s.start()
	eventually(t, src, fresh(17))
}

// Behind TLS and a password, as its web configuration has them.
func TestARealServerBehindTLS(t *testing.T) {
	target := httpgettest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "sessions 17\n") }))
	dir := t.TempDir()
	issued := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate, which is made out to example.com too
	issued.Close()
	der, err := x509.MarshalPKCS8PrivateKey(issued.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	cert := write(t, dir, "cert.pem", encode("CERTIFICATE", issued.Certificate().Raw))
	key := write(t, dir, "key.pem", encode("PRIVATE KEY", der))
	const hashed = "$2a$04$VyayszmD4kC6dAekfzXqj.pTK.7whit6LF.6b96hYcaLtr2dHpmz2" // "hush"
	s := serve(t, target.URL(), fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\nbasic_auth_users: {moa: %s}\n", cert, key, hashed))
	c := s.config("sessions")
	c.URL = "https://" + s.addr
	c.Server.CAFile, c.Server.ServerName, c.Server.Username, c.Server.PasswordFile = cert, "example.com", "moa", write(t, dir, "password", "hush\n")
	eventually(t, New(c, 0, 0, 0), fresh(17))
	wrong := c
	wrong.Server.PasswordFile, wrong.Server.Password = "", "loud"
	eventually(t, New(wrong, 0, 0, 0), failed(fleet.Missing, "the server answers 401 Unauthorized: check bearer_token, or username and password"))
	unknown := c
	unknown.Server.CAFile = ""
	eventually(t, New(unknown, 0, 0, 0), failed(fleet.Missing, "write ca_file with the certificate of its authority"))
	plain := c
	plain.URL, plain.Server.CAFile, plain.Server.ServerName = "http://"+s.addr, "", ""
	eventually(t, New(plain, 0, 0, 0), failed(fleet.Missing, "the server answers 400 Bad Request"))
}
