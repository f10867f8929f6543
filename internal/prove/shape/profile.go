package shape

import "time"

// Profile is what a network does to one phone's traffic. A zero field does nothing: the zero Profile is the bare network.
type Profile struct {
	Name     string
	Down, Up float64       // bit/s, headers included
	RTT      time.Duration // of an empty segment, without the time it takes to send
	Jitter   time.Duration // each way a segment comes up to so much later
	Loss     float64       // share of segments that are lost and sent again, below 1
}

// Profiles are the networks with a name. Down and Up of the first are the requirements' "stable 3G"; the next two are the 3G and
// the slow 3G that browsers and page testers imitate; the last is the requirements' where it is not stable: a segment comes up to a tenth
// of a second late, and one in a hundred is lost, so that what follows it on its connection stalls for a round trip.
var Profiles = []Profile{
	{Name: "3g", Down: 384e3, Up: 128e3, RTT: 300 * time.Millisecond},
	{Name: "3g-fast", Down: 1600e3, Up: 768e3, RTT: 300 * time.Millisecond},
	{Name: "3g-slow", Down: 400e3, Up: 400e3, RTT: 400 * time.Millisecond},
	{Name: "3g-rough", Down: 384e3, Up: 128e3, RTT: 300 * time.Millisecond, Jitter: 100 * time.Millisecond, Loss: 0.01},
}

// Named finds one of Profiles.
func Named(name string) (Profile, bool) {
	for _, p := range Profiles {
		if p.Name == name {
			return p, true
		}
	}
	return Profile{}, false
}
