package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/registry"
)

// Review is one question of the review queue: what somebody wanted and a person must decide.
type Review struct {
	ID        int64
	Kind      string // one of ReviewKinds
	Entity    string
	UID       string      // of the record; of a Preregistration, that it will have
	Op        registry.Op // what was wanted of it
	Base      int         // the version that the editor had seen
	Fields    registry.Fields
	Of        string // the uid of whom a Duplicate seems to be, or who has the national id that was wanted
	Area      string
	Actor     string
	Client    time.Time // when, as the device said
	CreatedAt time.Time
	State     string // one of ReviewStates
	Reference string // of a Preregistration: what its sender asks about it by

	ResolvedAt time.Time
	ResolvedBy string
	Note       string // why it was asked; of one that is resolved, also what the person has noted
}

// The kinds of questions.
const (
	Conflict        = "conflict"        // an edit that another one stands against
	Duplicate       = "duplicate"       // somebody who seems to be registered already
	Preregistration = "preregistration" // somebody who asks to be registered
)

// ReviewKinds are all kinds, and ReviewStates all states, the first of which is a new question's.
var (
	ReviewKinds  = []string{Conflict, Duplicate, Preregistration}
	ReviewStates = []string{"open", "accepted", "rejected"}
)

const reviewColumns = `SELECT id, kind, entity, uid, op, base, fields, of_uid, area, actor, client_at, created_at, state, reference, resolved_at, resolved_by, note FROM review `

func (s *Store) reviews(ctx context.Context, on querier, where string, args ...any) ([]Review, error) {
	all := []Review{}
	err := s.each(ctx, on, func(rows *sql.Rows) error {
		var r Review
		var fields string
		var client, created, resolved int64
		err := rows.Scan(&r.ID, &r.Kind, &r.Entity, &r.UID, &r.Op, &r.Base, &fields, &r.Of, &r.Area, &r.Actor, &client, &created,
			&r.State, &r.Reference, &resolved, &r.ResolvedBy, &r.Note)
		if err != nil {
			return err
		}
		r.Client, r.CreatedAt, r.ResolvedAt = fromMillis(client), fromMillis(created), fromMillis(resolved)
		var raw map[string]json.RawMessage
		if err := json.Unmarshal([]byte(fields), &raw); err != nil {
			return fmt.Errorf("review %d: %w", r.ID, err)
		}
		wanted, faults := registry.EntityNamed(r.Entity).Decode(raw, registry.Today(r.CreatedAt))
		if len(faults) > 0 {
			return fmt.Errorf("review %d: %w", r.ID, faults)
		}
		r.Fields = wanted
		all = append(all, r)
		return nil
	}, reviewColumns+where, args...)
	return all, err
}

// Reviews lists at most limit questions in one state, of one kind or of all, oldest first, from after the id on.
func (s *Store) Reviews(ctx context.Context, who registry.Actor, state, kind string, after int64, limit int) ([]Review, error) {
	also, args := s.areas(who)
	if kind != "" {
		also, args = also+" AND kind = ?", append(args, kind)
	}
	all, err := s.reviews(ctx, s.db, "WHERE state = ? AND id > ?"+also+" ORDER BY id LIMIT ?", append(append([]any{state, after}, args...), limit)...)
	if err != nil {
		return nil, fmt.Errorf("read the review queue: %w", s.explain(err))
	}
	return all, nil
}

// Review returns a question, or registry.ErrNotFound; also when it is not the actor's to see.
func (s *Store) Review(ctx context.Context, who registry.Actor, id int64) (Review, error) {
	return s.review(ctx, s.db, who, "WHERE id = ?", id)
}

// ByReference returns a preregistration by what its sender was given, or registry.ErrNotFound.
func (s *Store) ByReference(ctx context.Context, reference string) (Review, error) {
	return s.review(ctx, s.db, registry.Actor{}, "WHERE reference = ? AND reference <> ''", reference)
}

func (s *Store) review(ctx context.Context, on querier, who registry.Actor, where string, args ...any) (Review, error) {
	found, err := s.reviews(ctx, on, where, args...)
	switch {
	case err != nil:
		return Review{}, fmt.Errorf("read the review queue: %w", s.explain(err))
	case len(found) == 0 || !who.May(found[0].Area):
		return Review{}, registry.ErrNotFound
	}
	return found[0], nil
}

// Waiting counts the open questions of each kind.
func (s *Store) Waiting(ctx context.Context, who registry.Actor) (map[string]int, error) {
	also, args := s.areas(who)
	counts := map[string]int{}
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		var kind string
		var n int
		err := rows.Scan(&kind, &n)
		counts[kind] = n
		return err
	}, "SELECT kind, count(*) FROM review WHERE state = 'open'"+also+" GROUP BY kind", args...)
	if err != nil {
		return nil, fmt.Errorf("count the review queue: %w", s.explain(err))
	}
	return counts, nil
}

// Preregister puts somebody who asks to be registered before a person, and returns the reference by which the sender can
// ask what became of it. Nothing is said about who is registered already. Its error is Faults when the fields cannot
// be a farmer's.
func (s *Store) Preregister(ctx context.Context, now time.Time, fields registry.Fields) (reference string, err error) {
	e := registry.EntityNamed("farmer")
	reference = newReference()
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		a := s.applying(tx, registry.Actor{Name: "portal"}, now)
		wanted := fields.With(nil)
		faults := e.Complete(wanted)
		area, _, more, err := a.place(ctx, e, wanted)
		if err != nil {
			return err
		}
		if faults = append(faults, more...); len(faults) > 0 {
			return faults
		}
		c := registry.Change{UID: registry.NewUID(), Op: registry.Create, At: now}
		id, err := a.queue(ctx, Preregistration, e, c, wanted, "", area)
		if err != nil {
			return err
		}
		_, err = s.exec(ctx, tx, "UPDATE review SET reference = ? WHERE id = ?", reference, id)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("preregister: %w", err)
	}
	return reference, nil
}

// referenceLetters are Crockford's 32: none is taken for another when it is read aloud or copied by hand.
const referenceLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// newReference makes twelve random letters, 60 bits, in three groups.
func newReference() string {
	var b [12]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	for i := range b {
		b[i] = referenceLetters[b[i]%32]
	}
	return string(b[:4]) + "-" + string(b[4:8]) + "-" + string(b[8:])
}

// ParseReference returns a reference as it was given out, whatever the case and grouping that a person has typed and with
// the letters that are taken for digits, and whether it can be one.
func ParseReference(s string) (string, bool) {
	s = strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(s))
	if len(s) != 12 || strings.Trim(s, referenceLetters) != "" {
		return "", false
	}
	return s[:4] + "-" + s[4:8] + "-" + s[8:], true
}

// Resolution is a person's decision about a question.
type Resolution struct {
	Accept bool
	// Fields are those of a Conflict or Preregistration that are accepted; nil for all.
	Fields []string
	// Seen is the version of a Conflict's record that the person decided by; another by now is registry.ErrStale. 0 when
	// there was none.
	Seen int
	// Marked is, of a Duplicate that is accepted, the uid of the one of the two that is marked as the duplicate. With a
	// Duplicate that is rejected both are kept.
	Marked string
	Note   string
}

// Resolve closes a question. What is accepted is stored in the same transaction, as an edit of the newest version by who.
// An edit of a record that was deleted meanwhile brings it back. Of two who decide one question, the second gets
// registry.ErrStale. Faults say why what was accepted cannot be stored; the question is open then as before.
func (s *Store) Resolve(ctx context.Context, who registry.Actor, now time.Time, id int64, res Resolution) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		r, err := s.review(ctx, tx, who, "WHERE id = ?", id)
		if err != nil {
			return err
		}
		state := ReviewStates[2]
		if res.Accept {
			state = ReviewStates[1]
		}
		note := strings.TrimPrefix(r.Note+"; "+res.Note, "; ")
		if res.Note == "" {
			note = r.Note
		}
		done, err := s.exec(ctx, tx, "UPDATE review SET state = ?, resolved_at = ?, resolved_by = ?, note = ? WHERE id = ? AND state = 'open'",
			state, millis(now), who.Name, note, id)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return registry.ErrStale
		}
		a := s.applying(tx, who, now)
		if err := a.load(ctx, []registry.Change{{Entity: r.Entity, UID: r.UID}, {Entity: r.Entity, UID: r.Of}}); err != nil {
			return err
		}
		changes, err := a.resolved(r, res)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if err := a.settle(ctx, c); err != nil {
				return err
			}
		}
		return a.flush(ctx)
	})
	if err != nil {
		return fmt.Errorf("resolve review %d: %w", id, err)
	}
	return nil
}

// resolved is what a decision changes.
func (a *applying) resolved(r Review, res Resolution) ([]registry.Change, error) {
	now := a.records[key{r.Entity, r.UID}]
	edit := func(uid string, f registry.Fields) registry.Change {
		return registry.Change{Entity: r.Entity, UID: uid, Op: registry.Update, Fields: f, At: a.now}
	}
	if r.Kind == Duplicate {
		return a.resolvedDuplicate(r, res, edit)
	}
	if !res.Accept {
		return nil, nil
	}
	seen := 0
	if now != nil {
		seen = now.Version
	}
	if r.Kind == Conflict && seen != res.Seen {
		return nil, registry.ErrStale
	}
	c := edit(r.UID, registry.Fields{})
	for name, value := range r.Fields {
		if res.Fields == nil || slices.Contains(res.Fields, name) {
			c.Fields[name] = value
		}
	}
	switch {
	case r.Op == registry.Delete:
		c.Op, c.Fields = registry.Delete, nil
	case now == nil:
		c.Op = registry.Create
	}
	return []registry.Change{c}, nil
}

// resolvedDuplicate marks one of two farmers, or neither. A national id that the newer one claimed goes with whom is kept.
func (a *applying) resolvedDuplicate(r Review, res Resolution, edit func(string, registry.Fields) registry.Change) ([]registry.Change, error) {
	const marked = "duplicate"
	mine := registry.Fields{} // what the newer one would have been
	for _, name := range []string{"national_id", "status"} {
		if v, ok := r.Fields[name]; ok && v != marked {
			mine[name] = v
		}
	}
	if mine["status"] == nil {
		mine["status"] = registry.Statuses[0]
	}
	now := a.records[key{r.Entity, r.UID}]
	switch {
	case !res.Accept && now != nil && !now.Deleted && now.Fields["status"] == marked:
		return []registry.Change{edit(r.UID, registry.Fields{"status": mine["status"]})}, nil
	case !res.Accept:
		return nil, nil
	case res.Marked == r.UID:
		return []registry.Change{edit(r.UID, registry.Fields{"status": marked})}, nil
	case res.Marked != r.Of || r.Of == "":
		return nil, registry.Faults{{Field: "marked", Detail: "must be one of the two"}}
	}
	other := registry.Fields{"status": marked}
	if mine["national_id"] != nil {
		other["national_id"] = nil
	}
	if now != nil && now.Fields["status"] != marked {
		delete(mine, "status")
	}
	return []registry.Change{edit(r.Of, other), edit(r.UID, mine)}, nil
}

// settle stores what a person has decided, or returns why it cannot be.
func (a *applying) settle(ctx context.Context, c registry.Change) error {
	e := registry.EntityNamed(c.Entity)
	old := a.records[key{c.Entity, c.UID}]
	c.Exact = true
	if old != nil {
		c.Base = old.Version
	}
	var r registry.Result
	var err error
	if old != nil && old.Deleted && c.Op == registry.Update && a.who.May(old.area) {
		r, err = a.update(ctx, e, c, old, nil)
	} else {
		r, err = a.one(ctx, c)
	}
	switch {
	case err != nil:
		return err
	case r.Outcome == registry.Retry:
		return registry.ErrBusy
	case r.Outcome == registry.Stale:
		return registry.ErrStale
	case r.Outcome == registry.Rejected:
		return r.Faults
	}
	return nil
}
