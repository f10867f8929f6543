package serve

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// requestStart is the header in which a proxy says when it passed the request on. nginx:
	//
	//	proxy_set_header X-Request-Start "t=${msec}";
	requestStart = "X-Request-Start"
	// longestWait is the longest wait that is believed. What claims to be older comes from a clock that was set.
	longestWait = 5 * time.Minute
	// longestRetry is the most that a client is asked to stay away.
	longestRetry = 30 * time.Second
)

// Shed answers a request that has waited for longer than limit with 503 and Retry-After instead of passing it to h: its
// client is about to give up, and time spent on it is missing to those behind it. How long it waited, in the accept
// queue before a worker was free, only the proxy in front can know; a request that has no X-Request-Start, or one
// from the future or from more than five minutes ago, is served. A limit of 0 sheds nothing.
//
// Retry-After is what the request has waited, in whole seconds, at most 30: when the queue in front of it has passed.
func Shed(limit time.Duration, h http.Handler) http.Handler {
	if limit <= 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waited, known := waited(r.Header.Get(requestStart), time.Now())
		if !known || waited <= limit {
			h.ServeHTTP(w, r)
			return
		}
		head := w.Header()
		head.Set("Retry-After", strconv.Itoa(int(math.Ceil(min(waited, longestRetry).Seconds()))))
		head.Set("Content-Type", "application/problem+json")
		head.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"The request waited too long for a free worker. Send it again after the time that Retry-After says."}`)
	})
}

// waited is how long before now the start in the header lies: "t=", which may be missing, and seconds since 1970 with
// their fraction.
func waited(header string, now time.Time) (time.Duration, bool) {
	start, err := strconv.ParseFloat(strings.TrimPrefix(header, "t="), 64)
	if err != nil {
		return 0, false
	}
	wait := float64(now.UnixMicro())/1e6 - start
	if !(wait >= 0 && wait <= longestWait.Seconds()) { // NaN is neither
		return 0, false
	}
	return time.Duration(wait * float64(time.Second)), true
}
