package app

import (
	"testing"

	"tidemark/internal/control"
	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
	"tidemark/test/browser"
)

// A person signs in by the keyboard alone, on a wide window and on a phone, and is where the page that was asked for is.
func TestSignInByKeyboard(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	w, base, _ := newPages(t)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	if err := access.Edit(w.dir+"/users", func(a *access.Accounts) error { return a.SetUser("mele", web.Operator, password) }); err != nil {
		t.Fatal(err)
	}
	p := browser.Start(t).Open()
	focus := func(want string) {
		t.Helper()
		var at string
		if p.Eval("document.activeElement.name || document.activeElement.textContent", &at); at != want {
			t.Fatalf("the focus is at %q, want %q", at, want)
		}
	}
	for _, width := range []int{1280, 360} {
		p.Size(width, 800)
		p.Go(base + "/sign-in?to=/fleets/f")
		if n := p.Overflow(); n > 0 {
			t.Errorf("%d wide: %d too wide", width, n)
		}
		focus("name")
		p.Fill("input[name=name]", "mele")
		p.Press("Tab")
		focus("password")
		p.Fill("input[name=password]", password)
		p.PressFollow("Enter")
		if p.Path() != "/fleets/f" || !p.Has("#orders summary") {
			t.Errorf("%d wide: is at %s", width, p.Path())
		}
		if n := p.Overflow(); n > 0 {
			t.Errorf("%d wide, signed in: %d too wide", width, n)
		}
		p.Follow(".who button")
		if p.Path() != "/sign-in" {
			t.Errorf("signing out leads to %s", p.Path())
		}
	}
	if problems := p.Problems(); len(problems) > 0 {
		t.Errorf("the browser says %v", problems)
	}
}
