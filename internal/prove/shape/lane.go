package shape

import (
	"net"
	"os"
	"sync"
	"time"
)

// lane is one direction of one connection: a sender puts bytes in, which wait for the window, cross the link and come out at
// their time.
type lane struct {
	cross func(n int) (at time.Time, lost bool)
	rtt   time.Duration
	limit int // bytes that may be on their way or lie unread

	mu        sync.Mutex
	queue     []segment // not yet taken
	held      int       // bytes in queue
	acks      []ack     // to come
	flight    int       // bytes in acks
	window    int       // congestion window, bytes
	threshold int       // where slow start ends
	calm      time.Time // until then a loss is taken for part of the last
	last      time.Time // when the last segment arrives
	refuse    error     // what a sender is told
	end       error     // what a taker is told after the queue, from ends on
	ends      time.Time
	putBy     time.Time // deadlines; zero is none
	takeBy    time.Time

	room chan struct{} // wakes the sender
	more chan struct{} // wakes the taker
}

type segment struct {
	data []byte
	at   time.Time
}

type ack struct {
	n  int
	at time.Time
}

func newLane(l *Link, w *way) lane {
	return lane{cross: func(n int) (time.Time, bool) { return l.cross(w, n, l.profile.RTT) }, rtt: l.profile.RTT, limit: l.window(w),
		window: 10 * payload, threshold: l.window(w), room: make(chan struct{}, 1), more: make(chan struct{}, 1)}
}

// put sends p, and returns when the last of it is on its way.
func (l *lane) put(p []byte) (sent int, err error) {
	for {
		l.mu.Lock()
		if l.refuse != nil {
			defer l.mu.Unlock()
			return sent, l.refuse
		}
		if passed(l.putBy) {
			defer l.mu.Unlock()
			return sent, os.ErrDeadlineExceeded
		}
		n := l.admit(p[sent:])
		sent += n
		until := l.putBy
		if len(l.acks) > 0 {
			until = sooner(until, l.acks[0].at)
		}
		l.mu.Unlock()
		if sent == len(p) {
			return sent, nil
		}
		if n == 0 {
			await(l.room, until)
		}
	}
}

// admit sends as much of p as the windows allow, in whole segments but for the last, and tells how much that was.
func (l *lane) admit(p []byte) int {
	l.acknowledge(time.Now())
	free := min(l.window-l.flight, l.limit-l.held)
	if free < len(p) {
		free -= free % payload
	}
	n := max(min(free, len(p)), 0)
	data := append([]byte(nil), p[:n]...)
	for len(data) > 0 {
		s := data[:min(payload, len(data))]
		data = data[len(s):]
		at, lost := l.cross(len(s))
		l.last = later(l.last, at)
		l.queue = append(l.queue, segment{s, l.last})
		l.acks = append(l.acks, ack{len(s), l.last.Add(l.rtt / 2)})
		l.held += len(s)
		l.flight += len(s)
		if now := time.Now(); lost && now.After(l.calm) {
			l.threshold = max(l.window/2, 2*payload)
			l.window, l.calm = l.threshold, now.Add(l.rtt)
		}
	}
	if n > 0 {
		signal(l.more)
	}
	return n
}

// acknowledge opens the window by what has been acknowledged until now.
func (l *lane) acknowledge(now time.Time) {
	for len(l.acks) > 0 && !l.acks[0].at.After(now) {
		n := l.acks[0].n
		l.acks = l.acks[1:]
		l.flight -= n
		if l.window < l.threshold {
			l.window += n
		} else {
			l.window += max(payload*n/l.window, 1)
		}
		l.window = min(l.window, l.limit)
	}
}

// take copies what has arrived into p; it waits until there is something.
func (l *lane) take(p []byte) (n int, err error) {
	for {
		l.mu.Lock()
		if passed(l.takeBy) {
			defer l.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		now := time.Now()
		for len(l.queue) > 0 && n < len(p) && !l.queue[0].at.After(now) {
			s := &l.queue[0]
			m := copy(p[n:], s.data)
			n += m
			if s.data = s.data[m:]; len(s.data) == 0 {
				l.queue = l.queue[1:]
			}
		}
		l.held -= n
		until := l.takeBy
		switch {
		case n > 0 || len(p) == 0:
			signal(l.room)
			l.mu.Unlock()
			return n, nil
		case len(l.queue) > 0:
			until = sooner(until, l.queue[0].at)
		case l.end != nil && !l.ends.After(now):
			defer l.mu.Unlock()
			return 0, l.end
		case l.end != nil:
			until = sooner(until, l.ends)
		}
		l.mu.Unlock()
		await(l.more, until)
	}
}

// finish ends the lane in order: the taker gets all that was sent and then, when the last segment arrives, end.
func (l *lane) finish(end error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		return
	}
	at, _ := l.cross(0)
	l.refuse, l.end, l.ends = net.ErrClosed, end, later(l.last, at)
	l.wake()
}

// abandon ends the lane at once, for both sides.
func (l *lane) abandon(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue, l.held, l.acks, l.flight = nil, 0, nil, 0
	l.refuse, l.end, l.ends = why, why, time.Time{}
	l.wake()
}

// by sets one of the lane's two deadlines.
func (l *lane) by(deadline *time.Time, t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*deadline = t
	l.wake()
}

// over is when the last of what was sent arrives.
func (l *lane) over() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return later(l.ends, time.Now())
}

func (l *lane) wake() {
	signal(l.room)
	signal(l.more)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// await returns when woken or at until, unless that is zero.
func await(woken <-chan struct{}, until time.Time) {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-woken:
	case <-due:
	}
}

func passed(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

// sooner is the earlier of a, which may be zero for never, and b.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
