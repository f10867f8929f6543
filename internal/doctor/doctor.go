// Package doctor reads how a site is set up (odoo.conf, PgBouncer's ini, nginx's configuration, PostgreSQL's settings and
// statistics, the host) and checks it as one budget: connections, memory, queues, time-outs and sizes that each program
// takes for granted of the others. It changes nothing. Each finding has its line, its arithmetic and its fix.
//
// Examine is pure; Look (in the files that read) fills a Site. What could not be read is not taken to be right: the
// checks that need it are reported as not made, with the reason.
package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// Severity orders findings.
type Severity uint8

const (
	Advice  Severity = iota // would be better
	Warning                 // will hurt under load, or on a bad day
	Problem                 // wrong now
)

var severityNames = [...]string{"advice", "warning", "problem"}

func (s Severity) String() string               { return severityNames[s] }
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing to mend.
type Finding struct {
	Severity   Severity `json:"severity"`
	Check      string   `json:"check"`
	What       string   `json:"what"`
	Where      []Value  `json:"where,omitempty"` // the settings that it rests on
	Arithmetic string   `json:"arithmetic,omitempty"`
	Fix        string   `json:"fix"`
}

// Check is one that was made and found nothing, or one that could not be made.
type Check struct {
	Check string `json:"check"`
	Note  string `json:"note"` // the figures that hold, or why it was not made
}

// Report is the outcome of all checks.
type Report struct {
	Read     []string  `json:"read"` // what was looked at
	Findings []Finding `json:"findings"`
	Held     []Check   `json:"held"`
	NotMade  []Check   `json:"not_made"`
}

// Failed reports whether something is wrong now.
func (r *Report) Failed() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Problem })
}

// Part is something that a check needs to know.
type Part string

// The parts of a site.
const (
	OdooConf   Part = "odoo.conf"
	PgBouncer  Part = "PgBouncer's ini"
	NginxConf  Part = "nginx's configuration"
	Routes     Part = "what nginx passes on"
	PostgreSQL Part = "PostgreSQL"
	Local      Part = "PostgreSQL on this host"
	ThisHost   Part = "this host"
	Disk       Part = "the disk"
	Engine     Part = "the Docker engine"
)

// Site is what was read. A part that could not be read is nil, and Absent says why.
type Site struct {
	Fleet    *Fleet
	Odoo     *Ini
	Bouncer  *Ini
	Nginx    *Nginx
	Postgres *Postgres
	Host     *Host
	Disk     *DiskTest
	Volumes  *Volumes
	Absent   map[Part]string
}

// Fleet is the fleet of Odoo's workers as Tidemark is configured for it.
type Fleet struct {
	Name string
	Max  Value // bounds.max
	Logs []string
}

func (s *Site) has(p Part) bool {
	switch p {
	case OdooConf:
		return s.Odoo != nil
	case PgBouncer:
		return s.Bouncer != nil
	case NginxConf:
		return s.Nginx != nil
	case Routes:
		return s.Nginx != nil && len(s.Nginx.Routes) > 0
	case PostgreSQL:
		return s.Postgres != nil
	case Local:
		return s.Postgres != nil && s.Postgres.Local
	case ThisHost:
		return s.Host != nil
	case Disk:
		return s.Disk != nil
	case Engine:
		return s.Volumes != nil
	}
	return false
}

// why says why a part is not there.
func (s *Site) why(p Part) string {
	switch {
	case p == Local && s.Postgres != nil:
		return "PostgreSQL runs on another host: run doctor there as well"
	case p == Local:
		p = PostgreSQL
	case p == Routes && s.Nginx != nil:
		return "nginx passes no request on"
	case p == Routes:
		p = NginxConf
	}
	return string(p) + " was not read: " + s.Absent[p]
}

// check is one rule of the table.
type check struct {
	name  string
	needs []Part
	run   func(*Site, *outcome)
}

// outcome collects what one check says.
type outcome struct {
	check    string
	findings []Finding
	held     string
	notMade  string
}

// holds says what is right, with its figures; it counts only when nothing was found.
func (o *outcome) holds(format string, args ...any) { o.held = fmt.Sprintf(format, args...) }

// skip says why the check could not be made after all.
func (o *outcome) skip(format string, args ...any) { o.notMade = fmt.Sprintf(format, args...) }

func (o *outcome) find(f Finding) {
	f.Check = o.check
	f.Where = slices.DeleteFunc(f.Where, func(v Value) bool { return v.Name == "" })
	o.findings = append(o.findings, f)
}

// Examine makes all checks. Problems come first.
func Examine(s *Site) *Report {
	r := &Report{Read: s.read(), Findings: []Finding{}, Held: []Check{}, NotMade: []Check{}}
	for _, c := range checks() {
		if i := slices.IndexFunc(c.needs, func(p Part) bool { return !s.has(p) }); i >= 0 {
			r.NotMade = append(r.NotMade, Check{c.name, s.why(c.needs[i])})
			continue
		}
		o := outcome{check: c.name}
		c.run(s, &o)
		r.Findings = append(r.Findings, o.findings...)
		switch {
		case len(o.findings) > 0:
		case o.held != "":
			r.Held = append(r.Held, Check{c.name, o.held})
		case o.notMade != "":
			r.NotMade = append(r.NotMade, Check{c.name, o.notMade})
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	return r
}

// read lists what was looked at.
func (s *Site) read() []string {
	out := []string{}
	if s.Odoo != nil {
		out = append(out, "Odoo ("+s.Odoo.File+")")
	}
	if s.Bouncer != nil {
		out = append(out, "PgBouncer ("+s.Bouncer.File+")")
	}
	if s.Nginx != nil {
		out = append(out, "nginx ("+s.Nginx.File+")")
	}
	if s.Postgres != nil {
		out = append(out, "PostgreSQL "+s.Postgres.Version)
	}
	if s.Host != nil {
		out = append(out, fmt.Sprintf("this host (%d cores, %s)", s.Host.CPUs, bytes(s.Host.Memory)))
	}
	if s.Volumes != nil {
		out = append(out, "the Docker engine's volumes")
	}
	return out
}

// checks is the whole table.
func checks() []check {
	return slices.Concat(odooChecks, poolChecks, nginxChecks, hostChecks, dockerChecks, databaseChecks)
}

// size is how many workers there may be: Tidemark's maximum, or as many as Odoo starts.
func (s *Site) size() Value {
	if s.Fleet != nil {
		return s.Fleet.Max
	}
	return s.Odoo.Get("workers")
}

func sum(terms ...string) string { return strings.Join(terms, " + ") }
