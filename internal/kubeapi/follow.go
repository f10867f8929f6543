package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Following is a copy of all objects at a path that is kept up to date: listed once, then watched from there, and listed anew only when the
// server no longer knows the way from there to now (410). While the server is away the copy stays as it was, and says so.
type Following[T any] struct {
	client  *Client
	path    string
	query   url.Values // labelSelector, fieldSelector
	meta    func(*T) *Meta
	changed chan struct{}

	mu      sync.Mutex
	objects map[string]T // by namespace/name
	err     error        // why the copy may be old; nil when it is not
	listed  bool
}

// errNothingYet is what a copy says before its first list.
var errNothingYet = errors.New("the Kubernetes API server was not asked yet")

// Follow prepares a copy of the objects at path, such as /api/v1/namespaces/dfr/pods, that query takes. Run keeps it.
func Follow[T any](c *Client, path string, query url.Values, meta func(*T) *Meta) *Following[T] {
	return &Following[T]{client: c, path: path, query: query, meta: meta, changed: make(chan struct{}, 1), objects: map[string]T{}, err: errNothingYet}
}

// Changed gets a word whenever the copy, or what is to be said of it, has changed since the last word was taken.
func (f *Following[T]) Changed() <-chan struct{} { return f.changed }

// Objects returns the copy by namespace/name. The error is why it may be old; listed is whether there ever was a whole one.
func (f *Following[T]) Objects() (objects map[string]T, listed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]T, len(f.objects))
	for k, o := range f.objects {
		out[k] = o
	}
	return out, f.listed, f.err
}

// How long to wait after a failure, at first and at most; and how long a watch is asked for before it is renewed.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	watchFor   = 5 * time.Minute
)

// Run keeps the copy until ctx ends.
func (f *Following[T]) Run(ctx context.Context) {
	wait, version := retryFirst, ""
	for ctx.Err() == nil {
		var err error
		if version == "" {
			version, err = f.list(ctx)
		} else {
			version, err = f.watch(ctx, version)
		}
		if Refused(err, http.StatusGone) {
			version = ""
			continue
		}
		if err == nil {
			wait = retryFirst
			continue
		}
		if ctx.Err() != nil {
			return
		}
		f.update(func() { f.err = err })
		timer := time.NewTimer(wait/2 + rand.N(wait)) // not all daemons at once when a server comes back
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, retryMost)
	}
}

// update changes what is kept, and tells.
func (f *Following[T]) update(change func()) {
	f.mu.Lock()
	change()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *Following[T]) list(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	all, version, err := listAt[T](ctx, f.client, f.path, f.query)
	if err != nil {
		return "", err
	}
	objects := make(map[string]T, len(all))
	for i := range all {
		objects[f.key(&all[i])] = all[i]
	}
	f.update(func() { f.objects, f.listed, f.err = objects, true, nil })
	return version, nil
}

func (f *Following[T]) key(o *T) string {
	m := f.meta(o)
	return m.Namespace + "/" + m.Name
}

// watch follows from a version on until the server ends the watch, and returns how far it came.
func (f *Following[T]) watch(ctx context.Context, version string) (string, error) {
	long := watchFor + rand.N(watchFor) // not all watches of a daemon at once
	ctx, cancel := context.WithTimeout(ctx, long+30*time.Second)
	defer cancel()
	query := url.Values{
		"watch": {"true"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {version}, "timeoutSeconds": {strconv.Itoa(int(long.Seconds()))},
	}
	for k, v := range f.query {
		query[k] = v
	}
	resp, err := f.client.ask(ctx, http.MethodGet, f.path, query, JSON, nil)
	if err != nil {
		return version, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return version, answered(resp)
	}
	if f.failing() {
		f.update(func() { f.err = nil })
	}
	began, events := time.Now(), json.NewDecoder(resp.Body)
	for n := 0; ; n++ {
		var e struct {
			Type   string
			Object json.RawMessage
		}
		if err := events.Decode(&e); err != nil {
			if n > 0 || ctx.Err() != nil || time.Since(began) > retryFirst { // it ended, or the connection broke: asking anew shows which
				return version, nil
			}
			return version, fmt.Errorf("watch %s: %w", f.path, err)
		}
		if e.Type == "ERROR" {
			var status struct {
				Code            int
				Reason, Message string
			}
			if err := json.Unmarshal(e.Object, &status); err != nil {
				return version, fmt.Errorf("watch %s: %w", f.path, err)
			}
			return version, &Refusal{Code: status.Code, Reason: status.Reason, Message: status.Message}
		}
		var o T
		if err := json.Unmarshal(e.Object, &o); err != nil {
			return "", fmt.Errorf("watch %s: %w", f.path, err)
		}
		version = f.meta(&o).ResourceVersion
		switch e.Type {
		case "ADDED", "MODIFIED":
			f.update(func() { f.objects[f.key(&o)] = o })
		case "DELETED":
			f.update(func() { delete(f.objects, f.key(&o)) })
		}
	}
}

func (f *Following[T]) failing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil
}
