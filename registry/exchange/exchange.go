// Package exchange takes farmers from CSV files and writes them into such: for offices that keep lists in spreadsheets.
// It owns the file's form, the matching of its rows with who is registered already, and how an import advances and is
// taken up again. Whether a row may be stored, and how it meets other people's edits, is store.Apply's matter.
//
// A file has a header with the names of the farmer's fields, in any order and case, and perhaps uid and version. A row
// whose farmer is registered already updates them, in the cells that are not empty; any other registers somebody new. A
// farmer is registered already who has the row's uid; without one, who has the row's name, birth date and national id, or
// name, birth date and village when not both have a national id. With a version, as exports have it, edits that others
// have made since then are not overwritten but go to the review queue where they meet the row's.
package exchange

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tidemark/registry"
	"tidemark/registry/store"
)

// Import is a file that was sent, and how far it has come.
type Import = store.Import

// Method is the name of the queue job that imports a file. Its payload is the import's id.
const Method = "import"

const (
	// MaxFile is the largest file, in bytes: some 100,000 farmers.
	MaxFile = 20 << 20
	// chunk is in which pieces a file is kept, in bytes.
	chunk = 256 << 10
	// batch is how many rows are imported in one transaction.
	batch = 100
)

// Upload keeps a file of farmers and enqueues the job that will import it as the actor, who is the one to have made what
// it changes. What is wrong with the file as a whole is a registry.Faults; what is wrong with a row shows in the error
// report.
func Upload(ctx context.Context, s *store.Store, who registry.Actor, now time.Time, name string, r io.Reader) (id int64, err error) {
	return keep(ctx, s, who, now, name, r, Method)
}

// Keep keeps a file for a caller who will Run it.
func Keep(ctx context.Context, s *store.Store, who registry.Actor, now time.Time, name string, r io.Reader) (id int64, err error) {
	return keep(ctx, s, who, now, name, r, "")
}

func keep(ctx context.Context, s *store.Store, who registry.Actor, now time.Time, name string, r io.Reader, method string) (id int64, err error) {
	var chunks [][]byte
	size := 0
	for r = io.LimitReader(r, MaxFile+1); ; {
		data := make([]byte, chunk)
		n, err := io.ReadFull(r, data)
		if n > 0 {
			chunks = append(chunks, data[:n])
			size += n
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read the file: %w", err)
		}
	}
	if size > MaxFile {
		return 0, faulty("is larger than %d MB: divide it", MaxFile>>20)
	}
	i := Import{Name: fileName(name), Actor: who.Name, Areas: who.Areas, CreatedAt: now}
	if i.Header, i.Total, err = survey(chunks); err != nil {
		return 0, err
	}
	return s.AddImport(ctx, i, chunks, method)
}

// survey reads a whole file once: it must be readable from end to end before any of it is stored.
func survey(chunks [][]byte) (header []string, rows int, err error) {
	readers := make([]io.Reader, len(chunks))
	for i, c := range chunks {
		readers[i] = bytes.NewReader(c)
	}
	sh, err := openSheet(io.MultiReader(readers...))
	if err != nil {
		return nil, 0, err
	}
	for {
		cells, _, err := sh.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		for _, c := range cells {
			if strings.ToValidUTF8(c, "") != c {
				return nil, 0, faulty("row %d is not UTF-8: %s", sh.row, saveAs)
			}
		}
	}
	if sh.row == 0 {
		return nil, 0, faulty("there is no row below the header")
	}
	return sh.header, sh.row, nil
}

// fileName is the last part of what the sender calls the file, as one printable line.
func fileName(name string) string {
	const most = 100
	name = path.Base(strings.ReplaceAll(strings.ToValidUTF8(name, ""), `\`, "/"))
	runes := slices.DeleteFunc([]rune(name), func(r rune) bool { return !unicode.IsPrint(r) })
	return string(runes[:min(len(runes), most)])
}

// Imports lists at most limit imports, the newest first.
func Imports(ctx context.Context, s *store.Store, limit int) ([]Import, error) {
	return s.Imports(ctx, limit)
}

// ImportByID returns an import, or registry.ErrNotFound.
func ImportByID(ctx context.Context, s *store.Store, id int64) (Import, error) {
	return s.Import(ctx, id)
}

// Cancel ends an import after the batch in hand; what it has stored stays. One that is over already is left as it is.
func Cancel(ctx context.Context, s *store.Store, now time.Time, id int64) error {
	return end(ctx, s, now, id, store.ImportCancelled, "")
}

// Fail ends an import that cannot be finished, and says why.
func Fail(ctx context.Context, s *store.Store, now time.Time, id int64, why error) error {
	return end(ctx, s, now, id, store.ImportFailed, why.Error())
}

func end(ctx context.Context, s *store.Store, now time.Time, id int64, state store.ImportState, fault string) error {
	for {
		i, err := s.Import(ctx, id)
		if err != nil || i.Over() {
			return err
		}
		i.State, i.Fault, i.DoneAt = state, fault, now
		if err := s.Advance(ctx, i.Done, i, nil); !errors.Is(err, registry.ErrStale) { // else it has just advanced
			return err
		}
	}
}

// Run imports a file, from the row on where it stands, and returns when the import is over. It can be stopped at any
// moment, by its context or by kill -9, and run again: each row is carried out once. progress, which may be nil, hears of
// each batch. registry.ErrStale says that somebody else runs the same import.
func Run(ctx context.Context, s *store.Store, id int64, now func() time.Time, progress func(Import)) error {
	i, err := s.Import(ctx, id)
	if err != nil || i.Over() {
		return err
	}
	from := i.Done
	if i.State = store.ImportRunning; i.StartedAt.IsZero() {
		i.StartedAt = now()
	}
	sh, err := openSheet(s.ImportFile(ctx, id))
	if err != nil {
		return err
	}
	r := running{s: s, sheet: sh, who: registry.Actor{Name: i.Actor, Areas: i.Areas, Device: fmt.Sprint("import:", id)}} // no device's id has a colon
	for !i.Over() {
		rows, err := r.read(i.Done)
		if err != nil {
			return err
		}
		wrong, err := r.store(ctx, now(), &i, rows)
		if err != nil {
			return err
		}
		if i.Done += len(rows); i.Done >= i.Total {
			i.State, i.DoneAt = store.ImportDone, now()
		}
		switch err := s.Advance(ctx, from, i, wrong); {
		case errors.Is(err, registry.ErrStale):
			if is, failed := s.Import(ctx, id); failed == nil && is.State == store.ImportCancelled {
				return nil
			}
			return err
		case err != nil:
			return err
		}
		from = i.Done
		if progress != nil {
			progress(i)
		}
	}
	return nil
}

type running struct {
	s     *store.Store
	sheet *sheet
	who   registry.Actor
}

// row is one of the file, read.
type row struct {
	n       int
	cells   []string // as they are
	uid     string   // its own, empty for none
	version int      // 0 for none
	fields  registry.Fields
	faults  registry.Faults
}

// read reads the batch of rows after the first done.
func (r *running) read(done int) ([]row, error) {
	var rows []row
	for len(rows) < batch {
		cells, wrong, err := r.sheet.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if r.sheet.row <= done {
			continue
		}
		one := row{n: r.sheet.row, cells: slices.Clone(cells)}
		if wrong != "" {
			one.faults = registry.Faults{{Detail: wrong}}
		}
		rows = append(rows, one)
	}
	if len(rows) == 0 {
		return nil, errors.New("the file ends before its last row") // it was counted when it came
	}
	return rows, nil
}

// parse reads the cells of a row.
func (r *running) parse(one *row, today time.Time) {
	if one.faults != nil {
		return
	}
	raw := map[string]json.RawMessage{}
	for i, name := range r.sheet.columns {
		cell := strings.TrimSpace(unguard(strings.TrimSpace(one.cells[i])))
		if cell == "" {
			continue
		}
		switch name {
		case errorColumn:
		case uidColumn:
			uid, ok := registry.ParseUID(cell)
			if one.uid = uid; !ok {
				one.faults = append(one.faults, registry.Fault{Field: name, Detail: "must be a UUID as an export has it, or empty for somebody new"})
			}
		case versionColumn:
			version, err := strconv.Atoi(cell)
			if one.version = version; err != nil || version < 1 {
				one.faults = append(one.faults, registry.Fault{Field: name, Detail: "must be a number as an export has it, or empty"})
			}
		default:
			text, err := json.Marshal(cell)
			if err != nil {
				panic(err) // a string
			}
			raw[name] = text
		}
	}
	fields, faults := registry.EntityNamed("farmer").Decode(raw, today)
	for i, f := range faults {
		var cell string
		_ = json.Unmarshal(raw[f.Field], &cell) // written above
		faults[i].Detail += advice(f.Field, cell)
	}
	one.fields, one.faults = fields, append(one.faults, faults...)
}

// advice says what to write instead of what spreadsheets make of dates and telephone numbers.
func advice(field, cell string) string {
	switch registry.EntityNamed("farmer").Field(field).Kind {
	case registry.Date:
		parts := strings.NewReplacer(".", "/", "-", "/").Replace(cell)
		day, notDay := time.Parse("2/1/2006", parts)
		american, notAmerican := time.Parse("1/2/2006", parts)
		switch {
		case notDay == nil && notAmerican == nil && !day.Equal(american):
			return fmt.Sprintf(": %s can be two days, so write the year first", cell)
		case notDay == nil:
			return fmt.Sprintf(": write %s instead of %s", day.Format(time.DateOnly), cell)
		case notAmerican == nil:
			return fmt.Sprintf(": write %s instead of %s", american.Format(time.DateOnly), cell)
		}
		if n, err := strconv.Atoi(cell); err == nil && n > 366 && n < 100_000 { // a spreadsheet counts days
			return fmt.Sprintf(": %s is a spreadsheet's number of a day, perhaps %s: give the column the format yyyy-mm-dd", cell,
				time.Date(1899, time.December, 30, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n).Format(time.DateOnly))
		}
	case registry.Phone, registry.Code:
		if _, err := strconv.ParseFloat(cell, 64); err == nil && strings.ContainsAny(cell, "eE.") {
			return ": a spreadsheet has made a number of it, so give the column the format text and write it again"
		}
		if registry.EntityNamed("farmer").Field(field).Kind == registry.Phone && strings.Trim(cell, "0123456789 ") == "" {
			return ": a spreadsheet may have taken away the +, so give the column the format text and write it again"
		}
	}
	return ""
}

// store carries a batch out, counts it in i, and returns the rows to be looked at.
func (r *running) store(ctx context.Context, now time.Time, i *Import, rows []row) ([]store.ImportError, error) {
	today := registry.Today(now)
	for n := range rows {
		r.parse(&rows[n], today)
	}
	changes, err := r.match(ctx, now, i, rows)
	if err != nil {
		return nil, err
	}
	results, err := r.s.Apply(ctx, r.who, now, changes)
	if err != nil {
		return nil, err
	}
	var wrong []store.ImportError
	for n, result := range results {
		const tries = 3
		for t := 0; result.Outcome == registry.Retry && t < tries; t++ {
			again, err := r.s.Apply(ctx, r.who, now, changes[n:n+1])
			if err != nil {
				return nil, err
			}
			result = again[0]
		}
		why := ""
		switch result.Outcome {
		case registry.Created:
			i.Created++
		case registry.Updated, registry.Merged:
			i.Updated++
		case registry.Conflict:
			i.Conflict++
			why = fmt.Sprintf("%s: others have changed the same; review %d decides", strings.Join(result.Conflict, ", "), result.Review)
		case registry.Duplicate:
			i.Duplicate++
			why = fmt.Sprintf("national_id: the farmer %s has it; registered without it, and review %d decides", result.Of, result.Review)
		case registry.Retry:
			i.Rejected++
			why = "the registry had no time for this row: send it again"
		default:
			i.Rejected++
			why = result.Faults.Error()
		}
		if why != "" {
			wrong = append(wrong, store.ImportError{Row: rows[n].n, Cells: rows[n].cells, Error: why})
		}
	}
	return wrong, nil
}

// match finds out whom the rows are about, and makes changes of them.
func (r *running) match(ctx context.Context, now time.Time, i *Import, rows []row) ([]registry.Change, error) {
	var uids, ids []string
	var named [][2]string
	for _, one := range rows {
		uids = append(uids, cmp.Or(one.uid, ownUID(i, one.n)))
		if id := one.fields.Text("national_id"); id != "" {
			ids = append(ids, id)
		}
		if me := identity(&one); me.NameKey != "" && me.VillageKey != "" {
			named = append(named, [2]string{me.VillageKey, me.NameKey})
		}
	}
	known, err := r.s.Identities(ctx, uids, ids, named)
	if err != nil {
		return nil, err
	}
	changes := make([]registry.Change, len(rows))
	for n := range rows {
		one := &rows[n]
		c := registry.Change{OpID: fmt.Sprint(one.n), Entity: "farmer", Op: registry.Create, UID: one.uid, Fields: one.fields, At: now, Faults: one.faults}
		me := identity(one)
		if c.UID == "" {
			c.UID = ownUID(i, one.n)
			if _, again := known[c.UID]; !again { // else it was stored before this run: its answer is given again
				c.UID = find(known, me, c.UID)
			}
		}
		if is, ok := known[c.UID]; ok {
			c.Op, c.Base = registry.Update, is.Version
			if one.version > 0 {
				c.Base = one.version
			}
		} else if one.faults == nil { // for the rows below it
			me.UID, me.Version = c.UID, 1
			known[c.UID] = me
		}
		changes[n] = c
	}
	return changes, nil
}

// identity is what a row says of who it is about.
func identity(one *row) store.Identity {
	f := one.fields
	me := store.Identity{BirthDate: f.Text("birth_date"), NationalID: f.Text("national_id"), VillageKey: registry.Fold(f.Text("village")), Area: f.Text("island")}
	if given, family := f.Text("given_name"), f.Text("family_name"); given != "" && family != "" {
		me.NameKey = registry.Fold(family + " " + given)
	}
	return me
}

// find returns the uid of who is the same person, or else.
func find(known map[string]store.Identity, me store.Identity, or string) string {
	for _, uid := range slices.Sorted(maps.Keys(known)) {
		is := known[uid]
		switch {
		case me.NameKey == "" || is.NameKey != me.NameKey || is.BirthDate != me.BirthDate:
		case me.NationalID != "" && is.NationalID != "":
			if me.NationalID == is.NationalID {
				return uid
			}
		case is.VillageKey == me.VillageKey && (me.Area == "" || is.Area == "" || registry.Fold(me.Area) == registry.Fold(is.Area)):
			return uid
		}
	}
	return or
}

// ownUID is the uid of who is registered by a row: the same whenever the row is read, and no other row's.
func ownUID(i *Import, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %q %q %d", i.ID, i.CreatedAt.UnixMilli(), i.Actor, i.Name, n))
	return registry.FormatUID([16]byte(sum[:16]))
}
