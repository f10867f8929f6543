package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// PG is a PostgreSQL server. Its superuser is postgres; whoever connects from this machine is trusted.
type PG struct {
	*process
	Port int
	Dir  string // of the data
}

// Postgres starts a PostgreSQL server, with settings such as "max_connections=50" beside a small test server's.
func Postgres(t testing.TB, settings ...string) *PG {
	t.Helper()
	dir := folder(t, "pg", nil)
	pg := &PG{Port: FreePort(t), Dir: filepath.Join(dir, "data")}
	if out, err := command(t, "initdb", "--pgdata", pg.Dir, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	args := []string{"-D", pg.Dir}
	for _, s := range append([]string{
		fmt.Sprint("port=", pg.Port), "listen_addresses=127.0.0.1", "unix_socket_directories=" + dir, "shared_buffers=32MB", "max_connections=100",
		"shared_preload_libraries=pg_stat_statements",
	}, settings...) {
		args = append(args, "-c", s)
	}
	pg.process = &process{
		t: t, name: "postgres", stop: syscall.SIGINT, log: filepath.Join(dir, "log"),
		start: func() *exec.Cmd { return command(t, "postgres", args...) },
		ready: func() error {
			return command(t, "pg_isready", "-q", "-h", "127.0.0.1", "-p", fmt.Sprint(pg.Port), "-U", "postgres").Run()
		},
	}
	pg.Start()
	t.Cleanup(pg.end)
	return pg
}

// URL is how to connect to a database of the server.
func (pg *PG) URL(db string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", pg.Port, db)
}

// CreateDB makes an empty database.
func (pg *PG) CreateDB(name string) { pg.t.Helper(); pg.Exec("postgres", "CREATE DATABASE "+name) }

// Exec runs SQL by psql and returns what it prints: rows without headers, columns divided by |.
func (pg *PG) Exec(db, sql string) string {
	pg.t.Helper()
	out, err := command(pg.t, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", pg.URL(db), "-c", sql).CombinedOutput()
	if err != nil {
		pg.t.Fatalf("%s: %v\n%s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Admit trusts also whoever connects from a network. To be reached, the server needs listen_addresses.
func (pg *PG) Admit(network string) {
	pg.t.Helper()
	f, err := os.OpenFile(filepath.Join(pg.Dir, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintf(f, "host all all %s trust\n", network)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		pg.t.Fatal(err)
	}
	pg.Exec("postgres", "SELECT pg_reload_conf()")
}

// Bouncer is a PgBouncer in front of a PostgreSQL server. Every database and user of the server is served.
type Bouncer struct {
	*process
	Port int
}

// PgBouncer starts a PgBouncer with transaction pooling, and settings such as "default_pool_size=5".
func PgBouncer(t testing.TB, pg *PG, settings ...string) *Bouncer {
	t.Helper()
	b := &Bouncer{Port: FreePort(t)}
	dir := folder(t, "pgbouncer", map[string]string{"users.txt": "\"postgres\" \"\"\n"})
	ini := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s/users.txt
admin_users = postgres
pool_mode = transaction
max_client_conn = 200
default_pool_size = 10
ignore_startup_parameters = extra_float_digits
%s
`, pg.Port, b.Port, dir, strings.Join(settings, "\n"))
	conf := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(conf, []byte(ini), 0o644); err != nil {
		t.Fatal(err)
	}
	b.process = &process{
		t: t, name: "pgbouncer", stop: syscall.SIGTERM, log: filepath.Join(dir, "log"),
		start: func() *exec.Cmd { return command(t, "pgbouncer", "-q", conf) },
		ready: func() error {
			return command(t, "psql", "-X", "-q", "-d", b.AdminURL(), "-c", "SHOW VERSION").Run()
		},
	}
	b.Start()
	t.Cleanup(b.end)
	return b
}

// URL is how to connect to a database through the pool.
func (b *Bouncer) URL(db string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", b.Port, db)
}

// AdminURL is how to connect to the console.
func (b *Bouncer) AdminURL() string { return b.URL("pgbouncer") }
