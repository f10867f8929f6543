package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/month"
	"tidemark/internal/foresee/tune"
	"tidemark/internal/show/chart"
)

// MonthName is a month as people call it: "March 2027".
func MonthName(name string) string {
	t, err := time.Parse(month.Form, name)
	if err != nil {
		return name
	}
	return t.Format("January 2006")
}

var verdictTones = map[month.Verdict]Tone{month.Met: Good, month.Missed: Bad, month.Unknown: Warn}

var verdictWords = map[month.Verdict]string{month.Met: "kept", month.Missed: "not kept", month.Unknown: "not known"}

// Month is the page of a month: one page that anybody can read, then the details. config is the configuration's file, for the commands
// that it names.
func Month(r *month.Report, config string) Page {
	p := Page{
		Title: fmt.Sprintf("%s: %s", MonthName(r.Month), r.Instance), Made: r.Made, Zone: r.Zone,
		Lead: "How the service was kept, what it cost, and what is to be done. The first page says it in short; what it rests on follows.",
	}
	if r.Country != "" {
		p.Facts = append(p.Facts, Fact{"Country", r.Country})
	}
	p.Facts = append(p.Facts, Fact{"Month", fmt.Sprintf("%s to %s", r.From.Format("2 January 2006"), r.Until.In(r.Zone).Add(-time.Second).Format("2 January 2006"))})
	if !r.Whole() {
		p.Facts = append(p.Facts, Fact{"Not over", "figures are those up to " + r.Until.In(r.Zone).Format("2006-01-02 15:04")})
	}
	w := writer{Report: r, config: config}
	p.Sections = []Section{
		{"In short", append(w.short(), Break{})},
		{"Availability", w.availability()},
		{"Service levels", w.levels()},
		{"Scaling", w.scaling()},
		{"What held changes back", w.blocked()},
		{"Cost and budget", w.cost()},
		{"Right-sizing and refinements", w.sizing()},
		{"Risks", w.risks()},
		{"Load validation", w.validation()},
		{"The monthly review", w.review()},
		{"What is required, and what was measured", w.required()},
		{"How these figures are made", w.method()},
	}
	return p
}

// tuned is what 'tidemark tune' last found for a fleet.
func (w *writer) tuned(o *tune.Outcome) []Block {
	costs := func(f *tune.Figures) string {
		return fmt.Sprintf("%.2f times the least that could be, and misses the objective in %.2f %% of the minutes", f.Cost.Mean, f.Violations.Mean)
	}
	begin := fmt.Sprintf("'tidemark tune' tried %d policies for %s on %s. ", o.Tried, o.Fleet, o.Made.In(w.Zone).Format("2 January 2006"))
	if o.Recommended == nil {
		return []Block{Note{Good, begin + "None was better than the present one, which costs " + costs(o.Present.HoldOut) + "."}}
	}
	t := Table{Caption: "Recommended refinements of " + o.Fleet, Columns: []Column{{"Line", true}, {"Setting", false}, {"From", false}, {"To", false}, {"Why", false}}}
	for _, c := range o.Recommended.Changes {
		t.Rows = append(t.Rows, Cells(fmt.Sprint(c.Line), c.What, c.From, c.To, c.Reason))
	}
	return []Block{
		Note{Warn, begin + "The present one costs " + costs(o.Present.HoldOut) + "; what was found costs " + costs(o.Recommended.HoldOut) + ", on days that the search had not seen."},
		t, Details{Summary: "The change of " + o.File, Blocks: []Block{Code(o.Diff)}},
	}
}

// FleetMonth is what a month says of one of its fleets, the short of it first; none when there is no such fleet.
func FleetMonth(r *month.Report, name, config string) []Section {
	i := slices.IndexFunc(r.Fleets, func(f month.Fleet) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	one, f := *r, &r.Fleets[i]
	one.Fleets, one.Availability, one.Money = r.Fleets[i:i+1], f.Availability, f.Money
	one.Tags = slices.DeleteFunc(slices.Clone(r.Tags), func(t month.TagCost) bool { return !slices.Contains(t.Fleets, name) })
	one.Refine = slices.DeleteFunc(slices.Clone(r.Refine), func(d month.Refinement) bool { return d.Fleet != name })
	one.Tuned = slices.DeleteFunc(slices.Clone(r.Tuned), func(o tune.Outcome) bool { return o.Fleet != name })
	w := writer{Report: &one, config: config}
	short := []Block{w.tiles()}
	if f.Money != nil {
		short = append(short, Text(w.costSentence(f.Money)))
	}
	return []Section{
		{"In short", short},
		{"Cost and budget", w.cost()},
		{"Scaling", w.scaling()},
		{"Service levels", w.levels()},
		{"Availability", w.availability()},
		{"What held changes back", w.blocked()},
		{"Right-sizing and refinements", w.sizing()},
	}
}

// writer puts a month into words.
type writer struct {
	*month.Report
	config string
}

// took writes a duration; what is long, without fractions of a second.
func took(d fleet.Duration) string {
	t := time.Duration(d)
	if t >= 10*time.Second {
		t = t.Round(time.Second)
	}
	return fleet.Elapsed(t)
}

func pct(v float64) string { return fleet.Percent.Format(v) }

func amount(v float64, currency string) string { return fmt.Sprintf("%.2f %s", v, currency) }

// figure writes what may not be known.
func figure(v *float64, how func(float64) string) string {
	if v == nil {
		return "not known"
	}
	return how(*v)
}

func (w *writer) stamp(t time.Time) string { return t.In(w.Zone).Format("2 Jan 15:04") }

// of names a fleet where there are several.
func (w *writer) of(f *month.Fleet) string {
	if len(w.Fleets) < 2 {
		return ""
	}
	return f.Name + ": "
}

func (w *writer) short() []Block {
	return []Block{w.tiles(), List{Items: Summary(w.Report)}, Text("What to do:"), List{Items: w.actions(), Boxes: true}}
}

// tiles are the figures of the month.
func (w *writer) tiles() (tiles Tiles) {
	a := &w.Availability
	more := "required: " + pct(a.Required)
	if share := unknownShare(w.Report); share >= 5 && a.Percent != nil {
		more += fmt.Sprintf("; of the %s that was seen", pct(100-share))
	}
	tiles = append(tiles, Tile{figure(a.Percent, month.Floor), "available", more, verdictTones[a.Verdict]})
	kept, worst := month.Met, ""
	for _, f := range w.Fleets {
		if l := f.Levels[0]; l.Kept != nil && (worst == "" || l.Verdict == month.Missed) {
			kept, worst = l.Verdict, month.Floor(*l.Kept)
		}
	}
	if worst == "" {
		kept, worst = month.Unknown, "not known"
	}
	tiles = append(tiles, Tile{worst, "of the time answers came in time", "95 of 100 within " + took(w.level(0).Within), verdictTones[kept]})
	ups, downs, t := 0, 0, month.TimeToScale{Verdict: month.Unknown}
	for i := range w.Fleets {
		s := &w.Fleets[i].Scaling
		ups, downs = ups+s.Ups, downs+s.Downs
		if s.Time.Count > 0 && s.Time.Worst >= t.Worst {
			t = s.Time
		}
	}
	tile := Tile{"none", "scale-ups by an alarm", fmt.Sprintf("%d up, %d down in all", ups, downs), Plain}
	if t.Count > 0 {
		tile = Tile{took(t.Worst), "at most until new workers served", "required: under " + took(t.Target), verdictTones[t.Verdict]}
	}
	tiles = append(tiles, tile)
	if m := w.Money; m != nil {
		what, value := "cost of the workers", m.Spent
		if m.Projected != nil {
			value = *m.Projected
			if !w.Whole() {
				what = "cost of the workers, projected"
			}
		}
		tiles = append(tiles, Tile{amount(value, m.Currency), what, budgetOf(m), verdictTones[m.Verdict]})
	} else {
		tiles = append(tiles, Tile{"not known", "cost of the workers", "no price and budget are written", Warn})
	}
	return tiles
}

func budgetOf(m *month.Money) string {
	if m.Budget <= 0 {
		return "no budget is written"
	}
	return "budget: " + amount(m.Budget, m.Currency)
}

// level is one of the service levels, of the first fleet: its limit is the same for all.
func (w *writer) level(i int) month.Level {
	if len(w.Fleets) == 0 {
		return month.Level{}
	}
	return w.Fleets[0].Levels[i]
}

// Summary says the month in a few sentences that anybody understands.
func Summary(r *month.Report) []string {
	w := writer{Report: r}
	out := []string{w.availableSentence()}
	for i := range r.Fleets {
		out = append(out, w.fleetSentences(&r.Fleets[i])...)
	}
	if r.Money == nil {
		out = append(out, "What the workers cost is not known: no price is written, or in several currencies.")
	} else {
		out = append(out, w.costSentence(r.Money))
	}
	if due := w.due(); due != "" {
		out = append(out, due)
	}
	if share := unknownShare(r); share >= 0.05 {
		out = append(out, fmt.Sprintf("For %s of the month there are no readings. That time is left out of the figures; it counts neither for nor against the service, unless the machine was off.", pct(share)))
	}
	return out
}

// unknownShare is the largest share of the month that a fleet is without readings.
func unknownShare(r *month.Report) (most float64) {
	for i := range r.Fleets {
		most = max(most, r.Fleets[i].Coverage.UnknownShare())
	}
	return most
}

func (w *writer) availableSentence() string {
	a := &w.Availability
	if a.Percent == nil {
		return "Whether the service was available is not known: there are no readings of this month."
	}
	s := "The service"
	if share := unknownShare(w.Report); share >= 5 {
		s = fmt.Sprintf("In the %s of the month that was seen, the service", pct(100-share))
	}
	s += fmt.Sprintf(" was available %s of the time; at least %s is required, so this was %s.", month.Floor(*a.Percent), pct(a.Required), verdictWords[a.Verdict])
	if a.Down > 0 {
		s += fmt.Sprintf(" It was disturbed for %s in all; up to %s would be allowed.", took(a.Down), took(a.Allowed))
	}
	if a.Off > 0 {
		s += fmt.Sprintf(" Of that, the machine was off for %s.", took(a.Off))
	}
	return s
}

// levelWords are the service levels in a sentence for anybody.
var levelWords = map[string]string{"api": "answers to phones and programs (95 of 100 within %s)", "pages": "pages (within %s)", "sync": "synchronisation of phones (within %s)"}

func (w *writer) fleetSentences(f *month.Fleet) (out []string) {
	by := map[month.Verdict][]string{}
	for _, l := range f.Levels {
		is := fmt.Sprintf(levelWords[l.Name], took(l.Within))
		if l.Kept != nil {
			is += fmt.Sprintf(", for %s of the time", month.Floor(*l.Kept))
		}
		by[l.Verdict] = append(by[l.Verdict], is)
	}
	for _, p := range []struct {
		verdict month.Verdict
		what    string
	}{{month.Met, "Came in time: "}, {month.Missed, "Did not come in time as often as is required: "}, {month.Unknown, "Not measured: "}} {
		if list := by[p.verdict]; len(list) > 0 {
			out = append(out, w.of(f)+p.what+strings.Join(list, "; ")+".")
		}
	}
	s := &f.Scaling
	text := fmt.Sprintf("the number of workers was changed %s (%d up, %d down)", timesOf(s.Ups+s.Downs), s.Ups, s.Downs)
	if f.Size != nil {
		text += fmt.Sprintf("; it was %.1f on average, from %d to %d", f.Size.Mean, f.Size.Min, f.Size.Max)
	}
	if t := &s.Time; t.Count > 0 {
		text += fmt.Sprintf(". New workers served %s after the need arose at the latest (required: under %s)", took(t.Worst), took(t.Target))
	}
	out = append(out, w.of(f)+sentence(text))
	if f.Short.Workers > 0 {
		out = append(out, w.of(f)+fmt.Sprintf("More workers were wanted than the maximum of %d allows, for %s: up to %d more.", f.Bounds.Max, took(f.Short.Time), f.Short.Workers))
	}
	if t, n := f.DatabaseBound(); n > 0 {
		out = append(out, w.of(f)+fmt.Sprintf("The database was the bottleneck %s, for %s in all: more workers would not have helped.", timesOf(n), took(t)))
	}
	if t, n := f.HostBound(); n > 0 {
		out = append(out, w.of(f)+fmt.Sprintf("The machine had no room for more workers %s, for %s in all.", timesOf(n), took(t)))
	}
	return out
}

// sentence begins large and ends with a stop.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

func timesOf(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (w *writer) costSentence(m *month.Money) string {
	s := fmt.Sprintf("The workers cost %s", amount(m.Spent, m.Currency))
	if !w.Whole() {
		s += " so far"
	}
	if m.Unseen != nil && *m.Unseen >= 0.005 {
		s += fmt.Sprintf(", and about %s more in the time without readings", amount(*m.Unseen, m.Currency))
	}
	if !w.Whole() && m.Projected != nil {
		s += fmt.Sprintf("; the whole month is projected to come to %s", amount(*m.Projected, m.Currency))
	}
	switch {
	case m.Budget <= 0:
		s += "; no budget is written"
	case m.Verdict == month.Missed:
		s += fmt.Sprintf(": above the budget of %s", amount(m.Budget, m.Currency))
	case m.Verdict == month.Met:
		s += fmt.Sprintf(", within the budget of %s", amount(m.Budget, m.Currency))
	default:
		s += fmt.Sprintf("; too little is known to set that against the budget of %s", amount(m.Budget, m.Currency))
	}
	if w.Whole() && m.Next != nil {
		s += fmt.Sprintf(". If the last week's size goes on, the next month comes to %s", amount(*m.Next, m.Currency))
	}
	return s + "."
}

// due says which load test is due; empty: none.
func (w *writer) due() string {
	v := &w.Validation
	if !v.Known {
		return "Whether a load test is due is not known: none is written in the configuration."
	}
	var out []string
	for _, d := range v.Due {
		out = append(out, dueWords(d))
	}
	if out == nil {
		return ""
	}
	return "A load test is due: " + strings.Join(out, "; ") + "."
}

func dueWords(d month.DueTest) string {
	if d.From.IsZero() {
		return d.Why
	}
	return d.Why + ", " + d.From.Format("2 January 2006")
}

// actions are what the month asks for.
func (w *writer) actions() (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if w.Availability.Verdict == month.Missed {
		add("Find out what caused the outages of this month, and keep it from happening again.")
	}
	for i := range w.Fleets {
		f := &w.Fleets[i]
		if f.Short.Workers > 0 {
			if f.CPU != nil && f.CPU.P95 > month.CPUPeak {
				add("%sGive the fleet a larger maximum on a larger or a second machine: it was at its maximum and needed more.", w.of(f))
			} else {
				add("%sLook whether the maximum of %d can be raised: it was reached and more was needed.", w.of(f), f.Bounds.Max)
			}
		}
		if _, n := f.DatabaseBound(); n > 0 {
			add("%sHave the database's slow queries, indexes and connections looked at; plan for a larger database.", w.of(f))
		}
		if _, n := f.HostBound(); n > 0 {
			add("%sPlan for a larger or a second machine.", w.of(f))
		}
		if f.Scaling.Failed > 0 {
			add("%sFind out why %d scaling actions failed.", w.of(f), f.Scaling.Failed)
		}
		if t := &f.Scaling.Time; t.Verdict == month.Missed {
			add("%sMake workers start faster, or add them ahead of known peaks: %d of %d scale-ups took longer than %s.", w.of(f), t.Count-t.Within, t.Count, took(t.Target))
		}
		for _, l := range f.Levels {
			if l.Verdict == month.Unknown {
				add("%sHave the %s measured: it is required, and nothing measures it.", w.of(f), month.LevelNames[l.Name])
			}
		}
	}
	for _, f := range fleetsOf(w.Refine) {
		add("Refine the policy of %s: run %s, and try its proposal before it is switched on.", f, w.tune(f))
	}
	if m := w.Money; m == nil {
		add("Write what a worker costs and what the month may cost, so that the cost can be followed.")
	} else if m.Verdict == month.Missed {
		add("Look at why the cost is above the budget: lower the maximum, or raise the budget.")
	}
	if due := w.due(); due != "" && w.Validation.Known {
		add("Run a load test on the staging system, and write its date into the configuration when it has passed.")
	} else if due != "" {
		add("Write the date of the last load test that passed into the configuration.")
	}
	if share := unknownShare(w.Report); share >= 5 {
		add("If Tidemark was to run all the month, find out why nothing was recorded for %s of it.", pct(share))
	}
	if out == nil {
		add("Nothing is out of order. Go through the checklist of the monthly review.")
	}
	return out
}

func fleetsOf(list []month.Refinement) (out []string) {
	for _, r := range list {
		if !slices.Contains(out, r.Fleet) {
			out = append(out, r.Fleet)
		}
	}
	return out
}

// tune is the command that proposes refinements.
func (w *writer) tune(name string) string {
	s := "'tidemark tune"
	if w.config != "" {
		s += " -c " + w.config
	}
	if len(w.Fleets) > 1 {
		s += " --fleet " + name
	}
	return s + "'"
}

func (w *writer) availability() (out []Block) {
	t := Table{Columns: []Column{{"Fleet", false}, {"Available", true}, {"Required", true}, {"Disturbed", true}, {"of it machine off", true}, {"Allowed", true}, {"Without readings", true}, {"Verdict", false}}}
	outages := Table{Caption: "The longest disturbances", Columns: []Column{{"From", false}, {"To", false}, {"Fleet", false}, {"Disturbed for", true}, {"", false}}, Empty: "Nothing was disturbed in the time that was seen."}
	bars := chart.Chart{Title: "Availability by day", Y: chart.Axis{Unit: fleet.Percent, Min: 0, Max: 100}, X: chart.Axis{Scale: chart.Time, Zone: w.Zone}, Height: 120}
	for i := range w.Fleets {
		f := &w.Fleets[i]
		a, c := &f.Availability, &f.Coverage
		t.Rows = append(t.Rows, Row{{Text: f.Name}, {Text: figure(a.Percent, month.Floor), Tone: verdictTones[a.Verdict]}, {Text: pct(a.Required)}, {Text: took(a.Down)}, {Text: took(a.Off)}, {Text: took(a.Allowed)},
			{Text: took(c.Unknown), More: pct(c.UnknownShare()) + " of the month"}, {Text: verdictWords[a.Verdict], Tone: verdictTones[a.Verdict]}})
		for _, o := range a.Outages {
			why := ""
			if o.Off {
				why = "the machine was off"
			}
			outages.Rows = append(outages.Rows, Cells(w.stamp(o.From), w.stamp(o.To), f.Name, took(o.Down), why))
		}
		s := chart.Series{Name: f.Name, Kind: chart.Step, Gap: 26 * 3600}
		lowest := 100.0
		for _, d := range f.Days {
			y := math.NaN()
			if d.Availability != nil {
				y = *d.Availability
				lowest = min(lowest, y)
			}
			s.Points = append(s.Points, chart.Point{X: chart.At(d.From), Y: y})
		}
		if lowest > 90 {
			bars.Y.Min = max(bars.Y.Min, 90)
		} else {
			bars.Y.Min = 0
		}
		bars.Series = append(bars.Series, s)
	}
	bars.Thresholds = []chart.Threshold{{Name: "required", Value: w.Availability.Required}}
	bars.About = "The share of each day in which the service was available, with what is required."
	return append(out, t, &bars, outages)
}

func (w *writer) levels() []Block {
	t := Table{Columns: []Column{{"Level", false}, {"Within", true}, {"Kept", true}, {"Missed for", true}, {"Not judged", true}, {"Worst reading", true}, {"Verdict", false}}}
	var out []Block
	for i := range w.Fleets {
		f := &w.Fleets[i]
		for _, l := range f.Levels {
			name := Cell{Text: w.of(f) + month.LevelNames[l.Name], More: "signal " + l.Signal}
			if l.Signal == "" {
				name.More = "no signal of this fleet: write report.service_levels." + l.Name
			}
			worst := Cell{Text: figure(l.Worst, fleet.Seconds.Format)}
			if l.Worst != nil {
				worst.More = w.stamp(l.At)
			}
			t.Rows = append(t.Rows, Row{name, {Text: took(l.Within)}, {Text: figure(l.Kept, month.Floor), Tone: verdictTones[l.Verdict]}, judged(&l, l.Missed), judged(&l, l.Unknown), worst, {Text: verdictWords[l.Verdict], Tone: verdictTones[l.Verdict]}})
			if len(l.Days) > 0 {
				out = append(out, Text(fmt.Sprintf("%s%s was missed for an hour or more on %s.", w.of(f), month.LevelNames[l.Name], strings.Join(l.Days, ", "))))
			}
		}
		if l := f.Levels[0]; l.Kept != nil {
			c := w.series(f, l.Signal+" by hour, the worst reading of each", fleet.Seconds, func(h *month.Hour) *float64 { return h.API })
			c.Thresholds = []chart.Threshold{{Name: "required", Value: time.Duration(l.Within).Seconds()}}
			c.About = "The API's response time over the month, with what is required."
			out = append(out, c)
		}
	}
	return append([]Block{t}, out...)
}

// judged is a duration of a level that was measured.
func judged(l *month.Level, d fleet.Duration) Cell {
	if l.Kept == nil {
		return Cell{Text: "not known"}
	}
	return Cell{Text: took(d)}
}

// series is a chart of the month by hour.
func (w *writer) series(f *month.Fleet, title string, unit fleet.Unit, value func(*month.Hour) *float64) *chart.Chart {
	s := chart.Series{Name: w.of(f) + title, Kind: chart.Line, Gap: 2 * 3600}
	for i := range f.Hours {
		y := math.NaN()
		if v := value(&f.Hours[i]); v != nil {
			y = *v
		}
		s.Points = append(s.Points, chart.Point{X: chart.At(f.Hours[i].Time), Y: y})
	}
	return &chart.Chart{Title: w.of(f) + title, X: chart.Axis{Scale: chart.Time, Zone: w.Zone}, Y: chart.Axis{Unit: unit}, Series: []chart.Series{s}, Height: 140}
}

func (w *writer) scaling() (out []Block) {
	t := Table{Columns: []Column{{"Fleet", false}, {"Up", true}, {"Down", true}, {"Flaps", true}, {"Failed", true}, {"By others", true}, {"Orders", true}, {"CPU still high", true}, {"Still slow", true}}}
	kpi := Table{Caption: "Time to scale: from the trigger condition met to new workers serving", Columns: []Column{{"", false}, {"Breach to alarm", true}, {"Alarm to decision", true}, {"Decision to action", true}, {"Action to serving", true}, {"Whole", true}}, Empty: "No scale-up was driven by an alarm."}
	var lists []Block
	for i := range w.Fleets {
		f := &w.Fleets[i]
		s := &f.Scaling
		after := func(n, of int) Cell { return Cell{Text: fmt.Sprint(n), More: fmt.Sprintf("of %d judged", of)} }
		t.Rows = append(t.Rows, Row{{Text: f.Name}, {Text: fmt.Sprint(s.Ups)}, {Text: fmt.Sprint(s.Downs)}, {Text: fmt.Sprint(s.Flaps)}, {Text: fmt.Sprint(s.Failed)}, {Text: fmt.Sprint(s.Outside)}, {Text: fmt.Sprint(s.Orders)}, after(s.Hot, s.HotOf), after(s.Slow, s.SlowOf)})
		if k := &s.Time; k.Count > 0 {
			row := func(name string, p *fleet.Parts, whole string) {
				kpi.Rows = append(kpi.Rows, Cells(w.of(f)+name, took(p.BreachToAlarm), took(p.AlarmToDecision), took(p.DecisionToAction), took(p.ActionToServing), whole))
			}
			row("mean of "+fmt.Sprint(k.Count), &k.Mean, took(k.Median)+" (median)")
			row("largest", &k.Largest, took(k.Worst))
			kpi.Rows = append(kpi.Rows, Row{{Text: w.of(f) + "required"}, {}, {}, {}, {}, {Text: "under " + took(k.Target), More: fmt.Sprintf("%d of %d kept it", k.Within, k.Count), Tone: verdictTones[k.Verdict]}})
		}
		c := w.series(f, "workers by hour", fleet.Number, func(h *month.Hour) *float64 { return h.Size })
		c.Series[0].Kind = chart.Step
		c.Thresholds = []chart.Threshold{{Name: "minimum", Value: float64(f.Bounds.Min)}, {Name: "maximum", Value: float64(f.Bounds.Max)}}
		c.About = "The number of workers over the month, between the minimum and the maximum."
		lists = append(lists, c)
		if f.CPU != nil {
			c := w.series(f, f.CPU.Signal+" by hour", fleet.Percent, func(h *month.Hour) *float64 { return h.CPU })
			c.About = "The workers' CPU over the month."
			lists = append(lists, c)
		}
		changes := Table{Columns: []Column{{"When", false}, {"Change", false}, {"Why", false}, {"Took", true}}, Empty: "The size was not changed."}
		for _, e := range s.Events {
			took := Cell{Text: took(e.Took)}
			switch {
			case e.Err != "":
				took = Cell{Text: "failed", More: e.Err, Tone: Bad}
			case e.Took == 0:
				took.Text = "not known"
			}
			change := Cell{Text: fmt.Sprintf("%d to %d", e.From, e.To)}
			if e.Flap {
				change.More = "takes the one before back"
			}
			changes.Rows = append(changes.Rows, Row{{Text: w.stamp(e.Time)}, change, {Text: e.Why}, took})
		}
		name := fmt.Sprintf("%severy change of size (%d)", w.of(f), len(s.Events))
		if s.Omitted > 0 {
			name = fmt.Sprintf("%sthe latest %d changes of size; %d before them: 'tidemark events'", w.of(f), len(s.Events), s.Omitted)
		}
		lists = append(lists, Details{Summary: strings.ToUpper(name[:1]) + name[1:], Blocks: []Block{changes}})
	}
	note := fmt.Sprintf("A flap is a change that takes the one before it back within %s. CPU still high: above %s in the interval after the scale-up. Still slow: the API's level missed in the interval after its response times have settled.", fleet.Elapsed(month.FlapWithin), pct(w.hot()))
	return append([]Block{t, Text(note), kpi}, append(out, lists...)...)
}

func (w *writer) hot() float64 {
	if len(w.Fleets) == 0 {
		return 0
	}
	return w.Fleets[0].Scaling.HotLevel
}

// codeWords says what holds a change back.
var codeWords = map[fleet.Code]string{
	fleet.BlockedMode: "the mode", fleet.BlockedHold: "an operator's hold", fleet.BlockedFreeze: "a freeze", fleet.LimitedBounds: "the bounds", fleet.LimitedFloor: "the schedule's floor",
	fleet.LimitedCeiling: "the schedule's ceiling", fleet.LimitedQuota: "the instance's quota", fleet.LimitedStep: "the step", fleet.BlockedRate: "the scaling rate", fleet.BlockedCooldown: "a cooldown",
	fleet.BlockedDatabase: "the database", fleet.BlockedHostCPU: "the host's CPU", fleet.BlockedGuard: "a guard", fleet.GuardUnknown: "a guard whose signal is lost",
	fleet.LimitedConnections: "connections to the database", fleet.LimitedMemory: "the host's memory", fleet.SupplyUnknown: "what is free is not known", fleet.BlockedJournal: "the journal could not be written",
}

func (w *writer) blocked() []Block {
	t := Table{Columns: []Column{{"What", false}, {"Held back", false}, {"Times", true}, {"In all", true}, {"Longest", true}, {"Workers", true}, {"For example", false}}, Empty: "Nothing held a change back."}
	for i := range w.Fleets {
		f := &w.Fleets[i]
		if s := &f.Short; s.Workers > 0 {
			t.Rows = append(t.Rows, Row{{Text: w.of(f) + "the maximum"}, {Text: "scale-out"}, {Text: fmt.Sprint(s.Episodes)}, {Text: took(s.Time)}, {Text: took(s.Longest)}, {Text: fmt.Sprint(s.Workers)}, {Text: fmt.Sprintf("at %d, and %d more wanted, on %s", f.Bounds.Max, s.Workers, w.stamp(s.Worst)), Tone: Bad}})
		}
		for _, b := range f.Blocked {
			what := codeWords[b.Code]
			if what == "" {
				what = b.Code.String()
			}
			t.Rows = append(t.Rows, Cells(w.of(f)+what, map[bool]string{true: "scale-out", false: "scale-in"}[b.Out], fmt.Sprint(b.Episodes), took(b.Time), took(b.Longest), fmt.Sprint(b.Most), b.Last))
		}
	}
	return []Block{t}
}

func (w *writer) cost() []Block {
	t := Table{Columns: []Column{{"Fleet", false}, {"Worker-hours", true}, {"Price an hour", true}, {"Spent", true}, {"Without readings", true}, {"The month", true}, {"Budget", true}, {"Next month", true}, {"Verdict", false}}}
	var lists []Block
	for i := range w.Fleets {
		f := &w.Fleets[i]
		m := f.Money
		days := Table{Columns: []Column{{"Day", false}, {"Available", true}, {"Worker-hours", true}, {"Cost", true}, {"Without readings", true}}}
		for _, d := range f.Days {
			cost := "not known"
			if d.Cost != nil {
				cost = amount(*d.Cost, m.Currency)
			}
			days.Rows = append(days.Rows, Cells(d.Date, figure(d.Availability, month.Floor), fmt.Sprintf("%.1f", d.WorkerHours), cost, took(d.Unknown)))
		}
		lists = append(lists, Details{Summary: strings.ToUpper((w.of(f) + "day by day")[:1]) + (w.of(f) + "day by day")[1:], Blocks: []Block{days}})
		if m == nil {
			t.Rows = append(t.Rows, Row{{Text: f.Name}, {}, {}, {Text: "not known", More: "write safeguards.budget with worker_hour"}, {}, {}, {}, {}, {Text: verdictWords[month.Unknown], Tone: Warn}})
			continue
		}
		money := func(v float64) string { return amount(v, m.Currency) }
		t.Rows = append(t.Rows, Row{{Text: f.Name}, {Text: fmt.Sprintf("%.1f", m.WorkerHours)}, {Text: fmt.Sprintf("%.4g %s", m.WorkerHour, m.Currency)}, {Text: money(m.Spent)},
			{Text: figure(m.Unseen, money), More: took(m.Unknown) + " at the mean size"}, {Text: figure(m.Projected, money)}, {Text: money(m.Budget)}, {Text: figure(m.Next, money), More: "by the last week's size"}, {Text: verdictWords[m.Verdict], Tone: verdictTones[m.Verdict]}})
	}
	tags := Table{Caption: "By tag", Columns: []Column{{"Tag", false}, {"Value", false}, {"Fleets", false}, {"Worker-hours", true}, {"Cost", true}}, Empty: "No tags are written."}
	for _, tag := range w.Tags {
		tags.Rows = append(tags.Rows, Cells(tag.Tag, tag.Value, strings.Join(tag.Fleets, ", "), fmt.Sprintf("%.1f", tag.WorkerHours), figure(tag.Cost, func(v float64) string { return amount(v, tag.Currency) })))
	}
	return append([]Block{t, tags, Text("The month is what was spent, what the time without readings would come to, and, while the month is not over, the rest of it at the last week's size.")}, lists...)
}

var fitWords = map[month.Fit]string{month.Right: "right", month.Over: "more than needed", month.Under: "too little", month.Unsaid: "not known"}

var fitTones = map[month.Fit]Tone{month.Right: Good, month.Over: Warn, month.Under: Warn, month.Unsaid: Warn}

func (w *writer) sizing() []Block {
	t := Table{Columns: []Column{{"Fleet", false}, {"Workers, mean", true}, {"CPU, mean", true}, {"CPU at busy times", true}, {"At 55 % it would be", true}, {"At its minimum", true}, {"Size is", false}}}
	for i := range w.Fleets {
		f := &w.Fleets[i]
		row := Row{{Text: f.Name}, {Text: "not known"}, {Text: "not known"}, {Text: "not known"}, {Text: "not known"}, {Text: "not known"}, {Text: fitWords[f.Sizing.Fit], Tone: fitTones[f.Sizing.Fit]}}
		if f.Size != nil {
			row[1].Text = fmt.Sprintf("%.2f", f.Size.Mean)
		}
		if f.CPU != nil {
			row[2].Text, row[3] = pct(f.CPU.Mean), Cell{Text: pct(f.CPU.P95), More: "of the intervals, 95 % are below"}
		}
		if f.Sizing.Fit != month.Unsaid {
			row[4].Text, row[5].Text = fmt.Sprintf("%.1f workers", f.Sizing.Workers), pct(f.Sizing.AtMinimum)
		}
		t.Rows = append(t.Rows, row)
		for _, d := range f.Database {
			t.Rows = append(t.Rows, Row{{Text: "database", More: d.Field}, {}, {Text: pct(d.Mean), Tone: verdictTones[d.Verdict]}, {}, {}, {}, {Text: "to be above " + pct(d.Required)}})
		}
	}
	out := []Block{t, Text(fmt.Sprintf("The requirements' band is %g to %g %% CPU on average, to allow for bursts. A fleet at its minimum cannot be smaller: there smaller workers or machines save, not fewer. 'tidemark plan' reckons machines and reservations; what always runs is the minimum.", month.CPULow, month.CPUHigh))}
	for i := range w.Tuned {
		out = append(out, w.tuned(&w.Tuned[i])...)
	}
	if len(w.Refine) == 0 {
		return append(out, Note{Good, "No refinement is due: no service level was missed consistently, and no over-provisioning was found. 'tidemark tune' proposes refinements all the same."})
	}
	refine := Table{Caption: "A refinement of the policy is due", Columns: []Column{{"Fleet", false}, {"Why", false}, {"What to run", false}}}
	for _, r := range w.Refine {
		refine.Rows = append(refine.Rows, Cells(r.Fleet, r.Why, w.tune(r.Fleet)))
	}
	return append(out, refine, Text("The requirements ask that each refinement is validated: try it in shadow or with 'tidemark simulate' and 'tidemark backtest' before it is switched on."))
}

func (w *writer) risks() []Block {
	t := Table{Columns: []Column{{"Risk", false}, {"Impact, probability", false}, {"Seen this month", false}, {"To keep it away", false}, {"When it happens", false}}}
	for _, r := range w.Risks {
		seen := Cell{Text: "nothing", Tone: Good}
		switch {
		case len(r.Seen) > 0:
			seen = Cell{Text: strings.Join(r.Seen, "; "), Tone: Bad}
		case r.Unknown != "":
			seen = Cell{Text: "not known", More: r.Unknown, Tone: Warn}
		}
		t.Rows = append(t.Rows, Row{{Text: r.Risk}, {Text: r.Impact + ", " + r.Probability}, seen, {Text: r.Mitigation}, {Text: r.Contingency}})
	}
	return []Block{t}
}

func (w *writer) validation() []Block {
	v := &w.Validation
	out := []Block{Text("A load test that simulates the peak is required before the first production deployment of each country, after major system updates, and once a year. It has passed when the performance figures are met, no critical error comes under load, and scaling is triggered as it should be.")}
	if !v.Known {
		return append(out, Note{Warn, "Not known: write report.go_live, report.major_updates and report.load_tests in the configuration."})
	}
	last := "no load test is on record"
	if !v.Last.IsZero() {
		last = "the last one passed on " + v.Last.Format("2 January 2006") + "; the next is due by " + v.Next.Format("2 January 2006")
	}
	out = append(out, Text(sentence(last)))
	for _, d := range v.Due {
		out = append(out, Note{Bad, "Due: " + dueWords(d) + "."})
	}
	if len(v.Due) == 0 {
		out = append(out, Note{Good, "None is due."})
	}
	return append(out, Text("If it does not pass: find the bottlenecks, optimise code and queries, adjust resources or policies, and test again. 'tidemark loadtest peak-farmer-registration-drive' and 'tidemark loadtest concurrent-mobile-sync' play the required scenarios."))
}

func (w *writer) review() []Block {
	t := Table{Caption: "Decision criteria", Columns: []Column{{"Criterion", false}, {"Verdict", false}, {"By", false}}}
	for _, c := range w.Criteria {
		first := true
		for _, e := range c.Evidence {
			row := Row{{}, {}, {Text: e.Text, Tone: map[month.Verdict]Tone{month.Missed: Bad, month.Unknown: Warn}[e.Verdict]}}
			if first {
				row[0].Text, row[1] = c.Name, Cell{Text: verdictWords[c.Verdict], Tone: verdictTones[c.Verdict]}
				first = false
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return []Block{Text("The requirements ask for a review by hand of the scaling log and the performance figures, each month or after a significant load."), t, Text("Checklist:"), List{Items: w.checklist(), Boxes: true}, Text("Reviewed by ______________________________   on ____________________")}
}

// checklist is what the review goes through, with the figures that are at hand.
func (w *writer) checklist() []string {
	changes, failed, flaps := 0, 0, 0
	for i := range w.Fleets {
		s := &w.Fleets[i].Scaling
		changes, failed, flaps = changes+s.Ups+s.Downs, failed+s.Failed, flaps+s.Flaps
	}
	return []string{
		fmt.Sprintf("Scaling log read: %d changes, %d failed, %d flaps ('tidemark events --kind decision').", changes, failed, flaps),
		fmt.Sprintf("Alerts of the month read: %d critical, %d warnings; each has a cause that is known.", w.Alerts.Critical, w.Alerts.Warning),
		"Availability and service levels compared with the month before.",
		"Bills of the provider or the data centre compared with the cost above, by tag.",
		"The fleet's maximum still fits the projected peak, the database and the budget of the country.",
		"Database: slow queries, indexes, connections and memory looked at; cache hits above 95 %, CPU below 70 % on average.",
		"Volumes that nobody has used for 30 days deleted.",
		"Reserved instances still match the workers that always run.",
		"Refinements of policies validated before they are switched on.",
		"The next load test has a date.",
	}
}

// required sets the requirements' figures beside what was measured.
func (w *writer) required() []Block {
	t := Table{Columns: []Column{{"Figure", false}, {"Required", true}, {"Measured", true}, {"Load test may vary by", true}}}
	for i := range w.Fleets {
		f := &w.Fleets[i]
		add := func(name, required, measured, vary string) {
			t.Rows = append(t.Rows, Cells(w.of(f)+name, required, measured, vary))
		}
		add("Availability", "at least "+pct(f.Availability.Required), figure(f.Availability.Percent, month.Floor), "")
		for n, l := range f.Levels {
			add(month.LevelNames[l.Name], "within "+took(l.Within), "kept "+figure(l.Kept, month.Floor), []string{"10 %", "", "15 %"}[n])
		}
		cpu := func(of func(*month.Use) float64) string {
			if f.CPU == nil {
				return "not known"
			}
			return pct(of(f.CPU))
		}
		add("Worker CPU at peak load", "below 70 %", cpu(func(u *month.Use) float64 { return u.P95 }), "10 %")
		add("Worker CPU on average", "50 to 60 %", cpu(func(u *month.Use) float64 { return u.Mean }), "")
		add("Worker CPU after a scale-up", "not above "+pct(f.Scaling.HotLevel), fmt.Sprintf("above it after %d of %d", f.Scaling.Hot, f.Scaling.HotOf), "")
		kpi := "no scale-up by an alarm"
		if k := &f.Scaling.Time; k.Count > 0 {
			kpi = took(k.Worst) + " at worst"
		}
		add("Time to scale", "under "+took(f.Scaling.Time.Target), kpi, "")
		size := "not known"
		if f.Size != nil {
			size = fmt.Sprintf("%d to %d", f.Size.Min, f.Size.Max)
		}
		add("Workers", fmt.Sprintf("%d to %d", f.Bounds.Min, f.Bounds.Max), size, "")
	}
	return []Block{t, Text("Peak load is that of 10 administrators, 100 visitors of the portal and 50 devices that synchronise at once. Policies are to be of 70 and 30 % CPU, a p95 of 400 ms, one worker at a time, one change in 5 minutes, cooldowns of 300 and 600 s: 'tidemark check --effective' shows those in force.")}
}

func (w *writer) method() []Block {
	items := []string{
		"Everything is reckoned from the journal, in the time of " + w.TimeZone + ". Days on which the clocks change have 23 or 25 hours.",
		"Availability is counted in time: an interval counts by the share of its requests that did not fail, where that is measured, else as served when there were workers. The machine off is not served; other time without readings counts neither way.",
		fmt.Sprintf("A service level is kept in an interval when its worst reading is within the limit; it is kept in a month when that holds for %g %% of the time that could be judged. Intervals with too few requests to state a p95 are not judged. p95s are never averaged.", month.Adherence),
		"What held a change back is counted while the daemon was looking; the time after it stopped is not.",
		"Cost is the worker-hours that were seen, at the price that is written. It is not a bill.",
	}
	for i := range w.Fleets {
		f := &w.Fleets[i]
		items = append(items, fmt.Sprintf("%s: intervals of %s; known %s of %s, without readings %s (%s), of it the machine off %s.", f.Name, took(f.Step), took(f.Coverage.Known), took(f.Coverage.Reported), took(f.Coverage.Unknown), pct(f.Coverage.UnknownShare()), took(f.Coverage.Off)))
	}
	return []Block{List{Items: items}}
}
