package servers

import (
	"context"
	"errors"
	"os/exec"
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
