package forecast

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// version of the bytes; a profile written by another is refused, and learned anew.
const version = 1

// MarshalBinary writes the state: 2 bytes for each week that a bucket was measured in, and a bit for each that it was not; about
// 11 KB for 8 weeks of 15 minutes. The zone is not part of it, nor is the configuration except for the bucket.
func (p *Profile) MarshalBinary() ([]byte, error) {
	le := binary.LittleEndian
	b := make([]byte, 0, 256+len(p.rates)*17/8)
	b = append(b, version)
	b = le.AppendUint16(b, uint16(p.config.Bucket/time.Minute))
	b = append(b, byte(p.slot))
	if p.empty {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	for _, v := range []int64{p.week, p.open, p.last, int64(p.scored)} {
		b = le.AppendUint64(b, uint64(v))
	}
	for _, v := range p.figures() {
		b = le.AppendUint64(b, math.Float64bits(*v))
	}
	b = le.AppendUint16(b, uint16(len(p.issued)))
	for _, i := range p.issued {
		b = le.AppendUint64(b, uint64(i.start))
		b = le.AppendUint64(b, math.Float64bits(i.low))
		b = le.AppendUint64(b, math.Float64bits(i.high))
	}
	for at := 0; at < len(p.rates); at += weeks {
		there := byte(0)
		for i, r := range p.rates[at : at+weeks] {
			if r != missing {
				there |= 1 << i
			}
		}
		b = append(b, there)
		for _, r := range p.rates[at : at+weeks] {
			if r != missing {
				b = le.AppendUint16(b, uint16(r))
			}
		}
	}
	return b, nil
}

func (p *Profile) figures() [7]*float64 {
	return [...]*float64{&p.covered, &p.requests, &p.measured, &p.predicted, &p.up, &p.down, &p.held}
}

// UnmarshalBinary restores what MarshalBinary wrote into a profile made by New, which keeps its configuration and zone. On an
// error the profile is as it was.
func (p *Profile) UnmarshalBinary(data []byte) error {
	in := reader{b: data}
	if v := in.byte(); v != version {
		return fmt.Errorf("profile is of version %d, this is version %d", v, version)
	}
	if got := time.Duration(in.uint16()) * time.Minute; got != p.config.Bucket {
		return fmt.Errorf("profile has buckets of %v, the configuration of %v", got, p.config.Bucket)
	}
	n := *p
	n.slot = int(in.byte())
	n.empty = in.byte() != 0
	n.week, n.open, n.last, n.scored = int64(in.uint64()), int64(in.uint64()), int64(in.uint64()), in.uint64()
	for _, v := range n.figures() {
		*v = in.float()
	}
	n.issued = nil
	for range in.uint16() {
		n.issued = append(n.issued, issue{int64(in.uint64()), in.float(), in.float()})
	}
	n.rates = make([]rate16, len(p.rates))
	for at := 0; at < len(n.rates); at += weeks {
		there := in.byte()
		for i := range weeks {
			n.rates[at+i] = missing
			if there&(1<<i) != 0 {
				n.rates[at+i] = rate16(in.uint16())
				in.bad = in.bad || !(n.rates[at+i].value() >= 0)
			}
		}
	}
	if in.bad || len(in.b) > 0 || n.slot >= weeks || n.up < 1/conformalLimit || n.up > conformalLimit || n.down < 1/conformalLimit ||
		n.down > conformalLimit || n.held > 1 {
		return fmt.Errorf("profile is damaged")
	}
	*p = n
	return nil
}

// reader takes figures off bytes, and remembers when there were too few or one that cannot be.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// float reads a figure; all in a profile are finite and at least 0.
func (r *reader) float() float64 {
	v := math.Float64frombits(r.uint64())
	r.bad = r.bad || !(v >= 0) || math.IsInf(v, 0)
	return v
}
