package queueing

import "math"

// Pool is a fleet under load.
type Pool struct {
	Workers int
	Rate    float64 // requests per second
	Service *Service
	// Arrivals is ca2, the squared coefficient of variation of the times between arrivals. 0 is taken as 1: Poisson, the arrivals
	// of many users who do not know of each other.
	Arrivals float64
}

// Load is the offered load in erlangs: the workers that would be busy if there were enough.
func (p Pool) Load() float64 { return p.Rate * p.Service.mean }

// Utilization is the share of the workers that is busy; at 1 and above the queue grows without end.
func (p Pool) Utilization() float64 { return p.Load() / float64(p.Workers) }

// Stable reports whether the pool can be predicted at all: its inputs make sense and its queue does not grow without end.
func (p Pool) Stable() bool {
	return p.Workers > 0 && p.Service != nil && p.Service.Known() && p.Rate >= 0 && p.Arrivals >= 0 && finite(p.Arrivals) && p.Utilization() < 1
}

// Delay is the probability that a request waits; NaN unless Stable.
func (p Pool) Delay() float64 {
	if !p.Stable() {
		return math.NaN()
	}
	return ErlangC(p.Workers, p.Load())
}

// Wait is the mean waiting time, over all requests; NaN unless Stable.
func (p Pool) Wait() float64 {
	if !p.Stable() {
		return math.NaN()
	}
	return p.Delay() / p.decay()
}

// WaitTail is P(W > t), the share of the requests that wait longer than t; NaN unless Stable.
func (p Pool) WaitTail(t float64) float64 {
	if !p.Stable() || !(t >= 0) {
		return math.NaN()
	}
	return p.Delay() * math.Exp(-p.decay()*t)
}

// ResponseTail is the share of the requests that take longer than t, wait and service together; NaN unless Stable.
func (p Pool) ResponseTail(t float64) float64 {
	if !p.Stable() || !(t >= 0) {
		return math.NaN()
	}
	return p.response().overrun(t)
}

// Response is the time within which the share q of the requests (0 < q < 1) is answered, wait and service together; NaN
// unless Stable.
func (p Pool) Response(q float64) float64 {
	if !p.Stable() || !(q > 0 && q < 1) {
		return math.NaN()
	}
	return p.response().quantile(q)
}

func (p Pool) response() *response {
	return &response{of: p.Service, delay: p.Delay(), decay: p.decay()}
}

// decay is 1 / the mean wait of those that wait: 2c(1-rho)/((ca2+cs2)S).
func (p Pool) decay() float64 {
	arrivals := p.Arrivals
	if arrivals == 0 {
		arrivals = 1
	}
	variability := max(arrivals+p.Service.scv, 1e-3) // no real queue is a clockwork
	return 2 * float64(p.Workers) * (1 - p.Utilization()) / (variability * p.Service.mean)
}
