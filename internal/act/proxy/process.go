package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a running proxy: the Server on its listening address and its admin socket.
type Process struct {
	server  *Server
	traffic *http.Server
	control *http.Server
	clients net.Listener
	admins  net.Listener
	socket  string
	lock    *os.File
	grace   time.Duration
	serving [2]chan struct{} // closed when the traffic's and the control's listener have ended
	failed  chan error       // the first listener that broke
	handed  chan struct{}    // closed when another process has taken the listener over

	handOnce, freeOnce sync.Once

	conns   atomic.Int64 // clients' connections
	closing atomic.Bool
}

// ProcessOptions say where a Process lives.
type ProcessOptions struct {
	Config Config
	// Socket is the admin socket's path. Beside it lies a lock file: one process to a socket.
	Socket string
	// TakeOver asks a process that already serves this socket for its listening socket, and lets it finish what it has:
	// a new version without a lost request.
	TakeOver bool
	// ErrorLog receives what has no other way out: panics and accept errors. Nil discards it.
	ErrorLog io.Writer
}

// ErrRunning says that another process serves the socket.
var ErrRunning = errors.New("another proxy serves this socket")

// farewellTime is how long idle connections of clients are kept when the process stops.
const farewellTime = time.Second

// handOverTimeout bounds the wait for the process before this one.
const handOverTimeout = 10 * time.Second

// Start listens for clients and for the daemon.
func Start(ctx context.Context, o ProcessOptions) (*Process, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("proxy configuration: %w", err)
	}
	if err := checkSocketPath(o.Socket); err != nil {
		return nil, err
	}
	p := &Process{
		server: NewServer(o.Config), socket: o.Socket, grace: o.Config.ShutdownTimeout,
		failed: make(chan error, 2), handed: make(chan struct{}),
	}
	started := false
	defer func() {
		if !started {
			p.unwind()
		}
	}()
	if err := os.MkdirAll(filepath.Dir(o.Socket), 0o755); err != nil {
		return nil, fmt.Errorf("proxy socket: %w", err)
	}
	err := p.takeLock()
	if errors.Is(err, ErrRunning) && o.TakeOver {
		err = p.takeOver(ctx, o.Config.Listen)
	}
	if err != nil {
		return nil, err
	}
	if p.clients == nil {
		if p.clients, err = net.Listen("tcp", o.Config.Listen); err != nil {
			return nil, fmt.Errorf("proxy: listen on %s: %w", o.Config.Listen, err)
		}
	}
	if p.admins, err = listenPrivate(o.Socket); err != nil {
		return nil, fmt.Errorf("proxy socket: %w", err)
	}
	w := o.ErrorLog
	if w == nil {
		w = io.Discard
	}
	errorLog := log.New(w, "tidemark proxy: ", log.LstdFlags)
	p.traffic = &http.Server{
		Handler:           http.HandlerFunc(p.handle),
		ConnState:         p.connState,
		ReadHeaderTimeout: o.Config.HeaderTimeout,
		IdleTimeout:       o.Config.Keepalive,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          errorLog,
	}
	p.control = &http.Server{Handler: p.admin(), ReadHeaderTimeout: 5 * time.Second, ErrorLog: errorLog}
	p.serving = [2]chan struct{}{p.serve(p.traffic, p.clients), p.serve(p.control, p.admins)}
	started = true
	return p, nil
}

func (p *Process) serve(s *http.Server, ln net.Listener) chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) && !p.closing.Load() {
			p.failed <- err
		}
	}()
	return ended
}

func (p *Process) handle(w http.ResponseWriter, r *http.Request) {
	if p.closing.Load() {
		w.Header().Set("Connection", "close")
	}
	p.server.ServeHTTP(w, r)
}

func (p *Process) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		p.conns.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// takeLock makes this the one process of the socket, for as long as it lives: the kernel frees a dead one's lock.
func (p *Process) takeLock() error {
	f, err := os.OpenFile(p.socket+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("proxy lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: %s", ErrRunning, p.socket)
		}
		return fmt.Errorf("proxy lock: %w", err)
	}
	p.lock = f
	return nil
}

// maxSocketPath is the kernel's limit (sun_path without its final zero), less the suffix that a socket is born with.
const maxSocketPath = 107 - len(".new")

func checkSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("proxy socket %s: a socket's path has at most %d characters; choose a shorter one", path, maxSocketPath)
	}
	return nil
}

// listenPrivate listens on a unix socket that only its owner may use. The lock is held, so what lies there is dead.
func listenPrivate(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Made under another name, so that it is never there with wider permissions.
	born := path + ".new"
	_ = os.Remove(born)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: born, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(born, 0o600), os.Rename(born, path)); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// Addr is where clients are listened for.
func (p *Process) Addr() net.Addr { return p.clients.Addr() }

// Health says who this is.
func (p *Process) Health() Health {
	return Health{Nonce: p.server.nonce, PID: os.Getpid(), Address: p.Addr().String(), Digest: p.server.plan.Load().digest}
}

// Run serves until ctx ends, a listener breaks or another process has taken over; then it stops gracefully.
func (p *Process) Run(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case <-p.handed:
	case err = <-p.failed:
		err = fmt.Errorf("proxy: %w", err)
	}
	return errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
}

// Stop accepts nothing new, finishes the requests that are there within shutdown_timeout (or ctx), then closes what is
// left. Its address and its admin socket are free at once, for another process to start.
func (p *Process) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.grace)
	defer cancel()
	p.closing.Store(true)
	_ = p.clients.Close()
	_ = p.control.Close()
	p.freeSocket()
	<-p.serving[0] // now each accepted connection is counted
	p.farewell(ctx)
	err := p.traffic.Shutdown(ctx)
	p.server.Close()
	if err != nil {
		err = fmt.Errorf("proxy: not all requests ended within %s: %w", p.grace, errors.Join(err, p.traffic.Close()))
	}
	<-p.serving[1]
	return err
}

// farewell lets each client that is still connected make a request and be told that it is the last on this connection:
// Shutdown alone would drop those that were just accepted, or that send as it closes.
func (p *Process) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.conns.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// freeSocket gives the socket's name up, once: it may be another's afterwards.
func (p *Process) freeSocket() {
	p.freeOnce.Do(func() {
		if p.admins != nil {
			_ = os.Remove(p.socket)
			_ = p.admins.Close()
		}
		if p.lock != nil {
			_ = p.lock.Close()
		}
	})
}

// unwind undoes a start that failed.
func (p *Process) unwind() {
	p.freeSocket()
	if p.clients != nil {
		_ = p.clients.Close()
	}
	p.server.Close()
}

// Main is `tidemark proxy --config FILE --socket PATH [--take-over]`: it reads the configuration that the daemon wrote and
// serves until ctx ends (SIGTERM).
func Main(ctx context.Context, configPath, socket string, takeOver bool, errorLog io.Writer) error {
	b, err := os.ReadFile(configPath)
	if err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	cfg, err := decodeConfig(b)
	if err != nil {
		return fmt.Errorf("%s: %w", configPath, err)
	}
	p, err := Start(ctx, ProcessOptions{Config: cfg, Socket: socket, TakeOver: takeOver, ErrorLog: errorLog})
	if err != nil {
		return err
	}
	return p.Run(ctx)
}
