package fleet

// Code says which link of the chain a reason is. Proposals come first, then the safeguards in their fixed order.
type Code uint8

const (
	NoCode Code = iota
	// What the fleet is like.
	TargetUnknown // the target could not be read: hold
	ActionPending // an earlier decision is still being carried out
	ActionExpired // an earlier decision was not carried out in time and is given up
	SizeChanged   // the size changed and nobody here did it
	ClockJumped   // the wall clock moved; all waiting times were moved with it
	// What the rules propose.
	RuleOut         // a scale-out rule is in alarm
	RuleIn          // a scale-in rule is in alarm
	RuleShadow      // a rule of a policy in shadow would have proposed
	BelowMin        // the fleet is below its minimum: restored at once
	AboveMax        // the fleet is above its maximum
	OrderPin        // an operator pinned the size
	NothingProposed // no rule asks for a change
	ScheduledFloor  // a window of the schedule asks for more workers
	ScheduledCeiling
	GivesWay       // fleets that go first need the instance's quota
	SLOOut         // an objective needs more workers
	SLOIn          // an objective would be met by fewer
	SLOShadow      // an objective of a policy in shadow would ask for another size
	ForecastOut    // a forecast needs more workers
	ForecastShadow // a forecast of a policy in shadow would ask for more
	// Why no scale-in.
	ScaleOutActive // a scale-out rule is in alarm
	NotAgreed      // a signal with a scale-in rule does not agree
	SignalMissing  // a signal the fleet depends on is missing or stale
	Projected      // the smaller fleet would trip a scale-out rule
	SLONeeds       // an objective needs the workers there are
	SLOUncertain   // an objective's prediction is not certain enough
	ForecastNeeds  // a forecast needs the workers there are
	// What the safeguards say beside.
	CeilingLifted  // a window's ceiling does not count: a scale-out is asked for
	GuardWhile     // the further condition of the guard before it
	GuardOverruled // a guard holds, and an operator's word goes first
	// Safeguards.
	BlockedMode
	BlockedHold
	BlockedFreeze
	LimitedBounds
	LimitedFloor   // by a window of the schedule
	LimitedCeiling // likewise
	LimitedQuota   // by the instance's quota of workers
	LimitedStep
	BlockedRate
	BlockedCooldown
	BlockedDatabase    // a guard of the database holds
	BlockedHostCPU     // a guard of the host's CPU holds
	BlockedGuard       // another guard holds
	GuardUnknown       // a guard's signal is missing or stale: it holds
	LimitedConnections // only so many workers would find connections
	LimitedMemory      // only so many workers would fit into the host's memory
	SupplyUnknown      // what is free is missing or stale
	BlockedJournal     // the decision could not be recorded, so it is not carried out
)

var codeNames = [...]string{
	"", "target_unknown", "action_pending", "action_expired", "size_changed", "clock_jumped",
	"rule_out", "rule_in", "rule_shadow", "below_min", "above_max", "order_pin", "nothing_proposed",
	"scheduled_floor", "scheduled_ceiling", "gives_way", "slo_out", "slo_in", "slo_shadow", "forecast_out", "forecast_shadow",
	"scale_out_active", "not_agreed", "signal_missing", "projected", "slo_needs", "slo_uncertain", "forecast_needs",
	"ceiling_lifted", "guard_while", "guard_overruled",
	"mode", "hold", "freeze", "bounds", "floor", "ceiling", "quota", "step", "rate", "cooldown",
	"database", "host_cpu", "guard", "guard_unknown", "connections", "host_memory", "supply_unknown", "journal",
}

func (c Code) String() string                { return nameOf(codeNames[:], int(c)) }
func (c Code) MarshalText() ([]byte, error)  { return []byte(c.String()), nil }
func (c *Code) UnmarshalText(b []byte) error { return parseName(c, codeNames[:], b, "reason code") }
