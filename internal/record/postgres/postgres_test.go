package postgres

import (
	"context"
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

func lead(ctx context.Context, c Config, keep record.Retention) (*Journal, error) {
	s, err := Stand(c, Options{Holder: fmt.Sprint("test ", os.Getpid()), Uptime: uptime, Log: func(string) {}})
	if err != nil {
		return nil, err
	}
	return s.Lead(ctx, keep)
}

func TestConform(t *testing.T) {
	pg := servers.Postgres(t, "fsync=off", "autovacuum=off")
	recordtest.Conform(t, func(t testing.TB) recordtest.Open {
		c := fresh(pg)
		return func(keep record.Retention) (recordtest.Journal, error) { return lead(context.Background(), c, keep) }
	})
}
