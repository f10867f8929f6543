package signal

import (
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// Verdict is what the latest datapoints say about a rule.
type Verdict struct {
	State     fleet.AlarmState `json:"state"`
	Breaching int              `json:"breaching"`       // breaching datapoints among the N that count
	Breach    time.Time        `json:"breach,omitzero"` // end of the oldest breaching one among them; zero when none breaches
}

// Evaluate decides a rule's alarm from its latest datapoints (oldest first), as Amazon CloudWatch does
// ("Configuring how CloudWatch alarms treat missing data"):
//
//   - The evaluation range is longer than N. If it holds at least N real datapoints, the latest N of them decide, however
//     old, and the missing-data policy plays no part.
//   - Otherwise the policy fills the shortfall up to N: as breaching, as not breaching, or not at all.
//   - "missing" with no real datapoint at all is insufficient data; "ignore" then keeps the state.
//   - Premature alarm: when every real datapoint breaches and the oldest is at least M periods old, waiting longer could not
//     turn the answer: "missing" raises the alarm (or keeps it: no premature recovery either), "ignore" keeps the state.
//
// Where CloudWatch's text and its table differ (one good datapoint before the breaching one), the table is followed.
func Evaluate(r *policy.Rule, points []Datapoint, current fleet.AlarmState) (v Verdict) {
	if within := r.Range(); len(points) > within {
		points = points[len(points)-within:]
	}
	real, oldestAge := 0, 0
	for i := len(points) - 1; i >= 0 && real < r.N; i-- {
		p := &points[i]
		if !p.Real() {
			continue
		}
		real++
		oldestAge = len(points) - i
		if r.Operator.Holds(p.Value, r.Threshold) {
			v.Breaching++
			v.Breach = p.End
		}
	}
	short := r.N - real
	breaching := v.Breaching
	switch {
	case short == 0 || r.Missing == policy.MissingNotBreaching:
	case r.Missing == policy.MissingBreaching:
		breaching += short
	case real == 0 && r.Missing == policy.MissingIgnore:
		v.State = current
		return v
	case real == 0:
		v.State = fleet.InsufficientData
		return v
	case breaching < r.M && breaching == real && oldestAge >= r.M:
		v.State = fleet.Alarm
		if r.Missing == policy.MissingIgnore {
			v.State = current
		}
		return v
	}
	v.State = fleet.OK
	if breaching >= r.M {
		v.State = fleet.Alarm
	}
	return v
}
