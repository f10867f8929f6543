package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/store"
)

// What an exact change cannot do as it is, it does not do at all, and asks nobody to review.
func TestExact(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		a, b := device("a"), device("b")
		exact := func(c registry.Change) registry.Change {
			c.OpID, c.Exact = "", true
			return c
		}
		update := func(n, base int, f registry.Fields) registry.Change {
			return exact(registry.Change{Entity: "farmer", UID: uid(n), Op: registry.Update, Base: base, Fields: f, At: now})
		}
		id := func(n string) registry.Fields { return registry.Fields{"national_id": n} }
		plot := exact(registry.Change{Entity: "plot", UID: uid(90), Op: registry.Create, Fields: registry.Fields{"farmer": uid(2)}, At: now})
		for _, step := range []struct {
			what   string
			change registry.Change
			want   string
		}{
			{"new", exact(farmer(1, id("CK-1"))), "created v1"},
			{"the same again, spelt otherwise", exact(farmer(1, registry.Fields{"national_id": "CK-1", "village": "ARORANGI", "island": "rarotonga"})), "merged v1"},
			{"the same uid with more", exact(farmer(1, registry.Fields{"phone": "+68255123"})), "stale v1"},
			{"another's number", exact(farmer(2, id("CK-1"))), "rejected v0 national_id: is another farmer's"},
			{"a second", exact(farmer(2, nil)), "created v1"},
			{"another's number later", update(2, 1, registry.Fields{"national_id": "CK-1", "note": "x"}), "rejected v0 national_id: is another farmer's"},
			{"the newest version", update(1, 1, registry.Fields{"note": "x"}), "updated v2"},
			{"an older one, another field", update(1, 1, registry.Fields{"phone": "+68255123"}), "stale v2"},
			{"a deletion of an older one", exact(registry.Change{Entity: "farmer", UID: uid(1), Op: registry.Delete, Base: 1, At: now}), "stale v2"},
			{"a deletion", exact(registry.Change{Entity: "farmer", UID: uid(2), Op: registry.Delete, Base: 1, At: now}), "updated v2"},
			{"an edit of what is deleted", update(2, 2, registry.Fields{"note": "x"}), "stale v2"},
			{"the deleted one again", exact(farmer(2, nil)), "stale v2"},
			{"a plot of the deleted one", plot, "rejected v0 farmer: is deleted"},
		} {
			if diff := cmp.Diff([]string{step.want}, did(t, s, a, step.change)); diff != "" {
				t.Errorf("%s:\n%s", step.what, diff)
			}
		}
		// The review queue is empty: the first question that anybody has is number 1.
		c := farmer(3, id("CK-1"))
		if r, err := s.Apply(t.Context(), b, now, []registry.Change{c}); err != nil || r[0].Review != 1 || r[0].Outcome != registry.Duplicate {
			t.Errorf("%+v %v", r, err)
		}
	})
}
