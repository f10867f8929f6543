package fleet

import "fmt"

// Rule is a rule as it is told to whoever asks: what an operator wrote, with its defaults.
type Rule struct {
	Policy    string   `json:"policy"`
	Mode      Mode     `json:"mode"`
	Signal    string   `json:"signal"`
	Unit      Unit     `json:"unit"`
	Operator  Operator `json:"operator"`
	Threshold float64  `json:"threshold"`
	Change    int      `json:"scale_change"`
	M         int      `json:"datapoints_to_alarm"`
	N         int      `json:"evaluation_periods"`
	Period    Duration `json:"period"` // of one datapoint
}

// Condition is what the rule looks for, ">= 70 %". An event of its alarm carries it as a note: a policy may have two rules on one signal.
func (r *Rule) Condition() string {
	return fmt.Sprintf("%s %s", r.Operator, r.Unit.Format(r.Threshold))
}
