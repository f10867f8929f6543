package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// Site is what stands around the workers: requests of several kinds, the balancer in front, and the database behind.
type Site struct {
	Routes   []Route
	Balancer Balancer
	Database Database
}

// Route is a kind of requests.
type Route struct {
	Name     string
	Share    float64 // of the load, in proportion to the other routes' shares
	Rate     float64 // requests/s of its own, beside the load
	Service  *Law    // the service times where nobody else is served: worker and database together
	Database float64 // the part of a service that is the database's, 0..1
	Priority int     // lower ones are served first, in the order that they came; nobody is interrupted
}

// Balancer holds the requests that wait for a worker.
type Balancer struct {
	Queue   int           // requests that may wait; one more is rejected
	Timeout time.Duration // after which a request that waits is abandoned; 0: never
}

// Unlimited is a queue that takes all that comes.
const Unlimited = math.MaxInt

// Database is shared by all workers, each of which waits for its query. N queries at once are done at m / (1 + Contention (m-1) +
// Coherency N (N-1)) times the pace of one alone, m being the lesser of N and Cores, in equal parts. Without Cores this is the Universal
// Scalability Law; without the other two it is processor sharing.
type Database struct {
	Cores       int     // queries that run at full speed at once; 0: all
	Contention  float64 // the part of the work that only one query can do at a time, 0..1
	Coherency   float64 // what each pair of queries costs
	Connections int     // queries that are let in at once, as by a pooler; the others wait in their order; 0: all
}

// capacity is the work that n queries at once are done with, in seconds of a lonely one's work a second.
func (d *Database) capacity(n int) float64 {
	m := float64(n)
	if d.Cores > 0 {
		m = min(m, float64(d.Cores))
	}
	return m / (1 + d.Contention*(m-1) + d.Coherency*float64(n)*float64(n-1))
}

// Peak is the number of queries at once with which most is done, up to limit: more only do harm.
func (d *Database) Peak(limit int) int {
	if d.Connections > 0 {
		limit = min(limit, d.Connections)
	}
	peak := 1
	for n := 2; n <= limit; n++ {
		if d.capacity(n) > d.capacity(peak) {
			peak = n
		}
	}
	return peak
}

func (s *Site) check() error {
	if len(s.Routes) == 0 {
		return errors.New("a site has at least one route")
	}
	shares := 0.0
	for _, r := range s.Routes {
		if r.Service == nil || !(r.Service.mean > 0) || !(r.Share >= 0 && r.Rate >= 0 && r.Database >= 0 && r.Database <= 1) {
			return fmt.Errorf("route %q: a service takes some time, and shares are no less than 0", r.Name)
		}
		shares += r.Share
	}
	d := &s.Database
	if !(shares > 0) || s.Balancer.Queue < 0 || s.Balancer.Timeout < 0 || d.Cores < 0 || d.Connections < 0 || !(d.Contention >= 0 && d.Contention <= 1 && d.Coherency >= 0) {
		return errors.New("some route has a share of the load, and no figure of a balancer or a database is below 0")
	}
	return nil
}

// RouteResult is what a run came to for one route.
type RouteResult struct {
	Name      string
	Requests  uint64
	Rejected  uint64
	Abandoned uint64
	Response  signal.Histogram // of those that were served, in seconds
}

// site plays a Site event by event. A request waits at the balancer, then holds a worker, which computes first and waits for the
// database then.
type site struct {
	*run
	routes    []route
	came      []float64 // requests of each
	share     float64   // the sum of all
	own       float64   // the sum of all rates
	idle      int       // workers
	busy      int
	leaving   int    // of the busy ones: who is done first leaves
	boots     agenda // when those that boot will serve
	jobs      []job
	unused    []int32 // of jobs
	lines     []line  // what waits, by priority
	waiting   int
	patience  float64 // how long, in seconds
	computing agenda
	database  database
	arrivals  *Random
	services  *Random
	unit      *Law
	next      float64 // arrival
	at        float64 // of the last event
	played    *tally  // of this tick
	ended     ended   // all
}

// route is one that is played.
type route struct {
	Route
	line      int
	requests  uint64
	rejected  uint64
	abandoned uint64
	ended     ended
}

// line is a queue of jobs of one priority.
type line struct {
	priority int
	queue[int32]
}

// job is a request that waits or is served.
type job struct {
	arrival, start float64
	compute, query float64 // seconds of work
	route          int32
}

func newSite(r *run, initial int) model {
	q := &site{
		run: r, idle: initial, unit: Exponential(1), arrivals: NewRandom(r.Seed, "arrivals"), services: NewRandom(r.Seed, "services"), patience: math.Inf(1),
		database: newDatabase(r.Site.Database), ended: newEnded(&r.Plan, 0),
	}
	if r.Site.Balancer.Timeout > 0 {
		q.patience = r.Site.Balancer.Timeout.Seconds()
	}
	var priorities []int
	for _, one := range r.Site.Routes {
		priorities = append(priorities, one.Priority)
	}
	slices.Sort(priorities)
	priorities = slices.Compact(priorities)
	for _, p := range priorities {
		q.lines = append(q.lines, line{priority: p})
	}
	for i, one := range r.Site.Routes {
		q.share += one.Share
		q.own += one.Rate
		q.routes = append(q.routes, route{Route: one, line: slices.Index(priorities, one.Priority), ended: newEnded(&r.Plan, i+1)})
	}
	q.came = make([]float64, len(q.routes))
	q.next = q.arrival()
	return q
}

// arrival is when the next request comes: in the time since the last one, as many are expected as a unit exponential variate says.
func (q *site) arrival() float64 {
	left, step := q.unit.of(uint32(q.arrivals.Next()>>32)), q.Load.Step.Seconds()
	for at := q.next; ; {
		i := int(at/step + 1e-9)
		if i >= len(q.Load.Rates) {
			return math.Inf(1)
		}
		rate, to := q.Load.Rates[i]+q.own, float64(i+1)*step
		if expected := rate * (to - at); expected < left {
			left -= expected
			at = to
			continue
		}
		return at + left/rate
	}
}

// event is what happens next.
type event uint8

const (
	arrives event = iota
	computed
	queried
	booted
	givesUp
)

func (q *site) play(end float64, now time.Time, t *tally) {
	q.database.slow = q.Faults.slowed(q.now)
	q.ended.begin()
	for i := range q.routes {
		q.routes[i].ended.begin()
	}
	q.played = t
	t.routes = q.came
	for {
		at, what := q.next, arrives
		if then := q.computing.first(); then < at {
			at, what = then, computed
		}
		if then := q.database.first(); then < at {
			at, what = then, queried
		}
		if then := q.boots.first(); then < at {
			at, what = then, booted
		}
		longest := -1
		for i := range q.lines {
			if l := &q.lines[i]; l.n > 0 {
				if then := q.jobs[l.peek()].arrival + q.patience; then < at {
					at, what, longest = then, givesUp, i
				}
			}
		}
		if at >= end {
			break
		}
		q.advance(max(at, q.at))
		switch what {
		case arrives:
			q.arrive()
		case computed:
			q.query(q.computing.pop())
		case queried:
			q.done(q.database.leave())
		case booted:
			q.boots.pop()
			q.free()
		case givesUp:
			q.abandon(longest)
		}
	}
	q.advance(end)
	q.ended.count(now)
	for i := range q.routes {
		q.routes[i].ended.count(now)
	}
	t.queued, t.working = float64(q.waiting), float64(q.busy)
	t.pooled, t.pool = float64(q.database.waiting.n), q.database.taken()
}

// advance lets time pass until something happens.
func (q *site) advance(to float64) {
	span := to - q.at
	q.at = to
	q.played.busy += span * float64(q.busy)
	q.played.computing += span * float64(len(q.computing.due))
	q.played.paid += span * float64(q.idle+q.busy+len(q.boots.due))
	q.played.database += span * q.database.load()
	q.database.advance(to)
}

// arrive takes in the request that comes now.
func (q *site) arrive() {
	bits := q.services.Next()
	rate := q.Load.Rates[min(int(q.at/q.Load.Step.Seconds()+1e-9), len(q.Load.Rates)-1)] / q.share
	of, r := float64(uint32(bits))*(1.0/(1<<32))*(rate*q.share+q.own), 0
	for ; r < len(q.routes)-1; r++ {
		if of -= rate*q.routes[r].Share + q.routes[r].Rate; of < 0 {
			break
		}
	}
	q.next = q.arrival()
	one := &q.routes[r]
	q.came[r]++
	one.requests++
	q.played.arrived++
	if q.idle == 0 && q.waiting >= q.Site.Balancer.Queue {
		one.rejected++
		q.played.failed++
		return
	}
	service := one.Service.of(uint32(bits >> 32))
	id := q.take(job{arrival: q.at, compute: service * (1 - one.Database), query: service * one.Database, route: int32(r)})
	if q.idle > 0 {
		q.idle--
		q.start(id)
		return
	}
	q.lines[one.line].push(id)
	q.waiting++
}

// take finds room for a job.
func (q *site) take(j job) int32 {
	if n := len(q.unused); n > 0 {
		id := q.unused[n-1]
		q.unused = q.unused[:n-1]
		q.jobs[id] = j
		return id
	}
	q.jobs = append(q.jobs, j)
	return int32(len(q.jobs) - 1)
}

// start gives a job to a worker.
func (q *site) start(id int32) {
	q.busy++
	j := &q.jobs[id]
	j.start = q.at
	if j.compute > 0 {
		q.computing.push(q.at+j.compute, id)
	} else {
		q.query(id)
	}
}

// query goes on to the database, if there is something to do there.
func (q *site) query(id int32) {
	if work := q.jobs[id].query; work > 0 {
		q.database.enter(id, work)
	} else {
		q.done(id)
	}
}

// done ends a job that was served.
func (q *site) done(id int32) {
	j := &q.jobs[id]
	l := late{q.at - j.arrival, j.start - j.arrival}
	q.ended.add(l)
	q.routes[j.route].ended.add(l)
	q.unused = append(q.unused, id)
	q.busy--
	q.free()
}

// free is a worker that can take the next request, or leave.
func (q *site) free() {
	if q.leaving > 0 {
		q.leaving--
		return
	}
	for i := range q.lines {
		if l := &q.lines[i]; l.n > 0 {
			q.waiting--
			q.start(l.pop())
			return
		}
	}
	q.idle++
}

// abandon ends the wait of the first in a line.
func (q *site) abandon(in int) {
	id := q.lines[in].pop()
	q.waiting--
	q.routes[q.jobs[id].route].abandoned++
	q.played.failed++
	q.unused = append(q.unused, id)
}

func (q *site) size() fleet.Size {
	return fleet.Size{Known: true, Serving: q.idle + q.busy - q.leaving, Starting: len(q.boots.due), Draining: q.leaving}
}

func (q *site) add(ready float64) { q.boots.push(ready, 0) }

// remove takes a worker that is idle, else the one that is done first, else one that boots.
func (q *site) remove() {
	switch {
	case q.idle > 0:
		q.idle--
	case q.busy > q.leaving:
		q.leaving++
	default:
		q.boots.due = q.boots.due[:len(q.boots.due)-1]
	}
}

func (q *site) quantile(_ int, p *Probe) (float64, uint64) {
	if p.Route > 0 {
		return q.routes[p.Route-1].ended.quantile(p)
	}
	return q.ended.quantile(p)
}

func (q *site) finish(r *Result) {
	r.Response, r.Wait = q.ended.response, q.ended.wait
	for i := range q.routes {
		one := &q.routes[i]
		r.Requests += one.requests
		r.Rejected += one.rejected
		r.Abandoned += one.abandoned
		r.Routes = append(r.Routes, RouteResult{one.Name, one.requests, one.rejected, one.abandoned, one.ended.response})
	}
}

// database is a Database at work. Queries share it equally, so that one clock, which runs at the pace of each of them, tells when any
// of them is done.
type database struct {
	law     Database
	peak    int
	paces   []float64 // of each query, by their number
	loads   []float64 // utilisation, 0..1, by their number
	slow    float64   // by how much longer all takes now
	at      float64
	clock   float64
	active  agenda // by the clock
	waiting queue[entry]
}

// MostQueries bounds the search for the number of queries at which most is done.
const MostQueries = 10_000

func newDatabase(law Database) database {
	return database{law: law, peak: law.Peak(MostQueries), paces: []float64{1}, loads: []float64{0}}
}

// tabulate extends the tables to n queries.
func (d *database) tabulate(n int) {
	for i := len(d.paces); i <= n; i++ {
		d.paces = append(d.paces, d.law.capacity(i)/float64(i))
		d.loads = append(d.loads, d.law.capacity(min(i, d.peak))/d.law.capacity(d.peak))
	}
}

// load is how much is done of the most that can be: 1 from the peak on.
func (d *database) load() float64 { return d.loads[len(d.active.due)] }

// taken is how many of its connections have a query, 0..1.
func (d *database) taken() float64 {
	return float64(len(d.active.due)) / float64(max(d.law.Connections, 1))
}

func (d *database) pace() float64 { return d.paces[len(d.active.due)] / d.slow }

func (d *database) advance(to float64) {
	d.clock += (to - d.at) * d.pace()
	d.at = to
}

// enter brings a query, with its work in seconds.
func (d *database) enter(id int32, work float64) {
	if c := d.law.Connections; c > 0 && len(d.active.due) >= c {
		d.waiting.push(entry{work, id})
		return
	}
	if len(d.active.due) == 0 {
		d.clock = 0
	}
	d.active.push(d.clock+work, id)
	d.tabulate(len(d.active.due))
}

// first is when the next query is done.
func (d *database) first() float64 {
	if len(d.active.due) == 0 {
		return math.Inf(1)
	}
	return d.at + (d.active.first()-d.clock)/d.pace()
}

// leave ends the query that is done.
func (d *database) leave() int32 {
	id := d.active.pop()
	if d.waiting.n > 0 {
		next := d.waiting.pop()
		d.active.push(d.clock+next.at, next.id)
	}
	return id
}

// entry is something at a time.
type entry struct {
	at float64
	id int32
}

// agenda is what is due, the first at the top of a heap.
type agenda struct{ due []entry }

func (a *agenda) first() float64 {
	if len(a.due) == 0 {
		return math.Inf(1)
	}
	return a.due[0].at
}

func (a *agenda) push(at float64, id int32) {
	a.due = append(a.due, entry{})
	i := len(a.due) - 1
	for i > 0 && a.due[(i-1)/2].at > at {
		a.due[i] = a.due[(i-1)/2]
		i = (i - 1) / 2
	}
	a.due[i] = entry{at, id}
}

func (a *agenda) pop() int32 {
	id, n := a.due[0].id, len(a.due)-1
	last := a.due[n]
	a.due = a.due[:n]
	i := 0
	for child := 1; child < n; child = 2*i + 1 {
		if child+1 < n && a.due[child+1].at < a.due[child].at {
			child++
		}
		if a.due[child].at >= last.at {
			break
		}
		a.due[i] = a.due[child]
		i = child
	}
	if n > 0 {
		a.due[i] = last
	}
	return id
}
