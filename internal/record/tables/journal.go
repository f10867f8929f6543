// Package tables keeps the journal in the tables of an SQL database: the state of each fleet, its decisions and events, its readings
// (raw for days) and their roll-ups (for years). It has what sqlite and postgres have in common: the rows of a tick, the questions, the
// roll-ups and the retention. Connections, layout, size and recovery are theirs.
//
// One goroutine writes; commits that wait while it does share the next transaction. Readers never wait for it, nor it for them.
package tables

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"tidemark/internal/record"
)

// Journal is a journal open for writing. Its methods may be called at the same time.
type Journal struct {
	*Reader
	store   Store
	keep    record.Retention
	commits chan *commit // unbuffered: what is not taken can still be given up
	jobs    chan *job
	quit    chan struct{}
	once    sync.Once
	done    chan struct{} // closed when the writer has ended
	closing error         // what closing brought, once done is closed
}

// Store is the database, to the one goroutine that writes.
type Store interface {
	// Transact runs work in one transaction, all of it or nothing. An error means that nothing of it is there.
	Transact(ctx context.Context, work func(context.Context, *Writer) error) error
	// Close ends it; the readers' connections are its own too.
	Close() error
}

// New begins to write to a store. Close ends it.
func New(store Store, reader *Reader, keep record.Retention) *Journal {
	j := &Journal{
		Reader: reader, store: store,
		keep: record.Retention{
			Raw: cmp.Or(keep.Raw, defaults.Raw), Minutes: cmp.Or(keep.Minutes, defaults.Minutes),
			Hours: cmp.Or(keep.Hours, defaults.Hours), Decisions: cmp.Or(keep.Decisions, defaults.Decisions),
			MaxBytes: cmp.Or(keep.MaxBytes, defaults.MaxBytes),
		},
		commits: make(chan *commit), jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go j.run()
	return j
}

// MaxBytes is how large the store may be.
func (j *Journal) MaxBytes() int64 { return j.keep.MaxBytes }

// defaults are the ages and the size of record.Retention.
var defaults = record.Retention{
	Raw: 7 * day, Minutes: 90 * day, Hours: 5 * 365 * day, Decisions: 400 * day, MaxBytes: 2 << 30,
}

// ErrClosed: the journal was closed.
var ErrClosed = errors.New("journal: closed")

const day = 24 * time.Hour

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
	work func(context.Context, *Writer) error
	done chan error
}

// Do has the writer run a piece of maintenance in a transaction. Commits go first.
func (j *Journal) Do(ctx context.Context, work func(context.Context, *Writer) error) error {
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
func (j *Journal) run() {
	defer close(j.done)
	ctx := context.Background() // a transaction that has begun is never cut short
	for {
		select {
		case c := <-j.commits: // before maintenance
			j.commit(ctx, c)
			continue
		default:
		}
		select {
		case c := <-j.commits:
			j.commit(ctx, c)
		case b := <-j.jobs:
			b.done <- j.store.Transact(ctx, b.work)
		case <-j.quit:
			j.closing = j.store.Close()
			return
		}
	}
}

// together is how many ticks at most share a transaction, so that none takes long after a time without a disk.
const together = 4096

// commit stores the given commit and others that wait now.
func (j *Journal) commit(ctx context.Context, first *commit) {
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
	err := j.store.Transact(ctx, func(ctx context.Context, w *Writer) error {
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
