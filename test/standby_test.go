package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/postgres"
	"tidemark/internal/show/web"
	"tidemark/test/servers"
)

// takeOver is the longest that a fleet may be without a leader.
const takeOver = 15 * time.Second

// host is one of two daemons that share a journal, as if each were on a host of its own.
type host struct {
	name, config, socket string
	*daemon
}

// standing are two hosts whose fleet is a number in a file.
type standing struct {
	*testing.T
	dir   string
	pg    *servers.PG
	hosts [2]*host
}

func newStanding(t *testing.T) *standing {
	t.Helper()
	s := &standing{T: t, dir: t.TempDir(), pg: servers.Postgres(t)}
	write(t, filepath.Join(s.dir, "size"), "1\n")
	write(t, filepath.Join(s.dir, "scale"), fmt.Sprintf(scaleScript, s.dir))
	for i, name := range []string{"a", "b"} {
		state := filepath.Join(s.dir, name)
		h := &host{name: name, config: filepath.Join(s.dir, name+".yaml"), socket: filepath.Join(state, "tidemark.sock")}
		text := strings.Replace(fmt.Sprintf(killConfig, s.dir, cooldownUp, cooldownDown), s.dir+"/state", state, 1)
		write(t, h.config, fmt.Sprintf("%sjournal: {postgres: {dsn: %q}}\n", text, s.pg.URL("postgres")))
		s.hosts[i] = h
	}
	return s
}

// start starts a host's daemon, and waits for nothing.
func (s *standing) start(h *host) {
	s.Helper()
	d := &daemon{cmd: daemonCommand(h.config), log: &strings.Builder{}, client: web.Dial(h.socket), ended: make(chan error, 1)}
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	s.Cleanup(d.kill)
	h.daemon = d
}

// leads waits until a host leads, and returns how long that took.
func (s *standing) leads(h *host, limit time.Duration) time.Duration {
	s.Helper()
	start := time.Now()
	eventually(s.T, limit, h.name+" leads", func() error {
		_, err := h.client.Status(s.Context())
		return err
	})
	return time.Since(start)
}

// standsBy waits until a host says that the other leads.
func (s *standing) standsBy(h *host) {
	s.Helper()
	eventually(s.T, 20*time.Second, h.name+" stands by", func() error {
		var p *web.Problem
		_, err := h.client.Status(s.Context())
		if errors.As(err, &p) && strings.Contains(p.Detail, "stands by: ") && strings.Contains(p.Detail, " leads, generation ") {
			return nil
		}
		return errors.Join(errors.New("it does not say so"), err)
	})
}

// decides waits until so many more decisions are recorded.
func (s *standing) decides(h *host, more int) {
	s.Helper()
	before := len(s.decisions())
	eventually(s.T, 20*time.Second, h.name+" decides", func() error {
		if n := len(s.decisions()); n < before+more {
			return fmt.Errorf("%d decisions, before there were %d", n, before)
		}
		return nil
	})
}

func (s *standing) decisions() []fleet.Event {
	s.Helper()
	j, err := postgres.OpenReadOnly(s.Context(), postgres.Config{DSN: s.pg.URL("postgres"), Schema: "tidemark"})
	if err != nil {
		s.Fatal(err)
	}
	defer j.Close()
	return decisions(s.T, j)
}

func (s *standing) signal(h *host, sig syscall.Signal) {
	s.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		s.Fatal(err)
	}
}

// Two daemons share a journal while the load makes the fleet follow all the time. The leader is killed, and frozen and thawed after the other
// has taken over; PostgreSQL is frozen and killed, and comes back. Each time the fleet has one leader again within 15 s, and in the end each
// change of size was decided once, recorded once and made once.
func TestStandbyTakesOver(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: kills and freezes daemons and PostgreSQL")
	}
	s := newStanding(t)
	ctx, stop := context.WithCancel(t.Context())
	load := make(chan error, 1)
	go func() { load <- writeLog(ctx, filepath.Join(s.dir, "access.log")) }()
	a, b := s.hosts[0], s.hosts[1]
	s.start(a)
	s.leads(a, takeOver)
	s.start(b)
	s.standsBy(b)
	s.decides(a, 1)

	a.kill()
	t.Logf("leader killed: the other leads after %v", s.leads(b, takeOver))
	s.start(a)
	s.standsBy(a)
	s.decides(b, 1)

	s.signal(b, syscall.SIGSTOP)
	t.Logf("leader frozen: the other leads after %v", s.leads(a, takeOver))
	s.decides(a, 1)
	s.signal(b, syscall.SIGCONT)
	s.standsBy(b)
	s.decides(a, 1)

	s.pg.Freeze()
	s.held(a)
	s.pg.Thaw()
	s.goesOn(a)
	s.pg.Kill()
	s.held(a)
	if kept, err := os.Stat(filepath.Join(s.dir, "a", "spool", "numbers.ticks")); err != nil || kept.Size() == 0 {
		t.Errorf("nothing is spooled: %v", err)
	}
	s.pg.Start()
	s.goesOn(a)
	s.decides(a, 1)

	s.signal(a, syscall.SIGTERM) // who resigns is not waited for
	t.Logf("leader stopped: the other leads after %v", s.leads(b, takeOver/3))
	s.decides(b, 1)
	eventually(t, 10*time.Second, "nothing is under way", func() error {
		o, err := b.client.Status(t.Context())
		if err == nil && o.Fleets[0].Action != nil {
			return fmt.Errorf("going to %d", o.Fleets[0].Action.To)
		}
		return err
	})
	stop()
	if err := <-load; err != nil {
		t.Fatal(err)
	}
	b.kill()
	judge(t, s.dir, s.decisions(), 6)
}

// held waits until a leader says that it cannot record, and then sees that the fleet stays as it is.
func (s *standing) held(h *host) {
	s.Helper()
	eventually(s.T, 30*time.Second, h.name+" holds", func() error {
		o, err := h.client.Status(s.Context())
		if err == nil && o.Fleets[0].JournalErr == "" {
			return errors.New("it records")
		}
		return err
	})
	before := s.changes()
	tick := time.Now()
	eventually(s.T, 60*time.Second, h.name+" looks at the fleet", func() error { // it goes on looking
		o, err := h.client.Status(s.Context())
		if err == nil && o.Fleets[0].Time.Before(tick.Add(2*time.Second)) {
			return fmt.Errorf("the last tick was %v", o.Fleets[0].Time)
		}
		return err
	})
	if after := s.changes(); after != before {
		s.Errorf("without PostgreSQL %s changed the fleet: %q, then %q", h.name, before, after)
	}
}

func (s *standing) changes() string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "changes"))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

// goesOn waits until the same leader records again, with what happened meanwhile.
func (s *standing) goesOn(h *host) {
	s.Helper()
	eventually(s.T, 20*time.Second, h.name+" goes on", func() error {
		o, err := h.client.Status(s.Context())
		if err == nil && o.Fleets[0].JournalErr != "" {
			return errors.New(o.Fleets[0].JournalErr)
		}
		return err
	})
	events, err := h.client.Events(s.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventJournalFailed}})
	if err != nil || len(events) == 0 {
		s.Errorf("that PostgreSQL was away is not recorded: %v", err)
	}
}
