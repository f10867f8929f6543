package doctor

import (
	"fmt"
	"time"

	"tidemark/internal/fleet"
)

// What was measured on Odoo 18.0 with PostgreSQL 15 (November 2026): see docs/doctor.md.
const (
	connectionsPerWorker = 2 // an HTTP worker holds 1 or 2, a cron worker 2
	connectionsOfGevent  = 4 // the process for websockets: 2 or more
	workerMemory         = 93 * mib
	backendMemory        = 9 * mib
	systemMemory         = 512 * mib // the kernel, nginx, PgBouncer and whoever signs in
	backlogPerWorker     = 8
	idleCronNeeds        = 70 * time.Second
)

var odooChecks = []check{
	{"odoo.conf: numbers", []Part{OdooConf}, func(s *Site, o *outcome) {
		for _, v := range s.Odoo.wrongKinds() {
			o.find(Finding{Severity: Problem, What: fmt.Sprintf("%s is no number, so Odoo does not start", v.Name), Where: []Value{v}, Fix: fmt.Sprintf("write %s = %s, which is the default", v.Name, odooDefaults[v.Name])})
		}
		o.holds("each is one")
	}},
	{"workers", []Part{OdooConf}, func(s *Site, o *outcome) {
		w := s.Odoo.Get("workers")
		if w.Int() == 0 {
			o.find(Finding{Severity: Problem, What: "Odoo runs as one process with threads: there are no workers to scale", Where: []Value{w},
				Fix: fmt.Sprintf("write workers = %d", max(s.size().Int(), 2))})
			return
		}
		o.holds("%s", w)
	}},
	{"accept backlog", []Part{OdooConf}, func(s *Site, o *outcome) {
		w, most := s.Odoo.Get("workers"), s.size()
		if w.Int() == 0 {
			o.skip("Odoo has no workers")
			return
		}
		have, need := backlogPerWorker*w.Int(), backlogPerWorker*most.Int()
		arithmetic := fmt.Sprintf("%d x %d workers at the start = %d connections may wait, and it stays %d however many workers are added; %d workers need %d x %d = %d", backlogPerWorker, w.Int(), have, have, most.Int(), backlogPerWorker, most.Int(), need)
		switch {
		case have < need:
			o.find(Finding{Severity: Warning, What: fmt.Sprintf("Odoo's accept backlog is too short for %d workers: when it overflows, requests take a second and more longer", most.Int()),
				Where: []Value{w, most}, Arithmetic: arithmetic, Fix: fmt.Sprintf("start Odoo with workers = %d; Tidemark lowers the number itself, and the backlog stays", most.Int())})
		case s.Host != nil && s.Host.Somaxconn.Int() < have:
			o.find(Finding{Severity: Warning, What: "the kernel cuts Odoo's accept backlog", Where: []Value{s.Host.Somaxconn},
				Arithmetic: fmt.Sprintf("%d x %d workers = %d > %d", backlogPerWorker, w.Int(), have, s.Host.Somaxconn.Int()), Fix: "sysctl -w net.core.somaxconn=4096, and the same in /etc/sysctl.d"})
		}
		o.holds("%d x %d workers at the start = %d connections may wait", backlogPerWorker, w.Int(), have)
	}},
	{"time limits of workers", []Part{OdooConf}, func(s *Site, o *outcome) {
		real, cpu := s.Odoo.Get("limit_time_real"), s.Odoo.Get("limit_time_cpu")
		if d := time.Duration(real.Int()) * time.Second; d > 0 && d < idleCronNeeds {
			o.find(Finding{Severity: Warning, What: "limit_time_real kills cron workers that only wait for work", Where: []Value{real},
				Arithmetic: fmt.Sprintf("an idle cron worker reports after up to 60 s: %s < %s", fleet.Elapsed(d), fleet.Elapsed(idleCronNeeds)), Fix: "write limit_time_real = 120, and let nginx's proxy_read_timeout bound what a visitor waits"})
		}
		if real.Int() > 0 && cpu.Int() > real.Int() {
			o.find(Finding{Severity: Advice, What: "limit_time_cpu is never reached", Where: []Value{cpu, real}, Arithmetic: fmt.Sprintf("%d s of CPU > %d s in all", cpu.Int(), real.Int()),
				Fix: fmt.Sprintf("write limit_time_cpu = %d or less", real.Int()/2)})
		}
		o.holds("%d s of CPU within %d s", cpu.Int(), real.Int())
	}},
	{"memory limits of workers", []Part{OdooConf}, func(s *Site, o *outcome) {
		soft, hard := s.Odoo.Get("limit_memory_soft"), s.Odoo.Get("limit_memory_hard")
		if soft.Int() > 0 && hard.Int() > 0 && soft.Int() >= hard.Int() {
			o.find(Finding{Severity: Problem, What: "a worker that grows fails requests before it is replaced: the hard limit answers MemoryError as HTTP 200", Where: []Value{soft, hard},
				Arithmetic: fmt.Sprintf("soft %s >= hard %s", bytes(soft.Int()), bytes(hard.Int())), Fix: fmt.Sprintf("write limit_memory_hard = %d (1.25 x soft)", soft.Int()/4*5)})
			return
		}
		o.holds("soft %s < hard %s", bytes(soft.Int()), bytes(hard.Int()))
	}},
	{"database name", []Part{OdooConf}, func(s *Site, o *outcome) {
		name := s.Odoo.Get("db_name")
		if name.None() {
			o.find(Finding{Severity: Advice, What: "a new worker's first request takes 0.5 to 1.1 s longer, for no database is loaded beforehand", Where: []Value{name}, Fix: "write db_name = NAME and list_db = False"})
			return
		}
		o.holds("%s", name)
	}},
	{"workers against cores", []Part{OdooConf, ThisHost}, func(s *Site, o *outcome) {
		most, rule := s.size(), int64(2*s.Host.CPUs+1)
		arithmetic := fmt.Sprintf("2 x %d cores + 1 = %d", s.Host.CPUs, rule)
		if most.Int() > rule {
			o.find(Finding{Severity: Advice, What: fmt.Sprintf("%d workers on %d cores: more of them help requests that wait, and slow down those that compute", most.Int(), s.Host.CPUs), Where: []Value{most},
				Arithmetic: arithmetic + "; measured on 2 cores: 330 computing requests a second with 2 workers, 168 to 256 with 6", Fix: "guard scale-out by the host's CPU (docs/configuration.md, guards), or take a bigger host before more workers"})
			return
		}
		o.holds("%d workers at most; %s", most.Int(), arithmetic)
	}},
	{"memory of the host", []Part{OdooConf, ThisHost}, func(s *Site, o *outcome) {
		n, cron := s.size(), s.Odoo.Get("max_cron_threads")
		processes := n.Int() + cron.Int() + 1
		need, terms := processes*workerMemory+systemMemory, []string{fmt.Sprintf("(%d workers + %d cron + 1) x %s = %s", n.Int(), cron.Int(), bytes(workerMemory), bytes(processes*workerMemory)), bytes(systemMemory) + " for the system"}
		where := []Value{n, cron}
		if s.has(Local) {
			buffers := s.Postgres.bytes("shared_buffers")
			backends := int64(connectionsPerWorker*(int(n.Int()+cron.Int())) + connectionsOfGevent)
			need += buffers + backends*backendMemory
			terms = append(terms, bytes(buffers)+" shared_buffers", fmt.Sprintf("%d backends x %s", backends, bytes(backendMemory)))
			where = append(where, s.Postgres.Setting("shared_buffers"))
		}
		arithmetic := fmt.Sprintf("%s = %s of %s", sum(terms...), bytes(need), bytes(s.Host.Memory))
		switch {
		case need > s.Host.Memory:
			o.find(Finding{Severity: Problem, What: fmt.Sprintf("this host's memory does not hold %d workers", n.Int()), Where: where, Arithmetic: arithmetic,
				Fix: fmt.Sprintf("lower bounds.max to %d, or add memory", max(n.Int()-(need-s.Host.Memory+workerMemory-1)/workerMemory, 1))})
		case need > s.Host.Memory*8/10:
			o.find(Finding{Severity: Warning, What: fmt.Sprintf("%d workers leave the host little memory for its file cache", n.Int()), Where: where, Arithmetic: arithmetic, Fix: "lower bounds.max, or add memory; a guard on the host's memory stops Tidemark in time"})
		}
		o.holds("%s", arithmetic)
	}},
	{"leaking workers", []Part{OdooConf, ThisHost}, func(s *Site, o *outcome) {
		soft, n := s.Odoo.Get("limit_memory_soft"), s.size()
		if soft.Int() == 0 {
			o.find(Finding{Severity: Warning, What: "a worker that leaks memory is never replaced", Where: []Value{soft}, Fix: "write limit_memory_soft = 1073741824"})
			return
		}
		all := soft.Int() * n.Int()
		arithmetic := fmt.Sprintf("%d x %s = %s of %s", n.Int(), bytes(soft.Int()), bytes(all), bytes(s.Host.Memory))
		if all > s.Host.Memory {
			o.find(Finding{Severity: Advice, What: "workers may together grow beyond the host's memory before Odoo replaces them", Where: []Value{soft, n}, Arithmetic: arithmetic,
				Fix: fmt.Sprintf("write limit_memory_soft = %d (it compares virtual size, so not below 805306368)", max(s.Host.Memory/max(n.Int(), 1)/mib*mib, 768*mib))})
			return
		}
		o.holds("%s", arithmetic)
	}},
}
