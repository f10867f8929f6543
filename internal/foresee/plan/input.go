// Package plan reckons how much a registry will need: workers, instances, memory, connections and money, for so many users and so
// much growth. It is calculation alone: the pool's mathematics is decide/queueing's, the shapes of load are load's, and every
// figure that it starts from is listed with where it comes from: given, measured, required, or assumed.
package plan

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"tidemark/internal/config"
)

// Input is what a plan starts from. NewInput has the requirements' figures and assumptions.
type Input struct {
	Name      string    `yaml:"name"`
	Start     Date      `yaml:"start"` // the load is that of this day
	TimeZone  string    `yaml:"time_zone"`
	Years     int       `yaml:"years"` // to look ahead
	Growth    Growth    `yaml:"growth"`
	Load      Load      `yaml:"load"`
	Request   Request   `yaml:"request"`
	Objective Objective `yaml:"objective"`
	Worker    Worker    `yaml:"worker"`
	Instances Instances `yaml:"instances"`
	Fleet     Fleet     `yaml:"fleet"`
	Database  Database  `yaml:"database"`
	Machine   Machine   `yaml:"machine"`
	Prices    Prices    `yaml:"prices"`
	Reserved  []Term    `yaml:"reserved"`
	OffPeak   OffPeak   `yaml:"off_peak"`
}

// Date is a day, written as 2027-01-01.
type Date = config.Date

// Growth is steady: the load is (1 + Percent/100)^(t/Years) times today's after t years. Low and High are the range, as percent too.
type Growth struct {
	Percent float64 `yaml:"percent" json:"percent"`
	Years   float64 `yaml:"years" json:"years"`
	Low     float64 `yaml:"low" json:"low"`
	High    float64 `yaml:"high" json:"high"`
}

// Load is who uses the registry at the busiest time, and how much.
type Load struct {
	Administrators int     `yaml:"administrators"`
	Visitors       int     `yaml:"visitors"`
	Devices        int     `yaml:"devices"` // that synchronise at once
	Farmers        int     `yaml:"farmers"` // on record
	PerAdmin       float64 `yaml:"requests_per_administrator"`
	PerVisitor     float64 `yaml:"requests_per_visitor"`
	PerDevice      float64 `yaml:"requests_per_device"`
	Peak           float64 `yaml:"peak"`    // requests/s; 0: from the users
	Pattern        string  `yaml:"pattern"` // the week: a load's name
}

// Request is the mean request.
type Request struct {
	Service     time.Duration `yaml:"service_time"` // without the wait
	CV          float64       `yaml:"cv"`
	CPU         time.Duration `yaml:"cpu"`          // of the worker, of the service time
	DatabaseCPU time.Duration `yaml:"database_cpu"` // of PostgreSQL
	ProxyCPU    time.Duration `yaml:"proxy_cpu"`    // of nginx
}

// Objective is the service level.
type Objective struct {
	P95 time.Duration `yaml:"response_time_p95"`
}

// Worker is one worker process.
type Worker struct {
	Memory      int64   `yaml:"memory,bytes"`
	Connections float64 `yaml:"connections"` // to the database or its pooler
	Cron        int     `yaml:"cron"`        // cron workers of the whole fleet
}

// Size is what a machine has.
type Size struct {
	VCPUs  float64 `yaml:"vcpus"`
	Memory int64   `yaml:"memory,bytes"`
}

// Instances are the specifications.
type Instances struct {
	Worker   Size `yaml:"worker"`
	Database Size `yaml:"database"`
	Nginx    Size `yaml:"nginx"`
}

// Fleet is how many workers there may be, and how they stand on instances.
type Fleet struct {
	Min          int     `yaml:"min"`
	Max          int     `yaml:"max"`
	Instances    int     `yaml:"instances"`            // at least, so that one may fail
	PerInstance  int     `yaml:"workers_per_instance"` // 0: by right-sizing
	CPULow       float64 `yaml:"average_cpu_low,percent"`
	CPUHigh      float64 `yaml:"average_cpu_high,percent"`
	CPUPeak      float64 `yaml:"peak_cpu,percent"`
	SystemMemory int64   `yaml:"system_memory,bytes"` // of each instance, for all but workers
}

// Database is what the database and its pooler are set to.
type Database struct {
	PoolSize       int     `yaml:"pool_size"`
	MaxClients     int     `yaml:"max_client_conn"`
	MaxConnections int     `yaml:"max_connections"`
	Utilisation    float64 `yaml:"pool_utilization,percent"` // at most
	CPU            float64 `yaml:"cpu,percent"`              // at most
	FarmerBytes    int64   `yaml:"bytes_per_farmer,bytes"`
	HotShare       float64 `yaml:"hot_share,percent"`
	ConnectionRAM  int64   `yaml:"memory_per_connection,bytes"`
	DiskFactor     float64 `yaml:"disk_factor"`
}

// Machine is the one machine that holds everything. Without VCPUs there is none: instances are rented.
type Machine struct {
	VCPUs  float64 `yaml:"vcpus"`
	Memory int64   `yaml:"memory,bytes"`
	Disk   int64   `yaml:"disk,bytes"`
	Month  float64 `yaml:"monthly"` // what it costs; 0: by Prices
}

// Prices are per hour, and for disk per month.
type Prices struct {
	Currency string  `yaml:"currency"`
	VCPU     float64 `yaml:"vcpu_hour"`
	Memory   float64 `yaml:"gb_hour"`
	Disk     float64 `yaml:"disk_gb_month"`
	Budget   float64 `yaml:"budget"` // a month; 0: none
	Range    float64 `yaml:"range,percent"`
}

// Term is a reservation.
type Term struct {
	Name     string  `yaml:"name,required" json:"name"`
	Years    float64 `yaml:"years,required" json:"years"`
	Discount float64 `yaml:"discount,percent" json:"discount_percent"` // of the price on demand, all payments together
	Upfront  float64 `yaml:"upfront,percent" json:"upfront_percent"`   // share of the reservation that is paid at once
}

// OffPeak is the schedule that is tried: hours of the day in the plan's zone, with so many workers at most.
type OffPeak struct {
	From    float64 `yaml:"from"`
	To      float64 `yaml:"to"`
	Ceiling int     `yaml:"ceiling"`
}

// NewInput is the requirements' registry, on assumptions where they say nothing.
func NewInput() Input {
	return Input{
		Name: "dfr", Start: Date{Time: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}, TimeZone: "UTC", Years: 5, Growth: Growth{100, 5, 50, 150},
		Load:      Load{Administrators: 10, Visitors: 100, Devices: 50, Farmers: 100_000, PerAdmin: 0.3, PerVisitor: 0.075, PerDevice: 1. / 3, Pattern: "daily"},
		Request:   Request{Service: 100 * time.Millisecond, CV: 1, CPU: 30 * time.Millisecond, DatabaseCPU: 10 * time.Millisecond, ProxyCPU: time.Millisecond},
		Objective: Objective{500 * time.Millisecond},
		Worker:    Worker{93 << 20, 2, 2},
		Instances: Instances{Size{2, 4 << 30}, Size{4, 16 << 30}, Size{1, 2 << 30}},
		Fleet:     Fleet{Min: 2, Max: 10, Instances: 2, CPULow: 50, CPUHigh: 60, CPUPeak: 70, SystemMemory: 512 << 20},
		Database:  Database{PoolSize: 20, MaxClients: 100, MaxConnections: 100, Utilisation: 80, CPU: 70, FarmerBytes: 32 << 10, HotShare: 20, ConnectionRAM: 9 << 20, DiskFactor: 3},
		Prices:    Prices{Currency: "USD", VCPU: 0.031611, Memory: 0.004237, Disk: 0.04, Range: 10},
		Reserved:  []Term{{"1 year", 1, 30, 0}, {"3 years", 3, 60, 0}},
		OffPeak:   OffPeak{0, 6, 2},
	}
}

// Validate finds what makes no sense.
func (in *Input) Validate() error {
	var f config.FieldErrors
	positive := func(field string, v float64) {
		if !(v > 0) || math.IsInf(v, 0) {
			f.Add(field, fmt.Sprintf("%g is out of range", v), "write a number above 0")
		}
	}
	within := func(field string, v, low, high float64) {
		if !(v >= low && v <= high) {
			f.Add(field, fmt.Sprintf("%g is out of range", v), fmt.Sprintf("write %g to %g", low, high))
		}
	}
	if _, err := time.LoadLocation(in.TimeZone); err != nil {
		f.Add("time_zone", fmt.Sprintf("%q is no time zone", in.TimeZone), "write one such as Pacific/Apia")
	}
	within("years", float64(in.Years), 1, 20)
	within("growth.percent", in.Growth.Percent, 0, 10_000)
	within("growth.low", in.Growth.Low, 0, in.Growth.Percent)
	within("growth.high", in.Growth.High, in.Growth.Percent, 100_000)
	within("growth.years", in.Growth.Years, 0.1, 100)
	for field, n := range map[string]int{"administrators": in.Load.Administrators, "visitors": in.Load.Visitors, "devices": in.Load.Devices, "farmers": in.Load.Farmers} {
		within("load."+field, float64(n), 0, 1e9)
	}
	for field, v := range map[string]float64{"requests_per_administrator": in.Load.PerAdmin, "requests_per_visitor": in.Load.PerVisitor, "requests_per_device": in.Load.PerDevice, "peak": in.Load.Peak} {
		within("load."+field, v, 0, 1e6)
	}
	within("request.service_time", in.Request.Service.Seconds(), 1e-4, 600)
	within("request.cv", in.Request.CV, 0, 10)
	within("request.cpu", in.Request.CPU.Seconds(), 0, in.Request.Service.Seconds())
	within("request.database_cpu", in.Request.DatabaseCPU.Seconds(), 0, 600)
	within("request.proxy_cpu", in.Request.ProxyCPU.Seconds(), 0, 600)
	positive("objective.response_time_p95", in.Objective.P95.Seconds())
	positive("worker.memory", float64(in.Worker.Memory))
	within("worker.connections", in.Worker.Connections, 0, 1000)
	within("worker.cron", float64(in.Worker.Cron), 0, 1000)
	for name, s := range map[string]Size{"worker": in.Instances.Worker, "database": in.Instances.Database, "nginx": in.Instances.Nginx} {
		positive("instances."+name+".vcpus", s.VCPUs)
		positive("instances."+name+".memory", float64(s.Memory))
	}
	if in.Instances.Worker.Memory < in.Fleet.SystemMemory+in.Worker.Memory {
		f.Add("instances.worker.memory", "does not hold one worker beside the system's memory", "write a larger instance")
	}
	within("fleet.min", float64(in.Fleet.Min), 1, 10_000)
	within("fleet.max", float64(in.Fleet.Max), float64(in.Fleet.Min), 10_000)
	within("fleet.instances", float64(in.Fleet.Instances), 1, 10_000)
	within("fleet.workers_per_instance", float64(in.Fleet.PerInstance), 0, 1000)
	within("fleet.average_cpu_low", in.Fleet.CPULow, 1, in.Fleet.CPUHigh)
	within("fleet.peak_cpu", in.Fleet.CPUPeak, in.Fleet.CPUHigh, 100)
	for field, n := range map[string]int{"pool_size": in.Database.PoolSize, "max_client_conn": in.Database.MaxClients, "max_connections": in.Database.MaxConnections} {
		within("database."+field, float64(n), 1, 1e6)
	}
	within("database.pool_utilization", in.Database.Utilisation, 1, 100)
	within("database.cpu", in.Database.CPU, 1, 100)
	within("database.disk_factor", in.Database.DiskFactor, 1, 100)
	if in.Machine.VCPUs > 0 || in.Machine.Memory > 0 || in.Machine.Disk > 0 {
		positive("machine.vcpus", in.Machine.VCPUs)
		positive("machine.memory", float64(in.Machine.Memory))
		within("machine.disk", float64(in.Machine.Disk), 0, math.MaxInt64)
		within("machine.monthly", in.Machine.Month, 0, 1e12)
	}
	if len(in.Prices.Currency) != 3 || strings.Trim(in.Prices.Currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		f.Add("prices.currency", fmt.Sprintf("%q is no currency", in.Prices.Currency), "write its three letters, such as NZD")
	}
	within("prices.vcpu_hour", in.Prices.VCPU, 0, 1e6)
	within("prices.gb_hour", in.Prices.Memory, 0, 1e6)
	within("prices.disk_gb_month", in.Prices.Disk, 0, 1e6)
	within("prices.budget", in.Prices.Budget, 0, 1e12)
	for i, t := range in.Reserved {
		within(fmt.Sprintf("reserved.%d.years", i), t.Years, 0.1, 10)
		within(fmt.Sprintf("reserved.%d.discount", i), t.Discount, 0, 99)
	}
	within("off_peak.from", in.OffPeak.From, 0, 24)
	within("off_peak.to", in.OffPeak.To, 0, 24)
	within("off_peak.ceiling", float64(in.OffPeak.Ceiling), 1, 10_000)
	return f.Err()
}

// Kind says how well a figure is known.
type Kind string

// The kinds, the best first.
const (
	Measured Kind = "measured"
	Given    Kind = "given"
	Required Kind = "required"
	Assumed  Kind = "assumed"
)

// Figure is one figure that the plan starts from.
type Figure struct {
	Name   string `json:"name"` // its path in a plan's file
	Value  string `json:"value"`
	Kind   Kind   `json:"kind"`
	Source string `json:"source"`
}

// basis lists the figures that are told, with where their defaults come from.
var basis = []struct {
	path  string
	kind  Kind
	from  string
	value func(*Input) string
}{
	{"load.administrators", Required, "10 active administrators", func(in *Input) string { return fmt.Sprint(in.Load.Administrators) }},
	{"load.visitors", Required, "100 portal visitors at once", func(in *Input) string { return fmt.Sprint(in.Load.Visitors) }},
	{"load.devices", Required, "50 enumerators synchronise at once", func(in *Input) string { return fmt.Sprint(in.Load.Devices) }},
	{"load.farmers", Required, "a small country's register", func(in *Input) string { return fmt.Sprint(in.Load.Farmers) }},
	{"load.requests_per_administrator", Assumed, "a page of three requests every 10 s", func(in *Input) string { return fmt.Sprintf("%.3g/s", in.Load.PerAdmin) }},
	{"load.requests_per_visitor", Assumed, "a page of one and a half requests every 20 s", func(in *Input) string { return fmt.Sprintf("%.3g/s", in.Load.PerVisitor) }},
	{"load.requests_per_device", Assumed, "2,000 records of 500 farmers in 2 minutes, both ways, 100 a request", func(in *Input) string { return fmt.Sprintf("%.3g/s", in.Load.PerDevice) }},
	{"load.peak", Assumed, "from the users above", func(in *Input) string { return fmt.Sprintf("%.3g/s", in.peak()) }},
	{"load.pattern", Required, "peaks in business hours and in the evening", func(in *Input) string { return in.Load.Pattern }},
	{"growth", Required, "100 % in 5 years; half and one and a half of it as the range", func(in *Input) string {
		return fmt.Sprintf("%g %% (%g to %g) in %g years", in.Growth.Percent, in.Growth.Low, in.Growth.High, in.Growth.Years)
	}},
	{"request.service_time", Assumed, "to be measured: the load test, or a journal", func(in *Input) string { return in.Request.Service.Round(10 * time.Microsecond).String() }},
	{"request.cv", Assumed, "as of an exponential law", func(in *Input) string { return fmt.Sprintf("%.3g", in.Request.CV) }},
	{"request.cpu", Assumed, "four ORM calls; Odoo 18.0 took 5 to 14 ms each with PostgreSQL", func(in *Input) string { return in.Request.CPU.Round(10 * time.Microsecond).String() }},
	{"request.database_cpu", Assumed, "a quarter of the same", func(in *Input) string { return in.Request.DatabaseCPU.Round(10 * time.Microsecond).String() }},
	{"request.proxy_cpu", Assumed, "ample for a proxied request with TLS", func(in *Input) string { return in.Request.ProxyCPU.Round(10 * time.Microsecond).String() }},
	{"objective.response_time_p95", Required, "API p95 below 500 ms", func(in *Input) string { return in.Objective.P95.String() }},
	{"worker.memory", Assumed, "the most that a warm Odoo 18.0 worker took (69 to 93 MiB PSS)", func(in *Input) string { return size(in.Worker.Memory) }},
	{"worker.connections", Assumed, "Odoo 18.0: 2 a worker, 2 a cron worker, 4 for the rest", func(in *Input) string { return fmt.Sprintf("%g", in.Worker.Connections) }},
	{"instances.worker", Required, "2 vCPU, 4 GB", func(in *Input) string { return in.Instances.Worker.String() }},
	{"instances.database", Required, "4 vCPU, 16 GB", func(in *Input) string { return in.Instances.Database.String() }},
	{"instances.nginx", Required, "1 vCPU, 2 GB", func(in *Input) string { return in.Instances.Nginx.String() }},
	{"fleet", Required, "2 to 10 workers, CPU 50 to 60 % on average, below 70 % at the peak", func(in *Input) string {
		return fmt.Sprintf("%d to %d workers, CPU %g to %g %%, peak %g %%", in.Fleet.Min, in.Fleet.Max, in.Fleet.CPULow, in.Fleet.CPUHigh, in.Fleet.CPUPeak)
	}},
	{"database.pool_size", Assumed, "PgBouncer's default_pool_size", func(in *Input) string { return fmt.Sprint(in.Database.PoolSize) }},
	{"database.max_client_conn", Assumed, "PgBouncer's default", func(in *Input) string { return fmt.Sprint(in.Database.MaxClients) }},
	{"database.max_connections", Assumed, "PostgreSQL's default", func(in *Input) string { return fmt.Sprint(in.Database.MaxConnections) }},
	{"database.pool_utilization", Required, "below 80 %", func(in *Input) string { return fmt.Sprintf("%g %%", in.Database.Utilisation) }},
	{"database.cpu", Required, "below 70 %", func(in *Input) string { return fmt.Sprintf("%g %%", in.Database.CPU) }},
	{"database.bytes_per_farmer", Assumed, "farmer, 2 plots, 10 submissions, audit trail and indexes; no attachments", func(in *Input) string { return size(in.Database.FarmerBytes) }},
	{"database.hot_share", Assumed, "of the data in use at a time, for a cache hit ratio above 95 %: check the ratio", func(in *Input) string { return fmt.Sprintf("%g %%", in.Database.HotShare) }},
	{"database.disk_factor", Assumed, "data, write-ahead log and bloat, one dump", func(in *Input) string { return fmt.Sprintf("%g", in.Database.DiskFactor) }},
	{"prices", Assumed, "OpenCost's neutral defaults", func(in *Input) string {
		return fmt.Sprintf("%s %g a vCPU-hour, %g a GB-hour, %g a GB-month of disk, ± %g %%", in.Prices.Currency, in.Prices.VCPU, in.Prices.Memory, in.Prices.Disk, in.Prices.Range)
	}},
	{"reserved", Assumed, "usual discounts", func(in *Input) string {
		var out []string
		for _, t := range in.Reserved {
			out = append(out, fmt.Sprintf("%s %g %% off", t.Name, t.Discount))
		}
		return strings.Join(out, ", ")
	}},
	{"off_peak", Required, "00:00 to 06:00, 2 workers", func(in *Input) string {
		return fmt.Sprintf("%s to %s, %d workers", clock(in.OffPeak.From), clock(in.OffPeak.To), in.OffPeak.Ceiling)
	}},
}

func clock(h float64) string {
	return fmt.Sprintf("%02d:%02d", int(h), int(math.Round(60*(h-math.Floor(h)))))
}

func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.3g GiB", float64(n)/(1<<30))
	}
	if n < 1<<20 {
		return fmt.Sprintf("%.3g KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.3g MiB", float64(n)/(1<<20))
}

func (s Size) String() string { return fmt.Sprintf("%g vCPU, %s", s.VCPUs, size(s.Memory)) }

// peak is the rate at the busiest time, in requests/s.
func (in *Input) peak() float64 {
	if in.Load.Peak > 0 {
		return in.Load.Peak
	}
	return float64(in.Load.Administrators)*in.Load.PerAdmin + float64(in.Load.Visitors)*in.Load.PerVisitor + float64(in.Load.Devices)*in.Load.PerDevice
}

// Figures lists what the plan starts from. given says where what was written stands, by path ("plan.yaml:7", "--farmers"), and
// measured how what was measured was.
func (in *Input) Figures(given, measured map[string]string) []Figure {
	var out []Figure
	for _, b := range basis {
		f := Figure{Name: b.path, Value: b.value(in), Kind: b.kind, Source: b.from}
		for _, path := range slices.Sorted(maps.Keys(given)) {
			if path == b.path || strings.HasPrefix(path, b.path+".") {
				f.Kind, f.Source = Given, given[path]
				break
			}
		}
		if how, ok := measured[b.path]; ok && f.Kind != Given {
			f.Kind, f.Source = Measured, how
		}
		out = append(out, f)
	}
	return out
}
