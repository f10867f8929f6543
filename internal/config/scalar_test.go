package config

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurations(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "0.0": 0, "300s": 5 * time.Minute, "1h30m": 90 * time.Minute, "400ms": 400 * time.Millisecond, "1.5s": 1500 * time.Millisecond,
		"7d": 7 * day, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "10µs": 10 * time.Microsecond, "36500d": 36500 * day,
	} {
		if got, err := parseDuration(s, "s"); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for s, fix := range map[string]string{
		"300": "write 300s", "+5": "write 5s", "-3s": "write 3s", "1 hour": "write 1h", "1 month": "write 30d", "1.5 weeks": "write 11d", "3 Sekunden": "write a number with a unit, such as 30s, 5m or 7d",
		"": "write a number with a unit, such as 30s, 5m or 7d", "1e3s": "write a number with a unit, such as 30s, 5m or 7d", "2m1d": "write the days first, such as 1d12h", "400000000h": "write at most 100 years, 36500d", "1d1d": "write at most 100 years, 36500d",
	} {
		checkFix(t, s, fix, func(s string) error { _, err := parseDuration(s, "s"); return err })
	}
}

func checkFix(t *testing.T, s, fix string, parse func(string) error) {
	t.Helper()
	var f *FieldError
	if err := parse(s); !errors.As(err, &f) || f.Fix != fix {
		t.Errorf("%q: %v, want %q", s, err, fix)
	}
}

func TestBytes(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "2GB": 2e9, "64 KiB": 64 << 10, "100B": 100, "1kB": 1000, "1TiB": 1 << 40} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for s, fix := range map[string]string{
		"512": "write 512MiB, or 512B if bytes are meant", "512M": "write 512MiB", "1gb": "write 1GiB", "5k": "write 5KiB",
		"-1MiB": "write a number with a unit, such as 512MiB", "5 bytes": "write a number with a unit, such as 512MiB", "9999999999GiB": "write a smaller one",
	} {
		checkFix(t, s, fix, func(s string) error { _, err := parseBytes(s); return err })
	}
}

func TestNumbers(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "+1": 1, "-1": -1, "42": 42} {
		if got, err := parseInt(s, 64); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for s, fix := range map[string]string{
		"010": "write 10", "-007": "write -7", "00": "write 0", "2.5": "write 2 or 3", "-2.5": "write -3 or -2", "2.0": "write 2", "1,000": "write 1000", "1 000": "write 1000", "": "write a whole number, such as 2", "- 1": "write -1",
		"1e999": "write a whole number, such as 2", "0b1": "write a whole number, such as 2",
	} {
		checkFix(t, s, fix, func(s string) error { _, err := parseInt(s, 64); return err })
	}
	if _, err := parseInt("200", 8); err == nil {
		t.Error("200 in 8 bits")
	}
	for s, want := range map[string]float64{"0.5": 0.5, "1e3": 1000, "-2": -2, "70": 70} {
		if got, err := parseNumber(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"NaN", "inf", ".inf", "1e999", "0x1p3", "1_0", "", "."} {
		if got, err := parseNumber(s); err == nil {
			t.Errorf("%s: %v", s, got)
		}
	}
	for s, want := range map[string]float64{"80%": 80, "80": 80, "0.5 %": 0.5, "100%": 100, "0": 0} {
		if got, err := parsePercent(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for s, fix := range map[string]string{"101": "write 0% to 100%", "-1%": "write 0% to 100%", "80 percent": "write 80%", "half": "write a percentage, such as 70%", "0,5%": "write 0.5"} {
		checkFix(t, s, fix, func(s string) error { _, err := parsePercent(s); return err })
	}
}

// What is formatted can be parsed, and is the same.
func TestFormatsParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64/4).Draw(t, "duration"))
		d = d.Truncate(rapid.SampledFrom([]time.Duration{1, time.Millisecond, time.Second, time.Minute, time.Hour, day}).Draw(t, "unit"))
		if got, err := parseDuration(formatDuration(d), "s"); err != nil || got != d {
			t.Fatalf("%v: %s: %v, %v", d, formatDuration(d), got, err)
		}
		n := rapid.Int64Range(0, 1<<52).Draw(t, "bytes")
		if got, err := parseBytes(formatBytes(n)); err != nil || got != n {
			t.Fatalf("%d: %s: %v, %v", n, formatBytes(n), got, err)
		}
	})
}

func TestNearest(t *testing.T) {
	rules := []string{"signal", "operator", "threshold", "scale_change", "evaluation_periods", "datapoints_to_alarm", "missing_data"}
	for s, want := range map[string]string{
		"datapoint_to_alarm": "datapoints_to_alarm", "treshold": "threshold", "Threshold": "threshold", "scaleChange": "scale_change", "scale change": "scale_change",
		"metric": "signal", "comparison_operator": "operator", "thresholt": "threshold", "singal": "signal", "eval": "evaluation_periods", "weather": "", "x": "", "": "",
	} {
		if got := nearest(s, rules); got != want {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
	}
	if got := nearest("miin", []string{"min", "max"}); got != "min" {
		t.Error(got)
	}
}

// A zone file that is out of date still turns Samoa's clocks.
func TestStaleZone(t *testing.T) {
	if msg := stale("Pacific/Apia", time.FixedZone("", 14*3600)); !strings.Contains(msg, "UTC+13") {
		t.Errorf("%q", msg)
	}
	for _, c := range countries {
		if msg := stale(c.zone, mustLoad(c.zone)); msg != "" {
			t.Error(msg)
		}
	}
	if msg := stale("Pacific/Auckland", mustLoad("Pacific/Auckland")); msg != "" {
		t.Error(msg)
	}
}

func TestMask(t *testing.T) {
	for s, want := range map[string]string{
		"url: postgres://u:geheim@h/d":          "url: postgres://u:******@h/d",
		"password: abc, x: 1":                   "password: ***, x: 1",
		`{"db_password": "a b", user: u}`:       `{"db_password": *****, user: u}`,
		"PGPASSWORD=abc":                        "PGPASSWORD=***",
		"dsn: ${DSN}, password: ${PW}":          "dsn: ${DSN}, password: ${PW}",
		"url: http://u:${PW}@h, port: 80":       "url: http://u:${PW}@h, port: 80",
		"url: http://u:$a@h":                    "url: http://u:**@h",
		"token_file: /run/token":                "token_file: /run/token",
		"path: /a:b@c":                          "path: /a:b@c",
		"threshold: 70, datapoints_to_alarm: 2": "threshold: 70, datapoints_to_alarm: 2",
	} {
		if got := mask(s); got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
}
