package servers

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The servers do what their methods say: everybody else's tests stand on that.
func TestPostgresBehindPgBouncer(t *testing.T) {
	pg := Postgres(t, "max_connections=37")
	pool := PgBouncer(t, pg, "default_pool_size=3")
	pg.CreateDB("dfr")
	if got := pg.Exec("dfr", "SHOW max_connections"); got != "37" {
		t.Errorf("max_connections is %s", got)
	}
	ask := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		err := exec.CommandContext(ctx, Need(t, "psql"), "-X", "-q", "-d", pool.URL("dfr"), "-c", "SELECT 1").Run()
		return errors.Join(err, ctx.Err())
	}
	if err := ask(ages); err != nil {
		t.Error(err)
	}
	pg.Freeze()
	if err := ask(time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server answers: %v", err)
	}
	pg.Thaw()
	if err := ask(ages); err != nil {
		t.Errorf("thawed: %v", err)
	}
	first := pg.PID()
	pg.Kill()
	pg.Start()
	if pg.PID() == first {
		t.Error("killed and started, it is the same process")
	}
	pool.Stop()
	pool.Start()
	if err := ask(ages); err != nil {
		t.Errorf("started again: %v", err)
	}
}

func TestNginxAndPrometheus(t *testing.T) {
	web := Nginx(t, "'$status $request_uri'", "location = /down { return 503; }")
	web.Write("page", "17\n")
	if err := answers(web.URL("/page")); err != nil {
		t.Error(err)
	}
	if err := answers(web.URL("/down")); err == nil {
		t.Error("/down is not down")
	}
	text, err := os.ReadFile(web.AccessLog())
	if err != nil || !strings.Contains(string(text), "200 /page\n503 /down\n") {
		t.Errorf("%s, %v", text, err)
	}
	prom := Prometheus(t)
	prom.Kill()
	prom.Start()
	if err := answers(prom.URL() + "/api/v1/query?query=up"); err != nil {
		t.Error(err)
	}
}
