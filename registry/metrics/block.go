package metrics

import (
	"sync/atomic"
	"unsafe"
)

const (
	// maxRoutes is how many routes are told apart; those beyond are counted under the last name, "other".
	maxRoutes = 96
	maxName   = 80 // bytes of a route's name that are kept
)

// bounds are the upper bounds of the latency histogram, in seconds. The limits that the registry's requirements name are
// among them: 50 ms, 400 ms, 500 ms, 3 s, 10 s, 15 s and the 120 s of Odoo's limit_time_real.
var bounds = [...]float64{
	.001, .0025, .005, .01, .025, .05, .1, .2, .3, .4, .5, .75, 1, 2, 3, 5, 10, 15, 30, 60, 120,
}

// block is the layout of one slot's counters: what the workers that have had the slot counted, one after the other. One
// process writes at a time; its master reads at any time. Counters only rise. What is a gauge holds for the worker that
// is there, which sets it anew when it comes.
type block struct {
	busy       atomic.Uint64            // ns with a connection in hand
	shed       [len(shed)]atomic.Uint64 // answers of each status of shed
	inProgress atomic.Uint64            // gauge
	pool       poolBlock                //
	routed     atomic.Uint64            // how many of the routes have a name
	routes     [maxRoutes]route         //
}

type poolBlock struct {
	known  atomic.Uint64 // gauge: 1 when the worker has a pool
	open   atomic.Uint64 // gauge
	inUse  atomic.Uint64 // gauge
	waits  atomic.Uint64
	waited atomic.Uint64 // ns
}

type route struct {
	name    [maxName]byte // ends at the first 0; written before routed counts it, never after
	codes   [5]atomic.Uint64
	took    atomic.Uint64                  // ns
	buckets [len(bounds) + 1]atomic.Uint64 // not cumulative; the last is what is above all bounds
}

// shed are the statuses that turn a request away because there is too much to do.
var shed = [...]int{429, 503}

// Words is how many words one worker's counters take.
const Words = int(unsafe.Sizeof(block{}) / 8)

// layOut sees words, at least Words of them, as a block. They may be memory that another process has, too.
func layOut(words []atomic.Uint64) *block {
	return (*block)(unsafe.Pointer(unsafe.SliceData(words[:Words])))
}

func (r *route) String() string {
	for i, c := range r.name {
		if c == 0 {
			return string(r.name[:i])
		}
	}
	return string(r.name[:])
}
