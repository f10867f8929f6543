package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/observetest"
)

var _ config.SignalBody = (*Config)(nil)

// burnRole makes the test binary a process that waits for a line and then computes until it is killed.
const burnRole = "TIDEMARK_TEST_BURN"

func TestMain(m *testing.M) {
	if os.Getenv(burnRole) != "" {
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			os.Exit(0)
		}
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// host is a machine of which a test writes the files.
type host struct {
	t            *testing.T
	groups, proc fstest.MapFS
	now          time.Time
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, groups: fstest.MapFS{}, proc: fstest.MapFS{}, now: time.Unix(1_800_000_000, 0)}
	h.proc["stat"] = &fstest.MapFile{Data: []byte("cpu  1 2 3 4\ncpu0 1 1 1 1\ncpu1 1 1 1 1\ncpu2 1 1 1 1\ncpu3 1 1 1 1\nintr 5\nctxt 6\n")}
	h.proc["meminfo"] = &fstest.MapFile{Data: []byte("MemTotal:        8388608 kB\nMemFree:         1000000 kB\n")}
	return h
}

func (h *host) write(name, text string) { h.groups[name] = &fstest.MapFile{Data: []byte(text)} }

func (h *host) worker(pid int, membership string) {
	h.proc[fmt.Sprint(pid, "/cgroup")] = &fstest.MapFile{Data: []byte(membership)}
}

// remove takes a group away.
func (h *host) remove(dir string) {
	for name := range h.groups {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			delete(h.groups, name)
		}
	}
}

func (h *host) source(cfg Config) *Source {
	h.t.Helper()
	d := DefaultConfig()
	cfg.Root, cfg.Proc = d.Root, d.Proc
	if err := cfg.Validate(); err != nil {
		h.t.Fatal(err)
	}
	s := New(cfg)
	s.groups, s.proc, s.now = h.groups, h.proc, func() time.Time { return h.now }
	return s
}

func scene(pids ...int) fleet.Scene {
	s := fleet.Scene{Now: time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC), WorkersKnown: true}
	for _, pid := range pids {
		s.Workers = append(s.Workers, fleet.Worker{ID: fmt.Sprint("w", pid), PID: pid, Phase: fleet.Serving})
	}
	return s
}

// expect reads a figure 10 s after the reading before.
func (h *host) expect(s *Source, scene fleet.Scene, want float64) {
	h.t.Helper()
	h.now = h.now.Add(10 * time.Second)
	r, err := s.Read(h.t.Context(), scene)
	if err != nil || r.Quality != fleet.Fresh || math.Abs(r.Value-want) > 1e-9 || !r.Time.Equal(scene.Now) {
		h.t.Errorf("%s: %+v, %v; want %v", s.cfg.Field, r, err, want)
	}
}

func (h *host) sparse(s *Source, scene fleet.Scene) {
	h.t.Helper()
	h.now = h.now.Add(10 * time.Second)
	if r, err := s.Read(h.t.Context(), scene); err != nil || r.Quality != fleet.Sparse {
		h.t.Errorf("%s: %+v, %v; want it sparse", s.cfg.Field, r, err)
	}
}

func (h *host) missing(s *Source, scene fleet.Scene, want string) {
	h.t.Helper()
	if r, err := s.Read(h.t.Context(), scene); err == nil || r.Quality != fleet.Missing || !strings.Contains(err.Error(), want) {
		h.t.Errorf("%s: %+v, %v; want it missing, for %q", s.cfg.Field, r, err, want)
	}
}

// account is what a group has used.
type account struct {
	usage              time.Duration
	quota              string // as in cpu.max; empty: none
	periods, throttled int
	memory, droppable  int64
	limit              string // as in memory.max
	kills              int
	some, full         time.Duration // of each pressure
}

// v2 writes a group of version 2 as Linux 6.x does.
func (h *host) v2(dir string, a account) {
	h.write("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n")
	us := func(d time.Duration) int64 { return d.Microseconds() }
	h.write(path.Join(dir, "cpu.stat"), fmt.Sprintf("usage_usec %d\nuser_usec %d\nsystem_usec 0\nnice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods %d\nnr_throttled %d\nthrottled_usec 3519438\nnr_bursts 0\nburst_usec 0\n", us(a.usage), us(a.usage), a.periods, a.throttled))
	if a.quota != "" {
		h.write(path.Join(dir, "cpu.max"), a.quota+"\n")
	}
	if a.limit != "" {
		h.write(path.Join(dir, "memory.max"), a.limit+"\n")
	}
	h.write(path.Join(dir, "memory.current"), fmt.Sprintln(a.memory))
	h.write(path.Join(dir, "memory.stat"), fmt.Sprintf("anon 30957568\nfile 1943851008\nkernel 0\ninactive_anon 32722944\nactive_anon 5722112\ninactive_file %d\nactive_file 1220968448\nunevictable 22941696\nworkingset_refault_file 1574333\n", a.droppable))
	h.write(path.Join(dir, "memory.events"), fmt.Sprintf("low 0\nhigh 12\nmax 40\noom %d\noom_kill %d\noom_group_kill 0\n", a.kills, a.kills))
	for _, resource := range []string{"cpu", "memory", "io"} {
		h.write(path.Join(dir, resource+".pressure"), fmt.Sprintf("some avg10=1.70 avg60=7.82 avg300=20.85 total=%d\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n", us(a.some), us(a.full)))
	}
}

// v1 writes a group of version 1 as Linux 5.x and 6.x do; cpu and cpuacct are mounted together if that is how the host does it.
func (h *host) v1(dir string, a account, cpu, cpuacct string) {
	quota, period := "-1", "100000"
	if f := strings.Fields(a.quota); len(f) == 2 && f[0] != "max" {
		quota, period = f[0], f[1]
	}
	limit := a.limit
	if limit == "" || limit == "max" {
		limit = "9223372036854771712"
	}
	h.write(path.Join(cpu, dir, "cpu.cfs_quota_us"), quota+"\n")
	h.write(path.Join(cpu, dir, "cpu.cfs_period_us"), period+"\n")
	h.write(path.Join(cpu, dir, "cpu.stat"), fmt.Sprintf("nr_periods %d\nnr_throttled %d\nthrottled_time 3519438000\nnr_bursts 0\nburst_time 0\n", a.periods, a.throttled))
	h.write(path.Join(cpuacct, dir, "cpuacct.usage"), fmt.Sprintln(a.usage.Nanoseconds()))
	h.write(path.Join("memory", dir, "memory.usage_in_bytes"), fmt.Sprintln(a.memory))
	h.write(path.Join("memory", dir, "memory.limit_in_bytes"), limit+"\n")
	h.write(path.Join("memory", dir, "memory.stat"), fmt.Sprintf("cache 11681792\nrss 15474688\ninactive_file 7\nactive_file 2568192\nhierarchical_memory_limit 9223372036854771712\ntotal_cache 1943851008\ntotal_inactive_file %d\ntotal_active_file 1220968448\n", a.droppable))
	h.write(path.Join("memory", dir, "memory.oom_control"), fmt.Sprintf("oom_kill_disable 0\nunder_oom 0\noom_kill %d\n", a.kills))
}

const mib = 1 << 20

// The same figures out of both versions' files.
func TestFigures(t *testing.T) {
	for version, put := range map[string]func(*host, string, account){
		"version 2":                       (*host).v2,
		"version 1":                       func(h *host, dir string, a account) { h.v1(dir, a, "cpu", "cpuacct") },
		"version 1, both CPU controllers": func(h *host, dir string, a account) { h.v1(dir, a, "cpu,cpuacct", "cpu,cpuacct") },
	} {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			const dir = "system.slice/odoo.service"
			a := account{usage: time.Hour, quota: "200000 100000", periods: 500, throttled: 100, memory: 900 * mib, droppable: 100 * mib, limit: fmt.Sprint(1000 * mib), kills: 3}
			put(h, dir, a)
			sources := map[string]*Source{}
			for _, field := range []string{CPU, Throttled, OOMKills} {
				sources[field] = h.source(Config{Path: "/" + dir, Field: field})
				h.sparse(sources[field], scene())
			}
			h.now = h.now.Add(-20 * time.Second) // each was read 10 s after the one before
			for range 2 {
				before := h.now
				a.usage, a.periods, a.throttled, a.kills = a.usage+15*time.Second, a.periods+100, a.throttled+25, a.kills+2
				put(h, dir, a)
				for field, want := range map[string]float64{CPU: 75, Throttled: 25, OOMKills: 2} {
					s := sources[field]
					h.now = s.last.at
					h.expect(s, scene(), want)
				}
				h.now = before
			}
			h.expect(h.source(Config{Path: "/" + dir, Field: Memory}), scene(), 80)
			// Without limits, it is the host's: 4 cores and 8 GiB.
			a.quota, a.limit = "max 100000", "max"
			put(h, dir, a)
			h.expect(h.source(Config{Path: "/" + dir, Field: Memory}), scene(), 100*800.0/8192)
			for _, field := range []string{CPU, Throttled} {
				s := h.source(Config{Path: "/" + dir, Field: field})
				h.sparse(s, scene())
				a.usage += 10 * time.Second
				put(h, dir, a)
				h.expect(s, scene(), map[string]float64{CPU: 25, Throttled: 0}[field])
			}
			// What can be dropped may be more than is left.
			a.droppable = 901 * mib
			put(h, dir, a)
			h.expect(h.source(Config{Path: "/" + dir, Field: Memory}), scene(), 0)
		})
	}
}

func TestPressure(t *testing.T) {
	h := newHost(t)
	a := account{some: time.Hour, full: time.Minute}
	h.v2("odoo.slice", a)
	for field, want := range map[string]float64{CPUPressure: 40, MemoryPressure: 40, MemoryPressureFull: 15, IOPressure: 40, IOPressureFull: 15} {
		s := h.source(Config{Path: "/odoo.slice", Field: field})
		h.sparse(s, scene())
		a.some, a.full = a.some+4*time.Second, a.full+1500*time.Millisecond
		h.v2("odoo.slice", a)
		h.expect(s, scene(), want)
	}
	// Version 1 has none, unless version 2 is mounted beside it.
	old := newHost(t)
	old.v1("odoo.slice", account{}, "cpu", "cpuacct")
	s := old.source(Config{Path: "/odoo.slice", Field: CPUPressure})
	old.missing(s, scene(), "version 1 alone, which keep no account of pressure")
	old.write("unified/odoo.slice/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n")
	old.sparse(s, scene())
	old.write("unified/odoo.slice/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\n")
	old.expect(s, scene(), 10)
}

// A service's quota bounds the groups below it, and what is measured against it is the service.
func TestTheTightestLimit(t *testing.T) {
	h := newHost(t)
	h.v2("apps.slice", account{quota: "400000 100000", limit: fmt.Sprint(6000 * mib), memory: 5000 * mib})
	h.v2("apps.slice/odoo.service", account{quota: "100000 100000", limit: fmt.Sprint(1000 * mib), memory: 500 * mib, usage: time.Second})
	for i := range 3 {
		h.v2(fmt.Sprintf("apps.slice/odoo.service/w%d", i), account{quota: "max 100000", limit: "max", memory: 10 * mib})
		h.worker(100+i, fmt.Sprintf("0::/apps.slice/odoo.service/w%d\n", i))
	}
	s := h.source(Config{Field: CPU})
	h.expect(h.source(Config{Field: Memory}), scene(100, 101, 102), 50)
	h.sparse(s, scene(100, 101, 102))
	h.v2("apps.slice/odoo.service", account{quota: "100000 100000", usage: 9 * time.Second})
	h.expect(s, scene(100, 101, 102), 80)
	// The tighter one may stand above.
	h.v2("small.slice", account{quota: "50000 100000"})
	h.v2("small.slice/odoo.service", account{quota: "200000 100000"})
	s = h.source(Config{Path: "/small.slice/odoo.service", Field: CPU})
	h.sparse(s, scene())
	h.v2("small.slice", account{quota: "50000 100000", usage: 4 * time.Second})
	h.expect(s, scene(), 80)
	// More quota than the host has cores is no more than the cores.
	h.v2("big", account{quota: "1600000 100000"})
	s = h.source(Config{Path: "/big", Field: CPU})
	h.sparse(s, scene())
	h.v2("big", account{quota: "1600000 100000", usage: 20 * time.Second})
	h.expect(s, scene(), 50)
}

// A group for each worker, as containers have: what they use by what they may.
func TestTheWorkersOwnGroups(t *testing.T) {
	h := newHost(t)
	group := func(pid int, a account) {
		h.v2(fmt.Sprint("docker/", pid), a)
		h.worker(pid, fmt.Sprintf("0::/docker/%d\n", pid))
	}
	half := account{quota: "50000 100000", limit: fmt.Sprint(100 * mib), memory: 20 * mib}
	group(1, half)
	group(2, half)
	s, kills := h.source(Config{Field: CPU}), h.source(Config{Field: OOMKills})
	h.expect(h.source(Config{Field: Memory}), scene(1, 2), 20)
	h.sparse(s, scene(1, 2))
	h.now = h.now.Add(-10 * time.Second)
	h.sparse(kills, scene(1, 2))
	one, two := half, half
	one.usage, one.kills, two.usage, two.kills = 5*time.Second, 1, time.Second, 2
	group(1, one)
	group(2, two)
	group(3, half) // it has just come: it counts from its second reading on
	h.expect(s, scene(1, 2, 3), 60)
	h.now = h.now.Add(-10 * time.Second)
	h.expect(kills, scene(1, 2, 3), 3)
	// One whose group was made anew counts from then on, as does one that came back.
	one.usage = 0
	two.usage += 2 * time.Second
	group(1, one)
	group(2, two)
	h.expect(s, scene(1, 2), 40)
	// Without quotas all share the host.
	h2 := newHost(t)
	for pid := 1; pid <= 2; pid++ {
		h2.v2(fmt.Sprint("docker/", pid), account{memory: 2048 * mib})
		h2.worker(pid, fmt.Sprintf("0::/docker/%d\n", pid))
	}
	h2.expect(h2.source(Config{Field: Memory}), scene(1, 2), 50)
}

func TestGroupsOfVersion1(t *testing.T) {
	h := newHost(t)
	put := func(usage time.Duration) {
		h.v1("docker/abc", account{usage: usage, quota: "100000 100000"}, "cpu,cpuacct", "cpu,cpuacct")
		h.v1("", account{}, "cpu,cpuacct", "cpu,cpuacct")
	}
	put(0)
	h.worker(7, "12:name=systemd:/init.scope\n4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:freezer:/\n0::/\n")
	s := h.source(Config{Field: CPU})
	h.sparse(s, scene(7))
	put(3 * time.Second)
	h.expect(s, scene(7), 30)
	// The controllers may be mounted apart, and the limit stand above.
	apart := newHost(t)
	apart.write("cpu/a/cpu.cfs_quota_us", "100000\n")
	apart.write("cpu/a/cpu.cfs_period_us", "100000\n")
	apart.write("cpu/a/w/cpu.cfs_quota_us", "-1\n")
	apart.write("cpuacct/b/cpuacct.usage", "0\n")
	apart.write("cpuacct/b/w/cpuacct.usage", "77\n")
	apart.worker(7, "2:cpu:/a/w\n3:cpuacct:/b/w\n")
	s = apart.source(Config{Field: CPU})
	apart.sparse(s, scene(7))
	apart.write("cpuacct/b/cpuacct.usage", "1000000000\n")
	apart.expect(s, scene(7), 10)
}

func TestUnit(t *testing.T) {
	h := newHost(t)
	h.v2("system.slice/other.service", account{})
	s := h.source(Config{SystemdUnit: "odoo.service", Field: Memory})
	h.missing(s, scene(), "no control group of odoo.service is below /sys/fs/cgroup: does the unit run?")
	at := "moa.slice/moa-dfr.slice/odoo.service"
	h.v2(at, account{memory: 100 * mib, limit: fmt.Sprint(1000 * mib)})
	h.expect(s, scene(), 10)
	// It is moved to another slice: the reading in between is missing.
	h.remove(at)
	h.v2("system.slice/odoo.service", account{memory: 200 * mib, limit: fmt.Sprint(1000 * mib)})
	h.missing(s, scene(), "is not there")
	h.expect(s, scene(), 20)
	h.v2("user.slice/odoo.service", account{})
	h.missing(h.source(Config{SystemdUnit: "odoo.service", Field: CPU}), scene(), "odoo.service has 2 control groups, /system.slice/odoo.service, /user.slice/odoo.service: write path")
	old := newHost(t)
	old.v1("system.slice/odoo.service", account{memory: 100 * mib, limit: fmt.Sprint(1000 * mib)}, "cpu", "cpuacct")
	old.expect(old.source(Config{SystemdUnit: "odoo.service", Field: Memory}), scene(), 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := old.source(Config{SystemdUnit: "odoo.service", Field: CPU}).search(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestWhatCannotBeKnownIsMissing(t *testing.T) {
	h := newHost(t)
	h.v2("a", account{})
	h.worker(1, "0::/a\n")
	h.worker(2, "0::/../b\n")
	h.worker(3, "rubbish\n")
	h.worker(4, "")
	h.worker(5, "3:memory:/a\n")
	for _, c := range []struct {
		cfg   Config
		scene fleet.Scene
		want  string
	}{
		{Config{Field: CPU}, fleet.Scene{}, "cpu: the workers are not known"},
		{Config{Field: CPU}, scene(), "no worker serves"},
		{Config{Field: CPU}, scene(99), "no worker serves"},
		{Config{Field: CPU}, scene(1, 0), "worker w0 is not a process of this machine; write path or unit"},
		{Config{Field: CPU}, scene(2), "outside of what this container sees"},
		{Config{Field: CPU}, scene(3), "/proc/3/cgroup: not what the kernel writes there"},
		{Config{Field: CPU}, scene(4), "/proc/4/cgroup: not what the kernel writes there"},
		{Config{Field: CPU}, scene(5), `worker w5 is in no control group of "cpu"`},
		{Config{Field: CPU, Path: "/b"}, scene(), "the control group /sys/fs/cgroup/b is not there: is the service running?"},
		{Config{Field: Memory, Path: "/"}, scene(), "read /sys/fs/cgroup/memory.current: this kernel or group keeps no such account"},
	} {
		h.missing(h.source(c.cfg), c.scene, c.want)
	}
	for _, c := range []struct{ field, file, text, want string }{
		{CPU, "cpu.stat", "user_usec 5\n", "/sys/fs/cgroup/a/cpu.stat: there is no usage_usec"},
		{CPU, "cpu.stat", "usage_usec -5\n", "not what the kernel writes there"},
		{CPU, "cpu.max", "many\n", "/sys/fs/cgroup/a/cpu.max: not what the kernel writes there"},
		{CPU, "cpu.max", "100000 0\n", "not what the kernel writes there"},
		{Memory, "memory.current", "\n", "/sys/fs/cgroup/a/memory.current: not what the kernel writes there"},
		{OOMKills, "memory.events", "oom 1\n", "there is no oom_kill"},
		{IOPressureFull, "io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n", "there is no full"},
		{IOPressure, "io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=x\n", "/sys/fs/cgroup/a/io.pressure: not what the kernel writes there"},
	} {
		h.v2("a", account{quota: "max 100000", limit: "max"})
		h.write("a/"+c.file, c.text)
		h.missing(h.source(Config{Path: "/a", Field: c.field}), scene(), c.want)
	}
	h.v2("a", account{})
	delete(h.proc, "stat")
	delete(h.proc, "meminfo")
	h.missing(h.source(Config{Path: "/a", Field: CPU}), scene(), "count the host's cores")
	h.missing(h.source(Config{Path: "/a", Field: Memory}), scene(), "read the host's memory")
}

func TestConform(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		for field := range fields {
			if version == "v1" && strings.Contains(field, "pressure") {
				continue
			}
			t.Run(version+" "+field, func(t *testing.T) {
				observetest.Conform(t, func(t *testing.T) observetest.Subject {
					h, a, there := newHost(t), account{quota: "100000 100000", limit: fmt.Sprint(100 * mib), memory: 50 * mib}, true
					put := func() {
						if version == "v2" {
							h.v2("docker/a", a)
						} else {
							h.v1("docker/a", a, "cpu", "cpuacct")
						}
					}
					put()
					h.worker(7, map[string]string{"v1": "1:cpu:/docker/a\n2:cpuacct:/docker/a\n3:memory:/docker/a\n", "v2": "0::/docker/a\n"}[version])
					s := h.source(Config{Field: field})
					return observetest.Subject{
						Source: s, Workers: scene(7).Workers, NeedsWorkers: true, Warm: 1,
						Tick: func(*testing.T) {
							h.now = h.now.Add(10 * time.Second)
							a.usage, a.periods, a.throttled, a.kills = a.usage+5*time.Second, a.periods+100, a.throttled+50, a.kills+50
							a.some, a.full = a.some+5*time.Second, a.full+5*time.Second
							if there {
								put()
							}
						},
						Plausible: func(v float64) bool { return v == 50 },
						Break: func(*testing.T) {
							there = false
							h.remove("docker/a")
							for _, c := range []string{"cpu", "cpuacct", "memory"} {
								h.remove(c + "/docker/a")
							}
						},
						Mend: func(*testing.T) { there = true; put() },
					}
				})
			})
		}
	}
}

// Whatever the counters do, no figure is negative or not a number, and a part is at most 100.
func TestFiguresAreSane(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHost(t)
		a := account{}
		put := func() { h.v2("a", a) }
		put()
		sources := map[string]*Source{}
		for field := range fields {
			sources[field] = h.source(Config{Path: "/a", Field: field})
		}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			passed := time.Duration(rapid.IntRange(0, 20_000).Draw(rt, "ms")) * time.Millisecond
			h.now = h.now.Add(passed)
			if rapid.IntRange(0, 5).Draw(rt, "restart") == 0 {
				a = account{}
			}
			a.quota = rapid.SampledFrom([]string{"max 100000", "50000 100000", "0 100000"}).Draw(rt, "quota")
			a.limit = rapid.SampledFrom([]string{"max", "0", "1048576"}).Draw(rt, "limit")
			a.memory, a.droppable = rapid.Int64Range(0, 8<<30).Draw(rt, "memory"), rapid.Int64Range(0, 8<<30).Draw(rt, "droppable")
			a.usage += passed / 2
			a.some += passed
			n := rapid.IntRange(0, 50).Draw(rt, "periods")
			a.periods, a.throttled = a.periods+n, a.throttled+rapid.IntRange(0, n).Draw(rt, "throttled")
			a.kills += rapid.IntRange(0, 2).Draw(rt, "kills")
			put()
			for field, s := range sources {
				r, err := s.Read(context.Background(), scene())
				if err != nil {
					continue
				}
				if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) || r.Value < 0 || (field == Throttled || strings.Contains(field, "pressure")) && r.Value > 100.0001 {
					rt.Fatalf("%s is %+v", field, r)
				}
			}
		}
	})
}

// This machine's own groups, where it has some that a test may make.
func TestThisMachine(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Path = fmt.Sprintf("/tidemark-test-%d", os.Getpid())
	s := New(cfg)
	var dirs []string
	for _, controller := range []string{"cpu", "cpuacct", "memory"} {
		dirs = append(dirs, filepath.Join(cfg.Root, s.mount(controller), cfg.Path))
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Skip("needs control groups that a test may make: ", err)
		}
		defer os.Remove(dir)
	}
	put := func(dir, name, text string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0) }
	if put(dirs[0], "cpu.cfs_quota_us", "10000") != nil && put(dirs[0], "cpu.max", "10000 100000") != nil {
		t.Skip("needs the CPU controller for a group of its own")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), burnRole+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for _, dir := range dirs {
		if err := put(dir, "cgroup.procs", fmt.Sprint(cmd.Process.Pid)); err != nil {
			t.Skip("needs the right to move a process: ", err)
		}
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	for _, by := range []Config{{Path: cfg.Path}, {SystemdUnit: path.Base(cfg.Path)}, {}} {
		for field, good := range map[string]func(v float64) bool{
			CPU:       func(v float64) bool { return v > 10 && v < 1000 },
			Throttled: func(v float64) bool { return v > 0 && v <= 100 },
			Memory:    func(v float64) bool { return v > 0 && v < 100 },
			OOMKills:  func(v float64) bool { return v == 0 },
		} {
			c := cfg
			c.Path, c.SystemdUnit, c.Field = by.Path, by.SystemdUnit, field
			s := New(c)
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				r, err := s.Read(t.Context(), scene(cmd.Process.Pid))
				if err == nil && r.Quality == fleet.Fresh && good(r.Value) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s by %+v: %+v, %v", field, by, r, err)
				}
			}
		}
	}
}

func TestValidate(t *testing.T) {
	with := func(change func(*Config)) Config { c := DefaultConfig(); change(&c); return c }
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{DefaultConfig(), "<nil>"},
		{with(func(c *Config) { c.Path, c.Field = "/system.slice/odoo.service", IOPressure }), "<nil>"},
		{with(func(c *Config) { c.Field = "iops" }), `field: "iops" is not known; write one of cpu, cpu_pressure, io_pressure, io_pressure_full, memory, memory_pressure, memory_pressure_full, oom_kills, throttled`},
		{with(func(c *Config) { c.Path, c.SystemdUnit = "/a", "a.service" }), "unit: is given beside path; delete one of them"},
		{with(func(c *Config) { c.Path = "a" }), `path: "a" is not the path of a group; write it from the root of control groups on, such as /system.slice/odoo.service`},
		{with(func(c *Config) { c.Path = "/a/../b" }), `path: "/a/../b" is not the path of a group; write it from the root of control groups on, such as /system.slice/odoo.service`},
		{with(func(c *Config) { c.Path = "/sys/fs/cgroup/a" }), "path: holds the place where control groups are mounted; leave out /sys/fs/cgroup, and for version 1 the controller's name"},
		{with(func(c *Config) { c.SystemdUnit = "odoo" }), `unit: "odoo" does not say what kind of unit; write odoo.service`},
		{with(func(c *Config) { c.SystemdUnit = "a/b.service" }), `unit: "a/b.service" is no name of a unit; write the name alone, such as odoo.service`},
		{with(func(c *Config) { c.Root = "sys" }), `root: "sys" is not an absolute path; begin it with /`},
		{with(func(c *Config) { c.Proc = "" }), `proc: "" is not an absolute path; begin it with /`},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	own, shared, kills := DefaultConfig(), Config{Path: "/a", Field: CPU}, Config{Field: OOMKills}
	if own.Unit() != fleet.Percent || kills.Unit() != fleet.Number || !own.PerWorker() || shared.PerWorker() || kills.PerWorker() || own.Distribution() {
		t.Error("what the fields are")
	}
}

// Whatever the files say, the parsers say something sane or refuse.
func FuzzFiles(f *testing.F) {
	for _, s := range []string{
		"usage_usec 5\nnr_periods 7\n", "max 100000\n", "200000 100000\n", "12:cpu,cpuacct:/a\n0::/b\n", "0::/../x\n",
		"some avg10=1.70 avg60=7.82 avg300=20.85 total=4601909354\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", "18446744073709551615",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := valueOf(b, "usage_usec"); err == nil && (v < 0 || math.IsInf(v, 0)) {
			t.Errorf("%v", v)
		}
		if v, err := stalled(b, "some"); err == nil && (v < 0 || math.IsInf(v, 0)) {
			t.Errorf("%v", v)
		}
		if v, ok, err := parseMax(b); err == nil && ok && (v < 0 || math.IsInf(v, 0) || math.IsNaN(v)) {
			t.Errorf("%v", v)
		}
		if v, err := number(b); err == nil && math.IsNaN(v) {
			t.Errorf("%v", v)
		}
		if g, err := membership(b); err == nil {
			for _, p := range g.by {
				if !path.IsAbs(p) || path.Clean(p) != p {
					t.Errorf("%q", p)
				}
			}
		}
	})
}
