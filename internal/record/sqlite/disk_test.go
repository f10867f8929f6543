package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"tidemark/internal/record"
)

// smallDisk is a file system of 2 MB, gone after the test.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs root, to mount a small tmpfs: %v", err)
		}
		t.Skipf("needs root, to mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	path, ballast := filepath.Join(dir, "journal.db"), filepath.Join(dir, "ballast")
	write(t, ballast, make([]byte, 1<<20))
	j := mustOpen(t, path, record.Retention{})
	n := 0
	for range 3 { // full, freed, full again
		var err error
		for err == nil {
			if err = j.Commit(ctx, number("f", n)); err == nil {
				n++
			}
			if n > 100_000 {
				t.Fatal("the disk never gets full")
			}
		}
		wanted := fmt.Sprintf("journal: no space left on device at %s: free some space; Tidemark holds until it can write", path)
		if !errors.Is(err, ErrFull) || err.Error() != wanted {
			t.Fatalf("got  %v\nwant %v", err, wanted)
		}
		if err := j.Maintain(ctx, begin); err != nil && !errors.Is(err, ErrFull) {
			t.Fatalf("Maintain: %v", err)
		}
		checkNumbers(t, j.file, "f", n) // nothing half-written, and questions are still answered
		for range 10 {
			if err := j.Commit(ctx, number("f", n)); !errors.Is(err, ErrFull) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
		}
		info, err := os.Stat(ballast)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(ballast, info.Size()-300<<10); err != nil {
			t.Fatal(err)
		}
		commitNumbers(t, j, n, n+20) // by itself
		n += 20
		checkNumbers(t, j.file, "f", n)
	}
	t.Logf("%d ticks", n)
	if err := j.Check(ctx); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, mustOpen(t, path, record.Retention{}).file, "f", n)
}

func TestNoRoomForAJournal(t *testing.T) {
	dir := smallDisk(t)
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	path := filepath.Join(dir, "journal.db")
	if _, err := Open(ctx, path, record.Retention{}); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v", err)
	}
	if err := errors.Join(f.Truncate(0), f.Close()); err != nil {
		t.Fatal(err)
	}
	commitNumbers(t, mustOpen(t, path, record.Retention{}), 0, 1)
}

func TestDiskTurnedReadOnly(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "journal.db")
	j := mustOpen(t, path, record.Retention{})
	commitNumbers(t, j, 0, 10)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, "size=2m"); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	if _, err := Open(ctx, path, record.Retention{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Open: %v", err)
	}
	r, err := OpenReadOnly(ctx, path) // and who only asks is answered
	if err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, r, "f", 10)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	remount(0)
	commitNumbers(t, mustOpen(t, path, record.Retention{}), 10, 20)
}
