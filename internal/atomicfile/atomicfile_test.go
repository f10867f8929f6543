package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "it")
	holds := func(text string, mode fs.FileMode) {
		t.Helper()
		got, err := os.ReadFile(path)
		st, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(got) != text || st.Mode().Perm() != mode {
			t.Errorf("%q, %v, %v; want %q, %v", got, st.Mode(), errors.Join(err, statErr), text, mode)
		}
		if all, _ := os.ReadDir(dir); len(all) != 1 {
			t.Errorf("there is more than the file: %v", all)
		}
	}
	if err := Write(path, []byte("one"), 0o640, nil); err != nil {
		t.Fatal(err)
	}
	holds("one", 0o640)
	if err := Write(path, []byte("two"), 0o600, func(f *os.File) error {
		holds2, err := os.ReadFile(path)
		if string(holds2) != "one" {
			t.Errorf("the old file is gone before the new one is whole: %q, %v", holds2, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	holds("two", 0o600)
	no := errors.New("no")
	if err := Write(path, []byte("three"), 0o600, func(*os.File) error { return no }); !errors.Is(err, no) {
		t.Errorf("refused: %v", err)
	}
	holds("two", 0o600)
	if err := Write(filepath.Join(dir, "none", "it"), nil, 0o600, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into no folder: %v", err)
	}
}
