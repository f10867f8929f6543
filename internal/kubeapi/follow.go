package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Following is a copy of all objects at a path that is kept up to date: listed once, then watched from there, and listed anew only when the
// server no longer knows the way from there to now (410). While the server is away the copy stays as it was, and says so.
type Following[T any] struct {
	client  *Client
	path    string
	query   url.Values // labelSelector, fieldSelector
	as      representation
	meta    func(*T) *Meta
	changed chan struct{}
	asked   chan struct{} // closed once there is a copy, or a reason why there is none

	mu       sync.Mutex
	objects  map[string]*T           // by namespace/name; each is never changed, and let go when there is a newer one
	labelled map[label]map[string]*T // the same, by each of their labels
	version  string                  // of the copy; "" when it has to be listed. Run alone writes it
	heard    time.Duration           // uptime at which the copy was last known to be as the server had it
	err      error                   // why the copy may be old; nil when it is not
	listed   bool
}

type label struct{ name, value string }

// representation is what is wanted of each object.
type representation struct{ list, each string }

var (
	whole = representation{JSON, JSON}
	// metadata leaves out all but that, where the server can.
	metadata = representation{JSON + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," + JSON, JSON + ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1," + JSON}
)

var (
	// errNothingYet is what a copy says before its first list.
	errNothingYet = errors.New("the Kubernetes API server was not asked yet")
	// errStrange: what a watch tells makes no sense. All is listed anew.
	errStrange = errors.New("the Kubernetes API server's watch cannot be read")
)

// Follow prepares a copy of the objects at path, such as /api/v1/namespaces/dfr/pods, that query takes. Run keeps it.
func Follow[T any](c *Client, path string, query url.Values, meta func(*T) *Meta) *Following[T] {
	return newFollowing(c, path, query, whole, meta)
}

func newFollowing[T any](c *Client, path string, query url.Values, as representation, meta func(*T) *Meta) *Following[T] {
	return &Following[T]{
		client: c, path: path, query: query, as: as, meta: meta, changed: make(chan struct{}, 1), asked: make(chan struct{}),
		objects: map[string]*T{}, labelled: map[label]map[string]*T{}, err: errNothingYet,
	}
}

// followed is the one copy of the objects at path that all clients of a server share. It is kept from the first call until Clients.Close. A path has one T.
func followed[T any](c *Client, path string, as representation, meta func(*T) *Meta) *Following[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.follows[path].(*Following[T]); ok {
		return f
	}
	f := newFollowing(c, path, nil, as, meta)
	c.follows[path] = f
	c.running.Go(func() { f.Run(c.ctx) })
	return f
}

// Changed gets a word whenever the copy, or what is to be said of it, has changed since the last word was taken.
func (f *Following[T]) Changed() <-chan struct{} { return f.changed }

// Objects returns the copy by namespace/name. The error is why it may be old; listed is whether there ever was a whole one.
func (f *Following[T]) Objects() (objects map[string]T, listed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]T, len(f.objects))
	for k, o := range f.objects {
		out[k] = *o
	}
	return out, f.listed, f.old()
}

// Select returns the objects of a namespace that a selector takes, in order of their names, and the version of the copy. Before the first list
// it waits; when the copy may be old, it says why and returns nothing. Nobody may change what the objects point to: they are shared.
func (f *Following[T]) Select(ctx context.Context, namespace string, selector labels.Selector) (some []T, version string, err error) {
	if err := f.wait(ctx); err != nil {
		return nil, "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.old(); err != nil {
		return nil, "", err
	}
	from := f.candidates(selector)
	for _, key := range slices.Sorted(maps.Keys(from)) {
		m := f.meta(from[key])
		if m.Namespace == namespace && selector.Matches(labels.Set(m.Labels)) {
			some = append(some, *from[key])
		}
	}
	return some, f.version, nil
}

// Get returns one object, as Select does; a Refusal with the code 404 when there is none.
func (f *Following[T]) Get(ctx context.Context, namespace, name string) (object T, err error) {
	if err := f.wait(ctx); err != nil {
		return object, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.old(); err != nil {
		return object, err
	}
	found := f.objects[namespace+"/"+name]
	if found == nil {
		return object, &Refusal{Code: http.StatusNotFound, Reason: "NotFound", Message: fmt.Sprintf("%s/%s not found", f.path, name)}
	}
	return *found, nil
}

func (f *Following[T]) wait(ctx context.Context) error {
	select {
	case <-f.asked:
		return ctx.Err()
	case <-ctx.Done():
		return fmt.Errorf("wait for the first list of %s: %w", f.path, ctx.Err())
	}
}

// old says why the copy may be old.
func (f *Following[T]) old() error {
	if f.err != nil {
		return f.err
	}
	if age := f.client.uptime() - f.heard; age > f.client.oldest() {
		return fmt.Errorf("the Kubernetes API server was last heard of %s %v ago", f.path, age.Round(time.Second))
	}
	return nil
}

// candidates are the fewest objects among which a selector's are.
func (f *Following[T]) candidates(selector labels.Selector) map[string]*T {
	from := f.objects
	requirements, _ := selector.Requirements() // of one that takes nothing: none
	for _, r := range requirements {
		values := r.ValuesUnsorted()
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			if len(values) != 1 {
				continue
			}
		default:
			continue
		}
		if with := f.labelled[label{r.Key(), values[0]}]; len(with) < len(from) {
			from = with
		}
	}
	return from
}

const (
	// How long to wait after a watch that was cut short, and at most after failures one after another.
	retryFirst = 500 * time.Millisecond
	retryMost  = 10 * time.Second
	// watchFor is how long a watch is asked for before it is renewed, at least: a renewal proves that the server is there while nothing
	// changes. Its own signs of life come once a minute, which is too seldom for a tick of 15 s.
	watchFor = 10 * time.Second
	// watchShare is what each further copy adds to watchFor for all: many together ask no more than 5 times a second.
	watchShare = 200 * time.Millisecond
	// grace is how long a watch may be silent after it should have ended.
	grace = 10 * time.Second
)

// watchFor is how long a watch is asked for now, and half as long again at most.
func (s *server) watchFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(watchFor, time.Duration(len(s.follows))*watchShare)
}

// oldest is how old a copy may be: 25 s, and more for more than 50 of them.
func (s *server) oldest() time.Duration { return s.watchFor()*3/2 + grace }

// Run keeps the copy until ctx ends.
func (f *Following[T]) Run(ctx context.Context) {
	pause := retryFirst
	for ctx.Err() == nil {
		began := f.client.uptime()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		took := f.client.uptime() - began
		if err == nil && took >= watchFor {
			pause = retryFirst
			continue
		}
		if f.heardSince(began) {
			pause = retryFirst
		}
		wait := pause/2 + rand.N(pause) // not all daemons at once when a server comes back
		if r, ok := errors.AsType[*Refusal](err); ok {
			wait = max(wait, r.RetryAfter)
		}
		if err != nil {
			f.update(func() { f.err = err })
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, retryMost)
	}
}

// follow lists, unless it is known what to go on from, and watches until the server ends that.
func (f *Following[T]) follow(ctx context.Context) error {
	if f.version == "" {
		if err := f.list(ctx); err != nil {
			return fmt.Errorf("list %s: %w", f.path, err)
		}
	}
	err := f.watch(ctx)
	if Refused(err, http.StatusGone) || errors.Is(err, errStrange) {
		f.mu.Lock()
		f.version = "" // it is not known what came since: all is listed anew
		f.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	return nil
}

// update changes what is kept, and tells.
func (f *Following[T]) update(change func()) {
	f.mu.Lock()
	if errors.Is(f.err, errNothingYet) {
		defer close(f.asked)
	}
	change()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *Following[T]) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := f.client.uptime()
	all, version, err := listAt[T](ctx, f.client, f.path, f.query, f.as.list)
	if err != nil {
		return err
	}
	f.update(func() {
		f.objects, f.labelled = make(map[string]*T, len(all)), map[label]map[string]*T{}
		for i := range all {
			object := all[i] // of its own, so that it can go alone
			f.put(&object)
		}
		f.version, f.heard, f.listed, f.err = version, began, true, nil
	})
	return nil
}

func (f *Following[T]) key(o *T) string {
	m := f.meta(o)
	return m.Namespace + "/" + m.Name
}

func (f *Following[T]) put(o *T) {
	f.remove(o)
	key := f.key(o)
	f.objects[key] = o
	for name, value := range f.meta(o).Labels {
		l := label{name, value}
		if f.labelled[l] == nil {
			f.labelled[l] = map[string]*T{}
		}
		f.labelled[l][key] = o
	}
}

// remove takes away the object that has the name of this one.
func (f *Following[T]) remove(o *T) {
	key := f.key(o)
	before := f.objects[key]
	if before == nil {
		return
	}
	delete(f.objects, key)
	for name, value := range f.meta(before).Labels {
		l := label{name, value}
		if delete(f.labelled[l], key); len(f.labelled[l]) == 0 {
			delete(f.labelled, l)
		}
	}
}

// watch follows from the copy's version on until the server ends the watch.
func (f *Following[T]) watch(ctx context.Context) error {
	long := f.client.watchFor()
	long += rand.N(long / 2) // not all watches of a daemon at once
	ctx, cancel := context.WithTimeout(ctx, long+grace)
	defer cancel()
	query := url.Values{
		"watch": {"true"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {f.version}, "timeoutSeconds": {strconv.Itoa(int(long.Seconds()))},
	}
	maps.Copy(query, f.query)
	began := f.client.uptime()
	resp, err := f.client.ask(ctx, request{path: f.path, query: query, accept: f.as.each})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return answered(resp)
	}
	f.hear(began)
	for events := json.NewDecoder(resp.Body); ; {
		var e struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if e.Type == "ERROR" {
			return status(e.Object)
		}
		if err := f.take(e.Type, e.Object); err != nil {
			return err
		}
	}
}

// hear notes that the copy was as the server has it at a time.
func (f *Following[T]) hear(at time.Duration) {
	f.mu.Lock()
	f.heard = at
	failing := f.err != nil
	f.mu.Unlock()
	if failing {
		f.update(func() { f.err = nil })
	}
}

// heardSince reports whether the server was heard after a time.
func (f *Following[T]) heardSince(at time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listed && f.heard >= at
}

// take takes in what a watch tells.
func (f *Following[T]) take(what string, text []byte) error {
	o := new(T)
	if err := json.Unmarshal(text, o); err != nil {
		return fmt.Errorf("%w: %w", errStrange, err)
	}
	version := f.meta(o).ResourceVersion
	switch what {
	case "BOOKMARK": // nothing else happened up to its version
		f.mu.Lock()
		f.version = version
		f.mu.Unlock()
	case "ADDED", "MODIFIED":
		f.update(func() { f.put(o); f.version = version })
	case "DELETED":
		f.update(func() { f.remove(o); f.version = version })
	default:
		return fmt.Errorf("%w: it tells of %q", errStrange, what)
	}
	f.hear(f.client.uptime())
	return nil
}

// Older reports whether one version of the server's is before another. Objects of one kind share the count.
func Older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || order < 0 // of one that is no number nothing is known
}
