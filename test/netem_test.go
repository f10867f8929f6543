package test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"tidemark/internal/prove/rehearsal"
	"tidemark/test/servers"
)

// netemInit is the first process of a Linux of its own: %[1]s is the test's folder, %[2]s that of the program, %[3]s are the
// kernel modules. Its file system is this machine's, and its network nobody else's.
const netemInit = `#!/bin/sh
export PATH=%[2]s:/usr/sbin:/usr/bin:/sbin:/bin HOME=%[1]s
cd %[1]s
exec >init.log 2>&1
set -x
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run # where netem leaves its marks
for module in %[3]s; do insmod $module; done
ip link set lo up
nginx -p %[1]s -c nginx.conf

play() { # SCENARIO ARGUMENTS...: in the background, as $player
	name=$1
	shift
	tidemark loadtest $name.yaml --target http://127.0.0.1:8080 --out $name "$@" >$name.out 2>$name.err &
	player=$!
}
slowed() { tc qdisc show dev lo | grep -q netem; }
finish() { # waits for the run's end
	wait $player
	tc qdisc show dev lo >$name.after
}
await() { until slowed; do sleep 0.1; done; }
guard() { grep -l tidemark-netem /proc/[0-9]*/cmdline | cut -d/ -f3; }

play far --netem lo
finish

play killed --netem lo
await
kill -9 $player
while slowed; do sleep 0.1; done
finish

play left --netem lo
await
kill -9 $(guard) $player
finish

# Until some packets are lost, at 1 in 100; then it is ended early.
play rough --netem lo
await
sleep 4
until tc -s qdisc show dev lo >rough.tc && grep -q 'dropped [1-9]' rough.tc; do sleep 1; done
kill -TERM $player
finish

play plain
finish
`

// The kernel delays and loses the packets of those who are far away, and only theirs, and is as before afterwards: on a real Linux, which
// runs as a program (user-mode-linux), as not every machine's own kernel has netem or lets us use it.
func TestNetemOnRealKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: boots a Linux")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("user-mode-linux is for amd64")
	}
	linux := servers.Need(t, "linux.uml")
	for _, p := range []string{"tc", "ip", "insmod", "nginx"} {
		servers.Need(t, p)
	}
	dir := t.TempDir()
	var modules []string
	for _, name := range []string{"htb", "netem"} {
		found, err := filepath.Glob("/usr/lib/uml/modules/*/kernel/net/sched/sch_" + name + ".ko")
		if err != nil || len(found) != 1 {
			t.Fatalf("module sch_%s: %v, %v", name, found, err)
		}
		modules = append(modules, found[0])
	}
	write(t, filepath.Join(dir, "init"), fmt.Sprintf(netemInit, dir, bin, strings.Join(modules, " ")))
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`pid nginx.pid; error_log nginx.log; events {} http { access_log off;
		client_body_temp_path body; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
		server { listen 127.0.0.1:8080; location / { return 200 "hello"; } } }`))
	const journeys = "journeys: [{name: far, steps: [{name: far, path: /}]}, {name: near, steps: [{name: near, path: /}]}]\n"
	scenario := func(name, duration, load string) {
		write(t, filepath.Join(dir, name+".yaml"), "name: "+name+"\nduration: "+duration+"\n"+journeys+"load:\n"+load+"criteria: [{measure: error_rate, at_most: 1%}]\n")
	}
	const near = "- {journey: near, users: 2, pause: 100ms}\n"
	scenario("far", "2s", "- {journey: far, users: 4, pause: 100ms, network: 3g}\n"+near)
	scenario("killed", "1h", "- {journey: far, users: 1, network: 3g}\n")
	scenario("left", "1h", "- {journey: far, users: 1, network: 3g}\n")
	scenario("rough", "1m", "- {journey: far, users: 20, pause: 100ms, network: 3g-rough}\n")
	scenario("plain", "1s", near)

	cmd := exec.CommandContext(t.Context(), linux, "mem=256M", "rootfstype=hostfs", "rootflags=/", "rw", "init="+filepath.Join(dir, "init"), "con=null", "con0=null,fd:2")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	console, ended := cmd.CombinedOutput() // a Linux whose first process ends panics, and this one's program then ends
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "init.log")) // it may be what is missing
			t.Fatalf("%v; %v\n%s\n%s", err, ended, console, log)
		}
		return string(b)
	}
	// latency is a quantile of a step's, in ms. It is not the highest, which say more about a loaded machine.
	latency := func(run, step string, q float64) float64 {
		runs, err := rehearsal.Load(filepath.Join(dir, run))
		if err != nil {
			t.Fatalf("%v\n%s", err, text(run+".err"))
		}
		sum := rehearsal.Total(runs[0], step)
		if sum.Count < 10 || sum.Failures() > 0 {
			t.Errorf("%s: %d requests of %s, failed %v: %s", run, sum.Count, step, sum.Failed, text(run+".err"))
		}
		ms := 1000 * sum.Service.Quantile(q)
		t.Logf("%s, %s: %.0f %% of %d requests within %.0f ms", run, step, 100*q, sum.Count, ms)
		return ms
	}

	// 300 ms for who is far away, and nothing for others on the same interface.
	if ms := latency("far", "far", 0.05); ms < 300 || ms > 390 {
		t.Errorf("a round trip of 300 ms takes %.0f ms", ms)
	}
	if ms := latency("far", "near", 0.05); ms > 100 {
		t.Errorf("those who are near wait for %.0f ms", ms)
	}
	// 300 ms with up to 100 ms of jitter each way, in which no phone's packets wait for another's, and losses.
	if low, high := latency("rough", "far", 0.05), latency("rough", "far", 0.9); low < 300 || low > 390 || high < 410 {
		t.Errorf("300 to 500 ms take %.0f to %.0f ms", low, high)
	}
	sent, gone := 0.0, 0.0
	for _, lane := range regexp.MustCompile(`netem .* loss 1%.*\s+Sent \d+ bytes (\d+) pkt \(dropped (\d+)`).FindAllStringSubmatch(text("rough.tc"), -1) {
		n, _ := strconv.ParseFloat(lane[1], 64) // they are digits
		d, _ := strconv.ParseFloat(lane[2], 64)
		sent, gone = sent+n, gone+d
	}
	t.Logf("netem sent %.0f packets and lost %.0f", sent, gone)
	if mean := (sent + gone) / 100; gone == 0 || math.Abs(gone-mean) > 5*math.Sqrt(mean) {
		t.Errorf("of %.0f packets %.0f were lost, not 1 %%", sent+gone, gone)
	}
	// Afterwards it is as before: after the end, after kill -9, and by the next run when the guard was killed as well.
	for name, slow := range map[string]bool{"far": false, "killed": false, "left": true, "rough": false, "plain": false} {
		if got := text(name + ".after"); strings.Contains(got, "7ede:") != slow {
			t.Errorf("after the run %s there is %s", name, got)
		}
	}
	if said := text("rough.err"); !strings.Contains(said, "lo was still slow") {
		t.Errorf("what the killed run left is removed without a word: %s", said)
	}
	if ms := latency("plain", "near", 0.05); ms > 100 {
		t.Errorf("afterwards requests take %.0f ms", ms)
	}
}
