package plan

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
)

// Plan is what came out.
type Plan struct {
	Name     string    `json:"name"`
	Start    Date      `json:"start"`
	Currency string    `json:"currency"`
	Figures  []Figure  `json:"figures"`
	Peak     float64   `json:"peak_rate"` // requests/s at the start
	Mean     float64   `json:"mean_rate"`
	Growth   Growth    `json:"growth"`
	Needs    []Need    `json:"needs"` // at the start and after each year, at the busiest time
	Limits   []Limit   `json:"limits"`
	Sizing   Sizing    `json:"right_sizing"`
	Reserve  []Reserve `json:"reserve"`
	OffPeak  Schedule  `json:"off_peak"`
	Savings  []Saving  `json:"savings"`
	Costs    []Cost    `json:"costs"`
	Budget   *Overrun  `json:"budget,omitempty"`
	// Unattainable: the service alone takes longer than the objective, which no number of workers cures.
	Unattainable bool `json:"unattainable"`
}

// Need is what the busiest time of a day takes.
type Need struct {
	Date        Date    `json:"date"`
	Rate        float64 `json:"rate"`
	Workers     int     `json:"workers"`
	P95         float64 `json:"p95_seconds"` // that the model expects with so many
	Utilisation float64 `json:"utilisation_percent"`
	Instances   int     `json:"instances"`
	Memory      int64   `json:"workers_memory_bytes"`
	Clients     int     `json:"client_connections"`
	Pool        int     `json:"pool_size"`
	Connections int     `json:"server_connections"`
	DBVCPUs     float64 `json:"database_vcpus"`
	DBMemory    int64   `json:"database_memory_bytes"`
	Disk        int64   `json:"disk_bytes"`
}

// Limit is a resource, and when it is outgrown.
type Limit struct {
	Resource string  `json:"resource"`
	Have     float64 `json:"have"`
	Needs    float64 `json:"needs_at_start"`
	Ends     float64 `json:"needs_at_end"`
	Unit     string  `json:"unit"`
	// Outgrown by the expected growth, and at the earliest (the high growth); zero: not in thirty years.
	Outgrown Date   `json:"outgrown,omitzero"`
	Earliest Date   `json:"earliest,omitzero"`
	Mend     string `json:"mend"`
}

// Sizing is how many workers stand on an instance, and how busy its CPU is.
type Sizing struct {
	PerInstance int      `json:"workers_per_instance"`
	Options     []Option `json:"options"`
	InBand      bool     `json:"in_band"`
	Text        string   `json:"text"`
	// MachineVCPUs holds everything on one machine with the CPU at the middle of the band on average and below its peak.
	MachineVCPUs float64 `json:"machine_vcpus"`
}

// Option is one way to size.
type Option struct {
	PerInstance int     `json:"workers_per_instance"`
	Average     float64 `json:"average_cpu_percent"` // following the load
	Fixed       float64 `json:"fixed_cpu_percent"`   // with the peak's instances all the time
	Peak        float64 `json:"peak_cpu_percent"`
	Instances   float64 `json:"mean_instances"`
	Most        int     `json:"most_instances"`
}

type model struct {
	in      *Input
	service queueing.Service
	sizes   []sized   // that were asked for, by rate
	week    []stretch // of the pattern, by rate
	series  *load.Series
	each    int // workers on an instance
}

// sized is how many workers a rate needs.
type sized struct {
	rate    float64
	workers int
}

// stretch is a share of the week with, at most, a share of the peak's rate.
type stretch struct{ of, rate float64 }

// levels is how finely rates are told apart: a percent of the peak, rounded up.
const levels = 100

// most bounds the workers of a plan.
const most = 2000

// newModel makes the model of a valid input. service may be nil: then it is lognormal with the request's mean and cv.
func newModel(in *Input, service *queueing.Service) (*model, error) {
	zone, err := time.LoadLocation(in.TimeZone)
	if err != nil {
		return nil, err
	}
	m := &model{in: in, week: make([]stretch, levels)}
	if service != nil {
		m.service = *service
	} else {
		sigma := math.Sqrt(math.Log1p(in.Request.CV * in.Request.CV))
		mean := in.Request.Service.Seconds()
		m.service.Assume(func(q float64) float64 {
			return mean * math.Exp(sigma*math.Sqrt2*math.Erfinv(2*q-1)-sigma*sigma/2)
		}, mean)
	}
	monday := time.Date(2027, 3, 1, 0, 0, 0, 0, zone)
	if m.series, err = load.Make(in.Load.Pattern, monday, 0, 1); err != nil {
		return nil, err
	}
	for i := range m.week {
		m.week[i].rate = float64(i+1) / levels
	}
	for _, rate := range m.series.Rates {
		m.week[min(max(int(math.Ceil(rate*levels))-1, 0), levels-1)].of += 1 / float64(len(m.series.Rates))
	}
	if !(in.peak() > 0) {
		return nil, errors.New("the load is 0: give users (load: ...), or load.peak in requests/s")
	}
	if highest := m.growth(float64(in.Years), in.Growth.High) * in.peak(); highest*m.service.Mean() > most {
		return nil, fmt.Errorf("%.0f requests/s of %s would need more than %d workers: that is no plan for one fleet", highest, time.Duration(m.service.Mean()*1e9), most)
	}
	return m, nil
}

// Make reckons a plan. service may be nil: then it is lognormal with the request's mean and cv.
func Make(in *Input, service *queueing.Service, figures []Figure) (*Plan, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	m, err := newModel(in, service)
	if err != nil {
		return nil, err
	}
	p := &Plan{Name: in.Name, Start: in.Start, Currency: in.Prices.Currency, Figures: figures, Peak: in.peak(), Mean: in.peak() * m.series.Mean(), Growth: in.Growth}
	p.Unattainable = m.service.Quantile(0.95) > in.Objective.P95.Seconds()
	p.Sizing = m.rightSize(p.Peak)
	m.each = p.Sizing.PerInstance
	for year := range in.Years + 1 {
		p.Needs = append(p.Needs, m.need(float64(year), in.Growth.Percent))
	}
	p.Limits = m.limits()
	m.money(p)
	return p, nil
}

// growth is the factor after so many years, when the load grows by percent within the growth's years.
func (m *model) growth(years, percent float64) float64 {
	return math.Pow(1+percent/100, years/m.in.Growth.Years)
}

// workers is how many a rate needs for the objective, at least the fleet's minimum, by decide/queueing: the model of the daemon's own
// objectives. More arrivals never need fewer, so that between two rates that need the same nothing is left to reckon.
func (m *model) workers(rate float64) int {
	i, known := slices.BinarySearchFunc(m.sizes, rate, func(s sized, rate float64) int { return cmp.Compare(s.rate, rate) })
	if known || i > 0 && i < len(m.sizes) && m.sizes[i-1].workers == m.sizes[i].workers {
		return m.sizes[i].workers
	}
	o := queueing.Objective{Quantile: 0.95, Within: m.in.Objective.P95.Seconds(), Drain: 120, Bounds: fleet.Bounds{Min: m.in.Fleet.Min, Max: max(2*most, m.in.Fleet.Min)}}
	a := o.Need(&queueing.Load{Serving: int(rate*m.service.Mean()) + 1, Rate: rate, Service: &m.service, Backlog: math.NaN(), Wait: math.NaN()})
	m.sizes = slices.Insert(m.sizes, i, sized{rate, a.Size})
	return a.Size
}

func (m *model) need(years, percent float64) Need {
	in, g := m.in, m.growth(years, percent)
	rate := in.peak() * g
	n := Need{Date: Date{Time: in.Start.AddDate(0, 0, int(math.Round(years*365.25)))}, Rate: rate, Workers: m.workers(rate)}
	pool := queueing.Pool{Workers: n.Workers, Rate: rate, Service: &m.service}
	n.P95, n.Utilisation = pool.Response(0.95), 100*pool.Utilization()
	n.Instances = m.instances(rate, m.each)
	n.Memory = int64(n.Workers) * in.Worker.Memory
	n.Clients = int(math.Ceil(in.Worker.Connections*float64(n.Workers+in.Worker.Cron))) + 4
	n.Pool = int(math.Ceil(float64(n.Workers) / in.Database.Utilisation * 100))
	n.Connections = n.Pool + n.Workers + in.Worker.Cron + 1 + 3 + 5 // session pool for cron and bus; reserved for superusers; for people
	n.DBVCPUs = rate * in.Request.DatabaseCPU.Seconds() / in.Database.CPU * 100
	data := float64(in.Load.Farmers) * g * float64(in.Database.FarmerBytes)
	n.DBMemory = int64(data*in.Database.HotShare/100) + int64(n.Connections)*in.Database.ConnectionRAM + 1<<30
	n.Disk = int64(data * in.Database.DiskFactor)
	return n
}

// limits finds when each resource is outgrown.
func (m *model) limits() []Limit {
	in := m.in
	const gib = 1 << 30
	all := []struct {
		name, unit, mend string
		have             float64
		of               func(Need) float64
	}{
		{"workers", "", "raise bounds.max, after the connections and memory below", float64(in.Fleet.Max), func(n Need) float64 { return float64(n.Workers) }},
		{"PgBouncer pool_size", "", "raise pool_size, within max_connections", float64(in.Database.PoolSize), func(n Need) float64 { return float64(n.Pool) }},
		{"PgBouncer max_client_conn", "", "raise max_client_conn", float64(in.Database.MaxClients), func(n Need) float64 { return float64(n.Clients) }},
		{"PostgreSQL max_connections", "", "raise max_connections; it takes a restart", float64(in.Database.MaxConnections), func(n Need) float64 { return float64(n.Connections) }},
		{"database CPU", "vCPU", "first queries and indexes, then a larger database instance", in.Instances.Database.VCPUs, func(n Need) float64 { return n.DBVCPUs }},
		{"database memory", "GiB", "a larger database instance", float64(in.Instances.Database.Memory) / gib, func(n Need) float64 { return float64(n.DBMemory) / gib }},
		{"nginx CPU", "vCPU", "a larger instance", in.Instances.Nginx.VCPUs, func(n Need) float64 { return n.Rate * in.Request.ProxyCPU.Seconds() / in.Fleet.CPUPeak * 100 }},
	}
	if in.Machine.VCPUs > 0 {
		all = slices.DeleteFunc(all, func(l struct {
			name, unit, mend string
			have             float64
			of               func(Need) float64
		}) bool {
			return l.unit != "" // one machine holds them all
		})
		add := func(name, unit, mend string, have float64, of func(Need) float64) {
			if have > 0 {
				all = append(all, struct {
					name, unit, mend string
					have             float64
					of               func(Need) float64
				}{name, unit, mend, have, of})
			}
		}
		add("machine CPU", "vCPU", "a larger machine, or a second one for the database", in.Machine.VCPUs, func(n Need) float64 { return m.cores(n.Rate) / in.Fleet.CPUPeak * 100 })
		add("machine memory", "GiB", "more memory, or a second machine for the database", float64(in.Machine.Memory)/gib, func(n Need) float64 {
			return float64(n.Memory+int64(in.Worker.Cron+1)*in.Worker.Memory+in.Fleet.SystemMemory+n.DBMemory) / gib
		})
		add("machine disk", "GiB", "a larger volume", float64(in.Machine.Disk)/gib, func(n Need) float64 { return float64(n.Disk) / gib })
	}
	var out []Limit
	for _, r := range all {
		end := float64(in.Years)
		l := Limit{
			Resource: r.name, Unit: r.unit, Mend: r.mend, Have: r.have, Needs: r.of(m.need(0, in.Growth.Percent)), Ends: r.of(m.need(end, in.Growth.Percent)),
			Outgrown: m.outgrown(r.have, in.Growth.Percent, r.of), Earliest: m.outgrown(r.have, in.Growth.High, r.of),
		}
		out = append(out, l)
	}
	slices.SortStableFunc(out, func(a, b Limit) int {
		switch { // never comes last
		case a.Outgrown.IsZero() != b.Outgrown.IsZero():
			return map[bool]int{true: 1, false: -1}[a.Outgrown.IsZero()]
		}
		return a.Outgrown.Compare(b.Outgrown.Time)
	})
	return out
}

// outgrown finds the first day on which more is needed than there is; needs only grow.
func (m *model) outgrown(have, percent float64, of func(Need) float64) Date {
	const thirty = 30 * 365
	high := thirty
	for high > 0 && m.growth(float64(high)/365.25, percent)*m.in.peak()*m.service.Mean() > most {
		high /= 2
	}
	short := func(day int) bool { return of(m.need(float64(day)/365.25, percent)) > have }
	if short(0) {
		return m.in.Start
	}
	if !short(high) {
		return Date{}
	}
	low := 0
	for high-low > 1 {
		if mid := (low + high) / 2; short(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return Date{Time: m.in.Start.AddDate(0, 0, high)}
}

// cores is the CPU that a rate takes on one machine.
func (m *model) cores(rate float64) float64 {
	r := m.in.Request
	return rate * (r.CPU + r.DatabaseCPU + r.ProxyCPU).Seconds()
}

// instances holds the workers that a rate needs, and its CPU. On one machine there are none: each worker counts as one.
func (m *model) instances(rate float64, each int) int {
	f := m.in.Fleet
	if m.in.Machine.VCPUs > 0 {
		return m.workers(rate)
	}
	byWorkers := (m.workers(rate) + each - 1) / each
	byCPU := int(math.Ceil(rate*m.in.Request.CPU.Seconds()/(m.in.Instances.Worker.VCPUs*f.CPUPeak/100) - 1e-9))
	return max(byWorkers, byCPU, f.Instances)
}

// rightSize tries each number of workers on an instance that its memory holds. The CPU of the peak bounds the instances from below,
// so the average can be raised only as far as instances may leave when the load does. The one whose average is nearest to the
// middle of the band is taken; of equals the fewest workers.
func (m *model) rightSize(peak float64) Sizing {
	in := m.in
	f, spec := in.Fleet, in.Instances.Worker
	fit := max(int((spec.Memory-f.SystemMemory)/in.Worker.Memory), 1)
	most := m.workers(peak)
	middle := (f.CPULow + f.CPUHigh) / 2
	var s Sizing
	best := math.Inf(1)
	mean := peak * m.series.Mean()
	cpu := mean * in.Request.CPU.Seconds()
	fewest := m.following(1, most) // as the CPU and the least number of instances leave
	for each := 1; each <= min(fit, most); each++ {
		o := Option{PerInstance: each, Most: m.instances(peak, each), Instances: m.following(1, each)}
		o.Average = 100 * cpu / (o.Instances * spec.VCPUs)
		o.Fixed = 100 * cpu / (float64(o.Most) * spec.VCPUs)
		o.Peak = 100 * peak * in.Request.CPU.Seconds() / (float64(o.Most) * spec.VCPUs)
		s.Options = append(s.Options, o)
		if away := math.Abs(o.Average - middle); away < best-1e-9 && (f.PerInstance == 0 || f.PerInstance == each) {
			best, s.PerInstance = away, each
		}
		if each >= f.PerInstance && o.Instances <= fewest+1e-9 {
			break // more workers on an instance change nothing
		}
	}
	if s.PerInstance == 0 {
		s.PerInstance = max(f.PerInstance, 1)
	}
	s.MachineVCPUs = math.Ceil(max(m.cores(mean)/middle, m.cores(peak)/f.CPUPeak) * 100)
	if in.Machine.VCPUs > 0 {
		average := 100 * m.cores(mean) / in.Machine.VCPUs
		s.PerInstance, s.Options, s.InBand = 1, []Option{}, average >= f.CPULow && average <= f.CPUHigh
		s.Text = fmt.Sprintf("the machine's %g vCPU are %.0f %% busy on average, %.0f %% at the peak, of the workers, the database and nginx together", in.Machine.VCPUs, average, 100*m.cores(peak)/in.Machine.VCPUs)
		return s
	}
	i := min(s.PerInstance, len(s.Options)) - 1
	o := s.Options[i]
	s.InBand = o.Average >= f.CPULow && o.Average <= f.CPUHigh
	switch {
	case s.InBand:
		s.Text = fmt.Sprintf("%d workers on an instance: %.0f %% CPU on average, %.0f %% at the peak", s.PerInstance, o.Average, o.Peak)
	case o.Average < f.CPULow && o.Most <= f.Instances:
		s.Text = fmt.Sprintf("%d instances, the fewest that may be, are %.0f %% busy on average: smaller ones, of %.2g vCPU, would be at %.0f %%", o.Most, o.Average, spec.VCPUs*o.Average/middle, middle)
	case o.Average < f.CPULow:
		s.Text = fmt.Sprintf("%.0f %% CPU on average is what the objective and the peak leave with %d workers on an instance; smaller instances come closer", o.Average, s.PerInstance)
	default:
		s.Text = fmt.Sprintf("%.0f %% CPU on average is above the band: larger instances, or fewer workers on each", o.Average)
	}
	return s
}
