package tell

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tidemark/internal/decide/alert"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("TIDEMARK_TEST_SPOOL"); dir != "" {
		putForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func notice(key string, started time.Time) alert.Notice {
	return alert.Notice{Key: key, Rule: "short", Instance: "dfr", Fleet: "odoo-workers", Severity: alert.Warning, Title: key + " is short", Lines: []string{"cpu is 92 %."}, Started: started}
}

func news(i int, key string, at time.Time) Message {
	return newMessage(Reminder, i, at, notice(key, noon))
}

func open(t *testing.T, dir string, l Limits) (*spool, []string) {
	t.Helper()
	s, notes, err := openSpool(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	return s, notes
}

func put(t *testing.T, s *spool, ms ...Message) {
	t.Helper()
	for _, m := range ms {
		if err := s.put(m); err != nil {
			t.Fatal(err)
		}
	}
}

var wide = Limits{Messages: 1000, MaxBytes: 8 << 20}

// all takes everything out one by one.
func all(t *testing.T, s *spool) (out []Message) {
	t.Helper()
	for {
		batch, entries, notes, err := s.next(Digest{}, time.UTC)
		if err != nil || len(notes) > 0 {
			t.Fatal(err, notes)
		}
		if len(batch) == 0 {
			return out
		}
		out = append(out, batch...)
		s.remove(entries...)
	}
}

func TestSpoolKeepsOrderAndIdentityAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	var want []Message
	s, _ := open(t, dir, wide)
	for i := range 300 { // past 0xff
		m := news(i, fmt.Sprint("key", i%7), noon.Add(time.Duration(-i)*time.Minute)) // a clock that runs backwards
		put(t, s, m, m)                                                               // twice is once
		want = append(want, m)
		if i%50 == 49 {
			s, _ = open(t, dir, wide)
		}
	}
	if diff := cmp.Diff(want, all(t, s)); diff != "" {
		t.Error(diff)
	}
	if s, notes := open(t, dir, wide); len(s.waiting) != 0 || len(notes) != 0 || s.bytes != 0 {
		t.Errorf("after delivery: %d wait, %v", len(s.waiting), notes)
	}
}

func TestSpoolIgnoresHalfFilesAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, wide)
	for i := range 4 {
		put(t, s, news(i, "a", noon))
	}
	cut := func(e *entry, change func([]byte) []byte) {
		b, err := os.ReadFile(s.path(e))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(e), change(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cut(s.waiting[0], func(b []byte) []byte { return b[:len(b)/2] })
	cut(s.waiting[2], func(b []byte) []byte { return bytes.Replace(b, []byte("92"), []byte("29"), 1) })
	if err := os.WriteFile(filepath.Join(dir, "0000000000000009-aa.msg.tmp"), []byte("tidemark-mess"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, notes := open(t, dir, wide)
	if len(notes) != 3 || again.damaged != 3 {
		t.Errorf("notes %q, %d damaged", notes, again.damaged)
	}
	got := all(t, again)
	if len(got) != 2 || got[0].ID != s.waiting[1].id || got[1].ID != s.waiting[3].id {
		t.Errorf("left: %v", got)
	}
	if bad, _ := filepath.Glob(filepath.Join(dir, "*.bad")); len(bad) != 2 {
		t.Errorf("set aside: %v", bad)
	}
	if _, notes := open(t, dir, wide); len(notes) != 0 {
		t.Errorf("said twice: %q", notes)
	}
}

func TestSpoolSetsAsideWhatGoesBadWhileItWaits(t *testing.T) {
	s, _ := open(t, t.TempDir(), wide)
	put(t, s, news(0, "a", noon), news(1, "a", noon), news(2, "a", noon))
	if err := os.WriteFile(s.path(s.waiting[0]), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path(s.waiting[1])); err != nil {
		t.Fatal(err)
	}
	batch, _, notes, err := s.next(Digest{}, time.UTC)
	if len(batch) != 1 || batch[0].ID != news(2, "a", noon).ID || len(notes) != 2 || err != nil {
		t.Errorf("batch %v, notes %q, %v", batch, notes, err)
	}
}

func TestSpoolThatCannotBeReadLosesNothing(t *testing.T) {
	s, _ := open(t, t.TempDir(), wide)
	put(t, s, news(0, "a", noon))
	path := s.path(s.waiting[0])
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // read: is a directory
		t.Fatal(err)
	}
	if _, _, notes, err := s.next(Digest{}, time.UTC); err == nil || len(notes) > 0 || len(s.waiting) != 1 {
		t.Errorf("%v, %q, %d wait", err, notes, len(s.waiting))
	}
}

func TestSpoolBounds(t *testing.T) {
	for name, limits := range map[string]Limits{"messages": {Messages: 10, MaxBytes: 1 << 30}, "bytes": {Messages: 1 << 30, MaxBytes: 4000}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := open(t, dir, limits)
			put(t, s, news(0, "rare", noon))
			for i := range 40 {
				put(t, s, news(1+i, "often", noon.Add(time.Duration(i)*time.Hour)))
			}
			put(t, s, news(100, "other", noon))
			s, _ = open(t, dir, limits) // the count is durable
			if len(s.waiting) < 2 || len(s.waiting) > 10 || s.bytes > limits.MaxBytes {
				t.Fatalf("%d wait, %d bytes", len(s.waiting), s.bytes)
			}
			if s.lost.Count+len(s.waiting) != 42 {
				t.Errorf("%d dropped and %d wait, of 42", s.lost.Count, len(s.waiting))
			}
			if !s.lost.First.Equal(noon) || s.lost.Last.Before(noon.Add(20*time.Hour)) {
				t.Errorf("from %v to %v", s.lost.First, s.lost.Last)
			}
			var keys []string
			for _, e := range s.waiting {
				keys = append(keys, e.key)
			}
			if keys[0] != "rare" || keys[len(keys)-1] != "other" || !slices.Contains(keys, "often") {
				t.Errorf("the newest of each is kept: %v", keys)
			}
			m := s.lossMessage("dfr", "mail x", time.UTC)
			if !strings.Contains(m.Notice.Title, fmt.Sprint(s.lost.Count, " older messages to mail x were dropped")) {
				t.Error(m.Notice.Title)
			}
			s.told(s.lost.Count)
			if s, _ := open(t, dir, limits); s.lost.Count != 0 {
				t.Error("told twice")
			}
		})
	}
	t.Run("all keys differ: the oldest goes", func(t *testing.T) {
		s, _ := open(t, t.TempDir(), Limits{Messages: 3, MaxBytes: 1 << 30})
		for i := range 5 {
			put(t, s, news(i, fmt.Sprint(i), noon))
		}
		if got := all(t, s); len(got) != 3 || got[0].Notice.Key != "2" {
			t.Errorf("%v", got)
		}
	})
}

// A full disk, as far as a program sees it: no file can be made.
func TestSpoolHoldsInMemoryWhatTheDiskRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, _ := open(t, dir, wide)
	put(t, s, news(0, "a", noon))
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 4; i++ {
		if err := s.put(news(i, "a", noon)); err == nil {
			t.Fatal("no error")
		}
	}
	if s.held() != 3 || s.failed == nil {
		t.Fatalf("%d held, %v", s.held(), s.failed)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(); err != nil || s.held() != 0 {
		t.Fatal(err, s.held())
	}
	s, _ = open(t, dir, wide)
	if got := all(t, s); len(got) != 4 || got[3].ID != news(3, "a", noon).ID {
		t.Errorf("%v", got)
	}
}

// putForEver is the process that is killed: it says each message's ID once put has returned.
func putForEver(dir string) {
	s, _, err := openSpool(dir, Limits{Messages: 1 << 20, MaxBytes: 1 << 30})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := len(s.waiting); ; i++ {
		m := news(i, "a", noon)
		if err := s.put(m); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(m.ID)
	}
}

func TestSpoolSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=none")
		cmd.Env = append(os.Environ(), "TIDEMARK_TEST_SPOOL="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 3+5*round && lines.Scan(); n++ {
			acknowledged = append(acknowledged, lines.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it died
			if len(lines.Text()) == 24 {
				acknowledged = append(acknowledged, lines.Text())
			}
		}
		_ = cmd.Wait() // killed
		s, _ := open(t, dir, wide)
		if s.damaged > 1 {
			t.Fatalf("%d damaged", s.damaged)
		}
		var kept []string
		for _, e := range s.waiting {
			kept = append(kept, e.id)
		}
		if len(kept) < len(acknowledged) || !slices.Equal(kept[:len(acknowledged)], acknowledged) || len(kept) > len(acknowledged)+1 {
			t.Fatalf("round %d: %d acknowledged, %d kept", round, len(acknowledged), len(kept))
		}
		acknowledged = kept // the last one may be kept and not yet acknowledged
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode(news(1, "a", noon))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(magic + " 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		// What is taken can be written, and is read again as the same.
		again, err := encode(m)
		if err != nil {
			t.Fatal(err)
		}
		same, err := decode(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, same); diff != "" {
			t.Fatal(diff)
		}
		Write([]Message{m}, time.UTC)
		Write([]Message{m, m}, time.UTC)
	})
}

// The checksum keeps most of a fuzzer's inputs out: this one writes it itself.
func FuzzMessage(f *testing.F) {
	f.Add("key", "title", "line", int64(1e18), int64(0), uint8(1))
	f.Add("", "", "\xff", int64(-1), int64(1), uint8(9))
	f.Fuzz(func(t *testing.T, key, title, line string, started, ended int64, severity uint8) {
		n := notice(key, time.Unix(0, started).UTC())
		n.Title, n.Lines, n.Severity = title, []string{line}, alert.Severity(severity%3)
		if ended != 0 {
			n.Ended = time.Unix(0, ended).UTC()
		}
		m := newMessage(Raised, 0, noon, n)
		b, err := encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 64<<10 {
			t.Fatalf("%d bytes", len(b))
		}
		got, err := decode(b)
		if err != nil || got.ID != m.ID || !got.Notice.Started.Equal(m.Notice.Started) {
			t.Fatalf("%v %+v", err, got)
		}
		Write([]Message{got}, time.UTC)
		Write([]Message{got, m, got}, time.UTC)
	})
}

func TestPeriods(t *testing.T) {
	efate := time.FixedZone("Pacific/Efate", 11*3600)
	at := time.Date(2027, 3, 1, 14, 30, 0, 0, time.UTC) // 01:30 on the 2nd
	for length, want := range map[time.Duration]string{24 * time.Hour: "2027-03-02T00:00", time.Hour: "2027-03-02T01:00", 12 * time.Hour: "2027-03-02T00:00"} {
		if got := period(at, length, efate).Format("2006-01-02T15:04"); got != want {
			t.Errorf("%v: %s, want %s", length, got, want)
		}
	}
}
