package sim

import "fmt"

// Level is how closely a run looks.
type Level uint8

const (
	Auto     Level = iota // Requests, or Fluid where that would take long
	Requests              // request by request, exact
	Fluid                 // by rates and the mathematics of queues, for years
)

var levelNames = []string{"auto", "request", "fluid"}

func (l Level) String() string { return levelNames[l] }

// MarshalText and UnmarshalText spell it as in the command line.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

func (l *Level) UnmarshalText(b []byte) error {
	for i, n := range levelNames {
		if n == string(b) {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("there is no level %q: take request, fluid or auto", b)
}

// levels makes the model of each level, with the workers that there are at the start.
var levels = map[Level]func(r *run, initial int) model{Requests: newRequests, Fluid: newFluid}

const (
	// manyRequests is how many are played one by one unless the plan says so: 10 seconds' work.
	manyRequests = 200e6
	manyTicks    = 1e6
)

// level is the level that a plan is played at.
func (p *Plan) level() Level {
	switch {
	case p.Site != nil:
		return Requests
	case p.Level != Auto:
		return p.Level
	}
	seconds := p.Load.Duration().Seconds()
	if p.Load.Mean()*seconds > manyRequests || seconds/p.Tick.Seconds() > manyTicks {
		return Fluid
	}
	return Requests
}
