package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"

	"tidemark/internal/record/tables"
)

// writer is the one connection that writes, and what it knows of the file. It belongs to one goroutine. Closed, it opens
// itself again at the next transaction.
type writer struct {
	tables.Writer
	path    string
	db      *sql.DB
	file    os.FileInfo
	full    bool // the disk was, at the last transaction
	readers *Reader
}

// Transact runs work in a transaction. A connection that may be broken is opened anew for the next one.
func (w *writer) Transact(ctx context.Context, work func(context.Context, *tables.Writer) error) error {
	if w.moved() {
		w.drop()
	}
	err := w.transact(ctx, work)
	if err != nil && worthReopening(err) {
		w.drop()
	}
	return err
}

// drop closes all connections; what the writer's wrote last is lost already, or its error is told.
func (w *writer) drop() {
	w.readers.forget()
	_ = w.close()
}

// Close ends the readers first: the last one to close tidies the file.
func (w *writer) Close() error { return errors.Join(w.readers.Close(), w.close()) }

func (w *writer) open(ctx context.Context) error {
	db, conn, err := openWriter(ctx, w.path)
	if err != nil {
		return explain(w.path, err)
	}
	w.db = db
	w.Use(conn)
	w.file, err = os.Stat(w.path)
	return explain(w.path, err)
}

func (w *writer) close() error {
	if w.db == nil {
		return nil
	}
	err := errors.Join(w.Writer.Close(), w.db.Close())
	w.db = nil
	return err
}

// moved reports that the file that is open is no longer the one at the path: what is written to it would be lost.
func (w *writer) moved() bool {
	if w.db == nil {
		return false
	}
	now, err := os.Stat(w.path)
	return err != nil || !os.SameFile(now, w.file)
}

// transact runs work in one transaction, all of it or nothing.
func (w *writer) transact(ctx context.Context, work func(context.Context, *tables.Writer) error) error {
	if w.db == nil {
		if _, err := os.Stat(w.path); err != nil {
			return &Error{Kind: ErrMissing, Path: w.path, Hint: "the file was moved or removed; bring it back, or restart Tidemark to begin anew", Err: err}
		}
		if err := w.open(ctx); err != nil {
			return err
		}
	}
	if w.full { // the log, moved into the file, can be written from its start again: that needs less than to let it grow
		w.checkpoint(ctx)
	}
	err := w.try(ctx, work)
	w.full = errors.Is(err, ErrFull)
	return err
}

// checkpoint moves the log into the file, as far as there is room and nobody reads it. Should it not succeed, the log grows.
func (w *writer) checkpoint(ctx context.Context) {
	_, _ = w.Conn().ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
}

func (w *writer) try(ctx context.Context, work func(context.Context, *tables.Writer) error) error {
	_, err := w.Conn().ExecContext(ctx, "BEGIN IMMEDIATE")
	if err == nil {
		err = work(ctx, &w.Writer)
	}
	if err == nil {
		err = w.Flush(ctx)
	}
	if err == nil {
		_, err = w.Conn().ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = w.Conn().ExecContext(ctx, "ROLLBACK") // SQLite may have done it already
		w.Forget()
	}
	return explain(w.path, err)
}
