package registry

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var today = time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)

func decode(t testing.TB, entity, text string) (Fields, Faults) {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return EntityNamed(entity).Decode(raw, today)
}

func TestDecodeTidies(t *testing.T) {
	for _, c := range []struct{ entity, text, want string }{
		{"farmer", `{"given_name": "  Mere ", "village": "Aro\trangi", "national_id": " ck-0001234", "phone": "+682 55-123"}`,
			`{"given_name":"Mere","national_id":"CK-0001234","phone":"+68255123","village":"Aro rangi"}`},
		{"farmer", `{"household": "0190B4A2-6C1E-4F0A-9D3E-2B7C5A1E8F00", "note": "", "phone": null}`,
			`{"household":"0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00","note":null,"phone":null}`},
		{"farmer", `{"given_name": "ʻAna Sālote", "family_name": "O'Brien Jr."}`, `{"family_name":"O'Brien Jr.","given_name":"ʻAna Sālote"}`},
		{"plot", `{"size_ha": 1.50, "shape": {"coordinates": [-159.78, -21.23, 12], "type": "Point", "crs": 1}}`,
			`{"shape":{"type":"Point","coordinates":[-159.78,-21.23]},"size_ha":1.5}`},
		{"plot", `{"shape": {"type": "Polygon", "coordinates": [[[0,0],[0,1],[1,1],[0,0]]]}}`,
			`{"shape":{"type":"Polygon","coordinates":[[[0,0],[0,1],[1,1],[0,0]]]}}`},
		{"submission", `{"answers": {"b": 1.10, "a": "x"}}`, `{"answers":{"a":"x","b":1.10}}`},
	} {
		fields, faults := decode(t, c.entity, c.text)
		got, err := json.Marshal(fields)
		if err != nil || faults != nil || string(got) != c.want {
			t.Errorf("%s: %s %v %v, want %s", c.text, got, faults, err, c.want)
		}
	}
}

func TestDecodeFaults(t *testing.T) {
	const name = "may hold letters, spaces, hyphens, full stops and apostrophes"
	for _, c := range []struct{ entity, text, want string }{
		{"farmer", `{"given_name": 1}`, "given_name: must be a string"},
		{"farmer", `{"given_name": "--"}`, "given_name: " + name},
		{"farmer", `{"given_name": "Me\u0000re"}`, "given_name: may not hold control characters"},
		{"farmer", `{"given_name": "Mere\u202e"}`, "given_name: " + name},
		{"farmer", `{"given_name": "<b>Mere</b>"}`, "given_name: " + name},
		{"farmer", `{"family_name": "` + strings.Repeat("ā", 81) + `"}`, "family_name: is longer than 80 characters"},
		{"farmer", `{"note": "` + strings.Repeat("ā", 201) + `"}`, "note: is longer than 200 characters"},
		{"farmer", `{"note": "a\ud800b"}`, "note: may not hold control characters"},
		{"farmer", `{"birth_date": "9/3/1978"}`, "birth_date: must be a date such as 1978-03-09"},
		{"farmer", `{"birth_date": "1978-02-30"}`, "birth_date: must be a date such as 1978-03-09"},
		{"farmer", `{"birth_date": "2026-11-24"}`, "birth_date: is in the future"},
		{"farmer", `{"birth_date": "1899-12-31"}`, "birth_date: is before 1900"},
		{"farmer", `{"sex": "Female"}`, "sex: must be one of unspecified, female, male"},
		{"farmer", `{"national_id": "12"}`, "national_id: must be 3 to 32 letters A-Z, digits and hyphens"},
		{"farmer", `{"national_id": "1; DROP TABLE farmer"}`, "national_id: must be 3 to 32 letters A-Z, digits and hyphens"},
		{"farmer", `{"phone": "55123"}`, "phone: must be + and 7 to 15 digits, such as +68255123"},
		{"farmer", `{"household": "7"}`, "household: must be a UUID such as 0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00"},
		{"farmer", `{"age": 7, "uid": ""}`, `unknown field "age"; unknown field "uid"`},
		{"farmer", `{"` + strings.Repeat("x", 100) + `": 7}`, `unknown field "` + strings.Repeat("x", 60) + `..."`},
		{"plot", `{"size_ha": "1"}`, "size_ha: must be a number"},
		{"plot", `{"size_ha": -1}`, "size_ha: must be from 0 to 100000"},
		{"plot", `{"size_ha": 1e300}`, "size_ha: must be from 0 to 100000"},
		{"plot", `{"shape": []}`, "shape: must be a GeoJSON object"},
		{"plot", `{"shape": {"type": "Line"}}`, "shape: must be a GeoJSON Point or Polygon"},
		{"plot", `{"shape": {"type": "Point", "coordinates": [1]}}`, "shape: must have the coordinates [longitude, latitude] in degrees"},
		{"plot", `{"shape": {"type": "Point", "coordinates": [0, 91]}}`, "shape: must have the coordinates [longitude, latitude] in degrees"},
		{"plot", `{"shape": {"type": "Polygon", "coordinates": [[[0,0],[0,1],[1,1],[1,0]]]}}`, "shape: must have rings of four points or more, the last like the first"},
		{"plot", `{"shape": {"type": "Polygon", "coordinates": [[[0,0],[0,1],[181,1],[0,0]]]}}`, "shape: must have rings of [longitude, latitude] in degrees"},
		{"plot", `{"shape": {"type": "Polygon", "coordinates": [[` + strings.Repeat("[0,0],", 500) + `[0,0]]]}}`, "shape: has more than 500 points"},
		{"submission", `{"answers": []}`, "answers: must be a JSON object"},
		{"submission", `{"answers": {"a": "` + strings.Repeat("x", 17<<10) + `"}}`, "answers: is larger than 16384 bytes"},
	} {
		fields, faults := decode(t, c.entity, c.text)
		if len(fields) != 0 || faults.Error() != c.want {
			t.Errorf("%.80s: %v, want %s", c.text, faults, c.want)
		}
	}
}

func TestComplete(t *testing.T) {
	f := Fields{"given_name": "Mere", "family_name": "Tuatai", "phone": nil}
	faults := EntityNamed("farmer").Complete(f)
	if faults.Error() != "birth_date: is required; village: is required" {
		t.Error(faults)
	}
	if diff := cmp.Diff(Fields{"given_name": "Mere", "family_name": "Tuatai", "sex": "unspecified", "status": "pending_verification", "consent": "unknown"}, f); diff != "" {
		t.Error(diff)
	}
}

// Whatever is sent, what was accepted once is accepted again, unchanged.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"given_name":"Mere","phone":"+682 55123","birth_date":"1978-03-09","sex":"male","national_id":"ck-1","note":"x","household":null}`,
		`{"size_ha":1.5,"shape":{"type":"Point","coordinates":[1,2]}}`, `{"shape":{"type":"Polygon","coordinates":[[[0,0],[0,1],[1,1],[0,0]]]}}`,
		`{"answers":{"a":[1,{"b":null}]},"form_version":1e2}`, `{"note":"'; DROP TABLE farmer; --"}`, `{"note":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var raw map[string]json.RawMessage
		if json.Unmarshal(text, &raw) != nil {
			return
		}
		for _, e := range Entities {
			fields, faults := e.Decode(maps.Clone(raw), today)
			if faults != nil && faults.Error() == "" {
				t.Error("a fault without a word")
			}
			out, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			var again map[string]json.RawMessage
			if err := json.Unmarshal(out, &again); err != nil {
				t.Fatal(err)
			}
			back, faults := e.Decode(again, today)
			if diff := cmp.Diff(fields, back); faults != nil || diff != "" {
				t.Errorf("%s comes back as %v, %v\n%s", out, back, faults, diff)
			}
		}
	})
}

func TestFormCheck(t *testing.T) {
	good := Form{ID: "crop-survey", Version: 1, Title: "Crops", Questions: []Question{
		{Name: "crop", Type: "choice", Choices: []string{"taro", "kava"}, Required: true},
		{Name: "hectares", Type: "number", Max: 100}, {Name: "irrigated", Type: "yes_no"}, {Name: "planted", Type: "date"}, {Name: "note", Type: "text"},
	}}
	if faults := good.Check(); faults != nil {
		t.Error(faults)
	}
	bad := Form{ID: "Crop Survey", Questions: []Question{{Name: "a", Type: "text"}, {Name: "a", Type: "text"}, {Name: "b", Type: "picture"}, {Name: "c", Type: "choice"}}}
	if got, want := bad.Check().Error(), "id: must be up to 60 letters a-z, digits and hyphens; version: must be 1 or more; title: must be 1 to 200 bytes of text; "+
		"questions/1: needs a name of its own: letters a-z, digits and _; questions/2: type must be text, number, choice, date or yes_no; questions/3: a choice needs choices"; got != want {
		t.Errorf("%s", got)
	}
	for answers, want := range map[JSON]string{
		`{"crop":"taro","hectares":1,"irrigated":"yes","planted":"2026-01-02","note":"x"}`: "",
		`{"crop":"taro"}`: "",
		`{}`:              "answers/crop: is required",
		`{"crop":"rice"}`: "answers/crop: must be one of taro, kava",
		`{"crop":"taro","hectares":101,"irrigated":1}`: "answers/hectares: must be from 0 to 100; answers/irrigated: must be a string",
		`{"crop":"taro","age":1}`:                      `answers: the form has no question "age"`,
		`[]`:                                           "answers: must be a JSON object",
	} {
		if got := good.CheckAnswers(answers, today).Error(); got != want {
			t.Errorf("%s: %s, want %s", answers, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	now := Fields{"given_name": "Mere", "family_name": "Tuatai", "phone": "+6821", "consent": "given"}
	e := EntityNamed("farmer")
	for _, c := range []struct {
		what   string
		since  string // fields changed by others
		change Fields
		apply  Fields
		review Fields
	}{
		{"nothing changed meanwhile", "", Fields{"given_name": "Ana", "consent": "refused"}, Fields{"given_name": "Ana", "consent": "refused"}, Fields{}},
		{"another field", "family_name", Fields{"given_name": "Ana"}, Fields{"given_name": "Ana"}, Fields{}},
		{"the same field", "given_name", Fields{"given_name": "Ana", "note": "x"}, Fields{"note": "x"}, Fields{"given_name": "Ana"}},
		{"the same field to the same value", "given_name", Fields{"given_name": "Mere"}, Fields{}, Fields{}},
		{"last wins", "phone", Fields{"phone": "+6822"}, Fields{"phone": "+6822"}, Fields{}},
		{"protected", "phone", Fields{"consent": "refused"}, Fields{}, Fields{"consent": "refused"}},
		{"emptied", "", Fields{"phone": nil}, Fields{"phone": nil}, Fields{}},
		{"empty already", "", Fields{"note": nil}, Fields{}, Fields{}},
	} {
		since := map[string]bool{}
		for name := range strings.FieldsSeq(c.since) {
			since[name] = true
		}
		m := Merge(e, now, since, c.change)
		if diff := cmp.Diff([]Fields{c.apply, c.review}, []Fields{m.Apply, m.Review}); diff != "" {
			t.Errorf("%s:\n%s", c.what, diff)
		}
	}
}

// Every edited field is applied, put before a person, or there already: none is lost, none is both.
func TestMergeLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := rapid.SampledFrom(Entities).Draw(t, "entity")
		values := rapid.SampledFrom([]any{nil, "a", "b"})
		now, change, since := Fields{}, Fields{}, map[string]bool{}
		for _, f := range e.Fields {
			if v := values.Draw(t, "now "+f.Name); v != nil {
				now[f.Name] = v
			}
			if rapid.Bool().Draw(t, "edited "+f.Name) {
				change[f.Name] = values.Draw(t, "edit "+f.Name)
			}
			since[f.Name] = rapid.Bool().Draw(t, "since "+f.Name)
			if !since[f.Name] {
				delete(since, f.Name)
			}
		}
		m := Merge(e, now, since, change)
		if len(m.Conflict) != len(m.Review) {
			t.Error("the conflict names other fields than the review")
		}
		for name, v := range change {
			applied, isApplied := m.Apply[name]
			wanted, isWanted := m.Review[name]
			switch {
			case isApplied && isWanted:
				t.Errorf("%s is applied and in the queue", name)
			case isApplied && applied != v, isWanted && wanted != v:
				t.Errorf("%s has another value than it was given", name)
			case !isApplied && !isWanted && now[name] != v:
				t.Errorf("%s is lost", name)
			case isApplied && len(since) > 0 && e.Field(name).Merge == Protected:
				t.Errorf("%s is protected", name)
			}
		}
		if len(m.Apply)+len(m.Review) > len(change) {
			t.Error("more than was asked")
		}
	})
}

func TestSimilarity(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want float64
	}{{"pokino", "pokino", 1}, {"pokeno", "pokino", 0.4}, {"pokino", "", 0}, {"", "", 0}, {"tuatai mere", "mere tuatai", 1}, {"tuatai", "xyz", 0}} {
		if got := Similarity(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}
