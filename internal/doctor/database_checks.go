package doctor

import (
	"fmt"
	"strings"
	"time"
)

// The requirements' targets for the database.
const (
	hitWanted  = 95.0 // percent of blocks found in the cache
	cpuWanted  = 70.0 // percent of the host's cores, on average
	readsMany  = 80.0 // percent of the statements' time, from which on a replica would take much off
	fewBlocks  = 100_000
	cacheOfRAM = 25 // percent: PostgreSQL's own advice for shared_buffers
)

var databaseChecks = []check{
	{"durability", []Part{PostgreSQL}, func(s *Site, o *outcome) {
		for _, name := range []string{"fsync", "full_page_writes"} {
			if v := s.Postgres.Setting(name); v.Text == "off" {
				o.find(Finding{Severity: Problem, What: "a power cut destroys the database", Where: []Value{v}, Fix: "write " + name + " = on"})
			}
		}
		if v := s.Postgres.Setting("synchronous_commit"); v.Text == "off" {
			o.find(Finding{Severity: Warning, What: "a power cut loses the last registrations, which devices have been told are stored", Where: []Value{v}, Fix: "write synchronous_commit = on"})
		}
		if v := s.Postgres.Setting("autovacuum"); v.Text == "off" {
			o.find(Finding{Severity: Problem, What: "tables and indexes grow without end", Where: []Value{v}, Fix: "write autovacuum = on"})
		}
		o.holds("fsync, full_page_writes, synchronous_commit and autovacuum are on")
	}},
	{"cache", []Part{Local, ThisHost}, func(s *Site, o *outcome) {
		v, have := s.Postgres.Setting("shared_buffers"), s.Postgres.bytes("shared_buffers")
		share := 100 * have / s.Host.Memory
		arithmetic := fmt.Sprintf("%s of %s = %d %%; %d %% is usual", bytes(have), bytes(s.Host.Memory), share, cacheOfRAM)
		switch {
		case share < 10:
			o.find(Finding{Severity: Warning, What: "PostgreSQL's cache is small for this host", Where: []Value{v}, Arithmetic: arithmetic, Fix: fmt.Sprintf("write shared_buffers = %dMB", s.Host.Memory*cacheOfRAM/100/mib)})
		case share > 45:
			o.find(Finding{Severity: Warning, What: "PostgreSQL's cache leaves little for the workers", Where: []Value{v}, Arithmetic: arithmetic, Fix: fmt.Sprintf("write shared_buffers = %dMB", s.Host.Memory*cacheOfRAM/100/mib)})
		}
		o.holds("%s", arithmetic)
	}},
	{"cost of random reads", []Part{PostgreSQL, Disk}, func(s *Site, o *outcome) {
		v := s.Postgres.Setting("random_page_cost")
		if v.Text == "4" && !s.Disk.Rotational {
			o.find(Finding{Severity: Advice, What: "PostgreSQL takes the disk for one that spins, and reads whole tables where an index were quicker", Where: []Value{v}, Fix: "write random_page_cost = 1.1"})
			return
		}
		o.holds("%s", v)
	}},
	{"forgotten transactions", []Part{PostgreSQL}, func(s *Site, o *outcome) {
		v := s.Postgres.Setting("idle_in_transaction_session_timeout")
		if s.Postgres.int(v.Name) == 0 {
			o.find(Finding{Severity: Advice, What: "a client that forgets its transaction keeps its locks and stops vacuum for ever", Where: []Value{v}, Fix: "write idle_in_transaction_session_timeout = '10min'"})
			return
		}
		o.holds("%s", v)
	}},
	{"statistics of statements", []Part{PostgreSQL}, func(s *Site, o *outcome) {
		if s.Postgres.Times == nil {
			o.find(Finding{Severity: Warning, What: "nobody can say which statements are slow", Where: []Value{s.Postgres.Setting("shared_preload_libraries")}, Arithmetic: s.Postgres.NoTimes,
				Fix: "write shared_preload_libraries = 'pg_stat_statements', restart, and CREATE EXTENSION pg_stat_statements; the user of doctor needs the role pg_monitor"})
			return
		}
		o.holds("pg_stat_statements counts %.0f s of statements", s.Postgres.Times.All)
	}},
	{"cache hit ratio", []Part{PostgreSQL}, func(s *Site, o *outcome) {
		p := s.Postgres
		all := p.Hit + p.Read
		if all < fewBlocks {
			o.skip("only %.0f blocks were read %s: too few to judge", all, p.since())
			return
		}
		ratio := 100 * p.Hit / all
		arithmetic := fmt.Sprintf("%.0f of %.0f blocks %s = %.1f %%; wanted: above %.0f %%", p.Hit, all, p.since(), ratio, hitWanted)
		if ratio <= hitWanted {
			o.find(Finding{Severity: Warning, What: "the database reads much from the disk", Where: []Value{p.Setting("shared_buffers")}, Arithmetic: arithmetic, Fix: "more memory for the database (shared_buffers, and the host's file cache) before more workers; look at the table scans below"})
			return
		}
		o.holds("%s", arithmetic)
	}},
	{"CPU of the database", []Part{Local, ThisHost}, func(s *Site, o *outcome) {
		arithmetic := fmt.Sprintf("PostgreSQL takes %.0f %% of %d cores now; wanted: below %.0f %% on average", s.Postgres.Busy, s.Host.CPUs, cpuWanted)
		if s.Postgres.Busy >= cpuWanted {
			o.find(Finding{Severity: Warning, What: "the database has little CPU left: more workers would make it worse", Arithmetic: arithmetic, Fix: "look at the slow statements and the missing indexes; then a bigger host for the database"})
			return
		}
		o.holds("%s", arithmetic)
	}},
	{"slow statements", []Part{PostgreSQL}, func(s *Site, o *outcome) {
		if s.Postgres.Times == nil {
			o.skip("%s", s.Postgres.NoTimes)
			return
		}
		for _, st := range s.Postgres.Slow {
			o.find(Finding{Severity: Warning, What: fmt.Sprintf("a statement takes %s on average, %.0f times, %.0f %% of all statements' time", short(time.Duration(st.Mean*float64(time.Second))), st.Calls, st.Share),
				Arithmetic: st.Text, Fix: "EXPLAIN (ANALYZE, BUFFERS) it; an index on what it filters by is the usual mend"})
		}
		o.holds("none takes %.1f s or more on average", slowMean)
	}},
	{"table scans", []Part{PostgreSQL}, func(s *Site, o *outcome) {
		for _, t := range s.Postgres.Scans {
			o.find(Finding{Severity: Warning, What: fmt.Sprintf("%s is read from end to end again and again: an index seems to be missing", t.Name),
				Arithmetic: fmt.Sprintf("%.0f scans of %.0f rows on average (it has %.0f)", t.Of, t.N, t.Rows), Fix: "find the statement (slow statements) and index what it filters by"})
		}
		o.holds("no table of 10,000 rows is read from end to end often")
	}},
	{"foreign keys without an index", []Part{PostgreSQL}, func(s *Site, o *outcome) {
		for _, k := range s.Postgres.Keys {
			first, _, _ := strings.Cut(k.Columns, ",")
			o.find(Finding{Severity: Advice, What: fmt.Sprintf("%s (%s) refers to %s without an index: each deletion there reads all of %s", k.Table, k.Columns, k.To, k.Table),
				Arithmetic: fmt.Sprintf("%.0f rows", k.Rows), Fix: fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s), unless nothing is ever deleted or looked up that way", k.Table, first)})
		}
		o.holds("each has one, of tables with 10,000 rows or more")
	}},
	{"dead rows", []Part{PostgreSQL}, func(s *Site, o *outcome) {
		for _, t := range s.Postgres.Dead {
			o.find(Finding{Severity: Warning, What: fmt.Sprintf("vacuum does not keep up with %s", t.Name), Arithmetic: fmt.Sprintf("%.0f dead rows beside %.0f live ones", t.N, t.Rows),
				Fix: fmt.Sprintf("VACUUM (ANALYZE) %s; then ALTER TABLE %s SET (autovacuum_vacuum_scale_factor = 0.05); look for forgotten transactions", t.Name, t.Name)})
		}
		o.holds("no table has many")
	}},
	{"read replica", []Part{Local, ThisHost}, func(s *Site, o *outcome) {
		p := s.Postgres
		if p.Times == nil || p.Times.All == 0 {
			o.skip("%s", p.NoTimes)
			return
		}
		reads := 100 * p.Times.Reads / p.Times.All
		arithmetic := fmt.Sprintf("reads take %.0f %% of the statements' time, the database %.0f %% of the CPU", reads, p.Busy)
		if reads >= readsMany && p.Busy >= cpuWanted && len(p.Slow)+len(p.Scans) == 0 {
			o.find(Finding{Severity: Advice, What: "a read replica would take load off the database", Arithmetic: arithmetic, Fix: "stream to a second server and name it by db_replica_host in odoo.conf (Odoo 18), after a test on staging; a bigger host is the simpler step"})
			return
		}
		o.holds("not worth its trouble now: %s", arithmetic)
	}},
}

// since says since when the statistics count.
func (p *Postgres) since() string {
	if p.Since.IsZero() {
		return "so far"
	}
	return "since " + p.Since.UTC().Format(time.DateOnly)
}
