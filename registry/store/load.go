package store

import (
	"context"
	"fmt"
	"iter"
)

// Load writes many rows into a table at once, without a look at what is there. It is for seeding and for nothing else: no
// audit trail, no sequence, no checks.
func (s *Store) Load(ctx context.Context, table string, columns []string, rows iter.Seq[[]any]) error {
	if err := s.d.Load(ctx, s.db, table, columns, rows); err != nil {
		return fmt.Errorf("load %s: %w", table, s.explain(err))
	}
	return nil
}
