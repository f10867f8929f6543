package prefork

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
)

// flavour is what is particular to one kind of master. All of them take SIGTTIN for one worker more and SIGTTOU for one
// less; what SIGTTOU does, and who else is among the children, differs.
type flavour struct {
	// catches: signals that a master handles once it is up. Sent earlier, SIGTTIN and SIGTTOU would stop it: their default.
	catches []syscall.Signal
	// worker tells the HTTP workers from the master's other children.
	worker func(master, child process) bool
	// ready: the worker has replaced the signal handlers that it was forked with by its own.
	ready func(worker process) bool
	// picks: SIGTTOU makes the master stop a worker of its own choice, gracefully. Otherwise it only lowers the master's
	// target, and a worker has to be told to finish.
	picks bool
	// next is the worker that such a master stops next, of workers sorted by age; nil when that cannot be known.
	next func([]process) ident
}

var flavours = map[string]flavour{
	// Odoo, service/server.py: PreforkServer. The master's target has no floor. Workers put SIGTERM, and since some version
	// SIGTTIN and SIGTTOU, back to their defaults, which end or stop them. Without python3-setproctitle all have the
	// master's command line.
	"odoo": {
		catches: []syscall.Signal{syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGTERM},
		worker: func(master, child process) bool {
			title := child.title()
			if strings.HasPrefix(title, "odoo: Worker") {
				return strings.HasPrefix(title, "odoo: WorkerHTTP")
			}
			// Cron workers lower their priority first of all; the gevent process is a program of its own.
			return title == master.title() && child.nice <= master.nice
		},
		ready: func(w process) bool {
			return w.caught.has(syscall.SIGINT) && (!w.caught.has(syscall.SIGTERM) || !w.caught.has(syscall.SIGTTIN))
		},
	},
	// gunicorn 20 to 23, arbiter.py: SIGTTOU sends SIGTERM to the oldest worker, again each second until it has gone; a
	// sync worker finishes its request. The floor is 1. A master that replaces this one (SIGUSR2) is its child, too.
	"gunicorn": {
		catches: []syscall.Signal{syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGHUP},
		worker: func(master, child process) bool {
			title := child.title()
			return strings.HasPrefix(title, "gunicorn: worker") || title == master.title() && !replaces(child, master)
		},
		ready: func(w process) bool { return !w.caught.has(syscall.SIGHUP) },
		picks: true,
		next:  func(workers []process) ident { return workers[0].ident },
	},
	// The reference workload of this repository: its master has no other children, and stops workers as gunicorn's does.
	"registry": {
		catches: []syscall.Signal{syscall.SIGTTIN, syscall.SIGTTOU},
		worker:  func(process, process) bool { return true },
		ready:   func(process) bool { return true },
		picks:   true,
	},
}

// replaces reports whether a child was executed anew to take the master's place: then its environment names the old one.
func replaces(child, master process) bool {
	env, err := child.environ()
	return err == nil && bytes.Contains(append([]byte{0}, env...), fmt.Appendf(nil, "\x00GUNICORN_PID=%d\x00", master.pid))
}
