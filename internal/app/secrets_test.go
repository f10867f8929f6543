package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/record"
	"tidemark/internal/show/text"
	"tidemark/test/servers"
)

// hush is in every secret of this test, however it is written, and in nothing else.
const hush = "s3cret"

// Every way to write a secret, with servers that refuse it, and one that repeats it: nothing that Tidemark writes, logs, keeps or answers holds it.
func TestSecretsStaySecret(t *testing.T) {
	pg := servers.Postgres(t)
	pool := servers.PgBouncer(t, pg)
	web := servers.Nginx(t, "'$request_uri'", `return 401 "no: $http_authorization\n";`)
	pg.Exec("postgres", "CREATE ROLE moa LOGIN PASSWORD 'another'; GRANT pg_monitor TO moa")
	hba := filepath.Join(pg.Dir, "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("host all all 127.0.0.1/32 scram-sha-256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pg.Stop()
	pg.Start()

	w := emptyWorld(t, 2)
	passfile := w.put("pgpass", fmt.Sprintf("127.0.0.1:%d:*:moa:%s-passfile\n", pg.Port, hush))
	bearer := w.put("bearer", hush+"-bearer-in-a-file\n")
	t.Setenv("T_PG", fmt.Sprintf("postgres://moa:%s%%2Fpg@127.0.0.1:%d/postgres?sslmode=disable", hush, pg.Port))
	t.Setenv("T_PASSWORD", hush+"-basic")
	t.Setenv("T_BEARER", hush+"-bearer")
	t.Setenv("T_PUSH", hush+"-0123456789abcdef")
	port := servers.FreePort(t)
	fleet := fmt.Sprintf(`
    signals:
      env_pg:     {postgres: {dsn: "${T_PG}", field: connections}, period: 1s}
      literal_pg: {postgres: {dsn: "postgres://moa:%[1]s-literal@127.0.0.1:%[2]d/postgres?sslmode=disable", field: connections}, period: 1s}
      words_pg:   {postgres: {dsn: "host=127.0.0.1 port=%[2]d user=moa password=%[1]s-words dbname=postgres sslmode=disable", query: "SELECT 1"}, period: 1s}
      file_pg:    {postgres: {dsn: "postgres://moa@127.0.0.1:%[2]d/postgres?sslmode=disable&passfile=%[3]s", field: connections}, period: 1s}
      dead_pg:    {postgres: {dsn: "postgres://moa:%[1]s-dead@127.0.0.1:1/postgres?sslmode=disable", field: connections}, period: 1s}
      pool:       {pgbouncer: {dsn: "postgres://nobody:%[1]s-pool@127.0.0.1:%[4]d/pgbouncer?sslmode=disable"}, period: 1s}
      bearer:     {http: {url: "%[5]s", metric: m, bearer_token: "${T_BEARER}"}, period: 1s}
      file:       {http: {url: "%[5]s", json: /a, bearer_token_file: %[6]s}, period: 1s}
      literal:    {http: {url: "%[5]s", metric: m, bearer_token: %[1]s-literal-bearer}, period: 1s}
      basic:      {prometheus: {url: "%[7]s", query: up, username: moa, password: "${T_PASSWORD}"}, period: 1s}
      pushed:     {push: {}, period: 1s}
    policies:
      - id: any
        rules:
          - {signal: bearer, operator: ">=", threshold: 1, scale_change: +1, evaluation_periods: 1}
          - {signal: pool, operator: "<=", threshold: 1, scale_change: -1, evaluation_periods: 1}
`, hush, pg.Port, passfile, pool.Port, web.URL("/metrics"), bearer, strings.TrimSuffix(web.URL("/"), "/"))
	top := fmt.Sprintf(`push: {listen: "127.0.0.1:%d", token: "${T_PUSH}"}`, port)

	said := map[string]string{} // by what said it
	look := func(cfg *config.Config, problems config.Problems, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		said["check"] += problems.Error()
		if cfg != nil {
			said["check --effective"] += config.Effective(cfg)
		}
	}
	w.write(top, fleet)
	look(Check(w.path))
	w.write(top, strings.ReplaceAll(fleet, "period: 1s", "perriod: 1s")) // each line is shown
	look(Check(w.path))
	w.write(top, fleet)
	w.start()

	// Each refusal has to be there, or nothing was tried.
	names := []string{"env_pg", "literal_pg", "words_pg", "file_pg", "dead_pg", "pool", "bearer", "file", "literal", "basic", "pushed"}
	st := w.eventually("the loss of all signals", func(st *control.Status) bool { return lost(st, names) })
	for name, want := range map[string]string{
		"env_pg": "28P01", "literal_pg": "28P01", "words_pg": "28P01", "file_pg": "28P01", "dead_pg": "cannot be reached", "pool": "PgBouncer",
		"bearer": "401", "file": "401", "literal": "401", "basic": "401",
	} {
		if got := signal(st, name).Err; !strings.Contains(got, want) {
			t.Errorf("%s says %q, and not %s", name, got, want)
		}
	}
	c := w.client()
	for deadline := time.Now().Add(ages); ; {
		events, err := c.Events(t.Context(), record.EventQuery{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		text.Events(&b, text.View{Now: time.Now(), Zone: time.UTC}, events)
		said["events"] = b.String()
		if strings.Count(said["events"], "28P01") >= 4 && strings.Count(said["events"], "401") >= 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the losses are not told:\n%s", said["events"])
		}
	}
	for _, path := range []string{"/api/v1/status", "/api/v1/events", "/api/v1/fleets/f/explanation"} {
		said["socket "+path] = get(t, filepath.Join(w.dir, "t.sock"), path)
	}
	if why, err := c.Explain(t.Context(), "f", time.Time{}); err != nil {
		t.Error(err)
	} else {
		var b bytes.Buffer
		text.Explain(&b, text.View{Now: time.Now(), Zone: time.UTC}, why)
		said["explain"] = b.String()
	}
	var b bytes.Buffer
	text.Status(&b, text.View{Now: time.Now(), Zone: time.UTC}, w.Overview())
	said["status"] = b.String()
	_, said["push refused"] = send(t, port, "/api/v1/fleets/f/signals/pushed", hush+"-guessed", "1")
	_, said["push"] = send(t, port, "/api/v1/fleets/f/signals/none", hush+"-0123456789abcdef", hush)
	if err := w.reload(top, strings.ReplaceAll(fleet, "field: connections", "field: conections")); err == nil {
		t.Error("reloaded what is wrong")
	} else {
		said["reload"] = err.Error()
	}
	if err := w.reload(strings.ReplaceAll(top, fmt.Sprint(port), fmt.Sprint(pg.Port)), fleet); err == nil {
		t.Error("listens where PostgreSQL does")
	} else {
		said["reload without a port"] = err.Error()
	}
	w.put("pgpass", fmt.Sprintf("127.0.0.1:%d:*:moa:another\n", pg.Port)) // corrected, it is read without a reload
	w.eventually("the right password", func(st *control.Status) bool { return signal(st, "file_pg").Err == "" })
	w.Stop()
	said["log"] = w.logged()
	kept, err := filepath.Glob(filepath.Join(w.dir, "journal.db*"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("no journal: %v", err)
	}
	for _, file := range kept {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		said[file] = string(b)
	}
	for what, words := range said {
		if words == "" && what != "push" {
			t.Errorf("%s says nothing", what)
		}
		if i := strings.Index(words, hush); i >= 0 {
			t.Errorf("%s holds a secret: ...%q", what, words[max(0, i-120):min(len(words), i+40)])
		}
	}
}

// get asks the daemon at a socket, as curl --unix-socket would.
func get(t *testing.T, socket, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Get("http://daemon" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return string(b)
}
