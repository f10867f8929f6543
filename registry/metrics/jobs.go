package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Jobs counts what a process that runs queue jobs does. Its names are stable too:
//
//	registry_jobs_total{method,outcome}     counter    outcome: done, retried, failed, released, lost
//	registry_job_duration_seconds{method}   histogram  of jobs that ended, however
//	registry_jobs_running{method}           gauge      in this process
//
// and beside them the three of the whole registry that come from the database.
type Jobs struct {
	total   *prometheus.CounterVec
	took    *prometheus.HistogramVec
	running *prometheus.GaugeVec
}

// NewJobs counts from nothing.
func NewJobs() *Jobs {
	return &Jobs{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "registry_jobs_total", Help: "Queue jobs that ended in this process, by what became of them."}, []string{"method", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "registry_job_duration_seconds", Help: "How long queue jobs ran, however they ended.",
			Buckets: []float64{.01, .1, 1, 5, 10, 30, 60, 120, 300, 600}}, []string{"method"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "registry_jobs_running", Help: "Queue jobs that run in this process now."}, []string{"method"}),
	}
}

// Started counts a job that runs now.
func (j *Jobs) Started(method string) { j.running.WithLabelValues(method).Inc() }

// Ended counts what became of it.
func (j *Jobs) Ended(method, outcome string, took time.Duration) {
	j.running.WithLabelValues(method).Dec()
	j.total.WithLabelValues(method, outcome).Inc()
	j.took.WithLabelValues(method).Observe(took.Seconds())
}

// Handler serves GET /metrics. ask reads the database; it should end with its context.
func (j *Jobs) Handler(ask func(context.Context) (Database, error)) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(j.total, j.took, j.running, &database{ask: ask, turn: make(chan struct{}, 1)})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}
