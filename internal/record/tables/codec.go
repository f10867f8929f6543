package tables

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"tidemark/internal/fleet"
)

// The readings of one tick are a blob of entries, one for each signal:
//
//	uvarint  series id
//	byte     quality, | valued when a value follows, | dated when a time follows
//	8 bytes  value, IEEE 754, little-endian
//	varint   the reading's time, in nanoseconds after the tick's
const (
	valued  = 0x80
	dated   = 0x40
	quality = 0x3f
)

// maxValue bounds what is taken for a measurement: roll-ups of such values cannot overflow.
const maxValue = 1e200

// measured is the reading as it is kept: what is no number is missing, and what is missing has no value.
func measured(r fleet.Reading) fleet.Reading {
	if (r.Quality == fleet.Fresh || r.Quality == fleet.Stale) && !(math.Abs(r.Value) <= maxValue) { // also NaN
		r.Quality = fleet.Missing
	}
	if r.Quality != fleet.Fresh && r.Quality != fleet.Stale {
		r.Value = 0
	}
	return r
}

// appendReading adds one entry to a tick's blob.
func appendReading(b []byte, series int64, r fleet.Reading, tick time.Time) []byte {
	r = measured(r)
	flags := byte(r.Quality)
	if r.Quality == fleet.Fresh || r.Quality == fleet.Stale {
		flags |= valued
	}
	after := r.Time.Sub(tick)
	if r.Time.IsZero() || !tick.Add(after).Equal(r.Time) { // none given, or out of range
		after = 0
	}
	if after != 0 {
		flags |= dated
	}
	b = append(binary.AppendUvarint(b, uint64(series)), flags)
	if flags&valued != 0 {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.Value))
	}
	if flags&dated != 0 {
		b = binary.AppendVarint(b, int64(after))
	}
	return b
}

var errBlob = errors.New("malformed readings")

// nextReading takes the first entry off a tick's blob.
func nextReading(b []byte, tick time.Time) (series int64, r fleet.Reading, rest []byte, err error) {
	id, n := binary.Uvarint(b)
	if n <= 0 || id > math.MaxInt64 || n == len(b) {
		return 0, r, nil, errBlob
	}
	flags := b[n]
	b = b[n+1:]
	r = fleet.Reading{Quality: fleet.Quality(flags & quality), Time: tick}
	if r.Quality > fleet.Fresh {
		return 0, r, nil, errBlob
	}
	if flags&valued != 0 {
		if len(b) < 8 {
			return 0, r, nil, errBlob
		}
		r.Value = math.Float64frombits(binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	if flags&dated != 0 {
		after, n := binary.Varint(b)
		if n <= 0 {
			return 0, r, nil, errBlob
		}
		r.Time = tick.Add(time.Duration(after))
		b = b[n:]
	}
	return int64(id), measured(r), b, nil
}

// A time is stored as nanoseconds since 1970. Times outside 1970..2262 are refused: a journal is no place for them.
var errTime = errors.New("its time is outside the years 1970 to 2261: set the clock")

var lastTime = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)

func toNanos(t time.Time) (int64, error) {
	if t.Unix() < 0 || !t.Before(lastTime) {
		return 0, errTime
	}
	return t.UnixNano(), nil
}

func fromNanos(ns int64) time.Time { return time.Unix(0, ns).UTC() }
