package test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/prove/rehearsal"
)

// register is a scenario that creates records, and removes them.
const registerScenario = `
name: register
duration: %s
cleanup: remove
journeys:
- {name: make, steps: [{name: make, path: /make, body: "{}", extract: {id: {json: /id}}, creates: "{{.id}}"}]}
- {name: remove, steps: [{name: remove, path: /remove, body: "{{range .created}}{{.}} {{end}}"}]}
load: [{journey: make, connection: kept, arrivals: even, rate: [{at: 0s, rate: 20}]}]
criteria: [{measure: error_rate, at_most: 1%%}]
`

// records serves /make and /remove.
type records struct {
	made, gone atomic.Int64
	more       chan struct{} // one for each that is made, as far as somebody listens
}

func (r *records) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/make" {
		fmt.Fprintf(w, `{"id": %d}`, r.made.Add(1))
		select {
		case r.more <- struct{}{}:
		default:
		}
		return
	}
	body, _ := io.ReadAll(req.Body) // what is missing is missed below
	r.gone.Add(int64(len(strings.Fields(string(body)))))
}

// loadtest is the command, and what it says.
type loadtestRun struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

func loadtest(t *testing.T, program string, args ...string) *loadtestRun {
	t.Helper()
	r := &loadtestRun{Cmd: exec.CommandContext(t.Context(), program, args...)}
	r.Stdout, r.Stderr = &r.stdout, &r.stderr
	r.Env = append(os.Environ(), "HOME="+t.TempDir())
	r.Dir = t.TempDir() // without a configuration
	return r
}

// code is how it ended.
func (r *loadtestRun) code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return r.ProcessState.ExitCode()
}

// Ctrl-C ends a run early: what was created is removed, and a partial outcome is kept and says that it is one.
func TestLoadtestInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: builds and runs the program")
	}
	service := &records{more: make(chan struct{}, 1000)}
	srv := httptest.NewServer(service)
	defer srv.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "mine.yaml"), fmt.Sprintf(registerScenario, "1h"))
	cmd := loadtest(t, program("tidemark"), "loadtest", filepath.Join(dir, "mine.yaml"), "--target", srv.URL, "--out", filepath.Join(dir, "out"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 15 {
		<-service.more
	}
	start := time.Now()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	code := cmd.code(t, cmd.Wait())
	if code != 3 || time.Since(start) > 20*time.Second {
		t.Errorf("exit code %d after %s\n%s%s", code, time.Since(start), &cmd.stdout, &cmd.stderr)
	}
	if made, gone := service.made.Load(), service.gone.Load(); made < 15 || gone != made {
		t.Errorf("%d made, %d removed", made, gone)
	}
	runs, err := rehearsal.Load(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(runs[0].Cut, "interrupted") || !strings.Contains(cmd.stdout.String(), runs[0].Cut) || len(runs[0].Cleanup) != 1 {
		t.Errorf("cut %q, clean-up %q\n%s", runs[0].Cut, runs[0].Cleanup, &cmd.stdout)
	}
	if sum := rehearsal.Total(runs[0], "make"); sum.Count < 13 || sum.Failures() > 0 {
		t.Errorf("%d requests, failed %v", sum.Count, sum.Failed)
	}
}

// A disk that is full takes the files, and not the verdict.
func TestLoadtestOnFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: builds and runs the program")
	}
	service := &records{}
	srv := httptest.NewServer(service)
	defer srv.Close()
	dir := t.TempDir()
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "mine.yaml"), fmt.Sprintf(registerScenario, "1s"))
	// A full file system of two pages in a name space of its own, which root needs nobody's leave for, and others mostly do not either.
	space := []string{"-m"}
	if os.Getuid() != 0 {
		space = []string{"-rm"}
	}
	mount := append(space, "sh", "-ec", `mount -t tmpfs -o size=8k tidemark "$0"; cat /dev/zero > "$0/full" 2>/dev/null || exec "$@"`, small)
	if out, err := exec.CommandContext(t.Context(), "unshare", append(mount, "true")...).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here: %v: %s", err, out)
	}
	report := func(name string) string { return filepath.Join(small, name) }
	cmd := loadtest(t, "unshare", append(mount, program("tidemark"), "loadtest", filepath.Join(dir, "mine.yaml"), "--target", srv.URL,
		"--out", report("out"), "--html", report("report.html"), "--junit", filepath.Join(dir, "report.xml"))...)
	code := cmd.code(t, cmd.Run())
	stdout, stderr := cmd.stdout.String(), cmd.stderr.String()
	// A second of load is undecided where the machine keeps up, and invalid where it does not: the code stays that of the verdict, but never 0.
	if code != 2 && code != 3 || strings.Count(stderr, "no space left on device") < 2 || !strings.Contains(stderr, "report.html") || !strings.Contains(stderr, "the verdict is above") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if !strings.Contains(stdout, "VERDICT") || !strings.Contains(stdout, "error_rate") || !strings.Contains(stdout, "could not be kept") { // which it is depends on the machine
		t.Errorf("the verdict is lost:\n%s", stdout)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.xml")) // on a disk that is not full
	var suite struct {
		Tests int `xml:"tests,attr"`
	}
	if err != nil || xml.Unmarshal(b, &suite) != nil || suite.Tests < 1 {
		t.Errorf("%v: %s", err, b)
	}
	if made, gone := service.made.Load(), service.gone.Load(); made == 0 || gone != made {
		t.Errorf("%d made, %d removed", made, gone)
	}
}

// What must not be loaded is not, and what production is, only when somebody says so.
func TestLoadtestRefuses(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: builds and runs the program")
	}
	service := &records{}
	srv := httptest.NewServer(service)
	defer srv.Close()
	dir := t.TempDir()
	scenario, config := filepath.Join(dir, "mine.yaml"), filepath.Join(dir, "tidemark.yaml")
	write(t, scenario, fmt.Sprintf(registerScenario, "1s"))
	write(t, config, "instance: {name: live, time_zone: UTC}\nenvironment: production\nstate_dir: "+dir+"/state\nfleets: [{name: f, target: {command: {scale: ['true', '{size}'], size: ['echo', '1']}}, bounds: {min: 1, max: 2}}]\n")
	for _, c := range []struct {
		args  []string
		words string // empty: it is played
	}{
		{[]string{"--target", "http://192.0.2.1"}, "does not allow to load 192.0.2.1"},
		{[]string{"--target", srv.URL, "-c", config}, "environment: production"},
		{[]string{"--target", srv.URL, "--compare", filepath.Join(dir, "nowhere")}, "nowhere"},
		{[]string{"--target", srv.URL, "-c", config, "--dry-run"}, ""},
		{[]string{"--target", srv.URL, "-c", config, "--yes"}, ""},
	} {
		before := service.made.Load()
		cmd := loadtest(t, program("tidemark"), append([]string{"loadtest", scenario}, c.args...)...)
		code := cmd.code(t, cmd.Run())
		made := service.made.Load() - before
		if c.words != "" && (code != 3 || made != 0 || !strings.Contains(cmd.stderr.String(), c.words)) || c.words == "" && made == 0 { // how the verdict turns out depends on the machine
			t.Errorf("%v: exit code %d, %d requests\n%s%s", c.args, code, made, &cmd.stdout, &cmd.stderr)
		}
	}
}

// On a terminal the progress is one line that is written over, and it is gone when the verdict comes.
func TestLoadtestOnATerminal(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: builds and runs the program")
	}
	srv := httptest.NewServer(&records{})
	defer srv.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "mine.yaml"), fmt.Sprintf(registerScenario, "3s"))
	screen, terminal := pseudoterminal(t)
	cmd := loadtest(t, program("tidemark"), "loadtest", filepath.Join(dir, "mine.yaml"), "--target", srv.URL)
	cmd.Stderr = terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(screen) // a terminal that nobody has open any more ends with an error
		shown <- string(text)
	}()
	cmd.code(t, cmd.Wait())
	terminal.Close()
	text := <-shown
	line := regexp.MustCompile(`\r\x1b\[K[12]s of 3s, load: \d+ requests/s, p95 [\d.]+ ms, \d+ requests, 0 failed, \d+ open`)
	if !line.MatchString(text) || !strings.Contains(text, "\r\x1b[Ktidemark: cleaning up: ") || strings.Count(text, "\n") > 5 {
		t.Errorf("on the terminal:\n%q", text)
	}
}

// pseudoterminal is a terminal that a program writes to, and what one sees on it.
func pseudoterminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return screen, terminal
}
