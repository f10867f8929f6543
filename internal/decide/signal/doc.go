// Package signal turns readings into datapoints: sliding windows, quantiles, the statistic of one period, and
// CloudWatch's M-of-N alarm evaluation with its four missing-data policies. It is pure: no clock, no I/O.
package signal
