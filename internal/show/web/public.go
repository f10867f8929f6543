package web

import (
	"html/template"
	"net/http"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
)

// Public is what the public may know of the service: no names and no figures.
type Public struct {
	State   string    `json:"state"` // normal, slow, degraded or unknown
	Message string    `json:"message"`
	At      time.Time `json:"at"`
}

// The states, the worst last.
var publicStates = []Public{
	{State: "normal", Message: "The service works as it should."},
	{State: "unknown", Message: "It is not known at the moment how the service works."},
	{State: "slow", Message: "The service is slower than usual. What you send is kept; please allow more time."},
	{State: "degraded", Message: "The service is disturbed. Some requests may fail; please try again later."},
}

const (
	normal = iota
	unknown
	slow
	degraded
)

// PublicStatus sums up an overview: degraded when a fleet serves nobody, has fewer workers than its minimum and cannot get them, or a
// critical alert is raised; slow when a response time is above what its rules or its objective allow, or a fleet at its maximum needs
// more; unknown when a fleet is not seen.
func PublicStatus(o *Overview, now time.Time) Public {
	worst := normal
	for _, st := range o.Fleets {
		worst = max(worst, stateOf(st, now))
	}
	for i := range o.Raised {
		if o.Raised[i].Severity == alert.Critical {
			worst = degraded
		}
	}
	p := publicStates[worst]
	p.At = now
	return p
}

func stateOf(st *control.Status, now time.Time) int {
	switch {
	case !st.Size.Known, now.Sub(st.Time) > max(4*time.Duration(st.Tick), time.Minute):
		return unknown
	case st.Size.Serving == 0, st.Size.Workers() < st.Bounds.Min && st.ActionErr != "":
		return degraded
	case st.Short > 0:
		return slow
	}
	for _, o := range st.Objectives {
		if o.Measured.Quality == fleet.Fresh && o.Measured.Value > o.Within {
			return slow
		}
	}
	for i := range st.Rules {
		if r := &st.Rules[i]; r.Unit == fleet.Seconds && r.Change > 0 && r.State == fleet.Alarm {
			return slow
		}
	}
	return normal
}

func (a *API) public() Public {
	o := a.b.Overview()
	return PublicStatus(&o, time.Now().UTC().Truncate(time.Second))
}

func (a *API) publicStatus(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	Answer(w, r, a.public(), nil)
}

// bannerPage has its style in itself, so that it can be framed; the policy allows just that.
var bannerPage = template.Must(template.New("banner").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="60"><title>Service status</title>
<style>:root{color-scheme:light dark}body{margin:0;font:1rem/1.4 system-ui,sans-serif}p{margin:0;padding:.6rem 1rem;background:#fff4dc;color:#6b4100}p.degraded{background:#fdeeee;color:#a3161a}
@media(prefers-color-scheme:dark){p{background:#33270f;color:#f3c677}p.degraded{background:#351c1d;color:#ffa29b}}</style></head>
<body>{{if ne .State "normal"}}<p class="{{.State}}" role="status">{{.Message}}</p>{{end}}</body></html>
`))

func (a *API) banner(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'")
	h.Del("X-Frame-Options")
	h.Set("Cache-Control", "public, max-age=15")
	_ = bannerPage.Execute(w, a.public()) // the client may be gone
}
