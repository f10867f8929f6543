package text

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/show/web"
)

var uncoloured = strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[2m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "")

// TestColourTakesNoRoom: what is written with and without colour is the same but for it, stands in columns, and trails nothing.
func TestColourTakesNoRoom(t *testing.T) {
	g := busy(2)
	g.Fleets[0].Guards = []control.GuardStatus{{Name: "database", Holds: true, Since: nine.Add(-time.Minute), Note: "pool_waiting is 7 (>= 5)"}, {Name: "a-longer-name", Note: "x"}}
	e := &web.Explanation{
		Fleet: "odoo-workers-0", At: nine, Decision: &g.Fleets[0].Decision, Units: []fleet.Unit{fleet.Percent, fleet.Seconds}, Changes: g.Events[:2],
		Readings: []record.Sample{{Signal: "cpu", Reading: fleet.Reading{Value: 50, Quality: fleet.Fresh}}, {Signal: "a_long_name", Reading: fleet.Reading{}}},
	}
	for name, write := range map[string]func(b *bytes.Buffer, v View){
		"status": func(b *bytes.Buffer, v View) { Status(b, v, g.Overview) }, "events": func(b *bytes.Buffer, v View) { Events(b, v, g.Events) },
		"explain": func(b *bytes.Buffer, v View) { Explain(b, v, e) },
	} {
		var plain, coloured bytes.Buffer
		write(&plain, rarotonga(t, false))
		write(&coloured, rarotonga(t, true))
		if got := uncoloured.Replace(coloured.String()); got != plain.String() {
			t.Errorf("%s in colour:\n%s\nwithout:\n%s", name, got, plain.String())
		}
		if coloured.String() == plain.String() {
			t.Errorf("%s has no colour", name)
		}
		for line := range strings.Lines(plain.String()) {
			if strings.TrimRight(line, " \n")+"\n" != line {
				t.Errorf("%s: something trails %q", name, line)
			}
		}
	}
}

// TestEventsAreStable: a line does not depend on when it is written, and the fleets stand below each other.
func TestEventsAreStable(t *testing.T) {
	events := []fleet.Event{{Time: nine, Kind: fleet.EventStarted, Note: "version 1"}, {Time: nine.Add(time.Minute), Fleet: "odoo-workers", Kind: fleet.EventSizeChanged, From: 2, To: 3}}
	const want = "2027-03-01 09:30:00  -             the daemon took the lead: version 1\n2027-03-01 09:31:00  odoo-workers  size changed 2 -> 3, not by Tidemark\n"
	for _, later := range []time.Duration{0, 48 * time.Hour} {
		v := rarotonga(t, false)
		v.Now = v.Now.Add(later)
		var b bytes.Buffer
		if Events(&b, v, events); b.String() != want {
			t.Errorf("written %v later:\n%s", later, b.String())
		}
	}
}
