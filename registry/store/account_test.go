package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/store"
)

const secretWords = "taro, breadfruit and rain"

func TestAccounts(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		a, err := s.AddAccount(ctx, registry.Account{Name: "moana", Role: registry.Officer, Areas: []string{"Aitutaki"}, CreatedAt: now}, secretWords)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.AddAccount(ctx, registry.Account{Name: "moana", Role: registry.Viewer, CreatedAt: now}, secretWords); !errors.Is(err, store.ErrNameTaken) {
			t.Error(err)
		}
		var faults registry.Faults
		if _, err := s.AddAccount(ctx, registry.Account{Name: "x", Role: registry.Viewer}, "short"); !errors.As(err, &faults) {
			t.Error(err)
		}

		secret, who, err := s.SignIn(ctx, now, "moana", secretWords, "192.0.2.1")
		if err != nil || who.Name != "moana" || len(secret) != 64 {
			t.Fatal(secret, who, err)
		}
		a.SignedInAt = now
		if got, err := s.Session(ctx, now, secret); err != nil || cmp.Diff(a, got) != "" {
			t.Error(err, cmp.Diff(a, got))
		}
		for _, wrong := range []string{"", secret[1:], "' OR ''='", secret + "0"} {
			if _, err := s.Session(ctx, now, wrong); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("%q: %v", wrong, err)
			}
		}
		// Used now and then it lasts, but not for ever; left alone it does not.
		at := now
		for ; at.Sub(now) < store.SessionLife; at = at.Add(store.SessionIdle - time.Minute) {
			if _, err := s.Session(ctx, at, secret); err != nil {
				t.Fatalf("after %v: %v", at.Sub(now), err)
			}
		}
		if _, err := s.Session(ctx, at, secret); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("after %v: %v", at.Sub(now), err)
		}
		second, _, err := s.SignIn(ctx, at, "moana", secretWords, "192.0.2.1")
		if err != nil || second == secret {
			t.Fatal(err)
		}
		if _, err := s.Session(ctx, at.Add(store.SessionIdle+time.Second), second); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("an idle session: %v", err)
		}

		// What ends sessions.
		for _, end := range []struct {
			what string
			do   func(string) error
		}{
			{"signed out", func(secret string) error { return s.SignOut(ctx, at, secret, "192.0.2.1") }},
			{"a new password", func(string) error { return s.SetPassword(ctx, "moana", secretWords) }},
			{"disabled", func(string) error { return s.SetDisabled(ctx, at, "moana", true) }},
		} {
			secret, _, err := s.SignIn(ctx, at, "moana", secretWords, "192.0.2.1")
			if err != nil {
				t.Fatal(end.what, err)
			}
			if err := end.do(secret); err != nil {
				t.Error(end.what, err)
			}
			if _, err := s.Session(ctx, at, secret); !errors.Is(err, registry.ErrNotFound) {
				t.Error(end.what, err)
			}
			if err := s.SignOut(ctx, at, secret, ""); err != nil {
				t.Error(err)
			}
		}
		if _, _, err := s.SignIn(ctx, at, "moana", secretWords, "192.0.2.1"); !errors.Is(err, registry.ErrCredentials) {
			t.Errorf("disabled: %v", err)
		}
		if err := s.SetDisabled(ctx, at, "moana", false); err != nil {
			t.Error(err)
		}
		if _, _, err := s.SignIn(ctx, at, "moana", secretWords, "192.0.2.1"); err != nil {
			t.Error(err)
		}
		if all, err := s.Accounts(ctx); err != nil || len(all) != 1 || !all[0].DisabledAt.IsZero() {
			t.Error(all, err)
		}
		if err := s.SetPassword(ctx, "nobody", secretWords); !errors.Is(err, registry.ErrNotFound) {
			t.Error(err)
		}
		audit, err := s.SignIns(ctx, a.ID, 3)
		if err != nil || len(audit) != 3 || audit[0].What != "signed_in" || audit[1].What != "refused" || audit[1].Address != "192.0.2.1" || !audit[0].At.Equal(at) {
			t.Error(audit, err)
		}
	})
}

// Each failure makes the next wait longer, for the account from anywhere and for the address with any name, whichever
// worker is asked, however many ask at once.
func TestSignInsAreThrottled(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		for _, name := range []string{"moana", "tere"} {
			if _, err := s.AddAccount(ctx, registry.Account{Name: name, Role: registry.Viewer, CreatedAt: now}, secretWords); err != nil {
				t.Fatal(err)
			}
		}
		wait := func(at time.Time, name, password, address string) (time.Duration, error) {
			_, _, err := s.SignIn(ctx, at, name, password, address)
			var slow registry.Throttled
			if errors.As(err, &slow) {
				return slow.Wait, nil
			}
			return 0, err
		}
		for _, name := range []string{"moana", "a name that nobody has"} {
			at := now
			var waits []string
			for i := range 14 {
				w, err := wait(at, name, "wrong words", fmt.Sprint("192.0.2.", i))
				if w > 0 {
					waits = append(waits, w.String())
					at = at.Add(w)
					w, err = wait(at, name, "wrong words", fmt.Sprint("198.51.100.", i))
				}
				if w > 0 || !errors.Is(err, registry.ErrCredentials) {
					t.Fatal(name, i, w, err)
				}
			}
			if got := fmt.Sprint(waits); got != "[1s 2s 4s 8s 16s 32s 1m0s 1m0s]" {
				t.Errorf("%s: %s", name, got)
			}
			if name != "moana" {
				continue
			}
			if w, err := wait(at, name, secretWords, "192.0.2.99"); w == 0 {
				t.Errorf("the right password need not wait: %v", err)
			}
			at = at.Add(time.Minute)
			if w, err := wait(at, name, secretWords, "192.0.2.99"); w > 0 || err != nil {
				t.Errorf("the right password after the wait: %v %v", w, err)
			}
			if w, err := wait(at, name, "wrong words", "192.0.2.99"); w > 0 || !errors.Is(err, registry.ErrCredentials) {
				t.Errorf("a right one does not clear the account: %v %v", w, err)
			}
		}

		var all sync.WaitGroup
		results := make([]time.Duration, 30)
		for i := range results {
			all.Go(func() { results[i], _ = wait(now, fmt.Sprint("name", i), "wrong words", "203.0.113.5") })
		}
		all.Wait()
		slow := 0
		for _, w := range results {
			if w > 0 {
				slow++
			}
		}
		if slow != 9 { // 20 are free, the one after is tried too
			t.Errorf("%d of 30 at once must wait", slow)
		}
		if w, err := wait(now.Add(2*time.Hour), "tere", secretWords, "203.0.113.5"); w > 0 || err != nil {
			t.Errorf("an hour later: %v %v", w, err)
		}
	})
}
