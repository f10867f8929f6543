package month_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/month"
	"tidemark/internal/foresee/month/monthtest"
	"tidemark/internal/record"
)

const long = 400 * 24 * time.Hour // after any month here

func make1(t *testing.T, j month.Journal, cfg *config.Config, name string, now time.Time) *month.Report {
	t.Helper()
	r, err := month.Make(t.Context(), j, cfg, name, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func near(t *testing.T, what string, got *float64, want float64) {
	t.Helper()
	if got == nil || math.Abs(*got-want) > 1e-6*max(math.Abs(want), 1) {
		t.Errorf("%s is %v, want %v", what, show(got), want)
	}
}

func show(v *float64) any {
	if v == nil {
		return "not known"
	}
	return *v
}

func lasts(t *testing.T, what string, got fleet.Duration, want time.Duration) {
	t.Helper()
	if d := time.Duration(got) - want; d.Abs() > time.Second {
		t.Errorf("%s is %v, want %v", what, time.Duration(got), want)
	}
}

var steady = monthtest.Look{Size: 4, CPU: 55, Errors: 0, API: 0.2}

// span is a month in a zone, with every interval as told.
func span(t *testing.T, cfg *config.Config, name string, look func(at time.Time) monthtest.Look) (j *monthtest.Journal, from, to time.Time) {
	t.Helper()
	from, to, err := month.Span(name, cfg.Instance.Zone)
	if err != nil {
		t.Fatal(err)
	}
	j = &monthtest.Journal{}
	j.Fill(from, to, look)
	return j, from, to
}

func always(l monthtest.Look) func(time.Time) monthtest.Look {
	return func(time.Time) monthtest.Look { return l }
}

// TestMonthsByTheClock: a month is as long as its clocks say, and so are its days.
func TestMonthsByTheClock(t *testing.T) {
	for _, c := range []struct {
		zone, name string
		hours      float64
		day        string
		of         float64
	}{
		{"Pacific/Auckland", "2027-04", 721, "2027-04-04", 25},
		{"Pacific/Auckland", "2027-09", 719, "2027-09-26", 23},
		{"Pacific/Rarotonga", "2027-03", 744, "2027-03-14", 24},
		{"Pacific/Chatham", "2027-04", 721, "2027-04-04", 25},
		{"America/Santiago", "2027-09", 719, "2027-09-05", 23}, // there is no midnight on that day
	} {
		cfg := monthtest.Config(c.zone)
		j, from, to := span(t, cfg, c.name, always(steady))
		r := make1(t, j, cfg, c.name, to.Add(time.Hour))
		f := &r.Fleets[0]
		if got := to.Sub(from).Hours(); got != c.hours {
			t.Errorf("%s %s has %v hours, want %v", c.zone, c.name, got, c.hours)
		}
		near(t, c.zone+": worker-hours", &f.Money.WorkerHours, 4*c.hours)
		total := 0.0
		for _, d := range f.Days {
			total += d.WorkerHours
			if d.Date == c.day && d.To.Sub(d.From).Hours() != c.of {
				t.Errorf("%s: %s has %v, want %v hours", c.zone, d.Date, d.To.Sub(d.From), c.of)
			}
		}
		near(t, c.zone+": worker-hours of the days", &total, 4*c.hours)
		if last := f.Days[len(f.Days)-1]; !last.To.Equal(to) {
			t.Errorf("%s: the last day ends %v, the month %v", c.zone, last.To, to)
		}
	}
}

// TestWhatIsNotKnownIsNotZero: a month without a reading has no figure at all, and none of its verdicts is a pass.
func TestWhatIsNotKnownIsNotZero(t *testing.T) {
	cfg := monthtest.Config("Pacific/Apia")
	r := make1(t, &monthtest.Journal{}, cfg, "2027-03", time.Date(2027, 5, 1, 0, 0, 0, 0, time.UTC))
	f := &r.Fleets[0]
	if r.Availability.Percent != nil || f.Size != nil || f.CPU != nil || f.Levels[0].Kept != nil || f.Money.Projected != nil || f.Money.Unseen != nil || f.Days[3].Cost != nil {
		t.Errorf("figures of a month without readings: %+v", f)
	}
	lasts(t, "the time without readings", f.Coverage.Unknown, 31*24*time.Hour)
	for _, c := range r.Criteria[:2] {
		if c.Verdict != month.Unknown {
			t.Errorf("%s is %s", c.Name, c.Verdict)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"percent":null`, `"kept_percent":null`, `"size":null`, `"cpu":null`, `"projected":null`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the JSON lacks %s", want)
		}
	}
}

// TestAvailability: what counts as served, as down and as unknown.
func TestAvailability(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name          string
		look          monthtest.Look // from 10:00 to 12:00 on the 5th
		events        []fleet.Event  // minutes from 10:00 on, in Duration
		down, unknown time.Duration
		off           bool
	}{
		{name: "all requests fail", look: monthtest.Look{Size: 4, CPU: 1, Errors: 100, API: nan}, down: 2 * time.Hour},
		{name: "a quarter of them fails", look: monthtest.Look{Size: 4, CPU: 1, Errors: 25, API: 0.1}, down: 30 * time.Minute},
		{name: "no worker", look: monthtest.Look{Size: 0, CPU: nan, Errors: nan, API: nan}, down: 2 * time.Hour},
		{name: "hardly a request", look: monthtest.Look{Size: 4, CPU: 1, Errors: nan, API: nan}},
		{name: "the share of failures is lost", look: monthtest.Look{Size: 4, CPU: 1, Errors: nan, API: nan}, unknown: 2 * time.Hour,
			events: []fleet.Event{{Kind: fleet.EventSignalLost, Signal: "errors", Duration: 0}, {Kind: fleet.EventSignalBack, Signal: "errors", Duration: 120}}},
		{name: "another signal is lost", look: monthtest.Look{Size: 4, CPU: nan, Errors: nan, API: nan},
			events: []fleet.Event{{Kind: fleet.EventSignalLost, Signal: "cpu", Duration: 0}, {Kind: fleet.EventSignalBack, Signal: "cpu", Duration: 120}}},
		{name: "the target cannot be read", look: monthtest.Look{Size: nan, CPU: 1, Errors: 0, API: 0.1}, unknown: 2 * time.Hour},
		{name: "the daemon is stopped", look: monthtest.None, unknown: 2 * time.Hour, events: []fleet.Event{{Kind: fleet.EventStopped}, {Kind: fleet.EventStarted, State: "run-1", Duration: 120}}},
		{name: "the machine is off", look: monthtest.None, down: 2 * time.Hour, off: true, events: []fleet.Event{{Kind: fleet.EventStarted, State: "run-2", Duration: 120}}},
		{name: "the daemon does not say on which run it is", look: monthtest.None, unknown: 2 * time.Hour, events: []fleet.Event{{Kind: fleet.EventStarted, Duration: 120}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := monthtest.Config("Pacific/Tongatapu")
			begin := time.Date(2027, 3, 5, 10, 0, 0, 0, cfg.Instance.Zone)
			end := begin.Add(2 * time.Hour)
			j, from, to := span(t, cfg, "2027-03", func(at time.Time) monthtest.Look {
				if !at.Before(begin) && at.Before(end) {
					return c.look
				}
				return steady
			})
			j.Add(fleet.Event{Time: from.Add(-time.Hour), Kind: fleet.EventStarted, State: "run-1"})
			for _, e := range c.events {
				e.Time, e.Duration = begin.Add(time.Duration(e.Duration)*time.Minute), 0
				if e.Signal != "" {
					e.Fleet = monthtest.Fleet
				}
				j.Add(e)
			}
			a := make1(t, j, cfg, "2027-03", to.Add(time.Hour)).Availability
			lasts(t, "down", a.Down, c.down)
			lasts(t, "unknown", a.Unknown, c.unknown)
			lasts(t, "served", a.Served, to.Sub(from)-c.down-c.unknown)
			near(t, "availability", a.Percent, 100*(1-c.down.Hours()/(to.Sub(from)-c.unknown).Hours()))
			if (a.Off > 0) != c.off {
				t.Errorf("off for %v", time.Duration(a.Off))
			}
			if (c.down > 0) != (len(a.Outages) == 1) || c.down > 0 && (!a.Outages[0].From.Equal(begin) || !a.Outages[0].To.Equal(end)) {
				t.Errorf("outages: %+v", a.Outages)
			}
		})
	}
}

// TestAvailabilityVerdict: 99.5 % is kept, a little less is not.
func TestAvailabilityVerdict(t *testing.T) {
	cfg := monthtest.Config("UTC")
	for minutes, want := range map[int]month.Verdict{220: month.Met, 225: month.Missed} { // 0.5 % of 31 days are 223.2 minutes
		begin := time.Date(2027, 3, 5, 0, 0, 0, 0, time.UTC)
		j, _, to := span(t, cfg, "2027-03", func(at time.Time) monthtest.Look {
			l := steady
			if since := at.Sub(begin); since >= 0 && since < time.Duration(minutes)*time.Minute {
				l.Errors = 100
			}
			return l
		})
		if a := make1(t, j, cfg, "2027-03", to).Availability; a.Verdict != want {
			t.Errorf("%d minutes down: %s, %v", minutes, a.Verdict, show(a.Percent))
		}
	}
}

// TestPartsOfAnInterval: an interval in which the daemon looked for a part counts for that part.
func TestPartsOfAnInterval(t *testing.T) {
	cfg := monthtest.Config("UTC")
	j, from, to := span(t, cfg, "2027-03", always(steady))
	points := j.Points[monthtest.Fleet+"/"+record.SizeSignal]
	points[100].N = monthtest.Ticks / 2
	points[200].N = monthtest.Ticks - 2 // late, not away
	r := make1(t, j, cfg, "2027-03", to.Add(long))
	lasts(t, "known", r.Fleets[0].Coverage.Known, to.Sub(from)-150*time.Second)
	near(t, "worker-hours", &r.Fleets[0].Money.WorkerHours, 4*(to.Sub(from)-150*time.Second).Hours())
}

// TestServiceLevels: an interval is kept by its worst reading, and what could not be judged counts neither way.
func TestServiceLevels(t *testing.T) {
	cfg := monthtest.Config("UTC")
	j, _, to := span(t, cfg, "2027-03", func(at time.Time) monthtest.Look {
		l := steady
		switch {
		case at.Hour() < 6:
			l.API = math.NaN()
		case at.Day() == 10 && at.Hour() < 18:
			l.API = 0.6
		}
		return l
	})
	points := j.Points[monthtest.Fleet+"/api_p95"]
	for i := range points {
		if p := &points[i]; p.Time.Day() == 11 && p.Time.Hour() == 12 {
			p.Max = 0.9 // mean and least are within
		}
	}
	r := make1(t, j, cfg, "2027-03", to.Add(long))
	api := &r.Fleets[0].Levels[0]
	lasts(t, "judged", api.Judged, 31*18*time.Hour)
	lasts(t, "missed", api.Missed, 13*time.Hour)
	lasts(t, "not judged", api.Unknown, 31*6*time.Hour)
	near(t, "kept", api.Kept, 100*(1-13.0/(31*18)))
	near(t, "worst", api.Worst, 0.9)
	if got := strings.Join(api.Days, " "); got != "2027-03-10 2027-03-11" || api.Verdict != month.Met {
		t.Errorf("missed on %s, verdict %s", got, api.Verdict)
	}
	if pages := &r.Fleets[0].Levels[1]; pages.Kept != nil || pages.Verdict != month.Unknown {
		t.Errorf("pages, which nothing measures: %+v", pages)
	}
}

// TestScaling counts what a working month has in it, and the parts of the time to scale.
func TestScaling(t *testing.T) {
	cfg := monthtest.Config("Pacific/Rarotonga")
	r := make1(t, monthtest.Working(cfg, "2027-03"), cfg, "2027-03", time.Date(2027, 4, 2, 0, 0, 0, 0, time.UTC))
	f := &r.Fleets[0]
	s := &f.Scaling
	// 23 working days, of which two have the drive: 21 x (2 up) + 2 x (8 up).
	if s.Ups != 58 || s.Downs != 58 || s.Flaps != 0 || s.Failed != 0 || len(s.Events) != 116 {
		t.Errorf("%d up, %d down, %d flaps, %d failed, %d listed", s.Ups, s.Downs, s.Flaps, s.Failed, len(s.Events))
	}
	k := &s.Time
	if k.Count != 58 || k.Within != 58 || k.Verdict != month.Met {
		t.Errorf("time to scale: %+v", k)
	}
	lasts(t, "worst", k.Worst, 84*time.Second)
	if p := k.Mean; p.BreachToAlarm+p.AlarmToDecision+p.DecisionToAction+p.ActionToServing != k.Median {
		t.Errorf("the parts %+v are not the whole, %v", p, time.Duration(k.Median))
	}
	lasts(t, "short at the maximum", f.Short.Time, 140*time.Minute) // at its bounds, and while the database held it
	if f.Short.Workers != 2 {
		t.Errorf("short of %d", f.Short.Workers)
	}
	bound, times := f.DatabaseBound()
	lasts(t, "bound by the database", bound, 50*time.Minute)
	if times != 1 {
		t.Errorf("bound by the database %d times", times)
	}
	codes := map[fleet.Code]int{}
	for _, b := range f.Blocked {
		codes[b.Code] += b.Episodes
	}
	if codes[fleet.BlockedCooldown] != 23 || codes[fleet.LimitedBounds] != 1 || codes[fleet.BlockedDatabase] != 1 {
		t.Errorf("blocked: %v", codes)
	}
	lasts(t, "off", f.Availability.Off, 135*time.Minute)
	lasts(t, "unknown", f.Availability.Unknown, 4*time.Hour)
	for _, risk := range r.Risks {
		if seen := len(risk.Seen) > 0; seen != strings.Contains("Too few workers at peak load, The database is the bottleneck", risk.Risk) {
			t.Errorf("%s: %v", risk.Risk, risk.Seen)
		}
	}
}

// TestFlapsAndFailures: a change that is taken back soon, and actions that fail or take too long.
func TestFlapsAndFailures(t *testing.T) {
	cfg := monthtest.Config("UTC")
	j, from, to := span(t, cfg, "2027-03", always(steady))
	at := func(minutes int) time.Time { return from.Add(time.Duration(minutes) * time.Minute) }
	decide := func(minutes, a, b int) {
		j.Add(fleet.Event{Time: at(minutes), Fleet: monthtest.Fleet, Kind: fleet.EventDecision, From: a, To: b, Decision: &fleet.Decision{From: a, To: b}})
	}
	decide(0, 4, 5)
	decide(20, 5, 4) // a flap
	decide(120, 4, 5)
	decide(200, 5, 4)
	decide(205, 4, 3) // the same way
	j.Add(fleet.Event{Time: at(206), Fleet: monthtest.Fleet, Kind: fleet.EventActionFailed, From: 4, To: 3, Note: "signal: no such process"})
	j.Add(fleet.Event{Time: at(300), Fleet: monthtest.Fleet, Kind: fleet.EventActionDone, From: 4, To: 5, Duration: fleet.Duration(5 * time.Minute), Parts: &fleet.Parts{ActionToServing: fleet.Duration(5 * time.Minute)}})
	j.Add(fleet.Event{Time: at(400), Fleet: "another", Kind: fleet.EventActionFailed})
	shadow := fleet.Decision{From: 4, To: 5, Shadow: true}
	j.Add(fleet.Event{Time: at(500), Fleet: monthtest.Fleet, Kind: fleet.EventDecision, From: 4, To: 5, Decision: &shadow})
	r := make1(t, j, cfg, "2027-03", to.Add(long))
	s := &r.Fleets[0].Scaling
	if s.Ups != 2 || s.Downs != 3 || s.Flaps != 1 || s.Failed != 1 || s.Shadow != 1 {
		t.Errorf("%+v", s)
	}
	if s.Time.Verdict != month.Missed || s.Time.Within != 0 { // under 5 minutes is required, and this is 5
		t.Errorf("time to scale: %+v", s.Time)
	}
	if last := s.Events[4]; last.Err == "" {
		t.Errorf("the failed change: %+v", last)
	}
	if stable := r.Criteria[2]; stable.Verdict != month.Missed {
		t.Errorf("stability: %+v", stable)
	}
	if len(r.Refine) != 1 || !strings.Contains(r.Refine[0].Why, "taken back") {
		t.Errorf("refinements: %+v", r.Refine)
	}
}

// TestMoney: what was seen is spent, what was not is said beside, and the rest of the month goes on as the last week.
func TestMoney(t *testing.T) {
	cfg := monthtest.Config("Pacific/Efate")
	from, to, _ := month.Span("2027-03", cfg.Instance.Zone)
	gap := from.Add(5 * 24 * time.Hour)
	j, _, _ := span(t, cfg, "2027-03", func(at time.Time) monthtest.Look {
		l := steady
		switch {
		case !at.Before(gap) && at.Before(gap.Add(24*time.Hour)):
			return monthtest.None
		case at.Sub(from) >= 8*24*time.Hour:
			l.Size = 6
		}
		return l
	})
	now := from.Add(15 * 24 * time.Hour)
	m := make1(t, j, cfg, "2027-03", now).Fleets[0].Money
	hours := 7*24*4.0 + 7*24*6
	near(t, "worker-hours", &m.WorkerHours, hours)
	near(t, "spent", &m.Spent, 0.05*hours)
	near(t, "unseen", m.Unseen, 0.05*24*hours/(14*24))
	near(t, "projected", m.Projected, m.Spent+*m.Unseen+0.05*6*to.Sub(now).Hours())
	near(t, "next month", m.Next, 0.05*6*30*24)
	if m.Verdict != month.Missed { // 120 are written, and 202 projected
		t.Errorf("%s at %v", m.Verdict, show(m.Projected))
	}
	if m := make1(t, j, cfg, "2027-03", from.Add(20*time.Hour)).Fleets[0].Money; m.Projected != nil || m.Verdict != month.Unknown {
		t.Errorf("projected from less than a day: %v, %s", show(m.Projected), m.Verdict)
	}
	cfg.Fleets[0].Budget = config.Budget{}
	if r := make1(t, j, cfg, "2027-03", now); r.Money != nil || r.Tags[0].Cost != nil || math.Abs(r.Tags[0].WorkerHours-hours) > 1e-6 {
		t.Errorf("without a price: %+v, %+v", r.Money, r.Tags)
	}
}

// TestCostByTag: tags of several fleets are added up, those in two currencies are not.
func TestCostByTag(t *testing.T) {
	cfg := monthtest.Config("UTC")
	j, _, to := span(t, cfg, "2027-03", always(steady))
	second := cfg.Fleets[0]
	second.Name, second.Tags = "portal", map[string]string{"owner": "moa-ict", "programme": "portal"}
	cfg.Fleets = append(cfg.Fleets, second)
	for name, points := range j.Points {
		j.Points[strings.Replace(name, monthtest.Fleet, "portal", 1)] = points
	}
	r := make1(t, j, cfg, "2027-03", to.Add(long))
	each := 0.05 * 4 * 744
	near(t, "all", &r.Money.Spent, 2*each)
	for i, want := range []struct {
		tag  string
		cost float64
	}{{"owner=moa-ict", 2 * each}, {"programme=dfr", each}, {"programme=portal", each}} {
		if got := r.Tags[i]; got.Tag+"="+got.Value != want.tag {
			t.Errorf("tag %d is %s=%s", i, got.Tag, got.Value)
		}
		near(t, want.tag, r.Tags[i].Cost, want.cost)
	}
	cfg.Fleets[1].Budget.Currency = "USD"
	if r := make1(t, j, cfg, "2027-03", to.Add(long)); r.Money != nil || r.Tags[0].Cost != nil {
		t.Errorf("two currencies were added up: %+v, %+v", r.Money, r.Tags[0])
	}
}

// TestSizing: the band is 50 to 60 % on average; at its minimum a fleet cannot be smaller.
func TestSizing(t *testing.T) {
	for _, c := range []struct {
		cpu, size float64
		fit       month.Fit
		refine    int
	}{{55, 4, month.Right, 0}, {30, 4, month.Over, 1}, {65, 4, month.Under, 1}, {30, 2, month.Over, 0}} {
		cfg := monthtest.Config("UTC")
		j, _, to := span(t, cfg, "2027-03", always(monthtest.Look{Size: c.size, CPU: c.cpu, API: 0.1}))
		r := make1(t, j, cfg, "2027-03", to.Add(long))
		if s := r.Fleets[0].Sizing; s.Fit != c.fit || len(r.Refine) != c.refine || math.Abs(s.Workers-c.size*c.cpu/55) > 1e-9 {
			t.Errorf("CPU %v at %v workers: %+v, %v", c.cpu, c.size, s, r.Refine)
		}
	}
}

// TestLoadValidation: before go-live, after major updates, once a year.
func TestLoadValidation(t *testing.T) {
	day := func(s string) config.Date {
		if s == "" {
			return config.Date{}
		}
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return config.Date{Time: at}
	}
	for _, c := range []struct {
		live, update, test, want string
	}{
		{"", "", "", "unknown"},
		{"2027-05-01", "", "", "before go-live 2027-05-01"},
		{"2027-05-01", "", "2027-03-20", ""},
		{"2027-01-01", "", "", "before go-live 2027-01-01"},
		{"", "2027-08-01", "", "none is on record 0001-01-01"},
		{"2027-01-01", "", "2026-12-20", ""},
		{"2027-01-01", "2027-02-10", "2026-12-20", "after the major update 2027-02-10"},
		{"2027-01-01", "2027-02-10", "2027-02-11", ""},
		{"2026-01-01", "", "2026-02-15", "once a year 2027-02-15"},
		{"2026-01-01", "2027-08-01", "2026-12-20", ""}, // the update is to come
	} {
		cfg := monthtest.Config("UTC")
		cfg.Report.GoLive = day(c.live)
		if c.update != "" {
			cfg.Report.Updates = []config.Date{day(c.update)}
		}
		if c.test != "" {
			cfg.Report.LoadTests = []config.Date{day(c.test)}
		}
		v := make1(t, &monthtest.Journal{}, cfg, "2027-03", time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC)).Validation
		var got []string
		if !v.Known {
			got = []string{"unknown"}
		}
		for _, d := range v.Due {
			got = append(got, d.Why+" "+d.From.Format(time.DateOnly))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("live %q, update %q, test %q: %v, want %q", c.live, c.update, c.test, got, c.want)
		}
	}
}

func TestMonthsAsked(t *testing.T) {
	cfg := monthtest.Config("Pacific/Guadalcanal")
	now := time.Date(2027, 3, 31, 14, 0, 0, 0, time.UTC) // 1 April there
	if got := month.Before(now, cfg.Instance.Zone); got != "2027-03" {
		t.Errorf("the month before is %s", got)
	}
	for _, name := range []string{"March", "2027-13", "2027-3-1", "2027-05"} {
		if _, err := month.Make(t.Context(), &monthtest.Journal{}, cfg, name, now); err == nil {
			t.Errorf("%s was reported", name)
		}
	}
}
