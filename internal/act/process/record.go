package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is kept about a slot, so that a daemon that starts knows what the one before it did. Each file has one writer.
//
//	slot-N.json  by the daemon: this slot belongs to the fleet. The fleet's size is how many of them are not leaving
//	slot-N.pid   by the shim, before it becomes the worker: who the worker is. No such file: the worker never started
//	slot-N.lock  locked from before the fork until the shim has become the worker or has died
//	lock         locked by the daemon as long as it supervises the fleet

// wish is what the daemon wants of a slot.
type wish struct {
	Serving bool `json:"serving"` // the worker answered its health check last time
	Leaving bool `json:"leaving"` // drained and being stopped; not to be started again
	// StopSent is when the stop signal was sent, in ticks since boot; 0: perhaps not yet.
	StopSent uint64 `json:"stop_sent_ticks,omitempty"`
}

// birth is who the worker in a slot is.
type birth struct {
	identity
	Address string    `json:"address"`
	Digest  string    `json:"digest"` // of the command it was started with
	Cgroup  string    `json:"cgroup,omitempty"`
	Started time.Time `json:"started"`
}

type records struct{ dir string }

func (r records) path(slot int, ext string) string {
	return filepath.Join(r.dir, "slot-"+strconv.Itoa(slot)+"."+ext)
}

// list returns the slots that have a record.
func (r records) list() (map[int]bool, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("read the workers' records: %w", err)
	}
	slots := map[int]bool{}
	for _, e := range entries {
		name, ext, _ := strings.Cut(strings.TrimPrefix(e.Name(), "slot-"), ".")
		n, err := strconv.Atoi(name)
		if err == nil && n > 0 && strings.HasPrefix(e.Name(), "slot-") && (ext == "json" || ext == "pid") {
			slots[n] = true
		}
	}
	return slots, nil
}

// readWish returns the zero wish when there is none: the slot belongs to the fleet.
func (r records) readWish(slot int) (w wish, err error) {
	err = readJSON(r.path(slot, "json"), &w)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return w, err
}

func (r records) readBirth(slot int) (birth, error) {
	var b birth
	err := readJSON(r.path(slot, "pid"), &b)
	if err == nil && (b.PID <= 0 || b.Start == 0 || b.BootID == "") {
		err = fmt.Errorf("read %s: the process is not named in it", r.path(slot, "pid"))
	}
	return b, err
}

func (r records) writeWish(slot int, w wish) error { return writeJSON(r.path(slot, "json"), w) }

// forget removes one of a slot's files; one that does not exist is forgotten already.
func (r records) forget(slot int, ext string) error {
	if err := os.Remove(r.path(slot, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a worker's record: %w", err)
	}
	return nil
}

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read a worker's record: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read a worker's record: %s is damaged (%w): end the processes whose environment names it in TIDEMARK_SLOT, then remove it", path, err)
	}
	return nil
}

// writeJSON replaces a file whole and durably.
func writeJSON(path string, v any) (err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write a worker's record: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write a worker's record: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write a worker's record: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write a worker's record: %w", err)
	}
	return nil
}

// lock takes a lock file, or waits for it until ctx ends. Closing the file gives the lock back, unless a child has
// inherited it: then the lock ends with the last of them.
func lock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			err = pause(ctx, 2*time.Millisecond)
		}
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("take the lock %s: %w", path, err)
		}
	}
}

// pause waits for d, or returns why it could not.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
