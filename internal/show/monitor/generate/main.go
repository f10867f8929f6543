// Command generate writes what package monitor makes into the source tree whose root is its argument.
package main

import (
	"errors"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"tidemark/internal/show/monitor"
)

func main() {
	log.SetFlags(0)
	for _, f := range monitor.Files {
		if err := write(filepath.Join(os.Args[1], f.Path), f.Make); err != nil {
			log.Fatalf("%s: %v", f.Path, err)
		}
	}
}

func write(path string, make func([]byte) ([]byte, error)) error {
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := make(before)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
