package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// countries are those that Tidemark is made for. None of them changes its clocks.
var countries = []struct {
	names  []string
	zone   string
	offset time.Duration
}{
	{[]string{"CKI", "COK", "CK"}, "Pacific/Rarotonga", -10 * time.Hour},
	{[]string{"WSM", "WS"}, "Pacific/Apia", 13 * time.Hour},
	{[]string{"TON", "TO"}, "Pacific/Tongatapu", 13 * time.Hour},
	{[]string{"SLB", "SB"}, "Pacific/Guadalcanal", 11 * time.Hour},
	{[]string{"VUT", "VU"}, "Pacific/Efate", 11 * time.Hour},
}

func (d *decoder) instance(in *Instance) {
	const at = "instance.time_zone"
	if d.ok("instance.name") && strings.TrimSpace(in.Name) == "" {
		d.fail("instance.name", "is empty", "write a name, such as dfr-cook-islands")
	}
	if !d.ok(at) {
		return
	}
	home, known := home(in.Country)
	zone, err := time.LoadLocation(in.TimeZone)
	if err != nil || in.TimeZone == "" || in.TimeZone == "Local" {
		d.fail(at, fmt.Sprintf("%q is no time zone that is known here", in.TimeZone), "write Area/City as in the IANA list, such as "+home)
		return
	}
	in.Zone = zone
	switch {
	case in.TimeZone == "Pacific/Samoa":
		d.warn(at, "Pacific/Samoa is American Samoa, Pago Pago, at UTC-11", "write Pacific/Apia for Samoa, at UTC+13")
	case strings.HasPrefix(in.TimeZone, "Etc/GMT+"), strings.HasPrefix(in.TimeZone, "Etc/GMT-"):
		d.warn(at, fmt.Sprintf("%s is UTC%s: the sign in these names is turned round", in.TimeZone, offsetAt(zone)), "write Area/City, such as "+home)
	case known && in.TimeZone != home && offset(zone) != offset(mustLoad(home)):
		what := in.TimeZone + " is at UTC" + offsetAt(zone)
		if !d.written(at) {
			what = "is not written, so it is UTC"
		}
		d.warn(at, fmt.Sprintf("%s, and %s is at UTC%s", what, in.Country, offsetAt(mustLoad(home))), "write time_zone: "+home)
	}
	if msg := stale(in.TimeZone, zone); msg != "" {
		d.warn(at, msg, "update the time zone files (tzdata) of this machine")
	}
}

// home is the zone of a country; of one that is not known here, an example.
func home(country string) (zone string, known bool) {
	for _, c := range countries {
		if slices.Contains(c.names, country) {
			return c.zone, true
		}
	}
	return countries[0].zone, false
}

// seasons are a day in each half of the year.
var seasons = [2]time.Time{time.Date(2027, 1, 15, 0, 0, 0, 0, time.UTC), time.Date(2027, 7, 15, 0, 0, 0, 0, time.UTC)}

func offset(zone *time.Location) [2]int {
	_, a := seasons[0].In(zone).Zone()
	_, b := seasons[1].In(zone).Zone()
	return [2]int{a, b}
}

// offsetAt is the zone's offset in January, as "+13" or "-09:30".
func offsetAt(zone *time.Location) string {
	return strings.TrimSuffix(seasons[0].In(zone).Format("-07:00"), ":00")
}

func mustLoad(name string) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC
	}
	return zone
}

// stale says so when the machine's files give a zone an offset that its country gave up. Samoa ended summer time in 2021.
func stale(name string, zone *time.Location) string {
	for _, c := range countries {
		want := int(c.offset / time.Second)
		if c.zone == name && offset(zone) != [2]int{want, want} {
			return fmt.Sprintf("this machine's time zone files are out of date: %s is at UTC%+d all year", name, int(c.offset/time.Hour))
		}
	}
	return ""
}

var localTimes = []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05"}

// instant reads a point in time: RFC 3339, or local time in the instance's zone.
func (r *resolver) instant(path, s string) time.Time {
	if !r.ok(path) {
		return time.Time{}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t
	}
	for _, layout := range localTimes {
		t, err := time.ParseInLocation(layout, s, r.zone)
		if err != nil {
			continue
		}
		if t.Format(layout) != s {
			r.fail(path, fmt.Sprintf("%s does not exist in %s, where clocks go forward over it", s, r.zone), "write "+t.Format(layout))
		}
		return t
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		which := "beginning"
		if leaf(path) == "to" {
			which, t = "end", t.AddDate(0, 0, 1)
		}
		r.fail(path, s+" has no time of day", fmt.Sprintf("write %q for the %s of that day", t.Format("2006-01-02 15:04"), which))
	} else {
		r.fail(path, fmt.Sprintf("%q is no point in time", s), `write local time, such as "2027-03-01 18:00", or with its offset, 2027-03-01T18:00:00-10:00`)
	}
	return time.Time{}
}
