// Package post hands a request to a place over HTTP and says, in tell's words, what the answer means. An address may hold a
// secret (a chat's webhook is nothing else), so no error names more of it than the host.
package post

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tidemark/internal/config"
	"tidemark/internal/tell"
)

// Place is where requests go.
type Place struct {
	URL     string
	CAFile  string        // further certificate authorities, PEM
	Timeout time.Duration // for one request, from dialling to the answer's end
}

// CheckURL adds a problem if s is no address of a place.
func CheckURL(errs *config.FieldErrors, field, s, example string) {
	u, err := url.Parse(s)
	fix := "write for example " + example
	switch {
	case s == "":
		errs.Add(field, "is missing", fix)
	case err != nil:
		errs.Add(field, "is no address", fix) // the error would quote it
	case u.Scheme != "https" && u.Scheme != "http":
		errs.Add(field, "begins with neither https:// nor http://", fix)
	case u.Hostname() == "":
		errs.Add(field, "names no host", fix)
	case u.User != nil:
		errs.Add(field, "has a user in it", "take it out: it would be stored in clear text wherever the address is")
	case u.Fragment != "":
		errs.Add(field, "has a # in it, and what follows is never sent", "take it out")
	}
}

// Do sends one request. 2xx is success. 408, 429, 5xx, a redirect to elsewhere (the login page of a network, often) and whatever
// breaks are tried again, not before the time that Retry-After names; any other answer is a *tell.Refusal.
func (p *Place) Do(ctx context.Context, method string, header http.Header, body []byte) error {
	u, err := url.Parse(p.URL)
	if err != nil {
		return &tell.Refusal{Err: errors.New("the address is none")}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.Timeout, fmt.Errorf("no answer within %v", p.Timeout))
	defer cancel()
	tlsConfig, err := tell.TLS(u.Hostname(), p.CAFile)
	if err != nil {
		return err
	}
	tlsConfig.ServerName = "" // net/http's to fill in
	// Requests are rare: a connection that is kept until the next would be dead by then.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: stay}
	req, err := http.NewRequestWithContext(ctx, method, p.URL, bytes.NewReader(body))
	if err != nil {
		return &tell.Refusal{Err: errors.New("the address is none")}
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", "Tidemark")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %s", u.Host, p.reason(ctx, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return nil // whatever else it says
	}
	said, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		said = nil // the status says enough
	}
	return p.judge(resp, u, said)
}

// stay follows redirects within the host, and only those that repeat the request as it is.
func stay(req *http.Request, via []*http.Request) error {
	first := via[0]
	if req.URL.Host != first.URL.Host || req.URL.Scheme != first.URL.Scheme || req.Method != first.Method || len(via) > 3 {
		return http.ErrUseLastResponse
	}
	return nil
}

// judge says what an answer means that is not a yes.
func (p *Place) judge(resp *http.Response, u *url.URL, said []byte) error {
	text := fmt.Sprintf("%s answers %d", u.Host, resp.StatusCode)
	if name := http.StatusText(resp.StatusCode); name != "" {
		text += " " + name
	}
	if to, err := resp.Location(); err == nil {
		text += ", and points to " + to.Host + ": if that is where it is now, write that address"
	} else if s := p.scrub(string(said)); s != "" {
		text += fmt.Sprintf(": %q", s)
	}
	err := errors.New(text)
	switch code := resp.StatusCode; {
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500 || code < 400:
		if wait := retryAfter(resp.Header.Get("Retry-After"), time.Now()); wait > 0 {
			return &tell.Later{Err: err, For: wait}
		}
		return err
	}
	return &tell.Refusal{Err: err}
}

// retryAfter reads seconds or a date (RFC 9110); 0 when it says nothing that can be read.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// reason says what broke, without the address that net/http puts in front of it.
func (p *Place) reason(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return context.Cause(ctx).Error()
	}
	for {
		var u *url.Error
		if !errors.As(err, &u) {
			break
		}
		err = u.Err
	}
	return p.scrub(err.Error())
}

// scrub makes one short line of what a server said, and takes out the address if it repeats it.
func (p *Place) scrub(s string) string {
	s = strings.ReplaceAll(s, p.URL, "***")
	if u, err := url.Parse(p.URL); err == nil {
		for _, secret := range []string{u.RequestURI(), u.EscapedPath(), u.Path} {
			if len(secret) > 1 {
				s = strings.ReplaceAll(s, secret, "***")
			}
		}
	}
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:199]) + "…"
	}
	return s
}
