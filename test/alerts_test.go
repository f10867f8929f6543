package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

	"tidemark/internal/show/web"
	"tidemark/internal/tell"
	"tidemark/internal/tell/mail/mailtest"
	"tidemark/test/servers"
)

// alertConfig is a fleet at its maximum that asks for more as long as memory is used above a threshold.
const alertConfig = `
instance: {name: dfr, time_zone: Pacific/Rarotonga}
state_dir: %[1]s/state
tick: 1s
notify:
  mail: {smtp: "%[2]s", ca_file: %[3]s, user: tide, password: "${SMTP_PASSWORD}", to: [ict@moa.example]}
  slack: {url: "%[4]s/services/T0AB/B0CD/hunter2hunter2hunter2", severity: critical}
  alertmanager: {urls: ["%[6]s"], resend: 10s, labels: {team: ict}}
  dead_man: {url: "%[4]s/ping/hunter2-hunter2-hunter2", interval: 10s, timeout: 5s}
alerts: {short_for: 10s}
fleets:
  - name: numbers
    target: {command: {scale: ["true", "{size}"], size: [echo, "2"], timeout: 5s}}
    bounds: {min: 1, max: 2}
    signals:
      memory: {procfs: {field: memory_used_percent}, period: 1s}
    policies:
      - {id: load, rules: [{signal: memory, operator: ">=", threshold: %[5]s, scale_change: +1, evaluation_periods: 1}]}
`

// place is where chats and pings go.
type place struct {
	mu     sync.Mutex
	chats  []string
	pings  int
	broken bool
}

func (p *place) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var body struct{ Text string }
	switch {
	case p.broken:
		http.Error(rw, "gone: "+r.URL.Path, http.StatusServiceUnavailable)
	case strings.HasPrefix(r.URL.Path, "/ping/"):
		p.pings++
	case json.NewDecoder(r.Body).Decode(&body) == nil:
		p.chats = append(p.chats, body.Text)
	}
}

func (p *place) set(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = broken
}

func (p *place) got() (chats, pings int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.chats), p.pings
}

// tidemark runs a command and returns its exit code and output.
func tidemark(t *testing.T, args ...string) (code int, out, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program("tidemark"), args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return code, o.String(), e.String()
}

// A real daemon is killed while the mail server holds the first mail of an alert: the next daemon tells it, once. A reload with another
// threshold ends it, and one mail says so. No secret is in anything that is written.
func TestAlertSurvivesAKill(t *testing.T) {
	t.Setenv("SMTP_PASSWORD", "s3cret")
	am := servers.StartAlertmanager(t)
	srv := mailtest.Start(t, false)
	chat := &place{}
	hooks := httptest.NewServer(chat)
	defer hooks.Close()
	dir := t.TempDir()
	config, socket := filepath.Join(dir, "tidemark.yaml"), filepath.Join(dir, "state", "tidemark.sock")
	configure := func(threshold string) {
		write(t, config, fmt.Sprintf(alertConfig, dir, srv.URL("smtp"), srv.CA, hooks.URL, threshold, am.URL))
	}
	configure("0.01%")
	srv.Fault("greet", "hang")
	d := startDaemon(t, config, socket)

	select {
	case <-srv.Hung: // it is raised, and on its way
	case <-time.After(2 * time.Minute):
		t.Fatalf("nothing was raised\n%s", d.log)
	}
	var a web.Alerts
	eventually(t, 30*time.Second, "the chat is told, and the mail waits", func() (err error) {
		if a, err = d.client.Alerts(t.Context()); err != nil {
			return err
		}
		if len(a.Alerts) != 1 || a.Alerts[0].Rule != "short" || len(a.Alerts[0].Told) != 3 {
			return fmt.Errorf("%+v", a.Alerts)
		}
		if told := a.Alerts[0].Told; !told[0].Waiting || told[1].Waiting || told[1].At.IsZero() || told[2].At.IsZero() {
			return fmt.Errorf("%+v", told)
		}
		return nil
	})
	if got := am.Until(t, 1)[0].Labels; got["alertname"] != "TidemarkShort" || got["fleet"] != "numbers" || got["team"] != "ict" {
		t.Errorf("Alertmanager holds %v", got)
	}
	code, list, _ := tidemark(t, "alert", "list", "--socket", socket)
	for _, want := range []string{"critical  numbers is at its maximum of 2 workers and still short", "mail ict@moa.example not reached yet", "told at", "1 waiting since", "tidemark doctor"} {
		if code != 0 || !strings.Contains(list, want) {
			t.Errorf("exit code %d, and no %q in\n%s", code, want, list)
		}
	}
	if _, status, _ := tidemark(t, "status", "--socket", socket); !strings.Contains(status, "1 alerts wait to be delivered") || !strings.Contains(status, "critical for ") {
		t.Errorf("status says nothing of it:\n%s", status)
	}
	d.kill()
	first := d.log.String()

	srv.Fault("greet", "")
	d = startDaemon(t, config, socket)
	eventually(t, time.Minute, "the mail arrives", func() error {
		if n := len(srv.Mails()); n != 1 {
			return fmt.Errorf("%d mails", n)
		}
		return nil
	})
	var tried []tell.Tried
	code, out, stderr := tidemark(t, "alert", "test", "--json", "--socket", socket)
	if err := json.Unmarshal([]byte(out), &tried); err != nil || code != 0 || len(tried) != 4 {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, stderr)
	}
	chat.set(true)
	code, out, stderr = tidemark(t, "alert", "test", "--socket", socket)
	if code != 2 || !strings.Contains(out, "mail ict@moa.example") || !strings.Contains(out, "failed: ") || !strings.Contains(stderr, "2 of 4 channels could not deliver") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	chat.set(false)

	configure("99.99%")
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "the end is told", func() error {
		// Raised, tested, over; the second test reached the mail server only.
		if chats, pings := chat.got(); len(srv.Mails()) != 4 || chats != 3 || pings < 2 {
			return fmt.Errorf("%d mails, %d chats, %d pings", len(srv.Mails()), chats, pings)
		}
		return nil
	})
	am.Until(t, 0)
	var subjects []string
	for _, m := range srv.Mails() {
		h, _ := m.Parse(t)
		subjects = append(subjects, h.Get("Subject"))
		if m.Auth != "\x00tide\x00s3cret" {
			t.Errorf("authenticated as %q", m.Auth)
		}
	}
	want := []string{"CRITICAL [dfr] numbers is at its maximum of 2 workers and still short", "[dfr] this is a test of Tidemark's alerts on dfr",
		"[dfr] this is a test of Tidemark's alerts on dfr", "[dfr] Over: numbers is at its maximum of 2 workers and still short"}
	if fmt.Sprint(subjects) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", subjects, want)
	}
	_, check, warnings := tidemark(t, "check", config, "--effective")
	d.kill()
	written := map[string]string{"the log": first + d.log.String(), "check": check + warnings, "alert list": list, "alert test": out + stderr}
	remembered, err := os.ReadFile(filepath.Join(dir, "state", "alerts.json"))
	if err != nil {
		t.Fatal(err)
	}
	written["alerts.json"] = string(remembered)
	for where, text := range written {
		if strings.Contains(text, "s3cret") || strings.Contains(text, "hunter2") {
			t.Errorf("a secret is in %s:\n%s", where, text)
		}
	}
}
