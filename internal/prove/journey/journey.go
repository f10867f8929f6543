// Package journey is the small language in which a scenario says what its users do: steps, each one request, with state between
// them. A Journey is what is written; Compile checks it, and a User plays it.
//
// Paths, header values, bodies and conditions are text/template; what stands between {{ and }} is filled in:
//
//	{{.farmer}}          what a step extracted, a value of set, or one of the scenario's vars
//	{{.round}}           how often a repeated step was done before, from 0
//	{{user}} {{visit}}   the user's number, and the visit's, from 1
//	{{uuid}} {{now}}     a new UUID; the time now, in RFC 3339
//	{{int 1 100}}        a whole number, both ends included
//	{{digits 8}}         so many digits;  {{letters 6}}  so many letters, the first a capital
//	{{day 1950 2005}}    a date in these years
//	{{pick .villages}}   one of a list;  {{pick "taro" "kava"}}  one of what follows
//	{{seq 100}}          0 to 99, for range;  {{add .round 1}} {{mul .round 100}}
//	{{json .farmer}}     as JSON, with its quotes;  {{urlquery .name}} for a query
//	{{env "TOKEN"}}      an environment variable, or nothing
//	{{index (data "phones") "secret"}}  a column of this user's row of a data file, or nothing
//	{{(row "farmers").uid}}  a column of a row of a data file, drawn anew each time
//	{{split "a/b" "/"}}  parts of a text
//	{{where .records "entity" "farmer"}}  the entries of a list with that value
//
// All that is drawn at random comes from the scenario's seed: the same seed asks the same things.
package journey

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/prove/http1"
	"tidemark/internal/prove/outcome"
)

// Journey is one kind of visit.
type Journey struct {
	Name  string            `yaml:"name,required" example:"lookup"`
	About string            `yaml:"about"`
	Set   map[string]string `yaml:"set"` // values made anew for each visit
	// Keep are extracted values that a user keeps from one visit to the next, empty at first; "cookies" are all cookies.
	Keep  []string `yaml:"keep"`
	Steps []Step   `yaml:"steps,required" example:"[{name: home, path: /}]"`
}

// Step is one request, done once or repeatedly. A step that fails ends the visit.
type Step struct {
	Name    string             `yaml:"name,required" example:"home"`
	Kind    Kind               `yaml:"kind"`   // api or page; api
	Method  string             `yaml:"method"` // GET, or POST with a body
	Path    string             `yaml:"path,required" example:"/"`
	Headers map[string]string  `yaml:"headers"` // one that is empty is not sent
	Body    string             `yaml:"body"`
	Form    map[string]string  `yaml:"form"` // a body as browsers send it, instead of body
	Gzip    bool               `yaml:"gzip"` // the body is sent compressed, and a compressed answer is asked for
	Extract map[string]Extract `yaml:"extract"`
	Check   Check              `yaml:"check"`
	Creates string             `yaml:"creates"` // what the answer has created, one a word, for the clean-up
	If      string             `yaml:"if"`      // the step is left out unless this is "true"
	Think   Span               `yaml:"think"`   // before the request, and before each of its repetitions
	Repeat  int                `yaml:"repeat"`  // how often, at most
	Times   string             `yaml:"times"`   // how often, as a template, instead of repeat
	While   string             `yaml:"while"`   // it is repeated as long as this is "true"
	Retry   Retry              `yaml:"retry"`
	Timeout time.Duration      `yaml:"timeout"` // the scenario's
}

// Extract says where a value is found in an answer. One of the four.
type Extract struct {
	JSON   string `yaml:"json"`   // a pointer (RFC 6901); the value keeps its type
	Regexp string `yaml:"regexp"` // the first group of it, in the body
	Header string `yaml:"header"`
	Cookie string `yaml:"cookie"`
	// Optional: without the value the visit goes on, and the value is empty.
	Optional bool `yaml:"optional"`
}

// Check says what a good answer is.
type Check struct {
	Status []int  `yaml:"status"` // 200 to 399
	Body   string `yaml:"body"`   // a regular expression that the body must match
	Not    string `yaml:"not"`    // and one that it must not
}

// Retry says when a request is sent again. Each try counts as a request.
type Retry struct {
	Status []int         `yaml:"status"`
	Times  int           `yaml:"times"`
	Wait   time.Duration `yaml:"wait"` // or as long as Retry-After says, if that is longer
}

// Kind is outcome.Kind as it is written.
type Kind outcome.Kind

func (k *Kind) UnmarshalText(b []byte) error {
	if !slices.Contains([]outcome.Kind{outcome.API, outcome.Page}, outcome.Kind(b)) {
		return &config.FieldError{Msg: fmt.Sprintf("%q is no kind of step", b), Fix: "write api or page"}
	}
	*k = Kind(b)
	return nil
}

// Span is a time, or a range from which one is drawn evenly: 2s, or 1s-3s.
type Span struct{ From, To time.Duration }

func (s *Span) UnmarshalText(b []byte) error {
	from, to, ranged := strings.Cut(string(b), "-")
	var errs [2]error
	s.From, errs[0] = time.ParseDuration(strings.TrimSpace(from))
	s.To = s.From
	if ranged {
		s.To, errs[1] = time.ParseDuration(strings.TrimSpace(to))
	}
	if errs[0] != nil || errs[1] != nil || s.From < 0 || s.To < s.From {
		return &config.FieldError{Msg: fmt.Sprintf("%q is no time", b), Fix: "write 2s, or 1s-3s"}
	}
	return nil
}

// Program is a journey that was found good.
type Program struct {
	Journey
	hasty bool               // without thinking
	root  *template.Template // of all texts; a user has a clone with functions of its own
	set   []setting
	steps []step
}

// Hasty is the program of users who do not think.
func (p *Program) Hasty() *Program {
	h := *p
	h.hasty = true
	return &h
}

type setting struct {
	name string
	text text
}

// step is a Step that was taken apart.
type step struct {
	*Step
	method                        string
	target                        string // of the path, where that is a constant
	path, body, times, if_, while text
	creates                       text
	headers, form                 []setting
	extract                       []extraction
	match, mismatch               *regexp.Regexp
	statuses, retries             []int
	wholeBody                     bool // the answer is looked at, and not only counted
}

type extraction struct {
	Extract
	name    string
	pointer []string
	form    *regexp.Regexp
}

// text is a template, or the constant that it amounts to.
type text struct {
	constant string
	template string // name within the program's root; empty for a constant
}

func (t text) empty() bool { return t.template == "" && t.constant == "" }

// cookies is what keep calls all of them.
const cookies = "cookies"

const (
	maxRepeat = 100_000
	maxSteps  = 100
)

// Compile checks a journey. vars are the names that the scenario gives, and data the data files. The error joins
// *config.FieldErrors.
func Compile(j Journey, vars, data []string) (*Program, error) {
	c := &compiler{p: &Program{Journey: j, root: template.New("").Option("missingkey=error").Funcs(functions(nil))}, data: data}
	c.known = append([]string{"round", "created"}, vars...)
	for i := range j.Steps {
		for name := range j.Steps[i].Extract {
			c.known = append(c.known, name)
		}
	}
	for name := range j.Set {
		c.known = append(c.known, name)
	}
	for i, name := range j.Keep {
		if name != cookies && !slices.Contains(c.known, name) {
			c.errs.Add(fmt.Sprintf("keep.%d", i), fmt.Sprintf("%q is extracted nowhere", name), "name what a step extracts")
		}
	}
	c.settings()
	if len(j.Steps) > maxSteps {
		c.errs.Add("steps", fmt.Sprintf("are %d", len(j.Steps)), fmt.Sprintf("write at most %d", maxSteps))
	}
	for i := range j.Steps {
		c.step(fmt.Sprintf("steps.%d", i), &j.Steps[i])
	}
	return c.p, c.errs.Err()
}

type compiler struct {
	p           *Program
	known, data []string
	errs        config.FieldErrors
}

// settings puts the values of set in an order in which each is made of earlier ones.
func (c *compiler) settings() {
	left := map[string][]string{} // name -> what it is made of
	for _, name := range sorted(c.p.Set) {
		t, uses := c.text("set."+name, c.p.Set[name])
		c.p.set = append(c.p.set, setting{name, t})
		for _, u := range uses {
			if _, own := c.p.Set[u]; own {
				left[name] = append(left[name], u)
			}
		}
	}
	var order []setting
	done := map[string]bool{}
	for len(order) < len(c.p.set) {
		before := len(order)
		for _, s := range c.p.set {
			if !done[s.name] && !slices.ContainsFunc(left[s.name], func(u string) bool { return !done[u] }) {
				done[s.name] = true
				order = append(order, s)
			}
		}
		if len(order) == before {
			for _, s := range c.p.set {
				if !done[s.name] {
					c.errs.Add("set."+s.name, "is made of itself", "break the circle")
				}
			}
			return
		}
	}
	c.p.set = order
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// written are the headers that the client writes itself.
var written = []string{"Host", "Content-Length", "Transfer-Encoding"}

func (c *compiler) step(at string, s *Step) {
	out := step{Step: s, method: s.Method}
	if s.Kind == "" {
		s.Kind = Kind(outcome.API)
	}
	switch {
	case out.method == "" && (s.Body != "" || s.Form != nil):
		out.method = http.MethodPost
	case out.method == "":
		out.method = http.MethodGet
	case !slices.Contains(methods, out.method):
		c.errs.Add(at+".method", fmt.Sprintf("%q is no method", s.Method), "write one of "+strings.Join(methods, ", "))
	}
	if s.Path != "" && !strings.HasPrefix(s.Path, "/") && !strings.HasPrefix(s.Path, "{{") {
		c.errs.Add(at+".path", fmt.Sprintf("%q does not begin with /", s.Path), "write the path only: the target says where it is")
	}
	if s.Body != "" && s.Form != nil {
		c.errs.Add(at+".form", "stands beside body", "delete one of the two")
	}
	if s.Repeat < 0 || s.Repeat > maxRepeat {
		c.errs.Add(at+".repeat", fmt.Sprintf("is %d", s.Repeat), fmt.Sprintf("write 1 to %d", maxRepeat))
	}
	if s.Repeat > 0 && s.Times != "" {
		c.errs.Add(at+".times", "stands beside repeat", "delete one of the two")
	}
	if s.Retry.Times < 0 || s.Retry.Times > 100 {
		c.errs.Add(at+".retry.times", fmt.Sprintf("is %d", s.Retry.Times), "write 0 to 100")
	}
	for _, t := range []struct {
		name string
		from string
		to   *text
	}{{"path", s.Path, &out.path}, {"body", s.Body, &out.body}, {"times", s.Times, &out.times}, {"if", s.If, &out.if_}, {"while", s.While, &out.while}, {"creates", s.Creates, &out.creates}} {
		*t.to, _ = c.text(at+"."+t.name, t.from)
	}
	if out.path.template == "" && s.Path != "" {
		var err error
		if out.target, err = escaped(s.Path); err != nil {
			c.errs.Add(at+".path", fmt.Sprintf("%q is no path", s.Path), "write the path and the query only, escaped as in an address")
		}
	}
	for _, name := range sorted(s.Headers) {
		if !http1.Token(name) || slices.Contains(written, http.CanonicalHeaderKey(name)) {
			c.errs.Add(at+".headers."+name, "is no header that can be set", "delete it: "+strings.Join(written, ", ")+" are written as each request needs them")
		}
		t, _ := c.text(at+".headers."+name, s.Headers[name])
		out.headers = append(out.headers, setting{http.CanonicalHeaderKey(name), t})
	}
	for _, name := range sorted(s.Form) {
		t, _ := c.text(at+".form."+name, s.Form[name])
		out.form = append(out.form, setting{name, t})
	}
	out.match = c.regexp(at+".check.body", s.Check.Body)
	out.mismatch = c.regexp(at+".check.not", s.Check.Not)
	out.statuses, out.retries = s.Check.Status, s.Retry.Status
	for _, name := range sorted(s.Extract) {
		out.extract = append(out.extract, c.extraction(at+".extract."+name, name, s.Extract[name]))
	}
	out.wholeBody = out.match != nil || out.mismatch != nil || slices.ContainsFunc(out.extract, func(e extraction) bool { return e.pointer != nil || e.form != nil })
	c.p.steps = append(c.p.steps, out)
}

func (c *compiler) extraction(at, name string, e Extract) extraction {
	x := extraction{Extract: e, name: name}
	n := 0
	for _, s := range []string{e.JSON, e.Regexp, e.Header, e.Cookie} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		c.errs.Add(at, fmt.Sprintf("names %d places", n), "write one of json, regexp, header and cookie")
	}
	if e.JSON != "" {
		if !strings.HasPrefix(e.JSON, "/") {
			c.errs.Add(at+".json", fmt.Sprintf("%q is no JSON pointer", e.JSON), "write /farmers/0/uid")
		}
		for _, part := range strings.Split(strings.TrimPrefix(e.JSON, "/"), "/") {
			x.pointer = append(x.pointer, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
		}
	}
	x.form = c.regexp(at+".regexp", e.Regexp)
	if x.form != nil && x.form.NumSubexp() < 1 {
		c.errs.Add(at+".regexp", "has no group", "put what is wanted in brackets: id=([0-9]+)")
	}
	return x
}

func (c *compiler) regexp(at, form string) *regexp.Regexp {
	if form == "" {
		return nil
	}
	re, err := regexp.Compile(form)
	if err != nil {
		c.errs.Add(at, "is no regular expression: "+err.Error(), "see go.dev/s/re2syntax")
	}
	return re
}

var place = regexp.MustCompile(`^template: [^:]*:(\d+)(?::\d+)?: (?:executing "[^"]*" at )?`)

// text takes a template apart, and tells which values it uses.
func (c *compiler) text(at, from string) (text, []string) {
	if !strings.Contains(from, "{{") {
		return text{constant: from}, nil
	}
	t, err := c.p.root.New(at).Parse(from)
	if err != nil {
		c.errs.Add(at, "line "+place.ReplaceAllString(err.Error(), "$1 of it: "), "what stands between {{ and }} is a template: {{.name}}, {{uuid}}, {{int 1 9}}")
		return text{}, nil
	}
	var uses []string
	walk(t.Root, true, func(name string) {
		if !slices.Contains(c.known, name) {
			c.errs.Add(at, fmt.Sprintf("{{.%s}} is nowhere given", name), "extract it in a step, or write it under set or vars; known here are "+strings.Join(names(c.known), ", "))
		}
		uses = append(uses, name)
	}, func(name string) {
		if !slices.Contains(c.data, name) {
			c.errs.Add(at, fmt.Sprintf("there is no data %q", name), "name a file under data")
		}
	})
	return text{template: at}, uses
}

func names(known []string) []string {
	out := slices.Clone(known)
	slices.Sort(out)
	return slices.Compact(out)
}

// walk finds the values and the data files that a template names. outer: the dot is what it was at the start.
func walk(n parse.Node, outer bool, value, file func(string)) {
	each := func(list *parse.ListNode, outer bool) {
		if list != nil {
			for _, n := range list.Nodes {
				walk(n, outer, value, file)
			}
		}
	}
	pipe := func(p *parse.PipeNode) {
		for _, c := range p.Cmds {
			for i, a := range c.Args {
				if f, ok := a.(*parse.IdentifierNode); ok && (f.Ident == "data" || f.Ident == "row") && i+1 < len(c.Args) {
					if s, ok := c.Args[i+1].(*parse.StringNode); ok {
						file(s.Text)
					}
				}
				walk(a, outer, value, file)
			}
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		each(n, outer)
	case *parse.ActionNode:
		pipe(n.Pipe)
	case *parse.PipeNode:
		pipe(n)
	case *parse.IfNode:
		pipe(n.Pipe)
		each(n.List, outer)
		each(n.ElseList, outer)
	case *parse.RangeNode:
		pipe(n.Pipe)
		each(n.List, false)
		each(n.ElseList, outer)
	case *parse.WithNode:
		pipe(n.Pipe)
		each(n.List, false)
		each(n.ElseList, outer)
	case *parse.FieldNode:
		if outer {
			value(n.Ident[0])
		}
	case *parse.ChainNode:
		walk(n.Node, outer, value, file)
	case *parse.VariableNode:
		if n.Ident[0] == "$" && len(n.Ident) > 1 {
			value(n.Ident[1])
		}
	}
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// truth reads the outcome of a condition.
func truth(s string) bool {
	yes, err := strconv.ParseBool(strings.TrimSpace(s))
	return err == nil && yes
}
