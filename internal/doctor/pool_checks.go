package doctor

import (
	"fmt"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// demand is how many connections Odoo makes: as it does in practice, and at the worst that its settings allow.
func (s *Site) demand() (usual, worst int64, how, howWorst string, where []Value) {
	n, cron, each, gevent := s.size(), s.Odoo.Get("max_cron_threads"), s.Odoo.Get("db_maxconn"), s.Odoo.Get("db_maxconn_gevent")
	if gevent.None() {
		gevent.Text = each.Text
	}
	usual = connectionsPerWorker*(n.Int()+cron.Int()) + connectionsOfGevent
	worst = (n.Int()+cron.Int())*each.Int() + gevent.Int()
	how = fmt.Sprintf("%d x (%d workers + %d cron) + %d = %d", connectionsPerWorker, n.Int(), cron.Int(), connectionsOfGevent, usual)
	howWorst = fmt.Sprintf("(%d workers + %d cron) x db_maxconn %d + %d = %d", n.Int(), cron.Int(), each.Int(), gevent.Int(), worst)
	return usual, worst, how, howWorst, []Value{n, cron, each}
}

// free is how many connections PostgreSQL has for applications.
func (p *Postgres) free() (n int64, how string) {
	most, reserved := p.int("max_connections"), p.int("superuser_reserved_connections")+p.int("reserved_connections")
	return most - reserved - spare, fmt.Sprintf("max_connections %d - %d reserved - %d for backup, replication and you = %d", most, reserved, spare, most-reserved-spare)
}

const spare = 5

// behindPool reports whether Odoo speaks to PgBouncer, as far as the files tell.
func (s *Site) behindPool() bool {
	port := s.Odoo.Get("db_port")
	return s.Bouncer != nil && !port.None() && port.Text == s.Bouncer.Get("listen_port").Text
}

// business is the database that Odoo works on, * when it is not said.
func (s *Site) business() string {
	name := s.Odoo.Get("db_name")
	if name.None() {
		return "*"
	}
	first, _, _ := strings.Cut(name.Text, ",")
	return strings.TrimSpace(first)
}

// overdrawn judges a demand against what there is.
func (s *Site) overdrawn(o *outcome, room int64, of string, limit Value) {
	usual, worst, how, howWorst, where := s.demand()
	where = append(where, limit)
	switch {
	case usual > room:
		o.find(Finding{Severity: Problem, What: fmt.Sprintf("Odoo at its largest needs more connections than %s has", of), Where: where, Arithmetic: fmt.Sprintf("%s > %d", how, room),
			Fix: fmt.Sprintf("raise %s by %d or more, or lower bounds.max", limit.Name, usual-room)})
	case worst > room:
		processes := s.size().Int() + s.Odoo.Get("max_cron_threads").Int() + 1
		o.find(Finding{Severity: Warning, What: fmt.Sprintf("one process that leaks or bursts can take all connections of %s from the others", of), Where: where,
			Arithmetic: fmt.Sprintf("%s > %d; usual: %s", howWorst, room, how), Fix: fmt.Sprintf("write db_maxconn = %d in odoo.conf (%d / %d processes)", max(room/processes, connectionsOfGevent), room, processes)})
	}
	o.holds("%s, at worst %d <= %d", how, worst, room)
}

var poolChecks = []check{
	{"pgbouncer.ini: numbers", []Part{PgBouncer}, func(s *Site, o *outcome) {
		for _, v := range s.Bouncer.wrongKinds() {
			o.find(Finding{Severity: Problem, What: fmt.Sprintf("%s is no number, so PgBouncer does not start", v.Name), Where: []Value{v}, Fix: fmt.Sprintf("write %s = %s, which is the default", v.Name, bouncerDefaults[v.Name])})
		}
		o.holds("each is one")
	}},
	{"Odoo goes through the pool", []Part{OdooConf, PgBouncer}, func(s *Site, o *outcome) {
		if !s.behindPool() {
			o.find(Finding{Severity: Warning, What: "PgBouncer is there, and Odoo goes past it", Where: []Value{s.Odoo.Get("db_port"), s.Bouncer.Get("listen_port")},
				Fix: fmt.Sprintf("write db_host = 127.0.0.1 and db_port = %s in odoo.conf", s.Bouncer.Get("listen_port").Text)})
			return
		}
		o.holds("%s", s.Odoo.Get("db_port"))
	}},
	{"connections of Odoo to PgBouncer", []Part{OdooConf, PgBouncer}, func(s *Site, o *outcome) {
		if !s.behindPool() {
			o.skip("Odoo does not go through PgBouncer")
			return
		}
		limit := s.Bouncer.Get("max_client_conn")
		s.overdrawn(o, limit.Int(), "PgBouncer", limit)
	}},
	{"connections of Odoo to PostgreSQL", []Part{OdooConf, PostgreSQL}, func(s *Site, o *outcome) {
		if s.behindPool() {
			o.skip("Odoo goes through PgBouncer")
			return
		}
		room, _ := s.Postgres.free()
		s.overdrawn(o, room, "PostgreSQL", s.Postgres.Setting("max_connections"))
	}},
	{"connections of PgBouncer to PostgreSQL", []Part{PgBouncer, PostgreSQL}, func(s *Site, o *outcome) {
		room, how := s.Postgres.free()
		reserve := s.Bouncer.Get("reserve_pool_size")
		where := []Value{s.Bouncer.Get("default_pool_size"), reserve, s.Postgres.Setting("max_connections")}
		var terms []string
		total := int64(0)
		pools := s.Bouncer.Databases()
		if d, ok := s.Bouncer.Database("*"); ok && len(pools) == 1 && d.Name == "*" { // Odoo uses its own database and postgres
			pools = append(pools, d)
		}
		for _, d := range pools {
			size := s.Bouncer.of(d, "pool_size", "default_pool_size").Int() + s.Bouncer.of(d, "reserve_pool", "reserve_pool_size").Int()
			if most := s.Bouncer.of(d, "max_db_connections", "max_db_connections").Int(); most > 0 {
				size = min(size, most)
			}
			total += size
			terms = append(terms, fmt.Sprintf("%s %d", d.Name, size))
		}
		if len(terms) == 0 {
			o.find(Finding{Severity: Problem, What: "PgBouncer serves no database", Where: where[:1], Fix: "write * = host=127.0.0.1 port=5432 under [databases]"})
			return
		}
		arithmetic := fmt.Sprintf("%s = %d (for one user; each further user has as many); %s", sum(terms...), total, how)
		if total > room {
			o.find(Finding{Severity: Problem, What: "PgBouncer's pools may open more connections than PostgreSQL has: under load, logins fail", Where: where, Arithmetic: arithmetic,
				Fix: fmt.Sprintf("raise max_connections by %d, or lower the pools", total-room)})
			return
		}
		o.holds("%s", arithmetic)
	}},
	{"pooling of the business database", []Part{OdooConf, PgBouncer}, func(s *Site, o *outcome) {
		d, ok := s.Bouncer.Database(s.business())
		if !ok {
			o.find(Finding{Severity: Problem, What: fmt.Sprintf("PgBouncer does not serve the database %s", s.business()), Where: []Value{{Name: "[databases]", Text: "no entry", File: s.Bouncer.File}}, Fix: fmt.Sprintf("write %s = host=127.0.0.1 port=5432 under [databases]", s.business())})
			return
		}
		mode := s.Bouncer.of(d, "pool_mode", "pool_mode")
		switch mode.Text {
		case "transaction":
		case "statement":
			o.find(Finding{Severity: Problem, What: "statement pooling breaks each transaction of Odoo's", Where: []Value{mode}, Fix: "write pool_mode = transaction"})
		default:
			o.find(Finding{Severity: Warning, What: "session pooling holds a connection for each worker's session, busy or not: the pool saves nothing", Where: []Value{mode}, Fix: "write pool_mode=transaction for this database, and keep session pooling for postgres"})
		}
		o.holds("%s", mode)
	}},
	{"pooling of the database postgres", []Part{OdooConf, PgBouncer}, func(s *Site, o *outcome) {
		if !s.behindPool() {
			o.skip("Odoo does not go through PgBouncer")
			return
		}
		d, ok := s.Bouncer.Database("postgres")
		if !ok {
			o.find(Finding{Severity: Problem, What: "PgBouncer does not serve the database postgres, where Odoo's cron and bus wait for notifications", Fix: "write postgres = host=127.0.0.1 port=5432 pool_mode=session under [databases]"})
			return
		}
		mode, size := s.Bouncer.of(d, "pool_mode", "pool_mode"), s.Bouncer.of(d, "pool_size", "default_pool_size")
		need := s.size().Int() + s.Odoo.Get("max_cron_threads").Int() + 1
		arithmetic := fmt.Sprintf("%d workers + %d cron + 1 = %d of %d", s.size().Int(), s.Odoo.Get("max_cron_threads").Int(), need, size.Int())
		switch {
		case mode.Text != "session":
			o.find(Finding{Severity: Problem, What: "notifications (LISTEN) get lost in this pool: pushes to browsers never arrive and cron falls back to looking once a minute, without a word in any log", Where: []Value{mode},
				Fix: fmt.Sprintf("write postgres = host=127.0.0.1 port=5432 pool_mode=session pool_size=%d under [databases]", need)})
		case size.Int() < need:
			o.find(Finding{Severity: Warning, What: "the session pool of postgres does not hold all of Odoo's processes", Where: []Value{size}, Arithmetic: arithmetic, Fix: fmt.Sprintf("write pool_size=%d for postgres", need)})
		}
		o.holds("%s; %s", mode, arithmetic)
	}},
	{"pool against workers", []Part{OdooConf, PgBouncer}, func(s *Site, o *outcome) {
		d, ok := s.Bouncer.Database(s.business())
		if !ok || !s.behindPool() {
			o.skip("Odoo does not go through this pool")
			return
		}
		size, need := s.Bouncer.of(d, "pool_size", "default_pool_size"), s.size().Int()
		arithmetic := fmt.Sprintf("each worker serves one request, in one transaction: %d workers, %d connections", need, size.Int())
		if size.Int() < need {
			o.find(Finding{Severity: Warning, What: "workers wait for each other's connections when all are busy", Where: []Value{size, s.size()}, Arithmetic: arithmetic, Fix: fmt.Sprintf("write pool_size=%d, or lower bounds.max to %d", need, size.Int())})
			return
		}
		o.holds("%s", arithmetic)
	}},
	{"wait for a pooled connection", []Part{PgBouncer, Routes}, func(s *Site, o *outcome) {
		wait := s.Bouncer.Get("query_wait_timeout")
		for _, r := range s.Nginx.Routes {
			read := r.get("proxy_read_timeout")
			if w := wait.Duration(); w == 0 || w >= read.Duration() {
				o.find(Finding{Severity: Warning, What: "a request may wait for a connection longer than its visitor does, and keeps its worker meanwhile", Where: []Value{wait, read},
					Arithmetic: fmt.Sprintf("%s >= %s", orForever(w), fleet.Elapsed(read.Duration())), Fix: fmt.Sprintf("write query_wait_timeout = %d", max(int(read.Duration()/time.Second)/2, 1))})
				return
			}
		}
		o.holds("%s within nginx's time-outs", wait)
	}},
}

func orForever(d time.Duration) string {
	if d == 0 {
		return "for ever"
	}
	return fleet.Elapsed(d)
}
