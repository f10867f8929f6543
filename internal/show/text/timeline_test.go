package text

import (
	"strings"
	"testing"

	"tidemark/internal/fleet"
)

// What moved the fleet is named, not what happened to agree with it.
func TestDriver(t *testing.T) {
	reason := func(code fleet.Code, size int, policy string) fleet.Reason {
		return fleet.Reason{Code: code, Size: size, Policy: policy, Signal: "s", Limit: size, Note: "off-peak"}
	}
	for _, c := range []struct {
		name    string
		from    int
		to      int
		reasons []fleet.Reason
		want    string
	}{
		{"a window's ceiling beside a rule", 9, 8, []fleet.Reason{reason(fleet.RuleIn, 8, "queue"), reason(fleet.ScheduledCeiling, 2, "")}, `▼ 9 -> 8  at most 2 workers by the window "off-peak"`},
		{"a rule alone", 9, 8, []fleet.Reason{reason(fleet.NotAgreed, 9, ""), reason(fleet.RuleIn, 8, "queue")}, "▼ 9 -> 8  queue would do with 8 workers"},
		{"the larger of two", 2, 5, []fleet.Reason{reason(fleet.RuleOut, 3, "cpu"), reason(fleet.SLOOut, 5, "slo")}, "▲ 2 -> 5  slo asks for 5 workers"},
		{"the minimum", 1, 2, []fleet.Reason{reason(fleet.RuleOut, 2, "cpu"), reason(fleet.BelowMin, 2, "")}, "▲ 1 -> 2  below the minimum of 2"},
		{"nobody knows", 1, 2, nil, "▲ 1 -> 2  "},
	} {
		if got := Scaling(&fleet.Decision{From: c.from, To: c.to, Reasons: c.reasons}); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
