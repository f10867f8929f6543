package postgres

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/record"
	"tidemark/internal/record/recordtest"
	"tidemark/test/servers"
)

var began = time.Now()

// uptime is of the process; nothing here is stopped or suspended.
func uptime() time.Duration { return time.Since(began) }

var schemas atomic.Int64

// fresh names a schema that nobody has used.
func fresh(pg *servers.PG) Config {
	return Config{DSN: pg.URL("postgres"), Schema: fmt.Sprint("journal_", schemas.Add(1))}
}

func elect(ctx context.Context, c Config, keep record.Retention) (*Journal, error) {
	s, err := Stand(c, Options{Holder: fmt.Sprint("test ", os.Getpid()), Uptime: uptime, Log: func(string) {}})
	if err != nil {
		return nil, err
	}
	return s.Lead(ctx, keep)
}

func TestConform(t *testing.T) {
	pg := servers.Postgres(t, "fsync=off", "autovacuum=off")
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue { // each makes a schema, and opens it several times
		if err := checks.Value.Set("20"); err != nil {
			t.Fatal(err)
		}
	}
	recordtest.Conform(t, func(t testing.TB) recordtest.Open {
		c := fresh(pg)
		return func(keep record.Retention) (recordtest.Journal, error) { return elect(context.Background(), c, keep) }
	})
}
