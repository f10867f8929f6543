package tables

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/fleet"
)

var begin = time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)

func TestReadingsRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var blob []byte
		var wanted []fleet.Reading
		for id := range int64(rapid.IntRange(0, 20).Draw(r, "n")) {
			reading := fleet.Reading{Quality: fleet.Quality(rapid.IntRange(0, 3).Draw(r, "quality")), Time: begin}
			if reading.Quality == fleet.Fresh || reading.Quality == fleet.Stale {
				reading.Value = rapid.Float64Range(-maxValue, maxValue).Draw(r, "value")
			}
			if rapid.Bool().Draw(r, "dated") {
				reading.Time = begin.Add(time.Duration(rapid.Int64().Draw(r, "after")))
			}
			blob = appendReading(blob, id*1000, reading, begin)
			wanted = append(wanted, reading)
		}
		for i, want := range wanted {
			id, got, rest, err := nextReading(blob, begin)
			if err != nil || id != int64(i)*1000 || got != want {
				r.Fatalf("got %d %+v (%v), want %d %+v", id, got, err, i*1000, want)
			}
			blob = rest
		}
		if len(blob) != 0 {
			r.Fatalf("%d bytes left", len(blob))
		}
	})
}

func FuzzReadings(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendReading(nil, 1, fleet.Reading{Value: 72.5, Quality: fleet.Fresh}, begin))
	f.Add(appendReading(nil, 1<<40, fleet.Reading{Value: -1, Time: begin.Add(-time.Hour), Quality: fleet.Stale}, begin))
	f.Fuzz(func(t *testing.T, blob []byte) {
		for len(blob) > 0 {
			_, r, rest, err := nextReading(blob, begin)
			if err != nil {
				return
			}
			if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) || r.Quality > fleet.Fresh {
				t.Fatalf("%+v", r)
			}
			if len(rest) >= len(blob) {
				t.Fatal("nothing was taken off")
			}
			blob = rest
		}
	})
}
