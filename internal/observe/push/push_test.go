package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/observetest"
)

var (
	_ config.SignalBody = (*Config)(nil)
	_ http.Handler      = (*Board)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// board is one whose time the test sets.
func board() (*Board, *time.Time) {
	b, now := new(Board), time.Unix(1_800_000_000, 0)
	b.clock = func() time.Time { return now }
	return b, &now
}

func expect(t *testing.T, s *Source, q fleet.Quality, value float64, why string) {
	t.Helper()
	at := time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)
	r, err := s.Read(t.Context(), fleet.Scene{Now: at})
	if r != (fleet.Reading{Value: value, Time: at, Quality: q}) || (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
		t.Errorf("%+v, %v; want %v %v %q", r, err, q, value, why)
	}
}

func TestExpiry(t *testing.T) {
	b, now := board()
	s := b.Source("odoo", "sessions", DefaultConfig())
	expect(t, s, fleet.Missing, 0, "no value was pushed since Tidemark was started")
	for _, c := range []struct{ sent, good time.Duration }{{0, time.Minute}, {90 * time.Second, 90 * time.Second}, {24 * time.Hour, 24 * time.Hour}} {
		if err := b.Push("odoo", "sessions", 17, c.sent); err != nil {
			t.Fatal(err)
		}
		expect(t, s, fleet.Fresh, 17, "")
		*now = now.Add(c.good)
		expect(t, s, fleet.Fresh, 17, "")
		*now = now.Add(1)
		expect(t, s, fleet.Stale, 17, "does the program that pushes it still run?")
		*now = now.Add(c.good - 1)
		expect(t, s, fleet.Stale, 17, "ago, and is good for "+fleet.Elapsed(c.good))
		*now = now.Add(1)
		expect(t, s, fleet.Missing, 0, "does the program that pushes it still run?")
	}
	if err := b.Push("odoo", "sessions", 0, 0); err != nil {
		t.Fatal(err)
	}
	expect(t, s, fleet.Fresh, 0, "") // a 0 that was pushed is one
}

func TestOnlyWhatIsDeclared(t *testing.T) {
	b, _ := board()
	s := b.Source("odoo", "sessions", DefaultConfig())
	for _, n := range []name{{"odoo", "session"}, {"web", "sessions"}, {"", ""}} {
		if err := b.Push(n.fleet, n.signal, 1, 0); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v: %v", n, err)
		}
	}
	if err := b.Push("odoo", "sessions", 5, 0); err != nil {
		t.Fatal(err)
	}
	// A reload closes the old source first, and keeps the value for the new one.
	_ = s.Close()
	if err := b.Push("odoo", "sessions", 6, 0); !errors.Is(err, ErrUnknown) {
		t.Errorf("pushed to a signal that is gone: %v", err)
	}
	s = b.Source("odoo", "sessions", Config{Expiry: time.Hour})
	expect(t, s, fleet.Fresh, 5, "")
	// In another unit it means nothing. A late Close of an older source ends nothing.
	next := b.Source("odoo", "sessions", Config{Expiry: time.Hour, MeasuredIn: fleet.Percent})
	_ = s.Close()
	expect(t, next, fleet.Missing, 0, "no value was pushed")
	if err := b.Push("odoo", "sessions", 7, 0); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoValue(t *testing.T) {
	b, _ := board()
	s := b.Source("odoo", "share", Config{Expiry: time.Minute, MeasuredIn: fleet.Percent})
	n := b.Source("odoo", "trend", DefaultConfig())
	for _, c := range []struct {
		value  float64
		expiry time.Duration
		want   string
	}{
		{math.NaN(), 0, "NaN is no figure"}, {math.Inf(-1), 0, "-Inf is no figure"}, {-1, 0, "-1 is negative, and the signal is measured in percent"},
		{1, time.Millisecond, "an expiry of 1ms is out of range"}, {1, 25 * time.Hour, "out of range"}, {1, -time.Second, "out of range"},
	} {
		if err := b.Push("odoo", "share", c.value, c.expiry); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v: %v", c.value, c.expiry, err)
		}
	}
	expect(t, s, fleet.Missing, 0, "no value was pushed")
	if err := b.Push("odoo", "trend", -1, 0); err != nil {
		t.Error(err)
	}
	expect(t, n, fleet.Fresh, -1, "")
}

// As a program does it, over the daemon's unix socket.
func TestOverASocket(t *testing.T) {
	b, _ := board()
	s := b.Source("odoo", "sessions", DefaultConfig())
	socket := filepath.Join(t.TempDir(), "t.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(Pattern, b)
	srv := httptest.NewUnstartedServer(mux)
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
		value              float64
	}{
		{"PUT", "odoo/signals/sessions", "17", 204, "", 17},
		{"PUT", "odoo/signals/sessions", " 1.5e1\n", 204, "", 15},
		{"PUT", "odoo/signals/sessions", `{"value": 12, "expiry": "90s"}`, 204, "", 12},
		{"PUT", "odoo/signals/sessions", `{"value": 0}`, 204, "", 0},
		{"PUT", "odoo/signals/sessions", "", 400, "the value cannot be read: EOF", 0},
		{"PUT", "odoo/signals/sessions", "null", 400, "the value cannot be read: there is none", 0},
		{"PUT", "odoo/signals/sessions", "{}", 400, "the value cannot be read: there is none", 0},
		{"PUT", "odoo/signals/sessions", `"17"`, 400, "cannot be read", 0},
		{"PUT", "odoo/signals/sessions", "17 18", 400, "something follows it", 0},
		{"PUT", "odoo/signals/sessions", "1e999", 400, "cannot be read", 0},
		{"PUT", "odoo/signals/sessions", `{"value": 1, "expires": "90s"}`, 400, `unknown field`, 0},
		{"PUT", "odoo/signals/sessions", `{"value": 1, "expiry": "soon"}`, 400, "cannot be read", 0},
		{"PUT", "odoo/signals/sessions", `{"value": 1, "expiry": "-90s"}`, 400, "out of range", 0},
		{"PUT", "odoo/signals/sessions", strings.Repeat(" ", maxBody) + "5", 413, "too large", 0},
		{"PUT", "odoo/signals/session", "17", 404, "session of fleet odoo: no such signal takes pushed values; declare it under the fleet's signals, as session: {push: {}}", 0},
		{"GET", "odoo/signals/sessions", "", 405, "", 0},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://tidemark/api/v1/fleets/"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(strings.ReplaceAll(string(answer), `\"`, `"`), c.want) {
			t.Errorf("%s: %d %s, %v; want %d %q", c.body, resp.StatusCode, answer, err, c.status, c.want)
		}
		if c.want != "" && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v", c.body, resp.Header)
		}
		expect(t, s, fleet.Fresh, c.value, "")
	}
}

func TestSeveralAtOnce(t *testing.T) {
	b := new(Board)
	s := b.Source("odoo", "sessions", DefaultConfig())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				if err := b.Push("odoo", "sessions", float64(i), 0); err != nil {
					t.Error(err)
				}
				if r, err := s.Read(context.Background(), fleet.Scene{}); err != nil || r.Value < 0 || r.Value > 7 {
					t.Errorf("%+v, %v", r, err)
				}
				_ = b.Source("odoo", fmt.Sprint("other", i), DefaultConfig()).Close()
			}
		})
	}
	wg.Wait()
}

func TestConform(t *testing.T) {
	observetest.Conform(t, func(*testing.T) observetest.Subject {
		b, now := board()
		pushing := true
		return observetest.Subject{
			Source: b.Source("odoo", "sessions", DefaultConfig()),
			Tick: func(t *testing.T) {
				*now = now.Add(15 * time.Second)
				if pushing {
					if err := b.Push("odoo", "sessions", 17, 0); err != nil {
						t.Fatal(err)
					}
				}
			},
			Break:     func(*testing.T) { pushing, *now = false, now.Add(2*time.Minute) },
			Mend:      func(*testing.T) { pushing = true },
			Plausible: func(v float64) bool { return v == 17 },
		}
	})
}

func TestValidate(t *testing.T) {
	for want, c := range map[string]Config{
		"<nil>": DefaultConfig(),
		"expiry: 500ms is out of range; write 1s to 24h": {Expiry: 500 * time.Millisecond},
		"expiry: 0s is out of range; write 1s to 24h":    {},
	} {
		if got := fmt.Sprint(c.Validate()); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	c := Config{MeasuredIn: fleet.Bytes}
	if c.Unit() != fleet.Bytes || c.Distribution() || c.PerWorker() {
		t.Errorf("%+v", c)
	}
}

// Whatever is sent, there is a finite value or an error.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"17", `{"value": 17, "expiry": "90s"}`, "null", "-0", "1e308", `{"value": null}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		v, expiry, err := parse(strings.NewReader(body))
		if err == nil && (math.IsNaN(v) || math.IsInf(v, 0) || expiry < 0) {
			t.Errorf("%q is %v for %v", body, v, expiry)
		}
	})
}
