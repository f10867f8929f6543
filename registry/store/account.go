package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidemark/registry"
)

// How long a session lasts: idle, and at all.
const (
	SessionIdle = 30 * time.Minute
	SessionLife = 12 * time.Hour
)

// seenEvery is how exactly it is known when a session was used: each note is a write to the database.
const seenEvery = time.Minute

// keepSignIns is how long the audit of sign-ins goes back.
const keepSignIns = 400 * 24 * time.Hour

// ErrNameTaken is that there is an account of this name.
var ErrNameTaken = errors.New("there is an account of this name")

// AddAccount keeps a new account. Its error is Faults when the account or the password is not fit, or ErrNameTaken.
func (s *Store) AddAccount(ctx context.Context, a registry.Account, password string) (registry.Account, error) {
	a.CreatedAt = fromMillis(millis(a.CreatedAt))
	if faults := append(a.Check(), a.CheckPassword(password)...); faults != nil {
		return a, faults
	}
	areas, err := json.Marshal(append([]string{}, a.Areas...))
	if err != nil {
		return a, err
	}
	hashed := registry.HashPassword(password)
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		return s.row(ctx, tx, "INSERT INTO account (name, password, role, areas, created_at) VALUES (?, ?, ?, ?, ?) RETURNING id",
			a.Name, hashed, string(a.Role), string(areas), millis(a.CreatedAt)).Scan(&a.ID)
	})
	switch {
	case err != nil && s.d.Kind(err) == Taken:
		return a, ErrNameTaken
	case err != nil:
		return a, fmt.Errorf("add an account: %w", err)
	}
	return a, nil
}

const accountColumns = "account.id, account.name, account.role, account.areas, account.created_at, account.disabled_at, account.signed_in_at"

// accounts reads accounts, and beside each the columns more into also.
func (s *Store) accounts(ctx context.Context, on querier, more, where string, also []any, args ...any) ([]registry.Account, error) {
	all := []registry.Account{}
	err := s.each(ctx, on, func(rows *sql.Rows) error {
		var a registry.Account
		var areas string
		var created, disabled, signedIn int64
		if err := rows.Scan(append([]any{&a.ID, &a.Name, &a.Role, &areas, &created, &disabled, &signedIn}, also...)...); err != nil {
			return err
		}
		a.CreatedAt, a.DisabledAt, a.SignedInAt = fromMillis(created), fromMillis(disabled), fromMillis(signedIn)
		if err := json.Unmarshal([]byte(areas), &a.Areas); err != nil {
			return fmt.Errorf("the islands of account %d: %w", a.ID, err)
		}
		all = append(all, a)
		return nil
	}, "SELECT "+accountColumns+more+" FROM account "+where, args...)
	return all, err
}

// Accounts lists all accounts, also disabled ones, by name.
func (s *Store) Accounts(ctx context.Context) ([]registry.Account, error) {
	all, err := s.accounts(ctx, s.db, "", "ORDER BY name", nil)
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", s.explain(err))
	}
	return all, nil
}

// SetDisabled takes an account's right to sign in, and ends its sessions at once; or gives it back.
func (s *Store) SetDisabled(ctx context.Context, now time.Time, name string, disabled bool) error {
	at := int64(0)
	if disabled {
		at = millis(now)
	}
	return s.change(ctx, name, "disabled_at = ?", at)
}

// SetPassword gives an account a new password and ends its sessions. Its error is Faults when the password is not fit.
func (s *Store) SetPassword(ctx context.Context, name, password string) error {
	if faults := (&registry.Account{Name: name}).CheckPassword(password); faults != nil {
		return faults
	}
	return s.change(ctx, name, "password = ?", registry.HashPassword(password))
}

// change changes an account and ends its sessions.
func (s *Store) change(ctx context.Context, name, set string, args ...any) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var id int64
		if err := s.row(ctx, tx, "UPDATE account SET "+set+" WHERE name = ? RETURNING id", append(args, name)...).Scan(&id); err != nil {
			return err
		}
		_, err := s.exec(ctx, tx, "DELETE FROM session WHERE account = ?", id)
		return err
	})
	if err != nil {
		return fmt.Errorf("change account: %w", err)
	}
	return nil
}

// nobody is the hash that is tried for a name that no account has, so that its answer takes as long.
var nobody = sync.OnceValue(func() string { return registry.HashPassword("nobody") })

// SignIn begins a session and returns its secret, which the database has only a hash of. Its error is
// registry.ErrCredentials, or registry.Throttled: after some failures each must wait longer than the one before, for the
// account and for the address. A name that nobody has is throttled like one that somebody has.
func (s *Store) SignIn(ctx context.Context, now time.Time, name, password, address string) (secret string, a registry.Account, err error) {
	// Counted before it is tried, and taken back when it was right: many tries at once are many.
	for _, t := range []struct {
		limit Limit
		key   string
	}{{signInFrom, address}, {signInTo, hash(name)}} { // what was typed may be a password
		if err := s.Try(ctx, now, t.limit, t.key); err != nil {
			return "", a, err
		}
	}
	hashed := nobody()
	found, err := s.accounts(ctx, s.db, ", password", "WHERE name = ?", []any{&hashed}, name)
	if err != nil {
		return "", a, fmt.Errorf("sign in: %w", s.explain(err))
	}
	right := registry.IsPassword(hashed, password) && len(found) == 1 && found[0].DisabledAt.IsZero()
	if len(found) == 0 {
		return "", a, registry.ErrCredentials
	}
	a = found[0]
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	secret = fmt.Sprintf("%x", b)
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if !right {
			return s.note(ctx, tx, now, a.ID, Refused, address)
		}
		if err := s.forgive(ctx, tx, signInFrom, address); err != nil {
			return err
		}
		if _, err := s.exec(ctx, tx, "DELETE FROM throttle WHERE key = ?", signInTo.Name+":"+hash(name)); err != nil {
			return err
		}
		if _, err := s.exec(ctx, tx, "DELETE FROM session WHERE seen_at < ? OR created_at < ?", millis(now.Add(-SessionIdle-seenEvery)), millis(now.Add(-SessionLife))); err != nil {
			return err
		}
		if _, err := s.exec(ctx, tx, "INSERT INTO session (hash, account, created_at, seen_at) VALUES (?, ?, ?, ?)", hash(secret), a.ID, millis(now), millis(now)); err != nil {
			return err
		}
		if _, err := s.exec(ctx, tx, "UPDATE account SET signed_in_at = ? WHERE id = ?", millis(now), a.ID); err != nil {
			return err
		}
		return s.note(ctx, tx, now, a.ID, SignedIn, address)
	})
	switch {
	case err != nil:
		return "", a, fmt.Errorf("sign in: %w", err)
	case !right:
		return "", registry.Account{}, registry.ErrCredentials
	}
	return secret, a, nil
}

// The lines of the audit of sign-ins.
const (
	SignedIn  = "signed_in"
	Refused   = "refused" // a wrong password, or the account is disabled
	SignedOut = "signed_out"
	Exported  = "exported" // farmers left the registry as a file
)

// NoteSignIn adds a line to the audit of sign-ins.
func (s *Store) NoteSignIn(ctx context.Context, now time.Time, account int64, what, address string) error {
	if err := s.inTx(ctx, func(tx *sql.Tx) error { return s.note(ctx, tx, now, account, what, address) }); err != nil {
		return fmt.Errorf("note a sign-in: %w", err)
	}
	return nil
}

// note adds a line to the audit of sign-ins, and lets the oldest go.
func (s *Store) note(ctx context.Context, tx *sql.Tx, now time.Time, account int64, what, address string) error {
	if _, err := s.exec(ctx, tx, "DELETE FROM sign_in WHERE at < ?", millis(now.Add(-keepSignIns))); err != nil {
		return err
	}
	_, err := s.exec(ctx, tx, "INSERT INTO sign_in (account, at, what, address) VALUES (?, ?, ?, ?)", account, millis(now), what, address)
	return err
}

// Session returns who is signed in by a session's secret, or registry.ErrNotFound when nobody is any more.
func (s *Store) Session(ctx context.Context, now time.Time, secret string) (registry.Account, error) {
	var created, seen int64
	found, err := s.accounts(ctx, s.db, ", session.created_at, session.seen_at", "JOIN session ON session.account = account.id WHERE session.hash = ?", []any{&created, &seen}, hash(secret))
	switch {
	case err != nil:
		return registry.Account{}, fmt.Errorf("read a session: %w", s.explain(err))
	case len(found) == 0, !found[0].DisabledAt.IsZero(), now.Sub(fromMillis(seen)) > SessionIdle, now.Sub(fromMillis(created)) > SessionLife:
		return registry.Account{}, registry.ErrNotFound
	}
	if now.Sub(fromMillis(seen)) > seenEvery {
		if _, err := s.exec(ctx, s.db, "UPDATE session SET seen_at = ? WHERE hash = ? AND seen_at < ?", millis(now), hash(secret), millis(now)); err != nil {
			return registry.Account{}, fmt.Errorf("note a session's use: %w", s.explain(err))
		}
	}
	return found[0], nil
}

// SignOut ends a session. That there is none is no error.
func (s *Store) SignOut(ctx context.Context, now time.Time, secret, address string) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var account int64
		err := s.row(ctx, tx, "DELETE FROM session WHERE hash = ? RETURNING account", hash(secret)).Scan(&account)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.note(ctx, tx, now, account, SignedOut, address)
	})
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

// SignIn is a line of the audit of sign-ins.
type SignIn struct {
	At      time.Time
	What    string // SignedIn, Refused, SignedOut or Exported
	Address string
}

// SignIns returns the last sign-ins to an account, newest first.
func (s *Store) SignIns(ctx context.Context, account int64, limit int) ([]SignIn, error) {
	var all []SignIn
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		var e SignIn
		var at int64
		err := rows.Scan(&at, &e.What, &e.Address)
		e.At = fromMillis(at)
		all = append(all, e)
		return err
	}, "SELECT at, what, address FROM sign_in WHERE account = ? ORDER BY id DESC LIMIT ?", account, limit)
	if err != nil {
		return nil, fmt.Errorf("read the sign-ins: %w", s.explain(err))
	}
	return all, nil
}
