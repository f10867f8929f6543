package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

// card is a fleet in the overview.
type card struct {
	*control.Status
	Page    *page
	Base    string // address of its dashboard; empty: this one
	ID      string // in the page
	Load    string // as its policy measures it
	Latency string // against what it is held to
	Slow    bool
	Alarms  []string // that are raised
	Holding string
	Next    string // change of the schedule
	Late    bool   // it should have ticked since
	Trouble []string
}

// places are what the overview shows: this daemon's fleets, and those of others.
type places struct {
	Cards     []card
	Elsewhere []place
}

// place is another daemon. Its page has its own time zone.
type place struct {
	web.Daemon
	Page  *page
	Cards []card // empty while it is away
	Then  string // what it said last, while it is away
}

func (s *Site) overview(context.Context, *http.Request) (*page, error) {
	p := s.page("Overview")
	all := &places{Cards: p.cards("", 0)}
	for i, d := range s.b.Daemons() {
		there := *p
		one := place{Daemon: d, Page: &there}
		if d.Overview != nil {
			there.Overview, there.Zone, there.Skew = *d.Overview, zoneOf(d.Overview.TimeZone), clocksDiffer
		}
		switch {
		case d.Overview == nil:
		case d.Away.IsZero():
			one.Cards = there.cards(d.URL, i+1)
		default:
			one.Then = then(d.Overview)
		}
		all.Elsewhere = append(all.Elsewhere, one)
	}
	p.Data = all
	return p, nil
}

// then is what was the case when a daemon was last heard.
func then(o *web.Overview) string {
	var out []string
	for _, st := range o.Fleets {
		if st.Size.Known {
			out = append(out, fmt.Sprintf("%s had %d of at most %d workers", st.Fleet, st.Size.Workers(), st.Bounds.Max))
		} else {
			out = append(out, "the size of "+st.Fleet+" was not known")
		}
	}
	return strings.Join(out, ", ")
}

// cards are the fleets of the page's daemon: base is the address of its dashboard, empty for this one, and nth its place in the overview.
func (p *page) cards(base string, nth int) (out []card) {
	for _, st := range p.Overview.Fleets {
		c := p.card(st)
		c.Base, c.ID = base, fmt.Sprintf("fleet-%d-%s", nth, st.Fleet)
		out = append(out, c)
	}
	return out
}

// clocksDiffer is by how much another machine's clock may differ from this one's.
const clocksDiffer = 2 * time.Minute

func (p *page) card(st *control.Status) card {
	c := card{Status: st, Page: p, Holding: text.Standing(st), Next: text.NextWindow(text.View{Now: p.Now, Zone: p.Zone}, st.Schedule)}
	c.Load = demand(st)
	c.Latency, c.Slow = latency(st)
	for i := range st.Rules {
		if r := &st.Rules[i]; r.State == fleet.Alarm && r.Mode != fleet.Off {
			c.Alarms = append(c.Alarms, fmt.Sprintf("%s %s %s", r.Signal, r.Operator, r.Unit.Format(r.Threshold)))
		}
	}
	c.Late = !st.Time.IsZero() && p.Now.Sub(st.Time) > p.Skew+max(3*time.Duration(st.Tick), 3*time.Second)
	for _, t := range []struct{ what, err string }{{"target", st.TargetErr}, {"action", st.ActionErr}, {"balancer", st.BalanceErr}, {"journal", st.JournalErr}} {
		if t.err != "" {
			c.Trouble = append(c.Trouble, t.what+": "+t.err)
		}
	}
	return c
}

// Percent is a size's place between 0 and the maximum.
func (c card) Percent(n int) int { return min(100, 100*n/max(c.Bounds.Max, 1)) }

// demand is what is asked of a fleet: its measured rate where a policy reckons with one, else the first share that a rule scales out by.
func demand(st *control.Status) string {
	for _, o := range st.Objectives {
		if m := o.Proposal.Model; o.Proposal.Known {
			return fmt.Sprintf("%.3g requests/s", m.Measured)
		}
	}
	for i := range st.Rules {
		r := &st.Rules[i]
		if r.Change <= 0 || r.Unit != fleet.Percent {
			continue
		}
		for j := range st.Signals {
			if st.Signals[j].Name == r.Signal {
				return r.Signal + " " + reading(&st.Signals[j])
			}
		}
	}
	return ""
}

// latency is the response time against what it is held to: an objective's, else the first that a rule scales out by.
func latency(st *control.Status) (words string, slow bool) {
	compare := func(name string, r fleet.Reading, limit float64) (string, bool) {
		s := control.SignalStatus{Unit: fleet.Seconds, Reading: r}
		return fmt.Sprintf("%s %s of %s", name, reading(&s), fleet.Seconds.Format(limit)), r.Quality == fleet.Fresh && r.Value > limit
	}
	for _, o := range st.Objectives {
		return compare(o.Signal, o.Measured, o.Within)
	}
	for i := range st.Rules {
		r := &st.Rules[i]
		for j := range st.Signals {
			if r.Change > 0 && r.Unit == fleet.Seconds && st.Signals[j].Name == r.Signal {
				return compare(r.Signal, st.Signals[j].Reading, r.Threshold)
			}
		}
	}
	return "", false
}

// reading is a signal's value for people: what was not measured has none.
func reading(s *control.SignalStatus) string {
	switch s.Reading.Quality {
	case fleet.Fresh:
		return s.Unit.Format(s.Reading.Value)
	case fleet.Sparse:
		return "(too few samples)"
	case fleet.Missing, fleet.Stale:
	}
	return "(" + s.Reading.Quality.String() + ")"
}

// fleetPage is all that is known of one fleet.
type fleetPage struct {
	card
	Zoom      string
	Zooms     []zoom
	Earlier   string // the address of the stretch before
	Later     string // and after; empty: this is the present
	Titles    string // of the same stretch, with titles that tell its values
	Present   bool
	Timeline  *timeline
	Rules     []rule
	Decisions []fleet.Decision
	Workers   []web.Worker
	Modes     []string
}

// rule is an alarm and its last datapoints.
type rule struct {
	control.RuleStatus
	Points []point
	Words  string // the same for those who cannot see them
}

// point is a datapoint as it is drawn: heights in percent.
type point struct {
	Breaches, Real bool
	X, Height, Top int
	Title          string
}

func (s *Site) fleet(ctx context.Context, r *http.Request) (*page, error) {
	name, v := r.PathValue("fleet"), r.URL.Query()
	p := s.page(name)
	st, err := p.state(name)
	if err != nil {
		return nil, err
	}
	worth := zoomsOf(time.Duration(st.Tick))
	z := find(worth, v.Get("zoom"))
	f := &fleetPage{card: p.card(st), Zoom: z.Name, Zooms: worth, Modes: []string{"on", "scale_out_only", "shadow", "off", "configured"}}
	until, err := time.Parse(time.RFC3339, v.Get("until"))
	if err != nil {
		until = time.Time{} // the present
	}
	if f.Timeline, err = s.timeline(ctx, p, st, z, until, v.Has("titles")); err != nil {
		return nil, err
	}
	f.Present = until.IsZero()
	address := func(t time.Time) string {
		q := url.Values{"zoom": {z.Name}}
		if t.Before(p.Now) {
			q.Set("until", t.UTC().Format(time.RFC3339))
		}
		return "?" + q.Encode()
	}
	f.Earlier = address(f.Timeline.From)
	now := url.Values{"zoom": {z.Name}, "titles": {""}}
	if !f.Present {
		now.Set("until", until.UTC().Format(time.RFC3339))
	}
	f.Titles = "?" + now.Encode()
	if !f.Present {
		f.Later = address(f.Timeline.To.Add(z.span))
	}
	for i := range st.Rules {
		f.Rules = append(f.Rules, drawRule(&st.Rules[i], p.Zone))
	}
	if f.Decisions, err = s.b.Decisions(ctx, name, time.Time{}, time.Time{}, 10); err != nil {
		return nil, err
	}
	f.Workers = s.b.Workers(ctx, st)
	p.Data = f
	return p, nil
}

// drawRule draws the datapoints that an alarm looks at as bars, to one scale with the threshold.
func drawRule(r *control.RuleStatus, zone *time.Location) rule {
	out := rule{RuleStatus: *r}
	top := highest(r)
	if top <= 0 {
		top = 1
	}
	missing := r.N - len(r.Datapoints)
	var words []string
	for i := range r.N {
		p := point{X: i * 12, Title: "no datapoint yet"}
		if i >= missing {
			d := r.Datapoints[i-missing]
			p.draw(r, d, top, zone)
			words = append(words, p.Title)
		}
		out.Points = append(out.Points, p)
	}
	out.Words = strings.Join(words, "; ")
	return out
}

// highest is the top of what is drawn of a rule: of the threshold and the datapoints.
func highest(r *control.RuleStatus) float64 {
	top := r.Threshold
	for _, d := range r.Datapoints {
		if d.Real() {
			top = max(top, d.Value)
		}
	}
	return top
}

func (p *point) draw(r *control.RuleStatus, d signal.Datapoint, top float64, zone *time.Location) {
	p.Title = d.End.In(zone).Format("15:04:05") + " " + d.Quality.String()
	if !d.Real() {
		return
	}
	p.Real, p.Breaches = true, r.Operator.Holds(d.Value, r.Threshold)
	p.Height = max(1, min(28, int(28*max(d.Value, 0)/top)))
	p.Top = 28 - p.Height
	p.Title = d.End.In(zone).Format("15:04:05") + " " + r.Unit.Format(d.Value)
	if p.Breaches {
		p.Title += ", breaches"
	}
}

// Line is where the threshold is drawn.
func (r rule) Line() int {
	top := highest(&r.RuleStatus)
	if top <= 0 {
		return 28
	}
	return 28 - int(28*r.Threshold/top)
}

// Wide is how wide the drawing is.
func (r rule) Wide() int { return max(12*r.N, 12) }

func (s *Site) policies(_ context.Context, r *http.Request) (*page, error) {
	p := s.page("Policies of " + r.PathValue("fleet"))
	of, err := s.b.Policies(r.PathValue("fleet"))
	p.Data = of
	return p, err
}

// listing is a page of a list.
type listing struct {
	Fleet, Kind string
	Kinds       []fleet.Kind
	Events      []fleet.Event
	Decisions   []fleet.Decision
	Older       string // address; empty: there are none
}

const perPage = 50

func (s *Site) decisions(ctx context.Context, r *http.Request) (*page, error) {
	l := listing{Fleet: r.PathValue("fleet")}
	p := s.page("Decisions of " + l.Fleet)
	before, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("before"))
	if err != nil {
		before = time.Time{} // the newest
	}
	if l.Decisions, err = s.b.Decisions(ctx, l.Fleet, time.Time{}, before, perPage); err != nil {
		return nil, err
	}
	if n := len(l.Decisions); n == perPage {
		l.Older = "?" + url.Values{"before": {l.Decisions[n-1].Time.UTC().Format(time.RFC3339Nano)}}.Encode()
	}
	p.Data = &l
	return p, nil
}

// kinds are those that a list of events can be narrowed to.
var kinds = []fleet.Kind{
	fleet.EventDecision, fleet.EventActionDone, fleet.EventActionFailed, fleet.EventSizeChanged, fleet.EventOrder, fleet.EventNote, fleet.EventAlarm, fleet.EventGuard,
	fleet.EventSignalLost, fleet.EventSignalBack, fleet.EventAlertRaised, fleet.EventAlertOver, fleet.EventAlertSeen, fleet.EventAlertTested,
	fleet.EventSignedIn, fleet.EventSignInFailed, fleet.EventSignedOut, fleet.EventRefused, fleet.EventStarted, fleet.EventStopped, fleet.EventReloaded,
}

func (s *Site) events(ctx context.Context, r *http.Request) (*page, error) {
	v := r.URL.Query()
	q, err := web.EventQuery(v)
	if err != nil {
		return nil, err
	}
	q.Limit = perPage
	p := s.page("Events")
	l := listing{Fleet: q.Fleet, Kind: v.Get("kind"), Kinds: kinds}
	if l.Events, err = s.b.Events(ctx, q); err != nil {
		return nil, err
	}
	if n := len(l.Events); n == perPage {
		v.Set("before", strconv.FormatInt(l.Events[n-1].ID, 10))
		l.Older = "?" + v.Encode()
	}
	p.Data = &l
	return p, nil
}

func (s *Site) alerts(context.Context, *http.Request) (*page, error) {
	p := s.page("Alerts")
	p.Data = s.b.Alerts()
	return p, nil
}

// proposal is what an operator is about to do.
type proposal struct {
	Fleet, Does, Kind, Size, Mode, For, Note, Key string
	Wrong                                         string
	Warn                                          string
}

// asked reads an order from a form.
func asked(v url.Values) (o web.OrderRequest, lasts string, err error) {
	if err := o.Kind.UnmarshalText([]byte(v.Get("kind"))); err != nil || o.Kind == engine.NoOrder {
		return o, "", fmt.Errorf("%q is no order", v.Get("kind"))
	}
	o.Note = strings.TrimSpace(v.Get("note"))
	switch o.Kind {
	case engine.Pin:
		if o.Size, err = strconv.Atoi(v.Get("size")); err != nil || o.Size < 1 {
			return o, "", fmt.Errorf("%q is no size: write a number of workers, at least 1", v.Get("size"))
		}
	case engine.SetMode:
		if v.Get("mode") == "configured" {
			o.Kind = engine.DropMode
		} else if err := o.Mode.UnmarshalText([]byte(v.Get("mode"))); err != nil {
			return o, "", err
		}
	case engine.NoOrder, engine.Hold, engine.Release, engine.DropMode:
	}
	lasts = "until it is released"
	if text := v.Get("for"); text != "" && (o.Kind == engine.Pin || o.Kind == engine.Hold) {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return o, "", fmt.Errorf("%q is no time: write 1h or 30m", text)
		}
		f := fleet.Duration(d)
		o.For, lasts = &f, "for "+fleet.Elapsed(d)
	}
	if o.Note == "" {
		return o, "", fmt.Errorf("say why: it is recorded with the order, and shown to whoever asks later")
	}
	return o, lasts, nil
}

func (s *Site) confirmOrder(_ context.Context, r *http.Request) (*page, error) {
	return s.propose(r.PathValue("fleet"), r.URL.Query())
}

// propose shows what an order would do, to be confirmed.
func (s *Site) propose(name string, v url.Values) (*page, error) {
	p := s.page("Confirm")
	st, err := p.state(name)
	if err != nil {
		return nil, err
	}
	d := &proposal{Fleet: name, Kind: v.Get("kind"), Size: v.Get("size"), Mode: v.Get("mode"), For: v.Get("for"), Note: v.Get("note")}
	p.Data = d
	o, lasts, err := asked(v)
	if err != nil {
		d.Wrong = err.Error()
		return p, nil
	}
	switch o.Kind {
	case engine.Pin:
		d.Does = fmt.Sprintf("Set %s to %d workers %s.", name, o.Size, lasts)
		if n := st.Bounds.Clamp(o.Size); n != o.Size {
			d.Warn = fmt.Sprintf("The bounds are %d to %d, so it will be %d.", st.Bounds.Min, st.Bounds.Max, n)
		}
	case engine.Hold:
		d.Does = fmt.Sprintf("Hold %s at its size %s: no policy changes it.", name, lasts)
		d.Warn = "While it is held, the fleet does not grow under load."
	case engine.Release:
		d.Does = fmt.Sprintf("Release %s: its policies decide again.", name)
	case engine.SetMode:
		d.Does = fmt.Sprintf("Set the mode of %s to %s, over its configuration.", name, o.Mode)
		if o.Mode == fleet.Off || o.Mode == fleet.Shadow {
			d.Warn = "In this mode nothing changes the fleet's size, whatever the load."
		}
	case engine.DropMode:
		d.Does = fmt.Sprintf("Set the mode of %s back to what its configuration says.", name)
	case engine.NoOrder:
	}
	return p, nil
}

// maxForm bounds what a form may send.
const maxForm = 16 << 10

func form(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return &web.Problem{Status: http.StatusBadRequest, Detail: "the form did not arrive whole"}
	}
	return nil
}

// order does what was confirmed.
func (s *Site) order(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("fleet")
	if err := form(w, r); err != nil {
		s.fail(w, r, err)
		return
	}
	o, _, err := asked(r.PostForm)
	if err == nil {
		_, err = web.Order(r.Context(), s.b, name, o)
	} else {
		err = &web.Problem{Status: http.StatusBadRequest, Detail: err.Error()}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/fleets/"+url.PathEscape(name), http.StatusSeeOther)
}

// note records what somebody wants to be seen on a fleet's timeline.
func (s *Site) note(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("fleet")
	err := form(w, r)
	if err == nil {
		err = web.Annotate(r.Context(), s.b, name, web.Note{Note: strings.TrimSpace(r.PostForm.Get("note"))})
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/fleets/"+url.PathEscape(name)+"#timeline", http.StatusSeeOther)
}

func (s *Site) confirmSeen(_ context.Context, r *http.Request) (*page, error) {
	v := r.URL.Query()
	p := s.page("Acknowledge")
	d := &proposal{Key: v.Get("key"), Note: v.Get("note"), Does: "Say that you have seen this alert, and look after it."}
	for _, a := range s.b.Alerts().Alerts {
		if a.Key == d.Key && a.Firing() {
			d.Warn = a.Title
			p.Data = d
			return p, nil
		}
	}
	return nil, web.ErrNoAlert
}

func (s *Site) acknowledge(w http.ResponseWriter, r *http.Request) {
	if err := form(w, r); err != nil {
		s.fail(w, r, err)
		return
	}
	v := r.PostForm
	if err := web.Acknowledge(r.Context(), s.b, web.Acknowledgement{Key: v.Get("key"), Note: strings.TrimSpace(v.Get("note"))}); err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/alerts", http.StatusSeeOther)
}
