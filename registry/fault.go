package registry

import "strings"

// Fault is one thing wrong with what somebody sent. Field is its JSON name, empty when the fault is the document's.
type Fault struct {
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail"`
}

// Faults is every fault found, in the order of the fields.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = strings.TrimPrefix(fault.Field+": "+fault.Detail, ": ")
	}
	return strings.Join(lines, "; ")
}
