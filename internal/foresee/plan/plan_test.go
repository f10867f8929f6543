package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/decide/queueing"
)

func made(t *testing.T, change func(*Input)) *Plan {
	t.Helper()
	in := NewInput()
	if change != nil {
		change(&in)
	}
	p, err := Make(&in, nil, in.Figures(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The requirements' registry on the requirements' instances.
func TestRequirements(t *testing.T) {
	p := made(t, nil)
	if want := 10*0.3 + 100*0.075 + 50./3; math.Abs(p.Peak-want) > 1e-9 || p.Peak < 10 || p.Peak > 50 { // 10 to 50 requests/s are required
		t.Errorf("peak %g, want %g", p.Peak, want)
	}
	first, last := p.Needs[0], p.Needs[5]
	if math.Abs(last.Rate/first.Rate-2) > 0.001 || last.Date.Year() != 2032 && last.Date.Year() != 2031 {
		t.Errorf("%g to %g in five years, by %v", first.Rate, last.Rate, last.Date)
	}
	for _, n := range p.Needs {
		if n.P95 > 0.5 || n.Utilisation >= 100 || n.Clients != 2*(n.Workers+2)+4 || float64(n.Workers)/float64(n.Pool) > 0.8 {
			t.Errorf("%+v", n)
		}
	}
	for _, f := range p.Figures {
		if f.Kind == "" || f.Source == "" || f.Value == "" {
			t.Errorf("%+v: of no origin", f)
		}
	}
	t.Logf("%s", p.Sizing.Text)
}

// One worker fewer than planned misses the objective.
func TestNeedIsTheFewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := NewInput()
		in.Load.Peak = rapid.Float64Range(1, 400).Draw(t, "rate")
		in.Request.CV = rapid.Float64Range(0.2, 2).Draw(t, "cv")
		in.Fleet.Min = 1
		m, err := newModel(&in, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.each = 1
		n := m.need(0, in.Growth.Percent)
		var s queueing.Service
		sigma := math.Sqrt(math.Log1p(in.Request.CV * in.Request.CV))
		s.Assume(func(q float64) float64 { return 0.1 * math.Exp(sigma*math.Sqrt2*math.Erfinv(2*q-1)-sigma*sigma/2) }, 0.1)
		fewer := queueing.Pool{Workers: n.Workers - 1, Rate: n.Rate, Service: &s}
		if n.P95 > 0.5*1.01 || fewer.Stable() && fewer.Response(0.95) < 0.5*0.99 {
			t.Fatalf("%+v; with one fewer %g", n, fewer.Response(0.95))
		}
	})
}

// The date solves the growth curve, and a machine that is paid for anyway saves no cash.
func TestOutgrown(t *testing.T) {
	p := made(t, func(in *Input) {
		in.Machine = Machine{VCPUs: 4, Memory: 64 << 30, Disk: 1 << 40}
		in.Load.Peak = 40
		in.Fleet.Max, in.Database.PoolSize, in.Database.MaxClients, in.Database.MaxConnections = 1000, 1000, 1000, 1000
	})
	// 40 x 41 ms = 1.64 cores; at 70 % of 4 there are 2.8: log2(2.8/1.64) x 5 years.
	want := NewInput().Start.AddDate(0, 0, int(math.Ceil(math.Log2(2.8/1.64)*5*365.25)))
	if l := p.Limits[0]; l.Resource != "machine CPU" || math.Abs(l.Outgrown.Sub(want).Hours()) > 36 || !l.Earliest.Before(l.Outgrown.Time) {
		t.Errorf("%+v, want %v", p.Limits[0], want)
	}
	if p.Limits[len(p.Limits)-1].Outgrown.After(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Error("order")
	}
	for _, s := range p.Savings {
		if s.Cash != 0 {
			t.Errorf("on a machine that is paid for, %s saves %g", s.What, s.Cash)
		}
	}
	if p.Savings[0].VCPUHours < 0 {
		t.Errorf("%+v", p.Savings[0])
	}
	if a, b := p.Costs[0], p.Costs[59]; a.Expected != b.Expected {
		t.Errorf("the machine's price changes from %g to %g", a.Expected, b.Expected)
	}
}

// A day is a day in JSON, and one that is not foreseen is not there.
func TestJSON(t *testing.T) {
	p := made(t, func(in *Input) { in.Prices.Budget = 1e6 })
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if text := string(b); strings.Contains(text, "0001-01-01") || strings.Contains(text, "T00:00") || !strings.Contains(text, `"budget":{"monthly":1000000}`) {
		t.Errorf("%s", text)
	}
	for i, l := range back.Limits {
		if w := p.Limits[i]; l.Resource != w.Resource || !l.Outgrown.Equal(w.Outgrown.Time) || !l.Earliest.Equal(w.Earliest.Time) {
			t.Errorf("%+v became %+v", w, l)
		}
	}
}

// No other number of reserved instances is cheaper over the term than the break-even's: all are tried, each month of the term is paid.
func TestReserveIsTheCheapest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := NewInput()
		in.Load.Peak = rapid.Float64Range(20, 250).Draw(t, "rate")
		in.Growth.Percent = rapid.Float64Range(50, 150).Draw(t, "growth")
		term := Term{"term", float64(rapid.IntRange(1, 3).Draw(t, "years")), rapid.Float64Range(5, 80).Draw(t, "discount"), 0}
		each := rapid.IntRange(1, 4).Draw(t, "workers on an instance")
		m, err := newModel(&in, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.each = each
		r := m.reserve(term, each)
		months := int(12 * term.Years)
		bill := func(instances int) (total float64) {
			for month := range months {
				cost, _ := m.month((float64(month)+0.5)/12, in.Growth.Percent, each, &Reserve{Term: term, Instances: instances})
				total += cost
			}
			return total
		}
		chosen, none := bill(r.Instances), bill(0)
		for n := range m.instances(m.in.peak()*m.growth(term.Years, in.Growth.Percent), each) + 2 {
			if other := bill(n); other < chosen*(1-1e-9) {
				t.Fatalf("%d reserved cost %.2f, and %d would cost %.2f", r.Instances, chosen, n, other)
			}
		}
		if saves := (none - chosen) / float64(months); math.Abs(saves-r.Saves) > 1e-6*none {
			t.Fatalf("%d reserved save %.2f a month, and are said to save %.2f", r.Instances, saves, r.Saves)
		}
		if r.Low > r.Instances || r.Instances > r.High || r.Saves < r.Baseline-1e-6 {
			t.Fatalf("%+v", r)
		}
	})
}

func TestOffPeak(t *testing.T) {
	p := made(t, nil)
	if s := p.OffPeak; math.Abs(s.Hours-42) > 1e-6 || !s.Fits {
		t.Errorf("%+v", s)
	}
	p = made(t, func(in *Input) { in.Load.Peak = 2000 })
	if s := p.OffPeak; s.Fits || !strings.HasPrefix(s.Sentence, "no:") {
		t.Errorf("%+v", s)
	}
	over := OffPeak{22, 4, 2}
	if !over.inOffPeak(23) || !over.inOffPeak(3) || over.inOffPeak(12) {
		t.Error("hours that cross midnight")
	}
}

// The daily load's CPU comes into the band when instances may be as small as the work.
func TestRightSizing(t *testing.T) {
	for _, peak := range []float64{27, 100, 400} {
		p := made(t, func(in *Input) { in.Load.Peak = peak })
		for _, o := range p.Sizing.Options {
			if o.Peak > 70+1e-6 || o.Fixed > o.Average+1e-9 {
				t.Errorf("at %g: %+v", peak, o)
			}
		}
		t.Logf("%g/s: %s", peak, p.Sizing.Text)
	}
	in := made(t, func(in *Input) { in.Load.Peak, in.Instances.Worker.VCPUs = 400, 1 })
	if !in.Sizing.InBand {
		t.Errorf("%+v", in.Sizing)
	}
}

func TestCostsAndBudget(t *testing.T) {
	p := made(t, func(in *Input) { in.Load.Peak, in.Prices.Budget = 400, 700 })
	for i, c := range p.Costs {
		if c.Low > c.Expected || c.Expected > c.High || c.Reserved > c.Expected || i > 0 && c.Expected < p.Costs[i-1].Expected-1e-9 {
			t.Errorf("%+v", c)
		}
	}
	if len(p.Costs) != 60 {
		t.Errorf("%d months", len(p.Costs))
	}
	t.Logf("first %.0f, last %.0f (%.0f to %.0f); budget %+v", p.Costs[0].Expected, p.Costs[59].Expected, p.Costs[59].Low, p.Costs[59].High, p.Budget)
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"years":               func(in *Input) { in.Years = 0 },
		"load.devices":        func(in *Input) { in.Load.Devices = -1 },
		"request.cpu":         func(in *Input) { in.Request.CPU = time.Second },
		"growth.low":          func(in *Input) { in.Growth.Low = 101 },
		"instances.worker":    func(in *Input) { in.Instances.Worker.Memory = 1 << 20 },
		"fleet.max":           func(in *Input) { in.Fleet.Max = 1 },
		"prices.currency":     func(in *Input) { in.Prices.Currency = "dollars" },
		"time_zone":           func(in *Input) { in.TimeZone = "Tonga" },
		"reserved.0.discount": func(in *Input) { in.Reserved[0].Discount = 100 },
		"load.peak":           func(in *Input) { in.Load.Peak = math.NaN() },
	} {
		in := NewInput()
		change(&in)
		if err := in.Validate(); err == nil || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	in := NewInput()
	in.Load = Load{Pattern: "daily"}
	if _, err := Make(&in, nil, nil); err == nil || errors.Is(err, nil) {
		t.Error("a plan for nobody")
	}
	in = NewInput()
	in.Load.Peak = 900_000
	if _, err := Make(&in, nil, nil); err == nil {
		t.Error("a plan for a continent")
	}
}
