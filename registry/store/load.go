package store

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"tidemark/registry"
)

// Table is where rows are loaded to.
type Table struct {
	Name    string
	Columns []string
}

// Load writes many records at once into a registry that has none of their entities yet. It is for seeding and for nothing
// else: it makes no audit trail and checks nothing. The records take their places in the sequence of changes in their
// order, so that a device which begins gets them as it gets all others. One without a village belongs to the island of
// the record before it. progress, which may be nil, hears the number of farmers written so far.
func (s *Store) Load(ctx context.Context, records iter.Seq[registry.Record], progress func(farmers int)) error {
	tables := []Table{{"change", []string{"seq", "entity", "uid", "area", "gone"}}}
	at := map[string]int{} // of an entity's table
	for _, e := range registry.Entities {
		at[e.Name] = len(tables)
		tables = append(tables, Table{e.Name, Columns(e)})
	}
	var seq int64
	err := s.d.Load(ctx, s.db, tables, func(yield func(int, []any) bool) {
		area, farmers := "", 0
		for r := range records {
			e := registry.EntityNamed(r.Entity)
			if island := r.Fields.Text("island"); island != "" {
				area = island
			}
			seq++
			if !yield(at[e.Name], Row(e, &r, area)) || !yield(0, []any{seq, e.Name, r.UID, area, r.Deleted}) {
				return
			}
			if r.Entity == "farmer" {
				if farmers++; farmers%1000 == 0 && progress != nil {
					progress(farmers)
				}
			}
		}
	})
	if err == nil {
		err = s.inTx(ctx, func(tx *sql.Tx) error {
			_, err := s.exec(ctx, tx, "UPDATE counter SET value = ? WHERE name = 'change'", seq)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("load records: %w", s.explain(err))
	}
	return nil
}
