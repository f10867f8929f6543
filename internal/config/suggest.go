package config

import (
	"reflect"
	"slices"
	"strings"
)

// What operators know a setting by from elsewhere (the requirements, CloudWatch, Kubernetes), and what it is called here.
var synonyms = map[string]string{
	"minimum": "min", "mininstances": "min", "minreplicas": "min", "minworkers": "min", "minsize": "min",
	"maximum": "max", "maxinstances": "max", "maxreplicas": "max", "maxworkers": "max", "maxsize": "max",
	"metric": "signal", "metricname": "signal", "comparisonoperator": "operator", "change": "scale_change", "adjustment": "scale_change",
	"datapoints": "datapoints_to_alarm", "periods": "evaluation_periods", "treatmissingdata": "missing_data",
	"scaleupseconds": "scale_up", "scaledownseconds": "scale_down", "stat": "statistic", "interval": "period",
	"maxrate": "max_scaling_rate", "timeout": "action_timeout", "enabled": "mode", "tz": "time_zone",
}

func plain(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(strings.ToLower(s))
}

// nearest is the name that was probably meant; empty when none is near.
func nearest(s string, names []string) string {
	if syn := synonyms[plain(s)]; slices.Contains(names, syn) {
		return syn
	}
	for _, n := range names {
		if len(s) >= 3 && strings.HasPrefix(n, s) {
			return n
		}
	}
	best, least := "", max(1, len(s)/3)+1
	for _, n := range names {
		if dist := distance(plain(s), plain(n)); dist < least && dist < len(n) {
			best, least = n, dist
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with the next (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now := make([]int, len(b)+1)
		now[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			now[j] = min(last[j]+1, now[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last = last, now
	}
	return last[len(b)]
}

// oneOf finds a name in a list; index is where.
func oneOf(what, s string, names []string) (index int, err error) {
	if i := slices.Index(names, s); i >= 0 {
		return i, nil
	}
	if near := nearest(s, names); near != "" {
		return 0, wrong("did you mean "+near+"?", "%q is no %s", s, what)
	}
	return 0, wrong("write one of "+strings.Join(names, ", "), "%q is no %s", s, what)
}

// homes lists the settings under which a field of that name stands.
func homes(name string) []string {
	var out []string
	var walk func(t reflect.Type, under string)
	walk = func(t reflect.Type, under string) {
		for t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for _, f := range fields(t) {
			if f.name == name && under != "" && !slices.Contains(out, under) {
				out = append(out, under)
			}
			walk(t.FieldByIndex(f.index).Type, f.name)
		}
	}
	walk(reflect.TypeFor[spec](), "")
	return out
}
