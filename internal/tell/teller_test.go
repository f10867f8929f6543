package tell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/decide/alert"
)

// place is where messages go in these tests.
type place struct {
	mu      sync.Mutex
	err     error       // what it answers
	frozen  bool        // it does not answer
	half    bool        // it takes the batch and says that it did not: the answer was lost
	batches [][]Message // taken
	trying  []time.Time
	shown   [][]alert.Notice
}

func (p *place) Send(ctx context.Context, batch []Message) error {
	p.mu.Lock()
	p.trying = append(p.trying, time.Now())
	err, frozen := p.err, p.frozen
	if !frozen && (err == nil || p.half) {
		p.batches = append(p.batches, slices.Clone(batch))
	}
	p.mu.Unlock()
	if frozen {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (p *place) Show(_ context.Context, _ time.Time, ns []alert.Notice) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trying = append(p.trying, time.Now())
	if p.err == nil {
		p.shown = append(p.shown, slices.Clone(ns))
	}
	return p.err
}

func (p *place) answers(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// said lists what arrived: "raised a", in order, digests in brackets.
func (p *place) said() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.batches {
		var parts []string
		for _, m := range b {
			parts = append(parts, fmt.Sprintf("%s %s", m.Kind, m.Notice.Key))
		}
		s := strings.Join(parts, ", ")
		if len(b) > 1 {
			s = "[" + s + "]"
		}
		out = append(out, s)
	}
	return out
}

func (p *place) attempts() int { return len(p.times()) }

func (p *place) times() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.trying)
}

func (p *place) views() [][]alert.Notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.shown)
}

func (p *place) sent() [][]Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.batches)
}

func (p *place) messages() (out []Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.batches...)
}

type bench struct {
	*Teller
	t    *testing.T
	opts Options
	cs   []Channel
	mu   sync.Mutex
	log  []string
}

func newBench(t *testing.T, cs ...Channel) *bench {
	t.Helper()
	b := &bench{t: t, cs: cs}
	b.opts = Options{Instance: "dfr", Dir: t.TempDir(), Log: func(l string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.log = append(b.log, l)
	}}
	b.start()
	return b
}

func (b *bench) start() {
	b.t.Helper()
	var err error
	if b.Teller, err = New(b.opts, b.cs); err != nil {
		b.t.Fatal(err)
	}
	b.Start()
}

// stop gives the couriers an hour.
func (b *bench) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	b.Stop(ctx)
}

func (b *bench) logged(part string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, l := range b.log {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

func mailbox(name string, p *place) Channel {
	return Channel{Name: name, Sender: p, Delivery: DefaultDelivery()}
}

// pass lets time go by, and what is to happen in it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func ended(n alert.Notice) alert.Notice {
	n.Ended = time.Now()
	return n
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestRaisedRemindedResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{}
		b := newBench(t, mailbox("mail", p))
		n := notice("a", time.Now())
		for range 4 * 60 * 14 { // each tick for 14 hours
			b.Sync("f", []alert.Notice{n})
			pass(15 * time.Second)
		}
		n = ended(n)
		for range 4 * 60 {
			b.Sync("f", []alert.Notice{n})
			pass(15 * time.Second)
		}
		b.Sync("f", nil)
		pass(time.Hour)
		b.stop()
		same(t, p.said(), "raised a", "reminder a", "reminder a", "resolved a")
		ms := p.messages()
		if ms[0].Thread != ms[0].ID || ms[3].Thread != ms[0].ID || ms[1].ID == ms[2].ID {
			t.Error("the IDs do not hang together")
		}
	})
}

func TestARestartTellsNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{}
		b := newBench(t, mailbox("mail", p))
		a, c, once := notice("a", time.Now()), notice("c", time.Now()), notice("once", time.Now())
		once.Once = true
		for range 3 {
			b.Sync("f", []alert.Notice{a, c, once})
			pass(time.Minute)
			b.stop()
			b.start()
		}
		b.Sync("f", []alert.Notice{ended(a), ended(once)}) // c is not spoken of any more
		pass(time.Minute)
		b.stop()
		b.start()
		b.Sync("f", nil)
		pass(time.Minute)
		b.stop()
		got := p.said()
		slices.Sort(got)
		same(t, got, "raised a", "raised c", "raised once", "resolved a", "resolved c")
	})
}

func TestTheLeastSeverity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{}
		c := mailbox("mail", p)
		c.Severity = alert.Critical
		b := newBench(t, c)
		w, cr := notice("w", time.Now()), notice("c", time.Now())
		cr.Severity = alert.Critical
		b.Sync("f", []alert.Notice{w, cr})
		pass(time.Minute)
		b.Sync("f", []alert.Notice{ended(w), ended(cr)})
		pass(time.Minute)
		b.stop()
		same(t, p.said(), "raised c", "resolved c")
	})
}

// A crash after the spool was written and before the ledger was: the message is known by its ID.
func TestACrashBetweenSpoolAndLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{err: errors.New("offline")}
		b := newBench(t, mailbox("mail", p))
		n := notice("a", time.Now())
		b.Sync("f", []alert.Notice{n})
		pass(time.Minute)
		b.stop()
		if err := os.Remove(filepath.Join(b.opts.Dir, "mail", ledgerFile)); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.Sync("f", []alert.Notice{n})
		pass(time.Minute)
		p.answers(nil)
		pass(time.Hour)
		b.stop()
		same(t, p.said(), "raised a")
	})
}

// Three weeks without a link, with two restarts: then a mail for each day, in order, nothing lost, nothing twice.
func TestWeeksOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{err: errors.New("dial tcp: no route to host")}
		b := newBench(t, mailbox("mail", p))
		rarotonga := time.FixedZone("Pacific/Rarotonga", -10*3600)
		b.stop()
		b.opts.Zone = rarotonga
		b.start()
		var want []string
		begun := time.Now()
		for day := range 21 {
			for hour := range 8 {
				n := notice(fmt.Sprintf("thing-%d", hour%3), time.Now())
				b.Sync("f", []alert.Notice{n})
				pass(time.Hour)
				b.Sync("f", []alert.Notice{ended(n)})
				pass(2 * time.Hour)
				want = append(want, "raised "+n.Key, "resolved "+n.Key)
			}
			if day == 5 || day == 15 {
				b.stop()
				b.start()
			}
		}
		if p.attempts() > 21*24*6+200 {
			t.Errorf("%d attempts in three weeks", p.attempts())
		}
		if n := b.logged("no route to host"); n > 21*4+10 || n < 21 {
			t.Errorf("said %d times", n)
		}
		if s := b.Status()[0]; s.Waiting != len(want) || s.Failing.IsZero() || !s.Oldest.Equal(begun) {
			t.Errorf("status %+v", s)
		}
		p.answers(nil)
		pass(lastRetry)
		got := p.messages()
		b.stop()
		var said []string
		ids := map[string]bool{}
		for i, m := range got {
			said = append(said, fmt.Sprintf("%s %s", m.Kind, m.Notice.Key))
			ids[m.ID] = true
			if i > 0 && m.Time.Before(got[i-1].Time) {
				t.Errorf("%d is out of order", i)
			}
		}
		same(t, said, want...)
		if len(ids) != len(want) {
			t.Errorf("%d different messages of %d", len(ids), len(want))
		}
		if n := len(p.sent()); n < 21 || n > 23 {
			t.Errorf("%d mails for 21 days", n)
		}
		for _, batch := range p.sent() {
			if d := batch[len(batch)-1].Time.In(rarotonga).YearDay() - batch[0].Time.In(rarotonga).YearDay(); d != 0 {
				t.Errorf("a mail of %d days", d+1)
			}
		}
		letter := Write(p.sent()[10], rarotonga)
		if !strings.Contains(letter.Subject, "[dfr] 16 messages, ") || strings.Count(letter.Text, "- warning: thing-") != 3 {
			t.Errorf("%s\n%s", letter.Subject, letter.Text)
		}
	})
}

// What still is the case after weeks is said once more, with the figures of today.
func TestAfterwardsTheStateOfToday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{err: errors.New("offline")}
		b := newBench(t, mailbox("mail", p))
		n := notice("a", time.Now())
		b.Sync("f", []alert.Notice{n})
		pass(20 * 24 * time.Hour)
		if s := b.Status()[0]; s.Waiting != 1 {
			t.Errorf("%d wait: reminders of what was not even told yet", s.Waiting)
		}
		n.Title = "a has the figures of today"
		b.Sync("f", []alert.Notice{n})
		p.answers(nil)
		pass(time.Hour)
		b.stop()
		same(t, p.said(), "raised a", "reminder a")
		if ms := p.messages(); ms[1].Notice.Title != n.Title {
			t.Error(ms[1].Notice.Title)
		}
	})
}

func TestAFrozenPlaceHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frozen, well := &place{frozen: true}, &place{}
		b := newBench(t, mailbox("frozen", frozen), mailbox("well", well))
		for i := range 5 {
			n := notice(fmt.Sprint("k", i), time.Now())
			b.Sync(n.Key, []alert.Notice{n})
			pass(time.Second)
		}
		same(t, well.said(), "raised k0", "raised k1", "raised k2", "raised k3", "raised k4")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		b.Stop(ctx)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("stopped after %v", took)
		}
		frozen.frozen = false
		b.start()
		pass(time.Minute)
		b.stop()
		if got := len(frozen.messages()); got != 5 {
			t.Errorf("%d messages after the thaw", got)
		}
	})
}

func TestStopDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{}
		b := newBench(t, mailbox("mail", p))
		b.Sync("f", []alert.Notice{notice("a", time.Now()), notice("b", time.Now())})
		b.stop() // at once
		b.stop()
		same(t, p.said(), "raised a", "raised b")
	})
}

func TestBackoffAndRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{err: errors.New("503")}
		b := newBench(t, mailbox("hook", p))
		b.Sync("f", []alert.Notice{notice("a", time.Now())})
		pass(2 * time.Hour)
		var gaps []time.Duration
		for i := 1; i < len(p.times()); i++ {
			gaps = append(gaps, p.times()[i].Sub(p.times()[i-1]).Round(time.Second))
		}
		want := []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute}
		if len(gaps) < len(want) || !slices.Equal(gaps[:len(want)], want) {
			t.Errorf("%v", gaps)
		}
		p.answers(&Later{Err: errors.New("429"), For: 3 * time.Hour})
		pass(10 * time.Minute)
		before := p.attempts()
		p.answers(nil)
		b.Sync("f", []alert.Notice{notice("a", time.Now()), notice("b", time.Now())}) // news is no reason to disobey
		pass(2*time.Hour + 40*time.Minute)
		if p.attempts() != before {
			t.Errorf("tried %d times within the time that was asked for", p.attempts()-before)
		}
		pass(40 * time.Minute)
		b.stop()
		if len(p.messages()) < 2 {
			t.Errorf("%v", p.said())
		}
	})
}

func TestARefusalIsRecordedAndToldToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hook, mail := &place{err: &Refusal{Err: errors.New("404 Not Found")}}, &place{}
		b := newBench(t, mailbox("hook", hook), mailbox("mail", mail))
		b.Sync("f", []alert.Notice{notice("a", time.Now())})
		pass(5 * time.Minute)
		s := b.Status()[0]
		if s.Refused != 1 || s.Waiting != 0 || !strings.Contains(s.Error, "404") || b.logged("404") != 1 {
			t.Errorf("%+v", s)
		}
		same(t, mail.said(), "raised a", "raised channel/hook")
		if m := mail.messages()[1]; !strings.Contains(m.Notice.Title, "refused") || !strings.Contains(m.Notice.Title, "404") {
			t.Error(m.Notice.Title)
		}
		hook.answers(nil)
		b.Sync("f", []alert.Notice{notice("b", time.Now())})
		pass(5 * time.Minute)
		b.stop()
		got := mail.said()
		if !slices.Contains(got, "resolved channel/hook") {
			t.Errorf("%v", got)
		}
		if slices.ContainsFunc(hook.said(), func(s string) bool { return strings.Contains(s, "channel/hook") }) {
			t.Error("a channel is told of its own trouble")
		}
	})
}

func TestTroubleForAnHourIsToldToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hook, mail := &place{err: errors.New("no route")}, &place{}
		b := newBench(t, mailbox("hook", hook), mailbox("mail", mail))
		n := notice("a", time.Now())
		b.Sync("f", []alert.Notice{n})
		pass(50 * time.Minute)
		same(t, mail.said(), "raised a")
		pass(20 * time.Minute)
		same(t, mail.said(), "raised a", "raised channel/hook")
		// When nobody can be reached, that is nobody's news afterwards.
		b.stop()
		mail.answers(errors.New("no route"))
		if err := os.RemoveAll(b.opts.Dir); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.Sync("f", []alert.Notice{notice("b", time.Now())})
		pass(4 * time.Hour)
		mail.answers(nil)
		hook.answers(nil)
		pass(time.Hour)
		b.stop()
		same(t, mail.said()[2:], "raised b")
	})
}

// The server takes a mail and its yes is lost: the mail comes again, as the same mail.
func TestAtLeastOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{half: true, err: errors.New("connection reset")}
		b := newBench(t, mailbox("mail", p))
		b.Sync("f", []alert.Notice{notice("a", time.Now()), notice("b", time.Now()), notice("c", time.Now()), notice("d", time.Now())})
		pass(20 * time.Second)
		p.answers(nil)
		pass(time.Minute)
		b.stop()
		if len(p.sent()) != 3 || ID(p.sent()[0]) != ID(p.sent()[1]) || ID(p.sent()[1]) != ID(p.sent()[2]) || len(p.sent()[0]) != 4 {
			t.Errorf("%v", p.said())
		}
	})
}

func TestDroppedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{err: errors.New("offline")}
		c := mailbox("mail", p)
		c.Spool.Messages, c.Digest.Over = 10, 0
		b := newBench(t, c)
		for i := range 30 {
			n := notice(fmt.Sprint("k", i), time.Now())
			b.Sync("f", []alert.Notice{n})
			pass(time.Hour)
		}
		if s := b.Status()[0]; s.Waiting != 10 || s.Dropped != 49 || b.logged("the spool is full") == 0 {
			t.Errorf("%+v", s)
		}
		b.stop()
		b.start()
		b.Sync("f", nil)
		pass(time.Minute)
		p.answers(nil)
		pass(time.Hour)
		b.stop()
		ms := p.messages()
		if len(ms) != 11 || !strings.Contains(ms[0].Notice.Title, "50 older messages to mail were dropped") || ms[10].Kind != Resolved {
			t.Errorf("%d messages, %v", len(ms), p.said())
		}
	})
}

func TestADiskThatIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{err: errors.New("offline")}
		b := newBench(t, mailbox("mail", p))
		dir := filepath.Join(b.opts.Dir, "mail")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b.Sync("f", []alert.Notice{notice("a", time.Now())})
		pass(10 * time.Minute)
		if s := b.Status()[0]; s.Held != 1 || b.logged("held in memory") != 1 {
			t.Errorf("%+v, said %d times", s, b.logged("held in memory"))
		}
		p.answers(nil)
		pass(lastRetry)
		same(t, p.said(), "raised a") // also without a disk
		p.answers(errors.New("offline"))
		b.Sync("f", []alert.Notice{notice("a", time.Now())})
		pass(time.Minute)
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Minute)
		if s := b.Status()[0]; s.Held != 0 || b.logged("can be written again") == 0 {
			t.Errorf("%+v", s)
		}
		b.stop()
	})
}

func TestAScopeThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{}
		b := newBench(t, mailbox("mail", p))
		b.Sync("old", []alert.Notice{notice("a", time.Now())})
		pass(time.Minute)
		b.stop()
		b.start() // with a configuration that has no such fleet
		pass(30 * time.Minute)
		same(t, p.said(), "raised a")
		pass(time.Hour)
		b.stop()
		same(t, p.said(), "raised a", "resolved a")
	})
}

func TestAMirrorIsShownTheStateAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{}
		c := Channel{Name: "alertmanager", Mirror: p, Delivery: Delivery{Repeat: time.Minute}}
		b := newBench(t, c)
		pass(time.Second)
		n := notice("a", time.Now())
		b.Sync("f", []alert.Notice{n})
		pass(time.Second)
		if len(p.views()) == 0 || len(p.views()[len(p.views())-1]) != 1 {
			t.Fatalf("news waits: %v", p.views())
		}
		pass(10 * time.Minute)
		if len(p.views()) < 10 || len(p.views()) > 13 {
			t.Errorf("shown %d times in 10 minutes", len(p.views()))
		}
		for i := range 20 {
			n.Title = fmt.Sprint("figures ", i)
			b.Sync("f", []alert.Notice{n})
			pass(time.Second)
		}
		if len(p.views()) > 13 {
			t.Errorf("shown %d times: figures are no news", len(p.views()))
		}
		p.answers(errors.New("offline"))
		pass(time.Hour)
		p.answers(nil)
		before := len(p.views())
		b.Sync("f", []alert.Notice{ended(n)})
		pass(lastRetry + time.Minute)
		b.stop()
		if len(p.views()) <= before || p.views()[len(p.views())-1][0].Firing() {
			t.Errorf("%v", p.views()[before:])
		}
	})
}

// Who has been told of what: delivered, waiting, or not yet; a channel that is not to be told of it is left out.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down, am := &place{}, &place{err: errors.New("no route to host")}, &place{}
		boss := mailbox("boss", &place{})
		boss.Severity = alert.Critical
		b := newBench(t, mailbox("up", up), mailbox("down", down), boss, Channel{Name: "am", Mirror: am, Delivery: Delivery{Repeat: time.Minute}})
		told := func(n alert.Notice) (out []string) {
			for _, s := range b.Told(&n) {
				out = append(out, fmt.Sprint(s.Channel, " ", !s.At.IsZero(), " ", s.Waiting))
			}
			return out
		}
		n := notice("w", time.Now())
		n.Severity = alert.Warning
		same(t, told(n), "up false false", "down false false", "am false false")
		b.Sync("f", []alert.Notice{n})
		pass(time.Second)
		same(t, told(n), "up true false", "down true true", "am true false")
		later := n
		later.Started = n.Started.Add(time.Hour) // the next of its kind
		same(t, told(later), "up false false", "down false false", "am false false")
		down.answers(nil)
		pass(time.Minute)
		same(t, told(n), "up true false", "down true false", "am true false")
		tried := b.Test(t.Context())
		if len(tried) != 4 || tried[0] != (Tried{Channel: "up"}) || tried[3] != (Tried{Channel: "am"}) {
			t.Errorf("%+v", tried)
		}
		b.stop()
	})
}

func TestTestReachesAChannel(t *testing.T) {
	p := &place{}
	if err := Test(t.Context(), mailbox("mail", p), "dfr", noon); err != nil {
		t.Fatal(err)
	}
	if err := Test(t.Context(), Channel{Name: "am", Mirror: p}, "dfr", noon); err != nil {
		t.Fatal(err)
	}
	same(t, p.said(), "raised test/mail")
	if len(p.views()) != 1 || p.views()[0][0].Firing() {
		t.Errorf("%v", p.views())
	}
	p.answers(errors.New("no"))
	if err := Test(t.Context(), mailbox("mail", p), "dfr", noon); err == nil {
		t.Error("no error")
	}
}

func TestChannelsThatCannotBe(t *testing.T) {
	for name, cs := range map[string][]Channel{
		"no name": {{Sender: &place{}}}, "nothing": {{Name: "x"}}, "both": {{Name: "x", Sender: &place{}, Mirror: &place{}}}, "twice": {mailbox("x", &place{}), mailbox("x", &place{})},
	} {
		if _, err := New(Options{Dir: t.TempDir()}, cs); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestFolders(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{"mail ict@moa.example", "mail_ict@moa.example", "../../etc", "..", ".", "a/b", strings.Repeat("x", 300), "webhook"} {
		f := folder(name)
		if seen[f] || strings.ContainsAny(f, "/ ") || strings.HasPrefix(f, ".") || len(f) > 100 {
			t.Errorf("%q: %q", name, f)
		}
		seen[f] = true
	}
}

// heart is a place that watches.
type heart struct{ place }

func (h *heart) Ping(context.Context) error { return h.Send(context.Background(), nil) }

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heart{}
		var sick atomic.Pointer[error]
		is := func(err error) { sick.Store(&err) }
		is(nil)
		var log []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Pulse(ctx, h, time.Minute, func() error { return *sick.Load() }, func(l string) { log = append(log, l) })
		}()
		pass(10*time.Minute + time.Second)
		if h.attempts() != 11 {
			t.Errorf("%d pings in 10 minutes", h.attempts())
		}
		is(errors.New("no tick for 5m"))
		pass(10 * time.Minute)
		if h.attempts() != 11 {
			t.Error("pings of a loop that hangs")
		}
		is(nil)
		h.answers(errors.New("500"))
		pass(10 * time.Minute)
		h.answers(nil)
		pass(time.Minute)
		cancel()
		<-done
		same(t, log, "dead-man ping: no ping: the loop is not healthy: no tick for 5m", "dead-man ping: 500", "dead-man ping: works again")
	})
}
