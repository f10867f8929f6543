package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// plan is a Config made ready for use. It never changes; a new configuration is a new plan. Classes and routes that
// keep their name keep their counters.
type plan struct {
	cfg     Config
	digest  string
	classes []*class // by rank: the most important first
	byPath  []prefix // longest first
	other   int      // rank of the class of what nothing names
	routes  []*route // longest first; the last is "other"
	trusted []netip.Prefix
}

type class struct {
	name     string
	priority int
	limit    int // 0: all of the queue
	timeout  time.Duration
	retry    time.Duration
	counters *counters
}

type route struct {
	prefix   string
	counters *counters
}

type prefix struct {
	path string
	rank int
}

// newPlan compiles a valid configuration; old (may be nil) lends its counters.
func newPlan(cfg Config, old *plan) *plan {
	p := &plan{cfg: cfg, digest: cfg.Digest()}
	lent := map[string]*counters{}
	if old != nil {
		for _, c := range old.classes {
			lent["class "+c.name] = c.counters
		}
		for _, r := range old.routes {
			lent["route "+r.prefix] = r.counters
		}
	}
	counted := func(name string) *counters {
		if c := lent[name]; c != nil {
			return c
		}
		return &counters{}
	}

	all := append(slices.Clone(cfg.Classes), Class{Name: otherName, Priority: otherRank})
	slices.SortStableFunc(all, func(a, b Class) int { return cmp.Compare(a.Priority, b.Priority) })
	for rank, c := range all {
		timeout := c.QueueTimeout
		if timeout == 0 {
			timeout = cfg.Queue.Timeout
		}
		retry := c.RetryAfter
		if retry == 0 {
			retry = cfg.Queue.RetryAfter
		}
		p.classes = append(p.classes, &class{c.Name, c.Priority, c.QueueLimit, timeout, retry, counted("class " + c.Name)})
		for _, r := range c.Routes {
			p.byPath = append(p.byPath, prefix{r, rank})
		}
		if c.Name == otherName {
			p.other = rank
		}
	}
	slices.SortStableFunc(p.byPath, func(a, b prefix) int { return cmp.Compare(len(b.path), len(a.path)) })

	for _, r := range cfg.Routes {
		p.routes = append(p.routes, &route{r, counted("route " + r)})
	}
	slices.SortStableFunc(p.routes, func(a, b *route) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	p.routes = append(p.routes, &route{otherName, counted("route " + otherName)})

	for _, t := range cfg.Trusted {
		if n, err := parseTrusted(t); err == nil {
			p.trusted = append(p.trusted, n)
		}
	}
	return p
}

// rank is the index of the class that a path belongs to.
func (p *plan) rank(path string) int {
	for i := range p.byPath {
		if under(path, p.byPath[i].path) {
			return p.byPath[i].rank
		}
	}
	return p.other
}

// route is the route that a path is counted under.
func (p *plan) route(path string) *route {
	last := len(p.routes) - 1
	for _, r := range p.routes[:last] {
		if under(path, r.prefix) {
			return r
		}
	}
	return p.routes[last]
}

// under reports whether path is prefix or lies below it: /api/x is under /api, /apix is not.
func under(path, prefix string) bool {
	if !strings.HasPrefix(path, prefix) {
		return false
	}
	return len(path) == len(prefix) || path[len(prefix)] == '/' || strings.HasSuffix(prefix, "/")
}

func (p *plan) trusts(a netip.Addr) bool {
	a = a.Unmap()
	for _, n := range p.trusted {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
