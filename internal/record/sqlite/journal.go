// Package sqlite keeps the journal in one SQLite file. It owns the file, its layout, its size and its recovery; what is in the tables is
// tables' matter. Readers never wait for the writer, nor it for them (write-ahead log).
package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"tidemark/internal/record"
	"tidemark/internal/record/tables"
)

// Journal is a journal open for writing. Its methods may be called at the same time.
type Journal struct {
	*tables.Journal
	file *Reader
}

// Check is Reader.Check.
func (j *Journal) Check(ctx context.Context) error { return j.file.Check(ctx) }

// Open opens the journal at path, and makes it if there is none. Its folder must exist. A file that cannot be read is
// never replaced: the error says what is wrong (ErrCorrupt, ErrForeign, ErrNewer, ErrReadOnly, ErrFull ...) and what to do.
func Open(ctx context.Context, path string, keep record.Retention) (*Journal, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, path); err != nil {
		return nil, explain(path, err)
	}
	w := &writer{path: path}
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	r, err := newReader(path, nil)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	w.Dialect, w.readers = r.Dialect, r
	return &Journal{tables.New(w, r.Reader, keep), r}, nil
}

// prepare makes the file if nothing is there.
func prepare(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return &Error{Kind: ErrForeign, Path: path, Hint: "it is a folder; name a file in it"}
	case err == nil && info.Size() == 0:
		return &Error{Kind: ErrCorrupt, Path: path, Hint: "it is empty; " + hintCorrupt}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return &Error{Kind: ErrMissing, Path: path, Hint: "its folder is not there; make it, or mount its disk", Err: err}
	}
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		return &Error{Kind: ErrMissing, Path: path, Hint: "its -wal is there and it is not; bring the file back, or move the -wal aside to begin anew"}
	}
	return create(ctx, path)
}
