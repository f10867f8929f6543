package store

import (
	"context"
	"database/sql"
	"fmt"

	"tidemark/registry"
)

// Delta is one record as a device is to have it: the record as it is now, or that it is gone, deleted or moved out of
// the device's area.
type Delta struct {
	Seq    int64
	Entity string
	UID    string
	Gone   bool
	Record registry.Record // of no meaning when Gone
}

// Since returns at most limit records that have changed after number seq of the sequence, as they are now, in the
// sequence's order; the number to go on from; and whether there are more. A record comes at most once in one call; on a
// later page it comes again if it changed meanwhile, or has moved from one of the actor's areas to another. A child may
// come on a page before its parent, never after the last page.
func (s *Store) Since(ctx context.Context, who registry.Actor, seq int64, limit int) (deltas []Delta, next int64, more bool, err error) {
	also, args := s.areas(who)
	err = s.each(ctx, s.db, func(rows *sql.Rows) error {
		var d Delta
		err := rows.Scan(&d.Seq, &d.Entity, &d.UID, &d.Gone)
		deltas = append(deltas, d)
		return err
	}, "SELECT seq, entity, uid, gone FROM change WHERE seq > ?"+also+" ORDER BY seq LIMIT ?", append(append([]any{seq}, args...), limit+1)...)
	if err != nil {
		return nil, 0, false, fmt.Errorf("read changes: %w", s.explain(err))
	}
	if more = len(deltas) > limit; more {
		deltas = deltas[:limit]
	}
	next = seq
	if len(deltas) > 0 {
		next = deltas[len(deltas)-1].Seq
	}
	deltas, err = s.fill(ctx, who, deltas)
	return deltas, next, more, err
}

// fill reads the records of the deltas. Whether a record is gone is decided by what it is now: who may see the area that
// it has moved to has not lost it, and what has moved away since the deltas were read is not theirs to see.
func (s *Store) fill(ctx context.Context, who registry.Actor, deltas []Delta) ([]Delta, error) {
	once := make(map[key]int, len(deltas))
	for i, d := range deltas {
		once[key{d.Entity, d.UID}] = i
	}
	for _, e := range registry.Entities {
		var args []any
		for k := range once {
			if k.entity == e.Name {
				args = append(args, k.uid)
			}
		}
		if len(args) == 0 {
			continue
		}
		found, err := s.find(ctx, s.db, e, "WHERE uid IN "+list(len(args)), args...)
		if err != nil {
			return nil, fmt.Errorf("read changes: %w", s.explain(err))
		}
		for _, r := range found {
			d := &deltas[once[key{e.Name, r.UID}]]
			d.Record, d.Gone = r.Record, r.Deleted || !who.May(r.area)
		}
	}
	last := deltas[:0]
	for i, d := range deltas {
		if once[key{d.Entity, d.UID}] == i {
			last = append(last, d)
		}
	}
	return last, nil
}

// Head returns the number of the last change.
func (s *Store) Head(ctx context.Context) (seq int64, err error) {
	if err := s.row(ctx, s.db, "SELECT value FROM counter WHERE name = 'change'").Scan(&seq); err != nil {
		return 0, fmt.Errorf("read changes: %w", s.explain(err))
	}
	return seq, nil
}
