package plan

import (
	"fmt"
	"math"
	"time"
)

const (
	monthHours = 730.5
	gib        = 1 << 30
)

// Reserve is how many instances a term is worth.
type Reserve struct {
	Term
	// BreakEven is the share of the time that an instance must run for its reservation to pay: 1 - discount. It is the newsvendor's
	// critical ratio (p - r)/p = discount, seen from above: reserve the smallest q with P(size <= q) >= discount, where p is the
	// price on demand and r the effective price reserved.
	BreakEven float64 `json:"break_even_percent"`
	Instances int     `json:"instances"`
	// Low and High are what the low and the high growth make worth it.
	Low       int     `json:"instances_low"`
	High      int     `json:"instances_high"`
	Saves     float64 `json:"saves_monthly"` // against all on demand, mean over the term
	Baseline  float64 `json:"saves_monthly_with_minimum"`
	Database  float64 `json:"saves_monthly_database"` // it always runs
	Upfront   float64 `json:"upfront"`                // of instances and database
	Committed float64 `json:"committed"`              // the whole of it
}

// Schedule is what the off-peak ceiling does.
type Schedule struct {
	Hours    float64 `json:"hours_a_week"`
	Ceiling  int     `json:"ceiling"`
	Needed   int     `json:"most_needed"` // workers within these hours
	Fits     bool    `json:"fits"`        // the load supports it
	Fixed    float64 `json:"instance_hours_monthly_fixed"`
	OnTop    float64 `json:"instance_hours_monthly_following"`
	Worth    bool    `json:"worth_it"`
	Sentence string  `json:"text"`
}

// Saving tells money apart from room.
type Saving struct {
	What          string  `json:"what"`
	InstanceHours float64 `json:"instance_hours_monthly"`
	VCPUHours     float64 `json:"vcpu_hours_monthly"`
	GBHours       float64 `json:"gb_hours_monthly"`
	Cash          float64 `json:"cash_monthly"`
}

// Cost is a month.
type Cost struct {
	Month     string  `json:"month"`
	Instances float64 `json:"mean_instances"`
	Low       float64 `json:"low"` // the low growth at the low end of the prices
	Expected  float64 `json:"expected"`
	High      float64 `json:"high"`
	Reserved  float64 `json:"expected_reserved"` // with the best term's reservation
}

// Overrun is when the budget is exceeded; zero: not within the plan.
type Overrun struct {
	Monthly  float64 `json:"monthly"`
	Expected Date    `json:"exceeded,omitzero"`
	Earliest Date    `json:"earliest,omitzero"`
}

func (in *Input) hour(s Size) float64 {
	return s.VCPUs*in.Prices.VCPU + float64(s.Memory)/gib*in.Prices.Memory
}

// following is the mean number of instances over the week that follow the load, at a growth factor.
func (m *model) following(factor float64, each int) float64 {
	total := 0.0
	for _, w := range m.week {
		total += w.of * float64(m.instances(w.rate*m.in.peak()*factor, each))
	}
	return total
}

// occupancy is, for each instance, the share of the term in which it runs.
func (m *model) occupancy(years, percent float64, each int) []float64 {
	months := max(int(math.Round(years*12)), 1)
	top := m.instances(m.in.peak()*m.growth(years, percent), each)
	out := make([]float64, top)
	for month := range months {
		peak := m.in.peak() * m.growth((float64(month)+0.5)/12, percent)
		for _, w := range m.week {
			for k := range min(m.instances(w.rate*peak, each), top) {
				out[k] += w.of / float64(months)
			}
		}
	}
	return out
}

func (m *model) money(p *Plan) {
	in, each := m.in, p.Sizing.PerInstance
	rented := in.Machine.VCPUs == 0
	p.Reserve = []Reserve{}
	for _, t := range in.Reserved {
		if !rented {
			break
		}
		p.Reserve = append(p.Reserve, m.reserve(t, each))
	}
	p.OffPeak = m.offPeak(each)
	worker := in.Instances.Worker
	saving := func(what string, hours float64) {
		s := Saving{What: what, InstanceHours: hours, VCPUHours: hours * worker.VCPUs, GBHours: hours * float64(worker.Memory) / gib}
		if rented {
			s.Cash = hours * in.hour(worker)
		} else { // a worker that is not there frees memory; idle, it took no CPU
			s.VCPUHours, s.GBHours = 0, hours*float64(in.Worker.Memory)/gib
		}
		p.Savings = append(p.Savings, s)
	}
	saving("following the load instead of the peak's size all the time", (float64(m.instances(p.Peak, each))-m.following(1, each))*monthHours)
	if p.OffPeak.Fits {
		saving("the off-peak ceiling on a fixed size", p.OffPeak.Fixed)
		saving("the off-peak ceiling on top of following the load", p.OffPeak.OnTop)
	}
	if rented {
		for _, r := range p.Reserve {
			p.Savings = append(p.Savings, Saving{What: fmt.Sprintf("reserving %d instances and the database for %s", r.Instances, r.Name), Cash: r.Saves + r.Database})
		}
	}
	m.costs(p, each)
}

func (m *model) reserve(t Term, each int) Reserve {
	in := m.in
	price := in.hour(in.Instances.Worker)
	d := t.Discount / 100
	r := Reserve{Term: t, BreakEven: 100 * (1 - d)}
	count := func(percent float64) (n int) {
		for _, share := range m.occupancy(t.Years, percent, each) {
			if share > 1-d {
				n++
			}
		}
		return n
	}
	r.Instances, r.Low, r.High = count(in.Growth.Percent), count(in.Growth.Low), count(in.Growth.High)
	for k, share := range m.occupancy(t.Years, in.Growth.Percent, each) {
		saves := (share - (1 - d)) * price * monthHours
		if k < r.Instances {
			r.Saves += saves
		}
		if k < in.Fleet.Instances {
			r.Baseline += saves
		}
	}
	base := in.hour(in.Instances.Database)
	r.Database = d * base * monthHours
	r.Committed = (float64(r.Instances)*price + base) * (1 - d) * monthHours * 12 * t.Years
	r.Upfront = r.Committed * t.Upfront / 100
	return r
}

// inOffPeak reports whether an hour of the day is off-peak; the hours may cross midnight.
func (o OffPeak) inOffPeak(hour float64) bool {
	if o.From <= o.To {
		return hour >= o.From && hour < o.To
	}
	return hour >= o.From || hour < o.To
}

func (m *model) offPeak(each int) Schedule {
	in := m.in
	s := Schedule{Ceiling: in.OffPeak.Ceiling}
	peak := m.instances(in.peak(), each)
	ceiling := max((s.Ceiling+each-1)/each, in.Fleet.Instances)
	if in.Machine.VCPUs > 0 {
		ceiling = max(s.Ceiling, in.Fleet.Min)
	}
	step := m.series.Step.Hours()
	weeks := m.series.Duration().Hours() / 168
	month := monthHours / 168 / weeks
	for i, share := range m.series.Rates {
		at := m.series.Start.Add(time.Duration(i) * m.series.Step)
		if !in.OffPeak.inOffPeak(float64(at.Hour()) + float64(at.Minute())/60) {
			continue
		}
		s.Hours += step / weeks
		s.Needed = max(s.Needed, m.workers(share*in.peak()))
		s.Fixed += float64(max(peak-ceiling, 0)) * step * month
		s.OnTop += float64(max(m.instances(share*in.peak(), each)-ceiling, 0)) * step * month
	}
	s.Fits = s.Needed <= s.Ceiling
	s.Worth = s.Fits && s.Fixed > 0
	switch {
	case !s.Fits:
		s.Sentence = fmt.Sprintf("no: these hours need up to %d workers, and the ceiling is %d", s.Needed, s.Ceiling)
	case s.OnTop < 0.5 && s.Worth:
		s.Sentence = "it saves on a fixed size; a fleet that follows the load is that small in these hours by itself"
	case s.Worth:
		s.Sentence = "the load supports it"
	default:
		s.Sentence = "it saves nothing: the fleet is never larger than the ceiling"
	}
	return s
}

// month is what a month costs, from its middle on.
func (m *model) month(years, percent float64, each int, reserved *Reserve) (cost, instances float64) {
	in, g := m.in, m.growth(years, percent)
	disk := m.need(years, percent).Disk
	if in.Machine.VCPUs > 0 {
		if in.Machine.Month > 0 {
			return in.Machine.Month, m.following(g, each)
		}
		disk = max(disk, in.Machine.Disk)
		return in.hour(Size{in.Machine.VCPUs, in.Machine.Memory})*monthHours + float64(disk)/gib*in.Prices.Disk, m.following(g, each)
	}
	instances = m.following(g, each)
	workers := instances * in.hour(in.Instances.Worker)
	base := in.hour(in.Instances.Database)
	if reserved != nil {
		d := reserved.Discount / 100
		paid := 0.0
		for _, w := range m.week {
			paid += w.of * max(float64(m.instances(w.rate*in.peak()*g, each)-reserved.Instances), 0)
		}
		workers = (paid + float64(reserved.Instances)*(1-d)) * in.hour(in.Instances.Worker)
		base *= 1 - d
	}
	return (workers+base+in.hour(in.Instances.Nginx))*monthHours + float64(disk)/gib*in.Prices.Disk, instances
}

func (m *model) costs(p *Plan, each int) {
	in := m.in
	var best *Reserve
	for i := range p.Reserve {
		if r := &p.Reserve[i]; best == nil || r.Saves+r.Database > best.Saves+best.Database {
			best = r
		}
	}
	price := in.Prices.Range / 100
	if in.Prices.Budget > 0 {
		p.Budget = &Overrun{Monthly: in.Prices.Budget}
	}
	for month := range in.Years * 12 {
		years := (float64(month) + 0.5) / 12
		at := in.Start.AddDate(0, month, 0)
		c := Cost{Month: at.Format("2006-01")}
		c.Expected, c.Instances = m.month(years, in.Growth.Percent, each, nil)
		c.Low, _ = m.month(years, in.Growth.Low, each, nil)
		c.High, _ = m.month(years, in.Growth.High, each, nil)
		c.Reserved, _ = m.month(years, in.Growth.Percent, each, best)
		c.Low, c.High = c.Low*(1-price), c.High*(1+price)
		p.Costs = append(p.Costs, c)
		if b := p.Budget; b != nil {
			if b.Expected.IsZero() && c.Expected > b.Monthly {
				b.Expected = Date{Time: at}
			}
			if b.Earliest.IsZero() && c.High > b.Monthly {
				b.Earliest = Date{Time: at}
			}
		}
	}
}
