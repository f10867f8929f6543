package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReplay(t *testing.T) {
	dir := t.TempDir()
	line := func(second, request string) string {
		return "10.0.0.1 - - [23/Nov/2026:09:00:" + second + ` +1300] "` + request + ` HTTP/1.1" 200 5 "-" "phone"` + "\n"
	}
	text := line("30", "GET /later") + line("00", "GET /first?q=1") + line("10", "POST /api/farmer") + "nonsense\n"
	if err := os.WriteFile(filepath.Join(dir, "access.log"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	written := "name: mine\nduration: 10m\nload: [{replay: {file: access.log}}]\n"
	s, err := Parse(filepath.Join(dir, "mine.yaml"), []byte(written), Options{Compress: 2})
	if err != nil {
		t.Fatal(err)
	}
	got := s.Arrivals(0)
	if len(got) != 2 || got[0].Path != "/first?q=1" || got[1].Path != "/later" || got[0].At != 0 || got[1].At < 14*time.Second || got[1].At > 16*time.Second {
		t.Errorf("%+v", got)
	}
	if len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], "2 lines of access.log") {
		t.Error(s.Notes())
	}
	for from, want := range map[string]string{"access.log}": "nowhere.log}", "file: access.log": "file: access.log, format: tidemark"} {
		if _, err := Parse(filepath.Join(dir, "mine.yaml"), []byte(strings.Replace(written, from, want, 1)), Options{}); err == nil {
			t.Errorf("%s is taken", want)
		}
	}
}
