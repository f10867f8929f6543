package prometheus

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/httpget"
	"tidemark/internal/observe/httpget/httpgettest"
	"tidemark/internal/observe/observetest"
)

var _ config.SignalBody = (*Config)(nil)

// net/http lingers half a second on a connection that it has refused; that is longer than goleak waits.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// answer writes what a server says: series as name{labels}, part and value in turns.
func answer(series ...string) string {
	var out []string
	for i := 0; i < len(series); i += 3 {
		out = append(out, fmt.Sprintf(`{"metric":{%s,"tidemark_part":%q},"value":[1800000000.123,%q]}`, series[i], series[i+1], series[i+2]))
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(out, ",") + `]}}`
}

const sessions = `"__name__":"sessions","job":"odoo"`

func TestAnswers(t *testing.T) {
	plain, step := Config{MaxAge: 2 * time.Minute}, Config{MaxAge: 2 * time.Minute, Step: 15 * time.Second}
	for _, c := range []struct {
		name string
		cfg  Config
		body string
		q    fleet.Quality
		want float64
		err  string
	}{
		{"a value", plain, answer(sessions, value, "17", `"job":"odoo"`, age, "3.5"), fleet.Fresh, 17, ""},
		{"as old as is allowed", plain, answer(sessions, value, "-1.5e3", `"job":"odoo"`, age, "120"), fleet.Fresh, -1500, ""},
		{"older", plain, answer(sessions, value, "17", `"job":"odoo"`, age, "120.01"), fleet.Stale, 0, "the last sample is 2m old, and max_age is 2m"},
		{"a quantile", step, answer(sessions, value, "17", sessions, age, "0", sessions, count, "3"), fleet.Fresh, 17, ""},
		{"of too few", step, answer(sessions, value, "17", sessions, age, "0", sessions, count, "2"), fleet.Sparse, 17, ""},
		{"that has ended", step, answer(sessions, value, "17", sessions, count, "20"), fleet.Stale, 0, "the series has ended"},
		{"nothing", plain, answer(), fleet.Missing, 0, "the query returns no series"},
		{"NaN", plain, answer(sessions, value, "NaN", sessions, age, "0"), fleet.Missing, 0, `sessions{job="odoo"} is no figure: it is NaN`},
		{"infinite", plain, answer(sessions, value, "+Inf", sessions, age, "0"), fleet.Missing, 0, "is no figure: it is +Inf"},
		{"no number", plain, answer(sessions, value, "many", sessions, age, "0"), fleet.Missing, 0, `is no figure: "many"`},
		{"a histogram", plain, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"tidemark_part":"value"},"histogram":[1800000000,{"count":"5"}]}]}}`, fleet.Missing, 0, "it has no value"},
		{"two series", plain, answer(`"a":"2"`, value, "NaN", `"a":"1"`, value, "1", `"a":"2"`, age, "1", `"a":"1"`, age, "1"), fleet.Missing, 0, `the query returns 2 series: {a="1"}, {a="2"}; choose one by its labels, or add them up by sum()`},
		{"five series", plain, answer(`"a":"5"`, value, "1", `"a":"4"`, value, "1", `"a":"3"`, value, "1", `"a":"2"`, value, "1", `"a":"1"`, value, "1"), fleet.Missing, 0, `the query returns 5 series: {a="1"}, {a="2"}, {a="3"}, ...; choose`},
		{"refused", plain, `{"status":"error","errorType":"bad_data","error":"2:5: parse error: unexpected end"}`, fleet.Missing, 0, "the server refuses the query, which must return an instant vector: 2:5: parse error"},
		{"half of the data", plain, `{"status":"success","warnings":["store 10.0.0.7 is away"],` + answer(sessions, value, "1", sessions, age, "0")[len(`{"status":"success",`):], fleet.Missing, 0, "may not be complete: store 10.0.0.7 is away"},
		{"another program's JSON", plain, `{"error": "no"}`, fleet.Missing, 0, "not that of a Prometheus server"},
		{"a matrix", plain, `{"status":"success","data":{"resultType":"matrix","result":[]}}`, fleet.Missing, 0, "not that of a Prometheus server"},
		{"a scalar", plain, `{"status":"success","data":{"resultType":"scalar","result":[1800000000,"5"]}}`, fleet.Missing, 0, "not that of a Prometheus server"},
		{"no JSON", plain, `17`, fleet.Missing, 0, "not that of a Prometheus server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httpgettest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/prom/api/v1/query" || r.FormValue("query") == "" {
					t.Errorf("asked for %s", r.URL)
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, c.body)
			}))
			c.cfg.URL, c.cfg.Query, c.cfg.Server.Timeout = s.URL()+"/prom/", "sessions", 5*time.Second
			at := time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)
			r, err := New(c.cfg, 0.95, time.Minute, 3).Read(t.Context(), fleet.Scene{Now: at})
			if r != (fleet.Reading{Value: c.want, Time: at, Quality: c.q}) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v, %v; want %v %v %q", r, err, c.q, c.want, c.err)
			}
		})
	}
}

func good(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer(sessions, value, "17", `"job":"odoo"`, age, "3.5"))
}

func TestFaults(t *testing.T) {
	httpgettest.Run(t, http.HandlerFunc(good), func(url string, server httpget.Config) httpgettest.Source {
		c := DefaultConfig()
		c.URL, c.Query, c.Server = url, "sessions", server
		return New(c, 0, 0, 0)
	})
}

func TestConform(t *testing.T) {
	observetest.Conform(t, func(t *testing.T) observetest.Subject {
		s := httpgettest.Serve(t, http.HandlerFunc(good))
		c := DefaultConfig()
		c.URL, c.Query, c.Server.Timeout = s.URL(), "sessions", 5*time.Second
		return observetest.Subject{
			Source:    New(c, 0, 0, 0),
			Plausible: func(v float64) bool { return v == 17 },
			Break:     func(*testing.T) { s.Stop() },
			Mend:      func(*testing.T) { s.Start() },
			Hang: func(*testing.T) func() {
				s.Behave(httpgettest.Freeze)
				return func() { s.Behave(nil) }
			},
			Close: s.Stop,
		}
	})
}

func TestValidate(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := DefaultConfig()
		c.URL, c.Query = "http://127.0.0.1:9090", "up"
		change(&c)
		return c
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{with(func(*Config) {}), "<nil>"},
		{with(func(c *Config) { c.URL, c.Step = "https://host/prometheus/", time.Minute }), "<nil>"},
		{with(func(c *Config) { c.URL = "" }), "url: is missing; write the address, such as http://127.0.0.1:9090"},
		{with(func(c *Config) { c.URL += "/api/v1/query" }), "url: holds more than the server's address; leave out what begins with /api/v1, and write query beside url"},
		{with(func(c *Config) { c.Query = " \n" }), "query: is missing; write a PromQL expression of one series, such as sum(active_mobile_sync_sessions)"},
		{with(func(c *Config) { c.Query = strings.Repeat("x", 2001) }), "query: has 2001 bytes, and at most 2000 can be sent; make it a recording rule of the server"},
		{with(func(c *Config) { c.Step = 1500 * time.Millisecond }), "step: 1.5s is out of range; write 1s to 1h, in whole seconds"},
		{with(func(c *Config) { c.Step = -time.Second }), "step: -1s is out of range; write 1s to 1h, in whole seconds"},
		{with(func(c *Config) { c.MaxAge = 0 }), "max_age: 0s is out of range; write 1s to 1h"},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	instant, windowed := with(func(c *Config) { c.MeasuredIn = fleet.Seconds }), with(func(c *Config) { c.Step = time.Second })
	if instant.Unit() != fleet.Seconds || instant.Distribution() || !windowed.Distribution() || instant.PerWorker() {
		t.Error("what the signal is")
	}
}

func TestTheEndOfTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := DefaultConfig()
	c.URL, c.Query = "http://192.0.2.1", "up"
	if r, err := New(c, 0, 0, 0).Read(ctx, fleet.Scene{}); err == nil || r.Quality != fleet.Missing {
		t.Errorf("%+v, %v", r, err)
	}
}

// Whatever a server says, a figure is a number.
func FuzzParts(f *testing.F) {
	f.Add([]byte(answer(sessions, value, "17", `"job":"odoo"`, age, "3.5")))
	f.Add([]byte(answer(sessions, value, "NaN")))
	f.Add([]byte(`{"status":"error","error":"x"}`))
	f.Add([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":null,"value":[]}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		said, err := parts(body)
		if err != nil {
			return
		}
		for part, v := range said {
			if v != v || v-v != 0 {
				t.Errorf("%q is %v", part, v)
			}
		}
	})
}
