package app

import (
	"math"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// Two sizes are compared over the steps that both were recorded in, weighted by how often.
func TestCompared(t *testing.T) {
	at := func(minute int) time.Time { return time.Unix(0, 0).Add(time.Duration(minute) * time.Minute) }
	alone := []record.Point{
		{Time: at(0), N: 20, Min: 2, Max: 4, Mean: 3}, {Time: at(5), N: 20, Min: 4, Max: 6, Mean: 5}, {Time: at(10), N: 20, Min: 6, Max: 6, Mean: 6},
	}
	actual := []record.Point{
		{Time: at(0), N: 20, Mean: 6}, {Time: at(5), N: 10, Mean: 4}, {Time: at(15), N: 20, Mean: 9},
	}
	c, ok := compared(alone, actual, 15*time.Second)
	hours := 7.5 / 60 // 30 ticks
	if !ok || time.Duration(c.Span) != 7*time.Minute+30*time.Second || c.Min != 2 || c.Max != 6 ||
		math.Abs(c.Alone-hours*(20*3+10*5)/30) > 1e-9 || math.Abs(c.Actual-hours*(20*6+10*4)/30) > 1e-9 {
		t.Errorf("%+v, %v", c, ok)
	}
	if c, ok := compared(alone, nil, time.Second); ok || c.Span != fleet.Duration(0) {
		t.Errorf("compared with nothing: %+v", c)
	}
}
