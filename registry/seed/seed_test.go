package seed

import (
	"encoding/json"
	"fmt"
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

// Whatever a plan makes passes the rules that people's own records must pass, and hangs on what is there.
func TestRecordsPassTheirOwnRules(t *testing.T) {
	today := time.Date(2026, time.July, 1, 0, 0, 0, 0, time.UTC)
	forms := map[string]registry.Form{}
	for _, f := range Forms() {
		if faults := f.Check(); faults != nil {
			t.Error(faults)
		}
		forms[fmt.Sprint(f.ID, " ", float64(f.Version))] = f
	}
	plan := Plan{Seed: 1, Farmers: 3000, Households: true, Plots: 2, Submissions: 4}
	uids, counts := map[string]string{}, map[string]int{}
	for r := range Records(plan) {
		text, err := json.Marshal(r.Fields)
		if err != nil {
			t.Fatal(err)
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(text, &raw); err != nil {
			t.Fatal(err)
		}
		e := registry.EntityNamed(r.Entity)
		tidy, faults := e.Decode(raw, today)
		if faults = append(faults, e.Complete(tidy)...); faults != nil {
			t.Fatalf("%+v: %v", r, faults)
		}
		if diff := cmp.Diff(tidy, r.Fields); diff != "" {
			t.Fatalf("%s not in its stored form:\n%s", r.Entity, diff)
		}
		if uids[r.UID] != "" {
			t.Fatalf("uid used twice: %+v", r)
		}
		if parent := r.Fields.Text(e.Parent); parent != "" && uids[parent] != e.Field(e.Parent).Of {
			t.Fatalf("%s comes before its parent", r.Entity)
		}
		if r.Entity == "submission" {
			form := forms[fmt.Sprint(r.Fields["form"], " ", r.Fields["form_version"])]
			if faults := form.CheckAnswers(r.Fields["answers"].(registry.JSON), today); form.ID == "" || faults != nil {
				t.Fatalf("%+v: %v", r, faults)
			}
		}
		uids[r.UID] = r.Entity
		counts[r.Entity]++
	}
	if counts["farmer"] != 3000 || counts["plot"] != 6000 || counts["submission"] != 12000 || counts["household"] < 2500 || counts["household"] > 2900 || counts["member"] < 2*counts["household"] {
		t.Error(counts)
	}
	for _, v := range Villages() {
		if centres[v.Island] == [2]float64{} {
			t.Errorf("nobody knows where %s is", v.Island)
		}
	}
	few := slices.Collect(Records(Plan{Seed: 1, Farmers: 10, Households: true, Plots: 2, Submissions: 4}))
	many := slices.Collect(Records(plan))
	if diff := cmp.Diff(few, many[:len(few)]); diff != "" {
		t.Error(diff)
	}
	if alone := slices.Collect(Records(Plan{Seed: 1, Farmers: 10})); cmp.Diff(alone, slices.Collect(Farmers(1, 10))) != "" {
		t.Error("a plan of farmers alone makes others")
	}
}
