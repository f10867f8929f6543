package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"tidemark/registry"
)

// Import is a file of farmers that somebody has sent, and how far it has come. The counts are rows.
type Import struct {
	ID        int64       `json:"id"`
	Name      string      `json:"name"` // of the file, as its sender calls it
	Header    []string    `json:"header"`
	Actor     string      `json:"actor"`
	Areas     []string    `json:"areas,omitempty"`
	State     ImportState `json:"state"`
	Fault     string      `json:"fault,omitempty"` // why it Failed
	Total     int         `json:"total"`
	Done      int         `json:"done"` // of which it is known what became of them: the sum of the following
	Created   int         `json:"created"`
	Updated   int         `json:"updated"`   // of farmers that were registered before, with something new or not
	Conflict  int         `json:"conflict"`  // updated in part: the rest is in the review queue
	Duplicate int         `json:"duplicate"` // created, and in the review queue: somebody else has the national id
	Rejected  int         `json:"rejected"`
	CreatedAt time.Time   `json:"created_at"`
	StartedAt time.Time   `json:"started_at,omitzero"`
	DoneAt    time.Time   `json:"done_at,omitzero"`
}

// ImportState is where an import stands.
type ImportState string

// The states. The last three are final.
const (
	ImportWaiting   ImportState = "waiting"
	ImportRunning   ImportState = "running"
	ImportDone      ImportState = "done"
	ImportFailed    ImportState = "failed"
	ImportCancelled ImportState = "cancelled"
)

// Over says whether nothing more will become of it.
func (i Import) Over() bool { return i.State != ImportWaiting && i.State != ImportRunning }

// ImportError is a row that somebody must look at.
type ImportError struct {
	Row   int      // from 1
	Cells []string // as the file has them
	Error string
}

// AddImport keeps a file, in chunks, and with a method enqueues the job of this method that will import it.
func (s *Store) AddImport(ctx context.Context, i Import, chunks [][]byte, method string) (id int64, err error) {
	header, err := json.Marshal(i.Header)
	if err != nil {
		return 0, err
	}
	areas, err := json.Marshal(append([]string{}, i.Areas...))
	if err != nil {
		return 0, err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		err := s.row(ctx, tx, `INSERT INTO import (name, header, actor, areas, state, total, created_at) VALUES (?, ?, ?, ?, 'waiting', ?, ?) RETURNING id`,
			i.Name, string(header), i.Actor, string(areas), i.Total, millis(i.CreatedAt)).Scan(&id)
		if err != nil {
			return err
		}
		for n, data := range chunks {
			if _, err := s.exec(ctx, tx, "INSERT INTO import_chunk (import, n, data) VALUES (?, ?, ?)", id, n, data); err != nil {
				return err
			}
		}
		if method == "" {
			return nil
		}
		return s.enqueue(ctx, tx, i.CreatedAt, Job{Channel: "root." + method, Method: method, Payload: fmt.Sprint(id), Identity: fmt.Sprint(method, ":", id), MaxRetries: 20})
	})
	if err != nil {
		return 0, fmt.Errorf("keep a file to import: %w", err)
	}
	return id, nil
}

const importColumns = `SELECT id, name, header, actor, areas, state, fault, total, done, created, updated, conflict, duplicate, rejected, created_at, started_at, done_at FROM import `

func (s *Store) imports(ctx context.Context, where string, args ...any) ([]Import, error) {
	all := []Import{}
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		var i Import
		var header, areas string
		var created, started, done int64
		if err := rows.Scan(&i.ID, &i.Name, &header, &i.Actor, &areas, &i.State, &i.Fault, &i.Total, &i.Done, &i.Created, &i.Updated, &i.Conflict, &i.Duplicate, &i.Rejected,
			&created, &started, &done); err != nil {
			return err
		}
		i.CreatedAt, i.StartedAt, i.DoneAt = fromMillis(created), fromMillis(started), fromMillis(done)
		if err := errors.Join(json.Unmarshal([]byte(header), &i.Header), json.Unmarshal([]byte(areas), &i.Areas)); err != nil {
			return fmt.Errorf("import %d: %w", i.ID, err)
		}
		all = append(all, i)
		return nil
	}, importColumns+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read imports: %w", s.explain(err))
	}
	return all, nil
}

// Imports lists at most limit imports, the newest first.
func (s *Store) Imports(ctx context.Context, limit int) ([]Import, error) {
	return s.imports(ctx, "ORDER BY id DESC LIMIT ?", limit)
}

// Import returns an import, or registry.ErrNotFound.
func (s *Store) Import(ctx context.Context, id int64) (Import, error) {
	found, err := s.imports(ctx, "WHERE id = ?", id)
	if err == nil && len(found) == 0 {
		err = registry.ErrNotFound
	}
	if err != nil {
		return Import{}, err
	}
	return found[0], nil
}

// ImportFile reads an import's file. Of an import that is over there is none any more: it reads as empty.
func (s *Store) ImportFile(ctx context.Context, id int64) io.Reader {
	return &chunks{s: s, ctx: ctx, id: id}
}

// chunks reads one at a time.
type chunks struct {
	s    *Store
	ctx  context.Context // of the reading, which is one call of its owner's
	id   int64
	next int
	data []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		err := c.s.row(c.ctx, c.s.db, "SELECT data FROM import_chunk WHERE import = ? AND n = ?", c.id, c.next).Scan(&c.data)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return 0, io.EOF
		case err != nil:
			return 0, fmt.Errorf("read a file to import: %w", c.s.explain(err))
		}
		c.next++
	}
	n := copy(p, c.data)
	c.data = c.data[n:]
	return n, nil
}

// Advance records what became of the rows after the first from: the import as it is now, and the rows to be looked at.
// It returns registry.ErrStale, and records nothing, when the import has been cancelled or another worker has advanced it.
// What is over loses its file.
func (s *Store) Advance(ctx context.Context, from int, i Import, wrong []ImportError) error {
	rows := make([][]any, len(wrong))
	for n, w := range wrong {
		cells, err := json.Marshal(w.Cells)
		if err != nil {
			return err
		}
		rows[n] = []any{i.ID, w.Row, string(cells), w.Error}
	}
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		result, err := s.exec(ctx, tx, `UPDATE import SET state = ?, fault = ?, done = ?, created = ?, updated = ?, conflict = ?, duplicate = ?, rejected = ?, started_at = ?, done_at = ?
			WHERE id = ? AND done = ? AND state IN ('waiting', 'running')`,
			string(i.State), i.Fault, i.Done, i.Created, i.Updated, i.Conflict, i.Duplicate, i.Rejected, millis(i.StartedAt), millis(i.DoneAt), i.ID, from)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, registry.ErrStale)
		}
		if err := s.insert(ctx, tx, "import_error", []string{"import", "n", "cells", "error"}, rows, ""); err != nil || !i.Over() {
			return err
		}
		_, err = s.exec(ctx, tx, "DELETE FROM import_chunk WHERE import = ?", i.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the progress of an import: %w", err)
	}
	return nil
}

// ImportErrors returns at most limit rows of an import that somebody must look at, from those after row on.
func (s *Store) ImportErrors(ctx context.Context, id int64, row, limit int) ([]ImportError, error) {
	var all []ImportError
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		var w ImportError
		var cells string
		if err := rows.Scan(&w.Row, &cells, &w.Error); err != nil {
			return err
		}
		all = append(all, w)
		return json.Unmarshal([]byte(cells), &all[len(all)-1].Cells)
	}, "SELECT n, cells, error FROM import_error WHERE import = ? AND n > ? ORDER BY n LIMIT ?", id, row, limit)
	if err != nil {
		return nil, fmt.Errorf("read the errors of an import: %w", s.explain(err))
	}
	return all, nil
}

// Identity is what a farmer is known by.
type Identity struct {
	UID        string
	Version    int
	NameKey    string // registry.Fold("family given")
	VillageKey string
	BirthDate  string
	NationalID string
	Area       string
	Status     string
	CreatedAt  time.Time
}

const identityColumns = "SELECT uid, version, name_key, village_key, birth_date, national_id, area, status, created_at FROM farmer "

// identities calls see with farmers, without tombstones.
func (s *Store) identities(ctx context.Context, on querier, see func(Identity), where string, args ...any) error {
	return s.each(ctx, on, func(rows *sql.Rows) error {
		var i Identity
		var created int64
		err := rows.Scan(&i.UID, &i.Version, &i.NameKey, &i.VillageKey, &i.BirthDate, &i.NationalID, &i.Area, &i.Status, &created)
		i.CreatedAt = fromMillis(created)
		if err == nil {
			see(i)
		}
		return err
	}, identityColumns+"WHERE NOT deleted AND "+where, args...)
}

// Identities finds the farmers, tombstones left out, that have one of these uids, one of these national ids, or one of
// these pairs of a folded village and a folded name ("family given").
func (s *Store) Identities(ctx context.Context, uids, ids []string, named [][2]string) (map[string]Identity, error) {
	found := map[string]Identity{}
	see := func(i Identity) { found[i.UID] = i }
	var pairs []any
	for _, p := range named {
		pairs = append(pairs, p[0], p[1])
	}
	for _, by := range []struct {
		where string
		args  []any
	}{
		{"uid IN " + list(max(len(uids), 1)), anys(uids)},
		{"national_id <> '' AND national_id IN " + list(max(len(ids), 1)), anys(ids)},
		{"(village_key, name_key) IN (VALUES " + values(len(named), 2) + ")", pairs},
	} {
		if len(by.args) == 0 {
			continue
		}
		if err := s.identities(ctx, s.db, see, by.where, by.args...); err != nil {
			return nil, fmt.Errorf("find farmers: %w", s.explain(err))
		}
	}
	return found, nil
}

func anys(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}

// values is rows of placeholders: (?, ?), (?, ?).
func values(rows, columns int) string {
	if rows == 0 {
		return ""
	}
	one := list(columns)
	return one + strings.Repeat(", "+one, rows-1)
}
