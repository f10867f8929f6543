package fleet

import (
	"strconv"
	"time"
)

// Phase is where a worker stands in its life.
type Phase uint8

const (
	Gone     Phase = iota // does not exist, or no longer
	Starting              // exists and does not serve yet
	Serving               // takes requests
	Draining              // finishes what it has, takes nothing new
)

var phaseNames = [...]string{"gone", "starting", "serving", "draining"}

func (p Phase) String() string                { return nameOf(phaseNames[:], int(p)) }
func (p Phase) MarshalText() ([]byte, error)  { return []byte(p.String()), nil }
func (p *Phase) UnmarshalText(b []byte) error { return parseName(p, phaseNames[:], b, "phase") }

// Worker is one process, container or pod that serves requests.
type Worker struct {
	ID      string    `json:"id"`                // stable within the fleet as long as the worker lives
	PID     int       `json:"pid,omitempty"`     // 0 when it is not a process of this machine
	Address string    `json:"address,omitempty"` // host:port or unix:/path; empty when all share one socket
	Started time.Time `json:"started"`
	Phase   Phase     `json:"phase"`
	Detail  string    `json:"detail,omitempty"` // what it waits for, e.g. "health check: connection refused"
}

// Instance names this life of the worker: its ID may be given to another process when it is gone.
func (w Worker) Instance() string {
	if w.PID == 0 {
		return w.ID
	}
	return w.ID + "." + strconv.Itoa(w.PID)
}

// Size counts a fleet's workers by phase, as its target reports them now. The zero value is "not known".
type Size struct {
	Known    bool `json:"known"`
	Starting int  `json:"starting"`
	Serving  int  `json:"serving"`
	Draining int  `json:"draining"`
}

// Workers is the size that policies speak of: draining workers have left it, starting ones belong to it.
func (s Size) Workers() int { return s.Starting + s.Serving }

// Count counts workers by phase.
func Count(workers []Worker) Size {
	s := Size{Known: true}
	for _, w := range workers {
		switch w.Phase {
		case Starting:
			s.Starting++
		case Serving:
			s.Serving++
		case Draining:
			s.Draining++
		case Gone:
		}
	}
	return s
}

// Bounds are a fleet's low-water and high-water marks, both inclusive.
type Bounds struct {
	Min int `json:"min" yaml:"min"`
	Max int `json:"max" yaml:"max"`
}

// Clamp returns n moved into the bounds.
func (b Bounds) Clamp(n int) int { return max(b.Min, min(b.Max, n)) }
