package tell

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
)

// Letter is what a person reads: plain text, short lines first, times in the instance's zone.
type Letter struct {
	Subject string
	Text    string
}

// Write makes a letter of one message, or a digest of several. zone is the instance's.
func Write(batch []Message, zone *time.Location) Letter {
	if len(batch) == 1 {
		return single(&batch[0], zone)
	}
	return digest(batch, zone)
}

// stamp writes a time as it is read on the spot: 2027-03-01 09:15 (UTC-10:00).
func stamp(t time.Time, zone *time.Location) string {
	return t.In(zone).Format("2006-01-02 15:04 (UTCZ07:00)")
}

func megabytes(n int64) string { return fleet.Bytes.Format(float64(n)) }

func single(m *Message, zone *time.Location) Letter {
	n := &m.Notice
	word := map[Kind]string{Reminder: "Still: ", Resolved: "Over: "}[m.Kind]
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s.\n", word, strings.TrimSuffix(n.Title, "."))
	for _, l := range n.Lines {
		fmt.Fprintf(&b, "\n%s\n", l)
	}
	b.WriteString("\n")
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-9s %s\n", name+":", value)
		}
	}
	row("Severity", n.Severity.String())
	row("Instance", n.Instance)
	row("Fleet", n.Fleet)
	row("Since", stamp(n.Started, zone))
	switch {
	case !n.Firing() && !n.Once:
		row("Until", fmt.Sprintf("%s, after %s", stamp(n.Ended, zone), fleet.Elapsed(n.Ended.Sub(n.Started))))
	case m.Kind == Reminder:
		row("Lasts", fleet.Elapsed(m.Time.Sub(n.Started)))
	}
	return Letter{Subject: subject(n.Instance, mark(n), word+n.Title), Text: b.String()}
}

// mark makes what is critical stand out in a list of mails.
func mark(n *alert.Notice) string {
	if n.Severity == alert.Critical && n.Firing() {
		return "CRITICAL "
	}
	return ""
}

func subject(instance, mark, title string) string {
	return fmt.Sprintf("%s[%s] %s", mark, instance, title)
}

// thing is what a digest says of one key.
type thing struct {
	last   *Message
	counts map[Kind]int
}

// digest says the newest state of each thing first, with counts, then every message in order.
func digest(batch []Message, zone *time.Location) Letter {
	byKey := map[string]*thing{}
	var things []*thing
	for i := range batch {
		m := &batch[i]
		t := byKey[m.Notice.Key]
		if t == nil {
			t = &thing{counts: map[Kind]int{}}
			byKey[m.Notice.Key] = t
			things = append(things, t)
		}
		t.last = m
		t.counts[m.Kind]++
	}
	slices.SortStableFunc(things, func(a, b *thing) int { return b.last.Time.Compare(a.last.Time) })
	var open, over []*thing
	for _, t := range things {
		if t.last.Notice.Firing() && !t.last.Notice.Once {
			open = append(open, t)
		} else {
			over = append(over, t)
		}
	}
	slices.SortStableFunc(open, func(a, b *thing) int { return cmp.Compare(b.last.Notice.Severity, a.last.Notice.Severity) })
	first, last := &batch[0], &batch[len(batch)-1]
	var b strings.Builder
	fmt.Fprintf(&b, "%s about %s, from %s to %s, in one: they could not be sent one by one, or came at once.\n",
		count(len(batch), "message"), count(len(things), "thing"), stamp(first.Time, zone), stamp(last.Time, zone))
	section := func(title string, list []*thing) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, t := range list {
			t.write(&b, zone)
		}
	}
	section("Not over when the last of these was written, critical before the others, the newest first:", open)
	section("Over, the newest first:", over)
	b.WriteString("\nAll, in order:\n")
	const most = 500 // a mail that a phone still opens; the counts above are of all
	for i := range batch[:min(len(batch), most)] {
		m := &batch[i]
		fmt.Fprintf(&b, "  %s %-8s %s\n", m.Time.In(zone).Format("01-02 15:04"), m.Kind, m.Notice.Title)
	}
	if more := len(batch) - most; more > 0 {
		fmt.Fprintf(&b, "  and %d more; 'tidemark events' has them\n", more)
	}
	critical := ""
	if len(open) > 0 {
		critical = mark(&open[0].last.Notice)
	}
	title := fmt.Sprintf("%s, %d not over", count(len(batch), "message"), len(open))
	return Letter{Subject: subject(last.Notice.Instance, critical, title+", "+first.Time.In(zone).Format("2 Jan")), Text: b.String()}
}

func (t *thing) write(b *strings.Builder, zone *time.Location) {
	n := &t.last.Notice
	fmt.Fprintf(b, "- %s: %s.\n", n.Severity, strings.TrimSuffix(n.Title, "."))
	what := "since " + stamp(n.Started, zone)
	switch {
	case n.Once:
		what = "at " + stamp(n.Started, zone)
	case !n.Firing():
		what = fmt.Sprintf("until %s, after %s", stamp(n.Ended, zone), fleet.Elapsed(n.Ended.Sub(n.Started)))
	}
	var counts []string
	for _, k := range []Kind{Raised, Reminder, Resolved} {
		if c := t.counts[k]; c > 0 {
			counts = append(counts, fmt.Sprintf("%s %s", k, count(c, "time")))
		}
	}
	fmt.Fprintf(b, "  %s; %s\n", what, strings.Join(counts, ", "))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
