package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"tidemark/registry/api"
	"tidemark/registry/metrics"
	"tidemark/registry/prefork"
	"tidemark/registry/serve"
	"tidemark/registry/site"
	"tidemark/registry/store"
	mobile "tidemark/registry/sync"
)

// drain is how long the last workers on a socket go on emptying its queue when clients keep coming.
const drain = 5 * time.Second

// job is what a worker needs to know, on its own or under a master.
type job struct {
	db        string // opaque here, but for openStore
	tokenless bool   // --open
	rate      float64
	burden    api.Burden
	grace     time.Duration
	maxQueue  time.Duration
	https     bool
	proxies   []string // of --trusted-proxy
	limits    prefork.Limits
	soft      int64 // MiB
	hard      int64 // MiB
}

func (j *job) flags(f *pflag.FlagSet) {
	f.StringVar(&j.db, "db", "", "the registry, made by `registry seed`")
	f.BoolVar(&j.tokenless, "open", false, "let anybody on this machine do everything without a token; for rehearsals")
	f.Float64Var(&j.rate, "rate", 50, "API requests a second that each token may make of each worker, twice as many at once; 0 for no limit")
	f.DurationVar(&j.burden.Think, "think", 0, "pause in each API request, standing in for slower application code")
	f.DurationVar(&j.burden.CPU, "cpu", 0, "CPU time burnt in each API request")
	f.DurationVar(&j.grace, "grace", 30*time.Second, "how long a stopping worker may take to finish its request")
	f.DurationVar(&j.maxQueue, "max-queue-time", 0, "answer 503 at once to requests whose X-Request-Start is longer ago")
	f.BoolVar(&j.https, "https", false, "browsers come by TLS only: cookies are never sent otherwise; without it a trusted proxy's X-Forwarded-Proto says so")
	f.StringSliceVar(&j.proxies, "trusted-proxy", []string{"127.0.0.0/8", "::1/128"}, "addresses whose X-Forwarded-For and X-Forwarded-Proto are believed, such as 10.0.0.5/32; those on a unix socket always are")
	f.Int64Var(&j.soft, "limit-memory-soft", 2048, "MiB resident after a request from which a worker is replaced")
	f.Int64Var(&j.hard, "limit-memory-hard", 2560, "MiB of address space that a worker may add to what it starts with")
	f.DurationVar(&j.limits.TimeReal, "limit-time-real", 120*time.Second, "a worker that takes longer for one request is killed")
	f.DurationVar(&j.limits.TimeCPU, "limit-time-cpu", 60*time.Second, "a worker that uses more CPU time for one request is killed")
	f.IntVar(&j.limits.Requests, "limit-request", 65536, "requests after which a worker is replaced")
}

// check reads what the flags say together.
func (j *job) check(f *pflag.FlagSet) error {
	if j.burden.Think < 0 || j.burden.CPU < 0 || j.grace < 0 {
		return errors.New("--think, --cpu and --grace cannot be negative")
	}
	if !(j.rate >= 0 && j.rate <= 1e6) {
		return errors.New("--rate must be from 0 to 1000000 requests a second")
	}
	if j.maxQueue < 0 {
		return errors.New("--max-queue-time cannot be negative; 0 is none")
	}
	if j.limits.TimeReal < 0 || j.limits.TimeCPU < 0 || j.limits.Requests < 0 || j.soft < 0 || j.hard < 0 {
		return errors.New("--limit-... cannot be negative; 0 is none")
	}
	const most = 1 << 40 // MiB: beyond it they overflow, and no machine has as many
	if j.soft > most || j.hard > most {
		return errors.New("--limit-memory-soft and --limit-memory-hard are in MiB: this is more than any machine has")
	}
	if _, err := prefixes(j.proxies); err != nil {
		return err
	}
	j.limits.MemorySoft, j.limits.MemoryHard = j.soft<<20, j.hard<<20
	var alone error
	f.Visit(func(set *pflag.Flag) {
		if strings.HasPrefix(set.Name, "limit-") && !f.Changed("workers") && f.Lookup("workers") != nil {
			alone = fmt.Errorf("--%s needs --workers: a worker without a master has nobody to replace it", set.Name)
		}
	})
	return alone
}

// args is the command line of a worker process that does this job.
func (j *job) args() []string {
	return []string{
		"registry", "worker", "--fd", strconv.Itoa(prefork.FirstFD), "--db", j.db,
		"--open=" + strconv.FormatBool(j.tokenless), "--rate", strconv.FormatFloat(j.rate, 'g', -1, 64),
		"--think", j.burden.Think.String(), "--cpu", j.burden.CPU.String(), "--grace", j.grace.String(),
		"--max-queue-time", j.maxQueue.String(), "--limit-request", strconv.Itoa(j.limits.Requests),
		"--https=" + strconv.FormatBool(j.https), "--trusted-proxy", strings.Join(j.proxies, ","),
		"--limit-memory-soft", strconv.FormatInt(j.soft, 10), "--limit-memory-hard", strconv.FormatInt(j.hard, 10),
	}
}

// open readies the store and the worker on ln, which counts in words.
func (j *job) open(ctx context.Context, ln serve.Listener, logger *log.Logger, words []atomic.Uint64, busy func(bool)) (*store.Store, *serve.Server, error) {
	s, err := openStore(ctx, j.db)
	if err != nil {
		return nil, nil, err
	}
	recorder := metrics.NewRecorder(words)
	go recorder.WatchPool(ctx, time.Second, func() metrics.Pool { // ends with the process
		now := s.Stats()
		return metrics.Pool{Open: now.OpenConnections, InUse: now.InUse, Waits: uint64(now.WaitCount), Waited: now.WaitDuration}
	})
	trouble := func(err error) { logger.Print(err) }
	proxies, err := prefixes(j.proxies)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	handler := beside(api.New(s, api.Options{Open: j.tokenless, Rate: j.rate, Burden: j.burden, Trouble: trouble, More: mobile.Routes(s)}),
		site.New(s, site.Options{HTTPS: j.https, Proxies: proxies, Trouble: trouble}))
	return s, serve.New(ln, recorder.Wrap(serve.Shed(j.maxQueue, handler)), logger, func(yes bool) {
		recorder.Busy(yes)
		busy(yes)
	}), nil
}

// beside serves the pages next to the API. It is no mux: a request carries the pattern of one, which is the API's or the
// pages' own.
func beside(api, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/web/") {
			api.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

// prefixes reads addresses and networks.
func prefixes(texts []string) (all []netip.Prefix, err error) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if a, one := netip.ParseAddr(text); one == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxy %s: write an address such as 10.0.0.5, or a network such as 10.0.0.0/24", text)
		}
		all = append(all, p)
	}
	return all, nil
}

// showMetrics serves a fleet's metrics on address until stop is called.
func showMetrics(address string, fleet metrics.Fleet, s *store.Store, logger *log.Logger) (stop func(), err error) {
	return show(address, metrics.Handler(fleet, backlog(s, logger)), logger, "metrics of all workers: GET /metrics and /healthz")
}

// backlog reads for a scrape what the database knows.
func backlog(s *store.Store, logger *log.Logger) func(context.Context) (metrics.Database, error) {
	return func(ctx context.Context) (metrics.Database, error) {
		b, err := s.Backlog(ctx, time.Now())
		if err != nil {
			logger.Printf("the metrics lack what the database knows: %v", err)
		}
		return metrics.Database{ActiveSyncSessions: b.SyncSessions, QueueRunnable: b.Jobs, QueueOldest: b.OldestJob}, err
	}
}

// show serves what is of the process itself on the address of --metrics until stop is called.
func show(address string, handler http.Handler, logger *log.Logger, what string) (stop func(), err error) {
	ln, err := listen("metrics", address, 128)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler, ErrorLog: logger,
		ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	where := serve.Address(ln)
	logger.Printf("%s on %s", what, where)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			logger.Printf("there are no metrics any more: %v", err)
		}
	})
	return func() {
		_ = server.Close()
		serving.Wait()
		serve.Unlink(where)
	}, nil
}

// listen opens the address that a flag gives.
func listen(flag, address string, backlog int) (serve.Listener, error) {
	ln, err := serve.Listen(address, backlog)
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w (write --%s 127.0.0.1:8069 or --%[2]s unix:/run/registry.sock)", err, flag)
	}
	return ln, err
}

// local says whether only this machine can connect to an address.
func local(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

func serveCommand() *cobra.Command {
	var j job
	var address, metricsAddress, pidFile string
	var workers, backlog int
	cmd := &cobra.Command{
		Use:   "serve --db FILE",
		Short: "Serve a registry, one request at a time per worker process",
		Long: `Serve a registry, one request at a time per worker process, as Odoo does.

Without --workers this process is the one worker. With --workers it is a master of that many on one socket:
SIGTTIN adds a worker, SIGTTOU removes one (an idle one first, after its request if none is; never the last),
SIGHUP replaces them one after the other, SIGTERM and SIGINT end gracefully, SIGQUIT ends at once.

The master replaces a worker that has reached --limit-memory-soft or --limit-request: the new one serves before the old
one leaves, after its request. It kills one that needs too long for a request (--limit-time-real, --limit-time-cpu); one
that asks for more memory than --limit-memory-hard ends by itself. 0 switches a limit off.

Requests beyond the workers wait in the socket's accept queue; each connection carries one request. The health
check waits its turn like any other request. With --metrics the master itself shows what all workers did, in
Prometheus's format on /metrics, and how many serve on /healthz, however busy they are.

--max-queue-time needs a proxy in front that says when it passed a request on (nginx: proxy_set_header
X-Request-Start "t=${msec}"): one that waited longer is answered 503 with Retry-After at once rather than served late.

The API asks for a bearer token (registry token add), but with --open, which is refused unless only this machine can
connect (a proxy in front lets in whom it serves). /web/health, which checks the database too, and /api/openapi.json, which describes all routes, need none.

The same workers serve the portal for farmers on / and the office's pages on /admin/, for the accounts that
registry account add makes. Behind a proxy that ends TLS, let it send X-Forwarded-For and X-Forwarded-Proto.`,
		Example: `  registry serve --db farmers.db --listen 127.0.0.1:8069
  registry serve --db farmers.db --listen unix:/run/registry.sock --open --think 20ms
  registry serve --db farmers.db --workers 2 --pid-file /run/registry.pid --backlog 128
  registry serve --db farmers.db --workers 4 --metrics 127.0.0.1:8070 --limit-memory-soft 512 --max-queue-time 10s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := j.check(cmd.Flags()); err != nil {
				return err
			}
			if cmd.Flags().Changed("workers") && workers < 1 {
				return fmt.Errorf("--workers %d: a master needs at least 1", workers)
			}
			if backlog < 1 {
				return fmt.Errorf("--backlog %d: must be at least 1", backlog)
			}
			beFrugal()
			logger := log.New(cmd.ErrOrStderr(), "registry: ", 0)
			ln, err := listen("listen", address, backlog)
			if err != nil {
				return err
			}
			if j.tokenless && !local(ln.Addr()) {
				return errors.Join(fmt.Errorf("--open lets anybody who reaches %s read and change every farmer: listen on 127.0.0.1 or unix:PATH, or leave --open out and make tokens by `registry token add`", ln.Addr()), ln.Close())
			}
			address := serve.Address(ln)
			// Once: while this process still answers its queue, the next one may have put its own socket there.
			unlink := sync.OnceFunc(func() { serve.Unlink(address) })
			defer unlink()
			removePID := func() {}
			defer func() { removePID() }()
			// Who reads the pid file may send a signal at once, so it is written when signals are looked after.
			announce := func(who string) error {
				if pidFile != "" {
					remove, err := prefork.WritePIDFile(pidFile)
					if err != nil {
						return err
					}
					removePID = remove
				}
				logger.Printf("listening on %s (backlog %d), pid %d, %s, database %s", address, backlog, os.Getpid(), who, redacted(j.db))
				if j.tokenless {
					logger.Print("open: anybody on this machine can read and change every farmer without a token (--open)")
				}
				if heavier := j.burden.String(); heavier != "" {
					logger.Printf("each API request %s: a stand-in for slower application code", heavier)
				}
				return nil
			}
			if workers > 0 {
				return j.lead(cmd.Context(), ln, workers, metricsAddress, logger, announce, unlink)
			}
			return j.alone(cmd.Context(), ln, metricsAddress, logger, announce, unlink)
		},
	}
	j.flags(cmd.Flags())
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8069", "address, HOST:PORT or unix:PATH")
	cmd.Flags().IntVar(&workers, "workers", 0, "be the master of this many worker processes")
	cmd.Flags().StringVar(&metricsAddress, "metrics", "", "address for /metrics and /healthz of all workers, HOST:PORT or unix:PATH")
	cmd.Flags().StringVar(&pidFile, "pid-file", "", "write the pid here; removed at the end")
	cmd.Flags().IntVar(&backlog, "backlog", 512, "connections that may wait for a worker")
	mustHave(cmd, "db")
	return cmd
}

// alone serves in this process until SIGTERM, SIGINT or SIGHUP; a second one ends it at once.
func (j *job) alone(ctx context.Context, ln serve.Listener, metricsAddress string, logger *log.Logger, announce func(string) error, unlink func()) (err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU) // there is no number of workers to change
	var fleet metrics.Single
	store, server, err := j.open(ctx, ln, logger, fleet.Words(), fleet.Busy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if metricsAddress != "" {
		stop, err := showMetrics(metricsAddress, &fleet, store, logger)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := announce("one worker"); err != nil {
		return err
	}
	go func() { // ends with the process
		<-signals
		unlink()
		server.Stop(drain, j.grace)
		<-signals
		server.Stop(0, 0)
	}()
	return server.Run()
}

// lead is the master of a group of workers until a signal ends it.
func (j *job) lead(ctx context.Context, ln serve.Listener, workers int, metricsAddress string, logger *log.Logger, announce func(string) error, unlink func()) (err error) {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program for the workers to run: %w", err)
	}
	// Here, too: what is wrong with the database is said once, before any worker is started.
	store, err := openStore(ctx, j.db)
	if err != nil {
		return err
	}
	closeStore := sync.OnceValue(store.Close)
	defer func() { err = errors.Join(err, closeStore()) }()
	master, err := prefork.New(prefork.Config{
		Listener: ln, Workers: workers, Program: program, Args: j.args(), Grace: j.grace, Counters: metrics.Words, Limits: j.limits,
		Tell: func(e prefork.Event) { logger.Print(sentence(e)) }, Ending: unlink,
	})
	if err != nil {
		return err
	}
	if metricsAddress != "" {
		stop, err := showMetrics(metricsAddress, master, store, logger)
		if err != nil {
			return err
		}
		defer stop()
	} else if err := closeStore(); err != nil { // nobody asks it anything
		return err
	}
	if err := announce(fmt.Sprintf("%d workers", workers)); err != nil {
		return err
	}
	return master.Run()
}

func sentence(e prefork.Event) string {
	switch e.What {
	case prefork.Started:
		return fmt.Sprintf("worker %d started", e.PID)
	case prefork.Ready:
		return fmt.Sprintf("worker %d serves", e.PID)
	case prefork.Died:
		return fmt.Sprintf("worker %d died (%s): another takes its place", e.PID, e.Detail)
	case prefork.Left:
		return fmt.Sprintf("worker %d has left", e.PID)
	case prefork.Killed:
		return fmt.Sprintf("worker %d did not finish in time (--grace) and was killed", e.PID)
	case prefork.Signalled:
		return fmt.Sprintf("%s: number of workers wanted: %d", e.Detail, e.Workers)
	case prefork.Limited:
		return fmt.Sprintf("worker %d %s", e.PID, limited(e))
	default:
		return fmt.Sprintf("cannot start a worker, trying again: %s", e.Detail)
	}
}

// limited says what became of a worker that passed a limit.
func limited(e prefork.Event) string {
	switch e.Limit {
	case prefork.MemorySoft:
		return "has grown to " + e.Detail + " (--limit-memory-soft): another takes its place"
	case prefork.MemoryHard:
		return "asked for more memory than --limit-memory-hard allows, which ends it"
	case prefork.TimeReal:
		return "took longer for one request than --limit-time-real allows and was killed"
	case prefork.TimeCPU:
		return "used more CPU time for one request than --limit-time-cpu allows and was killed"
	default:
		return "has answered " + e.Detail + " (--limit-request): another takes its place"
	}
}

func workerCommand() *cobra.Command {
	var j job
	var fd, slot int
	cmd := &cobra.Command{
		Use:    "worker",
		Short:  "Serve under a master; started by `registry serve --workers`",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := j.check(cmd.Flags()); err != nil {
				return err
			}
			term := make(chan os.Signal, 1)
			signal.Notify(term, unix.SIGTERM)
			// A terminal sends these to the whole group, and they mean something to the master alone.
			signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGTTIN, unix.SIGTTOU)
			beFrugal()
			return j.serveUnder(cmd.Context(), fd, slot, term, cmd.ErrOrStderr())
		},
	}
	j.flags(cmd.Flags())
	cmd.Flags().IntVar(&fd, "fd", prefork.FirstFD, "first inherited descriptor")
	cmd.Flags().IntVar(&slot, "slot", 0, "place on the scoreboard")
	return cmd
}

// serveUnder serves a master's socket until SIGTERM, or until the master is gone.
func (j *job) serveUnder(ctx context.Context, fd, slot int, term <-chan os.Signal, stderr io.Writer) (err error) {
	post, err := prefork.TakePost(fd, slot, metrics.Words, j.limits)
	if err != nil {
		return err
	}
	store, server, err := j.open(ctx, post.Listener, log.New(stderr, fmt.Sprintf("registry worker %d: ", os.Getpid()), 0), post.Counters(), post.Busy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := post.Ready(); err != nil {
		return fmt.Errorf("report for work: %w", err)
	}
	go func() { // ends with the process
		select {
		case <-term:
			server.Stop(0, j.grace) // the others serve the queue
		case <-post.Gone:
			server.Stop(drain, j.grace) // there will be no others
		}
	}()
	return server.Run()
}
