package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"time"

	"tidemark/registry"
	"tidemark/registry/exchange"
	"tidemark/registry/store"
	"tidemark/registry/web"
)

// shownImports is how many imports the list goes back.
const shownImports = 50

// exchangePage is what the template of the imports and the export is given.
type exchangePage struct {
	File    input
	Imports []exchange.Import
	Filter  []input
}

func (s *site) imports(w http.ResponseWriter, r *http.Request, p *page) error {
	return s.showImports(w, r, http.StatusOK, p)
}

func (s *site) showImports(w http.ResponseWriter, r *http.Request, status int, p *page) error {
	all, err := exchange.Imports(r.Context(), s.store, shownImports)
	if err != nil {
		return err
	}
	who := p.Account.Actor()
	all = slices.DeleteFunc(all, func(i exchange.Import) bool { return !reaches(who, i) })
	villages, err := s.store.Villages(r.Context())
	if err != nil {
		return err
	}
	island := input{Name: "island", Label: "Island", Type: "select", Choose: "All islands"}
	for _, v := range villages {
		if o := (option{v.Island, v.Island}); who.May(v.Island) && !slices.Contains(island.Options, o) {
			island.Options = append(island.Options, o)
		}
	}
	state := input{Name: "status", Label: "Status", Type: "select", Choose: "Any status"}
	for _, c := range registry.Statuses {
		state.Options = append(state.Options, option{c, p.Choice(c)})
	}
	file := input{Name: "file", Label: "CSV file", Type: "file", Required: true,
		Hint: fmt.Sprintf("At most %d MB. The first line names the columns, such as given_name, family_name, birth_date, village; an export shows them all.", exchange.MaxFile>>20)}
	for _, x := range p.Wrong {
		file.Wrong = x.Detail
	}
	p.Title, p.Data = "Import and export", exchangePage{file, all, []input{island, state}}
	s.show(w, status, "imports", p)
	return nil
}

// reaches says whether the actor may see all that an import may have in it.
func reaches(who registry.Actor, i exchange.Import) bool {
	if len(who.Areas) == 0 {
		return true
	}
	return len(i.Areas) > 0 && !slices.ContainsFunc(i.Areas, func(a string) bool { return !who.May(a) })
}

// upload passes a file on as it comes in.
func (s *site) upload(w http.ResponseWriter, r *http.Request, p *page) error {
	r.Body = http.MaxBytesReader(w, r.Body, exchange.MaxFile+maxForm)
	parts, err := r.MultipartReader()
	if err != nil {
		return web.BadRequest("the file did not arrive as a form's")
	}
	part, err := parts.NextPart()
	for err == nil && part.FormName() != "file" {
		part, err = parts.NextPart()
	}
	var id int64
	if err == nil {
		id, err = exchange.Upload(r.Context(), s.store, p.Account.Actor(), time.Now(), part.FileName(), cut{part})
	}
	var over *http.MaxBytesError
	var faults registry.Faults
	switch {
	case err == nil:
		return seeOther(w, r, "/admin/imports/"+strconv.FormatInt(id, 10)+"?done=uploaded")
	case errors.As(err, &over):
		return &web.Problem{Status: http.StatusRequestEntityTooLarge}
	case errors.As(err, &faults):
	case errors.Is(err, io.EOF), errors.Is(err, errCut):
		faults = registry.Faults{{Field: "file", Detail: "did not arrive whole"}}
	default:
		return err
	}
	p.Wrong = nil
	for _, f := range faults {
		p.Wrong = append(p.Wrong, wrong{Field: "file", Label: "CSV file", Detail: registry.Faults{f}.Error()})
	}
	return s.showImports(w, r, http.StatusUnprocessableEntity, p)
}

var errCut = errors.New("the file did not arrive whole")

// cut tells a file that was cut off on its way from other errors.
type cut struct{ *multipart.Part }

func (c cut) Read(b []byte) (int, error) {
	n, err := c.Part.Read(b)
	var over *http.MaxBytesError
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &over) {
		err = errCut
	}
	return n, err
}

// one returns the import of the path.
func (s *site) one(r *http.Request, p *page) (exchange.Import, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return exchange.Import{}, registry.ErrNotFound
	}
	i, err := exchange.ImportByID(r.Context(), s.store, id)
	if err == nil && !reaches(p.Account.Actor(), i) {
		err = registry.ErrNotFound
	}
	return i, err
}

// importPage is what the template of one import is given.
type importPage struct {
	exchange.Import
	Percent int
	Watch   bool
}

// watchEvery is how often a page of an import that goes on is loaded again, in seconds.
const watchEvery = 3

func (s *site) imported(w http.ResponseWriter, r *http.Request, p *page) error {
	i, err := s.one(r, p)
	if err != nil {
		return err
	}
	data := importPage{Import: i, Percent: 100 * i.Done / max(i.Total, 1), Watch: r.URL.Query().Get("watch") != "no"}
	if !i.Over() {
		p.Said = said[r.URL.Query().Get("done")]
		if data.Watch {
			p.Refresh = watchEvery
		}
	}
	p.Title, p.Data = i.Name, data
	s.show(w, http.StatusOK, "import", p)
	return nil
}

func (s *site) cancelImport(w http.ResponseWriter, r *http.Request, p *page) error {
	i, err := s.one(r, p)
	if err != nil {
		return err
	}
	if err := exchange.Cancel(r.Context(), s.store, time.Now(), i.ID); err != nil {
		return err
	}
	return seeOther(w, r, "/admin/imports/"+strconv.FormatInt(i.ID, 10))
}

func (s *site) importErrors(w http.ResponseWriter, r *http.Request, p *page) error {
	i, err := s.one(r, p)
	if err != nil {
		return err
	}
	return s.download(w, r, fmt.Sprintf("import-%d-errors.csv", i.ID), func(out io.Writer) error {
		return exchange.ErrorReport(r.Context(), s.store, i.ID, out)
	})
}

// exportTime is how long an export may take: it is the only request that may take longer than others, and the worker's
// own limit on an answer is not longer.
const exportTime = 2 * time.Minute

// export streams the farmers whom the account may see.
func (s *site) export(w http.ResponseWriter, r *http.Request, p *page) error {
	if err := form(w, r); err != nil {
		return err
	}
	f := exchange.Filter{Status: r.PostForm.Get("status"), Island: r.PostForm.Get("island")}
	if f.Status != "" && !slices.Contains(registry.Statuses, f.Status) || f.Island != "" && !p.Account.Actor().May(f.Island) {
		return web.BadRequest("choose from the lists")
	}
	now := time.Now()
	if err := s.store.NoteSignIn(r.Context(), now, p.Account.ID, store.Exported, s.peer(r).address); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), exportTime) // a reader who leaves ends it by the next write
	defer cancel()
	return s.download(w, r, "farmers-"+now.UTC().Format(time.DateOnly)+".csv", func(out io.Writer) error {
		return exchange.Export(ctx, s.store, p.Account.Actor(), f, out)
	})
}

// download streams a CSV file. What goes wrong after its beginning can only cut the connection: a file that is not whole
// must not look so.
func (s *site) download(w http.ResponseWriter, r *http.Request, name string, write func(io.Writer) error) error {
	out := &started{ResponseWriter: w, name: name}
	err := write(out)
	switch {
	case err != nil && !out.begun:
		return err
	case err != nil:
		if r.Context().Err() == nil {
			s.Trouble(fmt.Errorf("request %s (%s): %w", w.Header().Get(web.RequestID), r.Pattern, err))
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// started sends a file's headers with its first bytes.
type started struct {
	http.ResponseWriter
	name  string
	begun bool
}

func (d *started) Write(b []byte) (int, error) {
	if !d.begun {
		d.begun = true
		h := d.Header()
		h.Set("Content-Type", "text/csv; charset=utf-8")
		h.Set("Content-Disposition", `attachment; filename="`+d.name+`"`)
	}
	return d.ResponseWriter.Write(b)
}
