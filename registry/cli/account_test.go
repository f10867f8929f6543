package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// typed makes text the standard input of the test's commands.
func typed(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = f
	t.Cleanup(func() { os.Stdin = before; f.Close() })
}

func TestAccountCommands(t *testing.T) {
	db := makeDB(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("three words and more\r\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, stdin, want string }{
		{"account add --db DB --role officer --island aitutaki moana", "taro, breadfruit and rain\n", "Account moana, officer, islands: Aitutaki.\n"},
		{"account add --db DB --role administrator --password-file FILE tere", "", "Account tere, administrator, islands: all.\n"},
		{"account add --db DB --role viewer tere", "taro, breadfruit and rain", "there is an account tere"},
		{"account add --db DB --role viewer ana", "", "the password must be 12 to 200 characters"},
		{"account add --db DB --role viewer ana", "short\n", "the password must be 12 to 200 characters"},
		{"account add --db DB --role king ana", "", "the role must be viewer, officer or administrator"},
		{"account add --db DB --role viewer Ana", "", "the name must be"},
		{"account add --db DB --role viewer --island Paris ana", "", "--island Paris: no village"},
		{"account add --db DB --role viewer --password-file /no/such ana", "", "no such file"},
		{"account add --db DB --role viewer ana secret", "", "accepts 1 arg(s)"},
		{"account password --db DB moana", "breadfruit, rain and taro\n", "Account moana has a new password.\n"},
		{"account password --db DB nobody", "breadfruit, rain and taro\n", "there is no account nobody"},
		{"account disable --db DB moana", "", "Account moana is disabled.\n"},
		{"account disable --db DB nobody", "", "there is no account nobody"},
		{"account list --db DB", "", "moana  officer        Aitutaki  never         disabled\n"},
		{"account list --db DB --json", "", `"name":"tere","role":"administrator"`},
		{"account enable --db DB moana", "", "Account moana is enabled.\n"},
		{"account list --db DB", "", "moana  officer        Aitutaki  never         enabled\n"},
		{"account --help", "", "Examples:\n  registry account add"},
	} {
		typed(t, c.stdin)
		code, stdout, stderr := run(strings.Fields(strings.NewReplacer("DB", db, "FILE", file).Replace(c.line))...)
		if !strings.Contains(stdout+stderr, c.want) || (code == 0) != (stderr == "") {
			t.Errorf("registry %s: exit %d\n%s%s\nwant %q", c.line, code, stdout, stderr, c.want)
		}
		if strings.Contains(stdout+stderr, "breadfruit") || strings.Contains(stdout+stderr, "argon2") {
			t.Errorf("registry %s shows the password", c.line)
		}
	}
}
