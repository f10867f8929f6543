package access

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/test/servers"
)

// A renewed certificate is used without a reload; one that cannot be used leaves the one before in force and is told of.
func TestCertificateIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var log []string
		certificate, key, _ := servers.Certificate(t, dir, 1, time.Now().AddDate(0, 6, 0))
		p, err := LoadPair(certificate, key, func(line string) { log = append(log, line) })
		if err != nil {
			t.Fatal(err)
		}
		serves := func(serial int64) {
			t.Helper()
			time.Sleep(2 * time.Second)
			it, err := p.Certificate(nil)
			if err != nil || it.Leaf.SerialNumber.Int64() != serial {
				t.Errorf("serves %v, %v; want %d", it.Leaf.SerialNumber, err, serial)
			}
		}
		said := func(want string) {
			t.Helper()
			if len(log) == 0 || !strings.Contains(log[len(log)-1], want) {
				t.Errorf("the log %q lacks %q", log, want)
			}
		}
		serves(1)
		servers.Certificate(t, dir, 2, time.Now().AddDate(0, 6, 0))
		serves(2)
		if len(log) > 0 {
			t.Errorf("logged %q", log)
		}
		if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
			t.Fatal(err)
		}
		serves(2)
		said("the certificate before stays")
		servers.Certificate(t, dir, 3, time.Now().AddDate(0, 0, 3))
		serves(3)
		said("renew it")
		if err := os.Chmod(key, 0o644); err != nil {
			t.Fatal(err)
		}
		serves(3)
		said("chmod 640")
	})
	for name, c := range map[string]struct{ certificate, key, want string }{
		"no certificate": {"/nowhere/tls.crt", "/nowhere/tls.key", "tls.certificate names its file"},
		"no key":         {"certificate_test.go", "/nowhere/tls.key", "tls.key names its file"},
		"no PEM":         {"certificate_test.go", "certificate_test.go", "everybody may use"},
	} {
		if _, err := LoadPair(c.certificate, c.key, func(string) {}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
