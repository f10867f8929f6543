package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tidemark/registry"
)

// secretPrefix makes a token known at sight, to people and to programs that look for leaked secrets.
const secretPrefix = "dfr_"

// AddToken keeps a new token and returns its secret, which cannot be had again: the database has a hash of it. A plain
// SHA-256 is enough, for the secret is 256 random bits that nobody can try out.
func (s *Store) AddToken(ctx context.Context, t registry.Token) (secret string, added registry.Token, err error) {
	t.CreatedAt, t.ExpiresAt = fromMillis(millis(t.CreatedAt)), fromMillis(millis(t.ExpiresAt))
	if faults := t.Check(); faults != nil {
		return "", t, faults
	}
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	secret = secretPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	areas, err := json.Marshal(append([]string{}, t.Areas...))
	if err != nil {
		return "", t, err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		return s.row(ctx, tx, `INSERT INTO token (hash, name, scope, device, areas, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id`,
			hash(secret), t.Name, string(t.Scope), t.Device, string(areas), millis(t.CreatedAt), millis(t.ExpiresAt)).Scan(&t.ID)
	})
	if err != nil {
		return "", t, fmt.Errorf("add a token: %w", err)
	}
	return secret, t, nil
}

// hash is what the database keeps of a secret. To look it up takes the same time whatever it is: who does not know the
// secret cannot choose how its hash begins.
func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

const tokenColumns = "SELECT id, name, scope, device, areas, created_at, expires_at, revoked_at, used_at FROM token "

func (s *Store) tokens(ctx context.Context, where string, args ...any) ([]registry.Token, error) {
	all := []registry.Token{}
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		var t registry.Token
		var areas string
		var created, expires, revoked, used int64
		if err := rows.Scan(&t.ID, &t.Name, &t.Scope, &t.Device, &areas, &created, &expires, &revoked, &used); err != nil {
			return err
		}
		t.CreatedAt, t.ExpiresAt, t.RevokedAt, t.UsedAt = fromMillis(created), fromMillis(expires), fromMillis(revoked), fromMillis(used)
		if err := json.Unmarshal([]byte(areas), &t.Areas); err != nil {
			return fmt.Errorf("the islands of token %d: %w", t.ID, err)
		}
		all = append(all, t)
		return nil
	}, tokenColumns+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", s.explain(err))
	}
	return all, nil
}

// Token returns the token of a secret, valid or not, or registry.ErrNotFound.
func (s *Store) Token(ctx context.Context, secret string) (registry.Token, error) {
	if !strings.HasPrefix(secret, secretPrefix) {
		return registry.Token{}, registry.ErrNotFound
	}
	found, err := s.tokens(ctx, "WHERE hash = ?", hash(secret))
	if err == nil && len(found) == 0 {
		err = registry.ErrNotFound
	}
	if err != nil {
		return registry.Token{}, err
	}
	return found[0], nil
}

// Tokens lists all tokens, also those that are not valid any more, in the order in which they were made.
func (s *Store) Tokens(ctx context.Context) ([]registry.Token, error) {
	return s.tokens(ctx, "ORDER BY id")
}

// RevokeToken makes a token invalid for good. That it was revoked before, at another time, is no error.
func (s *Store) RevokeToken(ctx context.Context, now time.Time, id int64) error {
	return s.touchToken(ctx, "revoke", "UPDATE token SET revoked_at = CASE WHEN revoked_at = 0 THEN ? ELSE revoked_at END WHERE id = ?", millis(now), id)
}

// TokenUsed notes when a token was used last.
func (s *Store) TokenUsed(ctx context.Context, now time.Time, id int64) error {
	return s.touchToken(ctx, "note the use of", "UPDATE token SET used_at = CASE WHEN used_at < ? THEN ? ELSE used_at END WHERE id = ?", millis(now), millis(now), id)
}

func (s *Store) touchToken(ctx context.Context, what, query string, args ...any) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		result, err := s.exec(ctx, tx, query, args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return fmt.Errorf("%w", registry.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s a token: %w", what, err)
	}
	return nil
}
