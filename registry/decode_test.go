package registry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var today = time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)

func TestDecodeRegistration(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"nothing":       {"", "the body is empty; send one JSON object"},
		"spaces":        {" \n ", "the body is empty; send one JSON object"},
		"null":          {"null", "send one JSON object"},
		"array":         {"[]", "send one JSON object, not a JSON array"},
		"number":        {"7", "send one JSON object, not a JSON number"},
		"cut short":     {`{"sex": "female"`, "the JSON ends in the middle"},
		"not JSON":      {`{sex}`, "not JSON at byte 2: invalid character 's' looking for beginning of object key string"},
		"HTML":          {`<html>`, "not JSON at byte 1: invalid character '<' looking for beginning of value"},
		"wrong type":    {`{"sex": 1}`, "sex: must be a string, not a JSON number"},
		"nested":        {`{"village": {"name": "Muri"}}`, "village: must be a string, not a JSON object"},
		"list":          {`{"phone": ["+68255123"]}`, "phone: must be a string, not a JSON array"},
		"unknown field": {`{"age": 7}`, `unknown field "age"`},
		"two objects":   {`{} {}`, "there is more after the object; send one farmer per request"},
		"more after":    {`{}x`, "there is more after the object; send one farmer per request"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeRegistration([]byte(c.body))
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func good() Registration {
	return Registration{
		UID: "0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00", GivenName: "Mere", FamilyName: "Tuatai", BirthDate: "1978-03-09", Sex: "female",
		NationalID: "CK-0001234", Phone: "+68255123", Village: "Arorangi", Island: "Rarotonga", Status: "active",
	}
}

func TestNormalizeTidies(t *testing.T) {
	r := Registration{
		UID: "0190B4A2-6C1E-4F0A-9D3E-2B7C5A1E8F00", GivenName: "  Mere ", FamilyName: "Tuatai", BirthDate: "1978-03-09", Sex: "female",
		NationalID: " ck-0001234", Phone: "+682 55-123", Village: " Arorangi", Island: "Rarotonga\t",
	}
	if faults := r.Normalize(today); faults != nil {
		t.Fatal(faults)
	}
	if diff := cmp.Diff(good(), r); diff != "" {
		t.Error(diff)
	}
}

func TestNormalizeFaults(t *testing.T) {
	const name = "may hold letters, spaces, hyphens, full stops and apostrophes"
	for _, c := range []struct {
		field string
		set   func(*Registration)
		want  string // "" when it may be so
	}{
		{"uid", func(r *Registration) { r.UID = "1" }, "must be a UUID such as 0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00"},
		{"uid", func(r *Registration) { r.UID = "" }, ""},
		{"given_name", func(r *Registration) { r.GivenName = " " }, "is required"},
		{"given_name", func(r *Registration) { r.GivenName = "Jean-Paul O'Brien Jr." }, ""},
		{"given_name", func(r *Registration) { r.GivenName = "ʻAna Sālote" }, ""},
		{"given_name", func(r *Registration) { r.GivenName = "A\u0304na" }, ""},
		{"given_name", func(r *Registration) { r.GivenName = "--" }, name},
		{"given_name", func(r *Registration) { r.GivenName = "Me\x00re" }, name},
		{"given_name", func(r *Registration) { r.GivenName = "Mere\u202e" }, name},
		{"given_name", func(r *Registration) { r.GivenName = "\xff" }, name},
		{"family_name", func(r *Registration) { r.FamilyName = strings.Repeat("ā", 80) }, ""},
		{"family_name", func(r *Registration) { r.FamilyName = strings.Repeat("ā", 81) }, "is longer than 80 characters"},
		{"birth_date", func(r *Registration) { r.BirthDate = "" }, "is required"},
		{"birth_date", func(r *Registration) { r.BirthDate = "9/3/1978" }, "must be a date such as 1978-03-09"},
		{"birth_date", func(r *Registration) { r.BirthDate = "1978-02-30" }, "must be a date such as 1978-03-09"},
		{"birth_date", func(r *Registration) { r.BirthDate = "2026-11-23" }, ""},
		{"birth_date", func(r *Registration) { r.BirthDate = "2026-11-24" }, "is in the future"},
		{"birth_date", func(r *Registration) { r.BirthDate = "1899-12-31" }, "is before 1900"},
		{"sex", func(r *Registration) { r.Sex = "" }, "must be one of female, male, unspecified"},
		{"sex", func(r *Registration) { r.Sex = "Female" }, "must be one of female, male, unspecified"},
		{"national_id", func(r *Registration) { r.NationalID = "" }, ""},
		{"national_id", func(r *Registration) { r.NationalID = "12" }, "must be 3 to 32 letters A-Z, digits and hyphens"},
		{"national_id", func(r *Registration) { r.NationalID = "1 23" }, "must be 3 to 32 letters A-Z, digits and hyphens"},
		{"phone", func(r *Registration) { r.Phone = "" }, ""},
		{"phone", func(r *Registration) { r.Phone = "55123" }, "must be + and 7 to 15 digits, such as +68255123"},
		{"phone", func(r *Registration) { r.Phone = "+1234567890123456" }, "must be + and 7 to 15 digits, such as +68255123"},
		{"village", func(r *Registration) { r.Village = "" }, "is required"},
		{"island", func(r *Registration) { r.Island = "" }, ""},
		{"island", func(r *Registration) { r.Island = "<b>" }, name},
		{"status", func(r *Registration) { r.Status = "" }, ""},
		{"status", func(r *Registration) { r.Status = "gone" }, "must be one of active, pending, inactive, deceased"},
	} {
		r := good()
		c.set(&r)
		var want Faults
		if c.want != "" {
			want = Faults{{c.field, c.want}}
		}
		if diff := cmp.Diff(want, r.Normalize(today)); diff != "" {
			t.Errorf("%+v:\n%s", r, diff)
		}
	}
	var empty Registration
	if faults := empty.Normalize(today); len(faults) != 5 {
		t.Errorf("an empty registration has the faults %v, want one for each of 5 required fields", faults)
	}
}

func FuzzDecodeRegistration(f *testing.F) {
	for _, s := range []string{``, `null`, `{}`, `{"uid":1}`, `{"x":1}`, `{"sex":"male"}{}`, `{"given_name":"\ud800"}`, `[[[[`, `{"given_name":"'; DROP TABLE farmer; --"}`} {
		f.Add([]byte(s))
	}
	whole, _ := json.Marshal(good())
	f.Add(whole)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeRegistration(body)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a word")
			}
			return
		}
		if r.Normalize(today) != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeRegistration(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if faults := back.Normalize(today); faults != nil || back != r {
			t.Errorf("what passed once comes back as %+v (%v), was %+v", back, faults, r)
		}
	})
}

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
