// Package tell brings notices to people and to systems over links that may be down for weeks. It owns what lies between a
// notice and its delivery: which are news, the spool on disk, retries, digests, reminders. What is worth a notice is decided
// in decide/alert; how a place is spoken to is known to the packages below: mail, webhook, alertmanager.
//
// It is level-triggered: Sync is told, as often as one likes, all that is the case now, and each channel finds out by itself
// what it has not told yet. A crash between the one and the other is repaired by the next Sync. Each channel has a goroutine, a
// ledger of what it told and a spool of its own, so that one that is frozen holds up nothing else.
package tell

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"tidemark/internal/decide/alert"
)

// Kind says why a message is sent.
type Kind string

const (
	Raised   Kind = "raised"   // it is the case
	Reminder Kind = "reminder" // it still is
	Resolved Kind = "resolved" // it no longer is
)

// Message is one piece of news on its way. Its ID is the same however often it is sent: delivery is at least once, and a
// receiver knows a duplicate by it.
type Message struct {
	ID     string       `json:"id"`     // 24 hexadecimal digits
	Thread string       `json:"thread"` // the ID of the message that first told of this notice
	Kind   Kind         `json:"kind"`
	Time   time.Time    `json:"time"` // when it became news
	Notice alert.Notice `json:"notice"`
}

func newMessage(kind Kind, count int, at time.Time, n alert.Notice) Message {
	clip(&n)
	return Message{ID: identify(n, kind, count), Thread: identify(n, Raised, 0), Kind: kind, Time: at, Notice: n}
}

// identify gives the nth message of a kind about one notice its name.
func identify(n alert.Notice, kind Kind, count int) string {
	return hash(n.Instance, n.Key, strconv.FormatInt(n.Started.UnixNano(), 10), string(kind), strconv.Itoa(count))
}

// ID names a batch: of the same messages it is the same.
func ID(batch []Message) string {
	if len(batch) == 1 {
		return batch[0].ID
	}
	var ids []string
	for i := range batch {
		ids = append(ids, batch[i].ID)
	}
	return hash(ids...)
}

func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// Bounds of one notice, so that a spool of so many messages has a size: what comes from a server's error text may be long.
const (
	mostLines = 20
	mostRunes = 500 // of the title and of each line
	mostName  = 200 // bytes of each name
)

// clip shortens what is too long.
func clip(n *alert.Notice) {
	short := func(s string, most int) string {
		if r := []rune(s); len(r) > most {
			return string(r[:most-1]) + "…"
		}
		return s
	}
	lines := n.Lines[:min(len(n.Lines), mostLines)]
	n.Lines = nil
	for _, l := range lines {
		n.Lines = append(n.Lines, short(l, mostRunes))
	}
	n.Title = short(n.Title, mostRunes)
	for _, s := range []*string{&n.Key, &n.Rule, &n.Instance, &n.Fleet, &n.Signal} {
		*s = short(*s, mostName)
	}
}

// Sender brings messages to one place. It honours ctx, tries once, and returns nil when the place has taken all of them. Without
// a digest it is given one message at a time. An error means that they are tried again, unless it is a *Refusal.
type Sender interface {
	Send(ctx context.Context, batch []Message) error
}

// Mirror is a place that is shown the state as it is, again and again, and forgets what is no longer shown. notices are those
// that fire, and those that ended within about the last hour.
type Mirror interface {
	Show(ctx context.Context, now time.Time, notices []alert.Notice) error
}

// Refusal says that the place will never take these messages: they are given up, counted and reported.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return "refused: " + r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Later says that the place asked not to be tried again before For has passed. More than a day is taken as a day.
type Later struct {
	Err error
	For time.Duration
}

func (l *Later) Error() string { return l.Err.Error() }
func (l *Later) Unwrap() error { return l.Err }

// Test sends one notice past all spools and ledgers, and returns what the place answered: for `tidemark alert test`.
func Test(ctx context.Context, c Channel, instance string, now time.Time) error {
	n := alert.Notice{
		Key: "test/" + c.Name, Rule: "test", Instance: instance, Severity: alert.Info, Started: now, Once: true,
		Title: "this is a test of Tidemark's alerts on " + instance,
		Lines: []string{"Nothing is wrong. Whoever reads this will be reached when something is."},
	}
	if c.Mirror != nil {
		n.Ended = now.Add(time.Minute) // a mirror forgets it by itself
		return c.Mirror.Show(ctx, now, []alert.Notice{n})
	}
	return c.Sender.Send(ctx, []Message{newMessage(Raised, 0, now, n)})
}
