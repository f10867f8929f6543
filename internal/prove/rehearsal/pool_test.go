package rehearsal

import (
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/prove/http1"
)

// staff is a pool whose service answers after a while, or stalls.
type staff struct {
	pool
	mu               sync.Mutex
	hired, connected int
	late             time.Duration // the longest from an arrival to its visit
	visits           map[*visitor]int
	stall            chan struct{} // closed when it is over; nil: there is none
	start            time.Time
}

func newStaff(paced bool, most int) *staff {
	s := &staff{visits: map[*visitor]int{}, start: time.Now()}
	s.pool = pool{
		paced: paced, most: most,
		hire: func() (*visitor, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.hired++
			return &visitor{client: http1.New(&url.URL{Scheme: "http", Host: "nowhere"}, nil, nil)}, nil
		},
		connect: func(*visitor) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.connected++
		},
		visit: func(v *visitor, a arrival) {
			s.mu.Lock()
			s.late = max(s.late, time.Since(s.start)-a.at)
			s.visits[v]++
			stall := s.stall
			s.mu.Unlock()
			time.Sleep(200 * time.Microsecond)
			if stall != nil {
				<-stall
			}
		},
	}
	return s
}

// come has n arrivals come at a rate.
func (s *staff) come(n int, rate float64) {
	for range n {
		s.send(arrival{at: time.Since(s.start)}, rate)
		time.Sleep(time.Duration(float64(time.Second) / rate))
	}
}

// In a stall that the reserve covers nobody waits for a connection, and nobody is hired for it in advance where few come.
func TestReserve(t *testing.T) {
	for name, c := range map[string]struct {
		paced bool
		rate  float64
		most  int
		stall time.Duration
		hired int           // before the stall, at most 2 more than that
		late  time.Duration // at most
	}{
		"a stall as long as the reserve lasts": {true, 2000, 2000, cover, 100, 0},
		"one twice as long":                    {true, 2000, 2000, 2 * cover, 100, pace},
		"few arrivals":                         {true, 19, 2000, time.Second, 1, 0},
		"few connections allowed":              {true, 2000, 40, 0, 40, 0},
		"connections of their own":             {false, 2000, 2000, cover, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStaff(c.paced, c.most)
				s.come(int(c.rate), c.rate)
				synctest.Wait()
				if s.hired < c.hired || s.hired > c.hired+2 {
					t.Errorf("%d were hired, not %d", s.hired, c.hired)
				}
				if c.paced != (s.connected > 0) && c.rate >= 20 {
					t.Errorf("%d of them were connected in advance", s.connected)
				}
				s.mu.Lock()
				s.late, s.stall = 0, make(chan struct{})
				s.mu.Unlock()
				s.come(int(c.rate*c.stall.Seconds()), c.rate)
				close(s.stall)
				s.leave()
				if s.late > c.late {
					t.Errorf("the latest began %s after its time", s.late)
				}
			})
		})
	}
}

// Everybody in the reserve is called now and then, so that no server closes an idle connection.
func TestNobodyIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStaff(true, 2000)
		s.come(2000, 2000)
		s.mu.Lock()
		clear(s.visits)
		s.mu.Unlock()
		s.come(int(2*oldest*2000*cover.Seconds()), 2000)
		s.leave()
		if len(s.visits) != s.hired {
			t.Errorf("%d of %d visitors were called in %s", len(s.visits), s.hired, 2*oldest*cover)
		}
	})
}
