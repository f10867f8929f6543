package proxy

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// pages keeps public pages for a short while: those that are the same for everybody. Cookies and credentials are neither passed to
// them nor set by them, so that what is kept is never the page of somebody who has signed in.
//
// One request at a time fetches a page anew; meanwhile, and when that fails, the others are shown the old one.
type pages struct {
	mu   sync.Mutex
	kept map[string]*kept
	size int64
	hits uint64
}

// kept is one page. What it holds never changes.
type kept struct {
	header   http.Header
	body     []byte
	at       time.Time
	fetching bool // guarded by pages
}

const (
	maxPage  = 1 << 20
	maxPages = 1000
)

// public reports whether the request is for a page that may be kept.
func (p *plan) public(r *http.Request) bool {
	if r.Method != http.MethodGet || r.Header.Get("Upgrade") != "" {
		return false
	}
	for _, route := range p.cfg.Cache.Routes {
		if under(r.URL.Path, route) {
			return true
		}
	}
	return false
}

// serve answers from what is kept, or by fetch.
func (c *pages) serve(rw http.ResponseWriter, r *http.Request, cfg *Cache, fetch http.HandlerFunc) {
	key, now := r.Host+" "+r.URL.RequestURI(), time.Now()
	c.mu.Lock()
	old := c.kept[key]
	if old != nil && now.Sub(old.at) > cfg.Stale {
		old = nil
	}
	if old != nil && (now.Sub(old.at) <= cfg.For || old.fetching) {
		c.hits++
		c.mu.Unlock()
		old.show(rw, cfg, now)
		return
	}
	if old != nil {
		old.fetching = true
		defer func() { // also when the client left
			c.mu.Lock()
			defer c.mu.Unlock()
			old.fetching = false
		}()
	}
	c.mu.Unlock()

	r = r.Clone(r.Context())
	for _, h := range []string{"Cookie", "Authorization", "Accept-Encoding", "Range", "If-Range", "If-Modified-Since", "If-None-Match"} {
		r.Header.Del(h)
	}
	rec := &recorder{rw: rw, header: http.Header{}}
	fetch(rec, r)
	switch {
	case rec.through || rec.status == 0:
		return // it went straight to the client
	case rec.status >= 500 && old != nil:
		c.mu.Lock()
		c.hits++
		c.mu.Unlock()
		old.show(rw, cfg, time.Now())
		return
	case rec.status == http.StatusOK:
		k := &kept{header: rec.header.Clone(), body: bytes.Clone(rec.body.Bytes()), at: time.Now()}
		k.header.Del("Set-Cookie")
		k.header.Del("X-Tidemark-Worker")
		c.keep(key, k, cfg)
	}
	rec.header.Set("X-Cache-Status", "MISS")
	rec.pass()
}

// keep stores a page and makes room for it.
func (c *pages) keep(key string, k *kept, cfg *Cache) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
	if c.kept == nil {
		c.kept = map[string]*kept{}
	}
	c.kept[key] = k
	c.size += int64(len(k.body))
	for name, old := range c.kept {
		if k.at.Sub(old.at) > cfg.Stale {
			c.drop(name)
		}
	}
	for c.size > cfg.MaxBytes || len(c.kept) > maxPages {
		oldest := ""
		for name, old := range c.kept {
			if oldest == "" || old.at.Before(c.kept[oldest].at) {
				oldest = name
			}
		}
		c.drop(oldest)
	}
}

func (c *pages) drop(key string) {
	if k := c.kept[key]; k != nil {
		c.size -= int64(len(k.body))
		delete(c.kept, key)
	}
}

// show answers with the page.
func (k *kept) show(rw http.ResponseWriter, cfg *Cache, now time.Time) {
	age := now.Sub(k.at)
	status := "HIT"
	if age > cfg.For {
		status = "STALE"
	}
	h := rw.Header()
	for name, values := range k.header {
		h[name] = values
	}
	h.Set("X-Cache-Status", status)
	h.Set("Age", strconv.Itoa(int(age/time.Second)))
	rw.WriteHeader(http.StatusOK)
	_, _ = rw.Write(k.body) // the client may be gone
}

// recorder holds an answer back until it is whole; one that is longer than a page may be goes through.
type recorder struct {
	rw      http.ResponseWriter
	header  http.Header
	status  int
	body    bytes.Buffer
	through bool
}

func (c *recorder) Header() http.Header { return c.header }

func (c *recorder) WriteHeader(status int) {
	if c.status == 0 && status >= 200 {
		c.status = status
	}
}

func (c *recorder) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if !c.through && c.body.Len()+len(p) <= maxPage {
		return c.body.Write(p)
	}
	if !c.through {
		c.pass()
	}
	return c.rw.Write(p)
}

// pass lets through what is held back, and what follows.
func (c *recorder) pass() {
	c.through = true
	h := c.rw.Header()
	for name, values := range c.header {
		h[name] = values
	}
	h.Del("Set-Cookie")
	c.rw.WriteHeader(c.status)
	_, _ = c.rw.Write(c.body.Bytes()) // the client may be gone
}

// FlushError holds on to what is held back.
func (c *recorder) FlushError() error {
	if !c.through {
		return nil
	}
	if err := http.NewResponseController(c.rw).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// Unwrap lets deadlines reach the client's connection.
func (c *recorder) Unwrap() http.ResponseWriter { return c.rw }
