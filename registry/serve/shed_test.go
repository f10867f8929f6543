package serve

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWaited(t *testing.T) {
	now := time.UnixMilli(1_700_000_100_500)
	for header, want := range map[string]time.Duration{
		"t=1700000100.500":   0,
		"t=1700000100.499":   time.Millisecond,
		"t=1700000098":       2500 * time.Millisecond,
		"1700000098.000":     2500 * time.Millisecond,
		"t=1699999800.500":   5 * time.Minute,
		"t=1699999800.499":   -1, // too long ago to be believed
		"t=1700000100.501":   -1, // the future
		"t=1700000098000":    -1, // milliseconds: the far future
		"t=0":                -1,
		"t=-1":               -1,
		"t=NaN":              -1,
		"t=Inf":              -1,
		"t=-Inf":             -1,
		"t=1e400":            -1,
		"":                   -1,
		"t=":                 -1,
		"t=1700000098 s":     -1,
		"t=t=1700000098.000": -1,
	} {
		got, known := waited(header, now)
		if !known {
			got = -1
		}
		if diff := got - want; diff < -time.Microsecond || diff > time.Microsecond {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func TestShed(t *testing.T) {
	served := 0
	handler := Shed(time.Minute, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served++
		io.WriteString(w, "ok")
	}))
	ago := func(d time.Duration) string {
		return fmt.Sprintf("t=%.3f", float64(time.Now().Add(-d).UnixMilli())/1e3)
	}
	for _, c := range []struct {
		name, header string
		status       int
	}{
		{"no header", "", http.StatusOK},
		{"no wait", ago(0), http.StatusOK},
		{"from the future", ago(-time.Hour), http.StatusOK},
		{"a clock that was set", ago(time.Hour), http.StatusOK},
		{"too long", ago(2 * time.Minute), http.StatusServiceUnavailable},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if c.header != "" {
			r.Header.Set("X-Request-Start", c.header)
		}
		w := httptest.NewRecorder()
		before := served
		handler.ServeHTTP(w, r)
		if w.Code != c.status || (served > before) != (c.status == http.StatusOK) {
			t.Errorf("%s: %d", c.name, w.Code)
		}
		if c.status != http.StatusOK {
			if w.Header().Get("Retry-After") != "30" || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), `"status":503`) {
				t.Errorf("%s: %v\n%s", c.name, w.Header(), w.Body)
			}
		}
	}

	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	r.Header.Set("X-Request-Start", ago(4*time.Minute))
	Shed(0, handler).ServeHTTP(w, r) // off; behind it, a minute still counts
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d", w.Code)
	}
	if w.Header().Get("Retry-After") != "30" {
		t.Errorf("Retry-After: %s", w.Header().Get("Retry-After"))
	}
}

// Retry-After follows the wait: whole seconds, rounded up.
func TestShedSaysWhenToComeBack(t *testing.T) {
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	r.Header.Set("X-Request-Start", fmt.Sprintf("t=%.3f", float64(time.Now().Add(-1100*time.Millisecond).UnixMilli())/1e3))
	Shed(time.Second, http.NotFoundHandler()).ServeHTTP(w, r)
	if after := w.Header().Get("Retry-After"); w.Code != http.StatusServiceUnavailable || after == "" || after == "0" || after == "1" {
		t.Errorf("%d, Retry-After: %q", w.Code, after)
	}
}
