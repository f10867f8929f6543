package journey

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/prove/http1"
	"tidemark/internal/prove/outcome"
)

// play plays a journey once against a server and returns what came of it.
func play(t *testing.T, h http.HandlerFunc, j Journey, vars map[string]any) (Visit, []*Request, *User) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	target, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for name := range vars {
		known = append(known, name)
	}
	p, err := Compile(j, known, []string{"phones"})
	if err != nil {
		t.Fatal(err)
	}
	var all []*Request
	client := http1.New(target, nil, nil)
	t.Cleanup(client.Close)
	u, err := p.NewUser(&Site{Target: target, Client: client, Timeout: 5 * time.Second, Vars: vars, Each: func(r *Request) { copied := *r; all = append(all, &copied) },
		Data: map[string][]map[string]string{"phones": {{"secret": "s1"}, {"secret": "s2"}}}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	return u.Play(t.Context(), nil, time.Now(), 1, 1, nil), all, u
}

func TestStateGoesFromStepToStep(t *testing.T) {
	var asked []string
	v, all, _ := play(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization")+" "+r.Header.Get("Cookie")+" "+string(body)))
		switch r.URL.Path {
		case "/login":
			http.SetCookie(w, &http.Cookie{Name: "sid", Value: "c1"})
			w.Header().Set("ETag", `"7"`)
			io.WriteString(w, `{"token": "t0", "list": [{"uid": "a b"}], "page": "<input name=\"csrf\" value=\"x9\">"}`)
		case "/page":
			io.WriteString(w, `{"more": `+map[string]string{"0": "true", "1": "false"}[r.URL.Query().Get("n")]+`}`)
		}
	}, Journey{Name: "j", Set: map[string]string{"b": "{{.a}}!", "a": "{{.colour}}"}, Steps: []Step{
		{Name: "login", Path: "/login", Form: map[string]string{"name": "{{.b}}", "secret": `{{index (data "phones") "secret"}}`}, Extract: map[string]Extract{
			"token": {JSON: "/token"}, "uid": {JSON: "/list/0/uid"}, "csrf": {Regexp: `csrf\\" value=\\"(\w+)`}, "etag": {Header: "ETag"}, "sid": {Cookie: "sid"}}},
		{Name: "use", Path: "/use/{{urlquery .uid}}?c={{.csrf}}", Headers: map[string]string{"authorization": "Bearer {{.token}}", "X-Empty": "{{with .none}}{{.}}{{end}}"}, Body: `{"v": {{json .etag}}}`, Method: "PUT", Creates: "x/{{.uid}}"},
		{Name: "page", Path: "/page?n={{.round}}", While: "{{.more}}", Extract: map[string]Extract{"more": {JSON: "/more"}}},
		{Name: "left out", Path: "/never", If: `{{eq .token "other"}}`},
		{Name: "twice", Path: "/twice/{{add .round 1}}", Times: "{{.n}}"},
	}}, map[string]any{"colour": "red", "n": "2", "none": ""})
	want := []string{
		"POST /login   name=red%21&secret=s2",
		`PUT /use/a+b?c=x9 Bearer t0 sid=c1 {"v": "\"7\""}`,
		"GET /page?n=0  sid=c1", "GET /page?n=1  sid=c1", "GET /twice/1  sid=c1", "GET /twice/2  sid=c1",
	}
	if v.Failed || strings.Join(asked, "\n") != strings.Join(want, "\n") || len(all) != len(want) {
		t.Errorf("%+v\n%s\nwant\n%s", v, strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
	if strings.Join(v.Created, " ") != "x/a b" {
		t.Errorf("created %v", v.Created)
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	for _, c := range []struct {
		name  string
		step  Step
		class outcome.Class
		words string
	}{
		{"refused", Step{Path: "/404"}, outcome.FailedClient, "answered 404 Not Found"},
		{"broken", Step{Path: "/500"}, outcome.FailedServer, "answered 500"},
		{"another status", Step{Path: "/200", Check: Check{Status: []int{201}}}, outcome.FailedCheck, "answered 200"},
		{"another body", Step{Path: "/200", Check: Check{Body: "wonderful"}}, outcome.FailedCheck, "does not match"},
		{"an error in a 200", Step{Path: "/200", Check: Check{Not: "good"}}, outcome.FailedCheck, "matches good"},
		{"no value", Step{Path: "/200", Extract: map[string]Extract{"x": {JSON: "/x"}}}, outcome.FailedCheck, "extract x"},
		{"cut", Step{Path: "/cut"}, outcome.FailedReset, ""},
		{"slow", Step{Path: "/slow", Timeout: 50 * time.Millisecond}, outcome.FailedTimeout, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.step.Name = "s"
			v, all, _ := play(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/404":
					w.WriteHeader(http.StatusNotFound)
				case "/500":
					w.WriteHeader(http.StatusInternalServerError)
				case "/cut":
					panic(http.ErrAbortHandler)
				case "/slow":
					<-r.Context().Done()
				default:
					io.WriteString(w, `{"good": 1}`)
				}
			}, Journey{Name: "j", Steps: []Step{c.step, {Name: "after", Path: "/200"}}}, nil)
			if !v.Failed || len(all) != 1 || all[0].Class != c.class || !strings.Contains(v.Err.Error(), c.words) {
				t.Errorf("%+v, %d requests, %+v", v, len(all), all[0])
			}
		})
	}
}

func TestRetriesAreRequestsToo(t *testing.T) {
	var n atomic.Int64
	v, all, _ := play(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if n.Add(1) < 3 || string(body) != "again" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}, Journey{Name: "j", Steps: []Step{{Name: "s", Path: "/", Body: "again", Retry: Retry{Status: []int{503}, Times: 5, Wait: time.Millisecond}}}}, nil)
	if v.Failed || len(all) != 3 || all[0].Class != outcome.FailedServer || all[2].Class != "" {
		t.Errorf("%+v, %d requests", v, len(all))
	}
}

// The same seed and visit draw the same; another visit draws otherwise.
func TestSameSeedAsksTheSame(t *testing.T) {
	var asked []string
	_, _, u := play(t, func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Path) },
		Journey{Name: "j", Steps: []Step{{Name: "s", Path: `/{{uuid}}/{{int 1 1000000}}/{{letters 6}}/{{day 1950 2000}}/{{pick "a" "b"}}`}}}, nil)
	for _, visit := range []uint64{1, 2} {
		u.Play(t.Context(), nil, time.Now(), 1, visit, nil)
	}
	if asked[0] != asked[1] || asked[1] == asked[2] {
		t.Error(asked)
	}
}

func TestInterruptedIsNobodysFault(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer srv.Close()
	target, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(Journey{Name: "j", Steps: []Step{{Name: "s", Path: "/"}}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got *Request
	u, err := p.NewUser(&Site{Target: target, Client: http1.New(target, nil, nil), Timeout: time.Minute, Each: func(r *Request) { got = r }}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if v := u.Play(ctx, nil, time.Now(), 1, 1, nil); !v.Interrupted || v.Failed || !got.Interrupted || got.Class != "" {
		t.Errorf("%+v %+v", v, got)
	}
}
