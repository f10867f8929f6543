package rehearsal

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"tidemark/internal/prove/scenario"
)

// odoo answers in the shapes of Odoo 18's web client: JSON-RPC errors come with status 200, the session is a cookie, and forms carry a
// token against forgery.
type odoo struct {
	t *testing.T

	mu       sync.Mutex
	partners map[int]string
	next     int
	refused  int
	calls    map[string]int
}

func (o *odoo) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /web/login", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session_id", Value: "anonymous", Path: "/", HttpOnly: true})
		fmt.Fprint(w, `<form class="oe_login_form"><input type="hidden" name="csrf_token" value="f3a9o1700000000"/><input name="login"/></form>`)
	})
	mux.HandleFunc("POST /web/login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("csrf_token") != "f3a9o1700000000" || r.FormValue("password") != "secret" || !signed(r, "anonymous") {
			http.Error(w, "Session expired (invalid CSRF token)", http.StatusBadRequest)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "session_id", Value: "s1", Path: "/", HttpOnly: true})
		http.Redirect(w, r, "/odoo", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /odoo", func(w http.ResponseWriter, r *http.Request) {
		if !signed(r, "s1") {
			http.Redirect(w, r, "/web/login", http.StatusSeeOther)
			return
		}
		fmt.Fprint(w, `<html><script>var odoo = {csrf_token: "f3a9"};</script></html>`)
	})
	mux.HandleFunc("POST /web/session/authenticate", func(w http.ResponseWriter, r *http.Request) {
		var call struct {
			Params struct{ DB, Login, Password string }
		}
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil || call.Params.Password != "secret" || call.Params.DB != "odoo" {
			o.refuse(w, "odoo.exceptions.AccessDenied", "Access Denied")
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "session_id", Value: "s1", Path: "/", HttpOnly: true})
		o.answer(w, map[string]any{"uid": 2, "is_admin": true, "db": "odoo", "server_version": "18.0", "user_context": map[string]any{"lang": "en_US"}})
	})
	mux.HandleFunc("POST /web/dataset/call_kw/{model}/{method}", o.call)
	return mux
}

func signed(r *http.Request, session string) bool {
	c, err := r.Cookie("session_id")
	return err == nil && c.Value == session
}

func (o *odoo) answer(w http.ResponseWriter, result any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err := json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": nil, "result": result}); err != nil {
		o.t.Error(err)
	}
}

func (o *odoo) refuse(w http.ResponseWriter, name, message string) {
	o.mu.Lock()
	o.refused++
	o.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprintf(w, `{"jsonrpc": "2.0", "id": null, "error": {"code": 200, "message": "Odoo Server Error", "data": {"name": %q, "message": %q, "arguments": [], "context": {}}}}`, name, message)
}

func (o *odoo) call(w http.ResponseWriter, r *http.Request) {
	if !signed(r, "s1") {
		o.refuse(w, "odoo.http.SessionExpiredException", "Session expired")
		return
	}
	var call struct {
		JSONRPC string
		Method  string
		Params  struct {
			Model, Method string
			Args          []json.RawMessage
			Kwargs        map[string]any
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil || call.Params.Model != r.PathValue("model") || call.Params.Method != r.PathValue("method") || call.Params.Kwargs == nil {
		o.refuse(w, "builtins.TypeError", fmt.Sprint("malformed call: ", err))
		return
	}
	o.mu.Lock()
	o.calls[call.Params.Method]++
	defer o.mu.Unlock()
	record := func(id int) map[string]any {
		return map[string]any{"id": id, "name": o.partners[id], "email": false, "phone": "+68212345"}
	}
	var all []map[string]any
	for id := range o.partners {
		if len(all) < 80 {
			all = append(all, record(id))
		}
	}
	arg := func(v any) bool { return len(call.Params.Args) > 0 && json.Unmarshal(call.Params.Args[0], v) == nil }
	var ids []int
	var one map[string]any
	var many []map[string]any
	switch m := call.Params.Method; {
	case m == "search_read":
		o.answer(w, all)
	case m == "web_search_read":
		o.answer(w, map[string]any{"length": len(o.partners), "records": all})
	case m == "read" && arg(&ids):
		o.answer(w, []any{record(ids[0])})
	case m == "create" && arg(&one):
		o.next++
		o.partners[o.next] = fmt.Sprint(one["name"])
		o.answer(w, o.next)
	case m == "create" && arg(&many):
		for _, v := range many {
			o.next++
			o.partners[o.next] = fmt.Sprint(v["name"])
			ids = append(ids, o.next)
		}
		o.answer(w, ids)
	case m == "unlink" && arg(&ids):
		for _, id := range ids {
			delete(o.partners, id)
		}
		o.answer(w, true)
	default:
		o.t.Errorf("an unknown call: %s", m)
	}
}

// The scenarios play against Odoo's own routes, by the library odoo, and leave nothing behind.
func TestOdooJourneys(t *testing.T) {
	o := &odoo{t: t, partners: map[int]string{1: "YourCompany", 2: "Mitchell \"Admin\""}, next: 2, calls: map[string]int{}}
	srv := httptest.NewServer(o.handler())
	defer srv.Close()
	target, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ODOO_PASSWORD", "secret")
	for _, name := range []string{"peak-farmer-registration-drive", "concurrent-mobile-sync"} {
		s, err := scenario.Open(name, scenario.Options{Library: "odoo", Compress: 60})
		if err != nil {
			t.Fatal(err)
		}
		out, err := DryRun(t.Context(), Plan{Scenario: s, Target: target, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		sum := total(out)
		if len(sum.Failed) > 0 || sum.Count < 3 || o.refused > 0 {
			t.Errorf("%s: %d requests, failed %v, %d refused", name, sum.Count, sum.Failed, o.refused)
		}
		if len(o.partners) != 2 || len(out.Cleanup) != 1 || !strings.Contains(out.Cleanup[0], "were removed") {
			t.Errorf("%s leaves %d contacts: %q", name, len(o.partners), out.Cleanup)
		}
	}
	for _, call := range []string{"search_read", "web_search_read", "read", "create", "unlink"} {
		if o.calls[call] == 0 {
			t.Errorf("%s was never called: %v", call, o.calls)
		}
	}
	// A refusal that comes with status 200 is a failure.
	t.Setenv("ODOO_PASSWORD", "wrong")
	s, err := scenario.Open("baseline", scenario.Options{Library: "odoo"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = DryRun(t.Context(), Plan{Scenario: s, Target: target, Seed: 1})
	if err == nil || !slices.ContainsFunc([]string{"Access Denied", "does not match"}, func(w string) bool { return strings.Contains(err.Error(), w) }) {
		t.Errorf("%v", err)
	}
}
