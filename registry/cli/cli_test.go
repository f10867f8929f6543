package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
	"tidemark/registry/store/sqlite"
)

func run(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = Run(args, &out, &err)
	return code, out.String(), err.String()
}

func TestMistakes(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2") // that serve be not frugal with this process
	t.Setenv("GOMEMLIMIT", "1GiB")
	db := makeDB(t)
	for _, c := range []struct{ line, want string }{
		{"serv", `unknown command "serv"`},
		{"serve", `required flag(s) "db" not set`},
		{"serve --db " + db + "x --listen 127.0.0.1:0", "make one with `registry seed"},
		{"serve --db " + db + "x --listen 127.0.0.1:0 --workers 2", "make one with `registry seed"},
		{"serve --db " + db + " --listen 8069", "write --listen 127.0.0.1:8069"},
		{"serve --db " + db + " --listen 127.0.0.1:0 --workers 0", "needs at least 1"},
		{"serve --db " + db + " --listen 127.0.0.1:0 --workers 1000", "from 1 to 512"},
		{"serve --db " + db + " --backlog 0", "--backlog 0"},
		{"serve --db " + db + " --think 20", "missing unit"},
		{"serve --db " + db + " --think -1s", "cannot be negative"},
		{"serve --db " + db + " --listen 127.0.0.1:0 --pid-file /no/such/folder/pid", "pid file"},
		{"serve --db " + db + " --trusted-proxy nginx", "write an address such as 10.0.0.5"},
		{"serve --db " + db + " extra", "unknown command"},
		{"seed", `required flag(s) "db" not set`},
		{"seed --db " + db, "exists"},
		{"seed --db x --farmers -1", "from 0 to"},
		{"seed --db x --farmers many", "invalid"},
		{"sync-log", `required flag(s) "db" not set`},
		{"sync-log --db " + db + " --limit 0", "--limit 0"},
		{"worker --db " + db + " --fd 99", "not by hand"},
		{"worker --db " + db + " --slot -1", "no such slot"},
	} {
		code, stdout, stderr := run(strings.Fields(c.line)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("registry %s: exit %d\n%s%s\nwant %q", c.line, code, stdout, stderr, c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"seed", "--help"}, {"version", "--help"}, {"sync-log", "--help"}, {"work", "--help"}, {"import", "--help"}, {"export", "--help"}} {
		code, stdout, stderr := run(args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Examples:\n  registry ") {
			t.Errorf("registry %v: exit %d, no example in\n%s%s", args, code, stdout, stderr)
		}
		if strings.Contains(stdout, "under a master") {
			t.Errorf("registry %v speaks of the worker command", args)
		}
	}
	if code, stdout, _ := run("version"); code != 0 || !strings.HasPrefix(stdout, "registry ") {
		t.Errorf("version: %d %s", code, stdout)
	}
}

func TestSeed(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := run("seed", "--db", filepath.Join(dir, "a.db"), "--farmers", "1000", "--seed", "3", "--json")
	var got seeded
	if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil || stderr != "" {
		t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if got.Farmers != 1000 || got.Seed != 3 || got.Villages < 100 || got.Bytes == 0 || got.Seconds <= 0 || len(got.Sample) != samples || got.Sample[0].UID == got.Sample[99].UID {
		t.Errorf("%+v", got)
	}
	code, stdout, _ = run("seed", "--db", filepath.Join(dir, "b.db"), "--farmers", "1000", "--seed", "3")
	if code != 0 || !strings.Contains(stdout, "1000 farmers in 2") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	a, _ := os.ReadFile(filepath.Join(dir, "a.db"))
	b, _ := os.ReadFile(filepath.Join(dir, "b.db"))
	if !bytes.Equal(a, b) {
		t.Error("the same seed makes two different files")
	}
	if code, stdout, _ = run("seed", "--db", filepath.Join(dir, "c.db"), "--farmers", "0", "--json"); code != 0 || !strings.Contains(stdout, `"sample":[]`) {
		t.Errorf("no farmers: exit %d: %s", code, stdout)
	}
}

func TestSyncLog(t *testing.T) {
	db := makeDB(t)
	if code, stdout, stderr := run("sync-log", "--db", db); code != 0 || !strings.Contains(stdout, "no synchronisations") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	s, err := sqlite.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC)
	for _, e := range []store.SyncEntry{
		{Device: "tablet-7", At: at, Took: 40 * time.Millisecond, Op: "push", Batch: "b-1", App: "dfr/2.1", Protocol: 1, Schema: 1, Status: 200, Received: 900, Sent: 400, Records: 3, More: true,
			Outcomes: map[registry.Outcome]int{registry.Created: 2, registry.Conflict: 1}},
		{Device: "tablet-8", At: at, Op: "push", Status: 409, Problem: "The app is too old"},
	} {
		if err := s.LogSync(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, both, _ := run("sync-log", "--db", db)
	_, one, _ := run("sync-log", "--db", db, "--device", "tablet-7")
	if !strings.Contains(both, "409: The app is too old") || strings.Contains(one, "tablet-8") {
		t.Errorf("all:\n%s\none:\n%s", both, one)
	}
	for _, part := range []string{"2026-11-23 09:00:00", "push", "b-1", "dfr/2.1", "1/1", "40ms", "900 B", "1 conflict, 2 created", "more to pull"} {
		if !strings.Contains(one, part) {
			t.Errorf("no %q in\n%s", part, one)
		}
	}
	if _, text, _ := run("sync-log", "--db", db, "--json"); !strings.Contains(text, `"outcomes":{"conflict":1,"created":2}`) {
		t.Errorf("as JSON: %s", text)
	}
}
