package engine

import (
	"fmt"
	"time"

	"tidemark/internal/fleet"
)

// OrderKind is what an operator can tell a fleet.
type OrderKind uint8

const (
	NoOrder  OrderKind = iota
	Hold               // leave the size alone
	Pin                // hold the fleet at a size
	Release            // end a hold or a pin
	SetMode            // put a mode over the policy's
	DropMode           // go back to the policy's mode
)

var orderNames = [...]string{"", "hold", "scale", "release", "mode", "mode_as_configured"}

func (k OrderKind) String() string {
	if int(k) < len(orderNames) {
		return orderNames[k]
	}
	return fmt.Sprintf("unknown(%d)", k)
}

// MarshalText and UnmarshalText spell it as in the command line.
func (k OrderKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (k *OrderKind) UnmarshalText(b []byte) error {
	for i, n := range orderNames {
		if n == string(b) {
			*k = OrderKind(i)
			return nil
		}
	}
	return fmt.Errorf("unknown order %q", b)
}

// Order is an operator's word to a fleet.
type Order struct {
	Kind  OrderKind  `json:"kind"`
	Size  int        `json:"size,omitempty"` // Pin
	Mode  fleet.Mode `json:"mode,omitempty"` // SetMode
	At    time.Time  `json:"at"`
	Until time.Time  `json:"until,omitzero"` // Hold, Pin: zero lasts until released
	By    string     `json:"by,omitempty"`
	// Origin is where it came from, for the record.
	Origin string `json:"origin,omitempty"`
	Note   string `json:"note,omitempty"`
}

// obey takes an order into the state.
func (s *State) obey(o Order) {
	switch o.Kind {
	case Hold, Pin:
		s.Order = &o
	case Release:
		s.Order = nil
	case SetMode:
		s.Mode = &o
	case DropMode:
		s.Mode = nil
	case NoOrder:
	}
}
