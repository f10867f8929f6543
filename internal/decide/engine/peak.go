package engine

import "time"

// Peak is the largest of the values pushed within a window of time, to an eighth of its length. The zero value is empty.
type Peak struct {
	First time.Time  `json:"first,omitzero"` // since when values came without a gap as long as the window
	Start time.Time  `json:"start,omitzero"` // of the part being filled
	Most  [9]float64 `json:"most"`           // by part, the newest first; values are 0 and above
}

func (p *Peak) push(now time.Time, window time.Duration, v float64) {
	width := max(window/8, 1)
	if p.First.IsZero() || now.Sub(p.Start) >= width*time.Duration(len(p.Most)) {
		*p = Peak{First: now, Start: now}
	}
	for now.Sub(p.Start) >= width {
		copy(p.Most[1:], p.Most[:])
		p.Most[0] = 0
		p.Start = p.Start.Add(width)
	}
	p.Most[0] = max(p.Most[0], v)
}

func (p *Peak) max() float64 {
	most := 0.0
	for _, v := range p.Most {
		most = max(most, v)
	}
	return most
}

// covers reports whether values came for as long as the window.
func (p *Peak) covers(now time.Time, window time.Duration) bool {
	return !p.First.IsZero() && now.Sub(p.First) >= window
}

func (p *Peak) shift(d time.Duration) {
	shift(&p.First, d)
	shift(&p.Start, d)
}
