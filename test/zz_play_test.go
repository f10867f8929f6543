package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestZZPlay(t *testing.T) {
	for _, name := range []string{"peak-farmer-registration-drive", "concurrent-mobile-sync"} {
		t.Run(name, func(t *testing.T) {
			s := newRehearsalStage(t)
			cmd := exec.CommandContext(t.Context(), program("tidemark"), "loadtest", name, "--target", s.web.URL(""), "-c", s.config, "--compress", os.Getenv("COMPRESS"),
				"--data", "accounts="+filepath.Join(s.dir, "accounts.csv"), "--out", "/tmp/load-out", "--html", "/tmp/load-"+name+".html", "--junit", "/tmp/load-"+name+".xml")
			text, _ := cmd.CombinedOutput()
			t.Logf("%s", text)
		})
	}
}
