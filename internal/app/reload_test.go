package app

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres/wire/wiretest"
)

// A reload keeps a connection as long as any signal uses it, changes nothing when it is refused, and closes what is no longer used.
func TestReloadOfSharedSignals(t *testing.T) {
	pool := wiretest.New(t, "1.18.0/bouncer")
	pool.Set("SHOW POOLS", []string{"database", "user", "cl_active", "cl_waiting"}, []string{"dfr", "odoo", "5", "3"})
	leaks := goleak.IgnoreCurrent()
	dsn := fmt.Sprintf("postgres://tidemark@127.0.0.1:%d/pgbouncer?sslmode=disable", pool.Port())
	one := func(name, field string) string {
		return fmt.Sprintf("      %s: {pgbouncer: {dsn: %q, field: %s}, period: 1s}\n", name, dsn, field)
	}
	w := newWorld(t, "", "    signals:\n"+one("waiting", "cl_waiting"))
	has := func(name string, v float64) {
		t.Helper()
		w.eventually(name, func(st *control.Status) bool {
			r := signal(st, name).Reading
			return r.Quality == fleet.Fresh && r.Value == v
		})
	}
	has("waiting", 3)
	reload := func(signals string) {
		t.Helper()
		if err := w.reload("", "    signals:\n"+signals); err != nil {
			t.Fatal(err)
		}
	}
	reload(one("waiting", "cl_waiting") + one("active", "cl_active"))
	has("waiting", 3)
	has("active", 5)
	reload(one("renamed", "cl_waiting"))
	has("renamed", 3)
	reload(one("renamed", "cl_active")) // the same name, another figure
	has("renamed", 5)

	// What cannot be made changes nothing, whatever else is new beside it.
	broken := one("renamed", "cl_waiting") + `      tls: {pgbouncer: {dsn: "postgres://t@127.0.0.1/pgbouncer?sslmode=verify-ca&sslrootcert=/nowhere/ca.pem"}, period: 1s}` + "\n"
	if err := w.reload("", "    signals:\n"+broken); err == nil {
		t.Error("reloaded without the certificate")
	}
	w.passes(3)
	has("renamed", 5)
	if ever, now := pool.Dialled(); ever != 1 || now != 1 {
		t.Errorf("dialled %d times, %d connections: one signal took over from the other each time", ever, now)
	}

	if err := w.reload("", ""); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(ages); ; time.Sleep(10 * time.Millisecond) {
		if _, now := pool.Dialled(); now == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a connection is left behind")
		}
	}
	w.Stop()
	goleak.VerifyNone(t, leaks)
}
