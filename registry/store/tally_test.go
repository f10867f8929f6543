package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
)

func TestTally(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		tally := func(who registry.Actor, at time.Time) string {
			got, err := s.Tally(t.Context(), who, at)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(got.Farmers, got.Records["farmer"], got.Records["plot"], " ", got.At.Sub(now))
		}
		if got := tally(moana, now); got != "map[] 0 0 0s" {
			t.Error(got)
		}
		did(t, s, device("a"), farmer(1, nil), farmer(2, registry.Fields{"status": "active"}), farmer(3, registry.Fields{"village": "Vaipae"}), farmer(4, nil),
			registry.Change{OpID: "p", Entity: "plot", UID: uid(50), Op: registry.Create, Fields: registry.Fields{"farmer": uid(1)}},
			registry.Change{OpID: "d", Entity: "farmer", UID: uid(4), Op: registry.Delete, Base: 1})
		if got := tally(moana, now.Add(30*time.Second)); got != "map[] 0 0 0s" {
			t.Errorf("counted again too soon: %s", got)
		}
		later := now.Add(time.Hour)
		if got := tally(moana, later); got != "map[active:1 pending_verification:2] 3 1 1h0m0s" {
			t.Error(got)
		}
		if got := tally(registry.Actor{Areas: []string{"Aitutaki"}}, later); got != "map[pending_verification:1] 1 0 1h0m0s" {
			t.Errorf("of one island: %s", got)
		}
	})
}

func TestFarmersByName(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		for i, name := range []string{"Māʻina", "Tuatai", "Aporo", "tuatai", "Pokino"} {
			village := "Arorangi"
			if i == 2 {
				village = "Vaipae"
			}
			did(t, s, device("a"), farmer(i, registry.Fields{"family_name": name, "village": village, "status": []string{"active", "draft"}[i%2]}))
		}
		for _, c := range []struct {
			what string
			who  registry.Actor
			l    store.Listing
			want string
		}{
			{"all", moana, store.Listing{}, "Aporo Māʻina Pokino Tuatai tuatai"},
			{"of a status", moana, store.Listing{Status: "draft"}, "Tuatai tuatai"},
			{"of a village", moana, store.Listing{Village: "ARORANGI", Island: "Rarotonga"}, "Māʻina Pokino Tuatai tuatai"},
			{"of an island", registry.Actor{Areas: []string{"Aitutaki"}}, store.Listing{}, "Aporo"},
			{"of another island", registry.Actor{Areas: []string{"Aitutaki"}}, store.Listing{Village: "Arorangi"}, ""},
		} {
			var names []string
			c.l.Limit = 2
			for {
				page, err := s.FarmersByName(t.Context(), c.who, c.l)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range page {
					names = append(names, f.Fields.Text("family_name"))
				}
				if len(page) < c.l.Limit {
					break
				}
				c.l.After = store.PlaceOf(page[len(page)-1])
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("%s: %s, want %s", c.what, got, c.want)
			}
		}
	})
}
