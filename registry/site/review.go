package site

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tidemark/registry"
	"tidemark/registry/store"
)

// said are the words for what was just done, by the name that an address has for it.
var said = map[string]string{
	"saved": "Saved.", "accepted": "Accepted and stored.", "rejected": "Rejected: nothing was changed.", "marked": "Marked as a duplicate.",
	"kept": "Both are kept.", "uploaded": "The file has arrived. It is imported in the background.",
}

// queuePage is what the template of the queue is given.
type queuePage struct {
	Kinds  []count
	Kind   string
	States []option
	State  string
	Found  []store.Review
	Next   string
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func (s *site) reviews(w http.ResponseWriter, r *http.Request, p *page) error {
	query, who := r.URL.Query(), p.Account.Actor()
	data := queuePage{Kind: query.Get("kind"), State: query.Get("state")}
	if !slices.Contains(store.ReviewKinds, data.Kind) {
		data.Kind = ""
	}
	if !slices.Contains(store.ReviewStates, data.State) {
		data.State = store.ReviewStates[0]
	}
	waiting, err := s.store.Waiting(r.Context(), who)
	if err != nil {
		return err
	}
	data.Kinds = []count{{Label: "All"}}
	for _, kind := range store.ReviewKinds {
		data.Kinds = append(data.Kinds, count{Name: kind, Label: kindLabels[kind], N: waiting[kind]})
		data.Kinds[0].N += waiting[kind]
	}
	for _, state := range store.ReviewStates {
		data.States = append(data.States, option{state, state})
	}
	data.Found, err = s.store.Reviews(r.Context(), who, data.State, data.Kind, int64(number(query.Get("after"))), perPage+1)
	if err != nil {
		return err
	}
	if len(data.Found) > perPage {
		data.Found = data.Found[:perPage]
		next := url.Values{"kind": {data.Kind}, "state": {data.State}, "after": {strconv.FormatInt(data.Found[perPage-1].ID, 10)}}
		data.Next = "/admin/review?" + next.Encode()
	}
	p.Title, p.Data, p.Said = "Review queue", data, said[query.Get("done")]
	s.show(w, http.StatusOK, "reviews", p)
	return nil
}

// What is the question in few words.
func (p *page) What(r store.Review) string {
	switch {
	case r.Kind == store.Preregistration:
		return r.Fields.Text("given_name") + " " + r.Fields.Text("family_name") + " asks to be registered"
	case r.Kind == store.Duplicate:
		return "Two farmers who may be one"
	case r.Op == registry.Delete:
		return "A deletion of a " + r.Entity + " that was changed meanwhile"
	case r.Op == registry.Create:
		return "A new " + r.Entity + " that could not be stored"
	}
	var names []string
	for _, f := range registry.EntityNamed(r.Entity).Fields {
		if _, ok := r.Fields[f.Name]; ok {
			names = append(names, strings.ToLower(p.Label(f.Name)))
		}
	}
	return "A " + r.Entity + "'s " + strings.Join(names, ", ")
}

// Kind is the name of a kind of question for people.
func (p *page) Kind(kind string) string { return strings.TrimSuffix(kindLabels[kind], "s") }

// questionPage is what the template of one question is given.
type questionPage struct {
	Review store.Review
	Record *registry.Record // as it is now; nil when there is none, or none that the account may see
	Other  *registry.Record // of a duplicate: the other of the two
	Rows   []row
	Alike  []registry.Record // of a preregistration: who has a similar name
	Farmer string            // the uid of the farmer whom it is about
	Seen   int               // the record's version
	Open   bool
}

// row is one field, side by side.
type row struct {
	Name, Label string
	Now, Wanted string
	Differs     bool
	Choose      bool // it may be accepted or left
}

func (s *site) review(w http.ResponseWriter, r *http.Request, p *page) error {
	q, err := s.question(r, p)
	if err != nil {
		return err
	}
	return s.showQuestion(w, r, http.StatusOK, p, q)
}

func (s *site) question(r *http.Request, p *page) (store.Review, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return store.Review{}, registry.ErrNotFound
	}
	return s.store.Review(r.Context(), p.Account.Actor(), id)
}

// see reads a record that may be missing or not the account's to see.
func (s *site) see(r *http.Request, p *page, entity, uid string) (*registry.Record, error) {
	if uid == "" {
		return nil, nil
	}
	found, err := s.store.Get(r.Context(), p.Account.Actor(), entity, uid)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &found, nil
}

func (s *site) showQuestion(w http.ResponseWriter, r *http.Request, status int, p *page, q store.Review) (err error) {
	data := questionPage{Review: q, Open: q.State == store.ReviewStates[0]}
	if data.Record, err = s.see(r, p, q.Entity, q.UID); err != nil {
		return err
	}
	now := registry.Fields{}
	if data.Record != nil {
		now, data.Seen = data.Record.Fields, data.Record.Version
		data.Farmer = now.Text("farmer")
		if q.Entity == "farmer" {
			data.Farmer = q.UID
		}
	}
	wanted := q.Fields
	switch q.Kind {
	case store.Duplicate:
		if data.Other, err = s.see(r, p, q.Entity, q.Of); err != nil {
			return err
		}
		now, wanted = now.With(claimed(q)), registry.Fields{} // the newer one as it was meant to be, beside the older one
		if data.Other != nil {
			wanted = data.Other.Fields
		}
	case store.Preregistration:
		name := wanted.Text("family_name") + " " + wanted.Text("given_name")
		if data.Open {
			if data.Alike, err = s.store.ByName(r.Context(), p.Account.Actor(), name, "", 5); err != nil {
				return err
			}
		}
	}
	for _, f := range registry.EntityNamed(q.Entity).Fields {
		want, is := wanted[f.Name]
		have := now[f.Name]
		if q.Kind == store.Conflict && !is || !is && have == nil || f.Kind == registry.Reference && q.Kind != store.Conflict {
			continue
		}
		data.Rows = append(data.Rows, row{Name: f.Name, Label: p.Label(f.Name), Now: p.Show(f.Name, have), Wanted: p.Show(f.Name, want),
			Differs: have != want, Choose: q.Kind == store.Conflict && q.Op == registry.Update})
	}
	p.Title, p.Data = p.What(q), data
	s.show(w, status, "review", p)
	return nil
}

// claimed are the fields that the newer one of two was registered with and could not have.
func claimed(q store.Review) registry.Fields {
	if q.Actor == store.Dedup { // it asks for a mark
		return nil
	}
	return q.Fields
}

// maxNote is the longest note, in characters.
const maxNote = 500

// decide closes a question, and goes on with the next of its kind.
func (s *site) decide(w http.ResponseWriter, r *http.Request, p *page) error {
	if err := form(w, r); err != nil {
		return err
	}
	q, err := s.question(r, p)
	if err != nil {
		return err
	}
	note := strings.TrimSpace(strings.ToValidUTF8(r.PostForm.Get("note"), ""))
	res := store.Resolution{Seen: number(r.PostForm.Get("seen")), Note: note}
	done := "rejected"
	var faults registry.Faults
	switch decision := r.PostForm.Get("decision"); {
	case utf8.RuneCountInString(note) > maxNote:
		faults = registry.Faults{{Field: "note", Detail: fmt.Sprintf("is longer than %d characters", maxNote)}}
	case decision == "reject":
		if q.Kind == store.Duplicate {
			done = "kept"
		}
	case q.Kind == store.Duplicate && (decision == "newer" || decision == "older"):
		res.Accept, res.Marked, done = true, map[string]string{"newer": q.UID, "older": q.Of}[decision], "marked"
	case q.Kind != store.Duplicate && decision == "accept":
		res.Accept, done = true, "accepted"
		if q.Kind == store.Conflict && q.Op == registry.Update {
			res.Fields = append([]string{}, r.PostForm["field"]...)
			if len(res.Fields) == 0 {
				faults = registry.Faults{{Field: "field", Detail: "tick what is accepted, or reject all of it"}}
			}
		}
	default:
		faults = registry.Faults{{Field: "decision", Detail: "must be one of those offered"}}
	}
	if len(faults) == 0 {
		err := s.store.Resolve(r.Context(), p.Account.Actor(), time.Now(), q.ID, res)
		switch {
		case err == nil:
			return seeOther(w, r, "/admin/review?kind="+q.Kind+"&done="+done)
		case errors.Is(err, registry.ErrStale):
			if q, err = s.question(r, p); err != nil {
				return err
			}
			p.Wrong = []wrong{{Detail: "The record was changed while you were looking: this is how it is now. Please decide again."}}
			if q.State != store.ReviewStates[0] {
				p.Wrong = []wrong{{Detail: "Somebody else has decided about this meanwhile."}}
			}
			return s.showQuestion(w, r, http.StatusConflict, p, q)
		case !errors.As(err, &faults):
			return err
		}
	}
	p.blame(faults)
	for i := range p.Wrong {
		if p.Wrong[i].Field != "note" && p.Wrong[i].Field != "field" { // the others are not asked for here
			p.Wrong[i].Field = ""
		}
	}
	return s.showQuestion(w, r, http.StatusUnprocessableEntity, p, q)
}
