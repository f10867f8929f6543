package metrics

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/registry/prefork"
)

// What a scrape may hold; see the package's description.
var (
	requests      = describe("registry_requests_total", "Requests answered, by routing pattern and class of status.", "route", "code")
	duration      = describe("registry_request_duration_seconds", "Time in the handler, without the wait in the accept queue.", "route")
	inProgress    = describe("registry_requests_in_progress", "Requests in a handler now.")
	shedRequests  = describe("registry_requests_shed_total", "Requests turned away because there was too much to do.", "code")
	workers       = describe("registry_workers", "Worker processes, by what they do.", "state")
	wanted        = describe("registry_workers_wanted", "Workers that the master works towards.")
	busySeconds   = describe("registry_worker_busy_seconds_total", "Time that workers had a connection in hand, counted when it closes.")
	starts        = describe("registry_worker_starts_total", "Worker processes started.")
	deaths        = describe("registry_worker_deaths_total", "Worker processes that ended unasked.")
	recycled      = describe("registry_workers_recycled_total", "Workers replaced because they passed a limit.", "limit")
	poolOpen      = describe("registry_pool_open", "Open database connections of all workers.")
	poolInUse     = describe("registry_pool_in_use", "Database connections in use, of all workers.")
	poolWaits     = describe("registry_pool_waits_total", "Times that a worker found no database connection free.")
	poolWaited    = describe("registry_pool_wait_seconds_total", "Time that workers waited for a free database connection.")
	syncSessions  = describe("active_mobile_sync_sessions", "Devices in the middle of a synchronisation.")
	queueRunnable = describe("registry_queue_runnable", "Queue jobs that could run now.")
	queueOldest   = describe("registry_queue_oldest_seconds", "How long the oldest runnable queue job has waited, 0 without one.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// collector adds up a fleet's counters for each scrape. It keeps nothing between two.
type collector struct {
	fleet    Fleet
	database database
}

// Describe names nothing: what is there differs from scrape to scrape. The registry checks what Collect sends.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}

	census := c.fleet.Census()
	gauge(wanted, float64(census.Wanted))
	gauge(workers, float64(census.Starting), "starting")
	gauge(workers, float64(census.Idle), "idle")
	gauge(workers, float64(census.Busy), "busy")
	gauge(workers, float64(census.Leaving), "leaving")
	counter(starts, float64(census.Starts))
	counter(deaths, float64(census.Deaths))
	for limit, n := range census.Struck {
		counter(recycled, float64(n), prefork.Limit(limit).String())
	}

	sum := c.sum()
	gauge(inProgress, float64(sum.inProgress))
	counter(busySeconds, seconds(sum.busy))
	for i, n := range sum.shed {
		counter(shedRequests, float64(n), fmt.Sprint(shed[i]))
	}
	for name, r := range sum.routes {
		for i, n := range r.codes {
			if n > 0 {
				counter(requests, float64(n), name, fmt.Sprintf("%dxx", i+1))
			}
		}
		below, n := map[float64]uint64{}, uint64(0)
		for i, bound := range bounds {
			n += r.buckets[i]
			below[bound] = n
		}
		n += r.buckets[len(bounds)]
		out <- prometheus.MustNewConstHistogram(duration, n, seconds(r.took), below, name)
	}
	if sum.pools > 0 {
		gauge(poolOpen, float64(sum.open))
		gauge(poolInUse, float64(sum.inUse))
		counter(poolWaits, float64(sum.waits))
		counter(poolWaited, seconds(sum.waited))
	}
	c.database.Collect(out)
}

func seconds(ns uint64) float64 { return time.Duration(ns).Seconds() }

// totals are the counters of all slots together.
type totals struct {
	busy, inProgress uint64
	shed             [len(shed)]uint64
	pools            int // how many slots have a worker with a pool
	open, inUse      uint64
	waits, waited    uint64
	routes           map[string]*routeTotals
}

type routeTotals struct {
	codes   [5]uint64
	took    uint64
	buckets [len(bounds) + 1]uint64
}

func (c *collector) sum() totals {
	t := totals{routes: map[string]*routeTotals{}}
	for words, here := range c.fleet.Counters() {
		b := layOut(words)
		t.busy += b.busy.Load()
		for i := range b.shed {
			t.shed[i] += b.shed[i].Load()
		}
		t.waits += b.pool.waits.Load()
		t.waited += b.pool.waited.Load()
		if here {
			t.inProgress += b.inProgress.Load()
			t.open += b.pool.open.Load()
			t.inUse += b.pool.inUse.Load()
			t.pools += int(b.pool.known.Load())
		}
		for i := range b.routed.Load() {
			t.add(&b.routes[i])
		}
	}
	return t
}

func (t *totals) add(r *route) {
	name := r.String()
	if t.routes[name] == nil {
		t.routes[name] = &routeTotals{}
	}
	sum := t.routes[name]
	sum.took += r.took.Load()
	for i := range r.codes {
		sum.codes[i] += r.codes[i].Load()
	}
	for i := range r.buckets {
		sum.buckets[i] += r.buckets[i].Load()
	}
}

// database asks the database, one question at a time.
type database struct {
	ask  func(context.Context) (Database, error)
	turn chan struct{} // held while a question is under way
}

// Describe names nothing: what is there differs from scrape to scrape.
func (d *database) Describe(chan<- *prometheus.Desc) {}

func (d *database) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v)
	}
	if now, ok := d.read(); ok {
		gauge(syncSessions, float64(now.ActiveSyncSessions))
		gauge(queueRunnable, float64(now.QueueRunnable))
		gauge(queueOldest, now.QueueOldest.Seconds())
	}
}

// read returns what the database says, or false when there is nobody to ask or no answer in time.
func (d *database) read() (Database, bool) {
	if d.ask == nil {
		return Database{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return Database{}, false
	}
	answers := make(chan Database, 1)
	go func() { // ends with the question, which should end with ctx; if not, the next waits its patience and gives up
		defer func() { cancel(); <-d.turn }()
		if a, err := d.ask(ctx); err == nil {
			answers <- a
		} else {
			close(answers)
		}
	}()
	select {
	case a, ok := <-answers:
		return a, ok
	case <-ctx.Done():
		return Database{}, false
	}
}
