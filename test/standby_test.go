package test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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

var (
	leaderKills = flag.Int("leader-kills", 4, "how often TestLeaderKilledAtRandom kills the leader")
	leaderSeed  = flag.Uint64("leader-seed", 2027, "of its randomness")
)

const (
	takeOver = 15 * time.Second // the longest that a fleet may be without a leader
	minimum  = 2                // workers
	restored = 5 * time.Second  // the longest that a fleet with a leader may be below its minimum
)

// standbyConfig is a fleet that an engine runs, driven by the latency in an access log.
const standbyConfig = `
instance: {name: standby, time_zone: UTC}
state_dir: %[1]s/%[2]s
journal: {postgres: {dsn: %[3]q}}
tick: 250ms
fleets:
  - name: workers
    target: {command: {scale: [%[4]q, ask, %[1]s/engine.sock, %[2]s, "{size}"], size: [%[4]q, ask, %[1]s/engine.sock, %[2]s, size], timeout: 5s}}
    bounds: {min: 2, max: 6}
    signals:
      p95: {access_log: {path: %[1]s/access.log, route: /api}, statistic: p95, period: 250ms, window: 500ms, min_samples: 20}
    policies:
      - id: latency
        rules:
          - {signal: p95, operator: ">=", threshold: 400ms, scale_change: +1, evaluation_periods: 1}
          - {signal: p95, operator: "<=", threshold: 50ms, scale_change: -1, evaluation_periods: 1}
    safeguards:
      cooldown: {scale_up: %[5]s, scale_down: %[6]s}
      max_scaling_rate: 1 per 1s
`

// host is one of several daemons of which one leads, as if each were on a host of its own.
type host struct {
	name, config, socket string
	network              string // its network namespace; "" is the test's own
	pids                 []int  // of its daemons, the last one's last
	*daemon
}

// standing are hosts that share a journal and a fleet.
type standing struct {
	*testing.T
	dir    string
	pg     *servers.PG
	engine *engine
	hosts  []*host
	killed []time.Time // leaders
	load   chan error
	quiet  context.CancelFunc // ends the load
}

// newStanding has a host for each connection string; load makes the fleet follow all the time.
func newStanding(t *testing.T, pg *servers.PG, dsns ...string) *standing {
	t.Helper()
	s := &standing{T: t, dir: t.TempDir(), pg: pg, load: make(chan error, 1)}
	s.engine = startEngine(t, s.dir, minimum)
	for i, dsn := range dsns {
		h := &host{name: string(rune('a' + i))}
		h.config, h.socket = filepath.Join(s.dir, h.name+".yaml"), filepath.Join(s.dir, h.name, "tidemark.sock")
		write(t, h.config, fmt.Sprintf(standbyConfig, s.dir, h.name, dsn, os.Args[0], cooldownUp, cooldownDown))
		s.hosts = append(s.hosts, h)
	}
	ctx, quiet := context.WithCancel(t.Context())
	s.quiet = quiet
	go func() { s.load <- writeLog(ctx, filepath.Join(s.dir, "access.log")) }()
	return s
}

// start starts a host's daemon, and waits for nothing.
func (h *host) start(t *testing.T) {
	t.Helper()
	d := &daemon{cmd: daemonCommand(h.config), log: &strings.Builder{}, client: web.Dial(h.socket), ended: make(chan error, 1)}
	if h.network != "" { // which runs it in the place of its own process
		d.cmd = exec.Command("ip", append([]string{"netns", "exec", h.network}, d.cmd.Args...)...)
	}
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	t.Cleanup(d.kill)
	h.daemon, h.pids = d, append(h.pids, d.cmd.Process.Pid)
}

// first starts all, and returns the host that leads. From then on the database itself writes down who takes the lead.
func (s *standing) first() *host {
	s.Helper()
	s.hosts[0].start(s.T)
	s.leader(takeOver, s.hosts[0])
	s.pg.Exec("postgres", `CREATE TABLE leads AS SELECT clock_timestamp() AS at, holder FROM tidemark.lead;
		CREATE FUNCTION led() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.leads VALUES (clock_timestamp(), NEW.holder); RETURN NEW; END $$;
		CREATE TRIGGER led AFTER UPDATE ON tidemark.lead FOR EACH ROW WHEN (OLD.generation <> NEW.generation) EXECUTE FUNCTION led()`)
	for _, h := range s.hosts[1:] {
		h.start(s.T)
		s.standsBy(h)
	}
	s.decides(1)
	return s.hosts[0]
}

// leader waits until one of the hosts leads and records.
func (s *standing) leader(limit time.Duration, among ...*host) (leads *host) {
	s.Helper()
	eventually(s.T, limit, "a host leads", func() error {
		var errs []error
		for _, h := range among {
			ctx, cancel := context.WithTimeout(s.Context(), time.Second)
			o, err := h.client.Status(ctx)
			cancel()
			if err == nil && o.Fleets[0].JournalErr != "" {
				err = errors.New(o.Fleets[0].JournalErr)
			}
			if err == nil {
				leads = h
				return nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", h.name, err))
		}
		return errors.Join(errs...)
	})
	return leads
}

// standsBy waits until a host says that another leads.
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
func (s *standing) decides(more int) {
	s.Helper()
	before := len(s.decisions())
	eventually(s.T, 20*time.Second, "the leader decides", func() error {
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

// held waits until a leader says that it cannot record, and then sees that it goes on looking and that the fleet stays as it is.
func (s *standing) held(h *host) {
	s.Helper()
	eventually(s.T, 30*time.Second, h.name+" holds", func() error {
		o, err := h.client.Status(s.Context())
		if err == nil && o.Fleets[0].JournalErr == "" {
			return errors.New("it records")
		}
		return err
	})
	before := s.asked(h)
	tick := time.Now()
	eventually(s.T, 60*time.Second, h.name+" looks at the fleet", func() error {
		o, err := h.client.Status(s.Context())
		if err == nil && o.Fleets[0].Time.Before(tick.Add(2*time.Second)) {
			return fmt.Errorf("the last tick was %v", o.Fleets[0].Time)
		}
		return err
	})
	if after := s.asked(h); len(after) != len(before) {
		s.Errorf("without PostgreSQL %s asked for %v", h.name, after[len(before):])
	}
	if kept, err := os.Stat(filepath.Join(s.dir, h.name, "spool", "workers.ticks")); err != nil || kept.Size() == 0 {
		s.Errorf("nothing is spooled: %v", err)
	}
}

// asked are the sizes that a host has asked for.
func (s *standing) asked(h *host) (sizes []int) {
	requests, _, _ := s.engine.done()
	for _, r := range requests {
		if r.host == h.name {
			sizes = append(sizes, r.size)
		}
	}
	return sizes
}

// goesOn waits until a leader records again, with what happened meanwhile.
func (s *standing) goesOn(h *host) {
	s.Helper()
	s.leader(20*time.Second, h)
	events, err := h.client.Events(s.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventJournalFailed}})
	if err != nil || len(events) == 0 {
		s.Errorf("that PostgreSQL was away is not recorded: %v", err)
	}
}

// end ends the load and the daemons when nothing is under way, and judges what was done: each change of size was decided once, recorded
// once and made once, by the workers' own account; whoever asked for a size led then, by the database's; no cooldown was forgotten.
func (s *standing) end(leader *host, enough int) {
	s.Helper()
	eventually(s.T, 10*time.Second, "nothing is under way", func() error {
		o, err := leader.client.Status(s.Context())
		if err == nil && o.Fleets[0].Action != nil {
			return fmt.Errorf("going to %d", o.Fleets[0].Action.To)
		}
		return err
	})
	s.quiet()
	if err := <-s.load; err != nil {
		s.Fatal(err)
	}
	for _, h := range s.hosts {
		h.kill()
	}
	requests, changes, size := s.engine.done()
	judge(s.T, minimum, s.decisions(), changes, size, enough)
	type lead struct {
		at time.Time
		by string
	}
	var leads []lead
	for line := range strings.Lines(s.pg.Exec("postgres", "SELECT extract(epoch FROM at) * 1000000, substring(holder FROM 'pid ([0-9]+)') FROM leads ORDER BY at")) {
		at, pid, _ := strings.Cut(strings.TrimSpace(line), "|")
		us, err := strconv.ParseFloat(at, 64)
		if err != nil {
			s.Fatal(err)
		}
		l := lead{at: time.UnixMicro(int64(us))}
		for _, h := range s.hosts {
			if n, err := strconv.Atoi(pid); err == nil && slices.Contains(h.pids, n) {
				l.by = h.name
			}
		}
		leads = append(leads, l)
	}
	s.Logf("%d requests in %d leads", len(requests), len(leads))
	var longest, led time.Duration
	for _, b := range s.engine.below(minimum) {
		alone := b.to.Sub(b.from) // with a leader
		for _, at := range s.killed {
			next := slices.IndexFunc(leads, func(l lead) bool { return l.at.After(at) })
			if next < 0 {
				s.Fatalf("nobody led after %v", at)
			}
			alone -= b.overlap(span{at, leads[next].at})
		}
		longest, led = max(longest, b.to.Sub(b.from)), max(led, alone)
	}
	s.Logf("fewer than %d workers for %v at most, of that %v with a leader", minimum, longest, led)
	if led > restored {
		s.Errorf("fewer than %d workers for %v while there was a leader", minimum, led)
	}
	for _, r := range requests {
		who := leads[0].by
		for _, l := range leads {
			if l.at.Before(r.at) {
				who = l.by
			}
		}
		if r.host != who {
			s.Errorf("%s asked for %d workers at %v, while %s led", r.host, r.size, r.at, who)
		}
	}
}

// The leader is frozen, and thawed after another has taken over; PostgreSQL is killed, and comes back; the leader is stopped. Each time the
// fleet has one leader again within 15 s.
func TestStandbyTakesOver(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: freezes daemons and kills PostgreSQL")
	}
	t.Parallel() // it mostly waits
	pg := servers.Postgres(t)
	s := newStanding(t, pg, pg.URL("postgres"), pg.URL("postgres"))
	a, b := s.first(), s.hosts[1]

	s.signal(a, syscall.SIGSTOP)
	start := time.Now()
	s.leader(takeOver, b)
	t.Logf("leader frozen: the other leads after %v", time.Since(start))
	s.decides(1)
	s.signal(a, syscall.SIGCONT)
	s.standsBy(a)
	s.decides(1)

	pg.Kill()
	s.held(b)
	pg.Start()
	s.goesOn(b)
	s.decides(1)

	s.signal(b, syscall.SIGTERM) // who resigns is not waited for
	start = time.Now()
	s.leader(takeOver/3, a)
	t.Logf("leader stopped: the other leads after %v", time.Since(start))
	s.decides(1)
	s.end(a, 5)
}

// The leader of three daemons is killed at random, again and again, also right after it took the lead; half of the times so many
// workers die, while nobody leads, that fewer than the minimum are left. make test-standby does it 50 times.
func TestLeaderKilledAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: each take-over takes seconds")
	}
	t.Parallel() // it mostly waits
	pg := servers.Postgres(t)
	s := newStanding(t, pg, pg.URL("postgres"), pg.URL("postgres"), pg.URL("postgres"))
	rng := rand.New(rand.NewPCG(*leaderSeed, 8))
	wait := func(most time.Duration) { <-time.After(time.Duration(rng.Int64N(int64(most)))) }
	leader := s.first()
	var took []time.Duration
	deaths := 0
	for i := range *leaderKills {
		if i%4 == 3 {
			wait(100 * time.Millisecond)
		} else {
			wait(5 * time.Second)
		}
		leader.kill()
		start := time.Now()
		s.killed = append(s.killed, start)
		if rng.IntN(2) == 0 {
			s.engine.kill(minimum - 1)
			deaths++
		}
		wait(time.Second)
		leader.start(s.T)
		leader = s.leader(takeOver, s.hosts...)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("%d leaders killed, another led after %v in the middle and %v at most; %d times workers died meanwhile", len(took), took[len(took)/2], took[len(took)-1], deaths)
	s.decides(1)
	s.end(leader, *leaderKills/2)
}
