package doctor

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Ini is an odoo.conf or a pgbouncer.ini: settings by section, the last one written wins.
type Ini struct {
	File     string
	section  string            // the one that Get looks in
	defaults map[string]string // of that section
	written  map[string]Value  // "section.name"
	order    []Value           // all, as they stand
	sections []string          // of order
}

// Limits of what is read: configurations are small.
const (
	maxBytes    = 4 << 20
	maxIncludes = 200
)

// odooDefaults are Odoo 18's.
var odooDefaults = map[string]string{
	"workers": "0", "max_cron_threads": "2", "db_maxconn": "64", "db_maxconn_gevent": "", "limit_memory_soft": "2147483648",
	"limit_memory_hard": "2684354560", "limit_time_cpu": "60", "limit_time_real": "120", "limit_request": "65536", "proxy_mode": "False",
	"db_name": "False", "db_host": "False", "db_port": "False", "http_port": "8069", "gevent_port": "8072", "data_dir": "", "db_replica_host": "False",
}

// bouncerDefaults are PgBouncer's.
var bouncerDefaults = map[string]string{
	"listen_port": "6432", "pool_mode": "session", "max_client_conn": "100", "default_pool_size": "20", "min_pool_size": "0",
	"reserve_pool_size": "0", "max_db_connections": "0", "max_user_connections": "0", "query_wait_timeout": "120", "listen_backlog": "128",
}

// ReadOdoo reads an odoo.conf.
func ReadOdoo(path string) (*Ini, error) { return readIni(path, "options", odooDefaults) }

// ReadPgBouncer reads a pgbouncer.ini with what it includes.
func ReadPgBouncer(path string) (*Ini, error) { return readIni(path, "pgbouncer", bouncerDefaults) }

func readIni(path, section string, defaults map[string]string) (*Ini, error) {
	ini := &Ini{File: path, section: section, defaults: defaults, written: map[string]Value{}}
	if err := ini.read(path, new(string), 0); err != nil {
		return nil, err
	}
	if !slices.Contains(ini.sections, section) {
		return nil, fmt.Errorf("%s has no section [%s]: is it the right file?", path, section)
	}
	return ini, nil
}

func (ini *Ini) read(path string, in *string, depth int) error {
	if depth > 10 {
		return fmt.Errorf("%s: includes nest deeper than 10", path)
	}
	text, err := readFile(path)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxBytes)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
		case line[0] == '[':
			name, _, closed := strings.Cut(line[1:], "]")
			if !closed {
				return fmt.Errorf("%s:%d: the section's name is not closed by ]", path, n)
			}
			*in = strings.ToLower(strings.TrimSpace(name))
			ini.sections = append(ini.sections, *in)
		case strings.HasPrefix(line, "%include"):
			file := strings.TrimSpace(strings.TrimPrefix(line, "%include"))
			if !filepath.IsAbs(file) { // PgBouncer: relative to its working folder, which is where its ini is in practice
				file = filepath.Join(filepath.Dir(ini.File), file)
			}
			if err := ini.read(file, in, depth+1); err != nil {
				return err
			}
		default:
			name, value, ok := strings.Cut(line, "=")
			if !ok {
				return fmt.Errorf("%s:%d: this is no setting: write name = value", path, n)
			}
			v := Value{Name: strings.ToLower(strings.TrimSpace(name)), Text: strings.TrimSpace(value), File: path, Line: n}
			ini.written[*in+"."+v.Name] = v
			if *in == "databases" {
				v.Name = strings.TrimSpace(name) // here names keep their case
				ini.order = append(ini.order, v)
			}
		}
	}
	return lines.Err()
}

// Get returns a setting of the file's main section as it is in force.
func (ini *Ini) Get(name string) Value {
	if v, ok := ini.written[ini.section+"."+name]; ok {
		return v
	}
	return Value{Name: name, Text: ini.defaults[name]}
}

// wrongKinds lists settings that should be numbers and are none.
func (ini *Ini) wrongKinds() (out []Value) {
	for name, def := range ini.defaults {
		if _, err := strconv.Atoi(def); err != nil {
			continue
		}
		v := ini.Get(name)
		if _, err := strconv.ParseFloat(v.Text, 64); err != nil && !v.None() {
			out = append(out, v)
		}
	}
	return out
}

// Database is one entry of PgBouncer's [databases].
type Database struct {
	Value
	params map[string]string
}

// Databases are PgBouncer's, as they stand.
func (ini *Ini) Databases() (out []Database) {
	for _, v := range ini.order {
		out = append(out, Database{v, params(v.Text)})
	}
	return out
}

// Database finds the entry that serves a database: its own, or the fallback *.
func (ini *Ini) Database(name string) (Database, bool) {
	var fallback Database
	found := false
	for _, d := range ini.Databases() {
		if strings.Trim(d.Name, `"`) == name {
			return d, true
		}
		if d.Name == "*" {
			fallback, found = d, true
		}
	}
	return fallback, found
}

// of is a parameter of a database: its own, or what holds for all.
func (ini *Ini) of(d Database, param, general string) Value {
	if text, ok := d.params[param]; ok {
		v := d.Value
		v.Name, v.Text = d.Name+" "+param, text
		return v
	}
	return ini.Get(general)
}

// params reads a connection string of words name=value, where a value may be in single quotes.
func params(text string) map[string]string {
	out := map[string]string{}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			break
		}
		rest = strings.TrimLeft(rest, " ")
		value := rest
		if strings.HasPrefix(rest, "'") {
			end := 1
			for end < len(rest) && (rest[end] != '\'' || strings.HasPrefix(rest[end:], "''")) {
				if rest[end] == '\'' {
					end++
				}
				end++
			}
			value = strings.ReplaceAll(rest[1:min(end, len(rest))], "''", "'")
			text = rest[min(end+1, len(rest)):]
		} else if i := strings.IndexByte(rest, ' '); i >= 0 {
			value, text = rest[:i], rest[i:]
		} else {
			text = ""
		}
		out[strings.ToLower(strings.TrimSpace(name))] = value
	}
	return out
}

func readFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > maxBytes {
		return "", fmt.Errorf("%s is larger than %s: this is no configuration", path, bytes(maxBytes))
	}
	text, err := os.ReadFile(path)
	return string(text), err
}
