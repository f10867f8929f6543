package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Dedup is the actor of the questions that the search for duplicates asks.
const Dedup = "job:dedup"

// bornMost is how many farmers born on one day are looked at: more were born on days that stand for "not known".
const bornMost = 2000

// Around calls see with those who might be the farmer registered once more: who were born on the same day, and who live
// in the same village and were born on one of the other days. The farmer comes too. All are found by an index.
func (s *Store) Around(ctx context.Context, f Identity, days []string, see func(Identity)) error {
	err := s.identities(ctx, s.db, see, "birth_date = ? ORDER BY uid LIMIT ?", f.BirthDate, bornMost)
	if err == nil && len(days) > 0 {
		err = s.identities(ctx, s.db, see, "village_key = ? AND birth_date IN "+list(len(days)), append([]any{f.VillageKey}, anys(days)...)...)
	}
	if err != nil {
		return fmt.Errorf("find farmers who are alike: %w", s.explain(err))
	}
	return nil
}

// Pair is two farmers who seem to be one.
type Pair struct {
	Farmer Identity // registered later: it is this one that a person may mark as the duplicate
	Of     Identity
	Why    string
}

// AskAbout puts pairs into the review queue and returns how many are new there: about two farmers nobody is asked twice,
// whatever the answer was.
func (s *Store) AskAbout(ctx context.Context, now time.Time, pairs []Pair) (asked int, err error) {
	if len(pairs) == 0 {
		return 0, nil
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		asked = 0
		for _, p := range pairs {
			result, err := s.exec(ctx, tx, `INSERT INTO review (kind, entity, uid, op, base, fields, of_uid, area, actor, client_at, created_at, state, note)
				SELECT 'duplicate', 'farmer', CAST(? AS TEXT), 'update', CAST(? AS BIGINT), '{"status":"duplicate"}', CAST(? AS TEXT), CAST(? AS TEXT), '`+Dedup+`', 0, CAST(? AS BIGINT), 'open', CAST(? AS TEXT)
				WHERE NOT EXISTS (SELECT 1 FROM review WHERE kind = 'duplicate' AND (uid = ? AND of_uid = ? OR uid = ? AND of_uid = ?))
				ON CONFLICT DO NOTHING`,
				p.Farmer.UID, p.Farmer.Version, p.Of.UID, p.Farmer.Area, millis(now), p.Why, p.Farmer.UID, p.Of.UID, p.Of.UID, p.Farmer.UID)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			asked += int(n)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("ask about duplicates: %w", err)
	}
	return asked, nil
}
