package lead

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errLapsed  = errors.New("lapsed")
	errDeposed = errors.New("deposed")
)

func term(t *testing.T) (*Term, func() time.Duration) {
	begin := time.Now()
	uptime := func() time.Duration { return time.Since(begin) }
	l := NewTerm(6*time.Second, uptime, errLapsed)
	t.Cleanup(func() { l.Depose(errDeposed) })
	return l, uptime
}

// What is done under the lead ends when it lapses, counted from when the last proof began; a later proof lets others begin.
func TestTermLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, uptime := term(t)
		if err := l.Held(); !errors.Is(err, errLapsed) {
			t.Errorf("before any proof: %v", err)
		}
		time.Sleep(time.Second)
		began := uptime()
		time.Sleep(2 * time.Second) // the proof takes that long
		l.Extend(began)
		doing := l.During(t.Context())
		time.Sleep(4*time.Second - time.Nanosecond)
		if l.Held() != nil || doing.Err() != nil {
			t.Errorf("within 6 s of the proof: %v, %v", l.Held(), doing.Err())
		}
		time.Sleep(time.Nanosecond)
		<-doing.Done()
		if err := l.Held(); !errors.Is(err, errLapsed) || doing.Err() == nil {
			t.Errorf("after 6 s: %v, %v", err, doing.Err())
		}
		l.Extend(uptime())
		l.Extend(began) // an older proof that is heard of late takes nothing away
		if l.Held() != nil || l.During(t.Context()).Err() != nil || doing.Err() == nil {
			t.Errorf("proved anew: %v; what was cut stays so: %v", l.Held(), doing.Err())
		}
	})
}

// A process that stood still hears of the end from the context itself, before any timer fires.
func TestTermAfterStandingStill(t *testing.T) {
	now := time.Duration(0)
	l := NewTerm(time.Hour, func() time.Duration { return now }, errLapsed)
	defer l.Depose(errDeposed)
	l.Extend(0)
	doing := l.During(t.Context())
	now = time.Hour
	if doing.Err() == nil {
		t.Error("the context still vouches for the lead")
	}
}

// Deposed is for good, and the first reason stays.
func TestTermDeposed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, uptime := term(t)
		l.Extend(uptime())
		doing := l.During(t.Context())
		l.Depose(errDeposed)
		l.Depose(errors.New("again"))
		l.Extend(uptime())
		<-l.Deposed()
		<-doing.Done()
		if !errors.Is(l.Held(), errDeposed) || !errors.Is(l.Gone(), errDeposed) || l.During(t.Context()).Err() == nil {
			t.Errorf("%v, %v", l.Held(), l.Gone())
		}
	})
}
