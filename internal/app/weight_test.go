package app

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
	"tidemark/test/browser"
	"tidemark/test/servers"
)

// heaviest is how many bytes a page may have, with all that it loads.
const heaviest = 200_000

// newWide is a daemon whose fleet has 20 signals, all of them restless through the last days, with rules, and decisions of which each has
// many reasons.
func newWide(t testing.TB) (w *world, base string) {
	t.Helper()
	address := servers.FreeAddress(t)
	w = emptyWorld(t, 2)
	w.tick = yearTick.String()
	var fleets strings.Builder
	fleets.WriteString("    signals:\n")
	for _, name := range yearNames {
		fmt.Fprintf(&fleets, "      %s: {push: {expiry: 1h, unit: percent}}\n", name)
	}
	fleets.WriteString("    policies:\n      - id: by-hand\n        rules:\n")
	for _, name := range yearNames {
		fmt.Fprintf(&fleets, "          - {signal: %s, operator: \">=\", threshold: 70, scale_change: +1, evaluation_periods: 5, datapoints_to_alarm: 4}\n", name)
	}
	w.write("listen: "+address, fleets.String())
	j, err := sqlite.Open(t.Context(), filepath.Join(w.dir, "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	const ticks = 8000 // a day and a third
	begin := time.Now().UTC().Add(-ticks * yearTick)
	all := make([]record.Tick, ticks)
	for n := range all {
		all[n] = yearOf(begin, n)
		for i := range all[n].Readings {
			all[n].Readings[i].Reading.Value *= random.Float64()
		}
		if d := all[n].Decision; d != nil {
			for len(d.Reasons) < yearSignals {
				d.Reasons = append(d.Reasons, fleet.Reason{Code: fleet.RuleOut, Policy: "by-hand", Signal: yearNames[len(d.Reasons)], Operator: fleet.AtLeast, Value: 80, Threshold: 70, Unit: fleet.Percent, Breaching: 4, M: 4, N: 5})
			}
		}
	}
	if err := j.Commit(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	return w, "http://" + address
}

// A page of 20 restless signals is light, at any zoom, with all that it loads and before it is packed.
func TestPagesAreLight(t *testing.T) {
	_, base := newWide(t)
	loads := regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`)
	for _, zoom := range []string{"1h", "6h", "1d", "1w"} {
		page := ask(t, http.MethodGet, base+"/fleets/f?zoom="+zoom, nil)
		all := len(page.body)
		for _, found := range loads.FindAllStringSubmatch(page.body, -1) {
			all += len(ask(t, http.MethodGet, base+found[1], nil).body)
		}
		if n := strings.Count(page.body, "<figure"); page.code != http.StatusOK || n != yearSignals+1 {
			t.Fatalf("%s: %d with %d charts", zoom, page.code, n)
		}
		if all > heaviest {
			t.Errorf("%s: %d bytes, of which the page itself has %d", zoom, all, len(page.body))
		}
	}
}

// What is pointed at is told by all charts at the same time, with its time in the instance's zone and in UTC, by the mouse and by keys; without
// a script a link leads to charts with titles.
func TestChartsTellWhatIsPointedAt(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	_, base := newFull(t)
	p := browser.Start(t).Open()
	p.Go(base + "/fleets/f?zoom=1d")
	told := func() (all []string) {
		t.Helper()
		p.Eval(`[...document.querySelectorAll(".told")].map((e) => e.textContent)`, &all)
		return all
	}
	if len(told()) != 0 {
		t.Errorf("it tells %q before anything is pointed at", told())
	}
	p.Point("figure:nth-of-type(2) .plot")
	all := told()
	if len(all) != 4 || !strings.HasPrefix(all[0], "5") || !regexp.MustCompile(`^\d+ – .*\d\d:\d\d.*\d\d:\d\d`).MatchString(all[1]) {
		t.Errorf("in the middle of the day it tells %q", all)
	}
	p.Eval(`document.querySelector("[data-charts]").focus()`, nil)
	p.Press("ArrowRight")
	if next := told(); len(next) != 4 || next[1] == all[1] {
		t.Errorf("a key further it tells %q after %q", next, all)
	}
	if body := ask(t, http.MethodGet, base+"/fleets/f?zoom=1d", nil).body; strings.Contains(body, `class="hit"`) || !strings.Contains(body, "?titles=&amp;zoom=1d#timeline") {
		t.Error("the page has titles as well, or leads to none")
	}
	if body := ask(t, http.MethodGet, base+"/fleets/f?zoom=1d&titles=", nil).body; !strings.Contains(body, " UTC\ngiven: ") {
		t.Error("there are no titles without a script")
	}
}
