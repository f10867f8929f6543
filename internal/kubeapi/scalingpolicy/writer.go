package scalingpolicy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"tidemark/internal/kubeapi"
)

// How often what is said of one policy may change: what it comes to, and only its words (figures in them, an error's).
const (
	betweenChanges = 5 * time.Second
	betweenWords   = time.Minute
)

// The budget of all statuses and events of a daemon together: a tenth of what the client may ask, so that scaling never waits for it.
const (
	perSecond = 5
	burst     = 20
)

// Writer writes statuses and events of policies. It is used by one goroutine.
type Writer struct {
	client *kubeapi.Client
	host   string
	budget *rate.Limiter
	now    func() time.Time
	known  map[string]*written // by UID
}

// written is what a policy's status and events are, as far as this writer wrote them.
type written struct {
	status  Status
	over    string // the version of the object that the status was written over
	version string // and the one since
	at      time.Time
	events  map[string]*event // by reason and message
	begun   *rate.Limiter     // new events
}

// NewWriter prepares one; host is what events say that they come from.
func NewWriter(c *kubeapi.Client, host string, now func() time.Time) *Writer {
	return &Writer{client: c, host: host, budget: rate.NewLimiter(perSecond, burst), now: now, known: map[string]*written{}}
}

func (w *Writer) of(m *kubeapi.Meta) *written {
	k := w.known[m.UID]
	if k == nil {
		// A policy's events: 25 at once, and one each five minutes beyond that, as Kubernetes' own controllers have it.
		k = &written{events: map[string]*event{}, begun: rate.NewLimiter(rate.Every(5*time.Minute), 25)}
		w.known[m.UID] = k
	}
	return k
}

// Keep forgets policies that are gone.
func (w *Writer) Keep(there func(uid string) bool) {
	for uid := range w.known {
		if !there(uid) {
			delete(w.known, uid)
		}
	}
}

// Status says of a policy what is the case, unless that is said already, or something was said a moment ago; then it waits for a later call.
func (w *Writer) Status(ctx context.Context, o *Object, s Status) error {
	k, now := w.of(&o.Meta), w.now()
	if o.Meta.ResourceVersion != k.over && o.Meta.ResourceVersion != k.version { // somebody wrote since, or this writer is new
		k.status, k.over, k.version = o.Status, o.Meta.ResourceVersion, o.Meta.ResourceVersion
	}
	s.since(&k.status, now)
	if equal(&s, &k.status) {
		return nil
	}
	wait := betweenChanges
	switch {
	case s.ObservedGeneration != k.status.ObservedGeneration:
		wait = 0 // who applied it looks at it now
	case s.same(&k.status):
		wait = betweenWords
	}
	if now.Sub(k.at) < wait || !w.budget.AllowN(now, 1) {
		return nil
	}
	k.at = now
	version, err := put(ctx, w.client, &o.Meta, &s)
	if kubeapi.Refused(err, http.StatusNotFound, http.StatusConflict) {
		return nil // it is gone, or another has its name
	}
	if err != nil {
		return err
	}
	k.status, k.over, k.version = s, o.Meta.ResourceVersion, version
	return nil
}

// event is one of core/v1, which is what kubectl describe shows.
type event struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Meta       kubeapi.Meta `json:"metadata"`
	About      about        `json:"involvedObject"`
	Reason     string       `json:"reason"`
	Message    string       `json:"message"`
	Type       string       `json:"type"`
	Source     source       `json:"source"`
	Component  string       `json:"reportingComponent"`
	Instance   string       `json:"reportingInstance"`
	First      time.Time    `json:"firstTimestamp"`
	Last       time.Time    `json:"lastTimestamp"`
	Count      int          `json:"count"`
}

type about struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Version    string `json:"resourceVersion"`
}

type source struct {
	Component string `json:"component"`
	Host      string `json:"host"`
}

// The types of events.
const (
	Normal  = "Normal"
	Warning = "Warning"
)

// An event that says the same as one of the last ten minutes counts it up in its place. Kubernetes takes 1 KiB of a message.
const (
	sameFor    = 10 * time.Minute
	mostWords  = 1000
	mostEvents = 50 // of a policy that are remembered
)

// errTooMany: more is to be said of a policy than anybody reads.
var errTooMany = errors.New("too many events")

// Event tells who describes the policy what happened.
func (w *Writer) Event(ctx context.Context, m *kubeapi.Meta, kind, reason, message string) error {
	k, now := w.of(m), w.now().UTC().Truncate(time.Second)
	if len(message) > mostWords {
		message = strings.ToValidUTF8(message[:mostWords], "") + "…"
	}
	events := "/api/v1/namespaces/" + url.PathEscape(m.Namespace) + "/events"
	key := reason + "\x00" + message
	if e := k.events[key]; e != nil && now.Sub(e.Last) < sameFor {
		e.Count, e.Last = e.Count+1, now
		if !w.budget.AllowN(w.now(), 1) {
			return nil // the next one counts it too
		}
		err := w.client.Send(ctx, http.MethodPatch, events+"/"+e.Meta.Name, nil, kubeapi.MergePatch, map[string]any{"count": e.Count, "lastTimestamp": e.Last}, nil)
		if !kubeapi.Refused(err, http.StatusNotFound) { // it was deleted: said anew
			return err
		}
	}
	if !k.begun.AllowN(w.now(), 1) || !w.budget.AllowN(w.now(), 1) {
		return fmt.Errorf("%w of ScalingPolicy %s/%s: %s is not told", errTooMany, m.Namespace, m.Name, reason)
	}
	if len(k.events) >= mostEvents {
		clear(k.events)
	}
	e := &event{
		APIVersion: "v1", Kind: "Event", Meta: kubeapi.Meta{Name: m.Name + "." + strings.ToLower(rand.Text()), Namespace: m.Namespace},
		About:  about{apiVersion, Kind, m.Namespace, m.Name, m.UID, m.ResourceVersion},
		Reason: reason, Message: message, Type: kind, Source: source{"tidemark", w.host}, Component: "tidemark", Instance: w.host, First: now, Last: now, Count: 1,
	}
	k.events[key] = e
	return w.client.Send(ctx, http.MethodPost, events, nil, kubeapi.JSON, e, nil)
}
