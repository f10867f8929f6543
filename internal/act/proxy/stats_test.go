package proxy

import (
	"math"
	"testing"
	"time"

	"tidemark/internal/decide/signal"
)

// The service time is the latency less the wait of the same request; what no worker had has neither.
func TestServiceTimeIsLatencyLessTheWait(t *testing.T) {
	var c counters
	c.count(&outcome{status: 200, served: true, asked: true, latency: 500 * time.Millisecond, queueTime: 400 * time.Millisecond})
	c.count(&outcome{status: 503, asked: true, timedOut: true, queueTime: 30 * time.Second})
	var total, one tally
	c.tally(&one)
	total.add(&one)
	w := total.written()
	var h signal.Histogram
	if err := h.UnmarshalBinary(w.ServiceTime); err != nil || h.Count() != 1 || math.Abs(h.Quantile(0.5)-0.1) > 0.002 {
		t.Errorf("%d service times, median %g (%v)", h.Count(), h.Quantile(0.5), err)
	}
}
