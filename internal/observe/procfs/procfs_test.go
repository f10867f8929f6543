package procfs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/observetest"
)

var (
	_          config.Body        = (*Config)(nil)
	_          observetest.Source = (*Source)(nil)
	ctx                           = context.Background()
	noon                          = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	everyField                    = []string{CPU, MemoryRSS, MemoryPSS, MemoryUsedPercent, MemoryAvailable, HostCPU}
)

// tree is a /proc of the test's own.
type tree struct {
	t    testing.TB
	root string
	now  time.Time
}

func newTree(t testing.TB) *tree { return &tree{t: t, root: t.TempDir(), now: noon} }

func (p *tree) source(field string) *Source {
	s := New(Config{Field: field, Root: p.root})
	s.now = func() time.Time { return p.now }
	return s
}

func (p *tree) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tree) remove(name string) {
	p.t.Helper()
	if err := os.RemoveAll(filepath.Join(p.root, name)); err != nil {
		p.t.Fatal(err)
	}
}

// process is what a fake process says of itself.
type process struct {
	pid, start, user, system, threads, rss, pss int
	state                                       string
}

func (p *tree) put(c process) {
	p.t.Helper()
	if c.state == "" {
		c.state = "S"
	}
	p.write(fmt.Sprint(c.pid, "/stat"), fmt.Sprintf("%d (odoo: WorkerHTTP %d) %s 1 1 1 0 -1 4194560 900 77 0 0 %d %d 1234 99 20 0 %d 0 %d 900000000 %d 18446744073709551615 1 1 0 0\n",
		c.pid, c.pid, c.state, c.user, c.system, max(c.threads, 1), c.start, c.rss))
	p.write(fmt.Sprint(c.pid, "/smaps_rollup"), fmt.Sprintf("00400000-7ffc8c7b2000 ---p 00000000 00:00 0   [rollup]\nRss:  %d kB\nPss:  %8d kB\nPss_Anon: 1 kB\n", c.pss*2, c.pss))
}

func workers(phase fleet.Phase, pids ...int) (out []fleet.Worker) {
	for _, pid := range pids {
		out = append(out, fleet.Worker{ID: strconv.Itoa(pid), PID: pid, Phase: phase})
	}
	return out
}

func scene(w ...fleet.Worker) fleet.Scene {
	return fleet.Scene{Now: noon, Workers: w, WorkersKnown: true}
}

func read(t testing.TB, s *Source, w ...fleet.Worker) fleet.Reading {
	t.Helper()
	r, err := s.Read(ctx, scene(w...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantValue(t testing.TB, r fleet.Reading, v float64) {
	t.Helper()
	if r.Quality != fleet.Fresh || math.Abs(r.Value-v) > 1e-9 {
		t.Fatalf("got %v (%v), want %v", r.Value, r.Quality, v)
	}
}

func TestConform(t *testing.T) {
	for _, field := range everyField {
		t.Run(field, func(t *testing.T) {
			observetest.Conform(t, func(t *testing.T) observetest.Subject {
				p := newTree(t)
				ticks, away := 0, false
				put := func() {
					p.put(process{pid: 7, start: 100, user: ticks, rss: 1000, pss: 500})
					p.put(process{pid: 8, start: 200, user: ticks, rss: 1000, pss: 500})
					p.write("stat", fmt.Sprintf("cpu  %d 0 0 %d 0 0 0 0 0 0\n", ticks, ticks))
					p.write("meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 500 kB\n")
				}
				put()
				return observetest.Subject{
					Source: p.source(field), Workers: workers(fleet.Serving, 7, 8), Warm: 1,
					NeedsWorkers: field != MemoryUsedPercent && field != MemoryAvailable && field != HostCPU,
					Plausible: map[string]func(float64) bool{
						CPU: func(v float64) bool { return v == 50 }, HostCPU: func(v float64) bool { return v == 50 },
					}[field],
					Tick: func(*testing.T) {
						p.now = p.now.Add(10 * time.Second)
						ticks += 500
						if !away {
							put()
						}
					},
					Break: func(*testing.T) {
						away = true
						for _, name := range []string{"7", "8", "stat", "meminfo"} {
							p.remove(name)
						}
					},
					Mend: func(*testing.T) { away = false; put() },
				}
			})
		})
	}
}

func TestCPU(t *testing.T) {
	p := newTree(t)
	s := p.source(CPU)
	a, b := workers(fleet.Serving, 10)[0], workers(fleet.Serving, 11)[0]
	p.put(process{pid: 10, start: 5, user: 1000, system: 500})
	p.put(process{pid: 11, start: 6, user: 9000})
	if r := read(t, s, a, b); r.Quality != fleet.Sparse {
		t.Fatalf("the first read: %v", r.Quality)
	}

	p.now = p.now.Add(10 * time.Second)
	p.put(process{pid: 10, start: 5, user: 1300, system: 700}) // 5 s of 10
	p.put(process{pid: 11, start: 6, user: 9100})              // 1 s of 10
	wantValue(t, read(t, s, a, b), 30)

	t.Run("a worker that came counts from its second look on", func(t *testing.T) {
		p.now = p.now.Add(10 * time.Second)
		p.put(process{pid: 10, start: 5, user: 1800, system: 700}) // 5 s
		p.put(process{pid: 11, start: 6, user: 9100})              // none
		p.put(process{pid: 12, start: 7, user: 77777})
		wantValue(t, read(t, s, append(workers(fleet.Serving, 12), a, b)...), 25)
		p.now = p.now.Add(10 * time.Second)
		p.put(process{pid: 10, start: 5, user: 1800, system: 700})
		p.put(process{pid: 12, start: 7, user: 77777 + 900})
		wantValue(t, read(t, s, append(workers(fleet.Serving, 12), a, b)...), 30)
	})
	t.Run("a pid given anew is another worker", func(t *testing.T) {
		p.now = p.now.Add(10 * time.Second)
		p.put(process{pid: 12, start: 99999, user: 1_000_000})
		wantValue(t, read(t, s, append(workers(fleet.Serving, 12), a, b)...), 0)
	})
	t.Run("workers that start or drain are left out", func(t *testing.T) {
		p.now = p.now.Add(10 * time.Second)
		p.put(process{pid: 10, start: 5, user: 1800 + 200, system: 700})
		p.put(process{pid: 11, start: 6, user: 9100 + 1000})
		p.put(process{pid: 12, start: 99999, user: 1_000_000 + 1000})
		wantValue(t, read(t, s, append(append(workers(fleet.Starting, 11), workers(fleet.Draining, 12)...), a)...), 20)
	})
	t.Run("and those that ended, unreaped or not", func(t *testing.T) {
		p.now = p.now.Add(10 * time.Second)
		read(t, s, append(workers(fleet.Serving, 11, 12), a)...) // now they count
		p.now = p.now.Add(10 * time.Second)
		p.put(process{pid: 10, start: 5, user: 1800 + 300, system: 700})
		p.put(process{pid: 11, start: 6, user: 9100 + 2000, state: "Z"})
		p.remove("12")
		wantValue(t, read(t, s, append(workers(fleet.Serving, 11, 12), a)...), 10)
	})
}

func TestCPUOfReadsInQuickSuccession(t *testing.T) {
	p := newTree(t)
	s := p.source(CPU)
	w := workers(fleet.Serving, 10)
	step := func(d time.Duration, ticks int) fleet.Reading {
		t.Helper()
		p.now = p.now.Add(d)
		p.put(process{pid: 10, start: 5, user: ticks})
		return read(t, s, w...)
	}
	for i, c := range []struct {
		after time.Duration
		ticks int
		want  float64 // -1: sparse
	}{
		{0, 1000, -1},
		{20 * time.Millisecond, 1002, -1}, // 2 ticks of 10 ms in 20 ms would be chance
		{980 * time.Millisecond, 1050, 50},
		{time.Millisecond, 1051, 51 / 1.001}, // over the time since the first
		{0, 1051, 51 / 1.001},
		{999 * time.Millisecond, 1150, 100},
		{10 * time.Second, 1150 + 250, 25},
	} {
		r := step(c.after, c.ticks)
		if c.want < 0 && r.Quality != fleet.Sparse || c.want >= 0 && (r.Quality != fleet.Fresh || math.Abs(r.Value-c.want) > 1e-9) {
			t.Errorf("read %d: %v (%v), want %v", i+1, r.Value, r.Quality, c.want)
		}
	}
}

func TestCPURounding(t *testing.T) {
	for _, c := range []struct {
		name           string
		ticks, threads int
		want           float64
	}{
		{"one tick too many for one thread is rounding", 1001, 1, 100},
		{"for two threads it may be true", 1001, 2, 100.1},
		{"two threads may use two cores", 2000, 2, 200},
		{"what no rounding explains stays as it is", 1100, 1, 110},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTree(t)
			s := p.source(CPU)
			p.put(process{pid: 10, threads: c.threads})
			read(t, s, workers(fleet.Serving, 10)...)
			p.now = p.now.Add(10 * time.Second)
			p.put(process{pid: 10, user: c.ticks, threads: c.threads})
			wantValue(t, read(t, s, workers(fleet.Serving, 10)...), c.want)
		})
	}
}

// TestCPUNeverWild: whatever comes, goes, restarts and is read when, the figure is sparse or between 0 and 100 for workers of one thread.
func TestCPUNeverWild(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := newTree(t)
		s := p.source(CPU)
		procs, start := map[int]*process{}, 0
		for range rapid.IntRange(1, 30).Draw(r, "reads") {
			elapsed := rapid.SampledFrom([]int{0, 1, 10, 40, 60, 100, 1500}).Draw(r, "ticks")
			p.now = p.now.Add(time.Duration(elapsed) * 10 * time.Millisecond)
			for pid := 10; pid < 14; pid++ {
				c := procs[pid]
				switch rapid.IntRange(0, 9).Draw(r, "fate") {
				case 0:
					delete(procs, pid)
					p.remove(strconv.Itoa(pid))
				case 1:
					start++ // a pid with its start is never given twice
					procs[pid] = &process{pid: pid, start: start, user: rapid.IntRange(0, 1<<30).Draw(r, "user")}
				default:
					if c != nil {
						c.user += rapid.IntRange(0, elapsed).Draw(r, "used")
					}
				}
				if c = procs[pid]; c != nil {
					p.put(*c)
				}
			}
			got, err := s.Read(ctx, scene(workers(fleet.Serving, 10, 11, 12, 13)...))
			if err == nil && (got.Value < 0 || got.Value > 100+1e-9) || err != nil && len(procs) > 0 {
				r.Fatalf("%v (%v), %v", got.Value, got.Quality, err)
			}
		}
	})
}

func TestMemory(t *testing.T) {
	p := newTree(t)
	p.put(process{pid: 10, start: 1, rss: 100, pss: 300})
	p.put(process{pid: 11, start: 2, rss: 10, pss: 30})
	p.put(process{pid: 12, start: 3, rss: 1, pss: 3})
	all := append(append(workers(fleet.Serving, 10), workers(fleet.Starting, 11)...), workers(fleet.Draining, 12)...)
	wantValue(t, read(t, p.source(MemoryRSS), all...), 111*float64(os.Getpagesize()))

	s := p.source(MemoryPSS)
	wantValue(t, read(t, s, all...), 333<<10)
	p.put(process{pid: 10, start: 1, pss: 400})
	p.put(process{pid: 12, start: 99, pss: 5}) // another process
	wantValue(t, read(t, s, all...), (300+30+5)<<10)
	p.now = p.now.Add(shareAge)
	wantValue(t, read(t, s, all...), (400+30+5)<<10)
	p.remove("11")
	wantValue(t, read(t, s, all...), (400+5)<<10)
	if len(s.shares) != 2 {
		t.Errorf("%d workers are remembered of 2", len(s.shares))
	}

	p.write("meminfo", "MemTotal:        4000 kB\nMemFree:          1 kB\nMemAvailable:    1000 kB\n")
	wantValue(t, read(t, p.source(MemoryUsedPercent)), 75)
	wantValue(t, read(t, p.source(MemoryAvailable)), 1000<<10)
}

func TestHostCPU(t *testing.T) {
	p := newTree(t)
	s := p.source(HostCPU)
	p.write("stat", "cpu  100 10 50 1000 200 1 2 3 99 9\ncpu0 1 2 3\n")
	if r := read(t, s); r.Quality != fleet.Sparse {
		t.Fatal(r.Quality)
	}
	p.now = p.now.Add(time.Second)
	// user +20, nice +1, system +9, idle +40, iowait +20, irq +1, softirq +2, steal +7; guest time is in user
	p.write("stat", "cpu  120 11 59 1040 220 2 4 10 199 9\ncpu0 1 2 3\n")
	wantValue(t, read(t, s), 40)
	p.now = p.now.Add(time.Second)
	p.write("stat", "cpu  20 11 59 1040 220 2 4 10 199 9\n")
	if r := read(t, s); r.Quality != fleet.Sparse {
		t.Fatalf("a counter that fell gave %v (%v)", r.Value, r.Quality)
	}
}

func TestErrorsSayWhy(t *testing.T) {
	p := newTree(t)
	p.put(process{pid: 10})
	p.write("11/stat", "garbage")
	p.write("12/stat", "12 (x) S 1 1\n")
	p.put(process{pid: 13, pss: 1})
	p.remove("13/smaps_rollup")
	p.put(process{pid: 14})
	p.write("14/smaps_rollup", "Rss: 1 kB\n")
	if err := os.Mkdir(filepath.Join(p.root, "meminfo"), 0o755); err != nil {
		t.Fatal(err)
	}
	one := func(pid int) fleet.Scene { return scene(workers(fleet.Serving, pid)...) }
	for _, c := range []struct {
		field string
		scene fleet.Scene
		want  string // ROOT is the tree's
	}{
		{CPU, fleet.Scene{}, "cpu: the workers are not known, because the target could not be read"},
		{CPU, scene(), "cpu: no worker serves"},
		{CPU, scene(workers(fleet.Starting, 10)...), "cpu: no worker serves"},
		{MemoryRSS, scene(), "memory_rss: no worker exists"},
		{CPU, scene(fleet.Worker{ID: "web-1", Phase: fleet.Serving}), "cpu: worker web-1 is not a process of this machine; take this signal from where its workers run"},
		{CPU, one(99), "cpu: none of the 1 workers that the target reported is in ROOT: they ended just now, or ROOT is not of the machine that they run on"},
		{CPU, one(777), "cpu: process 777 is hidden: " + hidepid},
		{CPU, one(11), "cpu: ROOT/11/stat: not what the kernel writes there"},
		{CPU, one(12), "cpu: ROOT/12/stat: not what the kernel writes there"},
		{MemoryPSS, one(13), "memory_pss: open ROOT/13/smaps_rollup: no such file or directory; this kernel cannot tell, take memory_rss"},
		{MemoryPSS, one(14), "memory_pss: ROOT/14/smaps_rollup: not what the kernel writes there"},
		{MemoryUsedPercent, scene(), "memory_used_percent: read ROOT/meminfo: is a directory"},
		{MemoryAvailable, scene(), "memory_available: read ROOT/meminfo: is a directory"},
		{HostCPU, scene(), "host_cpu: open ROOT/stat: no such file or directory"},
	} {
		s := p.source(c.field)
		s.exists = func(pid int) bool { return pid == 777 }
		r, err := s.Read(ctx, c.scene)
		want := strings.ReplaceAll(c.want, "ROOT", p.root)
		if err == nil || err.Error() != want || r.Quality != fleet.Missing || r.Value != 0 {
			t.Errorf("got  %v, %v (%v)\nwant %s", err, r.Value, r.Quality, want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, field := range everyField {
		cfg := DefaultConfig()
		cfg.Field = field
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	cfg := DefaultConfig()
	if cfg.Unit() != fleet.Percent || !cfg.PerWorker() || cfg.Distribution() {
		t.Errorf("%+v is not the workers' CPU", cfg)
	}
	cfg = Config{Field: "ram", Root: "proc"}
	const want = `field: "ram" is not known; write one of cpu, host_cpu, memory_available, memory_pss, memory_rss, memory_used_percent
root: "proc" is not an absolute path; write /proc`
	if err := cfg.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestParseStat(t *testing.T) {
	const rest = " R 1 2 3 4 -1 5 6 7 8 9 1234 567 -1 -1 20 0 3 0 98765 1000 4321 18446744073709551615 0"
	want := stat{state: 'R', ticks: 1801, threads: 3, start: 98765, rss: 4321}
	for _, name := range []string{"cat", "a b", "a) R 1 (b", ")", "(", "", "x\ny", " ) S 9 9 9", "((("} {
		if got, err := parseStat([]byte("10 (" + name + ")" + rest + "\n")); err != nil || got != want {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "10 cat R 1 2", "10 (cat)", "10 (cat) ", "10 )(" + rest, "10 (cat)" + rest[:50], strings.ReplaceAll("10 (cat)"+rest, "1234", "-4"),
		strings.ReplaceAll("10 (cat)"+rest, "98765", "99999999999999999999999"), strings.ReplaceAll("10 (cat)"+rest, " R ", " RUN ")} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("cat", "10 (cat) R 1 2 3 4 -1 5 6 7 8 9 1234 567 -1 -1 20 0 3 0 98765 1000 4321 18446744073709551615 0\n")
	f.Add("a) R 1 (b\n", "")
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("x", string(own))
	f.Fuzz(func(t *testing.T, name, line string) {
		s, err := parseStat([]byte(line))
		if err != nil && s != (stat{}) && s.state == 0 {
			t.Fatalf("%+v with %v", s, err)
		}
		// Whatever a process calls itself, it is read the same.
		const rest = ") R 1 2 3 4 -1 5 6 7 8 9 1234 567 -1 -1 20 0 3 0 98765 1000 4321 0\n"
		if got, err := parseStat([]byte("10 (" + name + rest)); err != nil || got != (stat{state: 'R', ticks: 1801, threads: 3, start: 98765, rss: 4321}) {
			t.Fatalf("named %q: %+v, %v", name, got, err)
		}
		hostTicks([]byte(line))
		valueOf([]byte(line), "Pss:")
	})
}

// burn is the share of one core that a test process uses up; see TestMain.
const burn = "TIDEMARK_TEST_BURN"

func TestMain(m *testing.M) {
	if share := os.Getenv(burn); share != "" {
		burnForever(share)
	}
	os.Exit(m.Run())
}

// burnForever computes for the given percent of each 20 ms of its own CPU time and the wall's.
func burnForever(share string) {
	percent, err := strconv.Atoi(share)
	if err != nil {
		os.Exit(1)
	}
	const beat = 20 * time.Millisecond
	fmt.Println("burning")
	for {
		start := time.Now()
		for time.Since(start) < beat*time.Duration(percent)/100 {
		}
		if percent < 100 {
			time.Sleep(beat - time.Since(start))
		}
	}
}

func startBurner(t *testing.T, percent int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprint(burn, "=", percent))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// onCPU is the time that a process has had, by another of the kernel's accounts: the scheduler's, of each of its threads.
func onCPU(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		t.Skip("needs a kernel with schedstat")
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ns, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n)
	}
	return sum
}

// TestRealProcesses reads real burners. How much of a core they get is up to the machine, which is shared; what they got must be
// what is read.
func TestRealProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: burns CPU for some seconds")
	}
	const tolerance = 6 // of 100
	got := map[int]float64{}
	for _, percent := range []int{1, 50, 100} {
		t.Run(fmt.Sprint(percent, "%"), func(t *testing.T) {
			pid := startBurner(t, percent)
			cpu := New(DefaultConfig())
			w := workers(fleet.Serving, pid)
			start, before := time.Now(), onCPU(t, pid)
			if r := read(t, cpu, w...); r.Quality != fleet.Sparse {
				t.Fatalf("the first read: %v", r.Quality)
			}
			<-time.After(2 * time.Second) // the time that is measured over
			r := read(t, cpu, w...)
			truth := 100 * float64(onCPU(t, pid)-before) / float64(time.Since(start))
			if r.Quality != fleet.Fresh || math.Abs(r.Value-truth) > tolerance || r.Value > float64(percent)+tolerance {
				t.Errorf("%.1f %% (%v), want %.1f", r.Value, r.Quality, truth)
			}
			t.Logf("%.1f %%, truth %.1f", r.Value, truth)
			got[percent] = r.Value

			rss := read(t, New(Config{Field: MemoryRSS, Root: "/proc"}), w...)
			pss := read(t, New(Config{Field: MemoryPSS, Root: "/proc"}), w...)
			if pss.Value < 100<<10 || rss.Value < pss.Value/2 || rss.Value > 1<<30 {
				t.Errorf("resident %v, proportional %v", rss.Value, pss.Value)
			}
		})
	}
	if got[1] > 10 || got[100] < got[1] {
		t.Errorf("sleeping %.1f %%, spinning %.1f %%", got[1], got[100])
	}
}

func TestRealHost(t *testing.T) {
	used := read(t, New(Config{Field: MemoryUsedPercent, Root: "/proc"}))
	if used.Value <= 0 || used.Value >= 100 {
		t.Errorf("memory used: %v %%", used.Value)
	}
	busy := New(Config{Field: HostCPU, Root: "/proc"})
	if r := read(t, busy); r.Quality != fleet.Sparse {
		t.Errorf("the first read: %v", r.Quality)
	}
	<-time.After(600 * time.Millisecond)
	if r := read(t, busy); r.Quality != fleet.Fresh || r.Value < 0 || r.Value > 100 {
		t.Errorf("busy: %v %% (%v)", r.Value, r.Quality)
	}
}

// A process is told with what it takes; one that is not there is an error.
func TestReadProcess(t *testing.T) {
	p, err := ReadProcess(os.Getpid())
	if err != nil || p.Memory < 1<<20 || p.CPU < 0 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := ReadProcess(1 << 30); err == nil {
		t.Error("of no process")
	}
}

func TestRealProcessThatEnded(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Skip("needs /bin/true")
	}
	if _, err := New(DefaultConfig()).Read(ctx, scene(workers(fleet.Serving, cmd.Process.Pid)...)); err == nil {
		t.Error("a process that ended has a figure")
	}
}

// BenchmarkCPU is one read of a fleet of 10 workers.
func BenchmarkCPU(b *testing.B) {
	s := New(DefaultConfig())
	at := time.Now()
	s.now = func() time.Time { at = at.Add(time.Second); return at }
	var w []fleet.Worker
	for i := range 10 {
		w = append(w, fleet.Worker{ID: strconv.Itoa(i), PID: os.Getpid(), Phase: fleet.Serving})
	}
	sc := scene(w...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(ctx, sc); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10, "µs/worker")
}

func BenchmarkPSS(b *testing.B) {
	s := New(Config{Field: MemoryPSS, Root: "/proc"})
	sc := scene(workers(fleet.Serving, os.Getpid())...)
	at := time.Now()
	s.now = func() time.Time { at = at.Add(shareAge); return at }
	for b.Loop() {
		if _, err := s.Read(ctx, sc); err != nil {
			b.Fatal(err)
		}
	}
}
