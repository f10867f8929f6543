package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The functions of this file read one value each from its text. Their errors are *FieldError: what is wrong, and what to
// write instead.

func wrong(fix, format string, args ...any) error {
	return &FieldError{Msg: fmt.Sprintf(format, args...), Fix: fix}
}

var (
	wholeNumber      = regexp.MustCompile(`^[+-]?(0|[1-9][0-9]*)$`)
	leadingZero      = regexp.MustCompile(`^([+-]?)0+([0-9]+)$`)
	decimalNumber    = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
	withUnit         = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ]+)$`)
	startsWithNumber = regexp.MustCompile(`^[+-]?[0-9]`)
	oneDuration      = regexp.MustCompile(`^-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d))+$`)
)

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	switch strings.ToLower(s) {
	case "yes", "on", "y", "1", "true":
		return false, wrong("write true", "%q is neither true nor false", s)
	case "no", "off", "n", "0", "false":
		return false, wrong("write false", "%q is neither true nor false", s)
	}
	return false, wrong("write true or false", "%q is neither true nor false", s)
}

// parseInt reads a whole number of so many bits. "+1" is 1; what other readers may take for octal is refused.
func parseInt(s string, bits int) (int64, error) {
	if m := leadingZero.FindStringSubmatch(s); m != nil {
		return 0, wrong("write "+m[1]+m[2], "%q begins with 0, which some programs read as octal", s)
	}
	if !wholeNumber.MatchString(s) {
		return 0, notWhole(s)
	}
	n, err := strconv.ParseInt(s, 10, bits)
	if err != nil {
		return 0, wrong("write a smaller number", "%s is too large", s)
	}
	return n, nil
}

func notWhole(s string) error {
	if plain := strings.NewReplacer("_", "", ",", "", " ", "").Replace(s); plain != s && wholeNumber.MatchString(plain) {
		return wrong("write "+plain, "%q is not a plain whole number", s)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && decimalNumber.MatchString(s) && math.Abs(f) < 1e15 {
		if f == math.Trunc(f) {
			return wrong(fmt.Sprintf("write %.0f", f), "%q is not a plain whole number", s)
		}
		return wrong(fmt.Sprintf("write %.0f or %.0f", math.Floor(f), math.Ceil(f)), "%s is not a whole number", s)
	}
	if m := withUnit.FindStringSubmatch(s); m != nil && wholeNumber.MatchString(m[1]) {
		return wrong("write "+m[1], "%q is not a plain whole number", s)
	}
	return wrong("write a whole number, such as 2", "%q is not a whole number", s)
}

// parseNumber reads a number with or without decimals.
func parseNumber(s string) (float64, error) {
	if m := leadingZero.FindStringSubmatch(s); m != nil {
		_, err := parseInt(s, 64)
		return 0, err
	}
	if decimalNumber.MatchString(s) {
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f, nil
		}
		return 0, wrong("write a smaller number", "%s is too large", s)
	}
	if dot := strings.Replace(s, ",", ".", 1); dot != s && decimalNumber.MatchString(dot) {
		return 0, wrong("write "+dot, "%q has a comma", s)
	}
	if m := withUnit.FindStringSubmatch(s); m != nil {
		return 0, wrong("write "+m[1], "%q has a unit, and this is a plain number", s)
	}
	if n := strings.TrimSuffix(s, "%"); n != s && decimalNumber.MatchString(strings.TrimSpace(n)) {
		return 0, wrong("write "+strings.TrimSpace(n), "%q is a percentage, and this is a plain number", s)
	}
	return 0, wrong("write a number, such as 40", "%q is not a number", s)
}

// parsePercent reads "80%" or "80" as 80. Only 0 to 100 is a share of a whole.
func parsePercent(s string) (float64, error) {
	f, err := parseRatio(s)
	if err == nil && (f < 0 || f > 100) {
		return 0, wrong("write 0% to 100%", "%s is not between 0 and 100 percent", s)
	}
	return f, err
}

// parseRatio reads a percentage of any size.
func parseRatio(s string) (float64, error) {
	f, err := parseNumber(strings.TrimSpace(strings.TrimSuffix(s, "%")))
	switch m := withUnit.FindStringSubmatch(s); {
	case err != nil && m != nil:
		return 0, wrong("write "+m[1]+"%", "%q is not a percentage", s)
	case err != nil && !startsWithNumber.MatchString(s):
		return 0, wrong("write a percentage, such as 70%", "%q is not a percentage", s)
	}
	return f, err
}

const day = 24 * time.Hour

// What people write for units of time, in days where Go knows none.
var timeWords = map[string]string{
	"msec": "ms", "msecs": "ms", "millis": "ms", "millisecond": "ms", "milliseconds": "ms",
	"sec": "s", "secs": "s", "second": "s", "seconds": "s",
	"min": "m", "mins": "m", "minute": "m", "minutes": "m",
	"hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d",
	"ms": "ms", "s": "s", "m": "m", "h": "h", "d": "d",
}

var dayWords = map[string]float64{"w": 7, "week": 7, "weeks": 7, "month": 30, "months": 30, "y": 365, "year": 365, "years": 365}

// parseDuration reads "90s", "1h30m" or "7d"; 0 needs no unit. bare is the unit that is proposed for a plain number.
func parseDuration(s, bare string) (time.Duration, error) {
	if decimalNumber.MatchString(s) {
		if f, _ := strconv.ParseFloat(s, 64); f == 0 {
			return 0, nil
		}
		return 0, wrong("write "+strings.TrimPrefix(s, "+")+bare, "%q has no unit", s)
	}
	if !oneDuration.MatchString(s) {
		if m := withUnit.FindStringSubmatch(s); m != nil {
			word := strings.ToLower(m[2])
			if u, ok := timeWords[word]; ok {
				return 0, wrong("write "+m[1]+u, "%q is not how a duration is written", s)
			}
			if n, ok := dayWords[word]; ok {
				f, _ := strconv.ParseFloat(m[1], 64)
				return 0, wrong(fmt.Sprintf("write %.0fd", math.Ceil(f*n)), "%q is not how a duration is written", s)
			}
		}
		return 0, wrong("write a number with a unit, such as 30s, 5m or 7d", "%q is not a duration", s)
	}
	if strings.HasPrefix(s, "-") {
		return 0, wrong("write "+s[1:], "%s is negative", s)
	}
	days, rest := 0.0, s
	if i := strings.IndexByte(s, 'd'); i >= 0 {
		var err error
		if days, err = strconv.ParseFloat(s[:i], 64); err != nil {
			return 0, wrong("write the days first, such as 1d12h", "%q is not a duration", s)
		}
		if rest = s[i+1:]; rest == "" {
			rest = "0"
		}
	}
	d, err := time.ParseDuration(rest)
	sum := days*float64(day) + float64(d)
	if err != nil || sum > math.MaxInt64/2 {
		return 0, wrong("write at most 100 years, 36500d", "%s is too long", s)
	}
	return time.Duration(days*float64(day)) + d, nil
}

// formatDuration writes what parseDuration reads, in few characters.
func formatDuration(d time.Duration) string {
	if d != 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var byteUnits = []struct {
	name string
	size float64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// parseBytes reads "512MiB" (powers of 1024), "1.5GB" (powers of 1000) or "0".
func parseBytes(s string) (int64, error) {
	if decimalNumber.MatchString(s) {
		if f, _ := strconv.ParseFloat(s, 64); f == 0 {
			return 0, nil
		}
		return 0, wrong("write "+strings.TrimPrefix(s, "+")+"MiB, or "+strings.TrimPrefix(s, "+")+"B if bytes are meant", "%q has no unit", s)
	}
	m := withUnit.FindStringSubmatch(s)
	if m == nil {
		return 0, wrong("write a number with a unit, such as 512MiB", "%q is not a size", s)
	}
	for _, u := range byteUnits {
		if u.name == m[2] {
			f, _ := strconv.ParseFloat(m[1], 64)
			if f *= u.size; f > math.MaxInt64/2 {
				return 0, wrong("write a smaller one", "%s is too large", s)
			}
			return int64(math.Round(f)), nil
		}
	}
	if i := strings.IndexAny("KMGT", strings.ToUpper(m[2][:1])); i >= 0 {
		return 0, wrong("write "+m[1]+"KMGT"[i:i+1]+"iB", "%q is not how a size is written", s)
	}
	return 0, wrong("write a number with a unit, such as 512MiB", "%q is not a size", s)
}

// formatBytes writes what parseBytes reads, exactly.
func formatBytes(n int64) string {
	if n == 0 {
		return "0"
	}
	for _, u := range byteUnits[:4] {
		if n%int64(u.size) == 0 {
			return fmt.Sprintf("%d%s", n/int64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}
