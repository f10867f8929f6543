package postgres

import (
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tidemark/internal/record"
	"tidemark/internal/record/tables"
)

// Spool keeps on this host what PostgreSQL could not take, in one file a fleet, so that a daemon that ends meanwhile loses nothing. The next
// lead of this host takes in what is newer than the fleet's last recorded tick: the rest is there already, or another daemon led meanwhile
// and its record counts.
type Spool struct {
	dir   string
	turn  chan struct{} // holds a token while a fleet catches up: one at a time, as each takes memory
	mu    sync.Mutex    // of files
	files map[string]*spoolFile
}

// spoolFile is a fleet's, and used by one call at a time.
type spoolFile struct {
	*os.File
	encode *gob.Encoder
	ticks  int
	taken  int // of them by the journal already
}

const (
	spoolSuffix = ".ticks"
	// maxSpool is how many ticks of a fleet are kept; later ones are not. At 15 s a tick it is two days.
	maxSpool = 12_000
	// spoolPart is how many are read at once.
	spoolPart = 100
)

// OpenSpool makes the folder if it is not there.
func OpenSpool(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the journal's spool: %w", err)
	}
	return &Spool{dir: dir, turn: make(chan struct{}, 1), files: map[string]*spoolFile{}}, nil
}

// Keep adds one tick; it is on the disk when Keep returns. Fleets do not wait for each other's disk.
func (s *Spool) Keep(t record.Tick) error {
	f, err := s.file(t.Fleet)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if f.ticks >= maxSpool {
		return fmt.Errorf("spool: it holds %d ticks of fleet %s, and takes no more", f.ticks, t.Fleet)
	}
	f.ticks++
	if err := errors.Join(f.encode.Encode(&t), f.Sync()); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// file is a fleet's, made anew when it has none.
func (s *Spool) file(fleet string) (*spoolFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[fleet]; f != nil {
		return f, nil
	}
	file, err := os.OpenFile(filepath.Join(s.dir, fleet+spoolSuffix), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	f := &spoolFile{File: file, encode: gob.NewEncoder(file)}
	s.files[fleet] = f
	return f, nil
}

// Recover has commit take what was kept of a fleet since this daemon leads, oldest first and a part at a time, and drops it. After an error it
// goes on where it was.
func (s *Spool) Recover(ctx context.Context, fleet string, commit func(...record.Tick) error) error {
	s.mu.Lock()
	f := s.files[fleet]
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fmt.Errorf("spool: other fleets are catching up: %w", ctx.Err())
	}
	err := readSpool(f.Name(), f.taken, func(part []record.Tick) error {
		err := commit(part...)
		if err == nil {
			f.taken += len(part)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.files, fleet)
	s.mu.Unlock()
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// close leaves the files for the next daemon.
func (s *Spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	clear(s.files)
	return errors.Join(errs...)
}

// catchUp records what the daemon before left, and returns how many ticks were taken in and how many left out.
func (s *Spool) catchUp(ctx context.Context, j *tables.Journal, log func(string)) (taken, left int, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, 0, fmt.Errorf("spool: %w", err)
	}
	for _, e := range entries {
		fleet, ours := strings.CutSuffix(e.Name(), spoolSuffix)
		if !ours {
			continue
		}
		path := filepath.Join(s.dir, e.Name())
		var last int64 // recorded
		err := j.Do(ctx, func(ctx context.Context, w *tables.Writer) (err error) {
			last, err = lastTick(ctx, w, fleet)
			return err
		})
		if err != nil {
			return taken, left, fmt.Errorf("spool: %w", err)
		}
		newer := false // than that
		err = readSpool(path, 0, func(part []record.Tick) error {
			all := len(part)
			for !newer && len(part) > 0 {
				if newer = part[0].Time.UnixNano() > last; !newer {
					part = part[1:]
				}
			}
			err := j.Do(ctx, func(ctx context.Context, w *tables.Writer) error {
				for i := range part {
					if err := w.Put(ctx, &part[i]); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil {
				taken, left = taken+len(part), left+all-len(part)
			}
			return err
		})
		switch {
		case errors.Is(err, errSpool): // the lead does not wait for history
			log(err.Error() + "; it is moved aside to " + path + ".damaged")
			err = os.Rename(path, path+".damaged")
		case err == nil:
			err = os.Remove(path)
		}
		if err != nil {
			return taken, left, fmt.Errorf("spool: %w", err)
		}
	}
	return taken, left, nil
}

// lastTick is the time of the last tick of a fleet that is recorded; -1 without one.
func lastTick(ctx context.Context, w *tables.Writer, fleet string) (int64, error) {
	var last sql.NullInt64
	err := w.Get(ctx, "SELECT max(t) FROM ticks WHERE fleet = (SELECT id FROM fleets WHERE name = ?)", []any{fleet}, &last)
	if !last.Valid {
		last.Int64 = -1
	}
	return last.Int64, err
}

// errSpool: a file of the spool is damaged.
var errSpool = errors.New("spool")

// readSpool hands on what is whole in a file, a part at a time and without the first so many: the last tick may have been cut short with the
// power.
func readSpool(path string, skip int, each func(part []record.Tick) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	decode := gob.NewDecoder(f)
	var part []record.Tick
	for end := false; !end; {
		var t record.Tick
		switch err := decode.Decode(&t); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			end = true
		case err != nil:
			return fmt.Errorf("%w: %s cannot be read: %w", errSpool, path, err)
		case skip > 0:
			skip--
		default:
			part = append(part, t)
		}
		if len(part) == spoolPart || end && len(part) > 0 {
			if err := each(part); err != nil {
				return err
			}
			part = nil
		}
	}
	return nil
}
