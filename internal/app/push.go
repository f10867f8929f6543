package app

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/observe/push"
	"tidemark/internal/show/web"
)

// pushServer takes pushed values over TCP on the loopback interface, from whoever shows the token.
type pushServer struct {
	address string
	server  *http.Server
	cfg     atomic.Pointer[config.Push]
	log     func(string)
}

// openPushes returns the server of a configuration: the one that runs, if it listens at the same place, or a new one. nil: none is
// configured.
func (a *App) openPushes(cfg config.Push) (*pushServer, error) {
	if cfg.Listen == "" {
		return nil, nil
	}
	if _, err := token(cfg); err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	if a.pushes != nil && a.pushes.address == cfg.Listen {
		return a.pushes, nil
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("push: %w; write another port in push.listen if a program needs this one", err)
	}
	s := &pushServer{address: cfg.Listen, log: a.opts.Log}
	s.use(cfg)
	mux := http.NewServeMux()
	mux.Handle(push.Pattern, s.guarded(&a.shared.pushed))
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	a.wg.Go(func() {
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.opts.Log("push: " + err.Error())
		}
	})
	return s, nil
}

// use sets the token of the pushes to come.
func (s *pushServer) use(cfg config.Push) {
	if s != nil {
		s.cfg.Store(&cfg)
	}
}

// close ends the server, and requests under way. Twice is harmless.
func (s *pushServer) close() {
	if s != nil {
		_ = s.server.Close() // it listens no more, in any case
	}
}

// guarded lets through who shows the token. A token in a file is read anew each time, so that a new one needs no reload.
func (s *pushServer) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want, err := token(*s.cfg.Load())
		if err != nil {
			s.log("push: " + err.Error())
			refuse(w, http.StatusServiceUnavailable, "the token cannot be read; Tidemark's log says why")
			return
		}
		shown, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		a, b := sha256.Sum256([]byte(shown)), sha256.Sum256([]byte(want)) // of equal length, whatever was shown
		if !bearer || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "send Authorization: Bearer and the token that push names in Tidemark's configuration")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(&web.Problem{Title: http.StatusText(status), Status: status, Detail: detail}) // the client may be gone
}

// token is what who pushes must show.
func token(cfg config.Push) (string, error) {
	if cfg.TokenFile == "" {
		return cfg.Token, nil
	}
	b, err := os.ReadFile(cfg.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if !config.FitToken(s) {
		return "", fmt.Errorf("%s does not hold one line with a token of 16 characters or more; make one by: openssl rand -hex 16", cfg.TokenFile)
	}
	return s, nil
}
