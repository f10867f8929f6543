// Package web is the HTTP API and, later, the dashboard. Here: the operator's API that the command line speaks with the
// daemon, over a unix socket that only its owner may open.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/tell"
)

// Overview is the state of one daemon and its fleets.
type Overview struct {
	Instance string            `json:"instance"`
	TimeZone string            `json:"time_zone"`
	PID      int               `json:"pid"`
	Version  string            `json:"version"`
	Since    time.Time         `json:"since"` // when the daemon took the lead
	Config   string            `json:"config"`
	Identity []config.Fact     `json:"identity"` // what the installation says of itself
	Fleets   []*control.Status `json:"fleets"`
	Raised   []alert.Notice    `json:"alerts"`      // what is the case now
	Untold   int               `json:"undelivered"` // messages that wait for a channel
}

// Explanation is what is known of a fleet at one moment.
type Explanation struct {
	Fleet    string          `json:"fleet"`
	At       time.Time       `json:"at"`
	Decision *fleet.Decision `json:"decision"`         // in force then; nil when nothing was recorded yet
	Readings []record.Sample `json:"readings"`         // of the tick at or before
	Units    []fleet.Unit    `json:"units,omitempty"`  // of the readings, where still configured
	Changes  []fleet.Event   `json:"changes"`          // the latest changes of size and orders before it, newest first
	Status   *control.Status `json:"status,omitempty"` // when asked about now
	// Compare sets what each policy that asks for a size of its own would have used against what the fleet used, up to then.
	Compare []Comparison `json:"compare,omitempty"`
}

// Comparison is the size that one policy alone would have led to, against the size that was, over the same ticks.
type Comparison struct {
	Policy string         `json:"policy"`
	Mode   fleet.Mode     `json:"mode"`
	Span   fleet.Duration `json:"span"`   // that both were recorded in, within the last 24 hours
	Alone  float64        `json:"alone"`  // worker-hours, had the policy alone decided
	Actual float64        `json:"actual"` // worker-hours, as it was
	Min    int            `json:"min"`    // smallest
	Max    int            `json:"max"`    // and largest size had the policy alone decided
}

// Alerts are what people are told.
type Alerts struct {
	Instance string        `json:"instance"`
	TimeZone string        `json:"time_zone"`
	Alerts   []Alert       `json:"alerts"`   // critical first, then the newest
	Channels []tell.Status `json:"channels"` // as configured
}

// Alert is one notice that is the case, or ended within the last hour, and how far each channel has got with it.
type Alert struct {
	alert.Notice
	Told []tell.Telling `json:"told"`
}

// Backend is what the API shows and does.
type Backend interface {
	Overview() Overview
	Events(ctx context.Context, q record.EventQuery) ([]fleet.Event, error)
	// Explain answers for a moment; the zero time is now. It returns control.ErrNoFleet for a fleet never heard of.
	Explain(ctx context.Context, name string, at time.Time) (*Explanation, error)
	Order(ctx context.Context, name string, o engine.Order) (*control.Status, error)
	Alerts() Alerts
	// TestAlerts sends a test message through each channel.
	TestAlerts(ctx context.Context) []tell.Tried
}

// OrderRequest is an operator's word as it is sent. For is how long a hold or a size lasts; nil means until released.
type OrderRequest struct {
	Kind engine.OrderKind `json:"kind"`
	Size int              `json:"size,omitempty"`
	Mode fleet.Mode       `json:"mode"`
	For  *fleet.Duration  `json:"for,omitempty"`
	By   string           `json:"by"`
	Note string           `json:"note,omitempty"`
}

// Problem is an error as RFC 9457 has it.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (p *Problem) Error() string { return p.Detail }

// maxBody bounds what a client may send.
const maxBody = 64 << 10

// API serves the backend.
func API(b Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, b.Overview(), nil)
	})
	mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		q, err := eventQuery(r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		events, err := b.Events(r.Context(), q)
		answer(w, events, err)
	})
	mux.HandleFunc("GET /api/v1/alerts", func(w http.ResponseWriter, r *http.Request) {
		answer(w, b.Alerts(), nil)
	})
	mux.HandleFunc("POST /api/v1/alerts/test", func(w http.ResponseWriter, r *http.Request) {
		answer(w, b.TestAlerts(r.Context()), nil)
	})
	mux.HandleFunc("GET /api/v1/fleets/{fleet}/explanation", func(w http.ResponseWriter, r *http.Request) {
		at, err := queryTime(r, "at")
		if err != nil {
			answer(w, nil, err)
			return
		}
		e, err := b.Explain(r.Context(), r.PathValue("fleet"), at)
		answer(w, e, err)
	})
	mux.HandleFunc("POST /api/v1/fleets/{fleet}/orders", func(w http.ResponseWriter, r *http.Request) {
		var req OrderRequest
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&req); err != nil {
			answer(w, nil, bad("the order cannot be read: "+err.Error()))
			return
		}
		o := engine.Order{Kind: req.Kind, Size: req.Size, Mode: req.Mode, By: req.By, Note: req.Note, At: time.Now().UTC()}
		if o.Kind == engine.NoOrder || (o.Kind == engine.Pin && o.Size < 1) {
			answer(w, nil, bad("an order needs a kind, and scale a size of at least 1"))
			return
		}
		if req.For != nil {
			o.Until = o.At.Add(time.Duration(*req.For))
		}
		st, err := b.Order(r.Context(), r.PathValue("fleet"), o)
		answer(w, st, err)
	})
	return mux
}

func eventQuery(r *http.Request) (q record.EventQuery, err error) {
	v := r.URL.Query()
	q.Fleet = v.Get("fleet")
	for _, k := range v["kind"] {
		q.Kinds = append(q.Kinds, fleet.Kind(k))
	}
	if q.Since, err = queryTime(r, "since"); err != nil {
		return q, err
	}
	if q.Until, err = queryTime(r, "until"); err != nil {
		return q, err
	}
	for name, into := range map[string]*int64{"after": &q.After} {
		if s := v.Get(name); s != "" {
			if *into, err = strconv.ParseInt(s, 10, 64); err != nil || *into < 0 {
				return q, bad(name + ": " + strconv.Quote(s) + " is no event id")
			}
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > 10_000 {
			return q, bad("limit: " + strconv.Quote(s) + " is no count from 1 to 10000")
		}
	}
	return q, nil
}

func queryTime(r *http.Request, name string) (time.Time, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, bad(name + ": " + strconv.Quote(s) + " is no time; write 2027-03-01T07:00:00Z")
	}
	return t.UTC(), nil
}

func bad(detail string) error {
	return &Problem{Title: "Bad Request", Status: http.StatusBadRequest, Detail: detail}
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		p := &Problem{Title: "Internal Server Error", Status: http.StatusInternalServerError, Detail: err.Error()}
		if !errors.As(err, &p) && errors.Is(err, control.ErrNoFleet) {
			p = &Problem{Title: "Not Found", Status: http.StatusNotFound, Detail: err.Error()}
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(p.Status)
		v = p
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
