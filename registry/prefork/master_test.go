package prefork

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	board, err := newScoreboard(0)
	if err != nil {
		t.Fatal(err)
	}
	defer board.close()
	m := &Master{board: board}
	now := time.Now()
	type w struct {
		state      state
		generation int
		age        int
	}
	for name, c := range map[string]struct {
		staff []w
		want  int // index into staff
	}{
		"idle before busy":              {[]w{{busy, 0, 1}, {idle, 0, 9}, {busy, 0, 2}}, 1},
		"starting before idle":          {[]w{{idle, 0, 1}, {starting, 0, 0}}, 1},
		"the newest of the idle":        {[]w{{idle, 0, 9}, {idle, 0, 1}, {idle, 0, 5}}, 1},
		"the newest if all are busy":    {[]w{{busy, 0, 9}, {busy, 0, 1}}, 1},
		"the old generation, even busy": {[]w{{idle, 1, 0}, {busy, 0, 9}, {starting, 1, 0}}, 1},
	} {
		var staff []*worker
		for i, s := range c.staff {
			board.set(i, s.state)
			staff = append(staff, &worker{slot: i, generation: s.generation, started: now.Add(-time.Duration(s.age) * time.Minute)})
		}
		if got := m.choose(staff).slot; got != c.want {
			t.Errorf("%s: worker %d goes, want %d", name, got, c.want)
		}
	}
}

func TestPIDFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	if err := os.WriteFile(path, []byte("a long line that a crash left here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	remove, err := WritePIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("it holds %q", text)
	}
	remove()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	if remove, err = WritePIDFile(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	remove()
	if text, _ := os.ReadFile(path); string(text) != "1\n" {
		t.Error("another process's pid file is taken away")
	}
}
