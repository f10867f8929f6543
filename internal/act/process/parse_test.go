package process

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/act/copies"
	"tidemark/internal/config"
)

func TestValidate(t *testing.T) {
	good := func() Config {
		c := DefaultConfig()
		c.Command, c.Ports = []string{"/usr/bin/app", "--port={port}"}, copies.Ports{First: 9001}
		return c
	}
	onSocket := func(c *Config) {
		c.Ports, c.Socket, c.Command = copies.Ports{}, "/run/app/{slot}.sock", []string{"app", "{socket}"}
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		fields string
	}{
		{"as it is", func(*Config) {}, ""},
		{"on sockets", onSocket, ""},
		{"port in env", func(c *Config) { c.Command = []string{"app"}; c.Env = map[string]string{"PORT": "{port}"} }, ""},
		{"only defaults", func(c *Config) { *c = DefaultConfig() }, "command ports"},
		{"zero", func(c *Config) { *c = Config{} }, "command ports health.interval health.timeout health.unhealthy_after start_grace stop_timeout restart.backoff_min restart.backoff_max health.failures stop_signal cgroup"},
		{"one word", func(c *Config) { c.Command = []string{"app --port {port}"} }, "command"},
		{"placeholder as program", func(c *Config) { c.Command = []string{"{port}"} }, "command"},
		{"misspelt placeholder", func(c *Config) { c.Command = []string{"app", "{prot}"} }, "command"},
		{"zero byte", func(c *Config) { c.Command = append(c.Command, "\x00") }, "command"},
		{"socket without socket", func(c *Config) { c.Command = []string{"app", "{socket}"} }, "command"},
		{"port without ports", func(c *Config) { onSocket(c); c.Command = []string{"app", "{port}"} }, "command"},
		{"ports and socket", func(c *Config) { c.Socket = "/run/{slot}.sock" }, "socket"},
		{"shared socket", func(c *Config) { onSocket(c); c.Socket = "/run/app.sock" }, "socket"},
		{"relative socket", func(c *Config) { onSocket(c); c.Socket = "{slot}.sock" }, "socket"},
		{"long socket", func(c *Config) { onSocket(c); c.Socket = "/" + strings.Repeat("x", 105) + "{slot}" }, "socket"},
		{"port 0", func(c *Config) { c.Ports = copies.Ports{Last: 9000} }, "ports.first"},
		{"port too high", func(c *Config) { c.Ports.First = 70000 }, "ports.first"},
		{"ports backwards", func(c *Config) { c.Ports.Last = 9000 }, "ports.last"},
		{"env name", func(c *Config) { c.Env = map[string]string{"A=B": "x"} }, "env"},
		{"env of ours", func(c *Config) { c.Env = map[string]string{"TIDEMARK_SLOT": "x"} }, "env"},
		{"health is a URL", func(c *Config) { c.Health.Path = "http://localhost/health" }, "health.path"},
		{"health with blank", func(c *Config) { c.Health.Path = "/a b" }, "health.path"},
		{"no failures", func(c *Config) { c.Health.Failures = 0 }, "health.failures"},
		{"backoff", func(c *Config) { c.Restart.BackoffMin = 2 * time.Minute }, "restart.backoff_min"},
		{"KILL", func(c *Config) { c.StopSignal = "SIGKILL" }, "stop_signal"},
		{"SIGINT", func(c *Config) { c.StopSignal = "SIGINT" }, ""},
		{"relative dir", func(c *Config) { c.Dir = "app" }, "dir"},
		{"relative log_dir", func(c *Config) { c.LogDir = "log" }, "log_dir"},
		{"cgroup", func(c *Config) { c.Cgroup = "yes" }, "cgroup"},
		{"a week", func(c *Config) { c.StopTimeout = 7 * 24 * time.Hour }, "stop_timeout"},
	} {
		cfg := good()
		c.change(&cfg)
		err := cfg.Validate()
		if got := fields(err); got != c.fields {
			t.Errorf("%s: problems with %q, want %q\n%v", c.name, got, c.fields, err)
		}
	}
}

func fields(err error) string {
	var out []string
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			var f *config.FieldError
			if errors.As(e, &f) {
				out = append(out, f.Field)
			}
		}
	}
	return strings.Join(out, " ")
}

func TestExpand(t *testing.T) {
	for _, c := range []struct{ in, address, want string }{
		{"--port={port}", "127.0.0.1:9003", "--port=9003"},
		{"{slot}/{slot}/{other}", "127.0.0.1:9003", "3/3/{other}"},
		{"bind={socket}", "unix:/run/3.sock", "bind=/run/3.sock"},
	} {
		if got := expand(c.in, 3, c.address); got != c.want {
			t.Errorf("%q at %s: %q, want %q", c.in, c.address, got, c.want)
		}
	}
}

func TestDelay(t *testing.T) {
	r := Restart{BackoffMin: time.Second, BackoffMax: time.Minute}
	var got []time.Duration
	for deaths := range 10 {
		got = append(got, r.delay(deaths)/time.Second)
	}
	if want := []time.Duration{0, 0, 1, 2, 4, 8, 16, 32, 60, 60}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, math.MaxInt-1).Draw(t, "deaths")
		if d := r.delay(n); d < r.BackoffMin || d > r.BackoffMax || d > r.delay(n+1) {
			t.Fatalf("%v after %d deaths", d, n)
		}
	})
}

// Whom the fleet can do without is a strict order, and says what it should.
func TestVictims(t *testing.T) {
	order := []cost{ // the first leaves first
		{slot: 1},
		{running: true, start: 9, slot: 2},
		{running: true, start: 3, slot: 3},
		{running: true, serving: true, busy: 0, start: 8, slot: 4},
		{running: true, serving: true, busy: 0, start: 7, slot: 5},
		{running: true, serving: true, busy: 40, start: 9, slot: 6},
	}
	for i, a := range order {
		for j, b := range order {
			if got, want := sign(a.compare(b)), sign(i-j); got != want {
				t.Errorf("%+v against %+v: %d, want %d", a, b, got, want)
			}
		}
	}
	one := rapid.Custom(func(t *rapid.T) cost {
		return cost{rapid.Bool().Draw(t, "serving"), rapid.Bool().Draw(t, "running"), rapid.Uint64Range(0, 2).Draw(t, "busy"), rapid.Uint64Range(0, 2).Draw(t, "start"), rapid.IntRange(1, 3).Draw(t, "slot")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := one.Draw(t, "a"), one.Draw(t, "b"), one.Draw(t, "c")
		if a.compare(b) != -b.compare(a) {
			t.Fatal("not antisymmetric")
		}
		if a.compare(b) < 0 && b.compare(c) < 0 && a.compare(c) >= 0 {
			t.Fatal("not transitive")
		}
		if (a.compare(b) == 0) != (a == b) {
			t.Fatal("not strict")
		}
	})
}

func sign(i int) int { return max(-1, min(1, i)) }

func TestParseStat(t *testing.T) {
	const tail = ` 1 42 43 0 -1 4194560 100 200 0 0 7 8 20 1 20 0 1 0 123456 1000 200 18446744073709551615`
	for _, name := range []string{"app", "a b", "a) R 9 9", "((", "", "x\ny"} {
		s, err := parseStat([]byte("7 (" + name + ") S" + tail))
		if want := (stat{State: 'S', Session: 43, CPU: 7 + 8 + 20 + 1, Start: 123456}); err != nil || s != want {
			t.Errorf("%q: %+v, %v; want %+v", name, s, err, want)
		}
	}
	for _, bad := range []string{"", "7", "7 (app", "7 (app) S 1 2", "7 (app) SS" + tail, "7 (app) S" + strings.Replace(tail, "123456", "x", 1)} {
		if s, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/stat"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("7 (a) b) S 1 42 43 0 -1 4194560 100 200 0 0 7 8 20 1 20 0 1 0 123456"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStat(b); err == nil && (s.State == 0 || s.Session < 0 || s.Start > math.MaxInt64) {
			t.Fatalf("%q: %+v", b, s)
		}
	})
}

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   1: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1 0 100 0 0 10 0
   2: 0500000A:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1 0 100 0 0 10 0
   3: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104 1 0 100 0 0 10 0
   4: 0100007F:2329 0100007F:A000 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0 100 0 0 10 0
`

func TestListeners(t *testing.T) {
	found := map[string]bool{}
	if err := addTCPListeners(found, strings.NewReader(tcpTable), 9001); err != nil || len(found) != 2 || !found["101"] || !found["102"] {
		t.Errorf("%v, %v", found, err)
	}
	const table = `Num       RefCount Protocol Flags    Type St Inode Path
0000: 00000002 00000000 00010000 0001 01 201 /run/a b/1.sock
0000: 00000003 00000000 00000000 0001 03 202 /run/a b/1.sock
0000: 00000002 00000000 00010000 0001 01 203 /run/11.sock
0000: 00000003 00000000 00000000 0001 03 204
`
	if got := parseUnixListeners(table, "/run/a b/1.sock"); len(got) != 1 || !got["201"] {
		t.Errorf("%v", got)
	}
	if got := parseUnixListeners(table, "1.sock"); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func FuzzListeners(f *testing.F) {
	f.Add(tcpTable, 9001)
	f.Add("x", -1)
	f.Fuzz(func(t *testing.T, table string, port int) {
		found := map[string]bool{}
		_ = addTCPListeners(found, strings.NewReader(table), port)
		for inode := range found {
			if !strings.Contains(table, inode) {
				t.Fatalf("%q is not in the table", inode)
			}
		}
		for inode := range parseUnixListeners(table, "/x") {
			if !strings.Contains(table, inode) {
				t.Fatalf("%q is not in the table", inode)
			}
		}
	})
}

func TestCgroupDir(t *testing.T) {
	const mounts = `25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
27 25 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
`
	bound := strings.Replace(mounts, "0:23 / ", "0:23 /docker/1 ", 1)
	for _, c := range []struct{ own, mounts, want string }{
		{"1:memory:/x\n0::/system.slice/tidemark.service\n", mounts, "/sys/fs/cgroup/unified/system.slice/tidemark.service"},
		{"0::/\n", mounts, "/sys/fs/cgroup/unified"},
		{"0::/docker/1/a\n", bound, "/sys/fs/cgroup/unified/a"},
		{"0::/elsewhere\n", bound, ""},
		{"1:memory:/x\n", mounts, ""},
		{"0::/\n", "", ""},
	} {
		got, err := cgroupDir(c.own, c.mounts)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v; want %q", c.own, got, err, c.want)
		}
	}
}

func TestLogTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old\n")
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "line %d\n", i)
	}
	for _, c := range []struct {
		log, want string
		from      int64
	}{
		{"old\nnew\r\n\n\x1b[31mred\tone\x00\n", "new | [31mred one", 4},
		{many.String(), "line 995 | line 996 | line 997 | line 998 | line 999", 0},
		{"", "", 0},
		{"short", "", 100},
		{strings.Repeat("é", 400), strings.Repeat("é", 150) + "...", 0},
		{"\xff\xfe", "?", 0},
	} {
		write(c.log)
		if got := logTail(path, c.from); got != c.want {
			t.Errorf("%.20q: %q, want %q", c.log, got, c.want)
		}
	}
}
