// Package lease keeps the lead of several daemons by a Lease of Kubernetes (coordination.k8s.io/v1): one acts, the others stand by.
//
// A leader renews the Lease every beat; until when it may act after that, package lead says. Whoever stands by takes the Lease when it has
// seen no renewal for patient. The times in the Lease are for people. Every write says which version of the Lease it is of, so of two that
// take it at once, one does.
package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"tidemark/internal/kubeapi"
	"tidemark/internal/lead"
)

// Times of the lead. The zero value means the usual.
type Times struct {
	Beat     time.Duration // between renewals, and between two looks of who stands by
	Validity time.Duration // how long a leader acts after its last renewal
	Patient  time.Duration // how long the others wait
}

var usual = Times{Beat: 2 * time.Second, Validity: 8 * time.Second, Patient: 10 * time.Second}

// Options say who wants to lead.
type Options struct {
	Name   string               // of the Lease
	Holder string               // who this is: no two may be called the same
	Uptime func() time.Duration // counts on without jumps, also while the machine sleeps
	Times  Times
}

// errLapsed: the API server does not confirm the lead. The fleets stay as they are until it does.
var errLapsed = errors.New("the Kubernetes API server does not confirm that this daemon leads: the fleets are held as they are")

// Lease is the lead of one daemon. It implements control.Lease.
type Lease struct {
	client *kubeapi.Client
	opts   Options

	turn   sync.Mutex // of who writes
	object object     // as it was written last

	term *lead.Term
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// object is the Lease at the API server.
type object struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Meta       kubeapi.Meta `json:"metadata"`
	Spec       struct {
		Holder      string `json:"holderIdentity,omitempty"`
		Seconds     int    `json:"leaseDurationSeconds,omitempty"`
		Acquired    string `json:"acquireTime,omitempty"`
		Renewed     string `json:"renewTime,omitempty"`
		Transitions int    `json:"leaseTransitions"`
	} `json:"spec"`
}

// microTime is how a Lease writes times.
func microTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// Lead waits until this daemon leads, or ctx ends. state is told, in words, who leads meanwhile.
func Lead(ctx context.Context, client *kubeapi.Client, opts Options, state func(string)) (*Lease, error) {
	t := &opts.Times
	t.Beat, t.Validity, t.Patient = cmp.Or(t.Beat, usual.Beat), cmp.Or(t.Validity, usual.Validity), cmp.Or(t.Patient, usual.Patient)
	l := &Lease{client: client, opts: opts}
	seen, since := "none", time.Duration(0) // the version of the Lease that was seen last, and since when
	ticker := time.NewTicker(t.Beat / 2)
	defer ticker.Stop()
	for {
		began := opts.Uptime()
		now, err := l.read(ctx)
		switch {
		case err != nil:
			state("the Lease cannot be read: " + err.Error())
		case now.Meta.ResourceVersion != seen:
			seen, since = now.Meta.ResourceVersion, began
			state(fmt.Sprintf("the Lease %s is held by %q", opts.Name, now.Spec.Holder))
		}
		given := now.Meta.ResourceVersion != "" && now.Spec.Holder == "" // one that is not there may have been taken away from who leads
		if err == nil && (given || began-since >= t.Patient) {
			if now.Spec.Holder != opts.Holder {
				now.Spec.Transitions++
			}
			now.Spec.Acquired = microTime(time.Now())
			began = opts.Uptime()
			if err := l.write(ctx, now); err == nil {
				l.begin(began)
				return l, nil
			} else if !kubeapi.Refused(err, http.StatusConflict) {
				state("the Lease cannot be written: " + err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("stand by for the Lease %s: %w", opts.Name, ctx.Err())
		case <-ticker.C:
		}
	}
}

func (l *Lease) path(name string) string {
	return "/apis/coordination.k8s.io/v1/namespaces/" + url.PathEscape(l.client.Namespace()) + "/leases" + name
}

// read returns the Lease; a new one, without version and holder, when there is none.
func (l *Lease) read(ctx context.Context) (object, error) {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Times.Validity/2)
	defer cancel()
	var o object
	err := l.client.Get(ctx, l.path("/"+url.PathEscape(l.opts.Name)), nil, &o)
	if kubeapi.Refused(err, http.StatusNotFound) {
		return object{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Meta: kubeapi.Meta{Name: l.opts.Name}}, nil
	}
	return o, err
}

// write writes the Lease as ours, and remembers it as it is now.
func (l *Lease) write(ctx context.Context, o object) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Times.Validity/2)
	defer cancel()
	o.Spec.Holder, o.Spec.Seconds, o.Spec.Renewed = l.opts.Holder, int(l.opts.Times.Patient/time.Second), microTime(time.Now())
	return l.put(ctx, o)
}

func (l *Lease) put(ctx context.Context, o object) error {
	method, path := http.MethodPut, l.path("/"+url.PathEscape(o.Meta.Name))
	if o.Meta.ResourceVersion == "" {
		method, path = http.MethodPost, l.path("")
	}
	var written object
	if err := l.client.Send(ctx, method, path, nil, kubeapi.JSON, o, &written); err != nil {
		return err
	}
	l.object = written
	return nil
}

func (l *Lease) begin(began time.Duration) {
	l.term = lead.NewTerm(l.opts.Times.Validity, l.opts.Uptime, errLapsed)
	l.term.Extend(began)
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.wg.Go(func() {
		ticker := time.NewTicker(l.opts.Times.Beat)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.term.Deposed():
				return
			case <-ticker.C:
				_ = l.renew(ctx) // until the lead lapses it is tried again; who wants to act hears of it
			}
		}
	})
}

// renew proves the lead. When another daemon has it, it is gone for good.
func (l *Lease) renew(ctx context.Context) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	if err := l.term.Gone(); err != nil {
		return err
	}
	began := l.opts.Uptime()
	err := l.write(ctx, l.object)
	if kubeapi.Refused(err, http.StatusConflict, http.StatusNotFound) {
		var now object
		if now, err = l.read(ctx); err != nil {
			return err
		}
		if now.Spec.Holder != l.opts.Holder || now.Meta.UID != l.object.Meta.UID {
			l.term.Depose(fmt.Errorf("%w: the Lease %s is held by %q", lead.ErrDeposed, l.opts.Name, now.Spec.Holder))
			return l.term.Gone()
		}
		began = l.opts.Uptime() // an answer to an earlier renewal was lost
		err = l.write(ctx, now)
	}
	if err != nil {
		return fmt.Errorf("renew the Lease %s: %w", l.opts.Name, err)
	}
	l.term.Extend(began)
	return nil
}

// Deposed is closed when the lead is gone for good: what runs here is to be stopped.
func (l *Lease) Deposed() <-chan struct{} { return l.term.Deposed() }

// Held returns nil while nobody else can have the lead, and else why that is not known. It asks nobody.
func (l *Lease) Held() error { return l.term.Held() }

// Lead renews the Lease and returns a context for what is done now: it ends when the lead can no longer be vouched for. A lead that has lapsed
// is not waited for: it is renewed every beat anyway, and who is cut off from the API server has fleets to look at.
func (l *Lease) Lead(ctx context.Context) (context.Context, error) {
	if err := l.Held(); err != nil {
		return nil, err
	}
	if err := l.renew(ctx); err != nil {
		return nil, err
	}
	return l.term.During(ctx), nil
}

// Close gives the lead up, so that another daemon need not wait.
func (l *Lease) Close() error {
	l.stop()
	l.wg.Wait()
	if l.term.Gone() != nil {
		return nil
	}
	l.term.Depose(fmt.Errorf("%w: the lead was given up", lead.ErrDeposed))
	l.turn.Lock()
	defer l.turn.Unlock()
	o := l.object
	o.Spec.Holder = ""
	ctx, cancel := context.WithTimeout(context.Background(), l.opts.Times.Beat)
	defer cancel()
	if err := l.put(ctx, o); err != nil && !kubeapi.Refused(err, http.StatusConflict, http.StatusNotFound) {
		return fmt.Errorf("give up the Lease %s: %w", l.opts.Name, err) // it will be waited for
	}
	return nil
}
