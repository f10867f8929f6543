package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"tidemark/internal/record/tables"
)

// Reader answers questions about what was recorded; see tables.Reader.
type Reader struct {
	*tables.Reader
	path string
}

// OpenReadOnly opens a journal for questions only, whether or not a daemon has it open. It works on a file that the user
// may read and not write.
func OpenReadOnly(ctx context.Context, path string) (*Reader, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Kind: ErrMissing, Path: path, Hint: "nothing was recorded yet, or state_dir names another folder", Err: err}
	}
	r, err := newReader(path, nil)
	if err != nil {
		return nil, err
	}
	err = r.inspect(ctx)
	if errors.Is(err, ErrReadOnly) && !logged(path) {
		// SQLite wants to write beside the file. Without a log there is nothing to read there, and nobody is writing.
		_ = r.Close()
		if r, err = newReader(path, url.Values{"immutable": {"1"}}); err != nil {
			return nil, err
		}
		err = r.inspect(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func newReader(path string, more url.Values) (*Reader, error) {
	db, err := openFile(path, "ro", more)
	if err != nil {
		return nil, explain(path, err)
	}
	return &Reader{tables.NewReader(db, dialect(path)), path}, nil
}

// dialect is that of the file at path.
func dialect(path string) *tables.Dialect {
	return &tables.Dialect{Explain: func(err error) error { return explain(path, err) }}
}

func logged(path string) bool {
	info, err := os.Stat(path + "-wal")
	return err == nil && info.Size() > 0
}

func (r *Reader) inspect(ctx context.Context) error {
	conn, err := r.DB.Conn(ctx)
	if err != nil {
		return explain(r.path, err)
	}
	defer func() { _ = conn.Close() }() // back to the pool
	version, err := inspect(ctx, conn, r.path)
	if err == nil && version == 0 {
		err = &Error{Kind: ErrForeign, Path: r.path, Hint: "its layout is unknown"}
	}
	return explain(r.path, err)
}

// forget closes the connections at rest, which may be to a file that is no longer there.
func (r *Reader) forget() {
	r.DB.SetMaxIdleConns(0)
	r.DB.SetMaxIdleConns(tables.IdleReaders)
}

// Check reads the whole file and reports whether it is sound; it takes seconds for a large one.
func (r *Reader) Check(ctx context.Context) error {
	found, err := tables.Rows(ctx, r.Reader, "PRAGMA quick_check(3)", nil, func(s *sql.Rows) (line string, err error) { return line, s.Scan(&line) })
	if err == nil && (len(found) != 1 || found[0] != "ok") {
		err = &Error{Kind: ErrCorrupt, Path: r.path, Hint: strings.Join(found, "; ") + ": " + hintCorrupt}
	}
	return err
}
