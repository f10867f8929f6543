package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/prove"
	"tidemark/internal/prove/http1"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/scenario"
	"tidemark/internal/prove/verdict"
	"tidemark/internal/record"
)

const header = "name: test\nduration: %s\ntimeout: 3s\ndrain: 3s\njourneys:\n- {name: visit, steps: [{name: get, path: /}]}\n"

// plan is a scenario of a few lines against a server.
func plan(t testing.TB, target, text string) Plan {
	t.Helper()
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

func total(o *outcome.Run) outcome.Slot { return Total(o, "") }

// memory is a listener whose connections stay in this process, so that time can be virtual.
type memory struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.over:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.over) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

func (m *memory) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case m.conns <- theirs:
		return ours, nil
	case <-m.over:
		return nil, net.ErrClosed
	}
}

// inMemory plays in virtual time, on a server that is part of the test.
func inMemory(t *testing.T, server *http.Server, play func(t *testing.T, dial http1.DialFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{conns: make(chan net.Conn), over: make(chan struct{})}
		served := make(chan struct{})
		go func() {
			defer close(served)
			if server.TLSConfig != nil {
				server.ServeTLS(m, "", "") // it ends by Close
				return
			}
			server.Serve(m) // likewise
		}()
		play(t, m.dial)
		server.Close()
		<-served
	})
}

// played plays a scenario to its end against a handler, in virtual time.
func played(t *testing.T, h http.HandlerFunc, text string) (o *outcome.Run) {
	t.Helper()
	inMemory(t, &http.Server{Handler: h}, func(t *testing.T, dial http1.DialFunc) {
		p := plan(t, "http://127.0.0.1", text)
		p.Dial = dial
		var err error
		if o, err = Play(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	})
	return o
}

func about(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.02*want { // a histogram's bucket is that wide
		t.Errorf("%s is %.4g, in truth %.4g", what, got, want)
	}
}

func TestFixedDelay(t *testing.T) {
	o := played(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond)
		w.Header().Set("X-Worker", "11")
	}, steady("10s", 100))
	sum := total(o)
	if sum.Count < 999 || sum.Count > 1000 || len(sum.Failed) != 0 || o.Cut != "" || o.Generator.Late != 0 || len(o.Generator.Limits) != 0 {
		t.Errorf("%d requests, %v failed, cut %q, %+v", sum.Count, sum.Failed, o.Cut, o.Generator)
	}
	for _, q := range []float64{0.01, 0.5, 0.99} {
		about(t, fmt.Sprintf("p%g", 100*q), sum.Latency.Quantile(q), 0.05)
	}
	if len(o.Workers) != 1 || o.Workers[0].ID != "11" {
		t.Errorf("workers %+v", o.Workers)
	}
}

// A service that stands still for a second shows it as its users feel it: of ten seconds' requests a tenth waits, the first a second, the
// last not at all.
func TestStallIsFelt(t *testing.T) {
	var began time.Time
	o := played(t, func(http.ResponseWriter, *http.Request) {
		if began.IsZero() {
			began = time.Now()
		}
		time.Sleep(time.Millisecond)
		if since := time.Since(began); since >= 5*time.Second && since < 6*time.Second {
			time.Sleep(6*time.Second - since)
		}
	}, steady("10s", 100))
	sum := total(o)
	for q, want := range map[float64]float64{0.5: 0.001, 0.95: 0.5, 0.99: 0.9} {
		if got := sum.Latency.Quantile(q); math.Abs(got-want) > 0.03*want+0.001 {
			t.Errorf("p%g is %.3f s, in truth %.3f", 100*q, got, want)
		}
	}
}

// What takes the generator's own CPU is told, here a server in the same process that computes all the time.
func TestStarvingIsTold(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	o := played(t, func(http.ResponseWriter, *http.Request) {
		for before := prove.OwnCPU(); prove.OwnCPU()-before < 25*time.Millisecond; {
		}
	}, steady("200ms", 50)) // of virtual time, in which computing takes none
	if !slices.Equal(o.Generator.Limits, []string{prove.Starving.String()}) {
		t.Errorf("%+v", o.Generator)
	}
}

// So is a start that comes late: here others keep the only core for ten milliseconds at a time.
func TestLagIsTold(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: keeps a core busy")
	}
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var over atomic.Bool
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for !over.Load() {
			}
		})
	}
	o, err := Play(t.Context(), plan(t, srv.URL, steady("1s", 50)))
	over.Store(true)
	busy.Wait()
	if err != nil || !slices.Contains(o.Generator.Limits, prove.Lagging.String()) || o.Generator.Late == 0 {
		t.Errorf("%v, %+v", err, o.Generator)
	}
}

// What ends a service ends no outcome.
func TestServiceDiesMidway(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays a load for seconds")
	}
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
	var n atomic.Int64
	var cancel func()
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch n.Add(1) {
		case 31: // with the dry run's
			cancel()
		case 11: // one that does not end
			<-r.Context().Done()
		}
	})}
	inMemory(t, server, func(t *testing.T, dial http1.DialFunc) {
		p := plan(t, "http://127.0.0.1", steady("1h", 50))
		p.Dial = dial
		start := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		cancel = stop
		o, err := Play(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		// The one that is open is given until its own time-out, which comes before the grace.
		if sum := total(o); !strings.Contains(o.Cut, "interrupted") || sum.Count != 30 || sum.Failed[outcome.FailedTimeout] != 1 || time.Since(start) > 4*time.Second {
			t.Errorf("cut %q, %d requests in %s, failed %v", o.Cut, sum.Count, time.Since(start), sum.Failed)
		}
	})
}

func TestLimitsBoundARun(t *testing.T) {
	var most, now atomic.Int64
	o := played(t, func(http.ResponseWriter, *http.Request) {
		for n := now.Add(1); n > most.Load(); {
			most.Store(n)
		}
		defer now.Add(-1)
		time.Sleep(100 * time.Millisecond)
	}, "limits: {requests: 100, connections: 3}\n"+steady("1h", 100))
	// Three at a time, 100 ms each, of a hundred in a second.
	if !strings.Contains(o.Cut, "limits.requests") || most.Load() != 3 || o.Generator.Dropped < 200 || !slices.Equal(o.Generator.Limits, []string{prove.Dropping.String()}) {
		t.Errorf("cut %q, %d at once, %d dropped, %+v", o.Cut, most.Load(), o.Generator.Dropped, o.Generator.Limits)
	}
	if n := total(o).Count; n < 100 || n > 102 {
		t.Errorf("%d requests", n)
	}
}

// A run ends when its time is over, also where a service never answers.
func TestTimeBoundsARun(t *testing.T) {
	var dry atomic.Bool
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if dry.Swap(true) {
			<-r.Context().Done()
		}
	})}
	inMemory(t, server, func(t *testing.T, dial http1.DialFunc) {
		p := plan(t, "http://127.0.0.1", strings.Replace(steady("10s", 10), "timeout: 3s", "timeout: 1h", 1))
		p.Dial = dial
		start := time.Now()
		o, err := Play(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if sum := total(o); time.Since(start) != 13*time.Second || sum.Count != 0 || sum.Interrupted < 99 || !strings.Contains(strings.Join(o.Notes, "\n"), "were cut") {
			t.Errorf("%d requests, %d cut, after %s: %q", sum.Count, sum.Interrupted, time.Since(start), o.Notes)
		}
	})
}

// The staircase ends where the service breaks.
func TestStaircaseFindsTheKnee(t *testing.T) {
	var mu sync.Mutex
	var free time.Time // one at a time, 20 ms each: 50 a second
	o := played(t, func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		if now := time.Now(); free.Before(now) {
			free = now
		}
		free = free.Add(20 * time.Millisecond)
		mine := free
		mu.Unlock()
		time.Sleep(time.Until(mine))
	}, fmt.Sprintf(header, "20s")+"load: [{journey: visit, arrivals: even, steps: {first: 10, factor: 3, each: 2s}}]\nstop_when: {p95: 300ms}\ncriteria: [{measure: knee, at_least: \"20\"}]\n")
	if o.Cut != "" || len(o.Levels) < 3 {
		t.Fatalf("cut %q, levels %+v", o.Cut, o.Levels)
	}
	for i, want := range []struct {
		rate  float64
		broke bool
	}{{10, false}, {30, false}, {90, true}} {
		if l := o.Levels[i]; l.Rate != want.rate || (l.Broke != "") != want.broke || l.Requests < uint64(want.rate) || (l.P95 > 0.3) != want.broke {
			t.Errorf("level %d: %+v", i, l)
		}
	}
	if next := o.Levels[3]; next.Requests > 0 || time.Duration(o.Generator.Took) > 12*time.Second {
		t.Errorf("the run went on after the knee: %+v, %s", next, time.Duration(o.Generator.Took))
	}
	// The service does 50 a second: the knee lies between 30, which it held, and 90. Whether it is above 60 cannot be said.
	o.Generator.Limits = nil // what the machine's other work made of it
	for limit, want := range map[float64]verdict.Status{30: verdict.Passed, 60: verdict.Undecided, 100: verdict.Failed} {
		v := verdict.Judge([]*outcome.Run{o}, []outcome.Criterion{{Measure: outcome.Knee, Limit: limit}}, nil)
		if r := v.Criteria[0]; v.Status != want || r.Figure == nil || r.Figure.Low != 30 || r.Figure.High != 90 || !strings.Contains(r.Why, "it broke at 90 visits/s: p95 was") {
			t.Errorf("at least %g: %s, %+v", limit, v.Status, r)
		}
	}
}

// What a run created is given to the clean-up.
func TestCleanup(t *testing.T) {
	var made, gone atomic.Int64
	o := played(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/make" {
			fmt.Fprintf(w, `{"id": %d}`, made.Add(1))
			return
		}
		body, _ := io.ReadAll(r.Body)
		gone.Add(int64(len(strings.Fields(string(body)))))
	}, `
name: test
duration: 2s
cleanup: remove
journeys:
- {name: make, steps: [{name: make, path: /make, extract: {id: {json: /id}}, creates: "{{.id}}"}]}
- {name: remove, steps: [{name: remove, path: /remove, body: "{{range .created}}{{.}} {{end}}"}]}
load: [{journey: make, rate: [{at: 0s, rate: 100}]}]
`)
	if made.Load() < 100 || gone.Load() != made.Load() || len(o.Cleanup) != 1 || !strings.Contains(o.Cleanup[0], "were removed") {
		t.Errorf("%d made, %d removed, %q", made.Load(), gone.Load(), o.Cleanup)
	}
	if len(o.Steps) != 1 {
		t.Errorf("the clean-up is among the steps: %+v", o.Steps)
	}
}

// A log is asked again, in its order and distances.
func TestReplayAsksAgain(t *testing.T) {
	log := filepath.Join(t.TempDir(), "access.log")
	var text strings.Builder
	for i := range 3 {
		fmt.Fprintf(&text, "10.0.0.1 - - [23/Nov/2026:09:00:%02d +1300] \"GET /%d?q=a%%20b HTTP/1.1\" 200 5 \"-\" \"phone\"\n", 2*i, i)
	}
	if err := os.WriteFile(log, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	var asked []string
	var times []time.Time
	o := played(t, func(_ http.ResponseWriter, r *http.Request) {
		asked, times = append(asked, r.URL.String()), append(times, time.Now())
	}, fmt.Sprintf("name: test\nduration: 6s\nload: [{replay: {file: %s}}]\n", log))
	if got := strings.Join(asked, " "); got != "/0?q=a%20b /0?q=a%20b /1?q=a%20b /2?q=a%20b" || total(o).Count != 3 { // the dry run first
		t.Fatalf("asked %s, %d counted", got, total(o).Count)
	}
	if gap := times[3].Sub(times[1]); gap < 3*time.Second || gap > 5*time.Second { // each somewhere in its second
		t.Errorf("%s from the first to the last", gap)
	}
}

func TestUsersComeAgain(t *testing.T) {
	for _, c := range []struct {
		more        string
		connections int64
	}{{"", 5 + 1}, {", connection: new", 5*10 + 1}} { // one more for the dry run
		var conns atomic.Int64
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(100 * time.Millisecond) }), ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				conns.Add(1)
			}
		}}
		inMemory(t, server, func(t *testing.T, dial http1.DialFunc) {
			p := plan(t, "http://127.0.0.1", fmt.Sprintf(header, "10s")+"load: [{journey: visit, users: 5, pause: 900ms"+c.more+"}]\n")
			p.Dial = dial
			o, err := Play(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if sum := total(o); sum.Count != 50 || conns.Load() != c.connections {
				t.Errorf("%d visits over %d connections%s; a user comes every second", sum.Count, conns.Load(), c.more)
			}
		})
	}
}

// Arrivals whose connections are kept need as many as there are at a time.
func TestArrivalsKeepTheirConnections(t *testing.T) {
	for _, c := range []struct {
		more        string
		connections int64
	}{{"connection: kept, ", 5 + 1}, {"", 99 + 1}} {
		var conns atomic.Int64
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(495 * time.Millisecond) }), ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				conns.Add(1)
			}
		}}
		inMemory(t, server, func(t *testing.T, dial http1.DialFunc) {
			p := plan(t, "http://127.0.0.1", fmt.Sprintf(header, "10s")+"load: [{journey: visit, "+c.more+"arrivals: even, rate: [{at: 0s, rate: 10}]}]\n")
			p.Dial = dial
			if _, err := Play(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if n := conns.Load(); n < c.connections || n > c.connections+1 {
				t.Errorf("%d connections, with %q", n, c.more)
			}
		})
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
	var workers int
	var o *outcome.Run
	inMemory(t, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}, func(t *testing.T, dial http1.DialFunc) {
		p := plan(t, "http://127.0.0.1", steady("3s", 10))
		p.Dial, p.Daemon = dial, new(scaler)
		p.Progress = func(g Progress) { workers = max(workers, g.Workers) }
		var err error
		if o, err = Play(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	})
	if len(o.Events) != 1 || o.Events[0].ID != 6 || len(o.Fleets) != 1 || len(o.Fleets[0].Sizes) < 2 || len(o.Fleets[0].Signals[0].Readings) < 2 || o.Fleets[0].Rules[0].Threshold != 70 {
		t.Errorf("%+v\n%+v", o.Events, o.Fleets)
	}
	if !strings.Contains(strings.Join(o.Notes, ""), "did not answer 1 times: away") || workers < 1 {
		t.Errorf("%q, %d workers", o.Notes, workers)
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

// Names that are no longer found, and a server that no longer speaks TLS: the run goes on to its end, tells which, and has failed.
func TestNetworkFailsMidway(t *testing.T) {
	for class, c := range map[outcome.Class]struct {
		broken http1.DialFunc
		words  string
	}{
		outcome.FailedDNS: {func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "registry.moa.example", IsNotFound: true}}
		}, "lookup registry.moa.example: no such host"},
		outcome.FailedTLS: {func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				theirs.Read(make([]byte, 4096))
				io.WriteString(theirs, "HTTP/1.1 400 Bad Request\r\n\r\n")
				theirs.Close()
			}()
			return ours, nil
		}, "first record does not look like a TLS handshake"},
	} {
		t.Run(string(class), func(t *testing.T) {
			trusted := httptest.NewUnstartedServer(nil)
			trusted.StartTLS() // for its certificate
			defer trusted.Close()
			inMemory(t, &http.Server{TLSConfig: trusted.TLS, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}, func(t *testing.T, dial http1.DialFunc) {
				p := plan(t, "https://127.0.0.1", steady("20s", 10))
				p.TLS = trusted.Client().Transport.(*http.Transport).TLSClientConfig
				start := time.Now()
				p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if time.Since(start) > 10*time.Second {
						return c.broken(ctx, network, address)
					}
					return dial(ctx, network, address)
				}
				o, err := Play(t.Context(), p)
				if err != nil {
					t.Fatal(err)
				}
				sum := total(o)
				if n := sum.Failed[class]; o.Cut != "" || sum.Count < 198 || n < 95 || n > 101 || len(sum.Failed) != 1 || !strings.Contains(strings.Join(o.Notes, "\n"), c.words) {
					t.Errorf("cut %q, %d requests, failed %v, notes %q", o.Cut, sum.Count, sum.Failed, o.Notes)
				}
				o.Generator.Limits = nil // of virtual time
				v := verdict.Judge([]*outcome.Run{o}, []outcome.Criterion{{Measure: outcome.Availability, Limit: 0.995}}, nil)
				if v.Status != verdict.Failed || len(v.Bottlenecks) == 0 || v.Bottlenecks[0].Resource != verdict.Network {
					t.Errorf("%s: %+v", v.Status, v.Bottlenecks)
				}
			})
		})
	}
}

// The kernel is asked to slow the interface before anything is loaded, and to restore it also when the run is interrupted; meanwhile
// this process delays nothing itself. The tc here only writes down what it was asked.
func TestNetem(t *testing.T) {
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	if err := os.WriteFile(filepath.Join(dir, "tc"), []byte("#!/bin/sh\nif [ $1 = -batch ]; then cat; else echo \"$@\"; fi >>"+calls+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, interrupt := context.WithCancel(t.Context())
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) == 3 {
			interrupt()
		}
	}))
	defer srv.Close()
	p := plan(t, srv.URL, fmt.Sprintf(header, "1m")+"load: [{journey: visit, users: 2, network: 3g, pause: 1ms}]\n")
	p.Netem = "nowhere0"
	o, err := Play(ctx, p)
	if os.Geteuid() != 0 {
		if o != nil || err == nil || !strings.Contains(err.Error(), "needs root") || asked.Load() > 0 {
			t.Errorf("without root: %v, %v, %d requests", o, err, asked.Load())
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(calls)
	const want = "qdisc add dev nowhere0 root handle 7ede: htb\nclass add dev nowhere0 parent 7ede: classid 7ede:1 htb rate 10gbit quantum 200000\n" +
		"qdisc add dev nowhere0 parent 7ede:1 netem limit 100000 delay 300000us\nqdisc del dev nowhere0 root handle 7ede:\n"
	if err != nil || string(text) != want {
		t.Errorf("tc was called\n%swant\n%s%v", text, want, err)
	}
	if sum := total(o); o.Cut == "" || sum.Count == 0 || sum.Latency.Quantile(0) > 0.3 || !strings.Contains(strings.Join(o.Notes, "\n"), "by netem on nowhere0") {
		t.Errorf("cut %q, %d requests, the quickest %.3f s, notes %q", o.Cut, sum.Count, sum.Latency.Quantile(0), o.Notes)
	}
}
