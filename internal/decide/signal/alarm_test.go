package signal

import (
	"testing"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// The two tables of CloudWatch's documentation, row by row: X breaches, 0 does not, - is missing. "keep" retains the
// current state.
func TestEvaluateCloudWatchTables(t *testing.T) {
	const ins, ok, alarm, keep = fleet.InsufficientData, fleet.OK, fleet.Alarm, fleet.AlarmState(99)
	tests := []struct {
		m, n                                     int
		points                                   string
		missing, ignore, breaching, notBreaching fleet.AlarmState
	}{
		{3, 3, "0-X-X", ok, ok, ok, ok},
		{3, 3, "----0", ok, ok, ok, ok},
		{3, 3, "-----", ins, keep, alarm, ok},
		{3, 3, "0XX-X", alarm, alarm, alarm, alarm},
		{3, 3, "--X--", alarm, keep, alarm, ok},
		{2, 3, "0-X-X", alarm, alarm, alarm, alarm},
		{2, 3, "00X0X", alarm, alarm, alarm, alarm},
		{2, 3, "0-X--", ok, ok, alarm, ok},
		{2, 3, "----0", ok, ok, alarm, ok},
		{2, 3, "---X-", alarm, keep, alarm, ok},
		// The text beside the tables: false positives are avoided while the next datapoint may still be good.
		{3, 3, "----X", ok, ok, alarm, ok},
		{3, 3, "---X-", ok, ok, alarm, ok},
		{3, 3, "---X0", ok, ok, ok, ok},
		// No premature recovery: an alarm does not end because data stops coming.
		{3, 3, "XX---", alarm, keep, alarm, ok},
		{3, 3, "X----", alarm, keep, alarm, ok},
		// Sparse datapoints (s) are no measurement.
		{2, 3, "sssss", ins, keep, alarm, ok},
		{1, 1, "X", alarm, alarm, alarm, alarm},
		{1, 1, "", ins, keep, alarm, ok},
		// More datapoints than the range: the older ones play no part.
		{2, 3, "XXXX00000", ok, ok, ok, ok},
	}
	for _, tt := range tests {
		for missing, want := range map[policy.Missing]fleet.AlarmState{
			policy.MissingMissing: tt.missing, policy.MissingIgnore: tt.ignore,
			policy.MissingBreaching: tt.breaching, policy.MissingNotBreaching: tt.notBreaching,
		} {
			for _, current := range []fleet.AlarmState{ins, ok, alarm} {
				want := want
				if want == keep {
					want = current
				}
				r := policy.Rule{Operator: fleet.AtLeast, Threshold: 70, M: tt.m, N: tt.n, Missing: missing}
				if got := Evaluate(&r, parse(tt.points), current); got.State != want {
					t.Errorf("%d of %d, %q, missing policy %d, was %v: %v, want %v", tt.m, tt.n, tt.points, missing, current, got.State, want)
				}
			}
		}
	}
}

func TestEvaluateSaysWhatBreached(t *testing.T) {
	r := policy.Rule{Operator: fleet.AtLeast, Threshold: 70, M: 2, N: 3}
	v := Evaluate(&r, parse("XX0X"), fleet.OK)
	if v.Breaching != 2 || !v.Breach.Equal(at(2)) {
		t.Errorf("breaching %d, first at %v; want 2, %v", v.Breaching, v.Breach, at(2))
	}
}

func at(i int) time.Time { return time.Unix(0, 0).UTC().Add(time.Duration(i) * time.Minute) }

func parse(s string) []Datapoint {
	var out []Datapoint
	for i, c := range s {
		p := Datapoint{End: at(i + 1)}
		switch c {
		case 'X':
			p.Value, p.Quality = 70, fleet.Fresh
		case '0':
			p.Value, p.Quality = 69.9, fleet.Fresh
		case 's':
			p.Value, p.Quality = 99, fleet.Sparse
		}
		out = append(out, p)
	}
	return out
}
