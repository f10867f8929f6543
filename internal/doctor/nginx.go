package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Nginx is nginx's configuration with all that it includes.
type Nginx struct {
	File   string
	Routes []Route // each proxy_pass
	root   *directive
	files  int
}

// directive is one of nginx's, with its block.
type directive struct {
	name  string
	args  []string
	file  string
	line  int
	block []*directive
	open  bool // it has a block
}

// Route is one proxy_pass and the blocks around it, from http inwards.
type Route struct {
	Path   string // of its location
	Target string // what is passed to
	At     Value
	around []*directive
}

// nginxDefaults are nginx's own.
var nginxDefaults = map[string]string{
	"proxy_read_timeout": "60s", "proxy_connect_timeout": "60s", "client_max_body_size": "1m", "worker_connections": "512", "worker_processes": "1", "access_log": "logs/access.log combined",
}

// ReadNginx reads nginx's main configuration and what it includes.
func ReadNginx(path string) (*Nginx, error) {
	n := &Nginx{File: path, root: &directive{}}
	if err := n.read(path, n.root, 0); err != nil {
		return nil, err
	}
	if len(n.root.find("http")) == 0 {
		return nil, fmt.Errorf("%s has no http block: name nginx's main configuration", path)
	}
	n.walk(n.root, nil)
	return n, nil
}

func (n *Nginx) read(path string, into *directive, depth int) error {
	if n.files++; n.files > maxIncludes || depth > 20 {
		return fmt.Errorf("%s: more files are included than can be meant", path)
	}
	text, err := readFile(path)
	if err != nil {
		return err
	}
	open := []*directive{into}
	var words []string
	line, start := 1, 0
	end := func(block bool) error {
		if len(words) == 0 {
			return fmt.Errorf("%s:%d: a directive without a name", path, line)
		}
		d := &directive{name: words[0], args: words[1:], file: path, line: start, open: block}
		top := open[len(open)-1]
		words = nil
		if d.name == "include" && !block && len(d.args) == 1 {
			return n.include(d, top, depth)
		}
		top.block = append(top.block, d)
		if block {
			open = append(open, d)
		}
		return nil
	}
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case '\n':
			line++
			i++
		case ' ', '\t', '\r':
			i++
		case '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case ';', '{':
			if err := end(c == '{'); err != nil {
				return err
			}
			i++
		case '}':
			if len(words) > 0 || len(open) == 1 {
				return fmt.Errorf("%s:%d: an unexpected }", path, line)
			}
			open = open[:len(open)-1]
			i++
		default:
			if len(words) == 0 {
				start = line
			}
			word, next := nginxWord(text, i)
			line += strings.Count(text[i:next], "\n")
			words = append(words, word)
			i = next
		}
	}
	if len(words) > 0 || len(open) > 1 {
		return fmt.Errorf("%s: ends within a directive or block", path)
	}
	return nil
}

// nginxWord reads one word, which may be quoted, from i on.
func nginxWord(text string, i int) (word string, next int) {
	var b strings.Builder
	if q := text[i]; q == '"' || q == '\'' {
		for i++; i < len(text) && text[i] != q; i++ {
			if text[i] == '\\' && i+1 < len(text) {
				i++
			}
			b.WriteByte(text[i])
		}
		return b.String(), min(i+1, len(text))
	}
	for i < len(text) && !strings.ContainsRune(" \t\r\n;{", rune(text[i])) || i > 0 && i < len(text) && text[i] == '{' && text[i-1] == '$' {
		if text[i] == '\\' && i+1 < len(text) {
			b.WriteByte(text[i])
			i++
		}
		if text[i] == '{' { // ${name}
			for i < len(text) && text[i] != '}' {
				b.WriteByte(text[i])
				i++
			}
			if i == len(text) {
				break
			}
		}
		b.WriteByte(text[i])
		i++
	}
	return b.String(), i
}

func (n *Nginx) include(d, into *directive, depth int) error {
	pattern := d.args[0]
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(n.File), pattern)
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return fmt.Errorf("%s:%d: include %s: %w", d.file, d.line, d.args[0], err)
	}
	if len(files) == 0 && !strings.ContainsAny(pattern, "*?[") {
		return fmt.Errorf("%s:%d: include %s: there is no such file", d.file, d.line, d.args[0])
	}
	for _, f := range files {
		if err := n.read(f, into, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// walk lists the routes.
func (n *Nginx) walk(d *directive, around []*directive) {
	around = append(around[:len(around):len(around)], d)
	for _, sub := range d.block {
		if sub.name == "proxy_pass" && len(sub.args) == 1 {
			r := Route{Path: "/", Target: sub.args[0], At: sub.value(), around: around}
			for _, a := range around {
				if a.name == "location" && len(a.args) > 0 {
					r.Path = a.args[len(a.args)-1]
				}
			}
			n.Routes = append(n.Routes, r)
		}
		if sub.open {
			n.walk(sub, around)
		}
	}
}

// find returns the directives of a name in a block.
func (d *directive) find(name string) (out []*directive) {
	for _, sub := range d.block {
		if sub.name == name {
			out = append(out, sub)
		}
	}
	return out
}

func (d *directive) value() Value {
	return Value{Name: d.name, Text: strings.Join(d.args, " "), File: d.file, Line: d.line}
}

// all returns what a directive says for a route: those of the innermost block that has any.
func (r Route) all(name string) []Value {
	for i := len(r.around) - 1; i >= 0; i-- {
		if found := r.around[i].find(name); len(found) > 0 {
			out := make([]Value, len(found))
			for j, d := range found {
				out[j] = d.value()
			}
			return out
		}
	}
	return nil
}

// sends reports whether nginx sets a request header for a route.
func (r Route) sends(header string) bool {
	return slices.ContainsFunc(r.all("proxy_set_header"), func(v Value) bool {
		name, _, _ := strings.Cut(v.Text, " ")
		return strings.EqualFold(name, header)
	})
}

// get is the one value of a directive for a route, or nginx's default.
func (r Route) get(name string) Value {
	if all := r.all(name); len(all) > 0 {
		return all[len(all)-1]
	}
	return Value{Name: name, Text: nginxDefaults[name]}
}

// top is a directive of the file's outermost level or of a block there.
func (n *Nginx) top(block, name string) Value {
	in := []*directive{n.root}
	if block != "" {
		in = n.root.find(block)
	}
	v := Value{Name: name, Text: nginxDefaults[name]}
	for _, d := range in {
		for _, found := range d.find(name) {
			v = found.value()
		}
	}
	return v
}

// upstream returns the servers of an upstream block by its name.
func (n *Nginx) upstream(name string) (servers []Value) {
	for _, http := range n.root.find("http") {
		for _, u := range http.find("upstream") {
			if len(u.args) == 1 && u.args[0] == name {
				for _, s := range u.find("server") {
					servers = append(servers, s.value())
				}
			}
		}
	}
	return servers
}

// host is what a proxy_pass names: an upstream, or HOST:PORT.
func (r Route) host() string {
	_, rest, _ := strings.Cut(r.Target, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// servers are the addresses that a route's requests go to.
func (n *Nginx) servers(r Route) []Value {
	if servers := n.upstream(r.host()); len(servers) > 0 {
		return servers
	}
	v := r.At
	v.Text = r.host()
	return []Value{v}
}

// formats are the log formats by name.
func (n *Nginx) formats() map[string]Value {
	out := map[string]Value{"combined": {Name: "log_format", Text: "combined"}}
	for _, http := range n.root.find("http") {
		for _, d := range http.find("log_format") {
			if len(d.args) > 1 {
				v := d.value()
				v.Text = strings.Join(d.args[1:], "")
				out[d.args[0]] = v
			}
		}
	}
	return out
}
