package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
	"tidemark/test/browser"
	"tidemark/test/servers"
)

// fullFleet has something of all that pages show: rules, a policy in shadow, an objective's rule, a forecast, a schedule, a budget and tags.
const fullFleet = `    tags: {component: registry-with-a-rather-long-name-of-its-own}
    signals:
      given: {push: {expiry: 1h}, period: 1s}
      api_p95: {push: {expiry: 1h, unit: seconds}, statistic: p95, period: 1s}
      rate: {push: {expiry: 1h}}
    policies:
      - id: by-hand
        rules:
          - {signal: given, operator: ">=", threshold: 70, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: given, operator: "<=", threshold: 30, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}
      - id: tried-out
        mode: shadow
        rules:
          - {signal: given, operator: ">=", threshold: 50, scale_change: +2, evaluation_periods: 1, datapoints_to_alarm: 1}
    schedule:
      - {name: off-peak, daily: "00:00-06:00", ceiling: 2}
    safeguards:
      budget: {monthly: 120.00, worker_hour: 0.04, currency: NZD, on_exceed: alert}`

// newFull is a daemon whose journal has a day behind it, whose page of reports has one, and which knows of two others: one that answers
// and one that is away.
func newFull(t testing.TB) (w *world, base string) {
	t.Helper()
	address, away := servers.FreeAddress(t), servers.FreeAddress(t)
	there := emptyWorld(t, 3)
	other := servers.FreeAddress(t)
	there.write("listen: "+other, pagesFleet)
	there.put("users", "")
	there.start()
	there.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })

	w = emptyWorld(t, 2)
	w.write(fmt.Sprintf("listen: %s\nalerts: {}\ndaemons: [{url: \"http://%s\"}, {url: \"http://%s\"}]", address, other, away), fullFleet)
	writeDay(t, filepath.Join(w.dir, "journal.db"))
	if err := os.MkdirAll(filepath.Join(w.dir, "reports"), 0o750); err != nil {
		t.Fatal(err)
	}
	w.put("reports/load-test.html", "<!doctype html><html lang=en><meta name=color-scheme content=light><title>Peak farmer registration &amp; drive</title><h1>Load test</h1>")
	if err := access.Edit(w.dir+"/users", func(a *access.Accounts) error { return a.SetUser("mele", web.Operator, password) }); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	for ; w.Daemons()[0].Heard.IsZero() || w.Daemons()[1].Away.IsZero(); time.Sleep(20 * time.Millisecond) {
	}
	return w, "http://" + address
}

// writeDay fills a journal with the day before now: readings, sizes, decisions and what became of them.
func writeDay(t testing.TB, path string) {
	t.Helper()
	j, err := sqlite.Open(t.Context(), path, record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().UTC().Add(-24 * time.Hour)
	var all []record.Tick
	for n := range 1400 {
		at, size := begin.Add(time.Duration(n)*time.Minute), 2+n/200
		fresh := func(v float64) fleet.Reading { return fleet.Reading{Value: v, Time: at, Quality: fleet.Fresh} }
		tick := record.Tick{Fleet: "f", Time: at, Size: fleet.Size{Known: true, Serving: size}, Readings: []record.Sample{
			{Signal: "given", Reading: fresh(float64(30 + n%60))}, {Signal: "api_p95", Reading: fresh(0.1 + float64(n%50)/100)}, {Signal: "rate", Reading: fresh(float64(n % 100))}}}
		if n%200 == 199 {
			d := &fleet.Decision{Fleet: "f", Time: at, From: size, To: size + 1, Reasons: []fleet.Reason{
				{Code: fleet.RuleOut, Policy: "by-hand", Signal: "given", Operator: fleet.AtLeast, Value: 81, Threshold: 70, Breaching: 2, M: 2, N: 3, Size: size + 1},
				{Code: fleet.RuleShadow, Policy: "tried-out", Signal: "given", Operator: fleet.AtLeast, Value: 81, Threshold: 50, Breaching: 1, M: 1, N: 1, Size: size + 2}}}
			tick.Decision = d
			tick.Events = []fleet.Event{{Time: at, Fleet: "f", Kind: fleet.EventDecision, From: size, To: size + 1, Decision: d},
				{Time: at.Add(time.Second), Fleet: "f", Kind: fleet.EventActionDone, From: size, To: size + 1, Duration: fleet.Duration(21 * time.Second), Parts: &fleet.Parts{ActionToServing: fleet.Duration(20 * time.Second)}}}
		}
		all = append(all, tick)
	}
	if err := j.Commit(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// contrasts lists what is too faint to read: text at less than 4.5 to 1 against what is behind it (3 to 1 where it is large), and fields
// whose edge has less than 3 to 1 (WCAG 2.1, 1.4.3 and 1.4.11).
const contrasts = `(() => {
  const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1 } }
  const over = (f, b) => ({ r: f.r * f.a + b.r * (1 - f.a), g: f.g * f.a + b.g * (1 - f.a), b: f.b * f.a + b.b * (1 - f.a), a: 1 })
  const light = c => [c.r, c.g, c.b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0)
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05) }
  const canvas = matchMedia('(prefers-color-scheme: dark)').matches && !document.querySelector('meta[name=color-scheme][content=light]') ? { r: 18, g: 18, b: 18, a: 1 } : { r: 255, g: 255, b: 255, a: 1 }
  const behind = e => {
    const layers = []
    for (let at = e; at; at = at.parentElement) { const c = parse(getComputedStyle(at).backgroundColor); if (c.a > 0) layers.push(c); if (c.a === 1) break }
    return layers.reduceRight((b, f) => over(f, b), canvas)
  }
  const bad = new Set()
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement
    if (!texts.currentNode.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest('title, desc, style, script, .skip, thead, option')) continue
    const s = getComputedStyle(e), svg = e instanceof SVGElement
    const size = parseFloat(s.fontSize), need = size >= 24 || size >= 18.66 && s.fontWeight >= 700 ? 3 : 4.5
    const b = behind(svg ? e.closest('figure, div, body') : e), f = over(parse(svg ? s.fill : s.color), b), r = ratio(f, b)
    if (r < need) bad.add(e.tagName + '.' + (e.getAttribute('class') || '') + ' "' + texts.currentNode.data.trim().slice(0, 30) + '" ' + r.toFixed(2))
  }
  for (const e of document.querySelectorAll('input:not([type=hidden]), select, button, .button')) {
    if (!e.checkVisibility() || e.matches('.plain')) continue
    const b = behind(e.parentElement), s = getComputedStyle(e), r = Math.max(ratio(over(parse(s.borderTopColor), b), b), ratio(over(parse(s.backgroundColor), b), b))
    if (r < 3) bad.add(e.tagName + ' edge ' + r.toFixed(2))
  }
  return [...bad]
})()`

// operable is what can be operated on a page and is seen, in its order.
const operable = `[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')].filter(e => e.checkVisibility({ visibilityProperty: true }))`

// controls names what is operable, and puts the focus before all of it.
const controls = `(() => {
  document.activeElement.blur()
  getSelection().removeAllRanges()
  return ` + operable + `.map(e => e.tagName + ' ' + (e.textContent || e.name || e.id).trim().slice(0, 40))
})()`

// focused says where the focus is in what is operable, and whether that is seen: an outline of 2 px or more, inside the window.
const focused = `(() => {
  const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect()
  return { nth: ` + operable + `.indexOf(e), seen: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 && r.width > 0 && r.right > 0 && r.left < innerWidth && r.bottom > 0 && r.top < innerHeight }
})()`

// wide names what reaches over the right edge of the window, and cannot be scrolled by itself.
const wide = `[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5 && ![...Array(20)].reduce((a) => a[0] ? [a[0].parentElement, a[1] || a[0] !== e && getComputedStyle(a[0]).overflowX === 'auto'] : a, [e, false])[1]).slice(0, 4).map(e => e.tagName + '.' + (e.getAttribute('class') || e.id) + ' ' + e.textContent.trim().slice(0, 40))`

// Every page, as somebody on a desktop, on a phone, in the dark and without a mouse meets it.
func TestEveryPageInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	w, base := newFull(t)
	p := browser.Start(t).Open()
	p.Go(base + "/sign-in")
	p.Fill("input[name=name]", "mele")
	p.Fill("input[name=password]", password)
	p.PressFollow("Enter")
	order := url.Values{"kind": {"scale"}, "size": {"4"}, "for": {"1h"}, "note": {"market day"}}.Encode()
	var what web.WhatIf
	if err := json.Unmarshal([]byte(ask(t, http.MethodGet, base+"/api/v1/fleets/f/what-if?days=2", nil).body), &what); err != nil || len(what.Settings) == 0 {
		t.Fatal(what, err)
	}
	month := time.Now().UTC().Format("2006-01")
	for _, path := range []string{
		"/", "/fleets/f?zoom=1d", "/fleets/f/policies", "/fleets/f/decisions", "/fleets/f/costs", "/reports", "/reports/" + month, "/api/v1/reports/kept/load-test.html",
		"/fleets/f/what-if", "/fleets/f/what-if?days=2&set:" + url.QueryEscape(what.Settings[0].Path) + "=60", "/fleets/f/order?" + order, "/fleets/f/order?kind=scale&size=many", "/events?kind=decision", "/alerts", "/sign-in", "/banner",
	} {
		for _, width := range []int{1280, 360} {
			p.Size(width, 800)
			p.Go(base + path)
			if dir := os.Getenv("TIDEMARK_SCREENSHOTS"); dir != "" { // to look at them
				name := strings.Map(func(r rune) rune { return map[bool]rune{true: '_', false: r}[strings.ContainsRune("/?&:%", r)] }, path)
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("page%.60s-%d.png", name, width)), p.Screenshot(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if n := p.Overflow(); n > 0 {
				var what []string
				p.Eval(wide, &what)
				t.Errorf("%s is %d px too wide at %d: %q", path, n, width, what)
			}
			for _, dark := range []bool{false, true} {
				p.Dark(dark)
				var faint []string
				if p.Eval(contrasts, &faint); len(faint) > 0 {
					t.Errorf("%s at %d, dark %v: too faint: %s", path, width, dark, strings.Join(faint, "; "))
				}
			}
		}
		if path != "/banner" && !strings.HasPrefix(path, "/api/") {
			walk(t, p, path)
		}
		if problems := p.Problems(); len(problems) > 0 {
			t.Fatalf("%s: the browser says %v", path, problems)
		}
	}
	if p.Size(1280, 800); w.scaled() != "" {
		t.Errorf("looking at pages has scaled the fleet to %s", w.scaled())
	}
}

// walk goes through a page by Tab alone: everything is reached, in its order, and it is seen where one is.
func walk(t *testing.T, p *browser.Page, path string) {
	t.Helper()
	var all []string
	p.Eval(controls, &all)
	if len(all) == 0 && !strings.HasPrefix(path, "/reports/") {
		t.Errorf("%s: nothing can be operated", path)
	}
	var reached []int
	for range len(all) {
		p.Press("Tab")
		var at struct {
			Nth  int
			Seen bool
		}
		p.Eval(focused, &at)
		if at.Nth < 0 || at.Nth >= len(all) {
			continue // of the browser, or new
		}
		reached = append(reached, at.Nth)
		if !at.Seen {
			t.Errorf("%s: the focus is not seen on %s", path, all[at.Nth])
		}
	}
	for i, name := range all {
		if !slices.Contains(reached, i) {
			t.Errorf("%s: Tab does not reach %d of %d: %s", path, i, len(all), name)
		}
	}
	if !slices.IsSorted(reached) {
		t.Errorf("%s: Tab goes back and forth: %v", path, reached)
	}
}

// An order is given, and left, by keys alone; and the link that skips the navigation leads to the content.
func TestOrderByKeyboard(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	w, base := newFull(t)
	p := browser.Start(t).Open()
	p.Go(base + "/sign-in?to=/fleets/f")
	p.Fill("input[name=name]", "mele")
	p.Fill("input[name=password]", password)
	p.PressFollow("Enter")
	at := func() (what string) {
		t.Helper()
		p.Eval("((e) => e.id || e.name || e.textContent.trim())(document.activeElement)", &what)
		return what
	}
	to := func(want string) {
		t.Helper()
		for range 60 {
			p.Press("Tab")
			if at() == want {
				return
			}
		}
		t.Fatalf("Tab does not lead to %s", want)
	}
	if p.Press("Tab"); at() != "Skip to the content" {
		t.Errorf("the first is %q", at())
	}
	if p.Press("Enter"); at() != "main" {
		t.Errorf("skipping leads to %q", at())
	}
	for _, confirmed := range []bool{false, true} {
		p.Go(base + "/fleets/f")
		to("Give an order, or note something")
		p.Press("Enter")
		to("size")
		p.Fill("input[name=size]", "5")
		to("note")
		p.Fill("#orders form input[name=note]", "market day")
		p.PressFollow("Enter")
		if !strings.Contains(p.Text("main"), "Set f to 5 workers for 1h") {
			t.Fatalf("it asks %q", p.Text("main"))
		}
		if confirmed {
			to("confirm")
		} else {
			to("Leave it")
		}
		p.PressFollow("Enter")
		if p.Path() != "/fleets/f" {
			t.Fatalf("it leads to %s", p.Path())
		}
		if !confirmed && w.status().Order != nil {
			t.Fatal("the order that was left was given")
		}
	}
	w.eventually("five workers", func(st *control.Status) bool { return st.Size.Serving == 5 })
	orders, err := w.Events(t.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventOrder}})
	if err != nil || len(orders) != 1 || orders[0].By != "mele" || orders[0].Note != "market day" || orders[0].Origin != "127.0.0.1" {
		t.Errorf("the record says %+v, %v", orders, err)
	}
}

// A page that is open while the daemon is started anew says that it has no connection, and is up to date again by itself.
func TestPageSurvivesARestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	w, base, _ := newPages(t)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	p := browser.Start(t).Open()
	p.Go(base + "/fleets/f")
	says := func(words string) {
		t.Helper()
		text, _ := json.Marshal(words) // a string
		p.Eval(fmt.Sprintf(`new Promise((done, fail) => { const bar = document.getElementById("link"), look = () => bar.textContent.includes(%s) && done(bar.textContent); new MutationObserver(look).observe(bar, { childList: true, characterData: true, subtree: true }); look(); setTimeout(() => fail(new Error("it says " + bar.textContent)), 40000) })`, text), nil)
	}
	w.Stop()
	says("No connection to Tidemark since")
	w.put("size", "7")
	w.start()
	says("Tidemark was started anew; this page is up to date again")
	w.eventually("seven workers", func(st *control.Status) bool { return st.Size.Serving == 7 })
	p.Eval(`new Promise((done, fail) => { const look = () => document.querySelector("#state .size strong").textContent === "7" ? done() : setTimeout(look, 50); look(); setTimeout(() => fail(new Error("it is not up to date")), 40000) })`, nil)
}

// The overview shows other daemons: one that answers with its fleets and in its zone, one that is away with since when, and no figures.
func TestOtherDaemons(t *testing.T) {
	w, base := newFull(t)
	body := ask(t, http.MethodGet, base+"/", nil).body
	_, elsewhere, _ := strings.Cut(body, `<div id="elsewhere">`)
	if strings.Count(elsewhere, `class="card"`) != 1 || !strings.Contains(elsewhere, "<strong>3</strong> workers") || !strings.Contains(elsewhere, `href="http://127.0.0.1:`) {
		t.Errorf("the one that answers:\n%s", elsewhere)
	}
	if !strings.Contains(elsewhere, "<strong>away</strong> for ") || !strings.Contains(elsewhere, "was not heard since this daemon was started") || strings.Contains(elsewhere, "<strong>0</strong>") {
		t.Errorf("the one that is away:\n%s", elsewhere)
	}
	var got []web.Daemon
	if err := json.Unmarshal([]byte(ask(t, http.MethodGet, base+"/api/v1/daemons", nil).body), &got); err != nil || len(got) != 2 || got[0].Overview == nil || got[1].Overview != nil || got[1].Away.IsZero() {
		t.Errorf("the API: %+v, %v", got, err)
	}
	w.write("listen: "+strings.TrimPrefix(base, "http://"), fullFleet)
	if err := w.Reload(context.Background()); err != nil || len(w.Daemons()) != 0 {
		t.Errorf("after a reload without them: %v, %v", w.Daemons(), err)
	}
}

// Reports that are kept are listed and opened, can do nothing, and nothing else is served by their names.
func TestReportsAreServed(t *testing.T) {
	w, base := newFull(t)
	w.put("secret.html", "secret")
	if err := os.Symlink(filepath.Join(w.dir, "secret.html"), filepath.Join(w.dir, "reports", "link.html")); err != nil {
		t.Fatal(err)
	}
	list := ask(t, http.MethodGet, base+"/reports", nil)
	if !strings.Contains(list.body, ">Peak farmer registration &amp; drive</a>") || strings.Contains(list.body, "link.html") {
		t.Errorf("the list: %s", list.body)
	}
	kept := ask(t, http.MethodGet, base+"/api/v1/reports/kept/load-test.html", nil)
	if csp := kept.header.Get("Content-Security-Policy"); kept.code != http.StatusOK || !strings.Contains(csp, "sandbox") || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script-src") {
		t.Errorf("a report: %d, %s", kept.code, csp)
	}
	for _, name := range []string{"link.html", "..%2fsecret.html", "..%2f..%2fetc%2fpasswd", "%2e%2e", "users", "load-test.html%00"} {
		if a := ask(t, http.MethodGet, base+"/api/v1/reports/kept/"+name, nil); a.code == http.StatusOK || strings.Contains(a.body, "secret\n") {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
	month := time.Now().UTC().Format("2006-01")
	if a := ask(t, http.MethodGet, base+"/reports/"+month, nil); a.code != http.StatusOK || !strings.Contains(a.body, "In short") {
		t.Errorf("the month: %d %.300s", a.code, a.body)
	}
	if a := ask(t, http.MethodGet, base+"/fleets/f/costs", nil); a.code != http.StatusOK || !strings.Contains(a.body, "NZD") || !strings.Contains(a.body, "Time to scale") {
		t.Errorf("costs: %d %.300s", a.code, a.body)
	}
	for _, path := range []string{"/reports/2199-01", "/reports/x", "/fleets/f/costs?month=x", "/fleets/nobody/costs"} {
		if a := ask(t, http.MethodGet, base+path, nil); a.code != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.code)
		}
	}
}

// The timeline shows beside what was measured what a forecast had expected of it, also of what is still to come, and marks what a policy in
// shadow would have done.
func TestForecastAndShadowOnTheTimeline(t *testing.T) {
	address := servers.FreeAddress(t)
	w := emptyWorld(t, 2)
	w.tick = "15s"
	w.write("listen: "+address, `    signals:
      rate: {access_log: {path: /var/log/access.log, field: rate}, period: 15s}
      p95: {access_log: {path: /var/log/access.log}, statistic: p95, window: 5m}
      s50: {access_log: {path: /var/log/service.log}, statistic: p50, window: 5m}
      s95: {access_log: {path: /var/log/service.log}, statistic: p95, window: 5m}
    safeguards: {step: {up: 8}}
    policies:
      - id: api-slo
        mode: shadow
        objective: {signal: p95, within: 400ms, drain: 90s}
        demand: {rate: rate, service_time: [s95, s50]}
        workers: {contention: 0.02}
      - id: mornings
        mode: shadow
        forecast: {signal: rate, sized_by: api-slo, lead: 10m}
      - id: tried-out
        mode: shadow
        rules:
          - {signal: rate, operator: ">=", threshold: 50, scale_change: +1, evaluation_periods: 1, datapoints_to_alarm: 1}`)
	j, err := sqlite.Open(t.Context(), filepath.Join(w.dir, "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().UTC().Add(-time.Hour)
	for n := range 239 {
		at := begin.Add(time.Duration(n) * 15 * time.Second)
		fresh := func(v float64) fleet.Reading { return fleet.Reading{Value: v, Time: at, Quality: fleet.Fresh} }
		tick := record.Tick{Fleet: "f", Time: at, Size: fleet.Size{Known: true, Serving: 2}, Readings: []record.Sample{{Signal: "rate", Reading: fresh(float64(n))}}}
		for bound, v := range map[string]float64{"low": 0.8, "median": 1, "high": 1.2} {
			tick.Readings = append(tick.Readings, record.Sample{Signal: record.ForecastSignal("mornings", bound), Reading: fresh(v * float64(n+40))}) // as it came, ten minutes later
		}
		tick.Readings = append(tick.Readings, record.Sample{Signal: record.PolicySignal("mornings"), Reading: fresh(5)})
		if n == 120 {
			tick.Decision = &fleet.Decision{Fleet: "f", Time: at, From: 2, To: 2, Reasons: []fleet.Reason{{Code: fleet.RuleShadow, Policy: "tried-out", Signal: "rate", Operator: fleet.AtLeast, Value: 51, Threshold: 50, Breaching: 1, M: 1, N: 1, Size: 3}}}
		}
		if err := j.Commit(t.Context(), tick); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	body := ask(t, http.MethodGet, "http://"+address+"/fleets/f?zoom=1h", nil).body
	for _, want := range []string{"forecast 10m ahead", "as it was forecast to lie", "mornings alone", "mark faint", "tried-out"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// The newest that was measured is 238, and the newest forecast, ten minutes after now, 278.
	_, rate, _ := strings.Cut(body, "<title>rate</title>")
	rate, _, _ = strings.Cut(rate, "</desc>")
	if !strings.Contains(rate, "rate: 1 to 238") || !strings.Contains(rate, "forecast 10m ahead: 40 to 278") {
		t.Errorf("the chart of the rate says %s", rate)
	}
	var e web.Explanation
	if err := json.Unmarshal([]byte(ask(t, http.MethodGet, "http://"+address+"/api/v1/fleets/f/explanation?at="+begin.Add(30*time.Minute).Format(time.RFC3339), nil).body), &e); err != nil || len(e.Readings) != 1 || e.Readings[0].Signal != "rate" {
		t.Errorf("what is forecast is taken for a reading: %+v, %v", e.Readings, err)
	}
}
