// Package front writes configuration for those who keep their nginx in front of the workers: limits by class, short caching of public
// pages, a page that tells visitors of the delay, the log format that signals are read from, and time-outs. It writes text and
// changes nothing: what nginx runs is the operator's.
package front

import (
	"bytes"
	_ "embed"
	"fmt"
	"html"
	"slices"
	"strings"
	"text/template"
	"time"

	"tidemark/internal/observe/accesslog"
)

// Snippet is what goes into nginx's configuration.
type Snippet struct {
	HTTP   string `json:"http"`   // into http { ... }
	Server string `json:"server"` // into server { ... }, in the place of its `location /`
}

//go:embed http.conf
var httpText string

//go:embed server.conf
var serverText string

var texts = parse(map[string]string{"http": httpText, "server": serverText})

func parse(parts map[string]string) *template.Template {
	t := template.New("").Funcs(template.FuncMap{"seconds": seconds, "kib": kib, "pattern": pattern})
	for name, text := range parts {
		template.Must(t.New(name).Parse(text))
	}
	return t
}

func seconds(d time.Duration) int { return int(d / time.Second) }
func kib(n int64) int64           { return n >> 10 }

// data are what the templates show.
type data struct {
	Config
	Fleet  string
	ID     string // the fleet's name as part of variables and zones
	Log    string
	Format string
	Ranked []Class
	Routes []route // longest first: a map takes the first that fits
	Pages  []page
}

type route struct{ Path, Class string }

// page is what a client is told in place of an answer.
type page struct {
	Status     int
	Retry      bool
	HTML, JSON string
}

// Render writes the snippet of a fleet of at most so many workers. log is the access log that its signals are read from.
func Render(fleet string, workers int, log string, cfg Config) (Snippet, error) {
	d := data{Config: cfg, Fleet: fleet, ID: strings.ReplaceAll(fleet, "-", "_"), Log: log, Format: accesslog.Tidemark, Ranked: cfg.ranked(workers)}
	for _, c := range d.Ranked {
		for _, r := range c.Routes {
			d.Routes = append(d.Routes, route{r, c.Name})
		}
	}
	slices.SortStableFunc(d.Routes, func(a, b route) int { return len(b.Path) - len(a.Path) })
	for _, p := range []struct {
		status      int
		retry       bool
		title, text string
	}{
		{429, true, "Too Many Requests", "Too many requests come from your address. Please wait a moment."},
		{502, true, "Bad Gateway", "The service cannot be reached. Please try again in a moment."},
		{503, true, "Service Unavailable", "The service is very busy. Please try again in a moment."},
		{504, false, "Gateway Timeout", "The service took too long to answer. What was sent may have been taken all the same."},
	} {
		d.Pages = append(d.Pages, page{
			Status: p.status, Retry: p.retry, HTML: visitors(p.title, p.text, cfg.Message),
			JSON: fmt.Sprintf(`{"title":"%s","status":%d,"detail":"%s"}`, p.title, p.status, p.text),
		})
	}
	var s Snippet
	for name, into := range map[string]*string{"http": &s.HTTP, "server": &s.Server} {
		var b bytes.Buffer
		if err := texts.ExecuteTemplate(&b, name, d); err != nil {
			return Snippet{}, fmt.Errorf("write the %s part: %w", name, err)
		}
		*into = b.String()
	}
	return s, nil
}

// visitors writes a page that can stand between nginx's single quotes.
func visitors(title, text, message string) string {
	s := "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>" + title +
		"</title><style>body{margin:0;display:grid;min-height:100vh;place-items:center;background:#eef4f4;color:#12343b;font:1.1rem/1.5 sans-serif}" +
		"main{max-width:32rem;margin:1rem;padding:1.5rem 2rem;background:#fff;border-top:.4rem solid #1c7c84}h1{margin:0;font-size:1.3rem}</style><main><h1>" + text + "</h1>"
	if message != "" {
		plain := strings.Join(strings.Fields(strings.ToValidUTF8(message, "?")), " ")
		s += "<p>" + strings.NewReplacer("$", "&#36;", `\`, "&#92;").Replace(html.EscapeString(plain)) + "</p>"
	}
	return s + "</main></html>"
}
