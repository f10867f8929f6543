package prefork

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	odooStat   = "4711 (odoo: (WorkerH) S) S 4700 4700 4700 0 -1 4194368 26384 0 0 0 812 93 0 0 30 10 1 0 358829 1244487680 33571 18446744073709551615 1 1"
	odooStatus = "Name:\todoo\nState:\tS (sleeping)\nPid:\t4711\nSigQ:\t0/96365\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000200000\nSigBlk:\t0\nSigIgn:\t0000000001001000\nSigCgt:\t0000000000310003\n"
)

func TestParse(t *testing.T) {
	p, err := parseStat([]byte(odooStat))
	if err != nil || p.ident != (ident{4711, 358829}) || p.parent != 4700 || p.state != 'S' || p.nice != 10 || p.cpu != 905 {
		t.Errorf("parseStat = %+v, %v", p, err)
	}
	for _, bad := range []string{"", "4711", "4711 (odoo)", "4711 )odoo( S 1", "x" + odooStat, strings.Replace(odooStat, "358829", "x", 1), odooStat[:93], strings.Replace(odooStat, "4711", "0", 1)} {
		if p, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) = %+v, want an error", bad, p)
		}
	}

	caught, pending, err := parseStatus([]byte(odooStatus))
	if err != nil || !caught.has(syscall.SIGTTIN) || !caught.has(syscall.SIGHUP) || !caught.has(syscall.SIGINT) || caught.has(syscall.SIGTERM) || !pending.has(syscall.SIGTTOU) || pending.has(syscall.SIGTTIN) {
		t.Errorf("parseStatus = %x, %x, %v", caught, pending, err)
	}
	for _, bad := range []string{"", "SigCgt:\t0\n", "SigCgt:\tx\nShdPnd:\t0\n", strings.Replace(odooStatus, "ShdPnd", "SigQnd", 1)} {
		if _, _, err := parseStatus([]byte(bad)); err == nil {
			t.Errorf("parseStatus(%q) gave no error", bad)
		}
	}

	for in, want := range map[string][]string{
		"":                                nil,
		"\x00\x00":                        nil,
		"odoo\x00-c\x00\x00":              {"odoo", "-c"},
		"odoo: WorkerHTTP 12\x00\x00\x00": {"odoo: WorkerHTTP 12"},
		"a\x00\x00b\x00":                  {"a", "", "b"},
	} {
		if got := parseCmdline([]byte(in)); !slices.Equal(got, want) {
			t.Errorf("parseCmdline(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestReadProcess(t *testing.T) {
	p, err := readProcess(os.Getpid())
	if err != nil || p.pid != os.Getpid() || p.parent != os.Getppid() || p.dead() || !slices.Equal(p.args, os.Args) {
		t.Errorf("readProcess = %+v, %v", p, err)
	}
	boot, err := bootTime()
	if err != nil {
		t.Fatal(err)
	}
	byWallClock := time.Since(boot.Add(time.Duration(p.start) * tick))
	if p.age < 0 || (p.age-byWallClock).Abs() > 3*time.Second {
		t.Errorf("this process is %s old by boot time and %s by the wall clock", p.age, byWallClock)
	}
	if _, err := readProcess(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

// Who among a master's children serves HTTP, by what FACTS says of each.
func TestWorkerKinds(t *testing.T) {
	proc := func(nice int, args ...string) process {
		return process{ident: ident{pid: 1 << 30}, nice: nice, args: args, environ: func() ([]byte, error) { return nil, nil }}
	}
	odoo := []string{"/usr/bin/python3", "/usr/bin/odoo", "-c", "/etc/odoo/odoo.conf"}
	gunicorn := []string{"/usr/bin/python3", "/usr/bin/gunicorn", "app:app"}
	for _, c := range []struct {
		name          string
		flavour       string
		master, child process
		want          bool
	}{
		{"HTTP by title", "odoo", proc(0, odoo...), proc(0, "odoo: WorkerHTTP 12 "), true},
		{"cron by title", "odoo", proc(0, odoo...), proc(10, "odoo: WorkerCron 12 dfr"), false},
		{"cron by title, not nice yet", "odoo", proc(0, odoo...), proc(0, "odoo: WorkerCron 12 "), false},
		{"HTTP without a title", "odoo", proc(0, odoo...), proc(0, odoo...), true},
		{"cron without a title", "odoo", proc(0, odoo...), proc(10, odoo...), false},
		{"HTTP under a nice master", "odoo", proc(5, odoo...), proc(5, odoo...), true},
		{"cron under a nice master", "odoo", proc(5, odoo...), proc(15, odoo...), false},
		{"gevent", "odoo", proc(0, odoo...), proc(0, "/usr/bin/python3", "/usr/bin/odoo", "gevent", "-c", "/etc/odoo/odoo.conf"), false},
		{"another program", "odoo", proc(0, odoo...), proc(0, "wkhtmltopdf", "-"), false},
		{"gunicorn's by title", "gunicorn", proc(0, "gunicorn: master [app]"), proc(0, "gunicorn: worker [app]"), true},
		{"gunicorn's, just forked", "gunicorn", proc(0, "gunicorn: master [app]"), proc(0, "gunicorn: master [app]"), true},
		{"gunicorn's successor", "gunicorn", proc(0, "gunicorn: master [app]"), proc(0, "gunicorn: master [app.2]"), false},
		{"gunicorn's without a title", "gunicorn", proc(0, gunicorn...), proc(0, gunicorn...), true},
		{"a program that gunicorn started", "gunicorn", proc(0, gunicorn...), proc(0, "sh", "-c", "true"), false},
		{"registry", "registry", proc(0, "registry", "serve"), proc(0, "registry", "worker"), true},
	} {
		if got := flavours[c.flavour].worker(c.master, c.child); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{odooStat, odooStatus, "4711\n", "odoo\x00gevent\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseStat(b); err == nil && (p.pid < 1 || p.state == 0) {
			t.Errorf("parseStat(%q) = %+v", b, p)
		}
		if pid, err := parsePID(b); err == nil && pid < 2 {
			t.Errorf("parsePID(%q) = %d", b, pid)
		}
		_, _, _ = parseStatus(b)
		if args := parseCmdline(b); len(args) > 0 && args[len(args)-1] == "" {
			t.Errorf("parseCmdline(%q) = %q", b, args)
		}
	})
}
