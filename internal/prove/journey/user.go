package journey

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"tidemark/internal/prove/http1"
	"tidemark/internal/prove/outcome"
)

// Request is one request's fate. Times are those of the clock.
type Request struct {
	Step           int
	Due, Sent, End time.Time
	Status         int // 0 when no answer came
	Worker         string
	Server         string // what it says of itself, when the journey is played in a hurry
	Bytes          int64
	Class          outcome.Class // empty: it was good
	Interrupted    bool
	Err            error
}

// Visit is what came of a journey that was played once.
type Visit struct {
	Took        time.Duration // from the time it was due, without thinking
	Failed      bool
	Interrupted bool
	Err         error // why it failed
	Step        int   // at which it ended
	Created     []string
}

// Site is what a user's requests go to, and how.
type Site struct {
	Target    *url.URL // scheme, host, and a path that is put before each step's
	Client    *http1.Client
	Timeout   time.Duration // of a request, where its step says none
	Vars      map[string]any
	Data      map[string][]map[string]string // rows of the data files by name
	Each      func(*Request)                 // hears of each request that ended; it is used again
	UserAgent string
}

// User plays one journey, again and again. It is used by one goroutine at a time.
type User struct {
	// Awaited: the schedule says when a visit begins, and making its first request is the generator's own delay. Otherwise the user
	// asks when the request is made.
	Awaited bool
	*Program
	site    *Site
	number  int
	visit   uint64
	rng     *rand.Rand
	source  *rand.PCG
	root    *template.Template
	vars    map[string]any
	kept    map[string]any // from visit to visit
	cookies map[string]string
	base    string // path of the target, before each step's
	sending http1.Request
	asked   Request
	buf     bytes.Buffer
}

// NewUser makes a user; number counts from 1.
func (p *Program) NewUser(site *Site, number int) (*User, error) {
	u := &User{Program: p, site: site, number: number, source: new(rand.PCG), vars: map[string]any{}, kept: map[string]any{}, cookies: map[string]string{}}
	if site.Target.Path != "" {
		u.base = strings.TrimSuffix(site.Target.EscapedPath(), "/")
	}
	for _, name := range p.Keep {
		u.kept[name] = "" // nothing yet
	}
	u.rng = rand.New(u.source)
	if len(p.root.Templates()) == 0 {
		return u, nil
	}
	root, err := p.root.Clone()
	if err != nil {
		return nil, err
	}
	u.root = root.Funcs(functions(u))
	return u, nil
}

// maxAnswer bounds the answers that are looked at.
const maxAnswer = 64 << 20

// Play plays the journey once. due is when its first step's thinking begins; seed and visit decide what is drawn. When ctx ends, requests
// are cut; when stop is closed, no more is begun.
func (u *User) Play(ctx context.Context, stop <-chan struct{}, due time.Time, seed, visit uint64, more map[string]any) (v Visit) {
	u.source.Seed(seed, visit)
	u.visit = visit
	clear(u.vars)
	maps.Copy(u.vars, u.site.Vars)
	maps.Copy(u.vars, more)
	u.vars["round"] = 0
	maps.Copy(u.vars, u.kept)
	if !slices.Contains(u.Keep, cookies) {
		clear(u.cookies)
	}
	defer u.remember()
	start, thought := due, time.Duration(0)
	end := due
	fail := func(step int, err error) Visit {
		v.Failed, v.Err, v.Step = true, err, step
		v.Took = end.Sub(start) - thought
		return v
	}
	for _, s := range u.set {
		value, err := u.render(s.text)
		if err != nil {
			return fail(0, fmt.Errorf("set %s: %w", s.name, err))
		}
		u.vars[s.name] = value
	}
	for i := range u.steps {
		s := &u.steps[i]
		times, err := u.times(s)
		if err != nil {
			return fail(i, err)
		}
		for round := 0; round < times; round++ {
			u.vars["round"] = round
			if !s.if_.empty() {
				yes, err := u.render(s.if_)
				if err != nil {
					return fail(i, fmt.Errorf("if: %w", err))
				}
				if !truth(yes) {
					break
				}
			}
			think := s.Think.draw(u.rng)
			if u.hasty {
				think = 0
			}
			due = end.Add(think)
			thought += think
			err = u.build(s)
			if now := time.Now(); now.After(due) && (!u.Awaited || i > 0 || round > 0) {
				due = now
			}
			if !sleep(ctx, stop, due) {
				v.Interrupted, v.Step = true, i
				return v
			}
			req, err := u.attempts(ctx, stop, i, s, err, due)
			end = req.End
			if req.Interrupted {
				v.Interrupted, v.Step = true, i
				return v
			}
			if err != nil {
				return fail(i, err)
			}
			if !s.creates.empty() {
				ids, err := u.render(s.creates)
				if err != nil {
					return fail(i, fmt.Errorf("creates: %w", err))
				}
				v.Created = append(v.Created, strings.Fields(ids)...)
			}
			if !s.while.empty() {
				more, err := u.render(s.while)
				if err != nil {
					return fail(i, fmt.Errorf("while: %w", err))
				}
				if !truth(more) {
					break
				}
			}
		}
	}
	v.Took = end.Sub(start) - thought
	return v
}

// remember keeps what the journey keeps from one visit to the next.
func (u *User) remember() {
	for _, name := range u.Keep {
		if name == cookies {
			continue
		}
		if v, ok := u.vars[name]; ok {
			u.kept[name] = v
		}
	}
}

// Extracted is what the steps of the last visit have found.
func (u *User) Extracted() map[string]any {
	out := map[string]any{}
	for _, s := range u.steps {
		for _, e := range s.extract {
			if v, ok := u.vars[e.name]; ok {
				out[e.name] = v
			}
		}
	}
	return out
}

// times is how often a step may be done.
func (u *User) times(s *step) (int, error) {
	switch {
	case !s.times.empty():
		t, err := u.render(s.times)
		if err != nil {
			return 0, fmt.Errorf("times: %w", err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(t))
		if err != nil || n < 0 || n > maxRepeat {
			return 0, fmt.Errorf("times: %q is no count from 0 to %d", t, maxRepeat)
		}
		return n, nil
	case s.Repeat > 0:
		return s.Repeat, nil
	case !s.while.empty():
		return maxRepeat, nil
	}
	return 1, nil
}

func (s Span) draw(rng *rand.Rand) time.Duration {
	if s.To > s.From {
		return s.From + time.Duration(rng.Int64N(int64(s.To-s.From)))
	}
	return s.From
}

// Pause draws how long the user stays away.
func (u *User) Pause(s Span) time.Duration { return s.draw(u.rng) }

// sleep waits until a time; false when there is no more to be begun.
func sleep(ctx context.Context, stop <-chan struct{}, until time.Time) bool {
	left := time.Until(until)
	if left <= 0 {
		select {
		case <-stop:
			return false
		default:
			return ctx.Err() == nil
		}
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		return false
	case <-ctx.Done():
		return false
	}
}

// attempts does a step's request, again where it may be sent again. The error says why the step failed.
func (u *User) attempts(ctx context.Context, stop <-chan struct{}, i int, s *step, unmade error, due time.Time) (*Request, error) {
	for try := 0; ; try++ {
		r, retry, err := u.request(ctx, i, s, unmade, due)
		u.site.Each(r)
		again := try < s.Retry.Times && (slices.Contains(s.retries, r.Status) || r.Status == 0)
		if err == nil || r.Interrupted || !again {
			return r, err
		}
		due = r.End.Add(max(s.Retry.Wait, retry))
		if !sleep(ctx, stop, due) {
			r.Interrupted = true
			return r, err
		}
	}
}

// request sends one request and takes in the answer. unmade says why there is none to send.
func (u *User) request(ctx context.Context, i int, s *step, unmade error, due time.Time) (r *Request, retry time.Duration, err error) {
	r = &u.asked
	*r = Request{Step: i, Due: due}
	end := func(class outcome.Class, err error) (*Request, time.Duration, error) {
		r.End, r.Class, r.Err = time.Now(), class, err
		if ctx.Err() != nil && err != nil {
			r.Class, r.Interrupted = "", true
		}
		return r, retry, err
	}
	timeout := u.site.Timeout
	if s.Timeout > 0 {
		timeout = s.Timeout
	}
	r.Sent = time.Now()
	if unmade != nil {
		return end(outcome.FailedOther, unmade)
	}
	resp, err := u.site.Client.Do(ctx, r.Sent.Add(timeout), &u.sending)
	if err != nil {
		return end(Classify(err), err)
	}
	r.Status, r.Worker = resp.Status, resp.Get("X-Worker")
	if u.hasty {
		r.Server = resp.Get("Server")
	}
	body, err := u.read(s, resp, r)
	if err != nil {
		return end(Classify(err), err)
	}
	seconds, _ := strconv.Atoi(resp.Get("Retry-After")) // absent, or a date: the journey's own wait
	retry = time.Duration(min(max(seconds, 0), 300)) * time.Second
	u.keep(resp)
	if class, err := u.judge(s, resp.Status, body); err != nil {
		return end(class, err)
	}
	if err := u.extract(s, resp, body); err != nil {
		return end(outcome.FailedCheck, err)
	}
	return end("", nil)
}

func (u *User) judge(s *step, status int, body []byte) (outcome.Class, error) {
	good := slices.Contains(s.statuses, status) || len(s.statuses) == 0 && status >= 200 && status < 400
	switch {
	case !good && status >= 500:
		return outcome.FailedServer, statusError(status, body)
	case !good && status >= 400:
		return outcome.FailedClient, statusError(status, body)
	case !good:
		return outcome.FailedCheck, statusError(status, body)
	case s.match != nil && !s.match.Match(body):
		return outcome.FailedCheck, fmt.Errorf("the answer does not match %s: %s", s.match, excerpt(body))
	case s.mismatch != nil && s.mismatch.Match(body):
		return outcome.FailedCheck, fmt.Errorf("the answer matches %s: %s", s.mismatch, excerpt(body))
	}
	return "", nil
}

func statusError(status int, body []byte) error {
	text := fmt.Sprintf("answered %d %s", status, http.StatusText(status))
	if len(body) > 0 {
		text += ": " + excerpt(body)
	}
	return errors.New(text)
}

// excerpt is the beginning of an answer, on one line.
func excerpt(body []byte) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), 200)]), "�")), " ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '�'
		}
		return r
	}, text)
}

// build makes a step's request.
func (u *User) build(s *step) error {
	path, err := u.render(s.path)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	target := s.target
	if target == "" {
		if target, err = escaped(path); err != nil {
			return err
		}
	}
	q := &u.sending
	q.Method, q.Target, q.Fields = s.method, u.base+target, q.Fields[:0]
	for _, h := range s.headers {
		value, err := u.render(h.text)
		if err != nil {
			return fmt.Errorf("header %s: %w", h.name, err)
		}
		if value != "" && (h.name != "Cookie" || len(u.cookies) == 0) {
			q.Fields = append(q.Fields, http1.Field{Name: h.name, Value: value})
		}
	}
	if u.site.UserAgent != "" {
		u.field("User-Agent", u.site.UserAgent)
	}
	if len(u.cookies) > 0 {
		var all []string
		for _, name := range sorted(u.cookies) {
			all = append(all, name+"="+u.cookies[name])
		}
		u.field("Cookie", strings.Join(all, "; "))
	}
	if s.Gzip {
		u.field("Accept-Encoding", "gzip")
	}
	q.Body, err = u.body(s)
	return err
}

// escaped is a path, with its query, as a request line has it.
func escaped(path string) (string, error) {
	ref, err := url.Parse(path)
	if err != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return "", fmt.Errorf("path: %q is no path", path)
	}
	return (&url.URL{Path: ref.Path, RawQuery: ref.RawQuery}).RequestURI(), nil
}

// field adds a line to the header that is sent, where the scenario does not write it itself.
func (u *User) field(name, value string) {
	if !slices.ContainsFunc(u.sending.Fields, func(f http1.Field) bool { return f.Name == name }) {
		u.sending.Fields = append(u.sending.Fields, http1.Field{Name: name, Value: value})
	}
}

// body is what a request sends, nil for nothing.
func (u *User) body(s *step) ([]byte, error) {
	var body []byte
	switch {
	case s.form != nil:
		form := url.Values{}
		for _, f := range s.form {
			value, err := u.render(f.text)
			if err != nil {
				return nil, fmt.Errorf("form %s: %w", f.name, err)
			}
			form.Set(f.name, value)
		}
		body = []byte(form.Encode())
		u.field("Content-Type", "application/x-www-form-urlencoded")
	case !s.body.empty():
		text, err := u.render(s.body)
		if err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		body = []byte(text)
		u.field("Content-Type", "application/json")
	default:
		return nil, nil
	}
	if !s.Gzip {
		return body, nil
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write(body)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	u.field("Content-Encoding", "gzip")
	return packed.Bytes(), nil
}

// read reads an answer to its end. What nobody looks at is only counted.
func (u *User) read(s *step, resp *http1.Response, r *Request) (body []byte, err error) {
	if !s.wholeBody && resp.Status < 400 {
		r.Bytes, err = io.Copy(io.Discard, resp)
		return nil, err
	}
	wire := &counter{r: resp, n: &r.Bytes}
	u.buf.Reset()
	var plain io.Reader = wire
	if resp.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(wire)
		if err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		plain = z
	}
	if _, err := u.buf.ReadFrom(io.LimitReader(plain, maxAnswer)); err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, wire) // to the end of the connection's message
	return u.buf.Bytes(), err
}

type counter struct {
	r io.Reader
	n *int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// keep takes in the cookies of an answer. There is one site, so domains and paths are not looked at.
func (u *User) keep(resp *http1.Response) {
	for _, line := range resp.All("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		switch {
		case err != nil: // as browsers do
		case c.MaxAge < 0 || c.Value == "":
			delete(u.cookies, c.Name)
		default:
			u.cookies[c.Name] = c.Value
		}
	}
}

func (u *User) extract(s *step, resp *http1.Response, body []byte) error {
	var document map[string]json.RawMessage // only what is asked for is taken apart further
	for _, e := range s.extract {
		var value any
		found := false
		switch {
		case e.pointer != nil:
			if document == nil {
				if err := json.Unmarshal(body, &document); err != nil {
					return fmt.Errorf("extract %s: the answer is no JSON object: %s", e.name, excerpt(body))
				}
			}
			var part any
			if raw, ok := document[e.pointer[0]]; ok && json.Unmarshal(raw, &part) == nil {
				value, found = follow(part, e.pointer[1:])
			}
		case e.form != nil:
			if m := e.form.FindSubmatch(body); m != nil {
				value, found = string(m[1]), true
			}
		case e.Header != "":
			v := resp.Get(e.Header)
			value, found = v, v != ""
		case e.Cookie != "":
			value, found = u.cookies[e.Cookie], u.cookies[e.Cookie] != ""
		}
		if !found && !e.Optional {
			return fmt.Errorf("extract %s: it is not in the answer: %s", e.name, excerpt(body))
		}
		if !found {
			value = ""
		}
		u.vars[e.name] = value
	}
	return nil
}

// follow finds what a pointer points at.
func follow(at any, pointer []string) (any, bool) {
	for _, name := range pointer {
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[name]
			if !ok {
				return nil, false
			}
			at = next
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			at = v[i]
		default:
			return nil, false
		}
	}
	return at, true
}

func (u *User) render(t text) (string, error) {
	if t.template == "" {
		return t.constant, nil
	}
	var b strings.Builder
	if err := u.root.ExecuteTemplate(&b, t.template, u.vars); err != nil {
		return "", errors.New(place.ReplaceAllString(err.Error(), "line $1 of it: "))
	}
	return b.String(), nil
}

// functions are what templates may call. Without a user they are only known by name.
func functions(u *User) template.FuncMap {
	return template.FuncMap{
		"user":  func() int { return u.number },
		"visit": func() uint64 { return u.visit },
		"uuid": func() string {
			a, b := u.rng.Uint64(), u.rng.Uint64()
			return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
		},
		"now": func() string { return time.Now().UTC().Format(time.RFC3339) },
		"int": func(from, to int) (int, error) {
			if to < from {
				return 0, fmt.Errorf("int %d %d: the second is smaller", from, to)
			}
			return from + u.rng.IntN(to-from+1), nil
		},
		"digits": func(n int) string { return u.draw("0123456789", n) },
		"letters": func(n int) string {
			s := u.draw("abcdefghijklmnopqrstuvwxyz", n)
			return strings.ToUpper(s[:min(1, n)]) + s[min(1, n):]
		},
		"day": func(from, to int) (string, error) {
			if to < from {
				return "", fmt.Errorf("day %d %d: the second is earlier", from, to)
			}
			first := time.Date(from, 1, 1, 0, 0, 0, 0, time.UTC)
			days := int(time.Date(to+1, 1, 1, 0, 0, 0, 0, time.UTC).Sub(first).Hours() / 24)
			return first.AddDate(0, 0, u.rng.IntN(days)).Format(time.DateOnly), nil
		},
		"pick": func(from ...any) (any, error) {
			if len(from) == 1 {
				if list, ok := from[0].([]any); ok {
					from = list
				}
			}
			if len(from) == 0 {
				return nil, errors.New("pick: there is nothing to pick from")
			}
			return from[u.rng.IntN(len(from))], nil
		},
		"seq": func(n any) ([]int, error) {
			count, err := number(n)
			if err != nil || count < 0 || count > maxRepeat {
				return nil, fmt.Errorf("seq %v: write a count from 0 to %d", n, maxRepeat)
			}
			out := make([]int, count)
			for i := range out {
				out[i] = i
			}
			return out, nil
		},
		"add": func(a, b any) (int, error) { return reckon(a, b, func(a, b int) int { return a + b }) },
		"sub": func(a, b any) (int, error) { return reckon(a, b, func(a, b int) int { return a - b }) },
		"mul": func(a, b any) (int, error) { return reckon(a, b, func(a, b int) int { return a * b }) },
		"div": func(a, b any) (int, error) {
			if d, err := number(b); err == nil && d == 0 {
				return 0, errors.New("div: by nothing")
			}
			return reckon(a, b, func(a, b int) int { return a / b })
		},
		"min": func(a, b any) (int, error) { return reckon(a, b, func(a, b int) int { return min(a, b) }) },
		"json": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		},
		"env": os.Getenv,
		"data": func(name string) map[string]string {
			rows := u.site.Data[name]
			if len(rows) == 0 {
				return nil
			}
			return rows[(u.number-1)%len(rows)]
		},
		"row": func(name string) (map[string]string, error) {
			rows := u.site.Data[name]
			if len(rows) == 0 {
				return nil, fmt.Errorf("row: data %s has none", name)
			}
			return rows[u.rng.IntN(len(rows))], nil
		},
		"split": strings.Split,
		"where": func(list any, field, value string) []any {
			all, _ := list.([]any) // anything else has no such entries
			var out []any
			for _, v := range all {
				if m, ok := v.(map[string]any); ok && fmt.Sprint(m[field]) == value {
					out = append(out, v)
				}
			}
			return out
		},
	}
}

func (u *User) draw(from string, n int) string {
	b := make([]byte, max(n, 0))
	for i := range b {
		b[i] = from[u.rng.IntN(len(from))]
	}
	return string(b)
}

// number reads a whole number, as vars and JSON have them.
func number(v any) (int, error) {
	switch v := v.(type) {
	case int:
		return v, nil
	case float64:
		return int(v), nil
	case string:
		return strconv.Atoi(v)
	}
	return 0, fmt.Errorf("%v is no number", v)
}

func reckon(a, b any, f func(a, b int) int) (int, error) {
	x, err := number(a)
	if err != nil {
		return 0, err
	}
	y, err := number(b)
	if err != nil {
		return 0, err
	}
	return f(x, y), nil
}
