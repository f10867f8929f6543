package main

import (
	"fmt"
	"math"
	"slices"

	"tidemark/internal/foresee/peer"
)

// contender is a peer with the settings that it is tuned over.
type contender struct {
	name     string
	settings []float64
}

var peers = contenders()

func contenders() []contender {
	out := []contender{{peer.Fixed, []float64{1, 1.15, 1.3, 1.6, 2}}} // times what the busiest of the training needed
	for _, p := range peer.Reactive {
		out = append(out, contender{p.Name, p.Settings})
	}
	return out
}

// run is a peer in this cell.
func (c *cell) run(p *contender, setting float64) (*peer.Run, error) {
	if p.name == peer.Fixed {
		sorted := slices.Sorted(slices.Values(c.train.need))
		setting = math.Ceil(setting * float64(sorted[len(sorted)*999/1000]))
	}
	return c.peer(fmt.Sprintf("%s:%g", p.name, setting))
}

// peer makes one by its name.
func (c *cell) peer(name string) (*peer.Run, error) {
	return peer.New(name, peer.Condition{Bounds: c.bounds(), Tick: tick, Boot: c.boot, CPU: 1})
}
