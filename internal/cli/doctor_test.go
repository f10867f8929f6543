package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctor(t *testing.T) {
	unreachable(t)
	t.Setenv("TIDEMARK_DOCTOR_DSN", "")
	testdata := filepath.Join("..", "doctor", "testdata")
	args := []string{"doctor", "--odoo", filepath.Join(testdata, "odoo.conf"), "--pgbouncer", filepath.Join(testdata, "pgbouncer.ini"), "--nginx", filepath.Join(testdata, "nginx.conf"),
		"-c", filepath.Join("..", "..", "examples", "dfr", "tonga.yaml"), "--disk-writes", "0"}
	code, out, errOut := main(t, args...)
	if code != done || !strings.Contains(out, "in order") || !strings.Contains(out, "not looked at") || errOut != "" {
		t.Errorf("exit %d, %q\n%s", code, errOut, out)
	}
	// A limit below what visitors send is wrong now, and the answer is no.
	bad := filepath.Join(t.TempDir(), "nginx.conf")
	if err := os.WriteFile(bad, []byte("events {}\nhttp { server { location / { proxy_pass http://127.0.0.1:8069; } } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ = main(t, append(args, "--nginx", bad, "--json")...)
	var report struct {
		Findings []struct{ Severity, Check, Fix string }
		Held     []struct{ Check, Note string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != no || len(report.Findings) == 0 || report.Findings[0].Severity != "problem" || len(report.Held) == 0 {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	if code, _, errOut := main(t, "doctor", "--odoo", "/nowhere/odoo.conf"); code != failed || !strings.Contains(errOut, "/nowhere/odoo.conf") {
		t.Errorf("exit %d, %q", code, errOut)
	}
}
