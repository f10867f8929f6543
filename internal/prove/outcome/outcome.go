// Package outcome is what one run of a load test saw, as plain data that survives being written as JSON and read again. It holds
// no opinion: verdicts and reports are made of it elsewhere, and whoever reads another tool's results fills it too.
package outcome

import (
	"encoding/base64"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// Run is one run. Times within it are since Started, on the generator's monotonic clock, unless they are of type time.Time.
type Run struct {
	Scenario string    `json:"scenario"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"` // the last request's end
	// Length is how long the run was to start requests. Compress is how many times shorter than the scenario's full length it is;
	// 1 is full length.
	Length   fleet.Duration `json:"length"`
	Compress float64        `json:"compress"`
	// WarmUp was declared before the run; what happened in it is recorded, and is not what the run is judged by.
	WarmUp fleet.Duration `json:"warm_up"`
	Seed   uint64         `json:"seed"`
	Target string         `json:"target"` // base URL, without credentials
	// Environment is that of the configuration; empty without one. The digests are SHA-256 in hexadecimal.
	Environment    string            `json:"environment,omitempty"`
	ConfigDigest   string            `json:"config_digest,omitempty"`
	ScenarioDigest string            `json:"scenario_digest"`
	Machine        Machine           `json:"machine"`            // that the generator ran on
	Versions       map[string]string `json:"versions,omitempty"` // of tidemark and the daemon, and what the target says of itself in the header Server
	// Cut is why the run ended before its time: empty when it did not. A run that was cut is partial.
	Cut      string      `json:"cut,omitempty"`
	Notes    []string    `json:"notes,omitempty"` // what a reader must know, e.g. that the daemon could not be read
	Cleanup  []string    `json:"cleanup,omitempty"`
	Criteria []Criterion `json:"criteria"`

	Generator Generator `json:"generator"`
	// Slot is the length of a slot of every series below; slot i covers [i*Slot, (i+1)*Slot).
	Slot     fleet.Duration `json:"slot"`
	Steps    []Step         `json:"steps"`
	Journeys []Journey      `json:"journeys"`
	Workers  []Worker       `json:"workers,omitempty"` // by first answer
	Fleets   []Fleet        `json:"fleets,omitempty"`
	Events   []fleet.Event  `json:"events,omitempty"` // of the daemon's journal, from the start on, oldest first
	Levels   []Level        `json:"levels,omitempty"`
}

// Machine is a computer.
type Machine struct {
	Name   string  `json:"name"`
	OS     string  `json:"os"`
	Arch   string  `json:"arch"`
	CPU    string  `json:"cpu,omitempty"`    // model
	Cores  int     `json:"cores"`            // that the generator may use
	Memory int64   `json:"memory,omitempty"` // bytes
	Load   float64 `json:"load"`             // average number of running processes over the minute before the start
}

// Generator is how the generator itself fared. With any of Limits, it and not the service was the limit of what the run saw.
type Generator struct {
	Requests uint64 `json:"requests"` // sent, and ended
	Dropped  uint64 `json:"dropped"`  // arrivals that were never sent, because too many were open
	Late     uint64 `json:"late"`     // sent later than LateAfter after their time
	// Seconds from the scheduled start to the send: half of the requests were sent sooner, 99 of 100, all.
	LagP50 float64         `json:"lag_p50"`
	LagP99 float64         `json:"lag_p99"`
	LagMax float64         `json:"lag_max"`
	CPU    fleet.Duration  `json:"cpu"` // its own CPU time
	Took   fleet.Duration  `json:"took"`
	Memory int64           `json:"memory,omitempty"` // bytes resident, at most
	Limits []string        `json:"limits,omitempty"`
	Slots  []GeneratorSlot `json:"slots,omitempty"`
}

// GeneratorSlot is the generator in one slot.
type GeneratorSlot struct {
	At      int     `json:"at"`      // number of the slot
	Starts  uint64  `json:"starts"`  // journeys or requests that were due
	Late    uint64  `json:"late"`    //
	Dropped uint64  `json:"dropped"` //
	Open    int     `json:"open"`    // in flight at the slot's end
	CPU     float64 `json:"cpu"`     // seconds of its own CPU time
}

// Kind of a step: what its latency is held to.
type Kind string

const (
	API  Kind = "api"  // a call of a program
	Page Kind = "page" // a page that a person waits for
)

// Class of a failure.
type Class string

const (
	FailedDNS     Class = "dns"      // the name was not found
	FailedConnect Class = "connect"  // no connection
	FailedTLS     Class = "tls"      // no trust, or no handshake
	FailedReset   Class = "reset"    // the connection ended before the answer did
	FailedTimeout Class = "timeout"  //
	FailedClient  Class = "http_4xx" //
	FailedServer  Class = "http_5xx" //
	FailedCheck   Class = "check"    // an answer came and is not what the journey expects
	FailedOther   Class = "other"    // any other error
)

// Step is one kind of request: a step of a journey, or a route.
type Step struct {
	Journey string `json:"journey,omitempty"`
	Name    string `json:"name"`
	Kind    Kind   `json:"kind"`
	Slots   []Slot `json:"slots"` // those in which something was due, in order
}

// Slot is what was due in one slot, by scheduled start, whenever it ended.
type Slot struct {
	At          int              `json:"at"`    // number of the slot
	Count       uint64           `json:"count"` // requests that ended, failed ones too
	Failed      map[Class]uint64 `json:"failed,omitempty"`
	Interrupted uint64           `json:"interrupted,omitempty"` // open when the run was cut: not in Count, and nobody's fault
	Bytes       uint64           `json:"bytes"`                 // of the answers' bodies
	// Latency is the response time in seconds of all that Count counts, from when the request was due to the last byte of its answer.
	// The first step of a journey is due when the schedule says, a later one when the thinking before it ends. Service counts from the
	// send: the two differ by the generator's own delay.
	Latency Histogram `json:"latency"`
	Service Histogram `json:"service"`
}

// Failures is how many requests of the slot failed.
func (s *Slot) Failures() uint64 {
	n := uint64(0)
	for _, count := range s.Failed {
		n += count
	}
	return n
}

// Journey is one kind of journey, as its users lived it.
type Journey struct {
	Name  string        `json:"name"`
	Slots []JourneySlot `json:"slots"` // by start
}

// JourneySlot is the journeys that started in one slot. Duration is from the scheduled start to the end of the last step in
// seconds, thinking left out, of those that came to their end.
type JourneySlot struct {
	At          int       `json:"at"`
	Count       uint64    `json:"count"`
	Failed      uint64    `json:"failed"`      // a step failed
	Interrupted uint64    `json:"interrupted"` // the run was cut
	Duration    Histogram `json:"duration"`
	Records     uint64    `json:"records,omitempty"` // that it moved, where it counts them
}

// Worker is the proof that a worker served: the first answer below 400 that named it in the header X-Worker.
type Worker struct {
	ID    string         `json:"id"`
	First fleet.Duration `json:"first"`
}

// Fleet is one fleet of the daemon, as its API told it during the run.
type Fleet struct {
	Name    string         `json:"name"`
	Bounds  fleet.Bounds   `json:"bounds"`
	Tick    fleet.Duration `json:"tick"`
	Rules   []Rule         `json:"rules,omitempty"`
	Sizes   []Sized        `json:"sizes"`
	Signals []Resource     `json:"signals"`
}

// Rule is a rule in force when the run began, and the state of its alarm then.
type Rule struct {
	fleet.Rule
	State fleet.AlarmState `json:"state"`
}

// Sized is a fleet's size at a time.
type Sized struct {
	Time time.Time  `json:"time"`
	Size fleet.Size `json:"size"`
}

// Resource is one signal's readings during the run: CPU, pool, queue and so on, in the unit's base (seconds, percent, bytes, count).
// Readings that are not fresh are kept as such.
type Resource struct {
	Signal   string          `json:"signal"`
	Unit     fleet.Unit      `json:"unit"`
	Readings []fleet.Reading `json:"readings"`
}

// Level is one level of load of a run that looks for the knee: what came of it is known when it was Reached.
type Level struct {
	Rate     float64        `json:"rate"` // visits/s that were offered
	From     fleet.Duration `json:"from"`
	To       fleet.Duration `json:"to"`
	Requests uint64         `json:"requests,omitempty"`
	Failed   uint64         `json:"failed,omitempty"`
	P95      float64        `json:"p95,omitempty"`   // seconds
	Broke    string         `json:"broke,omitempty"` // how the service level broke; the run ends with such a level, as it was to
}

// Reached says whether anything came of the level: a run ends at the first that breaks.
func (l *Level) Reached() bool { return l.Requests > 0 || l.Broke != "" }

// Measure says what a criterion is about.
type Measure string

const (
	Latency      Measure = "latency"      // seconds, at most; Of: api, page, a step, or empty for all requests; Quantile
	Duration     Measure = "duration"     // seconds, at most; Of: a journey; Quantile
	Signal       Measure = "signal"       // the signal's unit, at most; Of: its name; the mean over the time judged
	ErrorRate    Measure = "error_rate"   // share 0..1 of requests, at most
	Availability Measure = "availability" // share 0..1 of the time with requests in which at least one of a slot succeeded, at least
	Throughput   Measure = "throughput"   // successful requests/s on average, at least
	Knee         Measure = "knee"         // visits/s of the highest level of a staircase below that at which the service level broke, at least
	// Of the scaling.
	TimeToScale Measure = "time_to_scale"     // seconds from the breach to the new worker serving, at most
	Triggers    Measure = "triggers"          // rules fired as the policy says; no limit
	Improvement Measure = "improvement"       // CPU and latency better after a scale-up; no limit
	Flapping    Measure = "flapping"          // changes of direction, at most
	Returned    Measure = "return_to_minimum" // seconds after the load's end, at most; 0: by the end of the run
	GuardsHeld  Measure = "guards"            // nothing was done against a guard; no limit
)

// Criterion is one thing that a scenario asks for, as it writes it.
type Criterion struct {
	Name    string  `json:"name"`
	Measure Measure `json:"measure"`
	Of      string  `json:"of,omitempty"`
	// Quantile is 0..1; 0 where the measure has none.
	Quantile float64 `json:"quantile,omitempty"`
	Limit    float64 `json:"limit"`
	// Variation is the share of Limit by which it may be missed and still be tolerated: 0.1 is 10 %.
	Variation float64 `json:"variation"`
}

// Histogram is a mergeable histogram of seconds that is written as text: base64 of its binary form, a few bytes when little is in it.
type Histogram struct{ signal.Histogram }

// MarshalText is that of the value, so that a Run is written whole also where it is not addressable.
func (h Histogram) MarshalText() ([]byte, error) {
	b, err := h.MarshalBinary()
	return base64.StdEncoding.AppendEncode(nil, b), err
}

func (h *Histogram) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return err
	}
	return h.UnmarshalBinary(b)
}
