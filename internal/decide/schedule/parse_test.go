package schedule

import (
	"errors"
	"testing"
	"time"
)

func TestParseDaily(t *testing.T) {
	for s, want := range map[string]Daily{
		"00:00-06:00": {0, 360}, "22:30-06:15": {1350, 375}, "00:00-24:00": {0, 1440}, "22:00-24:00": {1320, 1440}, "22:00-00:00": {1320, 0},
	} {
		got, err := ParseDaily(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "6-8", "06:00-06:00", "24:00-06:00", "06:00-24:01", "06:60-07:00", "6:00-7:00", "06:00 - 07:00", "00:00-00:00"} {
		refused(t, s, second(ParseDaily(s)))
	}
	if got := (Daily{}).String(); got != "00:00-24:00" {
		t.Errorf("the whole day is %s", got)
	}
}

func TestParseDays(t *testing.T) {
	for s, want := range map[string]string{
		"mon-fri": "mon-fri", "sat,sun": "sat,sun", "Saturday, SUN": "sat,sun", "fri-mon": "mon,fri-sun", "sun": "sun", "sun-sat": "mon-sun",
		"mon,wed,fri": "mon,wed,fri", "mon,tue,thu": "mon,tue,thu", "wed-wed": "wed", "Monday-Wednesday,sun": "mon-wed,sun",
	} {
		got, err := ParseDays(s)
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v, want %s", s, got, err, want)
		}
		if again, err := ParseDays(got.String()); err != nil || again != got {
			t.Errorf("%s: what it writes reads as %v, %v", s, again, err)
		}
	}
	for _, s := range []string{"", "mo", "mon-", "-fri", "mon,", "mon-wed-fri", "mon,mon", "mon-fri,wed", "weekday", "1-5"} {
		refused(t, s, second(ParseDays(s)))
	}
}

func TestParseDates(t *testing.T) {
	if d, err := ParseDate("2028-02-29"); err != nil || d.String() != "2028-02-29" || dateOf(d.number()) != d {
		t.Errorf("%v, %v", d, err)
	}
	for _, s := range []string{"", "2027-02-29", "2027-13-01", "01.03.2027", "2027-3-1", "2027-03-01 08:00"} {
		refused(t, s, second(ParseDate(s)))
	}
	h, err := ParseHolidays([]string{"2027-03-26", "2027-12-30..2028-01-02", "12-25", "02-29"})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{
		"2027-03-26": true, "2028-03-26": false, "2027-12-29": false, "2027-12-30": true, "2028-01-02": true, "2028-01-03": false,
		"2031-12-25": true, "2031-12-26": false, "2028-02-29": true,
	} {
		if got := h.Has(must(ParseDate(s))); got != want {
			t.Errorf("%s is a holiday: %v", s, got)
		}
	}
	for _, s := range []string{"", "25-12-2027", "13-01", "2027-12-30..", "2028-01-02..2027-12-30", "2027-01-01..2037-01-01", "02-30"} {
		refused(t, s, second(ParseHolidays([]string{s})))
	}
}

func second[T any](_ T, err error) error { return err }

// refused checks that a text was, and that the operator is told what to write.
func refused(t *testing.T, s string, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Problem == "" || e.Fix == "" {
		t.Errorf("%q: %v", s, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"22:00-06:00", "fri-mon", "2027-03-01", "12-25", "2027-12-24..2028-01-02"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDaily(s); err == nil && (d.String() != s || d.From < 0 || d.To > 1440) {
			t.Errorf("daily %q reads as %v", s, d)
		}
		if d, err := ParseDays(s); err == nil {
			if again, err := ParseDays(d.String()); err != nil || again != d || d == 0 {
				t.Errorf("days %q read as %v, and those as %v, %v", s, d, again, err)
			}
		}
		if d, err := ParseDate(s); err == nil && d.String() != s {
			t.Errorf("date %q reads as %v", s, d)
		}
		if h, err := ParseHolidays([]string{s}); err == nil {
			h.Has(Date{2027, time.March, 1})
		}
	})
}
