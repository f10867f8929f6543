package counter

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/fleet"
)

func TestSeries(t *testing.T) {
	s := Series[int]{Window: time.Minute}
	start := time.Now()
	for _, c := range []struct {
		at     time.Duration
		life   string
		counts int
		from   int
		over   time.Duration
		q      fleet.Quality
	}{
		{0, "a", 10, 0, 0, fleet.Sparse},
		{15 * time.Second, "a", 11, 10, 15 * time.Second, fleet.Fresh},
		{30 * time.Second, "a", 12, 10, 30 * time.Second, fleet.Fresh},
		{45 * time.Second, "a", 13, 10, 45 * time.Second, fleet.Fresh},
		{60 * time.Second, "a", 14, 10, 60 * time.Second, fleet.Fresh},
		{74999 * time.Millisecond, "a", 15, 11, 59999 * time.Millisecond, fleet.Fresh}, // a tick that comes early
		{90002 * time.Millisecond, "a", 16, 12, 60002 * time.Millisecond, fleet.Fresh},
		{120 * time.Second, "b", 17, 0, 0, fleet.Missing}, // counts on, and from 0
		{135 * time.Second, "b", 18, 17, 15 * time.Second, fleet.Fresh},
		{300 * time.Second, "b", 50, 18, 165 * time.Second, fleet.Stale},
		{315 * time.Second, "b", 51, 50, 15 * time.Second, fleet.Fresh},
	} {
		from, over, q := s.Add(start.Add(c.at), c.life, c.counts)
		if from != c.from || over != c.over || q != c.q {
			t.Errorf("at %s: since %d over %s, %s; want %d over %s, %s", c.at, from, over, q, c.from, c.over, c.q)
		}
	}
	s.Forget()
	if _, _, q := s.Add(start.Add(330*time.Second), "c", 1); q != fleet.Sparse {
		t.Errorf("after Forget %s", q)
	}
}

// However often it is read, little is kept and the comparison goes back by the window, nearly.
func TestSeriesIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Series[int]{Window: time.Minute}
		start, at := time.Now(), time.Duration(0)
		for i := range rapid.IntRange(1, 400).Draw(t, "reads") {
			at += time.Duration(rapid.IntRange(1, 20_000).Draw(t, "ms")) * time.Millisecond
			_, over, q := s.Add(start.Add(at), "", i)
			if len(s.points) > 2*perWindow+2 {
				t.Fatalf("%d points", len(s.points))
			}
			if i > 0 && (q != fleet.Fresh || over <= 0 || over > s.Window+20*time.Second) {
				t.Fatalf("%s over %s", q, over)
			}
			if at > 3*s.Window && over < s.Window-20*time.Second {
				t.Fatalf("only over %s", over)
			}
		}
	})
}
