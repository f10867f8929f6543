// Package metrics counts what a fleet of workers does, in memory that they share with their master, and shows it to
// Prometheus as one fleet: a scrape asks the master, waits behind no request, and is never of one worker that happened
// to be free.
//
// These names are stable:
//
//	registry_requests_total{route,code}        counter    route: the pattern, "none" without one; code: 2xx, 4xx ...
//	registry_request_duration_seconds{route}   histogram  time in the handler, without the wait in the accept queue
//	registry_requests_in_progress              gauge
//	registry_requests_shed_total{code}         counter    429 and 503, also in registry_requests_total
//	registry_workers{state}                    gauge      starting, idle, busy, leaving
//	registry_workers_wanted                    gauge      what the master works towards
//	registry_worker_busy_seconds_total         counter    with a connection in hand; counted when it closes
//	registry_worker_starts_total               counter
//	registry_worker_deaths_total               counter    ended unasked
//	registry_workers_recycled_total{limit}     counter    memory_soft, memory_hard, time_real, time_cpu, request
//	registry_pool_open                         gauge      database connections of all workers
//	registry_pool_in_use                       gauge
//	registry_pool_waits_total                  counter    a worker found none free
//	registry_pool_wait_seconds_total           counter
//	active_mobile_sync_sessions                gauge      from the database
//	registry_queue_runnable                    gauge      from the database: jobs that could run now
//	registry_queue_oldest_seconds              gauge      from the database: how long the oldest has waited, 0 without one
//
// What is not known is absent, never 0: those from the database when it does not answer, those of pools when no worker
// has one. Counters rise for as long as the master lives, whatever becomes of its workers.
package metrics

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tidemark/registry/prefork"
)

// Fleet is what is scraped. A prefork.Master is one, and so is a Single worker.
type Fleet interface {
	Census() prefork.Census
	// Counters yields the words of each worker there was, and whether one is there now.
	Counters() iter.Seq2[[]atomic.Uint64, bool]
}

// Database is what the database knows of the fleet's work.
type Database struct {
	ActiveSyncSessions int
	QueueRunnable      int
	QueueOldest        time.Duration
}

// patience is how long a scrape waits for the database.
const patience = 2 * time.Second

// Handler serves GET /metrics and GET /healthz for a fleet. ask, which may be nil, reads the database; it should end with
// its context.
func Handler(fleet Fleet, ask func(context.Context) (Database, error)) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{fleet: fleet, database: database{ask: ask, turn: make(chan struct{}, 1)}})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { health(w, fleet.Census()) })
	return mux
}

// health answers 200 when at least one worker serves. It asks no worker and no database: a fleet whose workers are all
// busy is well.
func health(w http.ResponseWriter, c prefork.Census) {
	status := http.StatusOK
	if c.Serving() == 0 {
		status = http.StatusServiceUnavailable
	}
	body, err := json.Marshal(struct {
		Wanted   int `json:"workers_wanted"`
		Serving  int `json:"workers_serving"`
		Starting int `json:"workers_starting"`
		Leaving  int `json:"workers_leaving"`
	}{c.Wanted, c.Serving(), c.Starting, c.Leaving})
	if err != nil {
		panic(err) // four numbers
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that has left is no error of ours
}
