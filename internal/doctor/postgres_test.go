package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/test/servers"
)

// A real server with troubles of its own: what doctor asks is what the server tells.
func TestRealPostgres(t *testing.T) {
	pg := servers.Postgres(t, "synchronous_commit=off", "random_page_cost=4")
	pg.CreateDB("dfr")
	pg.Exec("dfr", `CREATE EXTENSION pg_stat_statements;
		CREATE TABLE farmer (id int PRIMARY KEY, name text);
		INSERT INTO farmer SELECT i, 'farmer ' || i FROM generate_series(1, 20000) i;
		CREATE TABLE plot (id int PRIMARY KEY, farmer int REFERENCES farmer, size int);
		INSERT INTO plot SELECT i, i, i FROM generate_series(1, 20000) i;
		ANALYZE`)
	pg.Exec("dfr", strings.Repeat("SELECT count(*) FROM farmer WHERE name = 'x';\n", 120))
	pg.Exec("dfr", strings.Repeat("SELECT pg_sleep(0.6);\n", 5))
	pg.Exec("dfr", "DELETE FROM plot WHERE id > 8000")
	var p *Postgres
	// The server's statistics arrive a little after the work.
	deadline := time.Now().Add(time.Minute)
	for {
		var err error
		if p, err = AskPostgres(t.Context(), pg.URL("dfr"), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if len(p.Scans) > 0 && len(p.Dead) > 0 && len(p.Slow) > 0 || time.Now().After(deadline) {
			break
		}
	}
	if p.Version == "" || !p.Local || p.Used < 1 || p.Database != "dfr" || p.DataDir != pg.Dir || p.int("max_connections") != 100 || p.Setting("shared_buffers").Text != "32 MiB" {
		t.Errorf("%+v", p)
	}
	if v := p.Setting("synchronous_commit"); v.Text != "off" || v.File == "" {
		t.Errorf("%v", v)
	}
	if len(p.Scans) != 1 || p.Scans[0].Name != "public.farmer" || p.Scans[0].Of < 100 || p.Scans[0].N < 10_000 {
		t.Errorf("table scans: %+v", p.Scans)
	}
	if len(p.Dead) != 1 || p.Dead[0].Name != "public.plot" {
		t.Errorf("dead rows: %+v", p.Dead)
	}
	if len(p.Slow) != 1 || p.Slow[0].Mean < 0.6 || !strings.Contains(p.Slow[0].Text, "pg_sleep") || p.Slow[0].Share <= 0 || p.Slow[0].Share > 100 {
		t.Errorf("slow statements: %+v", p.Slow)
	}
	if p.Times == nil || p.Times.Reads < 3 || p.Times.All <= p.Times.Reads {
		t.Errorf("times: %+v", p.Times)
	}
	pg.Exec("dfr", "INSERT INTO plot SELECT i, i, i FROM generate_series(8001, 20000) i; ANALYZE plot")
	p, err := AskPostgres(t.Context(), pg.URL("dfr"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := []ForeignKey{{"plot", "farmer", "farmer", 20000}}; !slices.Equal(p.Keys, want) {
		t.Errorf("foreign keys: %+v, want %+v", p.Keys, want)
	}
	r := Examine(&Site{Postgres: p, Host: &Host{CPUs: 2, Memory: gib}, Absent: map[Part]string{}})
	for _, want := range []string{"durability", "cache", "slow statements", "table scans", "foreign keys without an index"} {
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Check == want }) {
			t.Errorf("%s is not found", want)
		}
	}
}

// A server that is not there, and one that refuses, are errors that do not tell the password.
func TestPostgresAway(t *testing.T) {
	_, err := AskPostgres(t.Context(), "postgres://monitor:hunter2@127.0.0.1:1/dfr", 0)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	pg := servers.Postgres(t)
	_, err = AskPostgres(t.Context(), strings.Replace(pg.URL("nothing"), "postgres@", "postgres:hunter2@", 1), 0)
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("%v", err)
	}
}

func TestHostAndDisk(t *testing.T) {
	dir := t.TempDir()
	h, err := LookAtHost(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if h.CPUs < 1 || h.Memory < 64*mib || h.Files[dir] == "" || h.Somaxconn.Int() < 1 {
		t.Errorf("%+v", h)
	}
	d, err := TimeDisk(t.Context(), dir, 20)
	if err != nil {
		t.Fatal(err)
	}
	if d.Writes < 1 || d.Median <= 0 || d.P95 < d.Median {
		t.Errorf("%+v", d)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the test leaves %v behind (%v)", left, err)
	}
	if _, err := TimeDisk(t.Context(), filepath.Join(dir, "no"), 1); err == nil {
		t.Error("a folder that is not there")
	}
}

// The registry's own set-up in deploy/local is read whole, and is sound.
func TestOwnDeployment(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"nginx.conf", "pgbouncer.ini"} {
		text, err := os.ReadFile(filepath.Join("../../deploy/local", name))
		if err != nil {
			t.Fatal(err)
		}
		filled := strings.NewReplacer("@user@", "", "@dir@", dir, "@registry@", "8069", "@nginx@", "8080", "@pgbouncer@", "6432", "@postgresql@", "5432").Replace(string(text))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(filled), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Look(t.Context(), Options{Nginx: filepath.Join(dir, "nginx.conf"), PgBouncer: filepath.Join(dir, "pgbouncer.ini")})
	if err != nil {
		t.Fatal(err)
	}
	r := Examine(s)
	for _, f := range r.Findings {
		t.Logf("%s: %s: %s", f.Severity, f.What, f.Arithmetic)
	}
	if r.Failed() || len(s.Nginx.Routes) < 2 {
		t.Errorf("%d routes; the findings are above", len(s.Nginx.Routes))
	}
}
