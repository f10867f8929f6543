package fleet

import "time"

// Decision is one tick's outcome for one fleet. To == From holds. Shadow decisions are never acted on.
type Decision struct {
	Fleet  string    `json:"fleet"`
	Time   time.Time `json:"time"`
	From   int       `json:"from"`
	To     int       `json:"to"`
	Shadow bool      `json:"shadow,omitempty"`
	// Breach, Alarm: when the datapoint that first breached ended, and when the alarm that drives the change was
	// raised; zero when no alarm drives it. They begin the time-to-scale figure.
	Breach time.Time `json:"breach,omitzero"`
	Alarm  time.Time `json:"alarm,omitzero"`
	// Reasons is the chain in order: what each rule proposed, then what each safeguard did to it.
	Reasons []Reason `json:"reasons"`
	// Would is the counterfactual: what would have happened had nothing blocked it.
	Would Would `json:"would,omitzero"`
	// Wanted is the size that proposals, schedule or operator ask for, before any safeguard; 0 when nothing was decided.
	Wanted int `json:"wanted,omitempty"`
}

// Short is how many workers are wanted beyond a maximum that the fleet has reached; 0 when it has what it wants, or room to grow.
func (d *Decision) Short(maximum int) int {
	if d.From < maximum {
		return 0
	}
	return max(d.Wanted-d.From, 0)
}

// Would says what a blocked decision would have done, and when it may: After is the end of what holds it back, zero
// when that has no end of its own.
type Would struct {
	To    int       `json:"to"`
	After time.Time `json:"after,omitzero"`
	Code  Code      `json:"code"` // what holds it back longest
}

// Reason is one link of the chain. Which fields are set depends on the code; Size is the size after this link.
type Reason struct {
	Code      Code     `json:"code"`
	Size      int      `json:"size"`
	Policy    string   `json:"policy,omitempty"`
	Signal    string   `json:"signal,omitempty"`
	Unit      Unit     `json:"unit,omitempty"`
	Operator  Operator `json:"operator,omitempty"`
	Value     float64  `json:"value,omitempty"` // the datapoint that counts, or the projected one
	Threshold float64  `json:"threshold,omitempty"`
	Breaching int      `json:"breaching,omitempty"` // of the latest N datapoints
	M         int      `json:"m,omitempty"`
	N         int      `json:"n,omitempty"`
	Limit     int      `json:"limit,omitempty"` // the bound, step or count that applied
	Want      int      `json:"want,omitempty"`  // the size before this link, where it says how much is short
	// Of a resource: Value is what is free, Threshold what one worker takes, Reserve what is left alone, and Others the part of Reserve
	// that is for other fleets.
	Reserve float64   `json:"reserve,omitempty"`
	Others  float64   `json:"others,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	By      string    `json:"by,omitempty"`   // the operator
	Note    string    `json:"note,omitempty"` // the operator's own words, or an error's; of a rule: why its newest datapoint has no value; of a model: its doubt
	Model   Model     `json:"model,omitzero"` // of a policy with a model
}

// Model is what a policy's model reckons with, and predicts. Times are in seconds.
type Model struct {
	Quantile    float64 `json:"quantile,omitempty"`    // of the response that is predicted, 0..1
	Rate        float64 `json:"rate,omitempty"`        // requests per second that the fleet is sized for
	Measured    float64 `json:"measured,omitempty"`    // requests per second, as they came
	Service     float64 `json:"service,omitempty"`     // mean service time
	Backlog     float64 `json:"backlog,omitempty"`     // requests that wait
	Utilization float64 `json:"utilization,omitempty"` // of the workers there are, at Rate; 1 and above: the queue grows
	Now         float64 `json:"now,omitempty"`         // response predicted with the workers there are
	Then        float64 `json:"then,omitempty"`        // and with those proposed
	Why         string  `json:"why,omitempty"`         // it is as many as that
	Limit       string  `json:"limit,omitempty"`       // what keeps the proposal below what the objective needs
	// Of a forecast: the middle and the lower end of its band, of which Rate is the upper, the weeks that it rests on, and how far ahead
	// it looks.
	Expected float64 `json:"expected,omitempty"`
	Low      float64 `json:"low,omitempty"`
	Weeks    int     `json:"weeks,omitempty"`
	Ahead    float64 `json:"ahead,omitempty"`
}
