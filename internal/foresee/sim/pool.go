package sim

import "slices"

// pool is the workers that serve one request at a time, as the times at which each will be free, smallest first. A worker
// that boots is one that is free when it has booted.
type pool struct {
	free     []float64
	draining []float64 // when those that were told to leave are done
}

// serve hands one request, arriving at t and taking s, to the worker that is free first; it returns when it starts.
func (p *pool) serve(t, s float64) (start float64) {
	free := p.free
	start = max(t, free[0])
	end := start + s
	i := 1
	for i < len(free) && free[i] < end {
		free[i-1] = free[i]
		i++
	}
	free[i-1] = end
	return start
}

// add gives the pool a worker that serves from ready on.
func (p *pool) add(ready float64) {
	i, _ := slices.BinarySearch(p.free, ready)
	p.free = slices.Insert(p.free, i, ready)
}

// first takes away the worker that is free first, as a real target picks an idle one.
func (p *pool) first() (free float64) {
	free = p.free[0]
	p.free = slices.Delete(p.free, 0, 1)
	return free
}

// request is one that waits: when it came, and how long it will take.
type request struct{ at, service float64 }

// queue is a first-in-first-out queue that grows as it must. Its ring is a power of two long.
type queue[T any] struct {
	ring []T
	head int
	n    int
}

func (q *queue[T]) push(r T) {
	if q.n == len(q.ring) {
		bigger := make([]T, max(2*len(q.ring), 1024))
		for i := range q.n {
			bigger[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = r
	q.n++
}

// peek is what will be popped next.
func (q *queue[T]) peek() T { return q.ring[q.head] }

func (q *queue[T]) pop() T {
	r := q.ring[q.head]
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return r
}
