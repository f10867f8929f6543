package external

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/lines"
	"tidemark/internal/prove/outcome"
)

// K6 is a run of the user's own k6.
type K6 struct {
	Script string
	Args   []string // further arguments, such as -e BASE=http://...
	WarmUp time.Duration
	Stderr io.Writer // what k6 says
}

// grace is how long k6 may take to end after Ctrl-C.
const grace = 30 * time.Second

// Run finds k6 on the PATH, runs the script and reads its results. That a threshold of the script was crossed is noted, and the verdict is
// by the criteria.
func (k K6) Run(ctx context.Context) (*outcome.Run, error) {
	program, err := exec.LookPath("k6")
	if err != nil {
		return nil, errors.New("k6 is not on the PATH: install it, or run it elsewhere with --out json=results.json.gz and read that by --k6-json")
	}
	if _, err := os.Stat(k.Script); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tidemark-k6-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	results := filepath.Join(dir, "results.json.gz")
	args := append([]string{"run", "--quiet", "--no-usage-report", "--out", "json=" + results}, k.Args...)
	cmd := exec.CommandContext(ctx, program, append(args, k.Script)...)
	cmd.Stdout, cmd.Stderr = k.Stderr, k.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it writes what it has
	cmd.WaitDelay = grace
	err = cmd.Run()
	var ended *exec.ExitError
	code := 0
	switch {
	case errors.As(err, &ended):
		code = ended.ExitCode()
	case err != nil && ctx.Err() == nil:
		return nil, fmt.Errorf("run k6: %w", err)
	}
	if code == exitConfig {
		return nil, fmt.Errorf("k6 refuses %s: its options are wrong (exit code %d)", k.Script, code)
	}
	run, err := K6JSON(results, k.WarmUp)
	if err != nil {
		if code != 0 {
			return nil, fmt.Errorf("k6 ended with code %d: %s; %w", code, exits[code], err)
		}
		return nil, err
	}
	run.Scenario = filepath.Base(k.Script)
	switch {
	case ctx.Err() != nil:
		run.Cut = "stopped by the operator"
	case code == exitThresholds:
		run.Notes = append(run.Notes, "a threshold of the script was crossed (exit code 99)")
	case code != 0:
		run.Cut = strings.TrimSuffix(fmt.Sprintf("k6 ended with code %d: %s", code, exits[code]), ": ")
	}
	return run, nil
}

const (
	exitThresholds = 99
	exitConfig     = 104
)

// exits are k6's exit codes.
var exits = map[int]string{
	97: "the cloud refused", 100: "the set-up took too long", 101: "the tear-down took too long", 103: "a generic time-out", exitConfig: "its options are wrong",
	105: "it was aborted", 106: "its API could not be started", 107: "the script threw an exception", 108: "the script aborted the test",
}

// K6JSON reads the file of k6's --out json, plain or gzip. Requests are steps by their name tag, pages when they have the tag kind=page; groups
// and scenarios are journeys. Response time is blocked + duration.
func K6JSON(path string, warmUp time.Duration) (*outcome.Run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readK6(path, f, warmUp)
}

func readK6(name string, r io.Reader, warmUp time.Duration) (*outcome.Run, error) {
	text, _, err := lines.Plain(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	g := gather("k6")
	g.run.Scenario = filepath.Base(name)
	k := reading{gathered: g}
	for line, err := range lines.Of(text, longestLine) {
		g.lines++
		if err == nil {
			err = k.line(line)
		} else if !errors.Is(err, lines.ErrTooLong) { // a compressed file of a k6 that was killed ends in the middle
			g.run.Cut = fmt.Sprintf("the file ends in line %d: %v", g.lines, err)
			break
		}
		if err != nil {
			g.bad(g.lines, err)
		}
	}
	k.done()
	return g.outcome(name, warmUp)
}

// longestLine is longer than anything that k6 writes, in bytes.
const longestLine = 64 << 10

// reading holds the request whose points are being read: k6 writes the points of one request one after the other, http_reqs first.
type reading struct {
	*gathered
	open              bool
	end               time.Time
	duration, blocked float64 // milliseconds
	failed            float64
	seenFailed        bool
	tags              k6Tags
	failedChecks      int
}

type k6Tags struct {
	Name     string `json:"name"`
	URL      string `json:"url"`
	Status   string `json:"status"`
	Error    string `json:"error_code"`
	Kind     string `json:"kind"`
	Group    string `json:"group"`
	Scenario string `json:"scenario"`
}

type k6Line struct {
	Type   string `json:"type"`
	Metric string `json:"metric"`
	Data   struct {
		Time  time.Time `json:"time"`
		Value float64   `json:"value"`
		Tags  k6Tags    `json:"tags"`
	} `json:"data"`
}

func (k *reading) line(text []byte) error {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil
	}
	var l k6Line
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	if l.Type == "Metric" {
		return nil
	}
	if l.Type != "Point" || l.Metric == "" || l.Data.Time.IsZero() {
		return fmt.Errorf("type %q of metric %q is no point of k6", l.Type, l.Metric)
	}
	v := l.Data.Value
	length := 0.0 // of what is counted as time; other metrics may be anything
	if strings.HasSuffix(l.Metric, "_duration") || l.Metric == "http_req_blocked" {
		length = v
	}
	if err := plausible(l.Data.Time, length); err != nil {
		return fmt.Errorf("%s: %w", l.Metric, err)
	}
	took := time.Duration(v * float64(time.Millisecond))
	switch l.Metric {
	case "http_reqs":
		k.flush()
		k.open, k.end, k.tags = true, l.Data.Time, l.Data.Tags
	case "http_req_duration":
		k.duration = v
	case "http_req_blocked":
		k.blocked = v
	case "http_req_failed":
		k.failed, k.seenFailed = v, true
	case "group_duration":
		k.journey(strings.TrimPrefix(l.Data.Tags.Group, "::"), l.Data.Time.Add(-took), took, false)
	case "iteration_duration":
		k.journey("iteration of "+l.Data.Tags.Scenario, l.Data.Time.Add(-took), took, false)
	case "dropped_iterations":
		k.run.Generator.Dropped += uint64(max(v, 0))
	case "checks":
		if v == 0 {
			k.failedChecks++
		}
	}
	return nil
}

// done ends the reading.
func (k *reading) done() {
	k.flush()
	if k.failedChecks > 0 {
		k.run.Notes = append(k.run.Notes, fmt.Sprintf("%d checks of the script failed", k.failedChecks))
	}
}

// flush counts the request whose points have been read.
func (k *reading) flush() {
	if !k.open {
		return
	}
	name, kind := k.tags.Name, outcome.API
	if name == "" || name == k.tags.URL {
		name, _, _ = strings.Cut(k.tags.URL, "?")
	}
	if k.tags.Kind == string(outcome.Page) {
		kind = outcome.Page
	}
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	status, _ := strconv.Atoi(k.tags.Status)
	one := request{name: name, kind: kind, latency: ms(k.blocked + k.duration), service: ms(k.duration)}
	one.start = k.end.Add(-one.latency)
	if k.failed > 0 || (!k.seenFailed && (status == 0 || status >= 400)) {
		one.class = byCode(k.tags.Error, status)
	}
	k.request(one)
	*k = reading{gathered: k.gathered, failedChecks: k.failedChecks}
}

// byCode is the class of k6's error code.
func byCode(code string, status int) outcome.Class {
	n, _ := strconv.Atoi(code)
	switch {
	case status > 0:
		return byStatus(status)
	case n == 1050 || n == 1211:
		return outcome.FailedTimeout
	case n >= 1100 && n < 1200:
		return outcome.FailedDNS
	case n == 1201 || n == 1220 || (n >= 1600 && n < 1700):
		return outcome.FailedReset
	case n >= 1200 && n < 1300:
		return outcome.FailedConnect
	case n >= 1300 && n < 1400:
		return outcome.FailedTLS
	}
	return outcome.FailedOther
}
