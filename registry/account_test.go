package registry

import (
	"strings"
	"testing"
)

func TestPasswords(t *testing.T) {
	const secret = "taro, breadfruit and rain"
	hash := HashPassword(secret)
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") || hash == HashPassword(secret) {
		t.Errorf("%s has no salt or not the cost that is meant", hash)
	}
	if !IsPassword(hash, secret) {
		t.Error("the password is not taken")
	}
	for _, wrong := range []string{"", "taro", secret + " ", strings.ToUpper(secret)} {
		if IsPassword(hash, wrong) {
			t.Errorf("%q is taken", wrong)
		}
	}
	// One made elsewhere (the reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1).
	if known := "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"; !IsPassword(known, "password") || IsPassword(known, "passwork") {
		t.Error("the reference implementation's hash is not read")
	}
	for _, broken := range []string{"", "$", "$argon2i$v=19$m=19456,t=2,p=1$AAAA$AAAA", "$argon2id$v=19$m=19456,t=0,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=4294967295,t=2,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=8,t=2,p=0$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=8,t=2,p=1$AAAA$"} {
		if IsPassword(broken, "") {
			t.Errorf("%q is taken", broken)
		}
	}
}

func TestAccountChecks(t *testing.T) {
	for name, ok := range map[string]bool{"moana": true, "t.tua-2": true, "": false, "Moana": false, "a b": false, "a\n": false, "<script>": false, strings.Repeat("x", 41): false} {
		if a := (Account{Name: name, Role: Viewer}); (a.Check() == nil) != ok {
			t.Errorf("%q: %v", name, a.Check())
		}
	}
	if (&Account{Name: "x", Role: "root"}).Check() == nil {
		t.Error("a role that is none")
	}
	for password, ok := range map[string]bool{"correct horse battery": true, "short": false, "moana-moana1": false, "aaaaaaaaaaaaaaa": false, strings.Repeat("ab", 101): false, "māʻina ʻaʻoga lelei": true, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff": false} {
		if a := (Account{Name: "moana"}); (a.CheckPassword(password) == nil) != ok {
			t.Errorf("%q: %v", password, a.CheckPassword(password))
		}
	}
	if Viewer.May(Officer) || !Administrator.May(Viewer) || !Officer.May(Officer) || Role("").May(Viewer) {
		t.Error("roles")
	}
}
