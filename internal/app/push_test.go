package app

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
	"tidemark/test/servers"
)

const pushed = `
    signals:
      sessions: {push: {expiry: 1h}, period: 1s}
      per_worker: {expression: {of: sessions / workers}, period: 1s, per_worker: true}
    policies:
      - id: sync
        rules:
          - {signal: per_worker, operator: ">=", threshold: 20, scale_change: +1, evaluation_periods: 1}
    safeguards: {max_scaling_rate: 1 per 1s, cooldown: {scale_up: 1s, scale_down: 1s}}
`

// send pushes a value over TCP as curl would.
func send(t *testing.T, port int, path, token, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// A value that a program pushes becomes a reading, a derived signal, a decision and a worker.
func TestPushedValueScales(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	w := newWorld(t, "", pushed)
	w.eventually("a missing signal", func(st *control.Status) bool {
		return strings.Contains(signal(st, "sessions").Err, "no value was pushed") && strings.Contains(signal(st, "per_worker").Err, "sessions, which it is derived from, is missing")
	})
	c := w.client()
	if err := c.Push(t.Context(), "f", "per_worker", web.Pushed{Value: 1}); err == nil || !strings.Contains(err.Error(), "no such signal takes pushed values") {
		t.Errorf("a derived signal was pushed: %v", err)
	}
	if err := c.Push(t.Context(), "f", "sessions", web.Pushed{Value: 45}); err != nil {
		t.Fatal(err)
	}
	w.eventually("a third worker", func(st *control.Status) bool { return st.Size.Serving == 3 })
	st := w.eventually("a reading of three", func(st *control.Status) bool { return signal(st, "per_worker").Reading.Value == 15 })
	if q := signal(st, "per_worker").Reading.Quality; q != fleet.Fresh {
		t.Errorf("quality %v", q)
	}
	w.Stop()
	goleak.VerifyNone(t, leaks)
}

const path = "/api/v1/fleets/f/signals/sessions"

func TestPushOverTCP(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	first, second := "0123456789abcdef-first", "0123456789abcdef-second"
	t.Setenv("PUSH_TOKEN", second)
	port, other := servers.FreePort(t), servers.FreePort(t)
	file := emptyWorld(t, 2).put("token", first+"\n")
	top := func(port int, secret string) string {
		return fmt.Sprintf(`push: {listen: "127.0.0.1:%d", %s}`, port, secret)
	}
	w := newWorld(t, top(port, "token_file: "+file), pushed)
	for _, c := range []struct {
		path, token, body string
		status            int
		says              string
	}{
		{path, first, "17", 204, ""},
		{path, first, `{"value": 17, "expiry": "90s"}`, 204, ""},
		{path, "", "18", 401, "send Authorization: Bearer"},
		{path, first[1:], "18", 401, "send Authorization: Bearer"},
		{path, first, "many", 400, "the value cannot be read"},
		{"/api/v1/fleets/f/signals/none", first, "18", 404, "declare it under the fleet's signals"},
		{"/api/v1/status", first, "", 404, ""}, // the operator's part is not here
	} {
		status, says := send(t, port, c.path, c.token, c.body)
		if status != c.status || !strings.Contains(says, c.says) || strings.Contains(says, "0123456789") {
			t.Errorf("%s with %q: %d %s", c.path, c.token, status, says)
		}
	}
	w.eventually("the pushed reading", func(st *control.Status) bool { return signal(st, "sessions").Reading.Value == 17 })

	replace(t, file, second) // a new token needs no reload
	if status, says := send(t, port, path, second, "19"); status != 204 {
		t.Errorf("new token: %d %s", status, says)
	}
	replace(t, file, "short")
	if status, says := send(t, port, path, second, "19"); status != 503 || strings.Contains(says, file) {
		t.Errorf("token that is none: %d %s", status, says)
	}
	if err := w.reload(top(port, "token_file: "+file), pushed); err == nil || !strings.Contains(err.Error(), "openssl rand") {
		t.Errorf("reloaded with a token that is none: %v", err)
	}
	if err := w.reload(top(port, `token: "${PUSH_TOKEN}"`), pushed); err != nil {
		t.Error(err)
	}
	if status, says := send(t, port, path, second, "20"); status != 204 {
		t.Errorf("reloaded: %d %s", status, says)
	}
	if err := w.reload(top(other, `token: "${PUSH_TOKEN}"`), pushed); err != nil {
		t.Error(err)
	}
	if status, says := send(t, other, path, second, "21"); status != 204 {
		t.Errorf("at its new port: %d %s", status, says)
	}
	if status, _ := send(t, port, path, second, "21"); status != 0 {
		t.Errorf("at its old port: %d", status)
	}
	if err := w.reload("", pushed); err != nil {
		t.Error(err)
	}
	if status, _ := send(t, other, path, second, "22"); status != 0 {
		t.Errorf("no longer configured: %d", status)
	}
	w.eventually("the value that stayed through reloads", func(st *control.Status) bool { return signal(st, "sessions").Reading.Value == 21 })
	w.Stop()
	goleak.VerifyNone(t, leaks)
	if text := w.logged(); strings.Contains(text, "0123456789") {
		t.Errorf("the token is in the log:\n%s", text)
	}
}

func replace(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
