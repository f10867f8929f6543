package schedule

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"tidemark/internal/fleet"
)

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func daily(s string) Daily { return must(ParseDaily(s)) }
func days(s string) Days   { return must(ParseDays(s)) }
func date(s string) Date   { return must(ParseDate(s)) }

func holidays(list ...string) Holidays { return must(ParseHolidays(list)) }

// spells lists when a schedule of one floor holds between two dates, in the zone's time.
func spells(t *testing.T, zoneName, from, to string, w Window) string {
	t.Helper()
	z := zone(t, zoneName)
	w.Floor = 5
	s := Schedule{Zone: z, Windows: []Window{w}, Holidays: holidays("2027-03-26..2027-03-29", "12-25")}
	at := must(time.ParseInLocation(time.DateOnly, from, z))
	end := must(time.ParseInLocation(time.DateOnly, to, z))
	var out []string
	const form = "Jan _2 15:04 -0700"
	if s.At(at).Floor.Workers > 0 {
		out = append(out, "before")
	}
	for {
		next, l, ok := s.Next(at)
		if !ok || !next.Before(end) {
			break
		}
		at = next
		if l.Floor.Workers > 0 {
			out = append(out, at.In(z).Format(form))
		} else {
			out[len(out)-1] += " to " + at.In(z).Format(form)
		}
	}
	return strings.Join(out, "; ")
}

func TestWindows(t *testing.T) {
	tests := []struct {
		name, zone, from, to string
		w                    Window
		want                 string
	}{
		{
			"by night, over the date line of UTC", "Pacific/Rarotonga", "2027-03-01", "2027-03-03", Window{Daily: daily("00:00-06:00")},
			"before to Mar  1 06:00 -1000; Mar  2 00:00 -1000 to Mar  2 06:00 -1000",
		},
		{
			"over midnight", "Pacific/Apia", "2027-03-01", "2027-03-03", Window{Daily: daily("22:00-06:00")},
			"before to Mar  1 06:00 +1300; Mar  1 22:00 +1300 to Mar  2 06:00 +1300; Mar  2 22:00 +1300",
		},
		{
			"the night to Saturday is Friday's", "UTC", "2027-03-04", "2027-03-10", Window{Daily: daily("22:00-06:00"), Weekly: days("fri")},
			"Mar  5 22:00 +0000 to Mar  6 06:00 +0000",
		},
		{
			"dates, both inclusive, with lead", "Pacific/Rarotonga", "2027-02-01", "2027-05-01",
			Window{Daily: daily("07:00-18:00"), From: date("2027-03-01"), To: date("2027-03-02"), Lead: 15 * time.Minute},
			"Mar  1 06:45 -1000 to Mar  1 18:00 -1000; Mar  2 06:45 -1000 to Mar  2 18:00 -1000",
		},
		{
			"whole days join", "Pacific/Efate", "2027-03-01", "2027-03-12", Window{Weekly: days("mon-fri")},
			"before to Mar  6 00:00 +1100; Mar  8 00:00 +1100",
		},
		{
			"a lead before the first date, and over midnight", "UTC", "2027-02-27", "2027-03-05",
			Window{From: date("2027-03-01"), To: date("2027-03-01"), Lead: 2 * time.Hour},
			"Feb 28 22:00 +0000 to Mar  2 00:00 +0000",
		},
		{
			"not on holidays", "UTC", "2027-03-24", "2027-04-01", Window{Daily: daily("08:00-17:00"), Weekly: days("mon-fri"), Holidays: NotOnHolidays},
			"Mar 24 08:00 +0000 to Mar 24 17:00 +0000; Mar 25 08:00 +0000 to Mar 25 17:00 +0000; " +
				"Mar 30 08:00 +0000 to Mar 30 17:00 +0000; Mar 31 08:00 +0000 to Mar 31 17:00 +0000",
		},
		{"only on holidays", "UTC", "2027-11-01", "2028-02-01", Window{Holidays: OnlyHolidays}, "Dec 25 00:00 +0000 to Dec 26 00:00 +0000"},
		// Berlin: 2027-03-28 02:00 -> 03:00, 2027-10-31 03:00 -> 02:00.
		{
			"a beginning that clocks skip", "Europe/Berlin", "2027-03-28", "2027-03-29", Window{Daily: daily("02:30-06:00")},
			"Mar 28 03:00 +0200 to Mar 28 06:00 +0200",
		},
		{"a window that clocks skip", "Europe/Berlin", "2027-03-28", "2027-03-29", Window{Daily: daily("02:00-03:00"), Lead: time.Hour}, ""},
		{
			"an end that clocks skip", "Europe/Berlin", "2027-03-28", "2027-03-29", Window{Daily: daily("01:00-02:30")},
			"Mar 28 01:00 +0100 to Mar 28 03:00 +0200",
		},
		{
			"the repeated hour counts once", "Europe/Berlin", "2027-10-31", "2027-11-01", Window{Daily: daily("02:15-02:45")},
			"Oct 31 02:15 +0200 to Oct 31 02:45 +0200",
		},
		{
			"a window around the repeated hour", "Europe/Berlin", "2027-10-31", "2027-11-01", Window{Daily: daily("02:30-06:00")},
			"Oct 31 02:30 +0200 to Oct 31 06:00 +0100",
		},
		{
			"spring in New York", "America/New_York", "2027-03-14", "2027-03-15", Window{Daily: daily("01:30-03:30")},
			"Mar 14 01:30 -0500 to Mar 14 03:30 -0400",
		},
		{
			"autumn in New York", "America/New_York", "2027-11-07", "2027-11-08", Window{Daily: daily("00:00-01:30")},
			"before to Nov  7 01:30 -0400",
		},
		// Lord Howe changes by half an hour: 2027-04-04 02:00 -> 01:30, 2027-10-03 02:00 -> 02:30.
		{
			"half an hour twice", "Australia/Lord_Howe", "2027-04-04", "2027-04-05", Window{Daily: daily("01:45-02:15")},
			"Apr  4 01:45 +1100 to Apr  4 02:15 +1030",
		},
		{
			"half an hour skipped", "Australia/Lord_Howe", "2027-10-03", "2027-10-04", Window{Daily: daily("02:15-02:45")},
			"Oct  3 02:30 +1100 to Oct  3 02:45 +1100",
		},
		// Morocco goes back for Ramadan: 2027-02-07 03:00 -> 02:00, 2027-03-14 02:00 -> 03:00.
		{
			"before Ramadan", "Africa/Casablanca", "2027-02-07", "2027-02-08", Window{Daily: daily("01:00-04:00")},
			"Feb  7 01:00 +0100 to Feb  7 04:00 +0000",
		},
		{
			"after Ramadan", "Africa/Casablanca", "2027-03-14", "2027-03-15", Window{Daily: daily("02:00-04:00")},
			"Mar 14 03:00 +0100 to Mar 14 04:00 +0100",
		},
		// Samoa had no 2011-12-30, a Friday.
		{
			"every day but the one that was not", "Pacific/Apia", "2011-12-29", "2012-01-01", Window{Daily: daily("08:00-10:00")},
			"Dec 29 08:00 -1000 to Dec 29 10:00 -1000; Dec 31 08:00 +1400 to Dec 31 10:00 +1400",
		},
		{"the day that was not", "Pacific/Apia", "2011-12-20", "2012-01-05", Window{From: date("2011-12-30"), To: date("2011-12-30")}, ""},
		{
			"into the day that was not", "Pacific/Apia", "2011-12-29", "2012-01-02", Window{Daily: daily("22:00-06:00"), Weekly: days("thu")},
			"Dec 29 22:00 -1000 to Dec 31 00:00 +1400",
		},
		{
			"out of the day that was not", "Pacific/Apia", "2011-12-29", "2012-01-02", Window{Daily: daily("22:00-06:00"), Weekly: days("fri")},
			"Dec 31 00:00 +1400 to Dec 31 06:00 +1400",
		},
	}
	for _, tt := range tests {
		if got := spells(t, tt.zone, tt.from, tt.to, tt.w); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestLimitsSayWhy(t *testing.T) {
	s := Schedule{Zone: zone(t, "Pacific/Rarotonga"), Windows: []Window{
		{Name: "off-peak", Daily: daily("00:00-06:00"), Ceiling: 2, CancelledByLoad: true},
		{Name: "night", Daily: daily("22:00-07:00"), Ceiling: 4},
		{Name: "drive", From: date("2027-03-01"), To: date("2027-03-05"), Daily: daily("06:10-18:00"), Floor: 6, Lead: 15 * time.Minute},
		{Name: "base", Floor: 3},
	}}
	at := func(clock string) Limits {
		return s.At(must(time.ParseInLocation("2006-01-02 15:04", "2027-03-01 "+clock, s.Zone)))
	}
	until := func(clock string) time.Time {
		return must(time.ParseInLocation("2006-01-02 15:04", "2027-03-01 "+clock, s.Zone)).UTC()
	}
	for clock, want := range map[string]Limits{
		"05:54": {Limit{3, "base", until("00:00").AddDate(0, 0, 1), false}, Limit{2, "off-peak", until("06:00"), false}, Limit{4, "night", until("07:00"), false}},
		"05:55": {Limit{6, "drive", until("18:00"), true}, Limit{2, "off-peak", until("06:00"), false}, Limit{4, "night", until("07:00"), false}},
		"06:10": {Limit{6, "drive", until("18:00"), false}, Limit{4, "night", until("07:00"), false}, Limit{4, "night", until("07:00"), false}},
		"12:00": {Floor: Limit{6, "drive", until("18:00"), false}},
		"18:00": {Floor: Limit{3, "base", until("00:00").AddDate(0, 0, 1), false}},
	} {
		if got := at(clock); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", clock, got, want)
		}
	}
	next, l, ok := s.Next(until("12:00"))
	if !ok || !next.Equal(until("18:00")) || l.Floor.Workers != 3 {
		t.Errorf("next after noon: %v %+v %v", next, l, ok)
	}
}

func TestNextWithoutChange(t *testing.T) {
	for _, s := range []Schedule{{}, {Windows: []Window{{Floor: 3}}}, {Windows: []Window{{Floor: 3, To: date("2020-01-01")}}}} {
		if at, _, ok := s.Next(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)); ok {
			t.Errorf("%+v changes at %v", s.Windows, at)
		}
	}
}

func TestBounds(t *testing.T) {
	floor := func(n int) Limit { return Limit{Workers: n} }
	for _, tt := range []struct {
		name     string
		l        Limits
		load     bool
		want     fleet.Bounds
		conflict Conflict
	}{
		{"none", Limits{}, false, fleet.Bounds{Min: 2, Max: 10}, 0},
		{"floor", Limits{Floor: floor(6)}, false, fleet.Bounds{Min: 6, Max: 10}, 0},
		{"floor below min", Limits{Floor: floor(1)}, false, fleet.Bounds{Min: 2, Max: 10}, 0},
		{"floor above max", Limits{Floor: floor(12)}, false, fleet.Bounds{Min: 10, Max: 10}, FloorCut},
		{"ceiling", Limits{Ceiling: floor(4)}, false, fleet.Bounds{Min: 2, Max: 4}, 0},
		{"ceiling above max", Limits{Ceiling: floor(40)}, false, fleet.Bounds{Min: 2, Max: 10}, 0},
		{"ceiling below min", Limits{Ceiling: floor(1)}, false, fleet.Bounds{Min: 2, Max: 2}, CeilingRaised},
		{"floor above ceiling", Limits{Floor: floor(6), Ceiling: floor(4)}, false, fleet.Bounds{Min: 6, Max: 6}, CeilingRaised},
		{"all at odds", Limits{Floor: floor(12), Ceiling: floor(1)}, false, fleet.Bounds{Min: 10, Max: 10}, FloorCut | CeilingRaised},
		{"cancelled", Limits{Ceiling: floor(2)}, true, fleet.Bounds{Min: 2, Max: 10}, 0},
		{"cancelled but for another", Limits{Ceiling: floor(2), CeilingUnderLoad: floor(4)}, true, fleet.Bounds{Min: 2, Max: 4}, 0},
	} {
		got, conflict := tt.l.Bounds(fleet.Bounds{Min: 2, Max: 10}, tt.load)
		if got != tt.want || conflict != tt.conflict {
			t.Errorf("%s: %+v, conflict %d; want %+v, %d", tt.name, got, conflict, tt.want, tt.conflict)
		}
	}
}

func TestProblems(t *testing.T) {
	good := Window{Floor: 2}
	for field, w := range map[string]Window{
		"":                  good,
		"floor":             {},
		"ceiling":           {Floor: 5, Ceiling: 2},
		"lead":              {Ceiling: 2, Lead: time.Minute},
		"cancelled_by_load": {Floor: 2, CancelledByLoad: true},
		"to":                {Floor: 2, From: date("2027-03-02"), To: date("2027-03-01")},
		"weekly":            {Floor: 2, From: date("2027-03-01"), To: date("2027-03-02"), Weekly: days("fri")},
	} {
		var got []string
		for _, p := range w.Problems() {
			got = append(got, p.Field)
			if p.Problem == "" || p.Fix == "" {
				t.Errorf("%s: %v", field, p)
			}
		}
		if strings.Join(got, " ") != field {
			t.Errorf("%+v: problems with %q, want %q", w, got, field)
		}
	}
	if n := len((Window{Floor: -1, Ceiling: -1, Lead: 48 * time.Hour}).Problems()); n != 3 {
		t.Errorf("%d problems, want all 3", n)
	}
}

// changes are zones and instants at which their clocks change, or do not.
var changes = []struct{ zone, at string }{
	{"Europe/Berlin", "2027-03-28T01:00:00Z"}, {"Europe/Berlin", "2027-10-31T01:00:00Z"},
	{"America/New_York", "2027-03-14T07:00:00Z"}, {"America/New_York", "2027-11-07T06:00:00Z"},
	{"Australia/Lord_Howe", "2027-04-03T15:00:00Z"}, {"Australia/Lord_Howe", "2027-10-02T15:30:00Z"},
	{"Africa/Casablanca", "2027-02-07T02:00:00Z"}, {"Africa/Casablanca", "2027-03-14T02:00:00Z"},
	{"Pacific/Apia", "2011-12-30T10:00:00Z"}, {"Pacific/Apia", "2027-03-01T11:00:00Z"},
	{"America/Sao_Paulo", "2018-02-18T02:00:00Z"}, // at midnight: Saturday's last hour twice
	{"America/Sao_Paulo", "2018-11-04T03:00:00Z"}, // at midnight: Sunday begins at 01:00
	{"Pacific/Rarotonga", "2027-06-01T10:00:00Z"}, {"UTC", "2027-01-01T00:00:00Z"},
}

func anyWindow(t *rapid.T, around int64) Window {
	w := Window{Daily: rapid.Custom(func(t *rapid.T) Daily {
		if rapid.IntRange(0, 5).Draw(t, "whole") == 0 {
			return Daily{}
		}
		d := Daily{rapid.IntRange(0, 95).Draw(t, "from") * 15, rapid.IntRange(1, 96).Draw(t, "to") * 15}
		if d.From == d.To {
			d.To = d.From/2 + 7
		}
		return d
	}).Draw(t, "daily")}
	if rapid.Bool().Draw(t, "weekly") {
		w.Weekly = Days(rapid.IntRange(1, 127).Draw(t, "days"))
	}
	if rapid.IntRange(0, 3).Draw(t, "dated") == 0 {
		w.From = dateOf(around + int64(rapid.IntRange(-3, 2).Draw(t, "first")))
		w.To = dateOf(w.From.number() + int64(rapid.IntRange(0, 3).Draw(t, "last")))
	}
	w.Holidays = HolidayRule(rapid.IntRange(0, 2).Draw(t, "holidays"))
	if rapid.Bool().Draw(t, "floor") {
		w.Floor = rapid.IntRange(1, 9).Draw(t, "workers")
		w.Lead = time.Duration(rapid.SampledFrom([]int{0, 15, 90, 1440}).Draw(t, "lead")) * time.Minute
	}
	if w.Floor == 0 || rapid.Bool().Draw(t, "both") {
		w.Ceiling = rapid.IntRange(1, 9).Draw(t, "ceiling")
		w.CancelledByLoad = rapid.Bool().Draw(t, "cancelled")
	}
	return w
}

// At and Next against walking through the minutes with a clock on the wall in view, whose hand is never seen to go back.
func TestAgainstTheMinutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		change := rapid.SampledFrom(changes).Draw(t, "change")
		s := Schedule{Zone: zone(t, change.zone)}
		center := must(time.Parse(time.RFC3339, change.at))
		around := floorDay(center.Unix())
		s.Holidays = Holidays{ranges: []dateRange{{around, around + int64(rapid.IntRange(-1, 2).Draw(t, "holidays"))}}}
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			s.Windows = append(s.Windows, anyWindow(t, around))
		}

		const before, after, lead = 4 * 1440, 3 * 1440, 1440
		first := center.Add(-before * time.Minute)
		shown := make([]int64, before+after+lead) // local seconds, the most so far
		for i := range shown {
			at := first.Add(time.Duration(i) * time.Minute)
			_, offset := at.In(s.Zone).Zone()
			shown[i] = at.Unix() + int64(offset)
			if i > 0 {
				shown[i] = max(shown[i], shown[i-1])
			}
		}
		holds := func(w *Window, i int) bool {
			number := floorDay(shown[i])
			from, to := int64(w.Daily.From)*60, int64(w.Daily.To)*60
			switch now := shown[i] - number*day; {
			case w.Daily == Daily{}:
			case from < to:
				if now < from || now >= to {
					return false
				}
			case now < to:
				number-- // yesterday's
			case now < from:
				return false
			}
			d := dateOf(number)
			wd := time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Weekday()
			holiday := s.Holidays.Has(d)
			return (w.Weekly == 0 || w.Weekly&(1<<wd) != 0) && (w.From.IsZero() || (d.String() >= w.From.String() && d.String() <= w.To.String())) &&
				(w.Holidays != NotOnHolidays || !holiday) && (w.Holidays != OnlyHolidays || holiday)
		}
		limits := make([]Limits, before+after)
		for k := range s.Windows {
			w := &s.Windows[k]
			soon := -1 << 30 // the next minute in which the window holds, seen from the end
			for i := len(shown) - 1; i >= 0; i-- {
				now := holds(w, i)
				if now {
					soon = i
				}
				if i >= len(limits) {
					continue
				}
				l := &limits[i]
				if soon >= i && soon-i <= int(w.Lead/time.Minute) {
					l.Floor.Workers = max(l.Floor.Workers, w.Floor)
				}
				if w.Ceiling > 0 && now {
					lower(&l.Ceiling, Limit{Workers: w.Ceiling})
					if !w.CancelledByLoad {
						lower(&l.CeilingUnderLoad, Limit{Workers: w.Ceiling})
					}
				}
			}
		}

		// The two days before tell what the clock has shown.
		for i := 2 * 1440; i < len(limits); i++ {
			at := first.Add(time.Duration(i) * time.Minute)
			if got := s.At(at); !got.same(limits[i]) {
				t.Fatalf("%v: %+v, by the minutes %+v", at.In(s.Zone), got, limits[i])
			}
		}
		i := rapid.IntRange(2*1440, len(limits)-1).Draw(t, "now")
		j := i + 1
		for j < len(limits) && limits[j].same(limits[i]) {
			j++
		}
		at := first.Add(time.Duration(i) * time.Minute)
		next, l, ok := s.Next(at)
		if j < len(limits) {
			if want := first.Add(time.Duration(j) * time.Minute); !ok || !next.Equal(want) || !l.same(limits[j]) {
				t.Fatalf("next after %v: %v %+v %v, by the minutes %v %+v", at, next, l, ok, want, limits[j])
			}
		} else if ok && next.Before(first.Add(time.Duration(len(limits))*time.Minute)) {
			t.Fatalf("next after %v: %v %+v, by the minutes nothing changes", at, next, l)
		}
	})
}

// A time is reached at the first instant at which the clock shows it or more, also where a zone has moved by a day or its
// offset has seconds.
func TestReaches(t *testing.T) {
	zones := append([]struct{ zone, at string }{
		{"Asia/Manila", "1844-12-30T15:56:08Z"},    // 1844-12-31 was not
		{"America/Juneau", "1867-10-18T23:57:41Z"}, // a day twice
	}, changes...)
	rapid.Check(t, func(t *rapid.T) {
		change := rapid.SampledFrom(zones).Draw(t, "change")
		z := zone(t, change.zone)
		center := must(time.Parse(time.RFC3339, change.at))
		shows := func(unix int64) int64 {
			_, offset := time.Unix(unix, 0).In(z).Zone()
			return unix + int64(offset)
		}
		local := shows(center.Unix()) + rapid.Int64Range(-3*day, 3*day).Draw(t, "local")
		clock := wallAt(z, center.Add(time.Duration(rapid.Int64Range(-4*day, 4*day).Draw(t, "seen"))*time.Second))
		at := clock.reaches(local)
		if shows(at) < local {
			t.Fatalf("reaches %d at %d, where it shows %d", local, at, shows(at))
		}
		for before := at - 1; before > at-3*day; before -= 97 {
			if shows(before) >= local {
				t.Fatalf("reaches %d at %d, but at %d it shows %d", local, at, before, shows(before))
			}
		}
	})
}

func TestAtDoesNotAllocate(t *testing.T) {
	s := benchmarked(t)
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	if n := testing.AllocsPerRun(100, func() { s.At(at) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func benchmarked(t interface{ Fatal(...any) }) *Schedule {
	return &Schedule{Zone: zone(t, "Pacific/Apia"), Windows: []Window{
		{Name: "off-peak", Daily: daily("00:00-06:00"), Ceiling: 2, CancelledByLoad: true},
		{Name: "drive", From: date("2027-03-01"), To: date("2027-03-05"), Daily: daily("07:00-18:00"), Floor: 6, Lead: 15 * time.Minute},
		{Name: "office", Weekly: days("mon-fri"), Daily: daily("08:00-17:00"), Floor: 3},
	}}
}

func BenchmarkAt(b *testing.B) {
	s := benchmarked(b)
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for b.Loop() {
		s.At(at)
	}
}

func BenchmarkNext(b *testing.B) {
	s := benchmarked(b)
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		s.Next(at)
	}
}

func ExampleSchedule_At() {
	z, err := time.LoadLocation("Pacific/Rarotonga")
	if err != nil {
		fmt.Println(err)
		return
	}
	night, err := ParseDaily("00:00-06:00")
	if err != nil {
		fmt.Println(err)
		return
	}
	s := Schedule{Zone: z, Windows: []Window{{Name: "off-peak", Daily: night, Ceiling: 2}}}
	l := s.At(time.Date(2027, 3, 1, 14, 30, 0, 0, time.UTC))
	fmt.Println(l.Ceiling.Workers, l.Ceiling.By, "until", l.Ceiling.Until.In(z).Format("15:04"))
	// Output: 2 off-peak until 06:00
}

// Holding says until when At says the same, also where clocks are set.
func TestHolding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z := zone(t, rapid.SampledFrom([]string{"UTC", "Pacific/Apia", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"}).Draw(t, "zone"))
		s := Schedule{Zone: z}
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			from := rapid.IntRange(0, 1439).Draw(t, "from")
			w := Window{Name: "w", Daily: Daily{From: from, To: rapid.IntRange(from+1, 1440).Draw(t, "to")}, Floor: rapid.IntRange(1, 9).Draw(t, "floor")}
			w.Lead = time.Duration(rapid.IntRange(0, 3600).Draw(t, "lead")) * time.Second
			s.Windows = append(s.Windows, w)
		}
		at := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.Int64Range(0, 365*86400).Draw(t, "at")) * time.Second)
		limits, until := s.Holding(at)
		if !until.After(at) || until.Sub(at) > time.Hour {
			t.Fatalf("at %v it holds until %v", at, until)
		}
		for _, later := range []time.Time{at, at.Add(until.Sub(at) / 2), until.Add(-1)} {
			if got := s.At(later); got != limits {
				t.Fatalf("%+v at %v, %+v at %v, said to hold until %v", limits, at, got, later, until)
			}
		}
	})
}
