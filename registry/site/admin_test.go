package site

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/registry"
	"tidemark/registry/exchange"
	"tidemark/registry/store"
)

func TestWithoutASignIn(t *testing.T) {
	o := open(t, 50)
	_, admin := paths(anyFarmer().UID, o.asked(t, nil))
	v := o.visitor(t)
	for _, path := range append(admin, "/admin/imports/1", "/admin/imports/1/errors.csv") {
		if a := v.get(path); a.status != http.StatusSeeOther || !strings.HasPrefix(a.to, "/admin/sign-in") || strings.Contains(a.body, "Marsters") {
			t.Errorf("%s: %d %s", path, a.status, a.to)
		}
	}
	for _, path := range []string{"/admin/farmers/" + anyFarmer().UID + "/edit", "/admin/review/1", "/admin/imports", "/admin/imports/1/cancel", "/admin/export"} {
		if a := v.post(path, "decision", "accept"); a.status != http.StatusSeeOther || a.to != "/admin/sign-in" {
			t.Errorf("POST %s: %d %s", path, a.status, a.to)
		}
	}
	for _, cookie := range []string{"", "x", strings.Repeat("0", 64), "' OR ''='"} {
		v.head.Set("Cookie", "registry="+cookie)
		if a := v.get("/admin/"); a.status != http.StatusSeeOther {
			t.Errorf("with the cookie %q: %d", cookie, a.status)
		}
	}
	if r, err := o.Review(t.Context(), registry.Actor{}, 1); err != nil || r.State != "open" {
		t.Error(r, err)
	}
}

func TestSignIn(t *testing.T) {
	o := open(t, 1)
	v := o.visitor(t)
	v.must(v.get("/admin/sign-in?to=/admin/review"), http.StatusOK, `name="to" value="/admin/review"`, `autocomplete="current-password"`)
	wrong := v.must(v.post("/admin/sign-in", "name", "boss", "password", "breadfruit and more"), http.StatusForbidden, "The account or the password is wrong.")
	other := v.must(v.post("/admin/sign-in", "name", "nobody", "password", "breadfruit and more"), http.StatusForbidden, "The account or the password is wrong.")
	if strings.Contains(wrong.body+other.body, "breadfruit") || strings.ReplaceAll(wrong.body, `value="boss"`, "") != strings.ReplaceAll(other.body, `value="nobody"`, "") {
		t.Error("the answer tells whether the account is there, or the password")
	}
	a := v.post("/admin/sign-in", "name", "boss", "password", secretWords, "to", "/admin/review")
	cookie := a.header.Get("Set-Cookie")
	if a.status != http.StatusSeeOther || a.to != "/admin/review" || !strings.HasPrefix(cookie, "registry=") || !strings.Contains(cookie, "; HttpOnly") || !strings.Contains(cookie, "; SameSite=Lax") || strings.Contains(cookie, "Secure") {
		t.Error(a.status, a.to, cookie)
	}
	v.must(v.get("/admin/account"), http.StatusOK, "boss", "administrator", "refused", "signed in")

	// Over TLS, as a proxy that is believed says, the cookie is bound to it.
	v.head.Set("X-Forwarded-Proto", "https")
	if a := v.get("/admin/"); a.status != http.StatusSeeOther {
		t.Errorf("a cookie that went over the open wire is taken for TLS: %d", a.status)
	}
	a = v.post("/admin/sign-in", "name", "boss", "password", secretWords)
	if cookie := a.header.Get("Set-Cookie"); !strings.HasPrefix(cookie, "__Host-registry=") || !strings.Contains(cookie, "; Secure") || !strings.Contains(cookie, "Path=/;") {
		t.Error(cookie)
	}
	v.head.Del("X-Forwarded-Proto")

	for _, to := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "/status", "/admin", "javascript:alert(1)"} {
		if a := o.visitor(t).post("/admin/sign-in", "name", "boss", "password", secretWords, "to", to); a.to != "/admin/" {
			t.Errorf("to %s: sent to %s", to, a.to)
		}
	}
	if a := v.get("/admin/sign-in"); a.to != "/admin/" {
		t.Errorf("who is signed in is asked again: %d", a.status)
	}
	before := o.as(t, "boss")
	session := before.cookie()
	if a := before.post("/admin/sign-out"); a.to != "/admin/sign-in" || before.cookie() != "" {
		t.Error(a)
	}
	before.head.Set("Cookie", "registry="+session)
	if a := before.get("/admin/"); a.status != http.StatusSeeOther {
		t.Errorf("a session that was signed out is taken: %d", a.status)
	}
}

// cookie is the secret of the visitor's session.
func (v *visitor) cookie() string {
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.url+"/admin/", nil)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range v.http.Jar.Cookies(r.URL) {
		if c.Name == "registry" {
			return c.Value
		}
	}
	return ""
}

// A session that somebody has put into a browser before the sign-in is not the one that it has after it, and is gone.
func TestSessionFixation(t *testing.T) {
	o := open(t, 1)
	attacker := o.as(t, "viewer")
	planted := attacker.cookie()
	victim := o.visitor(t)
	victim.head.Set("Cookie", "registry="+planted)
	if a := victim.post("/admin/sign-in", "name", "boss", "password", secretWords); a.status != http.StatusSeeOther || strings.Contains(a.header.Get("Set-Cookie"), planted) {
		t.Fatal(a)
	}
	if a := attacker.get("/admin/"); a.status != http.StatusSeeOther {
		t.Errorf("the planted session lives on: %d", a.status)
	}
	for _, made := range []string{"chosen", strings.Repeat("a", 64)} {
		v := o.visitor(t)
		v.head.Set("Cookie", "registry="+made)
		if a := v.post("/admin/sign-in", "name", "boss", "password", secretWords); strings.Contains(a.header.Get("Set-Cookie"), made) {
			t.Error("the session is what the browser came with")
		}
	}
}

func TestSignInsAreThrottled(t *testing.T) {
	o := open(t, 1)
	v := o.visitor(t)
	status := 0
	for range 7 {
		a := v.post("/admin/sign-in", "name", "boss", "password", "breadfruit and more")
		if status = a.status; status == http.StatusTooManyRequests {
			if a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "Please wait") {
				t.Error(a)
			}
			break
		}
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("seven wrong passwords: %d", status)
	}
	v.head.Set("X-Forwarded-For", "198.51.100.7")
	if a := v.post("/admin/sign-in", "name", "boss", "password", "breadfruit and more"); a.status != http.StatusTooManyRequests {
		t.Errorf("from another address: %d", a.status)
	}
	if log := o.log.String(); log != "" {
		t.Error(log)
	}
}

// No other site can send a form in the name of who is signed in.
func TestOtherSites(t *testing.T) {
	o := open(t, 50)
	id := o.asked(t, nil)
	uid := anyFarmer().UID
	for _, from := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.example"}}, {"Origin": {"null"}},
	} {
		for _, c := range [][]string{
			{fmt.Sprint("/admin/review/", id), "decision", "accept"}, {"/admin/farmers/" + uid + "/edit", "version", "1", "note", "x"}, {"/admin/export"}, {"/admin/imports"},
			{"/admin/sign-out"}, {"/admin/sign-in", "name", "boss", "password", secretWords}, append([]string{"/register"}, filled()...),
		} {
			v := o.as(t, "boss")
			v.head = from
			if a := v.post(c[0], c[1:]...); a.status != http.StatusForbidden || !strings.Contains(a.body, "came from another site") {
				t.Errorf("%v %s: %d", from, c[0], a.status)
			}
		}
	}
	if r, err := o.Review(t.Context(), registry.Actor{}, id); err != nil || r.State != "open" {
		t.Error(r, err)
	}
}

func TestRolesAndIslands(t *testing.T) {
	o := open(t, 400)
	f := anyFarmer()
	if f.Fields["island"] == "Aitutaki" {
		t.Fatal("choose another seed: the first farmer is to be of another island")
	}
	id := o.asked(t, nil)
	edit, question := "/admin/farmers/"+f.UID+"/edit", fmt.Sprint("/admin/review/", id)
	for _, c := range []struct {
		account, method, path string
		want                  int
	}{
		{"viewer", "GET", "/admin/farmers/" + f.UID, 200}, {"viewer", "GET", question, 200},
		{"viewer", "GET", edit, 403}, {"viewer", "POST", edit, 403}, {"viewer", "POST", question, 403},
		{"viewer", "GET", "/admin/imports", 403}, {"viewer", "POST", "/admin/imports", 403}, {"viewer", "POST", "/admin/export", 403},
		{"officer", "GET", edit, 200}, {"officer", "GET", "/admin/imports", 403}, {"officer", "POST", "/admin/export", 403}, {"officer", "GET", "/admin/imports/1/errors.csv", 403},
		{"aitutaki", "GET", "/admin/farmers/" + f.UID, 404}, {"aitutaki", "GET", edit, 404}, {"aitutaki", "POST", edit, 404},
		{"aitutaki", "GET", question, 404}, {"aitutaki", "POST", question, 404},
	} {
		v := o.as(t, c.account)
		a := v.get(c.path)
		if c.method == "POST" {
			a = v.post(c.path, "decision", "accept", "version", "1", "note", "x")
		}
		if a.status != c.want || c.want != 200 && strings.Contains(a.body, f.Fields.Text("family_name")) {
			t.Errorf("%s %s %s: %d, want %d", c.account, c.method, c.path, a.status, c.want)
		}
	}
	v := o.as(t, "aitutaki")
	list := v.get("/admin/farmers").body
	if strings.Contains(list, ", Rarotonga") || !strings.Contains(list, ", Aitutaki") {
		t.Error("an island's account sees another island, or nothing")
	}
	if a := v.get("/admin/farmers?q=" + f.Fields.Text("national_id")); strings.Contains(a.body, f.UID) {
		t.Error("a number finds a farmer of another island")
	}
	if a := v.post("/admin/export", "island", "Rarotonga"); a.status != http.StatusBadRequest {
		t.Errorf("another island's export: %d", a.status)
	}
	csv := v.must(v.post("/admin/export"), http.StatusOK, "Aitutaki").body
	if strings.Contains(csv, "Rarotonga") || strings.Contains(csv, f.UID) {
		t.Error("an export has another island's farmers")
	}
}

func TestFarmerPages(t *testing.T) {
	o := open(t, 400)
	v := o.as(t, "officer")
	f := anyFarmer()
	name := f.Fields.Text("given_name") + " " + f.Fields.Text("family_name")
	for _, q := range []string{f.Fields.Text("family_name"), f.Fields.Text("national_id"), strings.ToLower(f.Fields.Text("national_id"))} {
		v.must(v.get("/admin/farmers?q="+strings.ReplaceAll(q, " ", "+")), http.StatusOK, html.EscapeString(name))
	}
	if a := v.get("/admin/farmers?q=" + f.UID); a.to != "/admin/farmers/"+f.UID {
		t.Error(a.status, a.to)
	}
	v.must(v.get("/admin/farmers?q=x"), http.StatusOK, "needs two letters or more")
	v.must(v.get("/admin/farmers?q="+strings.Repeat("x", 300)), http.StatusOK, "is too long")
	v.must(v.get("/admin/farmers?q=qqqqqqqq"), http.StatusOK, "No farmer was found")
	v.must(v.get("/admin/farmers?status=nonsense&place=nonsense&after=nonsense"), http.StatusOK)

	// All parts of the list together have every farmer once.
	seen := map[string]bool{}
	path := "/admin/farmers"
	for path != "" {
		page := v.get(path).body
		path = ""
		for _, part := range strings.Split(page, `href="`)[1:] {
			link := html.UnescapeString(part[:strings.IndexByte(part, '"')])
			if uid, ok := strings.CutPrefix(link, "/admin/farmers/"); ok {
				if seen[uid] {
					t.Fatalf("%s twice", uid)
				}
				seen[uid] = true
			}
			if strings.Contains(link, "after=") {
				path = link
			}
		}
	}
	if len(seen) != 400 {
		t.Errorf("%d of 400 farmers listed", len(seen))
	}

	edit, home := "/admin/farmers/"+f.UID+"/edit", f.Fields.Text("island")+"/"+f.Fields.Text("village")
	v.must(v.get(edit), http.StatusOK, `name="version" value="1"`, `name="was_place" value="`+home+`"`)
	fields := func(version, phone, note string) []string {
		return []string{"version", version, "phone", phone, "was_phone", f.Fields.Text("phone"), "note", note, "was_note", "", "place", home, "was_place", home}
	}
	v.must(v.post(edit, fields("1", "5", "x")...), http.StatusUnprocessableEntity, "must be + and 7 to 15 digits", `value="5"`)
	v.must(v.post(edit, "version", "1", "given_name", "", "was_given_name", "A"), http.StatusUnprocessableEntity, "Given names: is required")
	v.must(v.post(edit, "version", "7", "note", "x", "was_note", ""), http.StatusConflict)
	if a := v.post(edit, fields("1", "+68255123", "<script>alert('x')</script>")...); a.status != http.StatusSeeOther {
		t.Fatal(a.status, a.body)
	}
	page := v.must(v.get("/admin/farmers/"+f.UID+"?done=saved"), http.StatusOK, "Saved.", "+68255123", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;", "update by account:officer", "Version 2")
	if strings.Contains(page.body, "<script") {
		t.Error("a script")
	}
	v.must(v.post(edit, "version", "2", "place", "Aitutaki/Paris", "was_place", home), http.StatusUnprocessableEntity, `href="#f-place"`, `aria-describedby="w-place"`)
	if a := v.post(edit, "version", "2", "note", "same", "was_note", "same"); a.status != http.StatusSeeOther || a.to != "/admin/farmers/"+f.UID {
		t.Error("an edit of nothing:", a.status, a.to)
	}

	// Somebody else was quicker: both versions are shown, and what was typed is still there.
	clash := v.must(v.post(edit, fields("1", "+68255999", "mine")...), http.StatusConflict, "Somebody else has changed this farmer", `data-label="You wrote">+68255999`, `data-label="It is now">+68255123`, `name="version" value="2"`, `value="+68255999"`)
	if strings.Contains(clash.body, `data-label="Field">Village`) {
		t.Error("a field that nobody has changed is shown as a clash")
	}
	if a := v.post(edit, "version", "2", "phone", "+68255999", "was_phone", "+68255123"); a.status != http.StatusSeeOther {
		t.Error(a.status)
	}
	if a := v.post(edit, "version", "3", "place", "Aitutaki/Vaipae", "was_place", home); a.status != http.StatusSeeOther {
		t.Error(a.status, a.body)
	}
	now, err := o.Get(t.Context(), registry.Actor{}, "farmer", f.UID)
	if err != nil || now.Version != 4 || now.Fields["island"] != "Aitutaki" || now.Fields["phone"] != "+68255999" || now.Fields["note"] != "<script>alert('x')</script>" {
		t.Error(now, err)
	}
}

// apply makes changes as a device, and returns the last one's result.
func (o *office) apply(t *testing.T, device string, changes ...registry.Change) registry.Result {
	t.Helper()
	for i := range changes {
		changes[i].OpID = fmt.Sprint(device, i, time.Now().UnixNano())
	}
	results, err := o.Apply(t.Context(), registry.Actor{Name: "device:" + device, Device: device}, time.Now(), changes)
	if err != nil {
		t.Fatal(err)
	}
	return results[len(results)-1]
}

// clashing makes a conflict about a farmer's birth date and note, and returns its number.
func (o *office) clashing(t *testing.T, uid string) int64 {
	t.Helper()
	update := func(f registry.Fields) registry.Change {
		return registry.Change{Entity: "farmer", UID: uid, Op: registry.Update, Base: 1, Fields: f, At: time.Now()}
	}
	o.apply(t, "a", update(registry.Fields{"birth_date": "1980-01-01", "given_name": "Ana"}))
	r := o.apply(t, "b", update(registry.Fields{"birth_date": "1981-01-01", "given_name": "Eva"}))
	if r.Outcome != registry.Conflict {
		t.Fatal(r)
	}
	return r.Review
}

func TestReviewPages(t *testing.T) {
	o := open(t, 50)
	v := o.as(t, "officer")
	uid := anyFarmer().UID
	conflict := fmt.Sprint("/admin/review/", o.clashing(t, uid))
	v.must(v.get("/admin/review?kind=conflict"), http.StatusOK, "A farmer&#39;s given names, date of birth", conflict)
	v.must(v.get("/admin/review?kind=nonsense&state=nonsense&after=x"), http.StatusOK, conflict)
	v.must(v.get(conflict), http.StatusOK, `data-label="It is now">1980-01-01`, `data-label="Was wanted">1981-01-01`, `name="field" value="birth_date"`, `name="seen" value="2"`)
	o.as(t, "viewer").must(o.as(t, "viewer").get(conflict), http.StatusOK, "Only an officer can decide")
	v.must(v.post(conflict, "decision", "accept", "seen", "2"), http.StatusUnprocessableEntity, "tick what is accepted")
	v.must(v.post(conflict, "decision", "marry", "seen", "2"), http.StatusUnprocessableEntity)
	v.must(v.post(conflict, "decision", "accept", "field", "birth_date", "seen", "1"), http.StatusConflict, "was changed while you were looking")
	v.must(v.post(conflict, "decision", "reject", "note", strings.Repeat("x", 600)), http.StatusUnprocessableEntity, "longer than 500")
	if a := v.post(conflict, "decision", "accept", "field", "birth_date", "seen", "2", "note", "<img src=x onerror=alert(1)>"); a.status != http.StatusSeeOther || a.to != "/admin/review?kind=conflict&done=accepted" {
		t.Fatal(a.status, a.body)
	}
	v.must(v.get("/admin/review?kind=conflict&done=accepted"), http.StatusOK, "Accepted and stored.", "all is decided")
	page := v.must(v.post(conflict, "decision", "reject"), http.StatusConflict, "Somebody else has decided", "account:officer", "&lt;img src=x")
	if strings.Contains(page.body, "<img") {
		t.Error("a note is markup")
	}
	now, err := o.Get(t.Context(), registry.Actor{}, "farmer", uid)
	if err != nil || now.Fields["birth_date"] != "1981-01-01" || now.Fields["given_name"] != "Ana" {
		t.Error(now, err)
	}

	// A preregistration of somebody who is registered.
	f, err := o.Get(t.Context(), registry.Actor{}, "farmer", uid)
	if err != nil {
		t.Fatal(err)
	}
	asked := fmt.Sprint("/admin/review/", o.asked(t, registry.Fields{"given_name": "Anna", "family_name": f.Fields["family_name"]}))
	v.must(v.get(asked), http.StatusOK, "asks to be registered", "Registered with a similar name", "/admin/farmers/"+uid)
	if a := v.post(asked, "decision", "accept"); a.to != "/admin/review?kind=preregistration&done=accepted" {
		t.Error(a.status, a.body)
	}

	// A duplicate.
	create := registry.Change{Entity: "farmer", UID: registry.NewUID(), Op: registry.Create, Fields: f.Fields.With(registry.Fields{"given_name": "Another"})}
	r := o.apply(t, "a", create)
	if r.Outcome != registry.Duplicate {
		t.Fatal(r)
	}
	duplicate := fmt.Sprint("/admin/review/", r.Review)
	v.must(v.get(duplicate), http.StatusOK, "Two farmers who may be one", `data-label="The newer one">Another`, `data-label="The older one">Ana`)
	if a := v.post(duplicate, "decision", "older"); a.to != "/admin/review?kind=duplicate&done=marked" {
		t.Error(a.status, a.body)
	}
	if now, err := o.Get(t.Context(), registry.Actor{}, "farmer", uid); err != nil || now.Fields["status"] != "duplicate" || now.Fields["national_id"] != nil {
		t.Error(now, err)
	}
	if log := o.log.String(); log != "" {
		t.Error(log)
	}
}

// Markup in everything that people can type does no harm on any page.
func TestMarkupIsText(t *testing.T) {
	o := open(t, 10)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>'{{.}}`
	uid := anyFarmer().UID
	text, err := json.Marshal(map[string]any{"crop": evil, "kind": "<u>"})
	if err != nil {
		t.Fatal(err)
	}
	r := o.apply(t, "<script>",
		registry.Change{Entity: "farmer", UID: uid, Op: registry.Update, Base: 1, Fields: registry.Fields{"note": evil}},
		registry.Change{Entity: "plot", UID: registry.NewUID(), Op: registry.Create, Fields: registry.Fields{"farmer": uid, "name": evil, "crop": evil, "shape": registry.JSON(`{"type":"Point","coordinates":[-159.78,-21.23]}`)}},
		registry.Change{Entity: "submission", UID: registry.NewUID(), Op: registry.Create, Fields: registry.Fields{"farmer": uid, "form": "crops", "form_version": 1.0, "answers": registry.JSON(text)}})
	if r.Outcome != registry.Created {
		t.Fatal(r)
	}
	v := o.as(t, "boss")
	imported := v.upload("file", evil+".csv", "given_name,family_name,birth_date,village,note\n"+`<script>,Tua,1990-01-01,Arorangi,"<script>"`+"\n")
	if imported.status != http.StatusSeeOther {
		t.Fatal(imported.status, imported.body)
	}
	_, admin := paths(uid, o.asked(t, nil))
	admin = append(admin, strings.TrimSuffix(imported.to, "?done=uploaded"), "/admin/farmers?q="+strings.NewReplacer(" ", "+", "<", "%3C", ">", "%3E", `"`, "%22", "{", "%7B", "}", "%7D").Replace(evil),
		"/admin/sign-in?to=%22%3E%3Cscript%3E", "/admin/review?kind=%3Cscript%3E&state=%3Cscript%3E&done=%3Cscript%3E")
	found := 0
	for _, path := range admin {
		a := v.get(path)
		for _, tag := range []string{"<script", "<img", "<u>", "<i>", "<b>"} {
			if strings.Contains(a.body, tag) {
				t.Errorf("%s has %s in it", path, tag)
			}
		}
		found += strings.Count(a.body, "&lt;script&gt;alert(1)")
	}
	if found < 5 {
		t.Errorf("the markup was shown %d times: the test looks at the wrong pages", found)
	}
	// The error report is a file for a spreadsheet, with a name that nobody chose.
	a := v.get(strings.TrimSuffix(imported.to, "?done=uploaded") + "/errors.csv")
	if disposition := a.header.Get("Content-Disposition"); !strings.HasPrefix(disposition, `attachment; filename="import-`) || strings.Contains(disposition, "script") {
		t.Error(disposition)
	}
}

// upload sends a file as the form of the imports does.
func (v *visitor) upload(field, name, text string) answer {
	v.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile(field, name)
	if err == nil {
		_, err = part.Write([]byte(text))
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		v.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.url+"/admin/imports", &body)
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	return v.do(r)
}

// run does what `registry work` does with an import.
func (o *office) run(t testing.TB) {
	t.Helper()
	all, err := exchange.Imports(t.Context(), o.Store, 1)
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	if err := exchange.Run(t.Context(), o.Store, all[0].ID, time.Now, nil); err != nil {
		t.Fatal(err)
	}
}

func TestImportAndExport(t *testing.T) {
	o := open(t, 50)
	v := o.as(t, "boss")
	v.must(v.get("/admin/imports"), http.StatusOK, "None yet", "At most 20 MB")
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"an empty file":       {"", "CSV file: "},
		"no header":           {"a,b\n1,2\n", "CSV file: "},
		"what is no CSV":      {"\x00\xff\x00", "CSV file: "},
		"a picture, as it is": {"\x89PNG\r\n\x1a\n", "CSV file: "},
	} {
		a := v.upload("file", name+".csv", c.text)
		v.must(a, http.StatusUnprocessableEntity, c.want, `role="alert"`)
	}
	big := strings.Repeat("x", exchange.MaxFile+2*maxForm)
	v.must(v.upload("file", "big.csv", big), http.StatusUnprocessableEntity, "CSV file: ", "larger than")
	v.must(v.upload("other", "big.csv", big), http.StatusRequestEntityTooLarge, "too large")
	v.must(v.post("/admin/imports", "file", "x"), http.StatusBadRequest)

	a := v.upload("file", "../../etc/list.csv", "given_name,family_name,birth_date,village,island\nTere,Pokino,1988-02-03,Vaipae,Aitutaki\nTom,Pokino,1988-02-03,Paris,\n")
	path := strings.TrimSuffix(a.to, "?done=uploaded")
	if a.status != http.StatusSeeOther || path == a.to {
		t.Fatal(a.status, a.to, a.body)
	}
	v.must(v.get(a.to), http.StatusOK, "The file has arrived", `http-equiv="refresh" content="3"`, "0 of 2 rows", ">waiting<")
	if page := v.get(path + "?watch=no"); strings.Contains(page.body, "http-equiv") {
		t.Error("the page cannot be kept from loading again")
	}
	o.run(t)
	page := v.must(v.get(path), http.StatusOK, "2 of 2 rows", ">done<", "Download the error report", "list.csv")
	if strings.Contains(page.body, "http-equiv") || strings.Contains(page.body, "etc/") {
		t.Error(page.body)
	}
	report := v.must(v.get(path+"/errors.csv"), http.StatusOK, "Tom,Pokino", "village")
	if kind := report.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/csv") || strings.Contains(report.body, "Tere") {
		t.Error(kind, report.body)
	}
	if a := o.as(t, "aitutaki").get(path); a.status != http.StatusNotFound {
		t.Errorf("an island's account sees an import of all islands: %d", a.status)
	}

	// Cancelled before it has begun.
	a = v.upload("file", "second.csv", "given_name,family_name,birth_date,village\nTere,Pokino,1988-02-03,Vaipae\n")
	second := strings.TrimSuffix(a.to, "?done=uploaded")
	if a := v.post(second + "/cancel"); a.to != second {
		t.Error(a.status, a.to)
	}
	v.must(v.get(second), http.StatusOK, ">cancelled<")

	csv := v.must(v.post("/admin/export"), http.StatusOK, "Pokino", anyFarmer().UID)
	if lines := strings.Count(csv.body, "\n"); lines != 52 || !strings.HasPrefix(csv.header.Get("Content-Disposition"), `attachment; filename="farmers-`) {
		t.Error(lines, csv.header)
	}
	pending := v.must(v.post("/admin/export", "status", "pending_verification", "island", "Aitutaki"), http.StatusOK, "Pokino").body
	if strings.Contains(pending, ",active,") {
		t.Error(pending)
	}
	v.must(v.get("/admin/account"), http.StatusOK, "exported")
}

func TestDashboard(t *testing.T) {
	o := open(t, 1234)
	o.asked(t, nil)
	v := o.as(t, "viewer")
	v.must(v.get("/admin/"), http.StatusOK, "<strong>1,234</strong> Farmers", "<strong>1</strong> Pre-registrations", "<strong>0</strong> Conflicts", `href="/admin/farmers?status=archived"`)
	v.must(v.get("/admin/forms"), http.StatusOK, "Crops &lt;b&gt;of&lt;/b&gt; the year", "What grows here?")
	if all := slices.Collect(func(yield func(string) bool) {
		for _, kind := range store.ReviewKinds {
			if kindLabels[kind] == "" {
				yield(kind)
			}
		}
	}); len(all) > 0 {
		t.Errorf("kinds without a name: %v", all)
	}
}

// BenchmarkPages is the time that a worker has a page in hand, with 100,000 farmers.
func BenchmarkPages(b *testing.B) {
	for name, open := range map[string]func(testing.TB, int) *office{"sqlite": open, "postgres": onPostgres} {
		b.Run(name, func(b *testing.B) {
			o := open(b, 100_000)
			v := o.as(b, "boss")
			portal, admin := paths(anyFarmer().UID, o.asked(b, nil))
			for _, path := range append(append(portal, admin...), "/admin/farmers?status=archived", "/admin/farmers?place=Rarotonga/Arorangi", "/admin/farmers?q=Tuatay") {
				b.Run(path, func(b *testing.B) {
					for b.Loop() {
						if a := v.get(path); a.status != http.StatusOK {
							b.Fatal(a.status)
						}
					}
				})
			}
		})
	}
}

// Accepting what cannot be stored says why, and leaves the question open; a deletion that was doubted is shown as one.
func TestDecisionsThatCannotBe(t *testing.T) {
	o := open(t, 50)
	v := o.as(t, "officer")
	one, two := farmers(2)[0], farmers(2)[1]
	o.apply(t, "a", registry.Change{Entity: "farmer", UID: one.UID, Op: registry.Update, Base: 1, Fields: registry.Fields{"note": "x", "national_id": "CK-7"}})
	taken := o.apply(t, "b", registry.Change{Entity: "farmer", UID: one.UID, Op: registry.Update, Base: 1, Fields: registry.Fields{"national_id": two.Fields["national_id"]}})
	gone := o.apply(t, "b", registry.Change{Entity: "farmer", UID: one.UID, Op: registry.Delete, Base: 1})
	if taken.Outcome != registry.Conflict || gone.Outcome != registry.Conflict {
		t.Fatal(taken, gone)
	}
	path := fmt.Sprint("/admin/review/", taken.Review)
	v.must(v.post(path, "decision", "accept", "field", "national_id", "seen", "2"), http.StatusUnprocessableEntity, "<li>National identity number: is another farmer")
	if r, err := o.Review(t.Context(), registry.Actor{}, taken.Review); err != nil || r.State != "open" {
		t.Error(r, err)
	}
	path = fmt.Sprint("/admin/review/", gone.Review)
	v.must(v.get(path), http.StatusOK, "The whole record is to be deleted.", "Delete it")
	if a := v.post(path, "decision", "accept", "seen", "2"); a.status != http.StatusSeeOther {
		t.Error(a.status, a.body)
	}
	if a := v.get("/admin/farmers/" + one.UID); a.status != http.StatusNotFound {
		t.Errorf("a deleted farmer: %d", a.status)
	}
}
