package registry

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"Māʻina":                "maina",
		"A\u0304 na":            "a na",
		"  Jean-Paul   O’Brien": "jean paul obrien",
		"François":              "francois",
		"ʻOhonua":               "ohonua",
		"Malu'u":                "maluu",
		"TŪĀ":                   "tua",
	} {
		if got := Fold(in); got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add("Māʻina - Pōhiva")
	f.Add("\xffĀ\u0304")
	f.Fuzz(func(t *testing.T, s string) {
		once := Fold(s)
		if twice := Fold(once); twice != once || !utf8.ValidString(once) {
			t.Errorf("Fold(%q) = %q, folded again %q", s, once, twice)
		}
	})
}

func TestUID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		uid := NewUID()
		if got, ok := ParseUID(uid); !ok || got != uid || uid[14] != '4' || !strings.ContainsRune("89ab", rune(uid[19])) || seen[uid] {
			t.Fatalf("NewUID gave %s", uid)
		}
		seen[uid] = true
	}
	if got := FormatUID([16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}); got != "00010203-0405-4607-8809-0a0b0c0d0e0f" {
		t.Errorf("FormatUID gave %s", got)
	}
	for _, s := range []string{"", "x", "00010203-0405-4607-8809-0a0b0c0d0e0", "00010203-0405-4607-8809-0a0b0c0d0e0g", "00010203x0405-4607-8809-0a0b0c0d0e0f", "000102030-405-4607-8809-0a0b0c0d0e0f"} {
		if _, ok := ParseUID(s); ok {
			t.Errorf("%q passes for a UUID", s)
		}
	}
}
