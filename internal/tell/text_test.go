package tell

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/decide/alert"
)

var apia = time.FixedZone("Pacific/Apia", 13*3600)

func TestALetter(t *testing.T) {
	n := notice("a", noon)
	n.Title, n.Severity = "odoo-workers is at its maximum of 10 workers and still short", alert.Critical
	n.Lines = []string{"cpu is 92 %.", "Raise bounds.max."}
	over := n
	over.Ended, over.Lines = noon.Add(90*time.Minute), []string{"It has what it asks for."}
	for name, c := range map[string]struct {
		message Message
		want    Letter
	}{
		"raised": {newMessage(Raised, 0, noon, n), Letter{"CRITICAL [dfr] odoo-workers is at its maximum of 10 workers and still short", `odoo-workers is at its maximum of 10 workers and still short.

cpu is 92 %.

Raise bounds.max.

Severity: critical
Instance: dfr
Fleet:    odoo-workers
Since:    2027-03-02 01:00 (UTC+13:00)
`}},
		"reminder": {newMessage(Reminder, 1, noon.Add(6*time.Hour), n), Letter{"CRITICAL [dfr] Still: odoo-workers is at its maximum of 10 workers and still short", `Still: odoo-workers is at its maximum of 10 workers and still short.

cpu is 92 %.

Raise bounds.max.

Severity: critical
Instance: dfr
Fleet:    odoo-workers
Since:    2027-03-02 01:00 (UTC+13:00)
Lasts:    6h
`}},
		"resolved": {newMessage(Resolved, 0, noon.Add(2*time.Hour), over), Letter{"[dfr] Over: odoo-workers is at its maximum of 10 workers and still short", `Over: odoo-workers is at its maximum of 10 workers and still short.

It has what it asks for.

Severity: critical
Instance: dfr
Fleet:    odoo-workers
Since:    2027-03-02 01:00 (UTC+13:00)
Until:    2027-03-02 02:30 (UTC+13:00), after 1h30m
`}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Write([]Message{c.message}, apia)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestADigest(t *testing.T) {
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	end := func(n alert.Notice, minutes int) alert.Notice { n.Ended = at(minutes); return n }
	cpu, p95, db, jump := notice("cpu", at(0)), notice("p95", at(10)), notice("db", at(30)), notice("jump", at(40))
	db.Severity, jump.Once = alert.Critical, true
	again := notice("cpu", at(50))
	got := Write([]Message{
		newMessage(Raised, 0, at(0), cpu), newMessage(Raised, 0, at(10), p95), newMessage(Resolved, 0, at(20), end(cpu, 20)), newMessage(Raised, 0, at(30), db),
		newMessage(Resolved, 0, at(35), end(p95, 35)), newMessage(Raised, 0, at(40), jump), newMessage(Raised, 0, at(50), again), newMessage(Reminder, 1, at(70), again),
	}, apia)
	want := Letter{"CRITICAL [dfr] 8 messages, 2 not over, 2 Mar", `8 messages about 4 things, from 2027-03-02 01:00 (UTC+13:00) to 2027-03-02 02:10 (UTC+13:00), in one: they could not be sent one by one, or came at once.

Not over when the last of these was written, critical before the others, the newest first:
- critical: db is short.
  since 2027-03-02 01:30 (UTC+13:00); raised 1 time
- warning: cpu is short.
  since 2027-03-02 01:50 (UTC+13:00); raised 2 times, reminder 1 time, resolved 1 time

Over, the newest first:
- warning: jump is short.
  at 2027-03-02 01:40 (UTC+13:00); raised 1 time
- warning: p95 is short.
  until 2027-03-02 01:35 (UTC+13:00), after 25m; raised 1 time, resolved 1 time

All, in order:
  03-02 01:00 raised   cpu is short
  03-02 01:10 raised   p95 is short
  03-02 01:20 resolved cpu is short
  03-02 01:30 raised   db is short
  03-02 01:35 resolved p95 is short
  03-02 01:40 raised   jump is short
  03-02 01:50 raised   cpu is short
  03-02 02:10 reminder cpu is short
`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
