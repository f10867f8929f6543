package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// book keeps what has been worked out, one line each, so that a run that was broken off goes on where it was. What another build of this command, and so
// perhaps other rules, worked out does not count. The zero value keeps nothing.
type book struct {
	mu    sync.Mutex
	build string
	known map[string]json.RawMessage
	file  *os.File
}

// entry is a line.
type entry struct {
	Build string          `json:"build"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

func openBook(folder string) (*book, error) {
	build, err := self()
	if err != nil {
		return nil, fmt.Errorf("read this command, to tell its results from another's: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	b := &book{build: build, known: map[string]json.RawMessage{}}
	name := filepath.Join(folder, "control.progress.jsonl")
	old, err := os.Open(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		defer old.Close()
		lines := bufio.NewScanner(old)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var e entry
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Build == build { // a line that was cut off is worked out again
				b.known[e.Key] = e.Value
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	b.file, err = os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	return b, err
}

// self is the checksum of this command.
func self() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// recall fills v with what is known under a key; work works it out otherwise, and it is kept.
func (b *book) recall(key string, v any, work func() error) error {
	b.mu.Lock()
	old, known := b.known[key]
	b.mu.Unlock()
	if known {
		return json.Unmarshal(old, v)
	}
	if err := work(); err != nil || b.file == nil {
		return err
	}
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	line, err := json.Marshal(entry{b.build, key, value})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err = b.file.Write(append([]byte("\n"), line...)) // the line break first: the line before may have been cut off
	return err
}

func (b *book) close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}
