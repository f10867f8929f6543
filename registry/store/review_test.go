package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/store"
)

var moana = registry.Actor{Name: "account:moana"}

// questions returns a line for each open question.
func questions(t *testing.T, s *store.Store, who registry.Actor, kind string) (lines []string, all []store.Review) {
	t.Helper()
	all, err := s.Reviews(t.Context(), who, "open", kind, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		lines = append(lines, fmt.Sprintf("%s %s %s %v", r.Kind, r.Op, r.Entity, r.Fields))
	}
	return lines, all
}

func resolve(t *testing.T, s *store.Store, id int64, res store.Resolution) {
	t.Helper()
	if err := s.Resolve(t.Context(), moana, now, id, res); err != nil {
		t.Error(err)
	}
}

func got(t *testing.T, s *store.Store, n int) registry.Record {
	t.Helper()
	r, err := s.Get(t.Context(), registry.Actor{}, "farmer", uid(n))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResolveAConflict(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		a, b := device("a"), device("b")
		did(t, s, a, farmer(1, registry.Fields{"national_id": "CK-1"}), farmer(2, registry.Fields{"national_id": "CK-2"}))
		update := func(op string, n, base int, f registry.Fields) registry.Change {
			return registry.Change{OpID: op, Entity: "farmer", UID: uid(n), Op: registry.Update, Base: base, Fields: f, At: now}
		}
		did(t, s, a, update("1", 1, 1, registry.Fields{"given_name": "Ana", "birth_date": "1980-01-01"}))
		did(t, s, b, update("1", 1, 1, registry.Fields{"given_name": "Eva", "birth_date": "1981-01-01"}),
			update("2", 1, 1, registry.Fields{"national_id": "CK-2"}),
			registry.Change{OpID: "3", Entity: "farmer", UID: uid(2), Op: registry.Delete, Base: 1})
		did(t, s, a, update("2", 2, 1, registry.Fields{"note": "walks with a stick", "sex": "female"}))

		lines, all := questions(t, s, moana, "")
		want := []string{
			"conflict update farmer map[birth_date:1981-01-01 given_name:Eva]",
			"conflict update farmer map[national_id:CK-2]",
			"conflict update farmer map[note:walks with a stick sex:female]",
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Fatal(diff)
		}
		if n, err := s.Waiting(t.Context(), moana); err != nil || n[store.Conflict] != 3 {
			t.Error(n, err)
		}
		if err := s.Resolve(t.Context(), moana, now, all[0].ID, store.Resolution{Accept: true, Seen: 1}); !errors.Is(err, registry.ErrStale) {
			t.Errorf("decided by an old version: %v", err)
		}
		resolve(t, s, all[0].ID, store.Resolution{Accept: true, Fields: []string{"birth_date"}, Seen: 2, Note: "the passport says so"})
		if f := got(t, s, 1).Fields; f["given_name"] != "Ana" || f["birth_date"] != "1981-01-01" {
			t.Error(f)
		}
		if h, err := s.History(t.Context(), "farmer", uid(1)); err != nil || h[0].Actor != "account:moana" || h[0].Version != 3 {
			t.Error(h, err)
		}
		if r, err := s.Review(t.Context(), moana, all[0].ID); err != nil || r.State != "accepted" || r.ResolvedBy != "account:moana" || r.Note != "the passport says so" || !r.ResolvedAt.Equal(now) {
			t.Error(r, err)
		}
		if err := s.Resolve(t.Context(), moana, now, all[0].ID, store.Resolution{}); !errors.Is(err, registry.ErrStale) {
			t.Errorf("decided twice: %v", err)
		}

		// Accepting an edit brings a deleted farmer back; the number that is another's can still not be had.
		resolve(t, s, all[2].ID, store.Resolution{Accept: true, Seen: 2})
		if r := got(t, s, 2); r.Deleted || r.Version != 3 || r.Fields["sex"] != "female" {
			t.Error(r)
		}
		err := s.Resolve(t.Context(), moana, now, all[1].ID, store.Resolution{Accept: true, Seen: 3})
		var faults registry.Faults
		if !errors.As(err, &faults) || faults[0].Field != "national_id" {
			t.Errorf("another's number: %v", err)
		}
		if lines, _ := questions(t, s, moana, store.Conflict); len(lines) != 1 {
			t.Errorf("a decision that could not be stored has closed the question: %v", lines)
		}
		resolve(t, s, all[1].ID, store.Resolution{})
		if lines, _ := questions(t, s, moana, ""); len(lines) != 0 || got(t, s, 1).Fields["national_id"] != "CK-1" {
			t.Error(lines)
		}
	})
}

func TestResolveADuplicate(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		for i, c := range []struct {
			name       string
			res        func(mine, of string) store.Resolution
			mine, of   string // status
			mineN, ofN any    // national id
		}{
			{"the newer one is the duplicate", func(mine, _ string) store.Resolution { return store.Resolution{Accept: true, Marked: mine} }, "duplicate", "active", nil, "N"},
			{"the older one is", func(_, of string) store.Resolution { return store.Resolution{Accept: true, Marked: of} }, "active", "duplicate", "N", nil},
			{"both are kept", func(string, string) store.Resolution { return store.Resolution{} }, "active", "active", nil, "N"},
		} {
			older, newer := 10*i+1, 10*i+2
			number := fmt.Sprint("CK-", older)
			f := registry.Fields{"national_id": number, "status": "active"}
			did(t, s, device("a"), farmer(older, f), farmer(newer, f))
			_, all := questions(t, s, moana, store.Duplicate)
			if len(all) != 1 {
				t.Fatal(all)
			}
			if err := s.Resolve(t.Context(), moana, now, all[0].ID, store.Resolution{Accept: true, Marked: uid(99)}); err == nil {
				t.Error("a third one was marked")
			}
			resolve(t, s, all[0].ID, c.res(uid(newer), uid(older)))
			for n, want := range map[int][2]any{newer: {c.mine, c.mineN}, older: {c.of, c.ofN}} {
				if want[1] != nil {
					want[1] = number
				}
				if is := got(t, s, n).Fields; is["status"] != want[0] || is["national_id"] != want[1] {
					t.Errorf("%s: %v, want %v", c.name, is, want)
				}
			}
		}
	})
}

func TestPreregister(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		wanted := registry.Fields{"given_name": "Tere", "family_name": "Marsters", "birth_date": "1990-05-06", "village": "vaipae", "consent": "given"}
		reference, err := s.Preregister(t.Context(), now, wanted)
		if err != nil {
			t.Fatal(err)
		}
		if same, ok := store.ParseReference(" " + strings.ToLower(strings.ReplaceAll(reference, "-", " "))); !ok || same != reference {
			t.Errorf("%q read as %q", reference, same)
		}
		if wanted["island"] != nil {
			t.Error("the caller's fields were written to")
		}
		r, err := s.ByReference(t.Context(), reference)
		if err != nil || r.State != "open" || r.Area != "Aitutaki" || r.Fields["village"] != "Vaipae" {
			t.Fatal(r, err)
		}
		for _, none := range []string{"", "0000-0000-0000", reference + "0"} {
			if _, err := s.ByReference(t.Context(), none); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("%q: %v", none, err)
			}
		}
		var faults registry.Faults
		if _, err := s.Preregister(t.Context(), now, registry.Fields{"given_name": "Tere"}); !errors.As(err, &faults) || len(faults) != 3 {
			t.Error(err)
		}
		raro := registry.Actor{Name: "account:r", Areas: []string{"Rarotonga"}}
		if err := s.Resolve(t.Context(), raro, now, r.ID, store.Resolution{Accept: true}); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("another island's: %v", err)
		}
		if lines, _ := questions(t, s, raro, ""); len(lines) != 0 {
			t.Errorf("another island's: %v", lines)
		}

		// Of all who accept it at once one does, and there is one farmer.
		var all sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			all.Go(func() { errs[i] = s.Resolve(t.Context(), moana, now, r.ID, store.Resolution{Accept: true}) })
		}
		all.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
			} else if !errors.Is(err, registry.ErrStale) {
				t.Error(err)
			}
		}
		f, err := s.Get(t.Context(), moana, "farmer", r.UID)
		if err != nil || done != 1 || f.Version != 1 || f.Fields["status"] != "pending_verification" || f.Fields["family_name"] != "Marsters" {
			t.Error(done, f, err)
		}
		if r, err = s.ByReference(t.Context(), reference); err != nil || r.State != "accepted" {
			t.Error(r, err)
		}
	})
}

func TestReviewsArePaged(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		for i := range 5 {
			f := registry.Fields{"given_name": "Tere", "family_name": "T" + string(rune('a'+i)), "birth_date": "1990-05-06", "village": "Arorangi"}
			if _, err := s.Preregister(t.Context(), now, f); err != nil {
				t.Fatal(err)
			}
		}
		var names []string
		after := int64(0)
		for {
			page, err := s.Reviews(t.Context(), moana, "open", store.Preregistration, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				names = append(names, r.Fields.Text("family_name"))
				after = r.ID
			}
		}
		if got := strings.Join(names, " "); got != "Ta Tb Tc Td Te" {
			t.Error(got)
		}
	})
}
