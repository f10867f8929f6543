package sim

import "math"

// Random is a stream of random numbers (splitmix64): the same seed, the same stream.
type Random struct{ state uint64 }

// NewRandom returns the stream of a seed. Streams of one seed with different names are independent of each other, so that
// two policies meet the same arrivals and service times (common random numbers).
func NewRandom(seed uint64, name string) *Random {
	r := &Random{seed}
	for i := range len(name) {
		r.state = r.Next() ^ uint64(name[i])
	}
	return r
}

// Next returns 64 random bits.
func (r *Random) Next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Float returns a number from 0 to 1, 1 excluded.
func (r *Random) Float() float64 { return float64(r.Next()>>11) / (1 << 53) }

const (
	cellBits = 12
	cells    = 1 << cellBits
)

// Law is a distribution of positive times as a table of its quantiles, so that a variate costs one look-up and one
// multiplication. Between two quantiles of the table it is straight; the last of its 4,096 parts, which weighs heavily where
// a few requests take long, has such a table of its own. Its mean is that of the distribution exactly.
type Law struct {
	body, tail [cells + 1]float64
	mean       float64
}

// NewLaw tabulates a distribution by its quantile function (0 < q < 1) and mean, in seconds.
func NewLaw(quantile func(q float64) float64, mean float64) *Law {
	l := &Law{mean: mean}
	const least = 1.0 / cells / cells / 4 // the table's ends are not the distribution's, which may be infinite
	for i := range cells {
		l.body[i] = quantile(max(float64(i)/cells, least))
	}
	for i := range l.tail {
		l.tail[i] = quantile(1 - max((1-float64(i)/cells)/cells, least))
	}
	l.body[cells] = l.tail[cells]
	sum := 0.0
	for i := range cells - 1 {
		sum += (l.body[i] + l.body[i+1]) / 2
	}
	for i := range cells {
		sum += (l.tail[i] + l.tail[i+1]) / 2 / cells
	}
	if scale := mean * cells / sum; scale > 0 && !math.IsInf(scale, 0) {
		for i := range l.body {
			l.body[i] *= scale
			l.tail[i] *= scale
		}
	}
	return l
}

// Mean is the mean in seconds.
func (l *Law) Mean() float64 { return l.mean }

// quantile is the time within which a share of the services is done.
func (l *Law) quantile(q float64) float64 { return l.of(uint32(min(q*(1<<32), 1<<32-1))) }

// of turns 32 random bits into a variate.
func (l *Law) of(bits uint32) float64 {
	table, i := &l.body, bits>>(32-cellBits)
	if i == cells-1 {
		table, bits = &l.tail, bits<<cellBits
		i = bits >> (32 - cellBits)
	}
	lo := table[i]
	return lo + (table[i+1]-lo)*float64(bits<<cellBits)*(1.0/(1<<32))
}

// Exponential is the law of the times between arrivals that know nothing of each other, and of services with cv 1.
func Exponential(mean float64) *Law {
	return NewLaw(func(q float64) float64 { return -mean * math.Log1p(-q) }, mean)
}

// Lognormal is the usual shape of service times: most are short, a few are long. cv is the coefficient of variation.
func Lognormal(mean, cv float64) *Law {
	if cv == 0 {
		return NewLaw(func(float64) float64 { return mean }, mean)
	}
	sigma := math.Sqrt(math.Log1p(cv * cv))
	mu := math.Log(mean) - sigma*sigma/2
	return NewLaw(func(q float64) float64 { return math.Exp(mu + sigma*math.Sqrt2*math.Erfinv(2*q-1)) }, mean)
}
