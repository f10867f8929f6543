package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/scenario"
	"tidemark/internal/record"
)

const header = "name: test\nduration: %s\ntimeout: 3s\ndrain: 3s\njourneys:\n- {name: visit, steps: [{name: get, path: /}]}\n"

// plan is a scenario of a few lines against a server.
func plan(t testing.TB, target, text string) Plan {
	t.Helper()
	if testing.Short() {
		t.Skip("slow: plays a load for seconds")
	}
	s, err := scenario.Parse("test.yaml", []byte(text), scenario.Options{})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return Plan{Scenario: s, Target: u, Seed: 1}
}

func steady(length string, rate int) string {
	return fmt.Sprintf(header, length) + fmt.Sprintf("load: [{journey: visit, arrivals: even, rate: [{at: 0s, rate: %d}]}]\n", rate)
}

func total(o *outcome.Run) (sum outcome.Slot) {
	sum.Failed = map[outcome.Class]uint64{}
	for i := range o.Steps {
		for j := range o.Steps[i].Slots {
			s := &o.Steps[i].Slots[j]
			sum.Count += s.Count
			sum.Interrupted += s.Interrupted
			sum.Latency.Add(&s.Latency.Histogram)
			sum.Service.Add(&s.Service.Histogram)
			for class, n := range s.Failed {
				sum.Failed[class] += n
			}
		}
	}
	return sum
}

func TestFixedDelay(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond)
		w.Header().Set("X-Worker", "11")
	}))
	defer srv.Close()
	o, err := Play(t.Context(), plan(t, srv.URL, steady("2s", 100)))
	if err != nil {
		t.Fatal(err)
	}
	sum := total(o)
	if sum.Count < 198 || sum.Count > 200 || len(sum.Failed) != 0 || o.Cut != "" {
		t.Errorf("%d requests, %v failed, cut %q", sum.Count, sum.Failed, o.Cut)
	}
	// Never less than the server takes. What more it is, the machine has to do with.
	if p50 := sum.Latency.Quantile(0.5); p50 < 0.049 {
		t.Errorf("p50 %.3f s", p50)
	}
	if len(o.Workers) != 1 || o.Workers[0].ID != "11" {
		t.Errorf("workers %+v", o.Workers)
	}
}

// A service that stops for a second must show it in the percentiles as its users would feel it: of 4 seconds of arrivals, a quarter come
// during the stall and wait for its end, half a second on average.
func TestStallIsFelt(t *testing.T) {
	t.Parallel()
	var began atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		now := time.Now()
		began.CompareAndSwap(0, now.UnixNano())
		since := now.Sub(time.Unix(0, began.Load()))
		if since > time.Second && since < 2*time.Second {
			time.Sleep(2*time.Second - since)
		}
	}))
	defer srv.Close()
	o, err := Play(t.Context(), plan(t, srv.URL, steady("4s", 100)))
	if err != nil {
		t.Fatal(err)
	}
	sum := total(o)
	p80, p95 := sum.Latency.Quantile(0.80), sum.Latency.Quantile(0.95)
	if p95 < 0.7 || p95 > 1.1 || p80 < 0.1 {
		t.Errorf("p80 %.3f s, p95 %.3f s of %d", p80, p95, sum.Count)
	}
}

// What ends a service ends no outcome.
func TestServiceDiesMidway(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	time.AfterFunc(time.Second, func() {
		srv.Listener.Close()
		srv.CloseClientConnections()
	})
	defer srv.Close()
	o, err := Play(t.Context(), plan(t, srv.URL, steady("2s", 50)))
	if err != nil {
		t.Fatal(err)
	}
	sum := total(o)
	broken := sum.Failed[outcome.FailedConnect] + sum.Failed[outcome.FailedReset]
	if good := sum.Count - broken; broken < 20 || good < 20 || len(sum.Failed) > 2 {
		t.Errorf("%d requests, failed %v", sum.Count, sum.Failed)
	}
	if !strings.Contains(strings.Join(o.Notes, "\n"), "connection refused") {
		t.Errorf("notes: %q", o.Notes)
	}
}

// What is wrong from the start is found by the dry run, and said.
func TestDryRunFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	trusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	trusted.Config.ErrorLog = log.New(io.Discard, "", 0) // it is refused, and would say so
	trusted.StartTLS()
	defer trusted.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	for _, c := range []struct{ name, target, words string }{
		{"not trusted", trusted.URL, "certificate"},
		{"not TLS", strings.Replace(plain.URL, "http:", "https:", 1), "tls"},
		{"not found", "http://no-such-host.invalid", "no-such-host.invalid"},
		{"nobody there", "http://" + nobody.Addr().String(), "refused"},
		{"no such page", plain.URL, "answered 404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := Play(t.Context(), plan(t, c.target, "allow: [no-such-host.invalid]\n"+steady("1s", 10)))
			if err == nil || o == nil {
				t.Fatalf("%v, %v", o, err)
			}
			if !strings.Contains(err.Error(), c.words) || !strings.Contains(o.Cut, "not started") || total(o).Count != 1 {
				t.Errorf("%v\ncut: %s, %d requests", err, o.Cut, total(o).Count)
			}
		})
	}
}

func TestInterruptedRunIsPartial(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 30 {
			cancel()
		}
	}))
	defer srv.Close()
	start := time.Now()
	o, err := Play(ctx, plan(t, srv.URL, steady("1h", 50)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(o.Cut, "interrupted") || total(o).Count < 25 || time.Since(start) > 30*time.Second {
		t.Errorf("cut %q, %d requests in %s", o.Cut, total(o).Count, time.Since(start))
	}
}

func TestLimitsBoundARun(t *testing.T) {
	t.Parallel()
	var most, now atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for n := now.Add(1); n > most.Load(); {
			most.Store(n)
		}
		defer now.Add(-1)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	o, err := Play(t.Context(), plan(t, srv.URL, "limits: {requests: 100, connections: 3}\n"+steady("1h", 100)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(o.Cut, "limits.requests") || most.Load() > 3 || o.Generator.Dropped == 0 || len(o.Generator.Limits) == 0 {
		t.Errorf("cut %q, %d at once, %+v", o.Cut, most.Load(), o.Generator.Limits)
	}
	if total(o).Count > 200 {
		t.Errorf("%d requests", total(o).Count)
	}
}

// The staircase ends where the service breaks.
func TestStaircaseFindsTheKnee(t *testing.T) {
	t.Parallel()
	var turn sync.Mutex // one at a time, 20 ms each: 50 a second
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		turn.Lock()
		defer turn.Unlock()
		time.Sleep(20 * time.Millisecond)
	}))
	defer srv.Close()
	text := fmt.Sprintf(header, "20s") + "load: [{journey: visit, arrivals: even, steps: {first: 10, factor: 3, each: 2s}}]\nstop_when: {p95: 300ms}\n"
	o, err := Play(t.Context(), plan(t, srv.URL, text))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(o.Cut, "stop_when") || !strings.Contains(o.Cut, "at 90 visits/s") {
		t.Errorf("cut %q, notes %q", o.Cut, o.Notes)
	}
}

// What a run created is given to the clean-up.
func TestCleanup(t *testing.T) {
	t.Parallel()
	var made, gone atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/make" {
			fmt.Fprintf(w, `{"id": %d}`, made.Add(1))
			return
		}
		body, _ := io.ReadAll(r.Body)
		gone.Add(int64(len(strings.Fields(string(body)))))
	}))
	defer srv.Close()
	o, err := Play(t.Context(), plan(t, srv.URL, `
name: test
duration: 2s
cleanup: remove
journeys:
- {name: make, steps: [{name: make, path: /make, extract: {id: {json: /id}}, creates: "{{.id}}"}]}
- {name: remove, steps: [{name: remove, path: /remove, body: "{{range .created}}{{.}} {{end}}"}]}
load: [{journey: make, rate: [{at: 0s, rate: 100}]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if made.Load() < 100 || gone.Load() != made.Load() || len(o.Cleanup) != 1 || !strings.Contains(o.Cleanup[0], "were removed") {
		t.Errorf("%d made, %d removed, %q", made.Load(), gone.Load(), o.Cleanup)
	}
	if len(o.Steps) != 1 {
		t.Errorf("the clean-up is among the steps: %+v", o.Steps)
	}
}

// A log is asked again, in its order and distances.
func TestReplayAsksAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.String())
	}))
	defer srv.Close()
	log := filepath.Join(t.TempDir(), "access.log")
	var text strings.Builder
	for i := range 3 {
		fmt.Fprintf(&text, "10.0.0.1 - - [23/Nov/2026:09:00:%02d +1300] \"GET /%d?q=a%%20b HTTP/1.1\" 200 5 \"-\" \"phone\"\n", 2*i, i)
	}
	if err := os.WriteFile(log, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := Play(t.Context(), plan(t, srv.URL, fmt.Sprintf("name: test\nduration: 6s\nload: [{replay: {file: %s}}]\n", log)))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(asked, " "); got != "/0?q=a%20b /0?q=a%20b /1?q=a%20b /2?q=a%20b" || total(o).Count != 3 { // the dry run first
		t.Errorf("asked %s, %d counted", got, total(o).Count)
	}
}

func TestUsersComeAgain(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	o, err := Play(t.Context(), plan(t, srv.URL, fmt.Sprintf(header, "2s")+"load: [{journey: visit, users: 5, pause: 100ms}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n := total(o).Count; n < 25 || n > 105 || conns.Load() != 6 { // one more for the dry run
		t.Errorf("%d visits over %d connections", n, conns.Load())
	}
	conns.Store(0)
	o, err = Play(t.Context(), plan(t, srv.URL, fmt.Sprintf(header, "2s")+"load: [{journey: visit, users: 5, pause: 100ms, connection: new}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n := total(o).Count; conns.Load() != int64(n)+1 {
		t.Errorf("%d visits over %d connections, and each was to have its own", n, conns.Load())
	}
}

// scaler is a daemon with one fleet.
type scaler struct{ looks atomic.Int64 }

func (s *scaler) Fleets(context.Context) ([]*control.Status, error) {
	n := s.looks.Add(1)
	if n == 1 {
		return nil, errors.New("away")
	}
	now := time.Unix(n, 0)
	return []*control.Status{{Fleet: "f", Time: now, Size: fleet.Size{Known: true, Serving: int(n)}, Bounds: fleet.Bounds{Min: 1, Max: 4},
		Rules:   []control.RuleStatus{{Rule: fleet.Rule{Policy: "p", Signal: "cpu", Threshold: 70}}},
		Signals: []control.SignalStatus{{Name: "cpu", Reading: fleet.Reading{Value: 10 * float64(n), Time: now, Quality: fleet.Fresh}}}}}, nil
}

func (s *scaler) Events(_ context.Context, q record.EventQuery) ([]fleet.Event, error) {
	if q.After > 1 {
		return nil, nil
	}
	return []fleet.Event{{ID: 5, Time: q.Since.Add(-time.Hour)}, {ID: 6, Time: q.Since.Add(time.Second), Kind: fleet.EventDecision, From: 1, To: 2}}, nil
}

func TestDaemonIsWatched(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	p := plan(t, srv.URL, steady("3s", 10))
	p.Daemon = new(scaler)
	var workers atomic.Int64
	p.Progress = func(g Progress) { workers.Store(max(workers.Load(), int64(g.Workers))) }
	o, err := Play(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Events) != 1 || o.Events[0].ID != 6 || len(o.Fleets) != 1 || len(o.Fleets[0].Sizes) < 2 || len(o.Fleets[0].Signals[0].Readings) < 2 || o.Fleets[0].Rules[0].Threshold != 70 {
		t.Errorf("%+v\n%+v", o.Events, o.Fleets)
	}
	if !strings.Contains(strings.Join(o.Notes, ""), "did not answer 1 times: away") || workers.Load() < 1 {
		t.Errorf("%q, %d workers", o.Notes, workers.Load())
	}
}

func TestOutcomeIsKeptWholeOrNot(t *testing.T) {
	t.Parallel()
	o := &outcome.Run{Scenario: "s", Started: time.Unix(0, 0)}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	path, err := Save(dir, o, text)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(text) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Save(path, o, text); err == nil { // a file stands where the folder should
		t.Error("kept in a file")
	}
	if _, err := Save("/dev/full/x", o, text); err == nil {
		t.Error("kept nowhere")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files", len(left))
	}
}
