package seed

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
)

func TestSameSeedSameFarmers(t *testing.T) {
	short := slices.Collect(Farmers(7, 500))
	long := slices.Collect(Farmers(7, 2000))
	if diff := cmp.Diff(short, long[:500]); diff != "" {
		t.Errorf("the first 500 of 2000 differ from 500:\n%s", diff)
	}
	if other := slices.Collect(Farmers(8, 500)); cmp.Equal(short, other) {
		t.Error("another seed gives the same farmers")
	}
}

// The figures were made once by this package: they change only when the farmers of every existing demo do.
func TestFirstFarmerNeverChanges(t *testing.T) {
	first := slices.Collect(Farmers(1, 1))[0]
	joined := time.Date(2020, time.September, 2, 11, 0, 9, 597_000_000, time.UTC)
	want := registry.Record{
		Entity: "farmer", UID: "8e197eb7-6599-4ce0-b9cc-381c6d0b0fb1", Version: 1, CreatedAt: joined, UpdatedAt: joined,
		Fields: registry.Fields{
			"given_name": "Latu", "family_name": "Fonua", "birth_date": "1969-05-24", "sex": "male", "national_id": "TO-1234567",
			"phone": "+6767291550", "village": "Pangai", "island": "Haʻapai", "status": "active", "consent": "given",
		},
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
}

func TestFarmersPassTheirOwnRules(t *testing.T) {
	const n = 20_000
	uids, ids := map[string]bool{}, map[string]bool{}
	places := map[registry.Village]int{}
	counts := map[string]int{}
	for f := range Farmers(1, n) {
		text, err := json.Marshal(f.Fields)
		if err != nil {
			t.Fatal(err)
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(text, &raw); err != nil {
			t.Fatal(err)
		}
		e := registry.EntityNamed("farmer")
		tidy, faults := e.Decode(raw, time.Date(2026, time.July, 1, 0, 0, 0, 0, time.UTC))
		if faults = append(faults, e.Complete(tidy)...); faults != nil {
			t.Fatalf("%+v: %v", f, faults)
		}
		if diff := cmp.Diff(tidy, f.Fields); diff != "" {
			t.Fatalf("not in its stored form:\n%s", diff)
		}
		id := f.Fields.Text("national_id")
		if uids[f.UID] || id != "" && ids[id] {
			t.Fatalf("uid or national id used twice: %+v", f)
		}
		uids[f.UID], ids[id] = true, true
		places[registry.Village{Island: f.Fields.Text("island"), Name: f.Fields.Text("village")}]++
		counts[f.Fields.Text("sex")]++
		counts[f.Fields.Text("status")]++
		if id == "" {
			counts["no national id"]++
		}
	}
	if got, want := len(places), len(Villages()); got != want {
		t.Errorf("farmers live in %d villages, want all %d", got, want)
	}
	for what, share := range map[string][2]int{"male": {56, 60}, "active": {90, 94}, "no national id": {3, 5}} {
		if percent := counts[what] * 100 / n; percent < share[0] || percent > share[1] {
			t.Errorf("%s: %d %%, want %d to %d", what, percent, share[0], share[1])
		}
	}
}

func TestVillages(t *testing.T) {
	seen := map[string]bool{}
	perCountry := map[string]int{}
	for _, v := range Villages() {
		key := registry.Fold(v.Name) + "/" + registry.Fold(v.Island)
		if seen[key] {
			t.Errorf("%s on %s twice", v.Name, v.Island)
		}
		seen[key] = true
		perCountry[v.Country]++
	}
	for _, code := range strings.Fields("COK WSM TON SLB VUT") {
		if perCountry[code] < 20 {
			t.Errorf("%s has %d villages, want 20 or more", code, perCountry[code])
		}
	}
	share := 0
	for _, c := range countries {
		share += c.share
	}
	if share != 100 {
		t.Errorf("the countries' shares add up to %d %%", share)
	}
}
