package site

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/registry"
	"tidemark/registry/exchange"
	"tidemark/registry/seed"
	"tidemark/registry/store/postgres"
	"tidemark/test/browser"
	"tidemark/test/servers"
)

// onPostgres is an office as open makes it, in PostgreSQL behind PgBouncer.
func onPostgres(t testing.TB, farmers int) *office {
	t.Helper()
	pg := servers.Postgres(t, "fsync=off")
	pg.CreateDB("registry")
	direct, err := postgres.Open(t.Context(), pg.URL("registry"), 1) // to load is to use a connection for each table
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(seed.Fill(t.Context(), direct, seed.Farmers(1, farmers), nil), direct.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Open(t.Context(), servers.PgBouncer(t, pg, "default_pool_size=4").URL("registry"), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.AddForm(t.Context(), crops); err != nil {
		t.Fatal(err)
	}
	for name, a := range accounts {
		a.Name, a.CreatedAt = name, time.Now()
		if _, err := s.AddAccount(t.Context(), a, secretWords); err != nil {
			t.Fatal(err)
		}
	}
	return serve(t, s)
}

// accessible finds what a page lacks for those who hear it or use no mouse.
const accessible = `(() => {
	const wrong = []
	if (!document.documentElement.lang) wrong.push('no language')
	if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1')
	if (!document.querySelector('main')) wrong.push('no main')
	if (!document.title.trim()) wrong.push('no title')
	let level = 0
	for (const h of document.querySelectorAll('h1, h2, h3')) {
		const is = Number(h.tagName[1])
		if (is > level + 1 && level > 0) wrong.push('a heading skips a level: ' + h.innerText)
		level = is
	}
	const ids = new Set()
	for (const e of document.querySelectorAll('[id]')) {
		if (ids.has(e.id)) wrong.push('two of the id ' + e.id)
		ids.add(e.id)
	}
	for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
		if (!e.labels?.length && !e.getAttribute('aria-label')) wrong.push('no label: ' + e.name)
		for (const id of (e.getAttribute('aria-describedby') ?? '').split(' ').filter(x => x)) if (!ids.has(id)) wrong.push(e.name + ' is described by what is not there: ' + id)
	}
	for (const a of document.querySelectorAll('a[href^="#"]')) if (!ids.has(a.getAttribute('href').slice(1))) wrong.push('a link to nowhere: ' + a.getAttribute('href'))
	for (const e of document.querySelectorAll('a, button')) {
		if (!e.innerText.trim() && !e.getAttribute('aria-label') && !e.closest('.skip')) wrong.push('a link or button without words: ' + e.outerHTML)
		const r = e.getBoundingClientRect()
		if (e.matches('button, .button, nav a') && r.height < 24) wrong.push('too small to hit: ' + e.outerHTML)
	}
	return wrong
})()`

// The pages in a real browser: what people do, and how it looks. With -artifacts the pictures are kept.
func TestInABrowser(t *testing.T) {
	o := onPostgres(t, 2000)
	chromium := browser.Start(t)
	p := chromium.Open()
	folder := t.ArtifactDir()
	look := func(name string) {
		t.Helper()
		var wrong []string
		if p.Eval(accessible, &wrong); len(wrong) > 0 {
			t.Errorf("%s: %s", name, strings.Join(wrong, "; "))
		}
		for _, d := range []struct {
			name          string
			width, height int
			dark          bool
		}{{"desktop", 1280, 800, false}, {"phone", 390, 844, false}, {"dark", 1280, 800, true}} {
			p.Size(d.width, d.height)
			p.Dark(d.dark)
			if over := p.Overflow(); over > 0 {
				t.Errorf("%s on a %s: %d pixels wider than the window", name, d.name, over)
			}
			if err := os.WriteFile(filepath.Join(folder, name+"-"+d.name+".png"), p.Screenshot(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		p.Size(1280, 800)
		p.Dark(false)
	}
	text := func(want string) {
		t.Helper()
		if got := p.Text("body"); !strings.Contains(got, want) {
			t.Fatalf("at %s: no %q in\n%s", p.Path(), want, got)
		}
	}

	// A farmer, in Samoan and then in English, makes a mistake, corrects it and asks for the status.
	p.Go(o.url + "/")
	look("home")
	p.Follow(".languages a")
	text(languages["sm"].T("home.title"))
	look("home-samoan")
	p.Follow(".languages a")
	p.Follow("main .button")
	p.Fill("#f-given_name", "Tere")
	p.Fill("#f-birth_date", "1990-05-06")
	p.Fill("#f-phone", "55123")
	p.Fill("#f-place", "Aitutaki/Vaipae")
	p.Follow("main button")
	text("There is a problem")
	look("register-wrong")
	p.Click(".summary a")
	var focused string
	if p.Eval("document.activeElement.id", &focused); focused != "f-family_name" {
		t.Errorf("the summary leads to %q", focused)
	}
	p.Fill("#f-family_name", "Marsters")
	p.Fill("#f-phone", "+68255123")
	p.Click("label[for=f-consent]")
	p.Follow("main button")
	reference := p.Text(".reference")
	look("done")
	p.Follow("main .button")
	p.Fill("#f-reference", strings.ToLower(reference))
	p.PressFollow("Enter")
	text("Waiting")
	look("status")
	p.Go(o.url + "/register")
	look("register")

	// An officer signs in by keyboard alone.
	p.Go(o.url + "/admin/review")
	look("sign-in")
	p.Press("Tab", "Enter") // the skip link
	p.Press("Tab")
	if p.Eval("document.activeElement.name", &focused); focused != "name" {
		t.Errorf("behind the skip link is %q", focused)
	}
	p.Fill("#f-name", "boss")
	p.Press("Tab")
	p.Fill("#f-password", "not the words")
	p.PressFollow("Tab", "Enter")
	text("The account or the password is wrong.")
	p.Fill("#f-password", secretWords)
	p.PressFollow("Enter")
	if p.Path() != "/admin/review" {
		t.Errorf("after the sign-in at %s", p.Path())
	}
	text("Tere Marsters asks to be registered")

	// Search, a farmer, an edit that somebody else was quicker with.
	f := anyFarmer()
	o.furnish(t, f.UID)
	p.Go(o.url + "/admin/")
	look("dashboard")
	p.Follow("nav.main a[href='/admin/farmers']")
	look("farmers")
	p.Fill("#f-q", strings.ToLower(f.Fields.Text("family_name")))
	p.PressFollow("Enter")
	text("found")
	look("search")
	p.Follow("a[href='/admin/farmers/" + f.UID + "']")
	look("farmer")
	p.Follow("main .button")
	look("edit")
	p.Fill("#f-phone", "+68255999")
	o.apply(t, "c", registry.Change{Entity: "farmer", UID: f.UID, Op: registry.Update, Base: 2, Fields: registry.Fields{"phone": "+68255111", "note": "Has moved in with her daughter."}, At: time.Now()})
	p.Follow("main .actions button")
	text("Somebody else has changed this farmer")
	look("edit-clash")
	p.Follow("main .actions button")
	text("Saved.")
	text("+68255999")
	text("Has moved in with her daughter.")

	// The review queue: a conflict, of which one field is accepted, and the preregistration.
	second := farmers(2)[1]
	id := o.clashing(t, second.UID)
	o.apply(t, "d", registry.Change{Entity: "farmer", UID: registry.NewUID(), Op: registry.Create, Fields: second.Fields, At: time.Now()})
	p.Go(o.url + "/admin/review")
	look("queue")
	p.Follow(fmt.Sprintf("a[href='/admin/review/%d']", id))
	look("conflict")
	p.Click("[name=field][value=given_name]") // leave it as it is
	p.Fill("#f-note", "The passport says so.")
	p.Follow("[name=decision][value=accept]")
	text("Accepted and stored.")
	if now, err := o.Get(t.Context(), registry.Actor{}, "farmer", second.UID); err != nil || now.Fields["birth_date"] != "1981-01-01" || now.Fields["given_name"] != "Ana" {
		t.Error(now, err)
	}
	p.Go(o.url + "/admin/review?kind=duplicate")
	p.Follow("tbody a")
	look("duplicate")
	p.Follow("[name=decision][value=newer]")
	text("Marked as a duplicate.")
	p.Go(o.url + "/admin/review?kind=preregistration")
	p.Follow("tbody a")
	look("preregistration")
	p.Follow("[name=decision][value=accept]")
	text("Accepted and stored.")

	// An import, followed while it runs.
	file := filepath.Join(t.TempDir(), "list of 2026.csv")
	var rows strings.Builder
	rows.WriteString("given_name,family_name,birth_date,village,island\n")
	for i := range 250 {
		village := "Vaipae"
		if i%50 == 0 {
			village = "Paris"
		}
		fmt.Fprintf(&rows, "Mere,Pokino %c%c,1988-02-%02d,%s,\n", 'a'+i%26, 'a'+i/26, 1+i%28, village)
	}
	if err := os.WriteFile(file, []byte(rows.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	p.Follow("nav.main a[href='/admin/imports']")
	p.Choose("#f-file", file)
	p.Follow("main form[action='/admin/imports'] button")
	text("The file has arrived")
	text("0 of 250 rows")
	look("import-waiting")
	done := make(chan error, 1)
	go func() {
		all, err := exchange.Imports(t.Context(), o.Store, 1)
		if err == nil {
			err = exchange.Run(t.Context(), o.Store, all[0].ID, time.Now, nil)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p.Loaded() // by itself
	text("250 of 250 rows")
	look("import-done")
	var report string
	p.Eval("fetch(document.querySelector('main .button').href).then(r => r.text()).catch(e => 'blocked: ' + e)", &report)
	if !strings.HasPrefix(report, "blocked") { // the content security policy stops even our own script here
		t.Errorf("a script could send something: %s", report)
	}
	p.Go(o.url + "/admin/imports")
	look("imports")
	p.Go(o.url + "/admin/forms")
	p.Click("summary")
	look("forms")
	p.Go(o.url + "/admin/account")
	look("account")
	p.Go(o.url + "/admin/nothing")
	look("not-found")
	p.Follow(".who button")
	p.Go(o.url + "/admin/farmers")
	if !strings.HasPrefix(p.Path(), "/admin/sign-in") {
		t.Errorf("after signing out at %s", p.Path())
	}

	stranger := chromium.Open()
	stranger.Go(o.url + "/status")
	stranger.Fill("#f-reference", reference)
	stranger.PressFollow("Enter")
	if got := stranger.Text("main"); !strings.Contains(got, "Accepted") || strings.Contains(got, "Marsters") {
		t.Error(got)
	}
	for _, problem := range append(p.Problems(), stranger.Problems()...) {
		if !strings.Contains(problem, "errors.csv") && !strings.Contains(problem, "status of 4") { // what the test did on purpose
			t.Error(problem)
		}
	}
	if log := o.log.String(); log != "" {
		t.Error(log)
	}
}

func farmers(n int) (all []registry.Record) {
	for f := range seed.Farmers(1, n) {
		all = append(all, f)
	}
	return all
}

// furnish gives a farmer a plot, answers and a history.
func (o *office) furnish(t *testing.T, uid string) {
	t.Helper()
	plot := func(f registry.Fields) registry.Change {
		return registry.Change{Entity: "plot", UID: registry.NewUID(), Op: registry.Create, Fields: f.With(registry.Fields{"farmer": uid}), At: time.Now()}
	}
	r := o.apply(t, "tablet-7",
		registry.Change{Entity: "farmer", UID: uid, Op: registry.Update, Base: 1, Fields: registry.Fields{"phone": "+68255123", "note": "Speaks Māori and English."}, At: time.Now()},
		plot(registry.Fields{"name": "By the school", "size_ha": 0.75, "crop": "taro", "tenure": "customary", "shape": registry.JSON(`{"type":"Point","coordinates":[-159.778,-21.2345]}`)}),
		plot(registry.Fields{"name": "Uphill", "size_ha": 2.0, "crop": "coffee", "tenure": "leased", "shape": registry.JSON(`{"type":"Polygon","coordinates":[[[-159.8,-21.2],[-159.8,-21.3],[-159.7,-21.3],[-159.8,-21.2]]]}`)}),
		registry.Change{Entity: "submission", UID: registry.NewUID(), Op: registry.Create, At: time.Now(), Fields: registry.Fields{"farmer": uid, "form": "crops", "form_version": 1.0, "answers": registry.JSON(`{"crop":"taro and coffee","kind":"root"}`)}})
	if r.Outcome != registry.Created {
		t.Fatal(r)
	}
}
