package exchange

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"

	"tidemark/registry"
	"tidemark/registry/store"
)

// bom tells spreadsheets that a file is UTF-8.
const bom = "\ufeff"

// page is how many rows are read from the database at once.
const page = 1000

// Filter says which farmers to export; the zero Filter says all.
type Filter struct {
	Status string // one of registry.Statuses
	Island string
}

// Export writes the farmers that the actor may see as CSV, by uid, a page of them in memory at a time. The file can be
// edited and imported again.
func Export(ctx context.Context, s *store.Store, who registry.Actor, filter Filter, w io.Writer) error {
	if filter.Island != "" {
		if !who.May(filter.Island) {
			return fmt.Errorf("export farmers: %s is not in your area", filter.Island)
		}
		who.Areas = []string{filter.Island}
	}
	out, err := newWriter(w, columns())
	if err != nil {
		return err
	}
	fields := registry.EntityNamed("farmer").Fields
	for after, full := "", true; full; {
		farmers, err := s.Farmers(ctx, who, filter.Status, store.Page{After: after, Limit: page})
		if err != nil {
			return err
		}
		for _, f := range farmers {
			cells := []string{f.UID, fmt.Sprint(f.Version)}
			for _, field := range fields {
				cells = append(cells, guard(f.Fields.Text(field.Name)))
			}
			if err := out.Write(cells); err != nil {
				return err
			}
			after = f.UID
		}
		full = len(farmers) == page
	}
	out.Flush()
	return out.Error()
}

// ErrorReport writes the rows of an import that somebody must look at: as they were in the file, and why, in the column
// "error". Corrected, the report can be imported as it is.
func ErrorReport(ctx context.Context, s *store.Store, id int64, w io.Writer) error {
	i, err := s.Import(ctx, id)
	if err != nil {
		return err
	}
	header := i.Header
	at := len(header) // where the error goes
	for n, name := range header {
		if columnName(name) == errorColumn {
			at = n
		}
	}
	header = with(header, at, errorColumn)
	out, err := newWriter(w, header)
	if err != nil {
		return err
	}
	for after, full := 0, true; full; {
		wrong, err := s.ImportErrors(ctx, id, after, page)
		if err != nil {
			return err
		}
		for _, row := range wrong {
			if err := out.Write(with(row.Cells, at, row.Error)); err != nil {
				return err
			}
			after = row.Row
		}
		full = len(wrong) == page
	}
	out.Flush()
	return out.Error()
}

// with returns the cells, guarded, and one more in its place; in the place of what is there.
func with(cells []string, at int, more string) []string {
	out := make([]string, max(len(cells), at+1))
	for n, c := range cells {
		out[n] = guard(c)
	}
	out[at] = guard(more)
	return out
}

func newWriter(w io.Writer, header []string) (*csv.Writer, error) {
	if _, err := io.WriteString(w, bom); err != nil {
		return nil, err
	}
	out := csv.NewWriter(w)
	return out, out.Write(header)
}
