package fleet

import "time"

// Kind names what an event records.
type Kind string

const (
	EventDecision       Kind = "decision"        // a change of size was decided (or would have been: shadow)
	EventActionStarted  Kind = "action_started"  // the target was told
	EventActionDone     Kind = "action_done"     // the target has the size decided; carries the time to scale
	EventActionFailed   Kind = "action_failed"   // the target did not get there in time
	EventSizeChanged    Kind = "size_changed"    // the size changed and Tidemark did not do it
	EventAlarm          Kind = "alarm"           // a rule's state changed
	EventGuard          Kind = "guard"           // a guard began to hold back scale-outs, or let go
	EventSignalLost     Kind = "signal_lost"     // a signal went missing or stale
	EventSignalBack     Kind = "signal_back"     // it is back
	EventTargetLost     Kind = "target_lost"     // the target cannot be read
	EventTargetBack     Kind = "target_back"     //
	EventOrder          Kind = "operator"        // an operator's scale, hold, release or mode
	EventNote           Kind = "note"            // somebody noted what happened around a fleet
	EventStarted        Kind = "started"         // the daemon took the lead
	EventStopped        Kind = "stopped"         // the daemon left, leaving the fleet as it was
	EventReloaded       Kind = "reloaded"        // a new configuration is in force
	EventReloadRefused  Kind = "reload_refused"  // a new configuration was bad; the old one stays
	EventClockJump      Kind = "clock_jump"      // the wall clock moved by itself
	EventBalancerFailed Kind = "balancer_failed" // the balancer could not be told
	EventJournalFailed  Kind = "journal_failed"  // the journal could not be written for a while
	EventAlertRaised    Kind = "alert_raised"    // people are told
	EventAlertOver      Kind = "alert_over"      // and that it is over; carries how long it lasted
	EventAlertSeen      Kind = "alert_seen"      // an operator acknowledged it; State is its key
	EventAlertTested    Kind = "alert_tested"    // an operator had test messages sent
	EventSignedIn       Kind = "signed_in"       // somebody signed in; Note says by what
	EventSignInFailed   Kind = "sign_in_failed"  // somebody tried to; By is the name that was given
	EventSignedOut      Kind = "signed_out"      //
	EventRefused        Kind = "refused"         // somebody asked for more than the role allows; Note says for what
)

// Event is one durable record of something that happened. Unused fields stay zero.
type Event struct {
	ID       int64     `json:"id"` // given by the journal, rising
	Time     time.Time `json:"time"`
	Fleet    string    `json:"fleet,omitempty"`
	Kind     Kind      `json:"kind"`
	From     int       `json:"from,omitempty"`
	To       int       `json:"to,omitempty"`
	Policy   string    `json:"policy,omitempty"`
	Signal   string    `json:"signal,omitempty"`
	State    string    `json:"state,omitempty"` // the new alarm state, mode or quality; of started, the machine's run
	By       string    `json:"by,omitempty"`
	Origin   string    `json:"origin,omitempty"`   // where By gave it from: an address, or the daemon's socket
	Note     string    `json:"note,omitempty"`     // a reason or an error, in words
	Duration Duration  `json:"duration,omitempty"` // time to scale, length of an outage, size of a jump
	Parts    *Parts    `json:"parts,omitempty"`
	Decision *Decision `json:"decision,omitempty"`
}

// Parts splits a time to scale: breach -> alarm -> decision -> action -> serving.
type Parts struct {
	BreachToAlarm    Duration `json:"breach_to_alarm"`
	AlarmToDecision  Duration `json:"alarm_to_decision"`
	DecisionToAction Duration `json:"decision_to_action"`
	ActionToServing  Duration `json:"action_to_serving"`
}

// Duration is a time.Duration that is written as "3m20s" in JSON.
type Duration time.Duration

func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}
