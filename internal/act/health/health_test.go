package health

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	hung := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/fit", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/fit", http.StatusFound) })
	mux.HandleFunc("/hangs", func(http.ResponseWriter, *http.Request) { <-hung })
	onTCP := httptest.NewServer(mux)
	defer onTCP.Close()
	defer close(hung)
	onSocket := httptest.NewUnstartedServer(mux)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	onSocket.Listener = ln
	onSocket.Start()
	defer onSocket.Close()
	tcp, socket := onTCP.Listener.Addr().String(), "unix:"+path
	for _, c := range []struct {
		address, path, want string
		timeout             time.Duration
	}{
		{tcp, "/fit", "", time.Minute},
		{socket, "/fit", "", time.Minute},
		{tcp, "", "", time.Minute},
		{socket, "", "", time.Minute},
		{tcp, "/none", "GET /none answers 404 Not Found", time.Minute},
		{tcp, "/away", "GET /away answers 302 Found", time.Minute},
		{"127.0.0.1:1", "/fit", "it does not listen on 127.0.0.1:1", time.Minute},
		{socket + ".none", "", "it does not listen on " + socket + ".none", time.Minute},
		{tcp, "/hangs", "no answer within 50ms", 50 * time.Millisecond},
	} {
		err := Check(t.Context(), c.address, c.path, c.timeout)
		if got := message(err); got != c.want {
			t.Errorf("%s%s: want %q, have %q", c.address, c.path, c.want, got)
		}
		if errors.Is(err, ErrNoAnswer) != strings.HasPrefix(c.want, "no answer") {
			t.Errorf("%s%s: %v is taken for the wrong kind", c.address, c.path, err)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
