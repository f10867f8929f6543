package disk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/observetest"
)

var _ config.SignalBody = (*Config)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a machine of which a test writes the files: sda (8:0) with the partition sda1 (8:1), and the volume dm-0 (253:0).
type host struct {
	t    *testing.T
	dir  string
	now  time.Time
	sda  work
	path device // what lies under the configured path
	gone error  // why nothing does
}

// work is what a disk has done, in its counters' units.
type work struct{ reads, readSectors, readMS, writes, writeSectors, writeMS, underWay, busyMS, weightedMS int64 }

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), now: time.Unix(1_800_000_000, 0), path: device{8, 1}}
	disks := filepath.Join(h.dir, "sys/devices/pci0000:00/block")
	for name, text := range map[string]string{"sda/dev": "8:0\n", "sda/sda1/dev": "8:1\n", "sda/sda1/partition": "1\n", "dm-0/dev": "253:0\n"} {
		h.write(filepath.Join("sys/devices/pci0000:00/block", name), text)
	}
	if err := os.MkdirAll(filepath.Join(h.dir, "sys/dev/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	for number, at := range map[string]string{"8:0": "sda", "8:1": "sda/sda1", "253:0": "dm-0"} {
		if err := os.Symlink(filepath.Join(disks, at), filepath.Join(h.dir, "sys/dev/block", number)); err != nil {
			t.Fatal(err)
		}
	}
	h.put()
	return h
}

func (h *host) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		h.t.Fatal(err)
	}
}

// put writes /proc/diskstats as Linux 6.x does, with a line of Linux 4.x for the volume.
func (h *host) put() {
	h.t.Helper()
	w := h.sda
	h.write("proc/diskstats", fmt.Sprintf(`   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
   8       0 sda %d 85750 %d %d %d 301908 %d %d %d %d %d 436867 99 33349248 65652 437335 71295
   8       1 sda1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
 253       0 dm-0 %d 0 %d 0 0 0 0 0 0 0 0
`, w.reads, w.readSectors, w.readMS, w.writes, w.writeSectors, w.writeMS, w.underWay, w.busyMS, w.weightedMS, 2*w.reads, 2*w.readSectors))
}

// pass lets the disk work for 10 s.
func (h *host) pass(w work) {
	h.t.Helper()
	h.now = h.now.Add(10 * time.Second)
	h.sda = work{
		h.sda.reads + w.reads, h.sda.readSectors + w.readSectors, h.sda.readMS + w.readMS,
		h.sda.writes + w.writes, h.sda.writeSectors + w.writeSectors, h.sda.writeMS + w.writeMS,
		w.underWay, h.sda.busyMS + w.busyMS, h.sda.weightedMS + w.weightedMS,
	}
	h.put()
}

func (h *host) source(cfg Config) *Source {
	h.t.Helper()
	if err := cfg.Validate(); err != nil {
		h.t.Fatal(err)
	}
	s := New(cfg)
	s.proc, s.sys, s.now = filepath.Join(h.dir, "proc"), filepath.Join(h.dir, "sys"), func() time.Time { return h.now }
	s.under = func(string) (device, error) { return h.path, h.gone }
	return s
}

func (h *host) expect(s *Source, q fleet.Quality, want float64) {
	h.t.Helper()
	at := time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)
	r, err := s.Read(h.t.Context(), fleet.Scene{Now: at})
	if err != nil || r.Quality != q || math.Abs(r.Value-want) > 1e-9 || !r.Time.Equal(at) {
		h.t.Errorf("%s: %+v, %v; want %v %v", s.cfg.Field, r, err, q, want)
	}
}

func (h *host) missing(s *Source, want string) {
	h.t.Helper()
	if r, err := s.Read(h.t.Context(), fleet.Scene{}); err == nil || r.Quality != fleet.Missing || !strings.Contains(err.Error(), want) {
		h.t.Errorf("%s: %+v, %v; want it missing, for %q", s.cfg.Field, r, err, want)
	}
}

func TestFigures(t *testing.T) {
	h := newHost(t)
	h.sda = work{1000, 2000, 3000, 4000, 5000, 6000, 7, 8000, 9000}
	h.put()
	want := map[string]float64{QueueDepth: 12, Await: 0.025, IOPS: 40, Throughput: 512 * 300, Utilization: 80}
	sources := map[string]*Source{}
	for field := range want {
		sources[field] = h.source(Config{Path: "/var/lib/postgresql", Field: field})
		h.expect(sources[field], fleet.Sparse, 0)
	}
	for range 2 {
		h.pass(work{reads: 100, readSectors: 1000, readMS: 1000, writes: 300, writeSectors: 2000, writeMS: 9000, underWay: 3, busyMS: 8000, weightedMS: 120_000})
		for field, v := range want {
			h.expect(sources[field], fleet.Fresh, v)
		}
	}
	// A quiet disk has no latency; all else of it is 0.
	h.pass(work{})
	for field := range want {
		if field == Await {
			h.expect(sources[field], fleet.Sparse, 0)
		} else {
			h.expect(sources[field], fleet.Fresh, 0)
		}
	}
	// The kernel's milliseconds may be ahead of ours.
	h.pass(work{busyMS: 10_003})
	h.expect(sources[Utilization], fleet.Fresh, 100)
	// Counters that went back are those of another disk, or passed 2^32.
	h.pass(work{weightedMS: -5})
	h.expect(sources[QueueDepth], fleet.Sparse, 0)
	h.pass(work{weightedMS: 10_000})
	h.expect(sources[QueueDepth], fleet.Fresh, 1)
	h.expect(sources[QueueDepth], fleet.Sparse, 0) // no time has passed
}

func TestWhichDisk(t *testing.T) {
	h := newHost(t)
	part, volume, named := h.source(Config{Path: "/data", Field: IOPS}), h.source(Config{Path: "/data", Field: IOPS}), h.source(Config{Device: "sda", Field: IOPS})
	h.expect(part, fleet.Sparse, 0)
	h.expect(named, fleet.Sparse, 0)
	h.path = device{253, 0}
	h.expect(volume, fleet.Sparse, 0)
	h.pass(work{reads: 50})
	h.expect(volume, fleet.Fresh, 10)
	h.expect(named, fleet.Fresh, 5)
	h.path = device{8, 1}
	h.expect(part, fleet.Fresh, 5) // the whole disk, not the partition
	// The path has come to lie on another disk: nothing can be compared.
	h.path = device{253, 0}
	h.now = h.now.Add(time.Second)
	h.expect(part, fleet.Sparse, 0)
	// What sysfs does not know is taken as it is.
	h.path = device{9, 9}
	h.missing(part, "/diskstats has no disk 9:9: lsblk shows those that are there")
	h.missing(h.source(Config{Device: "sdz", Field: IOPS}), "has no disk sdz")
	h.gone = errors.New("stat /data: no such file or directory")
	h.missing(part, "iops: stat /data: no such file or directory")
	h.path, h.gone = device{8, 1}, nil
	h.write("sys/devices/pci0000:00/block/sda/dev", "rubbish")
	h.missing(part, "/sda/dev: not what the kernel writes there")
	for text, want := range map[string]string{
		"rubbish\n":                         "/diskstats: not what the kernel writes there",
		"8 0 sda 1 2 3\n":                   "the kernel keeps no full account of this disk",
		"8 x sda 1 2 3\n":                   "not what the kernel writes there",
		"8 0 sda 1 2 3 4 5 6 7 8 9 10 -1\n": "not what the kernel writes there",
	} {
		h.write("proc/diskstats", text)
		h.missing(named, want)
	}
}

// What the real file systems of this machine say of themselves.
func TestFileSystemsWithoutADisk(t *testing.T) {
	for path, want := range map[string]string{
		"/proc":     "/proc lies on proc, which is no disk",
		"/dev/shm":  "/dev/shm lies on tmpfs, which is in memory: write a path on a disk",
		"/nowhere/": "stat /nowhere/: no such file or directory",
	} {
		var fs unix.Statfs_t
		if path == "/dev/shm" && (unix.Statfs(path, &fs) != nil || fs.Type != unix.TMPFS_MAGIC) {
			continue
		}
		if d, err := deviceUnder(path); err == nil || err.Error() != want {
			t.Errorf("%s: %v, %v; want %s", path, d, err, want)
		}
	}
	for magic, want := range map[int64]string{
		unix.OVERLAYFS_SUPER_MAGIC: "overlay, a container's own layers: write the path of a volume, or device with the disk below",
		unix.BTRFS_SUPER_MAGIC:     "btrfs, which does not tell its disk: write device, as lsblk shows it",
		0xabc:                      "a file system (0xabc) that does not tell its disk: write device, as lsblk shows it",
	} {
		if got := kindOf(magic); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// This machine's own disk, under a file that is written and flushed.
func TestThisMachine(t *testing.T) {
	dir := t.TempDir()
	if _, err := deviceUnder(dir); err != nil {
		t.Skip("needs a temporary folder on a disk: ", err)
	}
	iops, depth := New(Config{Path: dir, Field: IOPS}), New(Config{Path: dir, Field: QueueDepth})
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if _, err := f.WriteAt(make([]byte, 64<<10), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		a, err := iops.Read(t.Context(), fleet.Scene{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := depth.Read(t.Context(), fleet.Scene{})
		if err != nil {
			t.Fatal(err)
		}
		if a.Quality == fleet.Fresh && a.Value > 0 && b.Quality == fleet.Fresh && b.Value >= 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %+v", a, b)
		}
	}
}

func TestFill(t *testing.T) {
	s := New(Config{Path: t.TempDir(), Field: Fill})
	if r, err := s.Read(t.Context(), fleet.Scene{}); err != nil || r.Quality != fleet.Fresh || r.Value < 0 || r.Value > 100 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := New(Config{Path: "/nowhere", Field: Fill}).Read(t.Context(), fleet.Scene{}); err == nil || r.Quality != fleet.Missing || err.Error() != "fill: statfs /nowhere: no such file or directory" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, c := range []struct {
		blocks, free, available uint64
		want                    float64
	}{{1000, 400, 400, 60}, {1000, 400, 200, 75}, {1000, 0, 0, 100}, {1000, 1000, 950, 0}, {1000, 50, 0, 100}, {1000, 1000, 0, 100}} {
		if v, err := share(c.blocks, c.free, c.available); err != nil || v != c.want {
			t.Errorf("%+v: %v, %v", c, v, err)
		}
	}
	if v, err := share(0, 0, 0); err == nil { // proc, and other file systems that hold nothing
		t.Errorf("%v", v)
	}
}

func TestConform(t *testing.T) {
	for field := range fields {
		t.Run(field, func(t *testing.T) {
			observetest.Conform(t, func(t *testing.T) observetest.Subject {
				if field == Fill {
					dir := filepath.Join(t.TempDir(), "data")
					mend := func(t *testing.T) {
						if err := os.MkdirAll(dir, 0o755); err != nil {
							t.Fatal(err)
						}
					}
					mend(t)
					return observetest.Subject{
						Source: New(Config{Path: dir, Field: Fill}), Mend: mend,
						Plausible: func(v float64) bool { return v >= 0 && v <= 100 },
						Break: func(t *testing.T) {
							if err := os.RemoveAll(dir); err != nil {
								t.Fatal(err)
							}
						},
					}
				}
				h := newHost(t)
				return observetest.Subject{
					Source: h.source(Config{Path: "/data", Field: field}), Warm: 1,
					Tick: func(*testing.T) {
						h.pass(work{reads: 100, readSectors: 1000, readMS: 1000, writes: 300, writeSectors: 2000, writeMS: 9000, busyMS: 8000, weightedMS: 120_000})
					},
					Plausible: func(v float64) bool {
						return math.Abs(v-map[string]float64{QueueDepth: 12, Await: 0.025, IOPS: 40, Throughput: 512 * 300, Utilization: 80}[field]) < 1e-9
					},
					Break: func(*testing.T) { h.gone = errors.New("not mounted") },
					Mend:  func(*testing.T) { h.gone = nil },
				}
			})
		})
	}
}

// Whatever the counters do, no figure is negative or not a number.
func TestFiguresAreSane(t *testing.T) {
	h := newHost(t)
	rapid.Check(t, func(rt *rapid.T) {
		h.sda = work{}
		h.put()
		sources := map[string]*Source{}
		for field := range fields {
			sources[field] = h.source(Config{Path: t.TempDir(), Field: field})
		}
		n := rapid.Int64Range(-100, 100_000)
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			h.pass(work{n.Draw(rt, "reads"), n.Draw(rt, "sectors"), n.Draw(rt, "ms"), n.Draw(rt, "writes"), n.Draw(rt, "sectors"), n.Draw(rt, "ms"), 0, n.Draw(rt, "busy"), n.Draw(rt, "weighted")})
			h.now = h.now.Add(time.Duration(rapid.IntRange(-10_000, 10_000).Draw(rt, "ms")) * time.Millisecond)
			for field, s := range sources {
				r, err := s.Read(context.Background(), fleet.Scene{})
				if err == nil && (math.IsNaN(r.Value) || math.IsInf(r.Value, 0) || r.Value < 0 || (field == Utilization || field == Fill) && r.Value > 100) {
					rt.Fatalf("%s is %+v", field, r)
				}
			}
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Path: "/var/lib/postgresql", Field: Await}, "<nil>"},
		{Config{Device: "dm-0", Field: QueueDepth}, "<nil>"},
		{DefaultConfig(), "path: is missing; write a folder on the disk, such as /var/lib/postgresql"},
		{Config{Path: "/a", Device: "sda", Field: IOPS}, "device: is given beside path; delete one of them"},
		{Config{Device: "sda", Field: Fill}, "device: is given, and only a file system can be full; write path, a folder on it"},
		{Config{Device: "/dev/sda", Field: IOPS}, `device: "/dev/sda" is no name of a disk; write the name alone, as lsblk shows it, such as sda`},
		{Config{Path: "data", Field: IOPS}, `path: "data" is not absolute; begin it with /`},
		{Config{Path: "/a", Field: "latency"}, `field: "latency" is not known; write one of await, fill, iops, queue_depth, throughput, utilization`},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	for field, want := range map[string]fleet.Unit{QueueDepth: fleet.Number, Await: fleet.Seconds, IOPS: fleet.Number, Throughput: fleet.Bytes, Utilization: fleet.Percent, Fill: fleet.Percent} {
		c := Config{Field: field}
		if c.Unit() != want || c.PerWorker() || c.Distribution() {
			t.Errorf("%s is in %v", field, c.Unit())
		}
	}
}

// Whatever the kernel's table says, what is found is a whole account of the disk, or an error.
func FuzzFind(f *testing.F) {
	f.Add([]byte(" 254       0 vda 422631 85750 12187186 610211 1921304 301908 72378976 1086310 0 302360 1833469 436867 99 33349248 65652 437335 71295\n"))
	f.Add([]byte("   8       1 sda1 1 2 3 4\n"))
	f.Add([]byte("18446744073709551616 0 a 1 2 3 4 5 6 7 8 9 10 11\n"))
	f.Fuzz(func(t *testing.T, table []byte) {
		c, found, err := find(table, func(device, string) bool { return true })
		if found && err == nil && min(c.requests, c.bytes, c.waited, c.busy, c.weighted) < 0 {
			t.Errorf("%+v", c)
		}
		if d, err := parseDevice(table); err == nil {
			if again, err := parseDevice([]byte(d.String())); err != nil || again != d {
				t.Errorf("%v, %v", again, err)
			}
		}
	})
}
