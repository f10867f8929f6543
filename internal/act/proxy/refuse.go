package proxy

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// refusals are the answers that the proxy gives itself.
var refusals = []struct {
	err    error
	status int
	word   string // for programs
	text   string // for people
}{
	{errShed, http.StatusServiceUnavailable, "busy", "The service is very busy. Please try again in a moment."},
	{errTooLong, http.StatusServiceUnavailable, "queue_timeout", "The service is very busy. Please try again in a moment."},
	{errClosed, http.StatusServiceUnavailable, "stopping", "The service is restarting. Please try again in a moment."},
	{errTimeout, http.StatusGatewayTimeout, "timeout", "The service took too long to answer."},
	{errSlowBody, http.StatusRequestTimeout, "slow_request", "The request did not arrive in time."},
}

// failed answers a request that no worker answered. It is ReverseProxy's ErrorHandler.
func (s *Server) failed(rw http.ResponseWriter, r *http.Request, err error) {
	f, ok := r.Context().Value(flightKey{}).(*flight)
	if !ok {
		http.Error(rw, "internal error", http.StatusInternalServerError)
		return
	}
	if errors.Is(context.Cause(f.Context), errTimeout) {
		err = errTimeout
	}
	if errors.Is(err, errClientGone) || f.client.Err() != nil && !errors.Is(err, errSlowBody) {
		f.out.status = 0 // nobody is there to be answered
		panic(http.ErrAbortHandler)
	}
	f.out.shed, f.out.timedOut = errors.Is(err, errShed), errors.Is(err, errTooLong)
	f.out.served = errors.Is(err, errTimeout)
	status, word, text := http.StatusBadGateway, "bad_gateway", "The service could not answer. Please try again."
	for _, x := range refusals {
		if errors.Is(err, x.err) {
			status, word, text = x.status, x.word, x.text
			break
		}
	}
	h := rw.Header()
	retry := 0
	if status == http.StatusServiceUnavailable {
		base := f.class.retry
		var late *tooLong
		if errors.As(err, &late) {
			base = min(max(base, late.over), time.Hour)
		}
		retry = int((base + rand.N(base) + time.Second - 1) / time.Second)
		h.Set("Retry-After", strconv.Itoa(retry))
	}
	if f.worker != nil && f.header {
		h["X-Tidemark-Worker"] = f.worker.header
	}
	h.Set("Cache-Control", "no-store")
	f.out.status = status
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		rw.WriteHeader(status)
		p := page{Title: http.StatusText(status), Text: text, Retry: retry, Again: retry > 0 && r.Method == http.MethodGet}
		if status == http.StatusServiceUnavailable {
			p.Message = s.plan.Load().cfg.Message
		}
		_ = busyPage.Execute(rw, p) // the client may be gone
		return
	}
	h.Set("Content-Type", "application/problem+json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(problem{http.StatusText(status), status, text, word, retry})
}

// problem is an answer for programs, as RFC 9457 has it.
type problem struct {
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"`
	Code       string `json:"code"`
	RetryAfter int    `json:"retry_after,omitempty"` // seconds
}

// page is an answer for people.
type page struct {
	Title, Text, Message string
	Retry                int  // seconds
	Again                bool // the page asks again by itself
}

//go:embed busy.html
var busyText string

var busyPage = template.Must(template.New("busy").Parse(busyText))
