package policy

import "tidemark/internal/fleet"

// Protected is what a guard keeps from harm. It decides how its refusal is told.
type Protected uint8

const (
	ProtectsOther    Protected = iota // told by the guard's name
	ProtectsDatabase                  // "blocked by the database"
	ProtectsHostCPU                   // "the host has no CPU left"
)

// Guard refuses scale-outs while all its conditions hold: more workers would do harm. A scale-in and what restores the minimum are
// never refused, and an operator's pin goes before it.
//
// A condition whose signal is missing or stale, or was never measured, counts as holding, unless the signal is optional: what
// cannot be seen is not relied on.
type Guard struct {
	Name     string
	Protects Protected
	If       []Condition // at least one; the first is the guard's own, the others say when it counts
}

// Condition is the alarm of a guard. Its Rule proposes nothing: Change is 0.
type Condition struct {
	Rule
	Release float64 // takes the threshold's place while the alarm is raised; equal to it: no difference
}

// Resource is what workers of all fleets of an instance share, and each takes a part of.
type Resource uint8

const (
	Connections Resource = iota // of the database: to PostgreSQL itself, or of PgBouncer's pools
	HostMemory
	Resources int = iota // how many there are
)

var resourceNames = [Resources]string{"connections", "host_memory"}

func (r Resource) String() string { return resourceNames[r] }

// Unit is what it is counted in.
func (r Resource) Unit() fleet.Unit {
	if r == HostMemory {
		return fleet.Bytes
	}
	return fleet.Number
}

// Supply limits a scale-out to the workers that fit into what is free of a resource:
//
//	floor((free - reserve) / what one worker takes)
//
// where free is the least of the signals. A signal that is not fresh now refuses the scale-out, unless it is optional.
type Supply struct {
	Resource  Resource
	Free      []int   // signals: how much is free
	Reserve   float64 // of it that is left alone
	PerWorker float64 // what one worker takes; 0: it is measured, by Taken
	Taken     int     // a signal: what all workers take together. Only when PerWorker is 0
}
