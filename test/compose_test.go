package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/test/servers"
)

const composed = "../deploy/compose/"

// What deploy/compose says is understood by those that it is said to. Its images are not fetched: PostgreSQL and nginx are Debian's here.
func TestCompose(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(composed + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	dir := t.TempDir()
	t.Setenv("PGBOUNCER_DSN", "postgres://tidemark:x@127.0.0.1:1/pgbouncer")
	t.Setenv("PG_DSN", "postgres://tidemark:x@127.0.0.1:1/dfr")

	t.Run("compose.yaml", func(t *testing.T) {
		env := filepath.Join(dir, "env")
		write(t, env, strings.ReplaceAll(read("env.example"), "PASSWORD=", "PASSWORD=s3cret"))
		out, err := exec.Command(servers.Need(t, "docker-compose"), "-f", composed+"compose.yaml", "--env-file", env, "config").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "postgres://tidemark:s3cret@pgbouncer:6432/pgbouncer") {
			t.Errorf("docker-compose config: %v\n%s", err, out)
		}
	})
	t.Run("tidemark.yaml", func(t *testing.T) {
		if code, out, errOut := tidemark(t, "check", "-c", composed+"tidemark.yaml"); code != 0 || errOut != "" {
			t.Errorf("exit %d\n%s%s", code, out, errOut)
		}
	})
	t.Run("doctor", func(t *testing.T) {
		_, out, errOut := tidemark(t, "doctor", "-c", composed+"tidemark.yaml", "--odoo", composed+"odoo.conf", "--pgbouncer", composed+"pgbouncer/pgbouncer.ini",
			"--nginx", composed+"nginx.conf", "--disk-writes", "0", "--json")
		var report struct {
			Findings []struct{ Severity, Check, Fix string }
			Held     []struct{ Check string }
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v\n%s%s", err, out, errOut)
		}
		for _, f := range report.Findings {
			if f.Severity != "advice" && !strings.Contains(f.Check, "memory") { // this machine's memory is not theirs
				t.Errorf("%+v", f)
			}
		}
		if len(report.Held) < 15 {
			t.Errorf("only %d checks were made: %s", len(report.Held), out)
		}
	})
	t.Run("nginx.conf", func(t *testing.T) {
		conf := filepath.Join(dir, "nginx.conf")
		here := strings.NewReplacer("server odoo:", "server 127.0.0.1:", "/var/log/dfr", dir, "/run/nginx.pid", dir+"/pid", "listen 80 ", fmt.Sprint("listen ", servers.FreeAddress(t), " "))
		write(t, conf, here.Replace(read("nginx.conf")))
		if out, err := exec.Command(servers.Need(t, "nginx"), "-t", "-p", dir, "-c", conf, "-e", filepath.Join(dir, "error.log")).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("postgres-init.sh", func(t *testing.T) {
		pg := servers.Postgres(t)
		pg.Exec("postgres", "CREATE ROLE odoo SUPERUSER LOGIN")
		init := exec.Command("sh", composed+"postgres-init.sh")
		init.Env = append(os.Environ(), "PATH="+filepath.Dir(servers.Need(t, "psql"))+":"+os.Getenv("PATH"), "PGHOST=127.0.0.1", fmt.Sprint("PGPORT=", pg.Port), "TIDEMARK_DB_PASSWORD=it's s3cret")
		if out, err := init.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		pg.Exec("dfr", "SET ROLE odoo; CREATE TABLE queue_job (state text)")
		if got := pg.Exec("dfr", "SET ROLE tidemark; SELECT count(*) FROM queue_job; SELECT count(*) > 0 FROM pg_stat_statements"); got != "0\nt" {
			t.Errorf("tidemark reads %q", got)
		}
	})
}
