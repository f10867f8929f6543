package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/show/web"
)

// ages is how long a test waits for what should take no time: as long as a loaded machine may need.
const ages = time.Minute

// world is a daemon whose fleet is a number in a file, size; what it was scaled to, one after the other, stands in the file scaled.
type world struct {
	*App
	t    testing.TB
	dir  string
	path string
	tick string
	log  chan string
}

// worldConfig has a tick short enough to wait for.
const worldConfig = `
instance: {name: test}
state_dir: %[1]s
socket: %[1]s/t.sock
tick: %[4]s
%[2]s
fleets:
  - name: f
    target: {command: {scale: ["sh", "-c", "echo {size} >> %[1]s/scaled; echo {size} > %[1]s/size"], size: ["cat", "%[1]s/size"]}}
    bounds: {min: 2, max: 10}
%[3]s
`

// newWorld starts a daemon. top are settings of the file, fleet those of the fleet.
func newWorld(t testing.TB, top, fleet string) *world {
	t.Helper()
	w := emptyWorld(t, 2)
	w.write(top, fleet)
	w.start()
	return w
}

// emptyWorld is one that has not started, with a fleet of a size.
func emptyWorld(t testing.TB, size int) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, dir: dir, path: filepath.Join(dir, "tidemark.yaml"), tick: "200ms", log: make(chan string, 10_000)}
	w.put("size", strconv.Itoa(size))
	w.put("scaled", "")
	return w
}

func (w *world) start() {
	w.t.Helper()
	var err error
	if w.App, err = New(w.path, Options{Version: "test", Log: func(line string) { w.log <- line }}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.Stop) // twice is harmless
}

// scaled is what the fleet was scaled to, one after the other.
func (w *world) scaled() string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "scaled"))
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

func (w *world) put(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// write writes the configuration.
func (w *world) write(top, fleet string) {
	w.put("tidemark.yaml", fmt.Sprintf(worldConfig, w.dir, top, fleet, w.tick))
}

func (w *world) status() *control.Status { return w.Overview().Fleets[0] }

func (w *world) client() *web.Client { return web.Dial(filepath.Join(w.dir, "t.sock")) }

// eventually waits until the fleet's status is as it should be.
func (w *world) eventually(what string, ok func(*control.Status) bool) *control.Status {
	w.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(ages); ; <-ticker.C {
		st := w.status()
		if ok(st) {
			return st
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s does not come to pass: size %+v, signals %+v, decision %+v", what, st.Size, st.Signals, st.Decision)
		}
	}
}

// signal is a signal's state by name.
func signal(st *control.Status, name string) *control.SignalStatus {
	for i := range st.Signals {
		if st.Signals[i].Name == name {
			return &st.Signals[i]
		}
	}
	return &control.SignalStatus{}
}

// logged is what was logged so far.
func (w *world) logged() string {
	var b strings.Builder
	for {
		select {
		case line := <-w.log:
			b.WriteString(line + "\n")
		default:
			return b.String()
		}
	}
}

// Two reloads at once would be a mistake of the caller's; this one waits.
func (w *world) reload(top, fleet string) error {
	w.t.Helper()
	w.write(top, fleet)
	ctx, cancel := context.WithTimeout(w.t.Context(), ages)
	defer cancel()
	return w.Reload(ctx)
}
