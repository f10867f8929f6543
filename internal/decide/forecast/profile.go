package forecast

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Config is how a Profile learns. Zero fields take the defaults.
type Config struct {
	Bucket   time.Duration // length of one bucket of the week: 5 minutes to 6 hours, dividing a day; default 15 minutes
	MinWeeks int           // weeks in which a bucket must have been measured before it is known, 1..8; default 2
	Horizon  time.Duration // the look-ahead at which the band is calibrated, 0..24 h; default 5 minutes
	Miss     float64       // share of measurements that may lie above the band, and below it; default 0.05
}

func (c Config) withDefaults() Config {
	if c.Bucket == 0 {
		c.Bucket = 15 * time.Minute
	}
	if c.MinWeeks == 0 {
		c.MinWeeks = 2
	}
	if c.Horizon == 0 {
		c.Horizon = 5 * time.Minute
	}
	if c.Miss == 0 {
		c.Miss = 0.05
	}
	return c
}

// Validate reports the first thing wrong with a configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Bucket < 5*time.Minute || c.Bucket > 6*time.Hour || (24*time.Hour)%c.Bucket != 0 || c.Bucket%time.Minute != 0:
		return fmt.Errorf("bucket: %v does not divide a day into parts of 5m to 6h; write 15m", c.Bucket)
	case c.MinWeeks < 1 || c.MinWeeks > weeks:
		return fmt.Errorf("min_weeks: %d is not within 1 to %d", c.MinWeeks, weeks)
	case c.Horizon < 0 || c.Horizon > 24*time.Hour:
		return fmt.Errorf("horizon: %v is not within 0s to 24h", c.Horizon)
	case !(c.Miss > 0 && c.Miss <= 0.25):
		return fmt.Errorf("miss: %g is not above 0 and at most 0.25", c.Miss)
	}
	return nil
}

const (
	weeks = 8 // the latest in which anything was measured
	// An older week counts less: half as much after 3 weeks.
	ageing = 0.7937
	// The recent ratio of measured to profile forgets half in 30 minutes, and half of it is expected to have gone four hours ahead.
	levelHalfLife  = 30 * time.Minute
	levelReach     = 4 * time.Hour
	levelPrior     = 10 * time.Minute // of the profile itself, so that a few requests at night do not double the morning
	levelLimit     = 4.0
	narrowest      = 0.05 // of the root of the rate, about 10 % of the rate
	conformalStep  = 0.05
	conformalLimit = 8.0
	heldMemory     = 1.0 / 96 // a day of the default buckets
)

// Profile is what the rate is like at each time of the local week. Within a bucket the middle is the median over the weeks, the
// newer counting more, and the scatter is that of the bucket and its two neighbours, taken of the roots of the rates, where it
// depends least on the rate. To that come the level, the recent ratio of measured to profile, and a widening of the band that
// follows how often it was missed (adaptive conformal inference: Gibbs and Candès 2021).
//
// One odd day or holiday among three or more weeks does not move a median. A bucket not measured in a week is missing in it, not
// zero; a week without any measurement does not count as one, so that a profile outlives a long power cut.
type Profile struct {
	config Config
	zone   *time.Location

	rates []rate16 // [bucket*weeks + slot]
	slot  int      // of the newest week
	week  int64    // its number; undefined while empty
	empty bool

	open     int64   // start of the bucket being filled, Unix seconds
	covered  float64 // s
	requests float64

	last      int64 // end of the newest sample, Unix seconds
	measured  float64
	predicted float64 // both decaying, requests

	up, down float64 // widening of the band's two sides
	held     float64 // share of the latest measurements within the band
	scored   uint64
	issued   []issue // forecasts whose time has not come, oldest first
}

// issue is a band that was forecast for a bucket.
type issue struct {
	start     int64
	low, high float64
}

// Band is a forecast of the mean rate over a bucket, in requests per second. Unless Known the rest means nothing.
type Band struct {
	Known  bool    `json:"known"`
	Low    float64 `json:"low"`
	Median float64 `json:"median"`
	High   float64 `json:"high"`
	Weeks  int     `json:"weeks"` // that it rests on
	Level  float64 `json:"level"` // by which the profile was corrected
}

// Sample is a measured rate.
type Sample struct {
	End  time.Time
	Span time.Duration // that it was measured over, up to a day
	Rate float64       // requests per second
	Odd  bool          // a day that is like no other, such as a holiday: not to be learned from
}

// New returns an empty profile of the weeks in a zone.
func New(c Config, zone *time.Location) (*Profile, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if zone == nil {
		return nil, errors.New("a profile needs a time zone")
	}
	p := &Profile{config: c.withDefaults(), zone: zone, empty: true, up: 1, down: 1}
	p.rates = make([]rate16, p.buckets()*weeks)
	for i := range p.rates {
		p.rates[i] = missing
	}
	return p, nil
}

func (p *Profile) buckets() int { return int(7 * 24 * time.Hour / p.config.Bucket) }

// Observe learns from a sample. Samples come in the order of time; one that ends before the newest begins a new count when the
// clock went back by more than a day, and is else ignored, as is what is no measurement.
func (p *Profile) Observe(s Sample) {
	if s.Span <= 0 || s.Span > 24*time.Hour || !(s.Rate >= 0) || s.Rate > 1e12 {
		return
	}
	if back := p.last - s.End.Unix(); p.last != 0 && back >= 0 {
		if back < 86400 {
			return
		}
		p.open, p.covered, p.requests, p.issued = 0, 0, 0, p.issued[:0]
		p.measured, p.predicted = 0, 0
		p.last = s.End.Unix()
	}
	from := s.End.Add(-s.Span)
	p.enter(from) // first, so that no forecast that is due knows of this sample
	p.correct(s)
	p.last = s.End.Unix()
	for from.Before(s.End) {
		p.enter(from)
		to := time.Unix(p.open, 0).Add(p.config.Bucket)
		full := !to.After(s.End)
		if !full {
			to = s.End
		}
		if !s.Odd {
			part := to.Sub(from).Seconds()
			p.covered += part
			p.requests += part * s.Rate
		}
		if full {
			p.close()
		}
		from = to
	}
}

// enter begins the bucket of t, after closing the one before.
func (p *Profile) enter(t time.Time) {
	if start := p.start(t); start != p.open {
		p.close()
		p.open = start
	}
}

// correct carries the level on.
func (p *Profile) correct(s Sample) {
	b := p.at(s.End.Add(-s.Span / 2))
	if !b.Known {
		return
	}
	if p.measured > 0 || p.predicted > 0 {
		fade := math.Exp2(-float64(s.End.Unix()-p.last) / levelHalfLife.Seconds())
		p.measured *= fade
		p.predicted *= fade
	}
	span := s.Span.Seconds()
	p.measured += s.Rate * span
	p.predicted += b.Median * span
}

// level is the correction for a forecast of rate m at t.
func (p *Profile) level(t time.Time, m float64) float64 {
	prior := m * levelPrior.Seconds()
	if !(p.predicted+prior > 0) {
		return 1
	}
	ratio := (p.measured + prior) / (p.predicted + prior)
	ahead := max(float64(t.Unix()-p.last), 0)
	return math.Pow(min(max(ratio, 1/levelLimit), levelLimit), math.Exp2(-ahead/levelReach.Seconds()))
}

// close files the bucket that was being filled, when at least half of it was measured, scores the forecast that was made for
// it, and makes the one that is due.
func (p *Profile) close() {
	covered, requests := p.covered, p.requests
	p.covered, p.requests = 0, 0
	if covered == 0 {
		return
	}
	for len(p.issued) > 0 && p.issued[0].start < p.open {
		p.issued = append(p.issued[:0], p.issued[1:]...)
	}
	start := time.Unix(p.open, 0)
	if covered >= p.config.Bucket.Seconds()/2 {
		rate := requests / covered
		p.score(p.open, rate)
		p.file(start, rate)
	}
	due := p.start(start.Add(p.config.Bucket + p.config.Horizon))
	if b := p.At(time.Unix(due, 0).Add(p.config.Bucket / 2)); b.Known {
		p.issued = append(p.issued, issue{due, b.Low, b.High})
	}
}

func (p *Profile) file(start time.Time, rate float64) {
	bucket, week := p.place(start)
	switch {
	case p.empty:
		p.week, p.empty = week, false
	case week != p.week:
		p.week, p.slot = week, (p.slot+1)%weeks
		for b := range p.buckets() {
			p.rates[b*weeks+p.slot] = missing
		}
	}
	p.rates[bucket*weeks+p.slot] = pack(rate)
}

// score compares a measurement with the bands that were forecast for it.
func (p *Profile) score(start int64, rate float64) {
	for len(p.issued) > 0 && p.issued[0].start == start {
		i := p.issued[0]
		p.issued = append(p.issued[:0], p.issued[1:]...)
		p.up = widen(p.up, rate > i.high, p.config.Miss)
		p.down = widen(p.down, rate < i.low, p.config.Miss)
		in := 0.0
		if rate >= i.low && rate <= i.high {
			in = 1
		}
		p.scored++
		p.held += (in - p.held) * max(heldMemory, 1/float64(p.scored))
	}
}

// widen makes the band wider after a miss and a little narrower after a hit, so that the share miss is missed.
func widen(by float64, missed bool, miss float64) float64 {
	step := -miss
	if missed {
		step = 1 - miss
	}
	return min(max(by*math.Exp(conformalStep*step), 1/conformalLimit), conformalLimit)
}

// Held is the share of the latest measurements that lay within the band forecast for them, of how many ever; the share counts
// about a day of them at the default bucket.
func (p *Profile) Held() (share float64, of uint64) { return p.held, p.scored }

// At forecasts the rate at t, which should lie ahead of the newest sample.
func (p *Profile) At(t time.Time) Band {
	b := p.at(t)
	if !b.Known {
		return Band{}
	}
	bucket, _ := p.place(t)
	b.Level = p.level(t, b.Median)
	b.Median *= b.Level
	low, high := p.scatter(bucket)
	root, scale := math.Sqrt(b.Median), math.Sqrt(b.Level)
	up := p.up * max(high*scale, narrowest*root)
	down := p.down * max(-low*scale, narrowest*root)
	b.High = (root + up) * (root + up)
	b.Low = max(root-down, 0) * max(root-down, 0)
	return b
}

// at is the profile's middle at t, between the middles of the buckets around.
func (p *Profile) at(t time.Time) Band {
	bucket, _ := p.place(t)
	own, n := p.median(bucket)
	if n < p.config.MinWeeks {
		return Band{}
	}
	share := p.within(t) - 0.5
	side := bucket + 1
	if share < 0 {
		side, share = bucket-1, -share
	}
	if other, n := p.median(p.wrap(side)); n >= p.config.MinWeeks {
		own += share * (other - own)
	}
	return Band{Known: true, Median: own, Weeks: n}
}

func (p *Profile) wrap(bucket int) int { return (bucket + p.buckets()) % p.buckets() }

// median is the weighted median of a bucket over the weeks, and in how many it was measured.
func (p *Profile) median(bucket int) (float64, int) {
	var s sorted
	p.each(bucket, func(rate, weight float64) { s.add(rate, weight) })
	return s.quantile(0.5), s.n
}

// each visits what a bucket was in the weeks, with the weight of its age.
func (p *Profile) each(bucket int, visit func(rate, weight float64)) {
	weight := 1.0
	for age := range weeks {
		if r := p.rates[bucket*weeks+(p.slot-age+weeks)%weeks]; r != missing {
			visit(r.value(), weight)
		}
		weight *= ageing
	}
}

// scatter is how far below and above its middle the root of the rate lies, in a bucket and its neighbours.
func (p *Profile) scatter(bucket int) (low, high float64) {
	var s sorted
	for b := bucket - 1; b <= bucket+1; b++ {
		b := p.wrap(b)
		m, _ := p.median(b)
		root := math.Sqrt(m)
		p.each(b, func(rate, weight float64) { s.add(math.Sqrt(rate)-root, weight) })
	}
	return s.quantile(p.config.Miss), s.quantile(1 - p.config.Miss)
}

// sorted is a few weighted values in order.
type sorted struct {
	value, weight [3 * weeks]float64
	n             int
	total         float64
}

func (s *sorted) add(v, weight float64) {
	at := s.n
	for at > 0 && s.value[at-1] > v {
		s.value[at], s.weight[at] = s.value[at-1], s.weight[at-1]
		at--
	}
	s.value[at], s.weight[at] = v, weight
	s.n++
	s.total += weight
}

// quantile is the first value by which the share q of the weight is reached; 0 when there is none.
func (s *sorted) quantile(q float64) float64 {
	if s.n == 0 {
		return 0
	}
	sum := 0.0
	for i := range s.n - 1 {
		sum += s.weight[i]
		if sum >= q*s.total {
			return s.value[i]
		}
	}
	return s.value[s.n-1]
}

// place is the bucket of the local week in which t falls, and the number of that week.
func (p *Profile) place(t time.Time) (bucket int, week int64) {
	local := t.In(p.zone)
	y, m, d := local.Date()
	days := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400 // a Thursday is 0
	hour, minute, _ := local.Clock()
	ofDay := (hour*60 + minute) / int(p.config.Bucket/time.Minute)
	perDay := p.buckets() / 7
	return int(((days%7)+7)%7)*perDay + ofDay, floorDiv(days, 7)
}

// within is how far into its bucket t lies, 0..1, by the clock on the wall.
func (p *Profile) within(t time.Time) float64 {
	hour, minute, second := t.In(p.zone).Clock()
	length := int(p.config.Bucket / time.Second)
	return float64((hour*3600+minute*60+second)%length) / float64(length)
}

// start is when the bucket of t began, as Unix seconds; a bucket cut off by a change of clocks begins where it would have.
func (p *Profile) start(t time.Time) int64 {
	return t.Unix() - int64(math.Round(p.within(t)*p.config.Bucket.Seconds()))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// rate16 is a rate to 8 bits of precision (the upper half of a float32): 0.4 %, far below what a rate varies by.
type rate16 uint16

const missing rate16 = 0xffff

func pack(v float64) rate16 { return rate16((math.Float32bits(float32(v)) + 0x8000) >> 16) }

func (r rate16) value() float64 { return float64(math.Float32frombits(uint32(r) << 16)) }
