package site

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tidemark/registry"
	"tidemark/registry/store"
)

const (
	perPage  = 50
	maxQuery = 200 // bytes of what is searched for
)

// farmersPage is what the template of the list is given.
type farmersPage struct {
	Inputs []input
	Found  []registry.Record
	Next   string // the address of the next part, empty when there is none
	More   bool   // of a search: there are more than are shown
	Search bool
}

// farmers lists by name, or searches: a uid or national id exactly, a name by its beginning and then by its resemblance.
func (s *site) farmers(w http.ResponseWriter, r *http.Request, p *page) error {
	query := r.URL.Query()
	q, status := strings.TrimSpace(query.Get("q")), query.Get("status")
	island, village, _ := strings.Cut(query.Get(place), "/")
	if !slices.Contains(registry.Statuses, status) {
		status = ""
	}
	data := farmersPage{Search: q != ""}
	who, ctx := p.Account.Actor(), r.Context()
	var err error
	switch uid, isUID := registry.ParseUID(q); {
	case len(q) > maxQuery:
		p.Wrong = []wrong{{Field: "q", Label: "Name or number", Detail: "is too long"}}
	case isUID:
		return seeOther(w, r, "/admin/farmers/"+uid)
	case q != "" && strings.ContainsFunc(q, unicode.IsDigit):
		var f registry.Record
		if f, err = s.store.ByNationalID(ctx, who, strings.ToUpper(q)); err == nil && !f.Deleted {
			data.Found = []registry.Record{f}
		} else if errors.Is(err, registry.ErrNotFound) {
			err = nil
		}
	case q != "" && utf8.RuneCountInString(registry.Fold(q)) < 2:
		p.Wrong = []wrong{{Field: "q", Label: "Name or number", Detail: "needs two letters or more"}}
	case q != "":
		data.Found, err = s.store.ByName(ctx, who, q, village, perPage+1)
		data.More = len(data.Found) > perPage
		data.Found = data.Found[:min(len(data.Found), perPage)]
		data.Found = slices.DeleteFunc(data.Found, func(f registry.Record) bool {
			return status != "" && f.Fields["status"] != status || island != "" && f.Fields["island"] != island
		})
	default:
		data.Found, data.Next, err = s.listed(ctx, who, store.Listing{Status: status, Village: village, Island: island, Limit: perPage + 1}, query)
	}
	if err != nil {
		return err
	}
	villages, err := s.store.Villages(ctx)
	if err != nil {
		return err
	}
	villages = slices.DeleteFunc(villages, func(v registry.Village) bool { return !who.May(v.Island) })
	find := input{Name: "q", Label: "Name or number", Hint: "A name, a national identity number or a uid", Type: "search", Value: q}
	if len(p.Wrong) > 0 {
		find.Wrong = p.Wrong[0].Detail
	}
	where := input{Name: place, Label: "Village", Type: "select", Value: query.Get(place), Choose: "All villages", Groups: byIsland(villages)}
	state := input{Name: "status", Label: "Status", Type: "select", Value: status, Choose: "Any status"}
	for _, c := range registry.Statuses {
		state.Options = append(state.Options, option{c, p.Choice(c)})
	}
	data.Inputs = []input{find, where, state}
	p.Title, p.Data = "Farmers", data
	s.show(w, http.StatusOK, "farmers", p)
	return nil
}

// listed reads one part of the list. The address of the next one says after whom it begins by uid: names stay out of it.
func (s *site) listed(ctx context.Context, who registry.Actor, l store.Listing, query url.Values) (found []registry.Record, next string, err error) {
	if uid, ok := registry.ParseUID(query.Get("after")); ok {
		last, err := s.store.Get(ctx, who, "farmer", uid)
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return nil, "", err
		}
		if err == nil {
			l.After = store.PlaceOf(last)
		}
	}
	if found, err = s.store.FarmersByName(ctx, who, l); err != nil || len(found) < l.Limit {
		return found, "", err
	}
	found = found[:l.Limit-1]
	query.Set("after", found[len(found)-1].UID)
	return found, "/admin/farmers?" + query.Encode(), nil
}

// farmerPage is what the template of one farmer is given.
type farmerPage struct {
	Farmer      registry.Record
	Fields      []shown
	Household   string // its name
	Plots       []registry.Record
	Submissions []answered
	History     []revised
}

// shown is a field with its value, for people.
type shown struct{ Label, Value string }

// answered is a submission with its answers under the form's own words.
type answered struct {
	registry.Record
	Form    string
	Answers []shown
}

// revised is an entry of the audit trail with what it changed.
type revised struct {
	registry.Revision
	Changes []change
}

type change struct{ Label, Old, New string }

// living returns the farmer of the path who is there, and not only a tombstone.
func (s *site) living(r *http.Request, p *page) (registry.Record, error) {
	uid, ok := registry.ParseUID(r.PathValue("uid"))
	if !ok {
		return registry.Record{}, registry.ErrNotFound
	}
	f, err := s.store.Get(r.Context(), p.Account.Actor(), "farmer", uid)
	if err == nil && f.Deleted {
		err = registry.ErrNotFound
	}
	return f, err
}

func fullName(f registry.Record) string {
	return f.Fields.Text("given_name") + " " + f.Fields.Text("family_name")
}

func (p *page) fields(r registry.Record) (all []shown) {
	for _, f := range registry.EntityNamed(r.Entity).Fields {
		if f.Kind != registry.Reference {
			all = append(all, shown{p.Label(f.Name), p.Show(f.Name, r.Fields[f.Name])})
		}
	}
	return all
}

func (s *site) farmer(w http.ResponseWriter, r *http.Request, p *page) error {
	f, err := s.living(r, p)
	if err != nil {
		return err
	}
	ctx, data := r.Context(), farmerPage{Farmer: f, Fields: p.fields(f)}
	if uid := f.Fields.Text("household"); uid != "" {
		h, err := s.store.Get(ctx, p.Account.Actor(), "household", uid)
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return err
		}
		data.Household = h.Fields.Text("name")
	}
	if data.Plots, err = s.store.Children(ctx, "plot", f.UID); err != nil {
		return err
	}
	submissions, err := s.store.Children(ctx, "submission", f.UID)
	if err != nil {
		return err
	}
	if data.Submissions, err = s.answered(ctx, p, submissions); err != nil {
		return err
	}
	history, err := s.store.History(ctx, "farmer", f.UID)
	if err != nil {
		return err
	}
	for _, h := range history {
		data.History = append(data.History, revised{h, p.changes(h)})
	}
	p.Title, p.Data, p.Said = fullName(f), data, said[r.URL.Query().Get("done")]
	s.show(w, http.StatusOK, "farmer", p)
	return nil
}

// changes are what a revision changed, in the order of the farmer's fields.
func (p *page) changes(h registry.Revision) (all []change) {
	for _, f := range registry.EntityNamed("farmer").Fields {
		if was, ok := h.Fields[f.Name]; ok {
			all = append(all, change{p.Label(f.Name), p.Show(f.Name, was.Old), p.Show(f.Name, was.New)})
		}
	}
	return all
}

// answered puts the questions beside the answers. What a newer version of the form does not ask any more is shown under
// its name.
func (s *site) answered(ctx context.Context, p *page, submissions []registry.Record) ([]answered, error) {
	if len(submissions) == 0 {
		return nil, nil
	}
	forms, err := s.store.Forms(ctx)
	if err != nil {
		return nil, err
	}
	var all []answered
	for _, sub := range submissions {
		a := answered{Record: sub, Form: sub.Fields.Text("form")}
		given := map[string]any{}
		text, _ := sub.Fields["answers"].(registry.JSON)
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(forms, func(f registry.Form) bool { return f.ID == a.Form }); i >= 0 {
			a.Form = forms[i].Title
			for _, q := range forms[i].Questions {
				if v, ok := given[q.Name]; ok {
					a.Answers = append(a.Answers, shown{q.Label, p.Show("", v)})
					delete(given, q.Name)
				}
			}
		}
		names := make([]string, 0, len(given))
		for name := range given {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			a.Answers = append(a.Answers, shown{name, p.Show("", given[name])})
		}
		all = append(all, a)
	}
	slices.Reverse(all) // the newest first
	return all, nil
}

// editPage is what the template of the edit is given.
type editPage struct {
	Farmer registry.Record
	Inputs []input
	Clash  []clash // what somebody else has changed meanwhile
}

// clash is a field that two people have changed.
type clash struct{ Label, Yours, Theirs string }

func (s *site) editFarmer(w http.ResponseWriter, r *http.Request, p *page) error {
	f, err := s.living(r, p)
	if err != nil {
		return err
	}
	return s.showEdit(w, r, http.StatusOK, p, editPage{Farmer: f}, nil)
}

// edited returns the names of what the form of a farmer asks for, and how each is now. A village is chosen together with
// its island.
func edited(f registry.Record) (names []string, is map[string]string) {
	is = map[string]string{}
	for _, field := range registry.EntityNamed("farmer").Fields {
		name, value := field.Name, f.Fields.Text(field.Name)
		switch {
		case field.Kind == registry.Reference, name == "island":
			continue
		case name == "village":
			name, value = place, f.Fields.Text("island")+"/"+value
		}
		names = append(names, name)
		is[name] = value
	}
	return names, is
}

// showEdit shows the form with the farmer's fields, and over them what was typed.
func (s *site) showEdit(w http.ResponseWriter, r *http.Request, status int, p *page, data editPage, typed map[string]string) error {
	villages, err := s.store.Villages(r.Context())
	if err != nil {
		return err
	}
	who := p.Account.Actor()
	villages = slices.DeleteFunc(villages, func(v registry.Village) bool { return !who.May(v.Island) })
	for i := range p.Wrong {
		if p.Wrong[i].Field == "island" { // there is one field for both
			p.Wrong[i].Field = "village"
		}
	}
	names, is := edited(data.Farmer)
	for _, name := range names {
		f := registry.EntityNamed("farmer").Field(name)
		if name == place {
			f = registry.EntityNamed("farmer").Field("village")
		}
		in := p.input(f, is[name])
		in.Name, in.Edit, in.Was = name, true, is[name]
		if !f.Required {
			in.Optional = "optional"
		}
		if v, ok := typed[name]; ok {
			in.Value = v
		}
		switch name {
		case place:
			in.Type, in.Groups = "select", byIsland(villages)
		case "note":
			in.Type = "textarea"
		}
		data.Inputs = append(data.Inputs, in)
	}
	for i := range p.Wrong {
		if p.Wrong[i].Field == "village" {
			p.Wrong[i].Field = place
		}
	}
	p.Title, p.Data = "Edit "+fullName(data.Farmer), data
	s.show(w, status, "edit", p)
	return nil
}

// saveFarmer stores what was edited, and only that. When somebody else was quicker, both versions are shown.
func (s *site) saveFarmer(w http.ResponseWriter, r *http.Request, p *page) error {
	if err := form(w, r); err != nil {
		return err
	}
	f, err := s.living(r, p)
	if err != nil {
		return err
	}
	e, now := registry.EntityNamed("farmer"), time.Now()
	sent, typed := map[string]json.RawMessage{}, map[string]string{}
	names, _ := edited(f)
	for _, name := range names {
		value, was := r.PostForm.Get(name), r.PostForm.Get("was_"+name)
		if !r.PostForm.Has(name) || value == was {
			continue
		}
		typed[name] = value
		if name == place {
			island, village, _ := strings.Cut(value, "/")
			sent["island"], sent["village"] = raw(island), raw(village)
			continue
		}
		sent[name] = raw(value)
	}
	fields, faults := e.Decode(sent, registry.Today(now))
	for name, value := range fields {
		if value == nil && e.Field(name).Required {
			faults = append(faults, registry.Fault{Field: name, Detail: "is required"})
		}
	}
	base := number(r.PostForm.Get("version"))
	if len(faults) == 0 && len(fields) == 0 && base == f.Version {
		return seeOther(w, r, "/admin/farmers/"+f.UID)
	}
	if len(faults) == 0 {
		c := registry.Change{Entity: "farmer", UID: f.UID, Op: registry.Update, Base: base, Fields: fields, Exact: true, At: now}
		results, err := s.store.Apply(r.Context(), p.Account.Actor(), now, []registry.Change{c})
		if err != nil {
			return err
		}
		switch result := results[0]; result.Outcome {
		case registry.Updated:
			return seeOther(w, r, "/admin/farmers/"+f.UID+"?done=saved")
		case registry.Stale:
			return s.showClash(w, r, p, typed)
		case registry.Rejected:
			faults = result.Faults
		case registry.Retry:
			return registry.ErrBusy
		default:
			return errors.New("an exact change was answered " + string(result.Outcome))
		}
	}
	p.blame(faults)
	return s.showEdit(w, r, http.StatusUnprocessableEntity, p, editPage{Farmer: f}, typed)
}

// showClash shows the form again over the newest version, with what was typed and what somebody else has written.
func (s *site) showClash(w http.ResponseWriter, r *http.Request, p *page, typed map[string]string) error {
	f, err := s.living(r, p)
	if err != nil {
		return err
	}
	data := editPage{Farmer: f}
	names, now := edited(f)
	for _, name := range names {
		is, was := now[name], r.PostForm.Get("was_"+name)
		mine, changed := typed[name]
		if is == was && !changed {
			continue
		}
		const untouched = "not changed"
		c := clash{Label: p.Label(name), Yours: untouched, Theirs: untouched}
		if changed {
			c.Yours = p.Show(name, mine)
		}
		if is != was {
			c.Theirs = p.Show(name, is)
		}
		data.Clash = append(data.Clash, c)
	}
	return s.showEdit(w, r, http.StatusConflict, p, data, typed)
}
