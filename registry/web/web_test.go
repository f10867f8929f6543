package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidemark/registry"
)

func TestProblems(t *testing.T) {
	secret := errors.New("disk I/O error at /var/lib/secret.db")
	for _, c := range []struct {
		err         error
		want, retry string
	}{
		{registry.ErrNotFound, `{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no such record","request_id":"r1"}`, ""},
		{fmt.Errorf("read: %w: %w", registry.ErrBusy, secret), `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the registry is busy: send the same request again","request_id":"r1"}`, "1"},
		{fmt.Errorf("%w: %w", registry.ErrAway, secret), `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the registry cannot reach its database: send the same request again","request_id":"r1"}`, "5"},
		{registry.ErrStale, `{"type":"urn:registry:problem:stale","title":"Somebody else has changed it","status":409,"detail":"get the newest version and edit that","request_id":"r1"}`, ""},
		{secret, `{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the registry failed; its log says why, under this request_id","request_id":"r1"}`, ""},
		{fmt.Errorf("x: %w", registry.Faults{{Field: "phone", Detail: "is <wrong>"}, {Detail: "unknown field"}}),
			`{"type":"urn:registry:problem:invalid","title":"The fields cannot be stored like this","status":422,"request_id":"r1","errors":[{"pointer":"/phone","detail":"is \u003cwrong\u003e"},{"detail":"unknown field"}]}`, ""},
		{&Problem{Status: 429, Detail: "slowly", Retry: 1500 * time.Millisecond}, `{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"slowly","request_id":"r1"}`, "2"},
		{&Problem{Status: 429}, `{"type":"about:blank","title":"Too Many Requests","status":429,"request_id":"r1"}`, "1"},
		{BadRequest("%d bytes", 3), `{"type":"about:blank","title":"Bad Request","status":400,"detail":"3 bytes","request_id":"r1"}`, ""},
	} {
		w := httptest.NewRecorder()
		w.Header().Set(RequestID, "r1")
		ProblemOf(c.err).Write(w)
		if got := strings.TrimSpace(w.Body.String()); got != c.want || w.Header().Get("Retry-After") != c.retry || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v:\n%s, again after %q, want\n%s, again after %q", c.err, got, w.Header().Get("Retry-After"), c.want, c.retry)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	w := httptest.NewRecorder()
	WriteJSON(w, 201, map[string]string{"a": "<b>"})
	if got := w.Body.String(); w.Code != 201 || got != `{"a":"\u003cb\u003e"}`+"\n" || w.Header().Get("Content-Length") != fmt.Sprint(len(got)) {
		t.Errorf("%d %s %v", w.Code, got, w.Header())
	}
	w = httptest.NewRecorder()
	WriteJSON(w, 304, nil)
	if w.Code != 304 || w.Body.Len() > 0 || len(w.Header()) > 0 {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
}

func TestParseObject(t *testing.T) {
	nest := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}" }
	for text, wrong := range map[string]string{
		`{}`: "", ` {"a": [1, {"b": "]}\"\\"}]} `: "", nest(MaxDepth): "", `{"a":"` + strings.Repeat("[", 100) + `"}`: "",
		nest(MaxDepth + 1): "deeper than 32", strings.Repeat("[", 1_000_000): "deeper than 32",
		"": "not JSON", "null": "one JSON object", "[]": "one JSON object", "1": "one JSON object", "{}{}": "not JSON", `{"a":1,}`: "not JSON", "{\"a\":\"\xff\"}": "not UTF-8",
		`{"secret`: "at byte 8", `{'a':1}`: "not JSON", "{\"a\":\"\x00\"}": "not JSON",
	} {
		_, err := ParseObject([]byte(text))
		var p *Problem
		switch {
		case (err == nil) != (wrong == ""), err != nil && !strings.Contains(err.Error(), wrong):
			t.Errorf("%.60s: %v, want %q", text, err, wrong)
		case err != nil && (!errors.As(err, &p) || p.Status != 400 || strings.Contains(err.Error(), "secret")):
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

// FuzzParseObject: what is taken is what encoding/json takes for an object, and all else is the sender's fault.
func FuzzParseObject(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":{"b":[1,2,{"c":"\u0000\ud800"}]}}`, `{"a":1}}`, `[`, `{"note":"x","phone":"+682 55 123","uid":null}`, `{"shape":{"type":"Point","coordinates":[1,2,3]}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		raw, err := ParseObject(text)
		if err != nil {
			if p := ProblemOf(err); p.Status != 400 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		var any map[string]any
		if json.Unmarshal(text, &any) != nil || len(any) != len(raw) {
			t.Errorf("%q became %v", text, raw)
		}
	})
}
