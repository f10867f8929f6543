// Package queueing is the mathematics of a worker pool: c identical workers that serve one request at a time each, from one
// first-come-first-served queue. It predicts waiting and response times (Pool), and inverts the prediction (Demand.Need): the
// smallest fleet that meets an objective.
//
// The model is M/G/c by Erlang C with Allen and Cunneen's correction for variability: a request waits with probability
// C(c, a), and one that waits does so for an exponentially distributed time, so that
//
//	P(W > t) = C(c, a) exp(-2c(1-rho)t / ((ca2+cs2)S))
//
// where S is the mean service time, a = rate x S the offered load in erlangs, rho = a/c, and ca2 and cs2 are the squared
// coefficients of variation of the times between arrivals and of the service times. It is exact for M/M/c, its mean is exact
// for M/G/1, and the response time is its convolution with the measured service times.
//
// All times are seconds and all rates are per second. Nothing here allocates. Where rates come from, how long a worker boots
// and what is done with the answer is the caller's.
package queueing
