package config

import (
	"fmt"
	"regexp"
	"time"
)

// Daily is a stretch of each day in local time, written "22:00-06:00". From is inclusive and To exclusive, both counted from
// midnight by the clock on the wall; it runs over midnight when To is not after From.
type Daily struct{ From, To time.Duration }

var dailyForm = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00))$`)

func (w *Daily) UnmarshalText(b []byte) error {
	m := dailyForm.FindStringSubmatch(string(b))
	if m == nil {
		return wrong(`write two times of 24 hours, such as "22:00-06:00"`, "%q is no part of a day", b)
	}
	clock := func(hour, minute string) time.Duration {
		d, _ := time.ParseDuration(hour + "h" + minute + "m") // the form leaves nothing to fail
		return d
	}
	*w = Daily{clock(m[1], m[2]), clock(m[3]+m[5], m[4]+m[6])}
	if w.From == w.To {
		return wrong(`write "00:00-24:00" for the whole day`, "%q begins when it ends", b)
	}
	return nil
}

func (w Daily) MarshalText() ([]byte, error) {
	clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute) }
	return []byte(clock(w.From) + "-" + clock(w.To)), nil
}
