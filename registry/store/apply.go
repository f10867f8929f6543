package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark/registry"
)

// chunk is how many changes share a transaction: enough to make its cost small, few enough to hold nobody up for long.
const chunk = 100

// Apply carries changes out, in their order, and returns a result for each. It is the one way by which records come to be
// and change.
//
// Each change is kept or refused by itself. A change whose op id the device has sent before is not carried out again: the
// first answer is given again. With an error, the changes before some point are carried out and those after it are not;
// sending all of them again is safe when they have op ids, and for creations by their uid.
func (s *Store) Apply(ctx context.Context, who registry.Actor, now time.Time, changes []registry.Change) ([]registry.Result, error) {
	results := make([]registry.Result, 0, len(changes))
	waiting := map[key]bool{}
	for part := range slices.Chunk(changes, chunk) {
		var done []registry.Result
		singly := false
		err := s.inTx(ctx, func(tx *sql.Tx) (err error) {
			done, err = s.apply(ctx, tx, who, now, part, waiting, singly)
			singly = singly || errors.Is(err, errTogether)
			return err
		})
		if err != nil {
			return results, fmt.Errorf("apply changes: %w", err)
		}
		results = append(results, done...)
		for i, r := range done {
			if r.Outcome == registry.Retry {
				waiting[key{part[i].Entity, part[i].UID}] = true
			}
		}
	}
	return results, nil
}

// errTogether is that of new records which cannot all be written with one statement: each must be tried by itself.
var errTogether = fmt.Errorf("%w: records are to be written one by one", registry.ErrBusy)

// applying is one transaction's work.
type applying struct {
	s       *Store
	tx      *sql.Tx
	who     registry.Actor
	now     time.Time
	today   time.Time
	records map[key]*stored // those that are changed, locked, and their parents
	answers map[string]registry.Result
	forms   map[string]*registry.Form
	waiting map[key]bool // records of which a change is to be sent again: what builds on it must come after it

	// New records are written many at a time, at the end or before the first statement that must find them; singly says that
	// this has failed. holders are the farmers who have the national ids of the changes, empty for nobody; nil when a record
	// has been changed since they were read.
	singly  bool
	fresh   map[*registry.Entity][][]any
	holders map[string]string

	// What is written at the end, many rows at a time.
	revisions [][]any
	ops       [][]any
	moved     []moved
	suspects  []string // uids of farmers to be compared with others
}

// moved is a record that takes a new place in the sequence of changes.
type moved struct {
	key
	area string
	gone bool // it has left the area, or is deleted
}

func (s *Store) applying(tx *sql.Tx, who registry.Actor, now time.Time) *applying {
	return &applying{
		s: s, tx: tx, who: who, now: fromMillis(now.UnixMilli()), today: registry.Today(now),
		records: map[key]*stored{}, answers: map[string]registry.Result{}, forms: map[string]*registry.Form{},
		fresh: map[*registry.Entity][][]any{}, singly: true, // who does not try again writes one by one
	}
}

func (s *Store) apply(ctx context.Context, tx *sql.Tx, who registry.Actor, now time.Time, changes []registry.Change, waiting map[key]bool, singly bool) ([]registry.Result, error) {
	a := s.applying(tx, who, now)
	a.waiting, a.singly = maps.Clone(waiting), singly
	if err := a.recall(ctx, changes); err != nil {
		return nil, err
	}
	if err := a.load(ctx, changes); err != nil {
		return nil, err
	}
	if err := a.held(ctx, changes); err != nil {
		return nil, err
	}
	results := make([]registry.Result, len(changes))
	for i, c := range changes {
		if r, ok := a.answers[c.OpID]; ok && c.OpID != "" {
			r.Replayed = true
			results[i] = r
			continue
		}
		r := registry.Result{Outcome: registry.Retry}
		if !a.waits(c) {
			var err error
			if r, err = a.one(ctx, c); err != nil {
				return nil, err
			}
		}
		if r.Outcome == registry.Retry {
			a.waiting[key{c.Entity, c.UID}] = true
		}
		r.OpID, r.Entity, r.UID = c.OpID, c.Entity, c.UID
		results[i] = r
		if c.OpID != "" && who.Device != "" && r.Outcome != registry.Retry {
			text, err := json.Marshal(r)
			if err != nil {
				return nil, err
			}
			a.answers[c.OpID] = r
			a.ops = append(a.ops, []any{who.Device, c.OpID, string(text), millis(a.now)})
		}
	}
	return results, a.flush(ctx)
}

// recall finds the op ids that the device has sent before.
func (a *applying) recall(ctx context.Context, changes []registry.Change) error {
	var args []any
	for _, c := range changes {
		if c.OpID != "" {
			args = append(args, c.OpID)
		}
	}
	if len(args) == 0 || a.who.Device == "" {
		return nil
	}
	return a.s.each(ctx, a.tx, func(rows *sql.Rows) error {
		var id, text string
		if err := rows.Scan(&id, &text); err != nil {
			return err
		}
		var r registry.Result
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return fmt.Errorf("the stored answer to op %s: %w", id, err)
		}
		a.answers[id] = r
		return nil
	}, "SELECT op_id, result FROM op WHERE device = ? AND op_id IN "+list(len(args)), append([]any{a.who.Device}, args...)...)
}

// load reads and locks the records that the changes are about, always in the same order, so that two transactions never
// wait for each other; and it reads their parents.
func (a *applying) load(ctx context.Context, changes []registry.Change) error {
	mine, parents := map[key]bool{}, map[key]bool{}
	for _, c := range changes {
		e := registry.EntityNamed(c.Entity)
		if e == nil {
			continue
		}
		mine[key{c.Entity, c.UID}] = true
		if uid := c.Fields.Text(e.Parent); e.Parent != "" && uid != "" {
			parents[key{e.Field(e.Parent).Of, uid}] = true
		}
	}
	for _, step := range []struct {
		keys map[key]bool
		lock string
	}{{mine, a.s.d.ForUpdate}, {parents, ""}} {
		for _, e := range registry.Entities {
			var args []any
			for k := range step.keys {
				if k.entity == e.Name && a.records[k] == nil {
					args = append(args, k.uid)
				}
			}
			if len(args) == 0 {
				continue
			}
			found, err := a.s.find(ctx, a.tx, e, "WHERE uid IN "+list(len(args))+" ORDER BY uid"+step.lock, args...)
			if err != nil {
				return err
			}
			for _, r := range found {
				a.records[key{e.Name, r.UID}] = r
			}
		}
	}
	return nil
}

// held reads who has the national ids of the changes.
func (a *applying) held(ctx context.Context, changes []registry.Change) error {
	if a.singly {
		return nil
	}
	a.holders = map[string]string{}
	var ids []any
	for _, c := range changes {
		if id := c.Fields.Text("national_id"); c.Entity == "farmer" && id != "" {
			a.holders[id] = ""
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return a.s.each(ctx, a.tx, func(rows *sql.Rows) error {
		var id, uid string
		err := rows.Scan(&id, &uid)
		a.holders[id] = uid
		return err
	}, "SELECT national_id, uid FROM farmer WHERE national_id <> '' AND national_id IN "+list(len(ids)), ids...)
}

// waits says whether a change builds on one that is to be sent again, of the same record or of its parent. Carried out
// before that one it would be refused for good.
func (a *applying) waits(c registry.Change) bool {
	e := registry.EntityNamed(c.Entity)
	return e != nil && (a.waiting[key{e.Name, c.UID}] || e.Parent != "" && a.waiting[key{e.Field(e.Parent).Of, c.Fields.Text(e.Parent)}])
}

func rejected(field, format string, args ...any) registry.Result {
	return registry.Result{Outcome: registry.Rejected, Faults: registry.Faults{{Field: field, Detail: fmt.Sprintf(format, args...)}}}
}

// taken refuses a national id that another farmer has.
func taken(of string) registry.Result {
	r := rejected("national_id", "is another farmer's")
	r.Of = of
	return r
}

// one decides about a change and carries it out. An error ends the whole transaction.
func (a *applying) one(ctx context.Context, c registry.Change) (registry.Result, error) {
	e := registry.EntityNamed(c.Entity)
	if e == nil {
		return rejected("entity", "there is no entity of this name"), nil
	}
	if len(c.Faults) > 0 {
		return registry.Result{Outcome: registry.Rejected, Faults: c.Faults}, nil
	}
	old := a.records[key{e.Name, c.UID}]
	switch {
	case old != nil && !a.who.May(old.area):
		return rejected("", "this record is not in your area"), nil
	case c.Op == registry.Create && old == nil:
		return a.create(ctx, e, c)
	case c.Op != registry.Create && old == nil:
		return rejected("client_uuid", "there is no such %s", e.Name), nil
	case c.Exact && (old.Deleted || c.Op != registry.Create && c.Base != old.Version):
		return registry.Result{Outcome: registry.Stale, Version: old.Version}, nil
	case c.Op == registry.Create:
		c.Base = 0 // somebody made it before, perhaps this very sender: what is the same is no edit
	case c.Base < 1 || c.Base > old.Version:
		return rejected("base_version", "must be from 1 to %d, the record's version", old.Version), nil
	}
	since, err := a.since(ctx, e, c, old)
	if err != nil {
		return registry.Result{}, err
	}
	switch {
	case c.Op == registry.Delete && old.Deleted:
		return registry.Result{Outcome: registry.Updated, Version: old.Version}, nil
	case c.Op == registry.Delete && len(since) > 0:
		return a.review(ctx, e, c, old, nil, "")
	case c.Op == registry.Delete:
		return a.store(ctx, e, c, old, old.Fields, true, registry.Updated)
	case old.Deleted:
		return a.review(ctx, e, c, old, c.Fields, "")
	}
	return a.update(ctx, e, c, old, since)
}

// since returns the fields that others have changed after the version that the editor saw. What the editor's own earlier
// edits changed is no surprise to them.
func (a *applying) since(ctx context.Context, e *registry.Entity, c registry.Change, old *stored) (map[string]bool, error) {
	if c.Base == old.Version {
		return nil, nil
	}
	since := map[string]bool{}
	if c.Base == 0 {
		for _, f := range e.Fields {
			since[f.Name] = true
		}
		return since, nil
	}
	// Edits of this very transaction are not in the table yet, and are the editor's own.
	err := a.s.each(ctx, a.tx, func(rows *sql.Rows) error {
		r, err := scanRevision(rows)
		if err == nil && r.Actor != a.who.Name {
			for name := range r.Fields {
				since[name] = true
			}
			if r.Op == registry.Delete {
				since["deleted"] = true
			}
		}
		return err
	}, "SELECT version, op, actor, at, client_at, fields FROM revision WHERE uid = ? AND entity = ? AND version > ?", c.UID, e.Name, c.Base)
	return since, err
}

func scanRevision(rows *sql.Rows) (r registry.Revision, err error) {
	var at, client int64
	var fields string
	if err := rows.Scan(&r.Version, &r.Op, &r.Actor, &at, &client, &fields); err != nil {
		return r, err
	}
	r.At, r.Client = fromMillis(at), fromMillis(client)
	if err := json.Unmarshal([]byte(fields), &r.Fields); err != nil {
		return r, fmt.Errorf("the audit trail: %w", err)
	}
	return r, nil
}

func (a *applying) create(ctx context.Context, e *registry.Entity, c registry.Change) (registry.Result, error) {
	fields := maps.Clone(c.Fields)
	faults := e.Complete(fields)
	area, parent, more, err := a.place(ctx, e, fields)
	if err != nil {
		return registry.Result{}, err
	}
	if faults = append(faults, more...); len(faults) > 0 {
		return registry.Result{Outcome: registry.Rejected, Faults: faults}, nil
	}
	if !a.who.May(area) {
		field := e.Parent
		if e.Field("island") != nil {
			field = "island"
		}
		return rejected(field, "is not in your area"), nil
	}
	if parent != nil && parent.Deleted && c.Exact {
		return rejected(e.Parent, "is deleted"), nil
	}
	if parent != nil && parent.Deleted { // made offline for a parent that is gone by now: a person must decide
		return a.review(ctx, e, c, &stored{area: area}, fields, parent.UID)
	}
	of, err := a.holder(ctx, e, fields.Text("national_id"), c.UID)
	if err != nil {
		return registry.Result{}, err
	}
	if of == "" {
		r, err := a.store(ctx, e, c, nil, fields, false, registry.Created)
		if err != nil || r.Outcome != registry.Retry || r.Of == "" {
			return r, err
		}
		of = r.Of // somebody else registered the number at this very moment
	}
	if c.Exact {
		return taken(of), nil
	}
	// The farmer is kept, so that nothing which hangs on them is lost; the number stays with who had it first.
	claimed := registry.Fields{"national_id": fields["national_id"], "status": fields["status"]}
	fields["status"] = "duplicate"
	delete(fields, "national_id")
	r, err := a.store(ctx, e, c, nil, fields, false, registry.Duplicate)
	if err != nil || r.Outcome != registry.Duplicate {
		return r, err
	}
	r.Of = of
	r.Review, err = a.queue(ctx, "duplicate", e, c, claimed, of, area)
	return r, err
}

func (a *applying) update(ctx context.Context, e *registry.Entity, c registry.Change, old *stored, since map[string]bool) (registry.Result, error) {
	change := maps.Clone(c.Fields)
	for _, name := range []string{"village", "island"} { // another spelling of the same place is no edit
		if is := old.Fields.Text(name); is != "" && registry.Fold(change.Text(name)) == registry.Fold(is) {
			change[name] = is
		}
	}
	m := registry.Merge(e, old.Fields, since, change)
	if c.Exact && c.Op == registry.Create && len(m.Apply)+len(m.Review) > 0 {
		return registry.Result{Outcome: registry.Stale, Version: old.Version}, nil
	}
	outcome, of := registry.Updated, ""
	if m.Beside {
		outcome = registry.Merged
	}
	if id, ok := m.Apply["national_id"].(string); ok {
		var err error
		if of, err = a.holder(ctx, e, id, c.UID); err != nil {
			return registry.Result{}, err
		}
		if of != "" && c.Exact {
			return taken(of), nil
		}
		if of != "" {
			m.Review["national_id"] = id
			m.Conflict = append(m.Conflict, "national_id")
			delete(m.Apply, "national_id")
		}
	}
	r := registry.Result{Outcome: outcome, Version: old.Version}
	if len(m.Apply) > 0 {
		fields := old.Fields.With(m.Apply)
		faults := e.Complete(fields)
		_, parent, more, err := a.place(ctx, e, fields)
		if err != nil {
			return r, err
		}
		if parent != nil && parent.Deleted && m.Apply[e.Parent] != nil {
			more = append(more, registry.Fault{Field: e.Parent, Detail: "is deleted"})
		}
		if faults = append(faults, more...); len(faults) > 0 {
			return registry.Result{Outcome: registry.Rejected, Faults: faults}, nil
		}
		if r, err = a.store(ctx, e, c, old, fields, false, outcome); err != nil || r.Outcome != outcome {
			return r, err
		}
	}
	if len(m.Review) == 0 {
		return r, nil
	}
	id, err := a.queue(ctx, "conflict", e, c, m.Review, of, old.area)
	if err != nil {
		return r, err
	}
	r.Outcome, r.Conflict, r.Of, r.Review = registry.Conflict, m.Conflict, of, id
	return r, nil
}

// place finds the island that a record belongs to, writes the proper names of its village into fields, and checks what
// the fields refer to.
func (a *applying) place(ctx context.Context, e *registry.Entity, fields registry.Fields) (area string, parent *stored, faults registry.Faults, err error) {
	if uid := fields.Text(e.Parent); e.Parent != "" && uid != "" {
		of := e.Field(e.Parent).Of
		if parent = a.records[key{of, uid}]; parent == nil { // the parent of a record that is changed in other fields
			found, err := a.s.find(ctx, a.tx, registry.EntityNamed(of), "WHERE uid = ?", uid)
			if err != nil {
				return "", nil, nil, err
			}
			if len(found) == 1 {
				parent = found[0]
				a.records[key{of, uid}] = parent
			}
		}
		if parent == nil {
			return "", nil, registry.Faults{{Field: e.Parent, Detail: "there is no such " + of}}, nil
		}
		area = parent.area
	}
	if e.Field("village") != nil && fields["village"] != nil {
		v, fault, err := a.s.village(ctx, a.tx, fields.Text("village"), fields.Text("island"))
		if err != nil {
			return "", nil, nil, err
		}
		if fault != nil {
			return "", nil, registry.Faults{*fault}, nil
		}
		fields["village"], fields["island"], area = v.Name, v.Island, v.Island
	}
	if e.Name == "submission" && fields["answers"] != nil {
		version, _ := fields["form_version"].(float64)
		form, err := a.form(ctx, fields.Text("form"), int(version))
		if err != nil {
			return "", nil, nil, err
		}
		if form == nil || version != float64(int(version)) {
			return "", nil, registry.Faults{{Field: "form", Detail: "there is no such form, or not of this version"}}, nil
		}
		answers, _ := fields["answers"].(registry.JSON)
		faults = form.CheckAnswers(answers, a.today)
	}
	return area, parent, faults, nil
}

// holder returns the uid of another farmer who has the national id, empty when nobody has.
func (a *applying) holder(ctx context.Context, e *registry.Entity, id, uid string) (of string, err error) {
	if e.Name != "farmer" || id == "" {
		return "", nil
	}
	if of, known := a.holders[id]; known {
		if of == uid {
			of = ""
		}
		return of, nil
	}
	err = a.s.each(ctx, a.tx, func(rows *sql.Rows) error { return rows.Scan(&of) },
		"SELECT uid FROM farmer WHERE national_id = ? AND national_id <> '' AND uid <> ?", id, uid)
	return of, err
}

func (a *applying) form(ctx context.Context, id string, version int) (*registry.Form, error) {
	name := fmt.Sprint(id, " ", version)
	if f, ok := a.forms[name]; ok {
		return f, nil
	}
	var f *registry.Form
	err := a.s.each(ctx, a.tx, func(rows *sql.Rows) (err error) {
		f, err = scanForm(rows)
		return err
	}, "SELECT body FROM form WHERE id = ? AND version = ?", id, version)
	a.forms[name] = f
	return f, err
}

// store writes a record and notes what is written at the transaction's end.
func (a *applying) store(ctx context.Context, e *registry.Entity, c registry.Change, old *stored, fields registry.Fields, deleted bool, outcome registry.Outcome) (registry.Result, error) {
	r := &stored{Record: registry.Record{Entity: e.Name, UID: c.UID, Version: 1, Fields: fields, Deleted: deleted, CreatedAt: a.now, UpdatedAt: a.now}}
	if old != nil {
		r.Version, r.CreatedAt, r.area = old.Version+1, old.CreatedAt, old.area
	}
	area, _, _, err := a.place(ctx, e, fields)
	if err != nil {
		return registry.Result{}, err
	}
	if area != "" {
		r.area = area
	}
	if of, ok, err := a.write(ctx, e, r, old == nil); err != nil || !ok {
		return registry.Result{Outcome: registry.Retry, Of: of}, err
	}
	a.records[key{e.Name, c.UID}] = r
	was := map[string]registry.Was{}
	before := registry.Fields{}
	if old != nil {
		before = old.Fields
	}
	for _, f := range e.Fields {
		if before[f.Name] != fields[f.Name] {
			was[f.Name] = registry.Was{Old: before[f.Name], New: fields[f.Name]}
		}
	}
	text, err := json.Marshal(was)
	if err != nil {
		return registry.Result{}, err
	}
	a.revisions = append(a.revisions, []any{c.UID, r.Version, e.Name, string(c.Op), a.who.Name, millis(a.now), millis(c.At), string(text)})
	a.moved = append(a.moved, moved{key{e.Name, c.UID}, r.area, deleted})
	if old != nil && old.area != r.area {
		a.moved = append(a.moved, moved{key{e.Name, c.UID}, old.area, true})
		if err := a.follow(ctx, e, c.UID, r.area); err != nil {
			return registry.Result{}, err
		}
	}
	if e.Name == "farmer" && !deleted && (was["given_name"] != registry.Was{} || was["family_name"] != registry.Was{} || was["birth_date"] != registry.Was{}) {
		a.suspects = append(a.suspects, c.UID)
	}
	return registry.Result{Outcome: outcome, Version: r.Version}, nil
}

// write writes a record: a new one together with others, unless that has failed, any other in a savepoint of its own. It is
// not ok when the database does not take it for the moment; of is the farmer who has its national id, if that is why.
func (a *applying) write(ctx context.Context, e *registry.Entity, r *stored, isNew bool) (of string, ok bool, err error) {
	columns, row := Columns(e), Row(e, &r.Record, r.area)
	id := r.Fields.Text("national_id")
	if isNew && !a.singly {
		a.fresh[e] = append(a.fresh[e], row)
		if a.holders != nil && id != "" {
			a.holders[id] = r.UID
		}
		return "", true, nil
	}
	if err := a.together(ctx); err != nil {
		return "", false, err
	}
	a.holders = nil
	query := "INSERT INTO " + e.Name + " (" + strings.Join(columns, ", ") + ") VALUES " + list(len(columns))
	if !isNew {
		query = "UPDATE " + e.Name + " SET " + strings.Join(columns[1:], " = ?, ") + " = ? WHERE uid = ?"
		row = append(row[1:], r.UID)
	}
	err = a.savepoint(ctx, query, row)
	switch {
	case err == nil:
		return "", true, nil
	case a.s.d.Kind(err) == Taken:
		of, err = a.holder(ctx, e, id, r.UID)
		return of, false, err
	case a.s.d.Kind(err) == Busy:
		return "", false, nil
	}
	return "", false, err
}

// together writes the new records that wait for it.
func (a *applying) together(ctx context.Context) error {
	for _, e := range registry.Entities {
		if err := a.s.insert(ctx, a.tx, e.Name, Columns(e), a.fresh[e], ""); err != nil {
			if kind := a.s.d.Kind(err); kind == Taken || kind == Busy {
				return fmt.Errorf("%w: %w", errTogether, err)
			}
			return err
		}
		delete(a.fresh, e)
	}
	return nil
}

// savepoint runs one statement so that its failure leaves the transaction usable.
func (a *applying) savepoint(ctx context.Context, query string, args []any) error {
	if _, err := a.tx.ExecContext(ctx, "SAVEPOINT record"); err != nil {
		return err
	}
	_, err := a.s.exec(ctx, a.tx, query, args...)
	end := "RELEASE SAVEPOINT record"
	if err != nil {
		end = "ROLLBACK TO SAVEPOINT record"
	}
	if _, failed := a.tx.ExecContext(ctx, end); failed != nil && err == nil {
		return failed
	}
	return err
}

// follow moves a record's children to the island that it has moved to.
func (a *applying) follow(ctx context.Context, parent *registry.Entity, uid, area string) error {
	for _, e := range registry.Entities {
		if e.Parent == "" || e.Field(e.Parent).Of != parent.Name || e.Field("village") != nil {
			continue // who has a village of their own stays there
		}
		children, err := a.s.find(ctx, a.tx, e, "WHERE "+e.Parent+" = ? AND area <> ? ORDER BY uid"+a.s.d.ForUpdate, uid, area)
		if err != nil {
			return err
		}
		for _, child := range children {
			k := key{e.Name, child.UID}
			a.moved = append(a.moved, moved{k, child.area, true}, moved{k, area, child.Deleted})
			if loaded := a.records[k]; loaded != nil {
				loaded.area = area
			}
		}
		if len(children) > 0 {
			if _, err := a.s.exec(ctx, a.tx, "UPDATE "+e.Name+" SET area = ? WHERE "+e.Parent+" = ?", area, uid); err != nil {
				return err
			}
		}
	}
	return nil
}

// review puts a whole change before a person: nothing of it is stored in the record.
func (a *applying) review(ctx context.Context, e *registry.Entity, c registry.Change, old *stored, fields registry.Fields, of string) (registry.Result, error) {
	id, err := a.queue(ctx, "conflict", e, c, fields, of, old.area)
	r := registry.Result{Outcome: registry.Conflict, Version: old.Version, Of: of, Review: id}
	for _, f := range e.Fields {
		if _, ok := fields[f.Name]; ok {
			r.Conflict = append(r.Conflict, f.Name)
		}
	}
	return r, err
}

// queue adds a question to the review queue.
func (a *applying) queue(ctx context.Context, kind string, e *registry.Entity, c registry.Change, fields registry.Fields, of, area string) (id int64, err error) {
	text, err := json.Marshal(fields)
	if err != nil {
		return 0, err
	}
	err = a.s.row(ctx, a.tx, `INSERT INTO review (kind, entity, uid, op, base, fields, of_uid, area, actor, client_at, created_at, state)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open') RETURNING id`,
		kind, e.Name, c.UID, string(c.Op), c.Base, string(text), of, area, a.who.Name, millis(c.At), millis(a.now)).Scan(&id)
	return id, err
}

// flush writes what the changes left to write. The sequence of changes comes last: its counter is locked from here until
// the transaction ends, so that numbers become visible in their order, and who has read up to a number has missed none
// before it.
func (a *applying) flush(ctx context.Context) error {
	s, tx := a.s, a.tx
	if err := a.together(ctx); err != nil {
		return err
	}
	if err := s.insert(ctx, tx, "revision", []string{"uid", "version", "entity", "op", "actor", "at", "client_at", "fields"}, a.revisions, ""); err != nil {
		return err
	}
	switch err := s.insert(ctx, tx, "op", []string{"device", "op_id", "result", "at"}, a.ops, ""); {
	case err != nil && s.d.Kind(err) == Taken: // the device has sent it twice at once: its first answer is there when this is tried again
		return fmt.Errorf("%w: %w", registry.ErrBusy, err)
	case err != nil:
		return err
	}
	if len(a.suspects) > 0 {
		if err := s.enqueue(ctx, tx, a.now, Job{Channel: "root.dedup", Method: "dedup", Payload: strings.Join(a.suspects, " ")}); err != nil {
			return err
		}
	}
	return a.number(ctx)
}

// number gives each moved record the next numbers of the sequence, once for each area.
func (a *applying) number(ctx context.Context) error {
	last := map[moved]int{}
	for i, m := range a.moved {
		m.gone = false
		last[m] = i
	}
	if len(last) == 0 {
		return nil
	}
	order := slices.SortedFunc(maps.Values(last), cmp.Compare)
	var seq int64
	if err := a.s.row(ctx, a.tx, "UPDATE counter SET value = value + ? WHERE name = 'change' RETURNING value", len(order)).Scan(&seq); err != nil {
		return err
	}
	seq -= int64(len(order))
	rows := make([][]any, len(order))
	for i, at := range order {
		m := a.moved[at]
		rows[i] = []any{seq + int64(i) + 1, m.entity, m.uid, m.area, m.gone}
	}
	return a.s.insert(ctx, a.tx, "change", []string{"seq", "entity", "uid", "area", "gone"}, rows,
		" ON CONFLICT (uid, area) DO UPDATE SET seq = excluded.seq, gone = excluded.gone")
}
