package keda

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pb "tidemark/internal/act/keda/externalscaler"
	"tidemark/internal/act/kubernetes"
)

// wish is a fleet whose size is what a test says.
type wish struct {
	mu      sync.Mutex
	n       int
	err     error
	changed chan struct{}
	asked   string
}

func newWish(n int) *wish { return &wish{n: n, changed: make(chan struct{})} }

func (w *wish) Wanted(_ context.Context, namespace, scaledObject string) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = namespace + "/" + scaledObject
	return w.n, w.err
}

func (w *wish) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *wish) set(n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n, w.err = n, err
	close(w.changed)
	w.changed = make(chan struct{})
}

// daemon is a scaler over a connection in memory, and what it answers from.
type daemon struct {
	*Scaler
	client pb.ExternalScalerClient
	conn   *grpc.ClientConn

	mu    sync.Mutex
	fleet Fleet
	lost  error

	vanished atomic.Bool // the client: nothing that it sends arrives any more
}

// wire is the client's end of a connection.
type wire struct {
	net.Conn
	cut *atomic.Bool
}

func (w wire) Write(b []byte) (int, error) {
	if w.cut.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (d *daemon) loses(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = err
}

func (d *daemon) has(f Fleet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fleet = f
}

// start serves one fleet, odoo, until end is called.
func start(t *testing.T, f Fleet) (d *daemon, end func()) {
	t.Helper()
	d = &daemon{fleet: f}
	d.Scaler = New(Options{
		Fleet: func(name string) Fleet {
			d.mu.Lock()
			defer d.mu.Unlock()
			if name != "odoo" {
				return nil
			}
			return d.fleet
		},
		Leads: func() error {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.lost
		},
	})
	l := bufconn.Listen(1 << 20)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Serve(l); err != nil {
			t.Error(err)
		}
	})
	var err error
	d.conn, err = grpc.NewClient("passthrough:///scaler", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := l.DialContext(ctx)
			return wire{c, &d.vanished}, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	d.client = pb.NewExternalScalerClient(d.conn)
	return d, func() {
		_ = d.conn.Close()
		d.Close()
		wg.Wait()
	}
}

// ref is the ScaledObject that asks, about a fleet.
func ref(fleet string) *pb.ScaledObjectRef {
	return &pb.ScaledObjectRef{Name: "so", Namespace: "dfr", ScalerMetadata: map[string]string{"scalerAddress": "tidemark.dfr.svc:8462", "fleet": fleet}}
}

func metrics(fleet string) *pb.GetMetricsRequest {
	return &pb.GetMetricsRequest{ScaledObjectRef: ref(fleet), MetricName: kubernetes.FollowedMetric}
}

func TestPull(t *testing.T) {
	w := newWish(7)
	d, end := start(t, w)
	defer end()
	spec, err := d.client.GetMetricSpec(t.Context(), ref("odoo"))
	if err != nil || len(spec.MetricSpecs) != 1 || spec.MetricSpecs[0].TargetSizeFloat != 1 || spec.MetricSpecs[0].TargetSize != 1 {
		t.Fatalf("%v, %v", spec, err)
	}
	got, err := d.client.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: ref("odoo"), MetricName: spec.MetricSpecs[0].MetricName})
	if err != nil || len(got.MetricValues) != 1 || got.MetricValues[0].MetricValueFloat != 7 || got.MetricValues[0].MetricValue != 7 || w.asked != "dfr/so" {
		t.Fatalf("%v, %v, asked for %s", got, err, w.asked)
	}
	if active, err := d.client.IsActive(t.Context(), ref("odoo")); err != nil || !active.Result {
		t.Fatalf("%v, %v", active, err)
	}
}

// What is not known is an error, and no size and no inactivity: KEDA would act on those.
func TestWhatIsNotKnownIsAnError(t *testing.T) {
	w := newWish(7)
	d, end := start(t, w)
	defer end()
	ctx := t.Context()
	want := func(what string, code codes.Code, says string, asks ...func() error) {
		t.Helper()
		for i, ask := range asks {
			if err := ask(); status.Code(err) != code || !strings.Contains(err.Error(), says) {
				t.Errorf("%s, question %d: want %v and %q, have %v", what, i, code, says, err)
			}
		}
	}
	questions := func(fleet string) []func() error {
		return []func() error{
			func() error { _, err := d.client.GetMetrics(ctx, metrics(fleet)); return err },
			func() error { _, err := d.client.IsActive(ctx, ref(fleet)); return err },
		}
	}
	stream := func(fleet string) func() error {
		return func() error {
			s, err := d.client.StreamIsActive(ctx, ref(fleet))
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}
	}
	spec := func(fleet string) func() error {
		return func() error { _, err := d.client.GetMetricSpec(ctx, ref(fleet)); return err }
	}
	want("an unknown fleet", codes.NotFound, `no fleet "web"`, append(questions("web"), spec("web"), stream("web"))...)
	want("no fleet", codes.InvalidArgument, "write fleet:", append(questions(""), spec(""), stream(""))...)
	want("an unknown metric", codes.NotFound, "s0-x", func() error {
		_, err := d.client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref("odoo"), MetricName: "s0-x"})
		return err
	})
	want("too long a message", codes.ResourceExhausted, "larger than max", spec(strings.Repeat("x", mostBytes)))
	w.set(0, errors.New("the API server is away"))
	want("a size that is not known", codes.Unavailable, "API server is away", questions("odoo")...)
	w.set(0, fmt.Errorf("%w: metricType", kubernetes.ErrNotFollowed))
	want("a ScaledObject that is wrong", codes.FailedPrecondition, "metricType", questions("odoo")...)
	w.set(7, nil)
	d.loses(errors.New("another daemon may lead"))
	want("a daemon that does not lead", codes.Unavailable, "another daemon may lead", append(questions("odoo"), stream("odoo"))...)
}

// Push: true at once, and whenever the size is another. What is not known is not said. The stream ends with the lead, and with the fleet.
func TestPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWish(3)
		d, end := start(t, w)
		defer end()
		pushed := make(chan bool, 100)
		open := func() (ended chan error) {
			stream, err := d.client.StreamIsActive(t.Context(), ref("odoo"))
			if err != nil {
				t.Fatal(err)
			}
			ended = make(chan error, 1)
			go func() {
				for {
					active, err := stream.Recv()
					if err != nil {
						ended <- err
						return
					}
					pushed <- active.Result
				}
			}()
			return ended
		}
		said := func(what string, n int) {
			t.Helper()
			synctest.Wait()
			if len(pushed) != n {
				t.Errorf("%s: pushed %d times, want %d", what, len(pushed), n)
			}
			for range len(pushed) {
				if !<-pushed {
					t.Errorf("%s: inactive", what)
				}
			}
		}
		ended := open()
		said("opened", 1)
		w.set(3, nil)
		said("the same size", 0)
		w.set(5, nil)
		said("another size", 1)
		w.set(0, errors.New("away"))
		said("nothing known", 0)
		w.set(6, nil)
		said("known again", 1)
		time.Sleep(time.Hour)
		said("a quiet hour", 0)
		d.loses(errors.New("another daemon may lead"))
		time.Sleep(watching)
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("the lead was lost: %v", err)
		}
		d.loses(nil)
		ended = open()
		said("opened again", 1)
		d.has(newWish(2)) // a reload made another of it
		time.Sleep(watching)
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("the fleet is another: %v", err)
		}
		said("ended", 0)
	})
}

// KEDA's operator has one connection with a stream for each ScaledObject. All are told at once; none is left behind by a client that is slow,
// goes, or vanishes.
func TestManyStreams(t *testing.T) {
	const many = 1000
	w := newWish(3)
	d, end := start(t, w)
	defer end()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var told, again sync.WaitGroup
	told.Add(many)
	again.Add(many)
	_, err := d.client.StreamIsActive(ctx, ref("odoo")) // it never reads
	if err != nil {
		t.Fatal(err)
	}
	for range many {
		stream, err := d.client.StreamIsActive(ctx, ref("odoo"))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for _, wg := range []*sync.WaitGroup{&told, &again} {
				if _, err := stream.Recv(); err != nil {
					t.Error(err)
				}
				wg.Done()
			}
		}()
	}
	told.Wait()
	w.set(4, nil)
	again.Wait()
	if n := d.watchers.Load(); n != many+1 {
		t.Errorf("%d watch", n)
	}
	for n := range 1000 {
		w.set(5+n%2, nil)
	}
	if _, err := d.client.GetMetrics(ctx, metrics("odoo")); err != nil {
		t.Errorf("beside a slow client: %v", err)
	}
	leave()
	for end := time.Now().Add(time.Minute); d.watchers.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d watch still", d.watchers.Load())
		}
	}
	d.watchers.Store(mostWatching)
	stream, err := d.client.StreamIsActive(t.Context(), ref("odoo"))
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one stream too many: %v", err)
	}
}

// A client whose machine is gone says no good-bye; it is let go of.
func TestVanishedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWish(3)
		d, end := start(t, w)
		defer end()
		stream, err := d.client.StreamIsActive(t.Context(), ref("odoo"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		d.vanished.Store(true)
		for _, want := range []int64{1, 0} {
			if n := d.watchers.Load(); n != want {
				t.Errorf("%d watch, want %d", n, want)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
	})
}
