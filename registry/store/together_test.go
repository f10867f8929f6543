package store_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/store"
)

// New records are written many at a time; what comes later in the batch finds them all the same.
func TestNewRecordsInOneBatch(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		with := func(id string) registry.Fields { return registry.Fields{"national_id": id} }
		edit := func(n, base int, f registry.Fields) registry.Change {
			return registry.Change{OpID: fmt.Sprint("edit-", n, base), Entity: "farmer", UID: uid(n), Op: registry.Update, Base: base, Fields: f, At: now}
		}
		got := did(t, s, device("a"),
			farmer(1, with("CK-1")), farmer(2, with("CK-1")), // a number given twice
			farmer(3, with("CK-3")), edit(3, 1, with("CK-4")), farmer(4, with("CK-3")), farmer(5, with("CK-4")), // one that is free again, one that is taken
			registry.Change{OpID: "p", Entity: "plot", UID: uid(50), Op: registry.Create, Fields: registry.Fields{"farmer": uid(5)}},
			registry.Change{OpID: "d", Entity: "farmer", UID: uid(4), Op: registry.Delete, Base: 1})
		want := []string{"created v1", "duplicate v1", "created v1", "updated v2", "created v1", "duplicate v1", "created v1", "updated v2"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for n, id := range map[int]any{1: "CK-1", 2: nil, 3: "CK-4", 5: nil} {
			r, err := s.Get(t.Context(), device("a"), "farmer", uid(n))
			if err != nil || r.Fields["national_id"] != id {
				t.Errorf("farmer %d: %v, %v", n, r.Fields["national_id"], err)
			}
		}
	})
}

// Devices that register the same numbers at the same moment: each number goes to one farmer, and no farmer is lost.
func TestNumbersRegisteredAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		const devices, numbers = 4, 30
		results := make([][]registry.Result, devices)
		var wg sync.WaitGroup
		for i := range devices {
			wg.Go(func() {
				changes := make([]registry.Change, numbers)
				for n := range changes {
					changes[n] = farmer(1000*(i+1)+n, registry.Fields{"national_id": fmt.Sprint("CK-", n)})
				}
				for again := true; again; { // as a device does with those that are to be sent again
					var err error
					if results[i], err = s.Apply(t.Context(), device(fmt.Sprint("d", i)), now, changes); err != nil {
						t.Error(err)
						return
					}
					again = false
					for _, r := range results[i] {
						again = again || r.Outcome == registry.Retry
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		for n := range numbers {
			holders := 0
			for i := range devices {
				switch r := results[i][n]; r.Outcome {
				case registry.Created:
					holders++
				case registry.Duplicate:
				default:
					t.Errorf("number %d of device %d: %s", n, i, r.Outcome)
				}
			}
			if holders != 1 {
				t.Errorf("number %d has %d holders", n, holders)
			}
		}
		if c, err := s.Counts(t.Context()); err != nil || c["farmer"] != devices*numbers {
			t.Errorf("%d farmers, %v", c["farmer"], err)
		}
	})
}

// A village's own farmer is found by a misspelt name, however many elsewhere resemble it more.
func TestResemblanceWithinAVillage(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		var changes []registry.Change
		for n := 1; n <= 60; n++ {
			changes = append(changes, farmer(n, registry.Fields{"family_name": "Tuataya"}))
		}
		did(t, s, device("a"), append(changes, farmer(0, registry.Fields{"village": "Vaipae"}))...)
		found, err := s.ByName(t.Context(), device("a"), "Tuatey", "vaipae", 10)
		if err != nil || len(found) != 1 || found[0].UID != uid(0) {
			t.Errorf("%d found, %v", len(found), err)
		}
	})
}
