package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/registry/exchange"
	"tidemark/registry/metrics"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
	"tidemark/test/servers"
)

// rows is a CSV file of n farmers, no two of whom are alike.
func rows(n int) string {
	var b strings.Builder
	b.WriteString("given_name,family_name,birth_date,village,island\n")
	for i := range n {
		fmt.Fprintf(&b, "Tere%c%c%c,Puna,%s,Arorangi,Rarotonga\n", 'a'+i%26, 'a'+i/26%26, 'a'+i/676, time.Date(1950, 1, 1+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly))
	}
	return b.String()
}

// background runs a command of the registry until the test ends, and keeps what it says.
func background(t *testing.T, args ...string) (cmd *exec.Cmd, log string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd = exec.Command(program, args...)
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // perhaps it has ended
		_ = cmd.Wait()
		if text, err := os.ReadFile(out.Name()); t.Failed() {
			t.Logf("registry %s: %v\n%s", strings.Join(args, " "), err, text)
		}
	})
	return cmd, out.Name()
}

// The workers are killed again and again while they import: every row is stored once and counted once, and the search for
// duplicates comes to its end.
func TestKilledWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: kills workers under load")
	}
	const n = 1500
	db := makeDB(t)
	s, err := sqlite.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id, err := exchange.Upload(t.Context(), s, operator(), time.Now(), "a.csv", strings.NewReader(rows(n)))
	if err != nil {
		t.Fatal(err)
	}
	done := func() int {
		i, err := exchange.ImportByID(t.Context(), s, id)
		if err != nil {
			t.Fatal(err)
		}
		return i.Done
	}
	work := func() (*exec.Cmd, string) { return background(t, "work", "--db", db, "--beat", "1s", "--poll", "10ms") }
	for kills := 0; kills < 2; kills++ {
		cmd, _ := work()
		was := done()
		eventually(t, "the import advances", func() bool { return done() > was })
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
	}
	cmd, said := work()
	eventually(t, "all is done", func() bool {
		b, err := s.Backlog(t.Context(), time.Now())
		return err == nil && done() == n && b.Jobs == 0
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	i, _ := exchange.ImportByID(t.Context(), s, id)
	counts, err := s.Counts(t.Context())
	if err != nil || i.State != store.ImportDone || i.Created != n || counts["farmer"] != 100+n {
		t.Errorf("%+v\n%d farmers; %v", i, counts["farmer"], err)
	}
	text, err := os.ReadFile(said)
	if err != nil || !strings.Contains(string(text), "(import) done in") || !strings.Contains(string(text), "(dedup) done in") {
		t.Errorf("%v\n%s", err, text)
	}
	if strings.Contains(string(text), "Tere") || strings.Contains(string(text), "Puna") {
		t.Error("the log names people")
	}
}

// What the metrics say of the queue is what the database knows, and nothing while it is away.
func TestQueueMetrics(t *testing.T) {
	pg := servers.Postgres(t, "fsync=off")
	pg.CreateDB("dfr")
	s, err := postgres.Open(t.Context(), pg.URL("dfr"), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var said bytes.Buffer
	handler := metrics.NewJobs().Handler(backlog(s, log.New(&said, "", 0)))
	scrape := func() (values map[string]string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		values = map[string]string{}
		body, err := io.ReadAll(w.Result().Body)
		if err != nil || w.Code != http.StatusOK {
			t.Fatal(w.Code, err)
		}
		for line := range strings.Lines(string(body)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
				values[name] = value
			}
		}
		return values
	}
	enqueue := func(age, wait time.Duration) {
		t.Helper()
		now := time.Now()
		if err := s.Enqueue(context.Background(), now.Add(-age), store.Job{Channel: "root", Method: "x", ETA: now.Add(wait)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := scrape(); got["registry_queue_runnable"] != "0" || got["registry_queue_oldest_seconds"] != "0" {
		t.Error(got)
	}
	enqueue(time.Hour, time.Hour)                                                           // not due
	enqueue(2*time.Hour, -90*time.Second)                                                   // due for a minute and a half
	enqueue(30*time.Second, -100*time.Second)                                               // due since it was made
	if _, err := s.Claim(t.Context(), time.Now(), time.Now().Add(-time.Hour)); err != nil { // the one of 90 s runs
		t.Fatal(err)
	}
	got := scrape()
	var oldest float64
	if _, err := fmt.Sscan(got["registry_queue_oldest_seconds"], &oldest); err != nil || got["registry_queue_runnable"] != "1" || oldest < 30 || oldest > 89 {
		t.Error(got, err)
	}
	pg.Stop()
	got = scrape()
	for _, name := range []string{"registry_queue_runnable", "registry_queue_oldest_seconds", "active_mobile_sync_sessions"} {
		if v, there := got[name]; there {
			t.Errorf("the database is away and %s is %s", name, v)
		}
	}
	if !strings.Contains(said.String(), "the metrics lack what the database knows") {
		t.Error(said.String())
	}
	pg.Start()
	if got := scrape(); got["registry_queue_runnable"] != "1" {
		t.Error(got)
	}
}

func TestImportExport(t *testing.T) {
	db := makeDB(t)
	dir := t.TempDir()
	list, wrong := filepath.Join(dir, "list.csv"), filepath.Join(dir, "wrong.csv")
	if err := os.WriteFile(list, []byte(rows(20)+"Tama,Pokino,31/12/1978,Arorangi,Rarotonga\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := run("import", "--db", db, list, "--errors", wrong)
	if want := "import 1 of list.csv: done, 21 of 21 rows: 20 created, 0 updated, 0 in conflict, 0 duplicate, 1 rejected\n"; code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if text, err := os.ReadFile(wrong); err != nil || !strings.Contains(string(text), "Tama,Pokino,31/12/1978,Arorangi,Rarotonga,birth_date: must be a date such as 1978-03-09: write 1978-12-31 instead of 31/12/1978") {
		t.Errorf("%v\n%s", err, text)
	}
	if code, stdout, _ := run("import", "--db", db, "--resume", "1", "--json"); code != 0 || !strings.Contains(stdout, `"state":"done"`) {
		t.Errorf("exit %d\n%s", code, stdout)
	}
	if code, stdout, stderr := run("export", "--db", db, "--island", "Rarotonga"); code != 0 || strings.Count(stdout, "\n") < 21 || stderr != "" {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	for line, want := range map[string]string{
		"import --db " + db:                       "give a file to import",
		"import --db " + db + " " + db:            "the header is not UTF-8",
		"import --db " + db + " --resume 7":       "no such record",
		"import --db " + db + " /no/such/file":    "no such file",
		"export --db " + db + " --status x":       "must be one of",
		"work --db " + db + " --channels x":       "write root:2,root.dedup:1",
		"work --db " + db + " --beat 1ms":         "--beat at least 1s",
		"work --db " + db + "x":                   "make one with `registry seed",
		"seed --db x --farmers 1 --plots -1":      "from 0 to 100",
		"seed --db x --farmers 1 --submissions x": "invalid",
	} {
		if code, _, stderr := run(strings.Fields(line)...); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("registry %s: exit %d\n%s\nwant %q", line, code, stderr, want)
		}
	}
}
