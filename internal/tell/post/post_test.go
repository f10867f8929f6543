package post

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/config"
	"tidemark/internal/tell"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secretPath = "/services/T0000/hunter2?token=hunter3"

// server answers with a status, and keeps what it got.
func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func do(t *testing.T, url string, timeout time.Duration) error {
	t.Helper()
	p := Place{URL: url, Timeout: timeout}
	err := p.Do(t.Context(), http.MethodPost, http.Header{"X-Kind": {"test"}}, []byte("hello"))
	if err != nil && (strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "Post ")) {
		t.Errorf("the address is in the error: %v", err)
	}
	return err
}

func TestAnswers(t *testing.T) {
	var mu sync.Mutex
	var status int
	header := http.Header{}
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		if string(body) != "hello" || r.Header.Get("X-Kind") != "test" {
			t.Errorf("%q %v", body, r.Header)
		}
		for k, v := range header {
			w.Header()[k] = v
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "Cannot %s %s\x00\r\n%s", r.Method, r.RequestURI, strings.Repeat("x", 9000))
	})
	for _, c := range []struct {
		status int
		header http.Header
		want   string // ok, again, later D, never
	}{
		{200, nil, "ok"}, {202, nil, "ok"}, {299, nil, "ok"},
		{400, nil, "never"}, {401, nil, "never"}, {404, nil, "never"}, {410, http.Header{"Retry-After": {"5"}}, "never"},
		{408, nil, "again"}, {429, nil, "again"}, {500, nil, "again"}, {503, nil, "again"}, {599, nil, "again"},
		{429, http.Header{"Retry-After": {"120"}}, "later 2m0s"},
		{503, http.Header{"Retry-After": {"86400000000000000000"}}, "again"},
		{503, http.Header{"Retry-After": {"-3"}}, "again"},
		{503, http.Header{"Retry-After": {"soon"}}, "again"},
		{503, http.Header{"Retry-After": {"Wed, 21 Oct 2015 07:28:00 GMT"}}, "again"},
		{302, http.Header{"Location": {"http://login.example/?from=x"}}, "again"},
		{301, http.Header{"Location": {"/elsewhere"}}, "again"}, // would become a GET without a body
		{304, nil, "again"},
	} {
		mu.Lock()
		status, header = c.status, c.header
		mu.Unlock()
		err := do(t, s.URL+secretPath, time.Minute)
		got := "ok"
		var no *tell.Refusal
		var wait *tell.Later
		switch {
		case errors.As(err, &no):
			got = "never"
		case errors.As(err, &wait):
			got = "later " + wait.For.String()
		case err != nil:
			got = "again"
		}
		if got != c.want {
			t.Errorf("%d %v: %s (%v), want %s", c.status, c.header, got, err, c.want)
		}
		if err != nil && (!strings.Contains(err.Error(), fmt.Sprint(c.status)) || len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\x00\r\n")) {
			t.Errorf("error %q", err)
		}
	}
}

func TestRetryAfterAsADate(t *testing.T) {
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	if got := retryAfter("Mon, 01 Mar 2027 12:30:00 GMT", now); got != 30*time.Minute {
		t.Error(got)
	}
}

func TestRedirects(t *testing.T) {
	var mu sync.Mutex
	var bodies []string
	other := server(t, func(w http.ResponseWriter, r *http.Request) { t.Error("the other host was told") })
	var s *httptest.Server
	s = server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/other":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/same":
			http.Redirect(w, r, s.URL+"/there", http.StatusPermanentRedirect)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
		default:
			b, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			bodies = append(bodies, r.Method+" "+string(b))
		}
	})
	if err := do(t, s.URL+"/other", time.Minute); err == nil || !strings.Contains(err.Error(), "points to 127.0.0.1:") {
		t.Errorf("%v", err)
	}
	if err := do(t, s.URL+"/loop", time.Minute); err == nil {
		t.Error("a loop is taken for success")
	}
	if err := do(t, s.URL+"/same", time.Minute); err != nil || len(bodies) != 1 || bodies[0] != "POST hello" {
		t.Errorf("%v %q", err, bodies)
	}
}

func TestFrozenAndSlow(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" { // the status at once, the body never
			w.WriteHeader(http.StatusOK)
			http.NewResponseController(w).Flush()
		}
		io.Copy(io.Discard, r.Body) // so that the server sees the client go
		<-r.Context().Done()
	})
	if err := do(t, s.URL+"/frozen", time.Second); err == nil || !strings.Contains(err.Error(), "no answer within 1s") {
		t.Errorf("frozen: %v", err)
	}
	if err := do(t, s.URL+"/slow", 5*time.Minute); err != nil { // it said 200: it has it
		t.Errorf("slow: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := Place{URL: s.URL, Timeout: time.Hour}
	if err := p.Do(ctx, http.MethodGet, nil, nil); err == nil {
		t.Error("sent after it was cancelled")
	}
}

func TestWhatIsNotHTTP(t *testing.T) {
	for name, says := range map[string]string{"rubbish": "\x00\xff hello\r\n\r\n", "nothing": "", "half": "HTTP/1.1 200", "endless": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 100<<10)} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				c.Read(make([]byte, 1000))
				io.WriteString(c, says)
			})
			err = do(t, "http://"+l.Addr().String()+secretPath, time.Minute)
			var no *tell.Refusal
			if err == nil || errors.As(err, &no) {
				t.Errorf("%v", err)
			}
			l.Close()
			wg.Wait()
		})
	}
	if err := do(t, "http://127.0.0.1:1"+secretPath, time.Minute); err == nil {
		t.Error("nobody is there, and it worked")
	}
}

func TestCertificates(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = nil
	defer s.Close()
	if err := do(t, s.URL+secretPath, time.Minute); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	p := Place{URL: s.URL, CAFile: file, Timeout: time.Minute}
	if err := p.Do(t.Context(), http.MethodPost, nil, nil); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{filepath.Join(t.TempDir(), "none"), os.Args[0]} {
		p.CAFile = bad
		if err := p.Do(t.Context(), http.MethodPost, nil, nil); err == nil || !strings.Contains(err.Error(), "authorities") {
			t.Errorf("%v", err)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for url, want := range map[string]string{
		"https://x.example/y?z": "", "http://127.0.0.1:9093": "",
		"": "is missing", "ftp://x": "neither", "https://": "names no host", "https://u:hunter2@x": "has a user", "https://x/#hunter2": "has a #",
		"https://x:hunter2": "is no address", "x.example": "neither",
	} {
		var errs config.FieldErrors
		CheckURL(&errs, "url", url, "https://e")
		got := fmt.Sprint(errs.Err())
		if (want == "") != (errs.Err() == nil) || !strings.Contains(got, want) || strings.Contains(got, "hunter") {
			t.Errorf("%s: %s", url, got)
		}
	}
}
