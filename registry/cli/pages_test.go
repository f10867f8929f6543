package cli

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The workers serve the pages beside the API, and what the master was told about proxies and TLS reaches them.
func TestPagesBesideTheAPI(t *testing.T) {
	db := makeDB(t)
	typed(t, "taro, breadfruit and rain\n")
	if code, _, stderr := run("account", "add", "--db", db, "--role", "viewer", "moana"); code != 0 {
		t.Fatal(stderr)
	}
	p := start(t, "--db", db, "--listen", "127.0.0.1:0", "--workers", "1", "--https", "--trusted-proxy", "192.0.2.1,2001:db8::/32")
	p.serving(1)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for path, want := range map[string]string{
		"/": "200 text/html; charset=utf-8", "/register": "200 text/html; charset=utf-8", "/admin/": "303 text/html; charset=utf-8", "/nothing": "404 text/html; charset=utf-8",
		"/api/forms": "200 application/json", "/api/nothing": "404 application/problem+json", "/web/health": "200 application/json", "/web/nothing": "404 application/problem+json",
	} {
		resp, err := client.Get("http://" + p.address + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if got := strings.Join([]string{resp.Status[:3], resp.Header.Get("Content-Type")}, " "); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	resp, err := client.PostForm("http://"+p.address+"/admin/sign-in", url.Values{"name": {"moana"}, "password": {"taro, breadfruit and rain"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if cookie := resp.Header.Get("Set-Cookie"); resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(cookie, "__Host-registry=") || !strings.Contains(cookie, "; Secure") {
		t.Error(resp.Status, cookie)
	}
	p.signal(unix.SIGTERM)
	p.ends()
	if log := p.text(); strings.Contains(log, "moana") || strings.Contains(log, "breadfruit") {
		t.Errorf("the log tells who signs in:\n%s", log)
	}
}
