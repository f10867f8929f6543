package tell

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/decide/alert"
)

// Channel is one place that is told: a Sender, or a Mirror.
type Channel struct {
	Name   string // unique; it names the folder of its spool
	Sender Sender
	Mirror Mirror
	Delivery
}

// Options hold what all channels share.
type Options struct {
	Instance string
	Zone     *time.Location    // default UTC
	Dir      string            // of the spools
	Log      func(line string) // what an operator of the machine should read; never called by Sync
}

// Teller tells all channels.
type Teller struct {
	opts     Options
	couriers []*courier
	stopping chan struct{}
	cancel   context.CancelFunc
	stopOnce sync.Once
	wg       sync.WaitGroup

	mu       sync.Mutex
	scopes   map[string][]alert.Notice
	statuses map[string]Status
	tellings map[string]map[string]Telling // by channel and key
	troubles map[string]alert.Notice       // by channel
}

// New opens the spools. Nothing is sent before Start.
func New(opts Options, channels []Channel) (*Teller, error) {
	if opts.Zone == nil {
		opts.Zone = time.UTC
	}
	if opts.Log == nil {
		opts.Log = func(string) {}
	}
	t := &Teller{opts: opts, stopping: make(chan struct{}), scopes: map[string][]alert.Notice{}, statuses: map[string]Status{}, tellings: map[string]map[string]Telling{}, troubles: map[string]alert.Notice{}}
	for _, c := range channels {
		if (c.Sender == nil) == (c.Mirror == nil) || t.statuses[c.Name].Channel != "" || c.Name == "" {
			return nil, fmt.Errorf("channel %q: needs a name of its own, and a sender or a mirror", c.Name)
		}
		k, err := t.newCourier(c)
		if err != nil {
			return nil, fmt.Errorf("alerts to %s: %w", c.Name, err)
		}
		t.couriers = append(t.couriers, k)
		t.report(k.status, k.tellings())
	}
	return t, nil
}

// Start begins to deliver.
func (t *Teller) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	for _, k := range t.couriers {
		t.wg.Go(func() { k.run(ctx, t.stopping) })
	}
}

// Stop takes in what was told last, delivers what can be delivered until ctx ends, and returns when nothing runs any more. What
// is not delivered stays in the spool. Twice, or before Start, is harmless.
func (t *Teller) Stop(ctx context.Context) {
	if t.cancel == nil {
		return
	}
	t.stopOnce.Do(func() { close(t.stopping) })
	stop := context.AfterFunc(ctx, t.cancel)
	defer stop()
	t.wg.Wait()
	t.cancel()
}

// Sync says all that is the case in one scope (a fleet, or the instance), and what ended lately: at each tick, or whenever it
// changes. It returns at once: what takes time is left to the couriers. An end must be said for so long that a courier that is
// sending sees it, and a Mirror has shown it a few times; an hour is what decide/alert does. What is not said any more is over.
func (t *Teller) Sync(scope string, notices []alert.Notice) {
	t.mu.Lock()
	before, known := t.scopes[scope]
	t.scopes[scope] = slices.Clone(notices)
	t.mu.Unlock()
	if !known || !slices.EqualFunc(before, notices, sameNews) {
		t.wake()
	}
}

func (t *Teller) wake() {
	for _, k := range t.couriers {
		select {
		case k.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// Status reports all channels as configured in order.
func (t *Teller) Status() []Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Status
	for _, k := range t.couriers {
		out = append(out, t.statuses[k.Name])
	}
	return out
}

// Telling is how far one channel has got with one notice.
type Telling struct {
	Channel string    `json:"channel"`
	At      time.Time `json:"at,omitzero"`       // when it became news for the channel; zero: it has not heard of it
	Waiting bool      `json:"waiting,omitempty"` // it is spooled and not delivered
	started time.Time
}

// Told says which channels have been told of a notice, and which have it waiting, as configured in order. A channel whose
// severity is above the notice's is left out.
func (t *Teller) Told(n *alert.Notice) []Telling {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Telling
	for _, k := range t.couriers {
		if n.Severity < k.Severity {
			continue
		}
		told := t.tellings[k.Name][n.Key]
		if !told.started.Equal(n.Started) {
			told = Telling{}
		}
		told.Channel = k.Name
		out = append(out, told)
	}
	return out
}

// Tried is what became of a test message.
type Tried struct {
	Channel string `json:"channel"`
	Error   string `json:"error,omitempty"` // empty: the place has taken it
}

// Test sends a test message to each channel at once, past spools and ledgers, and reports what each answered.
func (t *Teller) Test(ctx context.Context) []Tried {
	out := make([]Tried, len(t.couriers))
	var wg sync.WaitGroup
	for i, k := range t.couriers {
		wg.Go(func() { out[i] = Tried{k.Name, message(Test(ctx, k.Channel, t.opts.Instance, time.Now().UTC()))} })
	}
	wg.Wait()
	return out
}

// own is the scope of what is the matter with the channels themselves.
const own = "channel"

// snapshot is what a channel is to be told: all scopes, and the troubles of the other channels.
func (t *Teller) snapshot(channel string) map[string][]alert.Notice {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string][]alert.Notice{own: nil}
	for scope, ns := range t.scopes {
		out[scope] = ns
	}
	for _, k := range t.couriers {
		if n, ok := t.troubles[k.Name]; ok && k.Name != channel {
			out[own] = append(out[own], n)
		}
	}
	return out
}

// Trouble of a channel is told to the others after so long, and kept for so long after its end.
const (
	troubleAfter = time.Hour
	troubleKept  = time.Hour
)

// report takes in how a channel fares, and makes its trouble a notice to the others. While none of them works there is nobody to
// tell, and what they have in common (the link is down) is nobody's news once it is up.
func (t *Teller) report(s Status, tellings map[string]Telling) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.statuses[s.Channel] = s
	t.tellings[s.Channel] = tellings
	n, had := t.troubles[s.Channel]
	bad := !s.Failing.IsZero() && (s.refusing || now.Sub(s.Failing) >= troubleAfter)
	switch {
	case bad && (!had || !n.Firing()):
		if t.othersWork(s.Channel, now) {
			t.troubles[s.Channel] = t.trouble(s)
		}
	case !bad && had && n.Firing():
		n.Ended = now
		n.Lines = []string{"It takes messages again."}
		t.troubles[s.Channel] = n
	case !bad && had && now.Sub(n.Ended) > troubleKept:
		delete(t.troubles, s.Channel)
	}
}

// othersWork reports whether another channel works, and has for so long that this one would have been tried since.
func (t *Teller) othersWork(but string, now time.Time) bool {
	for name, s := range t.statuses {
		if name != but && s.Failing.IsZero() && now.Sub(s.well) > lastRetry {
			return true
		}
	}
	return false
}

func (t *Teller) trouble(s Status) alert.Notice {
	n := alert.Notice{
		Key: "channel/" + s.Channel, Rule: "channel", Instance: t.opts.Instance, Severity: alert.Warning, Started: s.Failing,
		Title: "alerts to " + s.Channel + " cannot be delivered: " + strings.TrimSuffix(s.Error, "."),
		Lines: []string{fmt.Sprintf("%s and will be delivered when it can be reached.", waits(s.Waiting)),
			"Look at the address, the password and the link, then try it with 'tidemark alert test'."},
	}
	if s.refusing {
		n.Title = "alerts to " + s.Channel + " are refused: " + strings.TrimSuffix(s.Error, ".")
		n.Lines[0] = fmt.Sprintf("%s refused and given up, since a place that answers so never takes them.", count(s.Refused, "message"))
	}
	return n
}

func waits(n int) string {
	if n == 1 {
		return "1 message waits"
	}
	return fmt.Sprintf("%d messages wait", n)
}

// Beat tells a place that watches over Tidemark that it is alive.
type Beat interface {
	Ping(ctx context.Context) error
}

// Pulse calls beat at once and then at each interval, until ctx ends, as long as healthy returns nil. It is a dead man's switch:
// when the pings stop, the place raises the alarm that this machine no longer can. log receives the first of several like failures.
func Pulse(ctx context.Context, beat Beat, every time.Duration, healthy func() error, log func(string)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	said := ""
	for {
		err := healthy()
		if err != nil {
			err = fmt.Errorf("no ping: the loop is not healthy: %w", err)
		} else {
			err = beat.Ping(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if say := message(err); say != said && say != "" {
			log("dead-man ping: " + say)
		} else if say != said {
			log("dead-man ping: works again")
		}
		said = message(err)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
