// Package sqlite keeps the journal in one SQLite file: the state of each fleet, its decisions and events, its readings
// (raw for days) and their roll-ups (for years). It owns the file, its layout, its size and its recovery; what is in a
// tick, and what an event means, is record's and fleet's.
//
// One goroutine writes; commits that wait while it syncs to the disk share the next transaction. Readers never wait for
// it, nor it for them (write-ahead log).
package sqlite

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"tidemark/internal/record"
)

// Journal is a journal open for writing. Its methods may be called at the same time.
type Journal struct {
	*Reader
	keep    record.Retention
	commits chan *commit // unbuffered: what is not taken can still be given up
	jobs    chan *job
	quit    chan struct{}
	once    sync.Once
	done    chan struct{} // closed when the writer has ended
	closing error         // what closing brought, once done is closed
}

// defaults are the ages and the size of record.Retention.
var defaults = record.Retention{
	Raw: 7 * day, Minutes: 90 * day, Hours: 5 * 365 * day, Decisions: 400 * day, MaxBytes: 2 << 30,
}

const day = 24 * time.Hour

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
	j := &Journal{
		keep: record.Retention{
			Raw: cmp.Or(keep.Raw, defaults.Raw), Minutes: cmp.Or(keep.Minutes, defaults.Minutes),
			Hours: cmp.Or(keep.Hours, defaults.Hours), Decisions: cmp.Or(keep.Decisions, defaults.Decisions),
			MaxBytes: cmp.Or(keep.MaxBytes, defaults.MaxBytes),
		},
		commits: make(chan *commit), jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{}),
	}
	w := &writer{path: path}
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	if j.Reader, err = newReader(path, nil); err != nil {
		return nil, errors.Join(err, w.close())
	}
	go j.run(w)
	return j, nil
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

// Close ends the writer after the transaction that runs. Commits that still wait get ErrClosed.
func (j *Journal) Close() error {
	j.once.Do(func() { close(j.quit) })
	<-j.done
	return j.closing
}

// Commit stores all ticks or none. When it returns nil they are on the disk. It can be given up through ctx while it waits
// for its turn; once it is being written its outcome is waited for, so that an error always means "not stored".
//
// A tick without State leaves the fleet's state as it is; one that has neither State, Readings nor a known Size leaves only
// its decision and events.
func (j *Journal) Commit(ctx context.Context, ticks ...record.Tick) error {
	c := &commit{rows: make([]row, len(ticks)), done: make(chan error, 1)}
	for i := range ticks {
		var err error
		if c.rows[i], err = newRow(&ticks[i]); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case j.commits <- c:
		return <-c.done
	case <-ctx.Done():
		return ctx.Err()
	case <-j.done:
		return ErrClosed
	}
}

// commit is one call of Commit on its way to the writer.
type commit struct {
	rows []row
	done chan error
}

// job is a piece of maintenance on its way to the writer.
type job struct {
	work func(context.Context, *writer) error
	done chan error
}

// do has the writer run a piece of maintenance in a transaction. Commits go first.
func (j *Journal) do(ctx context.Context, work func(context.Context, *writer) error) error {
	b := &job{work: work, done: make(chan error, 1)}
	select {
	case j.jobs <- b:
		return <-b.done
	case <-ctx.Done():
		return ctx.Err()
	case <-j.done:
		return ErrClosed
	}
}

// run is the writer's goroutine.
func (j *Journal) run(w *writer) {
	defer close(j.done)
	ctx := context.Background() // a transaction that has begun is never cut short
	for {
		select {
		case c := <-j.commits: // before maintenance
			j.commit(ctx, w, c)
			continue
		default:
		}
		select {
		case c := <-j.commits:
			j.commit(ctx, w, c)
		case b := <-j.jobs:
			b.done <- j.transact(ctx, w, b.work)
		case <-j.quit:
			j.closing = errors.Join(j.Reader.Close(), w.close()) // the last one to close tidies the file
			return
		}
	}
}

// together is how many ticks at most share a transaction, so that none takes long after a time without a disk.
const together = 4096

// commit stores the given commit and others that wait now.
func (j *Journal) commit(ctx context.Context, w *writer, first *commit) {
	all := []*commit{first}
	for n := len(first.rows); n < together; {
		select {
		case c := <-j.commits:
			all = append(all, c)
			n += len(c.rows)
			continue
		default:
		}
		break
	}
	err := j.transact(ctx, w, func(ctx context.Context, w *writer) error {
		for _, c := range all {
			for i := range c.rows {
				if err := w.put(ctx, &c.rows[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for _, c := range all {
		c.done <- err
	}
}

// transact runs work in a transaction. A connection that may be broken is opened anew for the next one.
func (j *Journal) transact(ctx context.Context, w *writer, work func(context.Context, *writer) error) error {
	if w.moved() {
		j.forget()
		_ = w.close() // what it wrote last is lost already
	}
	err := w.transact(ctx, work)
	if err != nil && worthReopening(err) {
		j.forget()
		_ = w.close() // the error that counts is err
	}
	return err
}
