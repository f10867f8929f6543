package text

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
)

var nine = time.Date(2027, 3, 1, 19, 30, 0, 0, time.UTC) // 09:30 in Rarotonga

func rarotonga(t *testing.T, colour bool) View {
	t.Helper()
	zone, err := time.LoadLocation("Pacific/Rarotonga")
	if err != nil {
		t.Fatal(err)
	}
	return View{Now: nine, Zone: zone, Colour: colour}
}

// busy is an instance with so many fleets, the first at its maximum.
func busy(fleets int) Glance {
	g := Glance{Overview: web.Overview{Instance: "dfr-cook-islands", Since: nine.Add(-26 * time.Hour)}}
	for i := range fleets {
		st := &control.Status{
			Fleet: fmt.Sprintf("odoo-workers-%d", i), Time: nine, Mode: fleet.On, Size: fleet.Size{Known: true, Serving: 4, Starting: 1, Draining: 2}, Bounds: fleet.Bounds{Min: 2, Max: 10},
			Decision: fleet.Decision{From: 5, To: 5, Wanted: 6, Time: nine, Would: fleet.Would{To: 6, Code: fleet.BlockedCooldown}, Reasons: []fleet.Reason{{Code: fleet.BlockedCooldown, Since: nine.Add(-time.Minute), Until: nine.Add(4 * time.Minute)}}},
			Signals: []control.SignalStatus{
				{Name: "cpu", Unit: fleet.Percent, Reading: fleet.Reading{Value: 78.25, Quality: fleet.Fresh}},
				{Name: "sync_p95", Unit: fleet.Seconds, Reading: fleet.Reading{Value: 0.31, Quality: fleet.Fresh}},
				{Name: "queue", Lost: nine.Add(-12 * time.Minute)},
			},
			Rules: []control.RuleStatus{{Rule: fleet.Rule{Signal: "cpu", Unit: fleet.Percent, Operator: fleet.AtLeast, Threshold: 70, Change: 1}, State: fleet.Alarm}},
		}
		g.Fleets = append(g.Fleets, st)
	}
	for i := range 30 {
		g.Events = append(g.Events, fleet.Event{Time: nine.Add(-time.Duration(i) * time.Hour), Fleet: "odoo-workers-0", Kind: fleet.EventSizeChanged, From: 4, To: 5})
	}
	return g
}

// TestTopFits: whatever there is to say, and however small the screen, no line is longer than it and there are not more lines.
func TestTopFits(t *testing.T) {
	v := rarotonga(t, false)
	for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 12}, {20, 9}, {1, 1}} {
		for _, fleets := range []int{0, 1, 3, 200} {
			for _, chosen := range []int{0, 2, 1000} {
				lines := Top(v, busy(fleets), size[0], size[1], chosen)
				if len(lines) > size[1] {
					t.Errorf("%d fleets on %v: %d lines", fleets, size, len(lines))
				}
				for _, line := range lines {
					if n := utf8.RuneCountInString(line); n > size[0] {
						t.Errorf("%d fleets on %v: %d columns in %q", fleets, size, n, line)
					}
				}
			}
		}
	}
}

// TestTopSays: on 80 x 24 all is there that one looks for.
func TestTopSays(t *testing.T) {
	g := busy(1)
	all := strings.Join(Top(rarotonga(t, false), g, 80, 24, 0), "\n")
	for _, want := range []string{
		"dfr-cook-islands  09:30:00 -10  leading for 26h", "no alert is raised", "odoo-workers-0  4 +1 -2      2-10      6  on ", "  would scale out to 6", "cpu                          78.2 %             >= 70 % +1 ALARM",
		"queue                        missing for 12m", "09:30:00  odoo-workers-0  size changed 4 -> 5", "  28 Feb  odoo-workers-0", "q quits",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not shown:\n%s", want, all)
		}
	}
	g.Err = errors.New("no daemon answers at /run/t.sock: is it running?\nmore")
	g.Raised = []alert.Notice{{Severity: alert.Critical, Title: "evil\x1b[2Jtitle", Started: nine}}
	all = strings.Join(Top(rarotonga(t, false), g, 80, 24, 0), "\n")
	if !strings.Contains(all, "no daemon answers") || strings.Contains(all, "more") {
		t.Errorf("that the daemon is gone is not said:\n%s", all)
	}
	g.Err = nil
	all = strings.Join(Top(rarotonga(t, false), g, 80, 24, 0), "\n")
	if strings.Contains(all, "\x1b") || !strings.Contains(all, "critical for 0s: evil [2Jtitle") {
		t.Errorf("what was written by others reaches the terminal:\n%q", all)
	}
}

// TestTopColours: colour takes no room, and there is none without a terminal.
func TestTopColours(t *testing.T) {
	plain, coloured := Top(rarotonga(t, false), busy(2), 80, 24, 1), Top(rarotonga(t, true), busy(2), 80, 24, 1)

	for i := range plain {
		if got := uncoloured.Replace(coloured[i]); got != plain[i] {
			t.Errorf("line %d is %q in colour, and %q without", i, got, plain[i])
		}
	}
	if !strings.Contains(strings.Join(coloured, ""), "\x1b[31m") {
		t.Error("nothing is red")
	}
	if !strings.Contains(strings.Join(plain, "\n"), "> odoo-workers-1") {
		t.Error("the chosen fleet is not marked")
	}
}

// TestTopPrintedOnce: without a terminal all of it is printed.
func TestTopPrintedOnce(t *testing.T) {
	lines := Top(rarotonga(t, false), busy(40), 200, 0, 0)
	all := strings.Join(lines, "\n")
	for _, want := range []string{"odoo-workers-39", "queue", "size changed"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not there", want)
		}
	}
	if strings.Contains(all, "q quits") {
		t.Error("nobody can press q")
	}
}
