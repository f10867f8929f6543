package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"tidemark/registry"
)

// key names a record.
type key struct{ entity, uid string }

// stored is a record with its area: the island that it belongs to, its own or its parent's.
type stored struct {
	registry.Record
	area string
}

// columns of every record table, before those of its fields.
const head = "uid, version, deleted, area, created_at, updated_at"

// read returns the SELECT of an entity's records, up to the WHERE.
func read(e *registry.Entity) string {
	var b strings.Builder
	b.WriteString("SELECT " + head)
	for _, f := range e.Fields {
		b.WriteString(", " + f.Name)
	}
	b.WriteString(" FROM " + e.Name)
	return b.String()
}

func scan(e *registry.Entity, rows *sql.Rows) (*stored, error) {
	r := &stored{Record: registry.Record{Entity: e.Name, Fields: make(registry.Fields, len(e.Fields))}}
	var created, updated int64
	texts, numbers := make([]string, len(e.Fields)), make([]sql.NullFloat64, len(e.Fields))
	into := []any{&r.UID, &r.Version, &r.Deleted, &r.area, &created, &updated}
	for i, f := range e.Fields {
		if f.Kind == registry.Number {
			into = append(into, &numbers[i])
		} else {
			into = append(into, &texts[i])
		}
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	r.CreatedAt, r.UpdatedAt = fromMillis(created), fromMillis(updated)
	for i, f := range e.Fields {
		switch {
		case f.Kind == registry.Number && numbers[i].Valid:
			r.Fields[f.Name] = numbers[i].Float64
		case f.Kind == registry.Number || texts[i] == "":
		case f.Kind == registry.Shape || f.Kind == registry.Object:
			r.Fields[f.Name] = registry.JSON(texts[i])
		default:
			r.Fields[f.Name] = texts[i]
		}
	}
	return r, nil
}

// value is how a field's value is stored: an empty text is ”, an empty number NULL.
func value(f registry.Field, v any) any {
	switch {
	case v == nil && f.Kind != registry.Number:
		return ""
	case v == nil:
		return nil
	}
	if j, ok := v.(registry.JSON); ok {
		return string(j)
	}
	return v
}

// Columns and Row tell how a record is stored, for those who load many at once.
func Columns(e *registry.Entity) []string {
	columns := strings.Split(head, ", ")
	for _, f := range e.Fields {
		columns = append(columns, f.Name)
	}
	if e.Name == "farmer" {
		columns = append(columns, "name_key", "other_key", "village_key")
	}
	return columns
}

// Row returns a record's values in the order of Columns.
func Row(e *registry.Entity, r *registry.Record, area string) []any {
	row := []any{r.UID, r.Version, r.Deleted, area, millis(r.CreatedAt), millis(r.UpdatedAt)}
	for _, f := range e.Fields {
		row = append(row, value(f, r.Fields[f.Name]))
	}
	if e.Name == "farmer" {
		given, family := r.Fields.Text("given_name"), r.Fields.Text("family_name")
		row = append(row, registry.Fold(family+" "+given), registry.Fold(given+" "+family), registry.Fold(r.Fields.Text("village")))
	}
	return row
}

// find reads records by a condition on their table.
func (s *Store) find(ctx context.Context, on querier, e *registry.Entity, where string, args ...any) ([]*stored, error) {
	var found []*stored
	err := s.each(ctx, on, func(rows *sql.Rows) error {
		r, err := scan(e, rows)
		found = append(found, r)
		return err
	}, read(e)+" "+where, args...)
	return found, err
}

func plain(found []*stored) []registry.Record {
	out := make([]registry.Record, len(found))
	for i, r := range found {
		out[i] = r.Record
	}
	return out
}

// Get returns a record, or registry.ErrNotFound; also when it is not the actor's to see. A tombstone is returned as one.
func (s *Store) Get(ctx context.Context, who registry.Actor, entity, uid string) (registry.Record, error) {
	found, err := s.find(ctx, s.db, registry.EntityNamed(entity), "WHERE uid = ?", uid)
	switch {
	case err != nil:
		return registry.Record{}, fmt.Errorf("read a %s: %w", entity, s.explain(err))
	case len(found) == 0 || !who.May(found[0].area):
		return registry.Record{}, registry.ErrNotFound
	}
	return found[0].Record, nil
}

// ByNationalID returns the farmer with this national id, or registry.ErrNotFound.
func (s *Store) ByNationalID(ctx context.Context, who registry.Actor, id string) (registry.Record, error) {
	found, err := s.find(ctx, s.db, registry.EntityNamed("farmer"), "WHERE national_id = ? AND national_id <> ''", id)
	switch {
	case err != nil:
		return registry.Record{}, fmt.Errorf("read a farmer: %w", s.explain(err))
	case len(found) == 0 || !who.May(found[0].area):
		return registry.Record{}, registry.ErrNotFound
	}
	return found[0].Record, nil
}

// Children returns the records of an entity that belong to a parent, oldest first, without tombstones.
func (s *Store) Children(ctx context.Context, entity, parent string) ([]registry.Record, error) {
	e := registry.EntityNamed(entity)
	found, err := s.find(ctx, s.db, e, "WHERE "+e.Parent+" = ? AND NOT deleted ORDER BY created_at, uid", parent)
	if err != nil {
		return nil, fmt.Errorf("read %ss: %w", entity, s.explain(err))
	}
	return plain(found), nil
}

// ByName returns at most limit farmers whose "family given" or "given family" name begins with name, in alphabetical
// order, and when there are fewer, those after them whose name resembles it, the most alike first. With a village
// only those who live in one of that name. Case, accents and glottal stops do not matter.
func (s *Store) ByName(ctx context.Context, who registry.Actor, name, village string, limit int) ([]registry.Record, error) {
	e := registry.EntityNamed("farmer")
	begin := registry.Fold(name)
	end := begin + "\U0010FFFF"
	also, with := s.areas(who)
	if village != "" {
		also, with = also+" AND village_key = ?", append(with, registry.Fold(village))
	}
	// Each half reads an index in order and stops at the limit, so a short prefix costs no more than a long one.
	half := func(column string) string {
		return "SELECT * FROM (SELECT id FROM farmer WHERE " + column + " >= ? AND " + column + " < ? AND NOT deleted" + also + " ORDER BY " + column + " LIMIT ?) AS " + column
	}
	args := append(append([]any{begin, end}, with...), limit)
	found, err := s.find(ctx, s.db, e, "WHERE id IN ("+half("name_key")+" UNION "+half("other_key")+") ORDER BY name_key, uid LIMIT ?",
		append(append(slices.Clone(args), args...), limit)...)
	if err == nil && len(found) < limit && len(begin) >= 3 {
		similar, args := s.d.Similar, []any{s.d.SimilarArg(begin), 4 * limit}
		if village != "" { // a village's few are quicker compared than all that share a syllable found
			similar, args = s.d.SimilarIn, []any{s.d.SimilarArg(begin), registry.Fold(village), 4 * limit}
		}
		var alike []*stored
		alike, err = s.find(ctx, s.db, e, "WHERE id IN ("+similar+") AND NOT deleted"+also, append(args, with...)...)
		known := map[string]bool{}
		for _, r := range found {
			known[r.UID] = true
		}
		score := map[string]float64{}
		alike = slices.DeleteFunc(alike, func(r *stored) bool {
			given, family := registry.Fold(r.Fields.Text("given_name")), registry.Fold(r.Fields.Text("family_name"))
			score[r.UID] = max(registry.Similarity(begin, family+" "+given), registry.Similarity(begin, family), registry.Similarity(begin, given))
			return known[r.UID] || score[r.UID] < registry.Alike
		})
		slices.SortFunc(alike, func(a, b *stored) int {
			if score[a.UID] != score[b.UID] {
				if score[a.UID] > score[b.UID] {
					return -1
				}
				return 1
			}
			return strings.Compare(a.UID, b.UID)
		})
		found = append(found, alike...)
	}
	if err != nil {
		return nil, fmt.Errorf("look up a name: %w", s.explain(err))
	}
	return plain(found[:min(len(found), limit)]), nil
}

// areas is the condition that a record is the actor's to see, and its arguments.
func (s *Store) areas(who registry.Actor) (sql string, args []any) {
	if len(who.Areas) == 0 {
		return "", nil
	}
	for _, a := range who.Areas {
		args = append(args, a)
	}
	return " AND area IN " + list(len(args)), args
}

// Page is a part of a listing.
type Page struct {
	After string // the uid of the last record of the page before, empty for the first page
	Limit int
}

// Farmers lists farmers by uid, of one status or of all, without tombstones.
func (s *Store) Farmers(ctx context.Context, who registry.Actor, status string, page Page) ([]registry.Record, error) {
	also, args := s.areas(who)
	if status != "" {
		also, args = also+" AND status = ?", append(args, status)
	}
	found, err := s.find(ctx, s.db, registry.EntityNamed("farmer"), "WHERE uid > ? AND NOT deleted"+also+" ORDER BY uid LIMIT ?",
		append(append([]any{page.After}, args...), page.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("list farmers: %w", s.explain(err))
	}
	return plain(found), nil
}

// Listing is a part of the farmers by name.
type Listing struct {
	Status, Village string // only these; empty for all
	Island          string // of the Village, where others have one of its name
	After           Place  // where the part before ended, zero for the first
	Limit           int
}

// Place is where a farmer stands in the order of names.
type Place struct{ Name, UID string }

// PlaceOf is the place of a farmer.
func PlaceOf(f registry.Record) Place {
	return Place{registry.Fold(f.Fields.Text("family_name") + " " + f.Fields.Text("given_name")), f.UID}
}

// FarmersByName lists farmers in the order of their family and given names, without tombstones.
func (s *Store) FarmersByName(ctx context.Context, who registry.Actor, l Listing) ([]registry.Record, error) {
	also, args := s.areas(who)
	for _, only := range []struct{ column, value string }{{"status", l.Status}, {"village_key", registry.Fold(l.Village)}, {"island", l.Island}} {
		if only.value != "" {
			also, args = also+" AND "+only.column+" = ?", append(args, only.value)
		}
	}
	found, err := s.find(ctx, s.db, registry.EntityNamed("farmer"), "WHERE (name_key, uid) > (?, ?) AND NOT deleted"+also+" ORDER BY name_key, uid LIMIT ?",
		append(append([]any{l.After.Name, l.After.UID}, args...), l.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("list farmers: %w", s.explain(err))
	}
	return plain(found), nil
}

// Counts returns how many records there are of each entity, without tombstones, and how many farmers of each status under
// "farmer:STATUS". It reads whole indexes.
func (s *Store) Counts(ctx context.Context) (map[string]int, error) {
	counts := map[string]int{}
	for _, e := range registry.Entities {
		var n int
		if err := s.row(ctx, s.db, "SELECT count(*) FROM "+e.Name+" WHERE NOT deleted").Scan(&n); err != nil {
			return nil, fmt.Errorf("count: %w", s.explain(err))
		}
		counts[e.Name] = n
	}
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		var status string
		var n int
		err := rows.Scan(&status, &n)
		counts["farmer:"+status] = n
		return err
	}, "SELECT status, count(*) FROM farmer WHERE NOT deleted GROUP BY status")
	if err != nil {
		return nil, fmt.Errorf("count: %w", s.explain(err))
	}
	return counts, nil
}

// History returns what happened to a record, newest first.
func (s *Store) History(ctx context.Context, entity, uid string) ([]registry.Revision, error) {
	var all []registry.Revision
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		r, err := scanRevision(rows)
		all = append(all, r)
		return err
	}, "SELECT version, op, actor, at, client_at, fields FROM revision WHERE uid = ? AND entity = ? ORDER BY version DESC", uid, entity)
	if err != nil {
		return nil, fmt.Errorf("read a record's history: %w", s.explain(err))
	}
	return all, nil
}
