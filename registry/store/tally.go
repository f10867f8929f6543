package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"tidemark/registry"
)

// Tally is how many records there are, counted not long ago.
type Tally struct {
	Farmers  map[string]int // by status
	Records  map[string]int // of each entity
	At       time.Time      // when they were counted
	byIsland map[string]map[string]int
}

const (
	// tallyAge is how old a tally becomes.
	tallyAge = time.Minute
	// tallyShare: to count takes at most one part in so many of the time, however many records there are.
	tallyShare = 100
)

// Tally returns the counts of records on the actor's islands, without tombstones. All workers share one tally: it is
// counted again when it is a minute old, or in a large registry so seldom that counting takes one percent of the time.
func (s *Store) Tally(ctx context.Context, who registry.Actor, now time.Time) (Tally, error) {
	var body string
	var at, took int64
	if err := s.row(ctx, s.db, "SELECT body, at, took FROM tally WHERE name = 'records'").Scan(&body, &at, &took); err != nil {
		return Tally{}, fmt.Errorf("read the tally: %w", s.explain(err))
	}
	if now.Sub(fromMillis(at)) > max(tallyAge, time.Duration(took)*time.Millisecond*tallyShare) {
		// Who moves the time first counts; the others show what there is meanwhile, unless there is nothing.
		done, err := s.exec(ctx, s.db, "UPDATE tally SET at = ? WHERE name = 'records' AND at = ?", millis(now), at)
		if err != nil {
			return Tally{}, fmt.Errorf("read the tally: %w", s.explain(err))
		}
		if n, err := done.RowsAffected(); err == nil && n == 1 || body == "{}" {
			start := time.Now()
			counts, err := s.tally(ctx)
			if err != nil {
				return Tally{}, fmt.Errorf("count: %w", s.explain(err))
			}
			text, err := json.Marshal(counts)
			if err != nil {
				return Tally{}, err
			}
			body, at = string(text), millis(now)
			if _, err := s.exec(ctx, s.db, "UPDATE tally SET body = ?, at = ?, took = ? WHERE name = 'records'", body, at, time.Since(start).Milliseconds()); err != nil {
				return Tally{}, fmt.Errorf("keep the tally: %w", s.explain(err))
			}
		}
	}
	t := Tally{Farmers: map[string]int{}, Records: map[string]int{}, At: fromMillis(at)}
	if err := json.Unmarshal([]byte(body), &t.byIsland); err != nil {
		return Tally{}, fmt.Errorf("the tally: %w", err)
	}
	for island, counts := range t.byIsland {
		if !who.May(island) {
			continue
		}
		for what, n := range counts {
			if slices.Contains(registry.Statuses, what) {
				t.Farmers[what] += n
				what = "farmer"
			}
			t.Records[what] += n
		}
	}
	return t, nil
}

// tally counts by island: farmers of each status, and records of each other entity.
func (s *Store) tally(ctx context.Context) (map[string]map[string]int, error) {
	all := map[string]map[string]int{}
	for _, e := range registry.Entities {
		what := "'" + e.Name + "'"
		if e.Name == "farmer" {
			what = "status"
		}
		err := s.each(ctx, s.db, func(rows *sql.Rows) error {
			var area, name string
			var n int
			err := rows.Scan(&area, &name, &n)
			if all[area] == nil {
				all[area] = map[string]int{}
			}
			all[area][name] = n
			return err
		}, "SELECT area, "+what+" AS what, count(*) FROM "+e.Name+" WHERE NOT deleted GROUP BY area, what")
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
