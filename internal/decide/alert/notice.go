package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity says how soon somebody must look.
type Severity uint8

const (
	Info     Severity = iota // worth knowing
	Warning                  // look today
	Critical                 // look now
)

var severityNames = []string{"info", "warning", "critical"}

func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("unknown(%d)", s)
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *Severity) UnmarshalText(b []byte) error {
	i := slices.Index(severityNames, string(b))
	if i < 0 {
		return fmt.Errorf("%q is no severity; write %s", b, strings.Join(severityNames, ", "))
	}
	*s = Severity(i)
	return nil
}

// Notice is what a person or a system is told: something that is the case, from Started until Ended. The same Key with the
// same Started is the same news, however often it is said.
type Notice struct {
	Key      string    `json:"key"`  // what it is about: "odoo-workers/signal_missing/cpu"; one fires at a time
	Rule     string    `json:"rule"` // the kind of news: "signal_missing"
	Instance string    `json:"instance"`
	Fleet    string    `json:"fleet,omitempty"`  // empty: the whole instance
	Signal   string    `json:"signal,omitempty"` // where it is about one
	Severity Severity  `json:"severity"`
	Title    string    `json:"title"` // one sentence, with the figure that counts
	Lines    []string  `json:"lines"` // the figures, then what to do next
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"` // zero while it is the case
	// Once: it happened, and is not something that goes on. It is told once, and its end is no news.
	Once bool `json:"once,omitempty"`
	// File is the path of what goes with it, to places that take files. A notice is complete without.
	File string `json:"file,omitempty"`
}

// Firing reports whether it is still the case.
func (n *Notice) Firing() bool { return n.Ended.IsZero() }
