package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server is the data plane: an http.Handler that spreads requests over the workers it was told of.
type Server struct {
	plan    atomic.Pointer[plan]
	pool    *pool
	proxy   httputil.ReverseProxy
	nonce   string
	pages   pages
	started time.Time
	applies sync.Mutex // one Apply at a time
}

// NewServer makes a Server without workers; requests wait until Set names some. cfg must be valid.
func NewServer(cfg Config) *Server {
	p := newPlan(cfg, nil)
	s := &Server{pool: newPool(p), nonce: rand.Text(), started: time.Now()}
	s.plan.Store(p)
	s.proxy = httputil.ReverseProxy{
		Rewrite:      s.rewrite,
		Transport:    s,
		ErrorHandler: s.failed,
		BufferPool:   &buffers{},
		ErrorLog:     log.New(io.Discard, "", 0), // a broken connection is counted, not logged
	}
	return s
}

// Set makes exactly these workers take requests; the others finish what they have.
func (s *Server) Set(workers []Endpoint) { s.pool.set(workers) }

// Drain takes a worker out and returns when no request is on its way to it, nor an upgraded connection open
// (websocket_drain limits those). With ctx's error the worker stays out and goes on finishing. It comes back when
// Set names it again, but not within 5 s of the drain: such a list may be older than the drain.
func (s *Server) Drain(ctx context.Context, id string) error { return s.pool.drain(ctx, id) }

// Apply puts another valid configuration in force, but for what needs a restart, which it returns by name. Timeouts of
// connections to workers hold for workers that come after.
func (s *Server) Apply(cfg Config) (restart []string) {
	s.applies.Lock()
	defer s.applies.Unlock()
	old := s.plan.Load()
	restart = cfg.needsRestart(&old.cfg)
	cfg.keepFixed(&old.cfg)
	next := newPlan(cfg, old)
	s.pool.apply(next)
	s.plan.Store(next)
	return restart
}

// Close refuses all that wait and closes upgraded connections. Requests at a worker go on.
func (s *Server) Close() { s.pool.close() }

// Stats returns the figures since the start.
func (s *Server) Stats() *Stats {
	p := s.plan.Load()
	st := &Stats{Nonce: s.nonce, PID: os.Getpid(), Digest: p.digest, Uptime: int64(time.Since(s.started)), MaxInFlight: p.cfg.MaxInFlight}
	s.pool.stats(st)
	s.pages.mu.Lock()
	st.CacheHits = s.pages.hits
	s.pages.mu.Unlock()
	var total, one tally
	for _, c := range p.classes {
		one = tally{}
		c.counters.tally(&one)
		total.add(&one)
		st.Classes = append(st.Classes, ClassStats{c.name, c.priority, one.written()})
	}
	for _, r := range p.routes {
		one = tally{}
		r.counters.tally(&one)
		st.Routes = append(st.Routes, RouteStats{r.prefix, one.written()})
	}
	st.Total = total.written()
	return st
}

// Why a request that a worker had was not answered by it.
var (
	errTimeout    = errors.New("the worker took too long")
	errClientGone = errors.New("the client left")
)

// flight is one request on its way. It is the request's context as well, so that the transport finds it.
type flight struct {
	context.Context
	s       *Server
	client  context.Context // ends when the client leaves
	cancel  context.CancelCauseFunc
	rc      *http.ResponseController
	path    string
	class   *class
	route   *route
	began   time.Time
	timer   *time.Timer // the worker's time
	timeout time.Duration
	patient time.Duration // client_timeout
	header  bool

	request  *body // set when the body was not read ahead whole
	replay   func() (io.ReadCloser, error)
	worker   *worker // held
	answered atomic.Bool
	retried  bool
	answer   answer
	upgrade  *upgrade
	guarded  bool // a write deadline is set
	ended    bool
	out      outcome
}

type flightKey struct{}

func (f *flight) Value(key any) any {
	if key == (flightKey{}) {
		return f
	}
	return f.Context.Value(key)
}

func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	p := s.plan.Load()
	if p.public(r) {
		s.pages.serve(rw, r, &p.cfg.Cache, func(rw http.ResponseWriter, r *http.Request) { s.forward(rw, r, p) })
		return
	}
	s.forward(rw, r, p)
}

// forward brings the request to a worker.
func (s *Server) forward(rw http.ResponseWriter, r *http.Request, p *plan) {
	f := &flight{
		s: s, client: r.Context(), rc: http.NewResponseController(rw),
		path: r.URL.Path, class: p.classes[p.rank(r.URL.Path)], route: p.route(r.URL.Path),
		timeout: p.cfg.RequestTimeout, patient: p.cfg.ClientTimeout, header: p.cfg.WorkerHeader,
	}
	f.class.counters.arrived.Add(1)
	f.route.counters.arrived.Add(1)
	base := f.client
	if p.cfg.MaxInFlight > 0 {
		base = context.WithoutCancel(base) // the worker goes on when the client has left, so its slot stays taken
	}
	f.Context, f.cancel = context.WithCancelCause(base)
	defer f.end()

	if r.Method == http.MethodConnect {
		f.out.status = http.StatusMethodNotAllowed
		http.Error(rw, "this is no forward proxy", http.StatusMethodNotAllowed)
		return
	}
	r = r.WithContext(f)
	if err := f.readAhead(r, p.cfg.BodyBuffer); err != nil {
		s.failed(rw, r, err)
		return
	}
	f.began = time.Now()
	if err := f.acquire(false); err != nil {
		s.failed(rw, r, err)
		return
	}
	s.proxy.ServeHTTP(rw, r)
}

// acquire takes a worker and starts its time.
func (f *flight) acquire(again bool) error {
	asked := time.Now()
	left := f.class.timeout - f.out.queueTime
	if left <= 0 {
		return errTooLong
	}
	w, err := f.s.pool.acquire(f.client, f.path, left, again, f.waits)
	f.out.asked = true
	f.out.queueTime += time.Since(asked)
	if err != nil {
		return err
	}
	f.worker = w
	f.class.counters.inFlight.Add(1)
	f.route.counters.inFlight.Add(1)
	if f.timeout > 0 {
		if f.timer == nil {
			f.timer = time.AfterFunc(f.timeout, f.expire)
		} else {
			f.timer.Reset(f.timeout)
		}
	}
	return nil
}

func (f *flight) waits(delta int64) {
	f.class.counters.queued.Add(delta)
	f.route.counters.queued.Add(delta)
}

func (f *flight) expire() {
	if !f.answered.Load() {
		f.cancel(errTimeout)
	}
}

// release gives the worker back; once.
func (f *flight) release(failed bool) {
	if f.worker == nil {
		return
	}
	f.s.pool.release(f.worker, failed)
	f.released()
}

func (f *flight) released() {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.worker = nil
	f.class.counters.inFlight.Add(-1)
	f.route.counters.inFlight.Add(-1)
}

// end settles all that is still open, and counts the request.
func (f *flight) end() {
	f.finish()
	f.cancel(nil)
	if f.request != nil {
		f.request.closed.Store(true)
	}
	if f.upgrade != nil {
		f.upgrade.cut()
	}
	if f.guarded {
		_ = f.rc.SetWriteDeadline(time.Time{})
	}
}

// finish gives the worker back and counts the request: when the worker's answer has been read, however slow the client.
func (f *flight) finish() {
	if f.ended {
		return
	}
	f.ended = true
	if !f.began.IsZero() {
		f.out.latency = time.Since(f.began)
	}
	f.release(f.out.status >= 500)
	f.class.counters.count(&f.out)
	f.route.counters.count(&f.out)
}

// RoundTrip sends the request to its worker, and to another one where that is safe (see the package's doc).
func (s *Server) RoundTrip(req *http.Request) (*http.Response, error) {
	f, ok := req.Context().Value(flightKey{}).(*flight)
	if !ok {
		return nil, errors.New("not a request of this proxy")
	}
	for {
		resp, err := f.worker.transport.RoundTrip(req)
		if err == nil {
			s.pool.reached(f.worker)
			return f.accept(resp), nil
		}
		switch {
		case f.Err() != nil:
			return nil, err
		case notSent(err) && (f.request == nil || !f.request.touched.Load()):
			s.pool.unreachable(f.worker)
			f.released()
			if time.Since(f.began) > f.class.timeout {
				return nil, errTooLong
			}
		case !f.retried && repeatable(req) && broken(err):
			f.retried = true
			f.release(true)
		default:
			return nil, err
		}
		if err := f.acquire(true); err != nil {
			return nil, err
		}
		switch { // the transport has closed the body that it had
		case f.replay != nil:
			req.Body, _ = f.replay() // cannot fail: it is in memory
		case f.request != nil:
			req.Body = f.request
		}
	}
}

// notSent reports that no connection was made, so that the worker never saw the request.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// repeatable requests do no harm when done twice.
func repeatable(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Body == nil && r.Header.Get("Upgrade") == ""
}

// broken reports that the connection ended before an answer.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// accept takes the worker's answer.
func (f *flight) accept(resp *http.Response) *http.Response {
	f.answered.Store(true)
	if f.timer != nil {
		f.timer.Stop()
	}
	f.out.status = resp.StatusCode
	if f.header {
		resp.Header["X-Tidemark-Worker"] = f.worker.header
	}
	if back, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		u := &upgrade{ReadWriteCloser: back, worker: f.worker, pool: f.s.pool}
		f.s.pool.upgraded(u)
		f.released()
		f.finish()
		f.upgrade = u
		resp.Body = u
		return resp
	}
	f.out.served = true
	if resp.Body == http.NoBody {
		f.finish()
		return resp
	}
	f.answer = answer{from: resp.Body, f: f}
	resp.Body = &f.answer
	return resp
}

// rewrite addresses the request to its worker and says who asked.
func (s *Server) rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out
	out.URL.Scheme, out.URL.Host = "http", "worker" // the worker's transport knows where
	out.URL.RawQuery = in.URL.RawQuery              // as it came, odd escapes and all
	out.Host = in.Host

	peer, trusted := in.RemoteAddr, false
	if ap, err := netip.ParseAddrPort(in.RemoteAddr); err == nil {
		peer, trusted = ap.Addr().Unmap().String(), s.plan.Load().trusts(ap.Addr())
	}
	chain, host, proto := peer, in.Host, "http"
	if trusted {
		if before := in.Header["X-Forwarded-For"]; len(before) > 0 {
			chain = strings.Join(before, ", ") + ", " + peer
		}
		if h := in.Header.Get("X-Forwarded-Host"); h != "" {
			host = h
		}
		if p := in.Header.Get("X-Forwarded-Proto"); p != "" {
			proto = p
		}
	} else {
		out.Header.Del("X-Real-Ip")
	}
	values := [3]string{chain, host, proto}
	out.Header["X-Forwarded-For"] = values[0:1:1]
	out.Header["X-Forwarded-Host"] = values[1:2:2]
	out.Header["X-Forwarded-Proto"] = values[2:3:3]
}

// buffers lends ReverseProxy the space it copies through.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }
