package api

import (
	"errors"
	"net/http"
	"slices"

	"tidemark/registry"
	"tidemark/registry/web"
)

func (a *api) formRoutes() []web.Route {
	return []web.Route{
		{
			Method: "GET", Pattern: "/api/forms", Scopes: registry.Scopes, Handle: a.forms,
			Doc: web.Doc{Summary: "The newest version of each form", Answers: map[int]web.Schema{200: formsSchema}},
		},
		{
			Method: "POST", Pattern: "/api/forms/{id}/submissions", Scopes: registry.Scopes, Handle: a.submit,
			Doc: web.Doc{
				Summary: "Submit a farmer's answers to a form. The same uid with the same content again is harmless and answered 200",
				Body:    web.Ref("NewSubmission"), Answers: map[int]web.Schema{200: web.Ref("Submission"), 201: web.Ref("Submission")},
				Problems: []int{400, 404, 409, 413, 415, 422},
			},
		},
	}
}

func (a *api) forms(_ http.ResponseWriter, r *http.Request, _ registry.Actor) (int, any, error) {
	all, err := a.store.Forms(r.Context())
	return http.StatusOK, map[string]any{"forms": all}, err
}

func (a *api) submit(w http.ResponseWriter, r *http.Request, who registry.Actor) (int, any, error) {
	raw, err := web.ReadObject(w, r)
	if err != nil {
		return 0, nil, err
	}
	all, err := a.store.Forms(r.Context())
	if err != nil {
		return 0, nil, err
	}
	id := r.PathValue("id")
	if !slices.ContainsFunc(all, func(f registry.Form) bool { return f.ID == id }) {
		return 0, nil, &web.Problem{Status: http.StatusNotFound, Detail: "there is no such form: GET /api/forms lists them"}
	}
	if _, ok := raw["form"]; ok {
		return 0, nil, registry.Faults{{Field: "form", Detail: "is in the path"}}
	}
	status, doc, err := a.create(w, r, who, "submission", raw, registry.Fields{"form": id})
	var faults registry.Faults
	if errors.As(err, &faults) {
		for i := range faults {
			if faults[i].Field == "form" { // the form is there, so it is the version that is not
				faults[i].Field = "form_version"
			}
		}
	}
	return status, doc, err
}
