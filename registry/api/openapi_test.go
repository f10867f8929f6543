package api

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"tidemark/registry"
	"tidemark/registry/web"
)

// Every route is in the document, and everything in the document is a route that answers. TestEverywhere holds each
// request and answer of the suite against it.
func TestTheDocumentHasTheRoutes(t *testing.T) {
	more := web.Route{Method: "PUT", Pattern: "/api/more/{thing}", Scopes: []registry.Scope{registry.Admin}, Handle: nil,
		Doc: web.Doc{Summary: "Another package's", Body: web.Schema{"type": "object"}, Answers: map[int]web.Schema{204: nil}}}
	a := New(nil, Options{More: []web.Route{more}}).(*api)
	text, err := json.Marshal(describe(a.routes()))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Summary     string
			Responses   map[string]any
			Security    []map[string][]string
			Parameters  []struct{ Name, In string }
			RequestBody any
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatal(doc.OpenAPI, err)
	}
	var want, got []string
	for _, r := range a.routes() {
		want = append(want, r.Method+" "+r.Pattern)
	}
	ids := map[string]bool{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			method = strings.ToUpper(method)
			got = append(got, method+" "+path)
			_, pattern := a.mux.Handler(httptest.NewRequest(method, strings.NewReplacer("{", "", "}", "").Replace(path), nil))
			if pattern != method+" "+path {
				t.Errorf("%s %s is routed to %q", method, path, pattern)
			}
			if op.Summary == "" || len(op.Responses) == 0 || ids[op.OperationID] {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			ids[op.OperationID] = true
			if (len(op.Security) == 0) != (op.Responses["401"] == nil) {
				t.Errorf("%s %s asks for %v and may answer 401: %v", method, path, op.Security, op.Responses["401"] != nil)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) || !slices.Contains(got, "PUT /api/more/{thing}") || len(got) < 9 {
		t.Errorf("the document has\n%v, the routes are\n%v", got, want)
	}
	put := doc.Paths["/api/more/{thing}"]["put"]
	if put.OperationID != "put_more_thing" || put.Parameters[0].Name != "thing" || put.RequestBody == nil || !slices.Equal(put.Security[0]["token"], []string{"admin"}) {
		t.Errorf("%+v", put)
	}
	if len(doc.Paths["/web/health"]["get"].Security) != 0 {
		t.Error("the health check wants a token")
	}
}

// Each reference in the document leads somewhere, and each schema is one.
func TestTheDocumentsSchemas(t *testing.T) {
	components, _ := dig(document(), "components", "schemas")
	if len(components) != 3*len(registry.Entities)+2 {
		t.Errorf("%d schemas", len(components))
	}
	for name := range components {
		if err := valid(web.Ref(name), []byte("0")); err == nil || strings.Contains(err.Error(), "resolve") {
			t.Errorf("%s takes a number (%v)", name, err)
		}
	}
	text, err := json.Marshal(document())
	if err != nil {
		t.Fatal(err)
	}
	for part := range bytes.SplitSeq(text, []byte(`"$ref":"`)) {
		ref, _, _ := bytes.Cut(part, []byte(`"`))
		if name, ok := bytes.CutPrefix(ref, []byte("#/components/schemas/")); ok && components[string(name)] == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	}
	record := fields{"entity": "farmer", "uid": registry.NewUID(), "version": 1, "created_at": "2026-11-23T09:00:00Z", "updated_at": "2026-11-23T09:00:00Z",
		"given_name": "Mere", "family_name": "Tuatai", "birth_date": "1978-03-09", "village": "Arorangi", "sex": "female", "status": "active", "consent": "given"}
	for field, wrong := range map[string]any{"": nil, "uid": "7", "version": 0, "sex": "x", "given_name": "", "national_id": "a b", "is_admin": true, "entity": "plot", "village": nil} {
		broken := fields{}
		for name, value := range record {
			broken[name] = value
		}
		if field != "" {
			broken[field] = wrong
		}
		text, err := json.Marshal(broken)
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(web.Ref("Farmer"), text); (err == nil) != (field == "") {
			t.Errorf("%s = %v: %v", field, wrong, err)
		}
	}
}
