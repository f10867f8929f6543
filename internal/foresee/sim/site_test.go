package sim

import (
	"fmt"
	"math"
	"testing"
	"time"

	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
)

// steady plays a site of a fixed size under a constant load and returns what it came to with each of some seeds.
func steady(t *testing.T, s Site, workers int, rate float64, over time.Duration) (all []*Result) {
	t.Helper()
	for seed := range uint64(6) {
		p := plan(t, "constant", over, rate)
		p.Policy.Mode, p.Initial, p.Site, p.Seed = fleet.Off, workers, &s, seed+1
		all = append(all, do(t, p))
	}
	return all
}

// agrees checks that the mean of a figure over seeds is the exact one, within its 99 % confidence interval (Student's, 5 degrees of
// freedom) and half a percent of the histograms and the start; and that this interval is narrow enough to say something.
func agrees(t *testing.T, what string, all []*Result, of func(*Result) float64, want float64) {
	t.Helper()
	mean, square, n := 0.0, 0.0, float64(len(all))
	for _, r := range all {
		mean += of(r) / n
	}
	for _, r := range all {
		square += (of(r) - mean) * (of(r) - mean)
	}
	half := 4.03 * math.Sqrt(square/(n-1)/n)
	t.Logf("%s: %.5g ± %.2g, exactly %.5g (%+.2f %%)", what, mean, half, want, 100*(mean/want-1))
	if math.Abs(mean-want) > half+0.005*want {
		t.Errorf("%s: %g ± %g, want %g", what, mean, half, want)
	}
	if half > 0.05*want {
		t.Errorf("%s: ± %g of %g says little", what, half, want)
	}
}

func one(r Route) Site {
	r.Share = 1
	return Site{Routes: []Route{r}, Balancer: Balancer{Queue: Unlimited}}
}

func response(route int) func(*Result) float64 {
	return func(r *Result) float64 { return r.Routes[route].Response.Mean() }
}

func wait(r *Result) float64 { return r.Wait.Mean() }

func share(of func(*Result) uint64) func(*Result) float64 {
	return func(r *Result) float64 { return float64(of(r)) / float64(r.Requests) }
}

const service = 0.1 // seconds, the mean of most tests here

func TestSiteIsAKnownQueue(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays many runs")
	}
	for _, c := range []struct {
		name    string
		law     *Law
		workers int
		load    float64
		wait    float64
	}{
		{"M/M/1", Exponential(service), 1, 0.7, service * 0.7 / 0.3},
		{"M/D/1", Lognormal(service, 0), 1, 0.7, service * 0.7 / 0.3 / 2},
		{"M/M/4", Exponential(service), 4, 3.2, queueing.ErlangC(4, 3.2) * service / (4 - 3.2)},
	} {
		agrees(t, c.name, steady(t, one(Route{Service: c.law}), c.workers, c.load/service, 4*time.Hour), wait, c.wait)
	}
}

// Non-preemptive priorities: Cobham's formula for one worker, and for several of exponential services alike.
func TestPriorities(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays many runs")
	}
	// Routes of 30 % short, 50 % usual and 20 % long requests, by their priority; the order of the list is none of it.
	mean, cv, part := []float64{0.2, 0.05, 0.1}, []float64{1, 0, 1.5}, []float64{0.2, 0.3, 0.5}
	s := Site{Balancer: Balancer{Queue: Unlimited}}
	const rate = 7.0
	residual, sigma := 0.0, []float64{0, 0, 0} // mean work left of the one served; load of a priority and all before it
	for i := range mean {
		s.Routes = append(s.Routes, Route{Name: fmt.Sprint(i), Share: 10 * part[i], Service: Lognormal(mean[i], cv[i]), Priority: []int{2, -1, 0}[i]})
		residual += rate * part[i] * mean[i] * mean[i] * (1 + cv[i]*cv[i]) / 2
	}
	sigma[1] = rate * part[1] * mean[1]
	sigma[2] = sigma[1] + rate*part[2]*mean[2]
	sigma[0] = sigma[2] + rate*part[0]*mean[0]
	all := steady(t, s, 1, rate, 12*time.Hour)
	for i, before := range []float64{sigma[2], 0, sigma[1]} {
		agrees(t, fmt.Sprintf("priority %d", s.Routes[i].Priority), all, response(i), mean[i]+residual/(1-before)/(1-sigma[i]))
	}

	const workers, erlangs = 4, 3.4
	pair := Site{Balancer: Balancer{Queue: Unlimited}, Routes: []Route{{Share: 1, Service: Exponential(service), Priority: 1}, {Share: 1, Service: Exponential(service)}}}
	all = steady(t, pair, workers, erlangs/service, 4*time.Hour)
	all0 := queueing.ErlangC(workers, erlangs) * service / workers
	agrees(t, "second of two, 4 workers", all, response(0), service+all0/(1-erlangs/2/workers)/(1-erlangs/workers))
	agrees(t, "first of two, 4 workers", all, response(1), service+all0/(1-erlangs/2/workers))
}

// Limits of the queue: M/M/c/K, with Erlang's loss system where nobody waits.
func TestQueueLimit(t *testing.T) {
	const workers, erlangs = 3, 3.3
	for _, queue := range []int{0, 5} {
		s := one(Route{Service: Exponential(service)})
		s.Balancer.Queue = queue
		states, total, waiting := 1.0, 0.0, 0.0 // of n requests, not normalised
		last := 0.0
		for n := 0; n <= workers+queue; n++ {
			if n > 0 {
				states *= erlangs / float64(min(n, workers))
			}
			total += states
			waiting += states * float64(max(n-workers, 0))
			last = states
		}
		lost := last / total
		all := steady(t, s, workers, erlangs/service, 90*time.Minute)
		agrees(t, fmt.Sprintf("rejected with room for %d", queue), all, share(func(r *Result) uint64 { return r.Rejected }), lost)
		if queue > 0 { // Little's law
			agrees(t, "wait of those who are let in", all, wait, waiting/total/(erlangs/service*(1-lost)))
		}
	}
}

// Abandonment after a fixed patience: M/M/c+D, by the density of the wait that an arrival is offered.
func TestTimeout(t *testing.T) {
	const workers, erlangs, patience = 3, 3.3, 0.15
	s := one(Route{Service: Exponential(service)})
	s.Balancer.Timeout = time.Duration(patience * float64(time.Second))
	rate, can := erlangs/service, workers/service
	states, total := 1.0, 1.0
	for n := 1; n < workers; n++ {
		states *= erlangs / float64(n)
		total += states
	}
	// The density is rate * states * exp((rate-can) v) up to the patience; beyond, nobody adds to it.
	within := rate * states * math.Expm1((rate-can)*patience) / (rate - can)
	beyond := rate * states * math.Exp((rate-can)*patience) / can
	all := steady(t, s, workers, rate, 90*time.Minute)
	agrees(t, "abandoned", all, share(func(r *Result) uint64 { return r.Abandoned }), beyond/(total+within+beyond))
	for _, r := range all {
		if r.Wait.Quantile(1) > patience*1.04 || r.Rejected != 0 || r.Requests < r.Response.Count()+r.Abandoned || r.Requests > r.Response.Count()+r.Abandoned+uint64(workers)+30 {
			t.Errorf("%d requests: %d answers, %d abandoned, %d rejected; the longest wait is %g s", r.Requests, r.Response.Count(), r.Abandoned, r.Rejected, r.Wait.Quantile(1))
		}
	}
}

// throughput is that of a closed network by exact mean value analysis: customers who think for a mean time, and a station that serves
// n of them at pace(n). The probabilities of its queue are those that an arrival sees, with one customer less.
func throughput(customers int, think, demand float64, pace func(n int) float64) (x float64) {
	p := []float64{1}
	for n := 1; n <= customers; n++ {
		stay := 0.0
		for j := 1; j <= n; j++ {
			stay += float64(j) * demand / pace(j) * p[j-1]
		}
		x = float64(n) / (think + stay)
		next, rest := make([]float64, n+1), 1.0
		for j := n; j > 0; j-- {
			next[j] = x * demand / pace(j) * p[j-1]
			rest -= next[j]
		}
		next[0] = max(rest, 0)
		p = next
	}
	return x
}

// The database: with more requests than the workers can do, workers and database are a closed network, whose throughput depends on
// the means alone.
func TestDatabase(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays many runs")
	}
	for _, c := range []struct {
		name string
		law  Database
	}{
		{"processor sharing", Database{Cores: 1}},
		{"two cores", Database{Cores: 2}},
		{"contention and coherency", Database{Contention: 0.1, Coherency: 0.02}},
		{"two cores with contention and coherency", Database{Cores: 2, Contention: 0.1, Coherency: 0.02}},
		{"coherency and a pool", Database{Contention: 0.1, Coherency: 0.02, Connections: 4}},
	} {
		for _, workers := range []int{2, 6, 12} {
			s := Site{Balancer: Balancer{Queue: 30}, Database: c.law, Routes: []Route{
				{Share: 1, Service: Lognormal(0.05, 2), Database: 0.4}, {Share: 1, Service: Lognormal(0.15, 1), Database: 0.4},
			}}
			if c.law.Connections > 0 { // first come, first served: exact for exponential services only, all alike
				s.Routes = []Route{{Share: 1, Service: Exponential(service), Database: 0.4}}
			}
			pace := func(n int) float64 {
				if c.law.Connections > 0 {
					n = min(n, c.law.Connections)
				}
				return c.law.capacity(n)
			}
			all := steady(t, s, workers, 150, 10*time.Minute)
			agrees(t, fmt.Sprintf("%s, %d workers", c.name, workers), all, func(r *Result) float64 { return float64(r.Response.Count()) / r.Duration.Seconds() }, throughput(workers, 0.6*service, 0.4*service, pace))
		}
	}
}

// Past the peak of a database, sqrt((1-contention)/coherency) queries at once, more workers do less; a pool that lets in so many keeps it.
func TestDatabasePeak(t *testing.T) {
	law := Database{Contention: 0.05, Coherency: 0.01}
	if got, want := law.Peak(MostQueries), math.Sqrt((1-0.05)/0.01); math.Abs(float64(got)-want) > 1 {
		t.Errorf("peak at %d, want %g", got, want)
	}
	rate := func(law Database, workers int) (done, utilisation float64) {
		s := Site{Routes: []Route{{Share: 1, Service: Lognormal(service, 1), Database: 1}}, Balancer: Balancer{Queue: 100}, Database: law}
		p := plan(t, "constant", 10*time.Minute, 100)
		p.Policy.Mode, p.Initial, p.Site = fleet.Off, workers, &s
		r := do(t, p)
		return float64(r.Response.Count()) / r.Duration.Seconds(), r.Database
	}
	for _, workers := range []int{2, 9, 40} { // all are at the database all the time
		done, utilisation := rate(law, workers)
		want := law.capacity(workers) / service
		if math.Abs(done/want-1) > 0.03 || math.Abs(utilisation-100*law.capacity(min(workers, 9))/law.capacity(9)) > 1 {
			t.Errorf("%d workers: %g requests/s, want %g; utilisation %g %%", workers, done, want, utilisation)
		}
	}
	law.Connections = 9
	if done, _ := rate(law, 40); math.Abs(done*service/law.capacity(9)-1) > 0.03 {
		t.Errorf("40 workers and 9 connections: %g requests/s, want %g", done, law.capacity(9)/service)
	}
}

// The policy moves a site as it moves a plain fleet: sizes, drains, costs and queues are those of the same runs.
func TestSiteFollowsThePolicy(t *testing.T) {
	var plain, rich [3]float64
	for seed := range uint64(4) {
		for _, into := range []*[3]float64{&plain, &rich} {
			p := plan(t, "registration-drive", 4*time.Hour, 60)
			p.Seed = seed + 1
			if into == &rich {
				s := one(Route{Service: Lognormal(service, 1)})
				p.Site = &s
			}
			r := do(t, p)
			into[0] += r.WorkerHours
			into[1] += float64(r.Up + r.Down)
			into[2] += r.Response.Quantile(0.5)
		}
	}
	for i, what := range []string{"worker-hours", "actions", "median response"} {
		if math.Abs(rich[i]/plain[i]-1) > 0.1 {
			t.Errorf("%s: %g and %g", what, plain[i], rich[i])
		}
	}
}

// What a site refuses misses the objective, however fast the others were served.
func TestFailuresViolate(t *testing.T) {
	s := one(Route{Service: Lognormal(service, 0)})
	s.Balancer.Queue = 1
	p := plan(t, "constant", time.Hour, 30)
	p.Policy.Mode, p.Initial, p.Site = fleet.Off, 2, &s
	failed := 0
	p.Each = func(s *Sample) { failed += s.Failed }
	r := do(t, p)
	if r.Response.Quantile(1) > 0.25 || r.Violations != r.Minutes || r.Minutes < 58 || uint64(failed) != r.Rejected || r.Rejected < 30*3600/4 {
		t.Errorf("the slowest took %g s; %d of %d minutes missed; %d rejected, %d by ticks", r.Response.Quantile(1), r.Violations, r.Minutes, r.Rejected, failed)
	}
}

// A database that is slow has those wait who ask it.
func TestSlowDatabase(t *testing.T) {
	s := Site{Balancer: Balancer{Queue: Unlimited}, Database: Database{Cores: 2, Connections: 8}, Routes: []Route{
		{Name: "/api/mobile/sync", Share: 1, Service: Lognormal(service, 1), Database: 0.6}, {Name: "/portal", Share: 1, Service: Lognormal(service, 1)},
	}}
	p := plan(t, "constant", time.Hour, 25)
	p.Policy.Mode, p.Initial, p.Site = fleet.Off, 40, &s
	calm := do(t, p)
	database := 0.0
	p.Faults = Faults{{Kind: SlowDatabase, Value: 2}}
	p.Each = func(s *Sample) { database = max(database, s.Database) }
	slow := do(t, p)
	more := func(route int) float64 {
		return slow.Routes[route].Response.Mean() / calm.Routes[route].Response.Mean()
	}
	if more(0) < 2 || more(1) > 1.1 || database < 90 || slow.Database < 70 || calm.Database < 30 || calm.Database > 45 {
		t.Errorf("%g and %g times as slow; the database is at %.0f %%, then at %.0f %%, at most %.0f %%", more(0), more(1), calm.Database, slow.Database, database)
	}
}

// Routes come as their shares and their own rates say, whatever the load does.
func TestRoutesRates(t *testing.T) {
	s := Site{Balancer: Balancer{Queue: Unlimited}, Routes: []Route{
		{Share: 30, Service: Lognormal(0.01, 1)}, {Share: 10, Rate: 5, Service: Lognormal(0.01, 1)}, {Rate: 2, Service: Lognormal(0.01, 1)},
	}}
	p := plan(t, "constant", 2*time.Hour, 40)
	p.Load = &load.Series{Start: monday, Step: time.Hour, Rates: []float64{0, 40}}
	p.Policy.Mode, p.Site = fleet.Off, &s
	r := do(t, p)
	for i, want := range []float64{30 * 3600, 10*3600 + 5*7200, 2 * 7200} {
		if got := float64(r.Routes[i].Requests); math.Abs(got-want) > 4*math.Sqrt(want) {
			t.Errorf("route %d: %g requests, want %g", i, got, want)
		}
	}
}

// The figure to print is requests/s of a closed loop at 10 workers with two routes, a limit of the queue and a database.
func BenchmarkSite(b *testing.B) {
	p := plan(b, "constant", 24*time.Hour, 60)
	p.Initial, p.Policy.Bounds.Min = 10, 10
	p.Site = &Site{Balancer: Balancer{Queue: 100, Timeout: 30 * time.Second}, Database: Database{Cores: 4, Contention: 0.02, Coherency: 0.001}, Routes: []Route{
		{Share: 1, Service: Lognormal(service, 1), Database: 0.3, Priority: 1}, {Share: 1, Service: Lognormal(service, 1), Database: 0.3},
	}}
	requests := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		requests += do(b, p).Requests
	}
	b.ReportMetric(float64(requests)/b.Elapsed().Seconds()/1e6, "Mreq/s")
	b.ReportMetric(float64(requests)/float64(b.N), "req/op")
}
