package proxy

import (
	"context"
	"errors"
	"fmt"
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
		base := s.plan.Load().cfg.Queue.RetryAfter
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
		rw.WriteHeader(status)
		_, _ = fmt.Fprintf(rw, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>%d %s</title><p>%s</p></html>\n", status, http.StatusText(status), text)
		return
	}
	h.Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	if retry > 0 {
		_, _ = fmt.Fprintf(rw, "{\"error\":%q,\"message\":%q,\"retry_after\":%d}\n", word, text, retry)
		return
	}
	_, _ = fmt.Fprintf(rw, "{\"error\":%q,\"message\":%q}\n", word, text)
}
