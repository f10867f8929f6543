// Package atomicfile replaces files so that, also after a power cut, there is the old one or the new one, whole.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts data in the place of a file. prepare, unless nil, sees the new file before it takes that place: to give it an owner.
func Write(path string, data []byte, mode fs.FileMode, prepare func(*os.File) error) error {
	// A name of its own: two may write at once. It begins with a dot, so that nobody takes it for one of the folder's files.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode))
	if err == nil && prepare != nil {
		err = prepare(f)
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one that matters
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
