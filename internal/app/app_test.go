package app

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// A start that fails leaves nothing running and nothing locked: the next one, with the mistake mended, succeeds.
func TestStartThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tidemark.yaml")
	write := func(socket string) {
		t.Helper()
		text := fmt.Sprintf("state_dir: %[1]s/state\nsocket: %[2]s\nfleets:\n  - name: f\n    target: {command: {scale: [\"true\", \"{size}\"], size: [echo, \"2\"]}}\n    bounds: {min: 2, max: 3}\n", dir, socket)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "no", "such", "folder.sock"))
	bad, err := New(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bad.Start(t.Context()); err == nil {
		t.Fatal("started without its socket")
	}
	goleak.VerifyNone(t)
	write(filepath.Join(dir, "t.sock"))
	good, err := New(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := good.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	good.Stop()
}
