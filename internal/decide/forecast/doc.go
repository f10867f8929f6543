// Package forecast looks ahead at a fleet's arrival rate: for minutes, by the trend of the latest windows (Trend), and by what
// the same time of the week was like in the weeks before (Profile). A forecast is a band, never a single figure; it is unknown
// until enough was seen, and counts how often it held. It is made to add workers early. That nobody is expected is no reason to
// remove any, so nothing here may be used to scale in.
//
// The package reads no clock and no zone files: times and zones are arguments. The same samples give the same state, bit for
// bit.
package forecast
