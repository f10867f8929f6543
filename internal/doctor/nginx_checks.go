package doctor

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

const (
	// A compressed batch of 500 farmers is under 2 MB; a CSV file of 10,000 rows and a photograph are larger.
	bodyNeeded = 10 * mib
	// The requirements' limit of an API request.
	apiTimeout = 30 * time.Second
	// What the requirements expect at once: 10 administrators, 100 visitors, 50 enumerators.
	clientsExpected = 160
)

// app lists the routes that lead to Odoo: to its port, or all when it is not known.
func (s *Site) app() (routes []Route) {
	if s.Odoo == nil {
		return s.Nginx.Routes
	}
	port := s.Odoo.Get("http_port").Text
	for _, r := range s.Nginx.Routes {
		if slices.ContainsFunc(s.Nginx.servers(r), func(v Value) bool { _, p := address(v); return p == port }) {
			routes = append(routes, r)
		}
	}
	if len(routes) == 0 {
		return s.Nginx.Routes
	}
	return routes
}

// address splits a server of nginx's into host and port.
func address(v Value) (host, port string) {
	at, _, _ := strings.Cut(v.Text, " ")
	if strings.HasPrefix(at, "unix:") {
		return "", ""
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return at, "80"
	}
	return host, port
}

// different lists the wrong settings once each, however many routes they hold for.
func different(routes []Route, name string, wrong func(Value) bool) (out []Value) {
	for _, r := range routes {
		if v := r.get(name); wrong(v) && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

var nginxChecks = []check{
	{"nginx leads to the application", []Part{NginxConf}, func(s *Site, o *outcome) {
		if len(s.Nginx.Routes) == 0 {
			o.find(Finding{Severity: Problem, What: "nginx passes no request on (there is no proxy_pass)", Fix: "include the site's configuration, or name nginx's main configuration by --nginx"})
			return
		}
		o.holds("%d proxy_pass", len(s.Nginx.Routes))
	}},
	{"body size", []Part{Routes}, func(s *Site, o *outcome) {
		for _, v := range different(s.app(), "client_max_body_size", func(v Value) bool { return v.Bytes() != 0 && v.Bytes() < bodyNeeded }) {
			o.find(Finding{Severity: Problem, What: "nginx refuses (413) larger uploads: a day's synchronisation with photographs, an import", Where: []Value{v}, Arithmetic: fmt.Sprintf("%s < %s", bytes(v.Bytes()), bytes(bodyNeeded)),
				Fix: "write client_max_body_size 32m; in the server block"})
		}
		o.holds("at least %s everywhere", bytes(bodyNeeded))
	}},
	{"time-outs of nginx", []Part{Routes}, func(s *Site, o *outcome) {
		for _, v := range different(s.app(), "proxy_read_timeout", func(v Value) bool { return v.Duration() < apiTimeout }) {
			o.find(Finding{Severity: Warning, What: "nginx gives up before the request's own time is over", Where: []Value{v}, Arithmetic: fmt.Sprintf("%s < %s, the requirements' default time-out", fleet.Elapsed(v.Duration()), fleet.Elapsed(apiTimeout)), Fix: "write proxy_read_timeout 35s; or more"})
		}
		if s.Odoo != nil {
			limit := s.Odoo.Get("limit_time_real")
			for _, v := range different(s.app(), "proxy_read_timeout", func(v Value) bool {
				return limit.Int() > 0 && v.Duration() > time.Duration(limit.Int())*time.Second+time.Minute
			}) {
				o.find(Finding{Severity: Advice, What: "nginx waits for answers of workers that Odoo has killed", Where: []Value{v, limit}, Arithmetic: fmt.Sprintf("%s > %d s", fleet.Elapsed(v.Duration()), limit.Int()), Fix: fmt.Sprintf("write proxy_read_timeout %ds;", limit.Int()+10)})
			}
		}
		for _, v := range different(s.app(), "proxy_connect_timeout", func(v Value) bool { return v.Duration() > 10*time.Second }) {
			o.find(Finding{Severity: Advice, What: "a server that is away holds its visitors up for long", Where: []Value{v}, Fix: "write proxy_connect_timeout 5s;"})
		}
		o.holds("each request has %s or more", fleet.Elapsed(apiTimeout))
	}},
	{"what the application knows of the visitor", []Part{OdooConf, Routes}, func(s *Site, o *outcome) {
		mode := s.Odoo.Get("proxy_mode")
		if !mode.Bool() {
			o.find(Finding{Severity: Warning, What: "Odoo does not believe nginx: it sees all visitors as one address and makes http links on an https site", Where: []Value{mode}, Fix: "write proxy_mode = True, and X-Forwarded-Host, -For and -Proto in nginx"})
			return
		}
		for _, r := range s.app() {
			for _, header := range []string{"X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Proto"} {
				if !r.sends(header) {
					o.find(Finding{Severity: Warning, What: fmt.Sprintf("proxy_mode is on, and nginx does not set %s for %s", header, r.Path), Where: []Value{r.At, mode},
						Fix: "write proxy_set_header " + header + " " + map[string]string{"X-Forwarded-Host": "$http_host;", "X-Forwarded-For": "$proxy_add_x_forwarded_for;", "X-Forwarded-Proto": "$scheme;"}[header]})
					return
				}
			}
		}
		o.holds("%s, and nginx sets the headers", mode)
	}},
	{"websockets", []Part{OdooConf, Routes}, func(s *Site, o *outcome) {
		if s.Odoo.Get("workers").Int() == 0 {
			o.skip("Odoo has no workers")
			return
		}
		port := s.Odoo.Get("gevent_port")
		for _, r := range s.Nginx.Routes {
			if slices.ContainsFunc(s.Nginx.servers(r), func(v Value) bool { _, p := address(v); return p == port.Text }) {
				if !r.sends("Upgrade") {
					o.find(Finding{Severity: Warning, What: "nginx does not pass the websocket's Upgrade on", Where: []Value{r.At}, Fix: `write proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`})
					return
				}
				o.holds("%s leads to %s", r.Path, port.Text)
				return
			}
		}
		o.find(Finding{Severity: Warning, What: "websockets end at an HTTP worker: each open page holds one, and pushes fail", Where: []Value{port}, Fix: "write location /websocket { proxy_pass http://127.0.0.1:" + port.Text + `; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; }`})
	}},
	{"access log", []Part{Routes}, func(s *Site, o *outcome) {
		formats := s.Nginx.formats()
		for _, r := range s.app() {
			logs := r.all("access_log")
			if len(logs) == 0 {
				logs = []Value{r.get("access_log")}
			}
			if slices.ContainsFunc(logs, func(v Value) bool {
				words := strings.Fields(v.Text)
				return len(words) > 0 && words[0] == "off" || len(words) > 1 && strings.Contains(formats[words[1]].Text, "$upstream_response_time")
			}) {
				continue
			}
			o.find(Finding{Severity: Warning, What: fmt.Sprintf("the access log of %s does not say how long the application took, so its latency is no signal", r.Path), Where: logs,
				Fix: "write the log_format of docs/configuration.md, and access_log /var/log/nginx/dfr.access.log tidemark;"})
			return
		}
		o.holds("each tells $upstream_response_time, or is off")
	}},
	{"the log that Tidemark reads", []Part{Routes}, func(s *Site, o *outcome) {
		if s.Fleet == nil || len(s.Fleet.Logs) == 0 {
			o.skip("no signal of Tidemark's configuration reads an access log")
			return
		}
		var written []Value
		for _, r := range s.Nginx.Routes {
			written = append(written, r.all("access_log")...)
		}
		for _, path := range s.Fleet.Logs {
			if !slices.ContainsFunc(written, func(v Value) bool { return strings.Fields(v.Text + " -")[0] == path }) {
				o.find(Finding{Severity: Problem, What: fmt.Sprintf("Tidemark reads %s, and nginx does not write it for what it passes on", path), Where: written, Fix: "write access_log " + path + " tidemark; in the server block, or change the signal's path"})
			}
		}
		o.holds("%s", strings.Join(s.Fleet.Logs, ", "))
	}},
	{"overflow", []Part{Routes}, func(s *Site, o *outcome) {
		for _, r := range s.app() {
			for _, v := range s.Nginx.servers(r) {
				if strings.Contains(v.Text, "max_conns=") {
					o.find(Finding{Severity: Warning, What: "nginx cannot queue: a visitor beyond max_conns is answered 502 at once", Where: []Value{v}, Fix: "leave max_conns out and let the accept backlog queue, or queue in Tidemark's proxy"})
					return
				}
			}
		}
		o.holds("no max_conns")
	}},
	{"sessions and files of several hosts", []Part{OdooConf, Routes}, func(s *Site, o *outcome) {
		hosts := map[string]bool{}
		var where []Value
		for _, r := range s.app() {
			for _, v := range s.Nginx.servers(r) {
				if h, _ := address(v); !hosts[h] {
					hosts[h] = true
					where = append(where, v)
				}
			}
		}
		dir := s.Odoo.Get("data_dir")
		switch kind := s.fileSystem(dir.Text); {
		case len(hosts) < 2:
			o.holds("all workers are on one host")
		case kind == "":
			o.skip("%d hosts serve, and the file system of data_dir was not seen from here: it must be shared", len(hosts))
		case !slices.Contains(sharedFS, kind):
			o.find(Finding{Severity: Problem, What: fmt.Sprintf("%d hosts serve, and each has its own sessions and attachments: visitors are signed out and files are missing (500)", len(hosts)), Where: append(where, dir),
				Arithmetic: fmt.Sprintf("data_dir is on %s, which no other host sees", kind), Fix: "put data_dir on storage that all hosts share (NFS), or keep all workers on one host"})
		default:
			o.holds("%d hosts share data_dir by %s", len(hosts), kind)
		}
	}},
	{"connections of nginx", []Part{NginxConf, ThisHost}, func(s *Site, o *outcome) {
		processes, each := s.Nginx.top("", "worker_processes"), s.Nginx.top("events", "worker_connections")
		n := int64(s.Host.CPUs)
		if processes.Text != "auto" {
			n, _ = strconv.ParseInt(processes.Text, 10, 64)
		}
		have, need := n*each.Int(), int64(2*2*clientsExpected)
		arithmetic := fmt.Sprintf("%d processes x %d = %d; %d clients with 2 connections each, to both sides = %d", n, each.Int(), have, clientsExpected, need)
		if have < need {
			o.find(Finding{Severity: Warning, What: "nginx has too few connections for the load that is expected", Where: []Value{processes, each}, Arithmetic: arithmetic, Fix: "write events { worker_connections 2048; }"})
			return
		}
		o.holds("%s", arithmetic)
	}},
}

func (s *Site) fileSystem(dir string) string {
	if s.Host == nil {
		return ""
	}
	return s.Host.Files[dir]
}
