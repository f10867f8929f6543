// Package copies holds what targets share that run numbered copies of a program: the ports that they listen on, and which of them
// is the least utilised.
package copies

import (
	"fmt"
	"strconv"

	"tidemark/internal/config"
)

// MaxSlot is the highest number of a copy.
const MaxSlot = 9999

// Ports is the range that copies take theirs from, on 127.0.0.1: copy 1 the first. The zero value is none.
type Ports struct {
	First int `yaml:"first"`
	Last  int `yaml:"last"` // default: 65535
}

// Given reports whether there is a range.
func (p Ports) Given() bool { return p != Ports{} }

// Validate adds the problems of a range that is given.
func (p Ports) Validate(errs *config.FieldErrors) {
	if p.First < 1 || p.First > 65535 {
		errs.Add("ports.first", fmt.Sprintf("%d is not a port", p.First), "write 1 to 65535")
	}
	if p.Last != 0 && (p.Last < p.First || p.Last > 65535) {
		errs.Add("ports.last", fmt.Sprintf("%d is not a port from first (%d) on", p.Last, p.First), "leave it out, or write the last port of the range")
	}
}

// Slots is how many copies there may be.
func (p Ports) Slots() int {
	if !p.Given() {
		return MaxSlot
	}
	last := p.Last
	if last == 0 {
		last = 65535
	}
	return min(MaxSlot, last-p.First+1)
}

// At is a copy's port; 0 without a range.
func (p Ports) At(slot int) int {
	if !p.Given() {
		return 0
	}
	return p.First + slot - 1
}

// Address is where the copy in a slot listens.
func (p Ports) Address(slot int) string { return "127.0.0.1:" + strconv.Itoa(p.At(slot)) }
