package postgres

import (
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	mu    sync.Mutex
	files map[string]*spoolFile
}

type spoolFile struct {
	*os.File
	encode *gob.Encoder
	ticks  int
}

const (
	spoolSuffix = ".ticks"
	// maxSpool is how many ticks of a fleet are kept; later ones are not. At 15 s a tick it is two days.
	maxSpool = 12_000
)

// OpenSpool makes the folder if it is not there.
func OpenSpool(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the journal's spool: %w", err)
	}
	return &Spool{dir: dir, files: map[string]*spoolFile{}}, nil
}

// Keep adds one tick; it is on the disk when Keep returns.
func (s *Spool) Keep(t record.Tick) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[t.Fleet]
	if f == nil {
		file, err := os.OpenFile(filepath.Join(s.dir, t.Fleet+spoolSuffix), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		f = &spoolFile{File: file, encode: gob.NewEncoder(file)}
		s.files[t.Fleet] = f
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

// Forget drops what was kept of a fleet: the journal has it.
func (s *Spool) Forget(fleet string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[fleet]
	if f == nil {
		return nil
	}
	delete(s.files, fleet)
	return errors.Join(f.Close(), os.Remove(f.Name()))
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
		ticks, err := readSpool(path)
		if err != nil { // the lead does not wait for history
			log(err.Error() + "; it is moved aside to " + path + ".damaged")
			if err := os.Rename(path, path+".damaged"); err != nil {
				return taken, left, fmt.Errorf("spool: %w", err)
			}
			continue
		}
		all := len(ticks)
		err = j.Do(ctx, func(ctx context.Context, w *tables.Writer) error {
			last, err := lastTick(ctx, w, fleet)
			if err != nil {
				return err
			}
			for len(ticks) > 0 && ticks[0].Time.UnixNano() <= last {
				ticks = ticks[1:]
			}
			for i := range ticks {
				if err := w.Put(ctx, &ticks[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return taken, left, err
		}
		taken, left = taken+len(ticks), left+all-len(ticks)
		if err := os.Remove(path); err != nil {
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

// readSpool reads what is whole: the last tick may have been cut short with the power.
func readSpool(path string) (ticks []record.Tick, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	decode := gob.NewDecoder(f)
	for {
		var t record.Tick
		switch err := decode.Decode(&t); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return ticks, nil
		case err != nil:
			return nil, fmt.Errorf("spool: %s cannot be read: %w", path, err)
		}
		ticks = append(ticks, t)
	}
}
