package site

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"tidemark/registry"
	"tidemark/registry/store"
)

// filled is a preregistration that is taken, with more over it.
func filled(more ...string) []string {
	return append([]string{"given_name", "Tere", "family_name", "Marsters", "birth_date", "1990-05-06", "sex", "female", "national_id", "", "place", "Aitutaki/Vaipae", "phone", "+682 55 123", "website", "", "consent", "yes"}, more...)
}

// with changes the value of a name.
func with(form []string, name, value string) []string {
	form = append([]string(nil), form...)
	for i := 0; i < len(form); i += 2 {
		if form[i] == name {
			form[i+1] = value
			return form
		}
	}
	return append(form, name, value)
}

var referenceForm = regexp.MustCompile(`[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}`)

func TestPreregistration(t *testing.T) {
	o := open(t, 50)
	v := o.visitor(t)
	v.must(v.get("/register"), http.StatusOK, `<optgroup label="Aitutaki, COK">`, `<label for="f-phone">Phone <span class="optional">(optional)</span>`)
	a := v.post("/register", filled()...)
	if a.status != http.StatusSeeOther || a.to != "/register/done" {
		t.Fatal(a.status, a.to, a.body)
	}
	done := v.must(v.get(a.to), http.StatusOK, "Your reference")
	reference := referenceForm.FindString(done.body)
	r, err := o.ByReference(t.Context(), reference)
	if err != nil || r.Fields["consent"] != "given" || r.Fields["status"] != "pending_verification" || r.Fields["phone"] != "+68255123" || r.Fields["island"] != "Aitutaki" {
		t.Fatal(reference, r, err)
	}
	if cookie := a.header.Get("Set-Cookie"); !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "Path=/register/done") {
		t.Error(cookie)
	}
	o.visitor(t).must(o.visitor(t).get("/register/done"), http.StatusOK, "There is nothing to show here")

	// Whoever has the reference learns the state and nothing else, in whatever way it is typed.
	stranger := o.visitor(t)
	for _, state := range []string{"Waiting", "Accepted"} {
		if state == "Accepted" {
			if err := o.Resolve(t.Context(), registry.Actor{Name: "account:boss"}, r.CreatedAt, r.ID, store.Resolution{Accept: true}); err != nil {
				t.Fatal(err)
			}
		}
		page := stranger.must(stranger.post("/status", "reference", strings.ToLower(strings.ReplaceAll(reference, "-", " "))), http.StatusOK, state)
		for _, personal := range []string{"Tere", "Marsters", "1990", "Vaipae", "55123"} {
			if strings.Contains(page.body, personal) {
				t.Errorf("the status shows %s", personal)
			}
		}
	}
	for given, status := range map[string]int{"": 422, "0000-0000-0000": 404, "x": 422, "' OR 1=1 --": 422, "<script>alert(1)</script>": 422} {
		if page := stranger.must(stranger.post("/status", "reference", given), status, `aria-invalid="true"`, `href="#f-reference"`); strings.Contains(page.body, "<script") {
			t.Errorf("%s: %s", given, page.body)
		}
	}
	if o.log.String() != "" {
		t.Error(o.log.String())
	}
}

func TestPreregistrationsThatAreNotTaken(t *testing.T) {
	o := open(t, 1)
	for _, c := range []struct{ name, value, want string }{
		{"given_name", "", `href="#f-given_name">Given names: is required`},
		{"given_name", "<script>alert(1)</script>", "may hold letters, spaces"},
		{"family_name", strings.Repeat("a", 81), "is longer than 80 characters"},
		{"birth_date", "", `href="#f-birth_date">Date of birth: is required`},
		{"birth_date", "2999-01-01", "is in the future"},
		{"birth_date", "yesterday", "must be a date such as"},
		{"sex", "robot", "must be one of"},
		{"national_id", "'; DROP TABLE farmer; --", "letters A-Z, digits and hyphens"},
		{"phone", "55123", "must be + and 7 to 15 digits"},
		{"place", "", `href="#f-place">Village: is required`},
		{"place", "Rarotonga/Paris", `href="#f-place">Village: is not a village`},
		{"place", "Upolu/Vaipae", "not on this island"},
		{"consent", "", `href="#f-consent">Consent: The registry can keep nothing without your consent.`},
		{"website", "https://spam.example", "must be left empty"},
	} {
		v := o.visitor(t)
		a := v.must(v.post("/register", with(filled(), c.name, c.value)...), http.StatusUnprocessableEntity, `role="alert"`, c.want, "There is a problem –")
		if strings.Contains(a.body, "<script") || !strings.Contains(a.body, `value="Marsters"`) && c.name != "family_name" {
			t.Errorf("%s: what was typed is lost, or a script", c.name)
		}
	}
	v := o.visitor(t)
	v.head.Set("Accept-Language", "sm")
	v.must(v.post("/register", with(filled(), "given_name", "")...), http.StatusUnprocessableEntity, "Igoa: e mana‘omia", `<html lang="sm">`)
	v.must(v.post("/register", append(filled(), "x", strings.Repeat("x", maxForm))...), http.StatusRequestEntityTooLarge, languages["sm"].T("error.413"))
	if open, err := o.Reviews(t.Context(), registry.Actor{}, "open", "", 0, 10); err != nil || len(open) != 0 {
		t.Error("something was stored:", open, err)
	}
}

func TestPreregistrationsAreThrottled(t *testing.T) {
	o := open(t, 1)
	v := o.visitor(t)
	from := func(address string) answer {
		v.head.Set("X-Forwarded-For", address)
		return v.post("/register", filled()...)
	}
	for i := range store.PreregisterFrom.Free + 1 {
		if a := from("192.0.2.1"); a.status != http.StatusSeeOther {
			t.Fatal(i, a.status)
		}
	}
	a := v.must(from("192.0.2.1"), http.StatusTooManyRequests, "Please wait")
	if a.header.Get("Retry-After") == "" {
		t.Error("it does not say when to come back")
	}
	if a := from("192.0.2.2"); a.status != http.StatusSeeOther {
		t.Errorf("another address: %d", a.status)
	}
}

// What a form cannot hold does no harm.
func TestStrangeForms(t *testing.T) {
	o := open(t, 1)
	for _, strange := range []string{"\xff\x00<b>", "0000-00-00", "////", "/", "\u202e", "%s%n", "{{.}}", strings.Repeat("/", 1000)} {
		form := filled()
		for _, name := range []string{"given_name", "birth_date", "sex", "place"} {
			form = with(form, name, strange)
		}
		a := o.visitor(t).post("/register", form...)
		if a.status != http.StatusUnprocessableEntity || strings.Contains(a.body, "<b>") {
			t.Errorf("%q: %d %s", strange, a.status, a.body)
		}
	}
}
