// Package sim is a virtual fleet on virtual time, driven by the same engine.Step as the real one. Requests arrive at a
// rate that changes over time, wait in one first-come-first-served queue, and are served by workers that take a while
// to boot and finish what they have before they leave. What a policy would read of it is measured on it, tick by tick,
// and what the policy decides is done to it.
//
// The queue is simulated exactly, request by request: a FIFO G/G/c queue is the times at which its workers become free
// (Kiefer and Wolfowitz). Nothing in it allocates per request, and the same seed gives the same run, bit for bit.
package sim
