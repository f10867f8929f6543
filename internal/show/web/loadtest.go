package web

import (
	"cmp"
	"context"
	"net/http"
	"time"
)

// LoadTestPattern is where a load test tells how it goes. Only the operator's socket serves it: it is the word of who plays the load.
const LoadTestPattern = "PUT " + loadTestPath

const loadTestPath = "/api/v1/loadtest"

// loadTestFor is how long a load test counts as going on after it was heard.
const loadTestFor = 10 * time.Second

// LoadTest is how a load test goes, in a line.
type LoadTest struct {
	Scenario string `json:"scenario"`
	Line     string `json:"line"`
}

type heard struct {
	LoadTest
	at time.Time
}

// HearLoadTest takes what a load test says, once a second.
func (a *API) HearLoadTest(w http.ResponseWriter, r *http.Request) {
	var t LoadTest
	err := read(w, r, &t)
	if err == nil {
		err = cmp.Or(plain("scenario", t.Scenario, mostBy), plain("line", t.Line, mostNote))
	}
	if err == nil {
		a.test.Store(&heard{t, time.Now()})
	}
	Answer(w, r, t, err)
}

// LoadTest is the load test that goes on, nil when none was heard lately.
func (a *API) LoadTest() *LoadTest {
	if h := a.test.Load(); h != nil && time.Since(h.at) < loadTestFor {
		return &h.LoadTest
	}
	return nil
}

// TellLoadTest tells the daemon how a load test goes, so that its pages show it.
func (c *Client) TellLoadTest(ctx context.Context, t LoadTest) error {
	return c.do(ctx, http.MethodPut, loadTestPath, nil, t, nil)
}
