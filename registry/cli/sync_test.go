package cli

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/store/postgres"
	"tidemark/registry/sync/device"
	"tidemark/test/servers"
)

// Devices synchronise while workers and the database are killed under them: no change is lost, none is made twice, and all
// have the same records in the end.
func TestSyncSurvivesKills(t *testing.T) {
	const devices, rounds, farmers = 4, 6, 4
	pg := servers.Postgres(t)
	bouncer := servers.PgBouncer(t, pg, "default_pool_size=4", "server_login_retry=1")
	pg.CreateDB("dfr")
	store, err := postgres.Open(t.Context(), pg.URL("dfr"), 2)
	if err != nil {
		t.Fatal(err)
	}
	form := registry.Form{ID: "crops", Version: 1, Title: "Crops", Questions: []registry.Question{{Name: "crop", Label: "What grows here?", Type: "text"}}}
	villages := []registry.Village{{Country: "COK", Island: "Rarotonga", Name: "Arorangi"}}
	if err := store.AddVillages(t.Context(), villages); err != nil {
		t.Fatal(err)
	}
	if err := store.AddForm(t.Context(), form); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--db", bouncer.URL("dfr"), "--listen", "127.0.0.1:0", "--workers", "3")
	p.serving(3)

	all := make([]*device.Device, devices)
	for i := range all {
		all[i] = device.New(device.Options{URL: "http://" + p.address, ID: fmt.Sprint("tablet-", i), Coding: []string{"zstd", "gzip"}[i%2], Batch: 10})
	}
	shared := all[0].Create("farmer", map[string]any{"given_name": "Mere", "family_name": "Tuatai", "birth_date": "1978-03-09", "village": "Arorangi"})
	failures := make([]int, devices)
	syncs := func(i int) bool {
		for end := time.Now().Add(2 * ages); ; time.Sleep(20 * time.Millisecond) { // as an app tries again, in a hurry
			err := all[i].Sync(t.Context())
			if err == nil {
				return true
			}
			failures[i]++
			if time.Now().After(end) {
				t.Errorf("tablet-%d cannot synchronise: %v", i, err)
				return false
			}
		}
	}
	for i := range all {
		if !syncs(i) {
			t.FailNow()
		}
	}
	values := make([][]string, devices)
	round := make(chan int, devices*rounds)
	var working sync.WaitGroup
	for i, d := range all {
		working.Go(func() {
			for n := range rounds {
				d.Register(farmers, device.Drive{Seed: uint64(100*i + n), Villages: villages, Form: form})
				for _, field := range []string{"note", "given_name"} {
					value := fmt.Sprintf("By %c in %c %s", 'a'+i, 'a'+n, strings.TrimSuffix(field, "_name"))
					values[i] = append(values[i], value)
					d.Update("farmer", shared, map[string]any{field: value})
				}
				if !syncs(i) {
					break
				}
				round <- i
			}
		})
	}
	go func() { working.Wait(); close(round) }()
	done, killed := 0, 0
	for range round { // the other devices are in the midst of theirs
		if done++; done%8 == 0 {
			pg.Kill()
			pg.Start()
		} else if pids := p.workers(); done%2 == 0 && len(pids) > 0 {
			if err := syscall.Kill(pids[rand.IntN(len(pids))], syscall.SIGKILL); err == nil {
				killed++
			}
		}
	}
	for range 2 {
		for i := range all {
			syncs(i)
		}
	}
	failed := 0
	for _, n := range failures {
		failed += n
	}
	t.Logf("%d workers and PostgreSQL %d times killed, %d synchronisations failed and were made again", killed, done/8, failed)
	if killed == 0 || failed == 0 {
		t.Error("nothing happened")
	}

	if err := store.Close(); err != nil { // its connections are of the first server
		t.Error(err)
	}
	if store, err = postgres.Open(t.Context(), pg.URL("dfr"), 1); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	counts, err := store.Counts(t.Context())
	want := devices * rounds * farmers
	if err != nil || counts["farmer"] != want+1 || counts["plot"] != 2*want || counts["submission"] != want {
		t.Errorf("%v (%v), want %d farmers, %d plots and %d submissions", counts, err, want+1, 2*want, want)
	}
	for _, d := range all[1:] {
		if diff := cmp.Diff(all[0].Records(), d.Records()); diff != "" {
			t.Errorf("%s differs from tablet-0:\n%s", d.ID, diff)
		}
	}
	if n := len(all[0].Records()); n != 4*want+1 {
		t.Errorf("the devices have %d records, want %d", n, 4*want+1)
	}
	answers := 0
	for _, d := range all {
		answers += len(d.Answered)
		for _, a := range d.Answered {
			if a.Outcome != registry.Conflict {
				t.Errorf("%s: %+v", d.ID, a)
			}
		}
	}
	seen := map[string]int{}
	db, err := sql.Open("pgx", pg.URL("dfr"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, query := range []string{"SELECT fields FROM revision WHERE uid = '" + shared + "'", "SELECT fields FROM review"} {
		rows, err := db.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		questions := 0
		for rows.Next() {
			questions++
			var text string
			if err := rows.Scan(&text); err != nil {
				t.Fatal(err)
			}
			var fields map[string]any
			if err := json.Unmarshal([]byte(text), &fields); err != nil {
				t.Fatal(err)
			}
			for _, value := range fields {
				if was, ok := value.(map[string]any); ok {
					value = was["new"]
				}
				seen[fmt.Sprint(value)]++
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(query, "review") && questions != answers {
			t.Errorf("%d questions in the review queue for %d answers", questions, answers)
		}
	}
	for _, mine := range values {
		for _, value := range mine {
			if seen[value] != 1 {
				t.Errorf("%q is %d times in the audit trail and the review queue", value, seen[value])
			}
		}
	}
}
