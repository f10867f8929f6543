package exchange

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tidemark/registry"
)

// Columns of a file beside the farmer's fields. They are in every export.
const (
	uidColumn     = "uid"
	versionColumn = "version"
	errorColumn   = "error" // of an error report; a corrected one can be sent as it is
)

// columns are those of an export, in order.
func columns() []string {
	all := []string{uidColumn, versionColumn}
	for _, f := range registry.EntityNamed("farmer").Fields {
		all = append(all, f.Name)
	}
	return all
}

// sheet reads a CSV file, as spreadsheets write them.
type sheet struct {
	csv     *csv.Reader
	header  []string // as the file has it
	columns []string // the names of the columns
	row     int      // the number of the row read last, from 1, blank ones not counted
}

const saveAs = `save it as "CSV UTF-8" and send that`

// openSheet reads the header. What is wrong with the file is a registry.Faults.
func openSheet(r io.Reader) (*sheet, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	start, err := b.Peek(b.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte("PK\x03\x04")), bytes.HasPrefix(start, []byte("\xd0\xcf\x11\xe0")):
		return nil, faulty("this is a spreadsheet's own format, not CSV: %s", saveAs)
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return nil, faulty("the file is UTF-16, not UTF-8: %s", saveAs)
	}
	if bom := []byte("\ufeff"); bytes.HasPrefix(start, bom) {
		_, _ = b.Discard(len(bom)) // it was peeked
		start = start[len(bom):]
	}
	line, _, _ := bytes.Cut(start, []byte("\n"))
	s := &sheet{csv: csv.NewReader(b)}
	s.csv.FieldsPerRecord = -1
	if mark, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r"), []byte("sep=")); ok && len(mark) == 1 { // Excel's own first line
		_, _ = b.Discard(len(line) + 1)
		s.csv.Comma = rune(mark[0])
	} else {
		for _, comma := range ",;\t" {
			if strings.Count(string(line), string(comma)) > strings.Count(string(line), string(s.csv.Comma)) {
				s.csv.Comma = comma
			}
		}
	}
	if !slices.Contains([]rune{',', ';', '\t'}, s.csv.Comma) {
		return nil, faulty("the columns must be divided by commas, semicolons or tabs")
	}
	s.header, err = s.csv.Read()
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return nil, faulty("the file is empty")
	case errors.As(err, &parse):
		return nil, faulty("the header: %v", parse.Err)
	case err != nil:
		return nil, err
	}
	return s, s.name()
}

func faulty(format string, args ...any) registry.Faults {
	return registry.Faults{{Field: "file", Detail: fmt.Sprintf(format, args...)}}
}

// name finds out which column is which.
func (s *sheet) name() error {
	var faults registry.Faults
	wrong := func(format string, args ...any) { faults = append(faults, faulty(format, args...)...) }
	known := append(columns(), errorColumn)
	for _, text := range s.header {
		name := columnName(text)
		switch {
		case !utf8.ValidString(text):
			return faulty("the header is not UTF-8: %s", saveAs)
		case !slices.Contains(known, name):
			wrong("there is no column %q: use %s", text, strings.Join(columns(), ", "))
		case slices.Contains(s.columns, name):
			wrong("the column %s comes twice", name)
		}
		s.columns = append(s.columns, name)
	}
	if !slices.Contains(s.columns, uidColumn) { // then every row may be somebody new
		for _, f := range registry.EntityNamed("farmer").Fields {
			if f.Required && f.Kind != registry.Choice && !slices.Contains(s.columns, f.Name) {
				wrong("the column %s is missing", f.Name)
			}
		}
	}
	if faults != nil {
		return faults
	}
	return nil
}

// columnName is the name that a column's title stands for.
func columnName(title string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(title), func(r rune) bool { return unicode.IsSpace(r) || r == '_' || r == '-' }), "_")
}

// next returns the next row that is not blank, or io.EOF. wrong is what makes a row unreadable.
func (s *sheet) next() (cells []string, wrong string, err error) {
	for {
		cells, err = s.csv.Read()
		var parse *csv.ParseError
		switch {
		case errors.As(err, &parse):
			s.row++
			return cells, fmt.Sprintf("line %d: %v: a quotation mark within a cell is written twice, and the whole cell between two more", parse.StartLine, parse.Err), nil
		case err != nil:
			return nil, "", err
		case !slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) != "" }):
			continue
		}
		s.row++
		for len(cells) > len(s.header) && cells[len(cells)-1] == "" { // a spreadsheet's empty columns at the end
			cells = cells[:len(cells)-1]
		}
		if len(cells) != len(s.header) {
			return cells, fmt.Sprintf("the row has %d cells and the header %d", len(cells), len(s.header)), nil
		}
		return cells, "", nil
	}
}

// formulas are the characters by which a spreadsheet takes a cell for a formula.
const formulas = "=+-@\t\r"

// guard keeps a spreadsheet from running a cell as a formula: the apostrophe says "this is text".
func guard(cell string) string {
	if cell != "" && strings.IndexByte(formulas, cell[0]) >= 0 {
		return "'" + cell
	}
	return cell
}

// unguard undoes guard.
func unguard(cell string) string {
	if len(cell) > 1 && cell[0] == '\'' && strings.IndexByte(formulas, cell[1]) >= 0 {
		return cell[1:]
	}
	return cell
}
