package dashboard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/show/chart"
)

// What a fleet in shadow would have done is marked once, as what did not happen.
func TestShadowIsMarkedOnce(t *testing.T) {
	at := time.Date(2027, 3, 1, 7, 0, 0, 0, time.UTC)
	d := &fleet.Decision{Fleet: "f", Time: at, From: 2, To: 3, Shadow: true, Reasons: []fleet.Reason{{Code: fleet.RuleOut, Policy: "p", Size: 3}}}
	got := marks([]fleet.Event{{Time: at, Fleet: "f", Kind: fleet.EventDecision, From: 2, To: 3, Decision: d}})
	if len(got) != 1 || !got[0].Faint || !strings.HasPrefix(got[0].Text, "in shadow: ▲ 2 -> 3") {
		t.Errorf("marked as %+v", got)
	}
	if words := would(d); words != "" {
		t.Errorf("and once more: %s", words)
	}
	d = &fleet.Decision{Fleet: "f", Time: at, From: 2, To: 2, Reasons: []fleet.Reason{{Code: fleet.RuleShadow, Policy: "tried-out", Size: 3}}}
	if words := would(d); !strings.Contains(words, "tried-out") {
		t.Errorf("a policy in shadow: %q", words)
	}
}

// Where there are many marks, each stands for those beside it, over the whole span; a bad one among them is seen.
func TestMarksAreGathered(t *testing.T) {
	from := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	to := from.Add(365 * day)
	var all []chart.Mark
	for n := range 1200 {
		all = append(all, chart.Mark{X: chart.At(to.Add(-time.Duration(n) * (to.Sub(from) / 1200))), Text: "x", Bad: n == 605, Faint: true})
	}
	few := all[:mostMarks]
	if got := gather(few, from, to); len(got) != mostMarks || got[0].Text != "x" {
		t.Errorf("few marks become %d", len(got))
	}
	got := gather(all, from, to)
	bad := 0
	for _, m := range got {
		if m.Bad {
			bad++
		}
	}
	if len(got) < mostMarks || len(got) > mostMarks+1 || bad != 1 || got[len(got)-1].X > chart.At(from.Add(4*day)) || !strings.HasPrefix(got[1].Text, "the newest of 10:\nx") || !got[0].Faint {
		t.Errorf("%d marks, %d bad, from %v to %v", len(got), bad, got[0], got[len(got)-1])
	}
}

// A year's hours are written out.
func TestHours(t *testing.T) {
	for hours, want := range map[float64]string{0.1934: "0.193", 129.8: "130", 48166.4: "48166"} {
		if got := (kpi{WorkerHours: hours}).Hours(); got != want {
			t.Errorf("%g: %s, want %s", hours, got, want)
		}
	}
	if k := sumUp(nil, []record.Point{}); k.Known {
		t.Error("nothing is known to be something")
	}
}

// A fleet whose size is not known stays at no number.
func TestUnknownSizeHasNoNumber(t *testing.T) {
	var b strings.Builder
	st := &control.Status{Fleet: "f", Bounds: fleet.Bounds{Min: 2, Max: 10}}
	c := card{Status: st, Page: &page{Zone: time.UTC}, Holding: "the target cannot be read"}
	if err := templates["overview"].ExecuteTemplate(&b, "card", c); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Contains(got, "stays at 0") || !strings.Contains(got, "size unknown") || !strings.Contains(got, "the target cannot be read") {
		t.Errorf("the card says %s", got)
	}
}

// Three alerts are shown at once, the critical ones first, and the others when they are asked for.
func TestManyAlertsLeaveRoom(t *testing.T) {
	p := &page{Zone: time.UTC, Now: time.Unix(600, 0)}
	for i, severity := range []alert.Severity{alert.Warning, alert.Info, alert.Critical, alert.Warning, alert.Critical} {
		p.Overview.Raised = append(p.Overview.Raised, alert.Notice{Title: fmt.Sprint("alert ", i), Severity: severity, Started: time.Unix(0, 0)})
	}
	show := func() string {
		var b strings.Builder
		if err := templates["overview"].ExecuteTemplate(&b, "raised alerts", p.Raised("/there", "more")); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	at := -1
	for _, part := range []string{"alert 2", "alert 4", "alert 0", `<details class="more" id="more"><summary>2 more`, "alert 3", "alert 1"} {
		next := strings.Index(show(), part)
		if next <= at {
			t.Errorf("%q is not in its place: %s", part, show())
		}
		at = next
	}
	if !strings.Contains(show(), `for 10m`) || !strings.Contains(show(), `href="/there/alerts"`) {
		t.Error(show())
	}
	p.Overview.Raised = p.Overview.Raised[:3]
	if strings.Contains(show(), "<details") {
		t.Error(show())
	}
}
