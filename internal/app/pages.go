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
	"sync/atomic"
	"time"

	"tidemark/internal/act/proxy"
	"tidemark/internal/app/elsewhere"
	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/month"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/record"
	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
	"tidemark/internal/show/web/dashboard"
)

// pageServer is the dashboard as it is configured, behind its listener.
type pageServer struct {
	cfg     config.Listen
	site    *dashboard.Site
	inside  *room
	outside *door
}

// door is the dashboard's listener. What is behind it changes with a reload, and whoever is connected stays so.
type door struct {
	listener net.Listener
	server   *http.Server
	inside   atomic.Pointer[room]
}

// room answers until another takes its place; then its streams end, and come again.
type room struct {
	handler http.Handler
	ctx     context.Context
	leave   context.CancelFunc
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := d.inside.Load()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(in.ctx, cancel)()
	in.handler.ServeHTTP(w, r.WithContext(ctx))
}

// openPages returns the dashboard as it is configured: the one that runs, if it was configured so before, or a new one. Where address and
// certificate are as before it is not seen until it is entered. nil: none is configured.
func (a *App) openPages(cfg config.Listen) (*pageServer, error) {
	if cfg.Address == "" {
		return nil, nil
	}
	if a.pages != nil && reflect.DeepEqual(a.pages.cfg, cfg) {
		return a.pages, nil
	}
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
	s := &pageServer{cfg: cfg, site: dashboard.New(a.api, a, gate), inside: &room{}}
	handler, err := web.Compressed(gate.Handler(s.site))
	if err != nil {
		return nil, err
	}
	s.inside.handler = web.Guard(handler, cfg.Open())
	s.inside.ctx, s.inside.leave = context.WithCancel(context.Background())
	if a.pages != nil && a.pages.cfg.Address == cfg.Address && a.pages.cfg.TLS == cfg.TLS {
		s.outside = a.pages.outside
		return s, nil
	}
	if s.outside, err = a.openDoor(cfg, s.inside); err != nil {
		return nil, err
	}
	return s, nil
}

// openDoor begins to listen.
func (a *App) openDoor(cfg config.Listen, inside *room) (*door, error) {
	d := &door{}
	d.inside.Store(inside)
	d.server = web.NewServer(d)
	d.server.ErrorLog = log.New(serverLog(a.opts.Log), "", 0)
	if cfg.TLS != (config.TLS{}) {
		pair, err := access.LoadPair(cfg.TLS.Certificate, cfg.TLS.Key, a.opts.Log)
		if err != nil {
			return nil, fmt.Errorf("the dashboard: %w", err)
		}
		d.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Certificate}
	}
	var err error
	if d.listener, err = a.listenPages(cfg.Address); err != nil {
		return nil, fmt.Errorf("the dashboard: %w", err)
	}
	serve := d.server.Serve
	if d.server.TLSConfig != nil {
		serve = func(l net.Listener) error { return d.server.ServeTLS(l, "", "") }
	}
	a.wg.Go(func() {
		if err := serve(web.Limit(d.listener, web.MostConnections)); !errors.Is(err, http.ErrServerClosed) {
			a.opts.Log("the dashboard: " + err.Error())
		}
	})
	return d, nil
}

// enterPages puts a dashboard in the place of the one that is there.
func (a *App) enterPages(s *pageServer) {
	if s == a.pages {
		return
	}
	if s != nil {
		s.outside.inside.Store(s.inside)
	}
	before := a.pages
	a.pages = s
	before.leave(s)
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
		return sameSocket(a.pages.outside.listener)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w; write another port in listen if a program needs this one", err)
	}
	return l, nil
}

// sameSocket is a listener's socket once more.
func sameSocket(l net.Listener) (net.Listener, error) {
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// leave ends a dashboard, and with it the pages that are being watched: they come again, to the one that stays. Twice is harmless.
func (s *pageServer) leave(stays *pageServer) {
	if s == nil || s == stays {
		return
	}
	s.inside.leave()
	if stays == nil || stays.outside != s.outside {
		_ = s.outside.server.Close() // it listens no more, in any case
	}
}

// follow begins to ask the other daemons of a configuration, and no more those of the one before.
func (a *App) follow(cfg *config.Config) {
	var fresh *elsewhere.Elsewhere
	if len(cfg.Daemons) > 0 && cfg.Listen.Address != "" {
		fresh = elsewhere.Start(cfg.Daemons, elsewhere.OverHTTP)
	}
	a.mu.Lock()
	before := a.elsewhere
	a.elsewhere = fresh
	a.mu.Unlock()
	before.Close()
}

// Daemons are the other daemons of the configuration, as each was last heard.
func (a *App) Daemons() []web.Daemon {
	a.mu.Lock()
	e := a.elsewhere
	a.mu.Unlock()
	return e.Daemons()
}

// Decisions asks the journal.
func (a *App) Decisions(ctx context.Context, name string, since, before time.Time, limit int) ([]fleet.Decision, error) {
	list, err := a.journal.Decisions(ctx, name, since, before, limit)
	if err != nil || len(list) > 0 {
		return list, err
	}
	known, err := a.journal.Fleets(ctx)
	if err == nil && !slices.Contains(known, name) {
		err = control.ErrNoFleet
	}
	return nil, err
}

// Months lists the months that the journal knows of, the newest first.
func (a *App) Months(ctx context.Context) (out []string, err error) {
	a.mu.Lock()
	zone := a.cfg.Instance.Zone
	a.mu.Unlock()
	first, err := a.journal.Events(ctx, record.EventQuery{After: 1, Limit: 1}) // oldest first
	if err != nil {
		return nil, err
	}
	now := time.Now().In(zone)
	begin := now
	if len(first) > 0 {
		begin = first[0].Time
	}
	for at := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, zone); len(out) < mostMonths; at = at.AddDate(0, -1, 0) {
		out = append(out, at.Format(month.Form))
		if !begin.Before(at) {
			break
		}
	}
	return out, nil
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
	i := fleetAt(cfg, name)
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

// Workers reads what the workers take: those that are processes of this machine, and those behind the built-in proxy.
func (a *App) Workers(ctx context.Context, st *control.Status) []web.Worker {
	out := make([]web.Worker, len(st.Workers))
	at := map[string]int{}
	for i, w := range st.Workers {
		out[i].Worker, at[w.Instance()] = w, i // as the proxy is told of it
		if w.PID == 0 {
			continue
		}
		if p, err := procfs.ReadProcess(w.PID); err == nil { // one that has ended takes nothing
			cpu, memory := fleet.Duration(p.CPU), p.Memory
			out[i].CPU, out[i].Memory = &cpu, &memory
		}
	}
	a.mu.Lock()
	cfg := a.cfg
	a.mu.Unlock()
	if f := fleetAt(cfg, st.Fleet); f < 0 || cfg.Fleets[f].Balancer.Kind != "proxy" {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stats, err := proxy.NewClient(proxySocket(cfg, st.Fleet)).Stats(ctx)
	if err != nil {
		return out // nothing is known of it; whether the proxy runs is said elsewhere
	}
	for i := range stats.Workers {
		w := &stats.Workers[i]
		if n, ok := at[w.ID]; ok {
			out[n].Requests, out[n].InFlight = &w.Requests, &w.InFlight
		}
	}
	return out
}

// Annotate records a note about a fleet.
func (a *App) Annotate(ctx context.Context, name string, n web.Note) error {
	a.mu.Lock()
	known := fleetAt(a.cfg, name) >= 0
	a.mu.Unlock()
	if !known {
		return control.ErrNoFleet
	}
	return a.tell(ctx, fleet.Event{Fleet: name, Kind: fleet.EventNote, By: n.By, Origin: n.Origin, Note: n.Note})
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
