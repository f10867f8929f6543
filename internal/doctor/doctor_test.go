package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/act/docker"
)

// edits are changes of the files in testdata: old text to new, by file.
type edits map[string][2]string

// site is a sound one for ten workers, with edits.
func site(t *testing.T, e edits) *Site {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	for name, change := range e {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), change[0]) {
			t.Fatalf("%s does not hold %q", name, change[0])
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), change[0], change[1])), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Look(t.Context(), Options{Odoo: filepath.Join(dir, "odoo.conf"), PgBouncer: filepath.Join(dir, "pgbouncer.ini"), Nginx: filepath.Join(dir, "nginx.conf")})
	if err != nil {
		t.Fatal(err)
	}
	s.Fleet = &Fleet{Name: "odoo-workers", Max: Value{Name: "bounds.max of odoo-workers", Text: "10", File: "tidemark.yaml"}, Logs: []string{"/var/log/nginx/dfr.access.log"}}
	s.Host = &Host{CPUs: 5, Memory: 16 * gib, Somaxconn: Value{Name: "net.core.somaxconn", Text: "4096", File: "/proc"}, Files: map[string]string{"/var/lib/odoo": "ext4"}}
	s.Postgres = sound()
	s.Volumes = &Volumes{At: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), Unused: []docker.Volume{{Name: "spare", Created: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)}}}
	s.Disk = &DiskTest{Dir: "/var/lib/postgresql", Writes: 200, Median: 300 * time.Microsecond, P95: time.Millisecond}
	return s
}

// sound is a PostgreSQL that has nothing to mend.
func sound() *Postgres {
	p := &Postgres{Version: "15.18", Local: true, Database: "dfr", Hit: 9_900_000, Read: 100_000, Times: &Times{Reads: 50, All: 100}, Busy: 30, settings: map[string]Value{}, units: map[string]string{}}
	for _, set := range [][3]string{
		{"max_connections", "100", ""}, {"superuser_reserved_connections", "3", ""}, {"shared_buffers", "524288", "8kB"}, {"random_page_cost", "1.1", ""},
		{"fsync", "on", ""}, {"full_page_writes", "on", ""}, {"synchronous_commit", "on", ""}, {"autovacuum", "on", ""}, {"idle_in_transaction_session_timeout", "600000", "ms"},
	} {
		p.settings[set[0]] = Value{Name: set[0], Text: set[1], File: "/etc/postgresql/15/main/postgresql.conf", Line: 7}
		p.units[set[0]] = set[2]
	}
	return p
}

func (p *Postgres) set(name, text string) {
	v := p.settings[name]
	v.Text = text
	p.settings[name] = v
}

// told is what the findings say, shortly.
func told(r *Report) (out []string) {
	for _, f := range r.Findings {
		out = append(out, fmt.Sprintf("%s: %s: %s", f.Severity, f.Check, f.Arithmetic))
	}
	return out
}

func TestSoundSite(t *testing.T) {
	r := Examine(site(t, nil))
	if diff := cmp.Diff([]string(nil), told(r)); diff != "" {
		t.Errorf("findings:\n%s", diff)
	}
	if len(r.NotMade) != 1 || r.NotMade[0].Check != "connections of Odoo to PostgreSQL" {
		t.Errorf("not made: %v", r.NotMade)
	}
	if got, want := len(r.Held)+len(r.NotMade), len(checks()); got != want {
		t.Errorf("%d checks are accounted for, of %d", got, want)
	}
	for _, want := range []Check{
		{"connections of Odoo to PgBouncer", "2 x (10 workers + 2 cron) + 4 = 28, at worst 104 <= 200"},
		{"connections of PgBouncer to PostgreSQL", "dfr 16 + postgres 18 = 34 (for one user; each further user has as many); max_connections 100 - 3 reserved - 5 for backup, replication and you = 92"},
		{"memory of the host", "(10 workers + 2 cron + 1) x 93 MiB = 1.18 GiB + 512 MiB for the system + 4 GiB shared_buffers + 28 backends x 9 MiB = 5.93 GiB of 16 GiB"},
		{"accept backlog", "8 x 10 workers at the start = 80 connections may wait"},
	} {
		if !slices.Contains(r.Held, want) {
			t.Errorf("%q is not among what holds:\n%v", want, r.Held)
		}
	}
}

// Each way to go wrong is found, alone, with its arithmetic.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name  string
		edits edits
		with  func(*Site)
		want  []string // severity: check: arithmetic, which may be cut short
	}{
		{name: "started small", edits: edits{"odoo.conf": {"workers = 10", "workers = 2"}}, want: []string{
			"warning: accept backlog: 8 x 2 workers at the start = 16 connections may wait, and it stays 16 however many workers are added; 10 workers need 8 x 10 = 80"}},
		{name: "no workers", edits: edits{"odoo.conf": {"workers = 10", "; workers"}}, want: []string{"problem: workers: "}},
		{name: "no number", edits: edits{"odoo.conf": {"workers = 10", "workers = ten"}}, want: []string{"problem: odoo.conf: numbers: ", "problem: workers: "}},
		{name: "the kernel's limit", with: func(s *Site) { s.Host.Somaxconn.Text = "64" }, want: []string{"warning: accept backlog: 8 x 10 workers = 80 > 64"}},
		{name: "cron killed", edits: edits{"odoo.conf": {"limit_time_real = 120", "limit_time_real = 65"}}, want: []string{"warning: time limits of workers: an idle cron worker reports after up to 60 s: 1m5s < 1m10s"}},
		{name: "CPU limit out of reach", edits: edits{"odoo.conf": {"limit_time_cpu = 60", "limit_time_cpu = 600"}}, want: []string{"advice: time limits of workers: 600 s of CPU > 120 s in all"}},
		{name: "soft above hard", edits: edits{"odoo.conf": {"limit_memory_hard = 1342177280", "limit_memory_hard = 536870912"}}, want: []string{"problem: memory limits of workers: soft 1 GiB >= hard 512 MiB"}},
		{name: "db_maxconn left as it is", edits: edits{"odoo.conf": {"db_maxconn = 8", ""}}, want: []string{
			"warning: connections of Odoo to PgBouncer: (10 workers + 2 cron) x db_maxconn 64 + 64 = 832 > 200; usual: 2 x (10 workers + 2 cron) + 4 = 28"}},
		{name: "PgBouncer too narrow", edits: edits{"pgbouncer.ini": {"max_client_conn = 200", "max_client_conn = 20"}}, want: []string{"problem: connections of Odoo to PgBouncer: 2 x (10 workers + 2 cron) + 4 = 28 > 20"}},
		{name: "pools larger than the server", with: func(s *Site) { s.Postgres.set("max_connections", "40") }, want: []string{
			"problem: connections of PgBouncer to PostgreSQL: dfr 16 + postgres 18 = 34 (for one user; each further user has as many); max_connections 40 - 3 reserved - 5 for backup, replication and you = 32"}},
		{name: "only the fallback", edits: edits{"pgbouncer.ini": {"dfr = host=127.0.0.1 port=5432 dbname=dfr pool_size=12\npostgres = host=127.0.0.1 port=5432 pool_mode=session pool_size=14", "* = host=127.0.0.1"}}, want: []string{
			"problem: pooling of the database postgres: "}},
		{name: "session pool short", edits: edits{"pgbouncer.ini": {"pool_size=14", "pool_size=5"}}, want: []string{"warning: pooling of the database postgres: 10 workers + 2 cron + 1 = 13 of 5"}},
		{name: "statement pooling", edits: edits{"pgbouncer.ini": {"pool_mode = transaction", "pool_mode = statement"}}, want: []string{"problem: pooling of the business database: "}},
		{name: "session pooling for all", edits: edits{"pgbouncer.ini": {"pool_mode = transaction", "pool_mode = session"}}, want: []string{"warning: pooling of the business database: "}},
		{name: "pool smaller than the fleet", edits: edits{"pgbouncer.ini": {"pool_size=12", "pool_size=6"}}, want: []string{"warning: pool against workers: each worker serves one request, in one transaction: 10 workers, 6 connections"}},
		{name: "no such database", edits: edits{"odoo.conf": {"db_name = dfr", "db_name = other"}}, want: []string{"problem: pooling of the business database: "}},
		{name: "past the pool", edits: edits{"odoo.conf": {"db_port = 6432", "db_port = 5432"}}, want: []string{
			"warning: Odoo goes through the pool: ", "warning: connections of Odoo to PostgreSQL: (10 workers + 2 cron) x db_maxconn 8 + 8 = 104 > 92; usual: 2 x (10 workers + 2 cron) + 4 = 28"}},
		{name: "a long wait for the pool", edits: edits{"pgbouncer.ini": {"query_wait_timeout = 15", "query_wait_timeout = 0"}}, want: []string{"warning: wait for a pooled connection: for ever >= 35s"}},
		{name: "small host", with: func(s *Site) { s.Host.Memory = 4 * gib; s.Postgres.set("shared_buffers", "131072") }, want: []string{
			"advice: leaking workers: 10 x 1 GiB = 10 GiB of 4 GiB"}},
		{name: "smaller host", with: func(s *Site) { s.Host.Memory = 2 * gib; s.Postgres.set("shared_buffers", "65536") }, want: []string{
			"problem: memory of the host: (10 workers + 2 cron + 1) x 93 MiB = 1.18 GiB + 512 MiB for the system + 512 MiB shared_buffers + 28 backends x 9 MiB = 2.43 GiB of 2 GiB", "advice: leaking workers: "}},
		{name: "two cores", with: func(s *Site) { s.Host.CPUs = 2 }, want: []string{"advice: workers against cores: 2 x 2 cores + 1 = 5"}},
		{name: "body limit of nginx's own", edits: edits{"sites/dfr.conf": {"client_max_body_size 32m;", ""}}, want: []string{"problem: body size: 1 MiB < 10 MiB"}},
		{name: "nginx impatient", edits: edits{"sites/dfr.conf": {"proxy_read_timeout 35s;", "proxy_read_timeout 10s;"}, "pgbouncer.ini": {"query_wait_timeout = 15", "query_wait_timeout = 5"}}, want: []string{"warning: time-outs of nginx: 10s < 30s"}},
		{name: "nginx patient", edits: edits{"sites/dfr.conf": {"proxy_read_timeout 35s;", "proxy_read_timeout 1h;"}}, want: []string{"advice: time-outs of nginx: 1h > 120 s"}},
		{name: "no proxy mode", edits: edits{"odoo.conf": {"proxy_mode = True", ""}}, want: []string{"warning: what the application knows of the visitor: "}},
		{name: "a header less", edits: edits{"sites/dfr.conf": {"proxy_set_header X-Forwarded-Proto $scheme;", ""}}, want: []string{"warning: what the application knows of the visitor: "}},
		{name: "headers lost in a location", edits: edits{"sites/dfr.conf": {"location / {", "location / { proxy_set_header Host $host;"}}, want: []string{"warning: what the application knows of the visitor: "}},
		{name: "websockets to a worker", edits: edits{"sites/dfr.conf": {"8072", "8069"}}, want: []string{"warning: what the application knows of the visitor: ", "warning: websockets: "}},
		{name: "no upgrade", edits: edits{"sites/dfr.conf": {"proxy_set_header Upgrade $http_upgrade;\n        proxy_set_header Connection \"upgrade\";", ""}}, want: []string{"warning: websockets: "}},
		{name: "a log without times", edits: edits{"sites/dfr.conf": {"access.log tidemark;", "access.log combined;"}}, want: []string{"warning: access log: "}},
		{name: "another log", with: func(s *Site) { s.Fleet.Logs = []string{"/var/log/nginx/access.log"} }, want: []string{"problem: the log that Tidemark reads: "}},
		{name: "no queue in nginx", edits: edits{"sites/dfr.conf": {"max_fails=0", "max_conns=10"}}, want: []string{"warning: overflow: "}},
		{name: "two hosts", edits: edits{"sites/dfr.conf": {"server 127.0.0.1:8069 max_fails=0;", "server 10.0.0.1:8069; server 10.0.0.2:8069;"}}, want: []string{"problem: sessions and files of several hosts: data_dir is on ext4, which no other host sees"}},
		{name: "few connections", edits: edits{"nginx.conf": {"worker_connections 1024;", "worker_connections 64;"}}, want: []string{"warning: connections of nginx: 5 processes x 64 = 320; 160 clients with 2 connections each, to both sides = 640"}},
		{name: "slow disk", with: func(s *Site) {
			s.Disk.Median, s.Disk.P95, s.Disk.Rotational = 9*time.Millisecond, 25*time.Millisecond, true
		}, want: []string{
			"problem: time of a safe write: 200 writes of 8 KiB with fdatasync in /var/lib/postgresql: median 9ms, p95 25ms >= 20ms", "warning: kind of disk: "}},
		{name: "a forgotten volume", with: func(s *Site) { s.Volumes.At = s.Volumes.At.AddDate(0, 0, 2) }, want: []string{"advice: unused volumes: spare (made 30 days ago)"}},
		{name: "no fsync", with: func(s *Site) { s.Postgres.set("fsync", "off") }, want: []string{"problem: durability: "}},
		{name: "small cache", with: func(s *Site) { s.Postgres.set("shared_buffers", "16384") }, want: []string{"warning: cache: 128 MiB of 16 GiB = 0 %; 25 % is usual"}},
		{name: "misses", with: func(s *Site) { s.Postgres.Read = 1_100_000 }, want: []string{"warning: cache hit ratio: 9900000 of 11000000 blocks so far = 90.0 %; wanted: above 95 %"}},
		{name: "busy", with: func(s *Site) { s.Postgres.Busy = 88 }, want: []string{"warning: CPU of the database: PostgreSQL takes 88 % of 5 cores now; wanted: below 70 % on average"}},
		{name: "a replica", with: func(s *Site) { s.Postgres.Busy, s.Postgres.Times.Reads = 88, 90 }, want: []string{"warning: CPU of the database: ", "advice: read replica: reads take 90 % of the statements' time, the database 88 % of the CPU"}},
		{name: "statements unknown", with: func(s *Site) { s.Postgres.Times, s.Postgres.NoTimes = nil, "not there" }, want: []string{"warning: statistics of statements: not there"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site(t, c.edits)
			if c.with != nil {
				c.with(s)
			}
			r := Examine(s)
			got := told(r)
			if len(got) != len(c.want) {
				t.Fatalf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("found %s\n want %s", got[i], want)
				}
			}
			for _, f := range r.Findings {
				if f.What == "" || f.Fix == "" {
					t.Errorf("%+v says not what to do", f)
				}
			}
		})
	}
}

// What was not read is not taken to be right.
func TestNothingRead(t *testing.T) {
	s := &Site{Absent: map[Part]string{OdooConf: "no a", PgBouncer: "no b", NginxConf: "no c", PostgreSQL: "no d", ThisHost: "no e", Disk: "no f", Engine: "no g"}}
	r := Examine(s)
	if len(r.Findings)+len(r.Held) > 0 || len(r.NotMade) != len(checks()) || r.Failed() {
		t.Errorf("%+v", r)
	}
	text, err := json.Marshal(r)
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("%s %v", text, err)
	}
}

func TestBadFiles(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"odoo.conf", "workers = 3\n", "has no section [options]"},
		{"odoo.conf", "[options\n", ":1: the section's name is not closed"},
		{"odoo.conf", "[options]\nworkers\n", ":2: this is no setting"},
		{"nginx.conf", "events {}\n", "has no http block"},
		{"nginx.conf", "http {\n}\n}\n", ":3: an unexpected }"},
		{"nginx.conf", "http {\n", "ends within"},
		{"nginx.conf", "http {\n ; }", ":2: a directive without a name"},
		{"nginx.conf", "http { include no/such.conf; }", "there is no such file"},
		{"nginx.conf", "http { include nginx.conf; }", "more files are included than can be meant"},
		{"pgbouncer.ini", "[pgbouncer]\n%include pgbouncer.ini\n", "includes nest deeper"},
	} {
		path := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := Options{}
		switch c.name {
		case "odoo.conf":
			o.Odoo = path
		case "nginx.conf":
			o.Nginx = path
		default:
			o.PgBouncer = path
		}
		if _, err := Look(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
}

func TestValues(t *testing.T) {
	for text, want := range map[string]time.Duration{"30": 30 * time.Second, "30s": 30 * time.Second, "1m 30s": 90 * time.Second, "500ms": 500 * time.Millisecond, "1h": time.Hour, "soon": 0} {
		if got := (Value{Text: text}).Duration(); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
	for text, want := range map[string]int64{"1m": mib, "10M": 10 * mib, "8k": 8 * kib, "2g": 2 * gib, "0": 0, "512": 512} {
		if got := (Value{Text: text}).Bytes(); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
	if diff := cmp.Diff(map[string]string{"host": "a b", "port": "1", "pool_mode": "session"}, params("host='a b' port=1 pool_mode=session")); diff != "" {
		t.Error(diff)
	}
}

func FuzzNginx(f *testing.F) {
	for _, file := range []string{"testdata/nginx.conf", "testdata/sites/dfr.conf"} {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.ReplaceAll(string(text), "include", "root"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") {
			t.Skip("would read this machine's files")
		}
		path := filepath.Join(t.TempDir(), "nginx.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := ReadNginx(path); err == nil {
			Examine(&Site{Nginx: n, Host: &Host{CPUs: 2, Memory: gib}, Absent: map[Part]string{}})
		}
	})
}

func FuzzIni(f *testing.F) {
	for _, file := range []string{"testdata/odoo.conf", "testdata/pgbouncer.ini"} {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.ReplaceAll(string(text), "include", "root"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") {
			t.Skip("would read this machine's files")
		}
		path := filepath.Join(t.TempDir(), "ini")
		if err := os.WriteFile(path, []byte("[options]\n[pgbouncer]\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &Site{Host: &Host{CPUs: 2, Memory: gib}, Postgres: sound(), Absent: map[Part]string{}}
		s.Odoo, _ = ReadOdoo(path)
		s.Bouncer, _ = ReadPgBouncer(path)
		Examine(s)
	})
}
