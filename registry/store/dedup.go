package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Dedup is the actor of the questions that the search for duplicates asks.
const Dedup = "job:dedup"

// alikeMost is how many farmers born on one day, or in one village under one beginning of a name, are looked at.
const alikeMost = 2000

// Around calls see with those who might be the farmer registered once more: who were born on the same day, and who live
// in the same village under a name that begins alike, family name or given name first. Somebody may come several times,
// and the farmer comes too. All are found by indexes.
func (s *Store) Around(ctx context.Context, f Identity, see func(Identity)) error {
	const most = " ORDER BY uid LIMIT ?"
	err := s.identities(ctx, s.db, see, "birth_date = ?"+most, f.BirthDate, alikeMost)
	begin := []rune(f.NameKey)
	begin = begin[:min(len(begin), 3)]
	for _, key := range []string{"name_key", "other_key"} {
		if err == nil {
			err = s.identities(ctx, s.db, see, "village_key = ? AND "+key+" >= ? AND "+key+" < ?"+most,
				f.VillageKey, string(begin), string(begin)+"\U0010FFFF", alikeMost)
		}
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
