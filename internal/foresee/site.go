package foresee

import (
	"fmt"
	"os"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/foresee/sim"
)

// siteFile describes a sim.Site as an operator writes it.
type siteFile struct {
	Routes   []routeFile  `yaml:"routes,required"`
	Balancer balancerFile `yaml:"balancer"`
	Database databaseFile `yaml:"database"`
}

type routeFile struct {
	Route    string        `yaml:"route,required"` // as in a signal's route
	Share    float64       `yaml:"share"`          // of the load, in proportion to the other routes'
	Rate     float64       `yaml:"rate"`           // requests/s of its own, beside the load
	Service  time.Duration `yaml:"service,required"`
	CV       float64       `yaml:"cv"` // 1 unless it is written
	Database float64       `yaml:"database,percent"`
	Priority int           `yaml:"priority"`
}

type balancerFile struct {
	Queue   int           `yaml:"queue"`
	Timeout time.Duration `yaml:"timeout"`
}

type databaseFile struct {
	Cores       int     `yaml:"cores"`
	Contention  float64 `yaml:"contention,percent"`
	Coherency   float64 `yaml:"coherency,percent"`
	Connections int     `yaml:"connections"`
}

// Validate finds what makes no sense.
func (s *siteFile) Validate() error {
	var f config.FieldErrors
	within := func(field string, v, low, high float64) {
		if !(v >= low && v <= high) {
			f.Add(field, fmt.Sprintf("%g is out of range", v), fmt.Sprintf("write %g to %g", low, high))
		}
	}
	seen := map[string]bool{}
	shares := 0.0
	for i, r := range s.Routes {
		at := fmt.Sprintf("routes.%d.", i)
		if seen[r.Route] {
			f.Add(at+"route", fmt.Sprintf("%q stands twice", r.Route), "write each route once")
		}
		seen[r.Route] = true
		within(at+"share", r.Share, 0, 1e9)
		within(at+"rate", r.Rate, 0, 1e6)
		if r.Service < 100*time.Microsecond || r.Service > 10*time.Minute {
			f.Add(at+"service", fmt.Sprintf("%s is out of range", r.Service), "write 100us to 10m")
		}
		within(at+"cv", r.CV, 0, 10)
		within(at+"database", r.Database, 0, 100)
		within(at+"priority", float64(r.Priority), -2047, 2047)
		shares += r.Share
	}
	if len(s.Routes) > 0 && !(shares > 0) {
		f.Add("routes", "none has a share of the load", "write share: 1 where requests of the load go to")
	}
	within("balancer.queue", float64(s.Balancer.Queue), 0, sim.Unlimited)
	if s.Balancer.Timeout < 0 || s.Balancer.Timeout > time.Hour {
		f.Add("balancer.timeout", fmt.Sprintf("%s is out of range", s.Balancer.Timeout), "write up to 1h, or leave it out where a request waits for ever")
	}
	within("database.cores", float64(s.Database.Cores), 0, 10_000)
	within("database.contention", s.Database.Contention, 0, 100)
	within("database.coherency", s.Database.Coherency, 0, 100)
	within("database.connections", float64(s.Database.Connections), 0, 100_000)
	return f.Err()
}

// ReadSite reads the description of a site.
func ReadSite(path string) (*sim.Site, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the description of the work: %w", err)
	}
	s := siteFile{Balancer: balancerFile{Queue: sim.Unlimited}}
	lines, problems := config.Decode("description of the work", path, data, os.LookupEnv, &s)
	if problems.Failed() {
		return nil, problems
	}
	site := &sim.Site{
		Balancer: sim.Balancer(s.Balancer),
		Database: sim.Database{Cores: s.Database.Cores, Contention: s.Database.Contention / 100, Coherency: s.Database.Coherency / 100, Connections: s.Database.Connections},
	}
	for i, r := range s.Routes {
		if _, written := lines[fmt.Sprintf("routes.%d.cv", i)]; !written {
			r.CV = 1
		}
		site.Routes = append(site.Routes, sim.Route{Name: r.Route, Share: r.Share, Rate: r.Rate, Service: sim.Lognormal(r.Service.Seconds(), r.CV), Database: r.Database / 100, Priority: r.Priority})
	}
	return site, nil
}

// Around is what came of a site's routes, its queue and its database.
type Around struct {
	Routes    []RouteForecast   `json:"routes"`
	Rejected  Figure            `json:"rejected"`  // requests a run that found the queue full
	Abandoned Figure            `json:"abandoned"` // requests a run that waited too long
	Database  *DatabaseForecast `json:"database,omitempty"`
}

// RouteForecast is one route; its times are those of the requests that were served.
type RouteForecast struct {
	Name      string `json:"route"`
	Requests  Figure `json:"requests"`
	P95       Figure `json:"p95_seconds"`
	P99       Figure `json:"p99_seconds"`
	Rejected  Figure `json:"rejected"`
	Abandoned Figure `json:"abandoned"`
}

// DatabaseForecast is how far the database was used: of the most that it can do, in percent.
type DatabaseForecast struct {
	Utilisation Figure  `json:"utilisation_percent"`
	Worst       float64 `json:"worst_percent"` // moment of the first seed
	Peak        int     `json:"peak_queries"`  // at once, with which most is done
}

// around takes the figures of a site over all seeds.
func (f *Forecast) around(site *sim.Site, results []*sim.Result) {
	figure := func(of func(*sim.Result) float64) Figure { return figure(results, of) }
	a := &Around{
		Rejected:  figure(func(r *sim.Result) float64 { return float64(r.Rejected) }),
		Abandoned: figure(func(r *sim.Result) float64 { return float64(r.Abandoned) }),
	}
	for i, route := range site.Routes {
		quantile := func(q float64) Figure {
			return figure(func(r *sim.Result) float64 { return quantile(&r.Routes[i].Response, q) })
		}
		a.Routes = append(a.Routes, RouteForecast{
			route.Name, figure(func(r *sim.Result) float64 { return float64(r.Routes[i].Requests) }), quantile(0.95), quantile(0.99),
			figure(func(r *sim.Result) float64 { return float64(r.Routes[i].Rejected) }), figure(func(r *sim.Result) float64 { return float64(r.Routes[i].Abandoned) }),
		})
	}
	if site.Database != (sim.Database{}) {
		a.Database = &DatabaseForecast{Utilisation: figure(func(r *sim.Result) float64 { return r.Database }), Peak: site.Database.Peak(sim.MostQueries)}
		for _, m := range f.Moments {
			a.Database.Worst = max(a.Database.Worst, m.Database)
		}
	}
	f.Around = a
}
