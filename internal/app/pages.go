package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/record"
	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
	"tidemark/internal/show/web/dashboard"
)

// pageServer is the dashboard's listener.
type pageServer struct {
	cfg      config.Listen
	listener net.Listener
	server   *http.Server
	site     *dashboard.Site
}

// openPages returns the server of the dashboard: the one that runs, if it is configured as before, or a new one. nil: none is
// configured.
func (a *App) openPages(cfg config.Listen) (*pageServer, error) {
	if cfg.Address == "" {
		return nil, nil
	}
	if a.pages != nil && reflect.DeepEqual(a.pages.cfg, cfg) {
		return a.pages, nil
	}
	s := &pageServer{cfg: cfg}
	var provider *access.Provider
	if o := cfg.OIDC; o.Issuer != "" {
		provider = &access.Provider{Issuer: o.Issuer, Client: o.ClientID, SecretFile: o.SecretFile, URL: o.URL, Claim: o.Claim, Operators: o.Operators, Viewers: o.Viewers}
	}
	gate := access.New(access.Options{
		Provider: provider,
		Accounts: cfg.Users, Sessions: a.sessions, Open: cfg.Open(), TLS: cfg.TLS != config.TLS{}, Port: cfg.Port(), Log: a.opts.Log,
		Record: func(e fleet.Event) {
			if err := a.tell(context.Background(), e); err != nil { // whoever signs in is to see what is wrong
				a.opts.Log("access: " + err.Error())
			}
		},
	})
	s.site = dashboard.New(a.api, a, gate)
	s.server = web.NewServer(web.Guard(gate.Handler(s.site), cfg.Open()))
	s.server.ErrorLog = log.New(serverLog(a.opts.Log), "", 0)
	if cfg.TLS != (config.TLS{}) {
		pair, err := access.LoadPair(cfg.TLS.Certificate, cfg.TLS.Key, a.opts.Log)
		if err != nil {
			return nil, fmt.Errorf("the dashboard: %w", err)
		}
		s.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Certificate}
	}
	var err error
	if s.listener, err = a.listenPages(cfg.Address); err != nil {
		return nil, err
	}
	serve := s.server.Serve
	if s.server.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.server.ServeTLS(l, "", "") }
	}
	a.wg.Go(func() {
		if err := serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			a.opts.Log("the dashboard: " + err.Error())
		}
	})
	return s, nil
}

// serverLog is told what is wrong with a server, and not what its clients do wrong.
type serverLog func(line string)

func (l serverLog) Write(b []byte) (int, error) {
	if !bytes.Contains(b, []byte("TLS handshake error")) {
		l("the dashboard: " + strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// listenPages listens at an address. Where the dashboard is there already, it is the same socket: it can be served anew before the
// old server ends, and when the new one is not to be, nothing has happened.
func (a *App) listenPages(address string) (net.Listener, error) {
	if a.pages != nil && a.pages.cfg.Address == address {
		f, err := a.pages.listener.(*net.TCPListener).File()
		if err != nil {
			return nil, fmt.Errorf("the dashboard: %w", err)
		}
		defer f.Close()
		return net.FileListener(f)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the dashboard: %w; write another port in listen if a program needs this one", err)
	}
	return l, nil
}

// close ends the server, and pages that are being watched: they come again. Twice is harmless.
func (s *pageServer) close() {
	if s != nil {
		_ = s.server.Close() // it listens no more, in any case
	}
}

// Decisions asks the journal.
func (a *App) Decisions(ctx context.Context, name string, before time.Time, limit int) ([]fleet.Decision, error) {
	list, err := a.journal.Decisions(ctx, name, time.Time{}, before, limit)
	if err != nil || len(list) > 0 {
		return list, err
	}
	known, err := a.journal.Fleets(ctx)
	if err == nil && !slices.Contains(known, name) {
		err = control.ErrNoFleet
	}
	return nil, err
}

// Series asks the journal.
func (a *App) Series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error) {
	return a.journal.Series(ctx, q)
}

// Policies is what is written about a fleet, and what is in force.
func (a *App) Policies(name string) (*web.Policies, error) {
	a.mu.Lock()
	cfg := a.cfg
	a.mu.Unlock()
	i := slices.IndexFunc(cfg.Fleets, func(f config.Fleet) bool { return f.Name == name })
	if i < 0 {
		return nil, control.ErrNoFleet
	}
	p := &web.Policies{Fleet: name, File: cfg.File, Effective: cfg.EffectiveFleet(i)}
	p.Written, _ = cfg.Written(i) // empty where there is none
	if b := cfg.Fleets[i].Budget; b.WorkerHour > 0 || b.Monthly > 0 {
		p.Budget = &web.Budget{WorkerHour: b.WorkerHour, Monthly: b.Monthly, Currency: b.Currency}
	}
	return p, nil
}

// Usage reads what the workers that are processes of this machine take.
func (a *App) Usage(st *control.Status) map[string]web.Usage {
	out := map[string]web.Usage{}
	for _, w := range st.Workers {
		if w.PID == 0 {
			continue
		}
		if p, err := procfs.ReadProcess(w.PID); err == nil { // one that has ended takes nothing
			out[w.ID] = web.Usage{CPU: fleet.Duration(p.CPU), Memory: p.Memory}
		}
	}
	return out
}

// Acknowledge records that somebody has seen an alert.
func (a *App) Acknowledge(ctx context.Context, ack web.Acknowledgement) error {
	raised := a.watch.Notices()
	i := slices.IndexFunc(raised, func(n alert.Notice) bool { return n.Key == ack.Key && n.Firing() })
	if i < 0 {
		return web.ErrNoAlert
	}
	n := &raised[i]
	if err := a.tell(ctx, fleet.Event{Time: ack.At, Fleet: n.Fleet, Kind: fleet.EventAlertSeen, Signal: n.Signal, State: n.Key, By: ack.By, Origin: ack.Origin, Note: ack.Note}); err != nil {
		return err
	}
	a.mu.Lock()
	a.seen[ack.Key] = ack
	a.mu.Unlock()
	return nil
}

// acknowledged is who has seen an alert since it was raised; nil when nobody has.
func (a *App) acknowledged(n *alert.Notice) *web.Acknowledgement {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ack, ok := a.seen[n.Key]; ok && !ack.At.Before(n.Started) {
		return &ack
	}
	return nil
}

// recallSeen reads from the journal what was acknowledged under daemons before.
func (a *App) recallSeen(ctx context.Context) error {
	events, err := a.journal.Events(ctx, record.EventQuery{Kinds: []fleet.Kind{fleet.EventAlertSeen}, Limit: 1000})
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(events) { // oldest first: the latest counts
		a.seen[e.State] = web.Acknowledgement{Key: e.State, By: e.By, Note: e.Note, At: e.Time}
	}
	return nil
}
