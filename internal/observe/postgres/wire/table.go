package wire

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Table is an answer: rows whose columns are read by name, because versions differ in their order and number. It is shared by
// all who asked, and never changed.
type Table struct {
	// Life is the connection's number; another one may lead to a server that was restarted.
	Life int
	// At is when the answer came, by the monotonic clock.
	At time.Time

	server, version, statement string
	columns                    map[string]int
	width                      int         // columns may share a name
	rows                       [][]*string // nil is NULL
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Only is the value of a table that must have one row and one column; null where it is NULL.
func (t *Table) Only() (v float64, null bool, err error) {
	if len(t.rows) != 1 || t.width != 1 {
		return 0, false, fmt.Errorf("%s returned %d rows of %d columns; write a statement that returns one number, such as SELECT count(*) FROM orders", t.server, len(t.rows), t.width)
	}
	for column := range t.columns {
		v, null, err = t.Row(0).Number(column)
	}
	return v, null, err
}

// Has reports whether there is such a column.
func (t *Table) Has(column string) bool { _, ok := t.columns[column]; return ok }

// Row is one row of the table, from 0 on.
func (t *Table) Row(i int) Row { return Row{t, t.rows[i]} }

// Row is one row of a Table.
type Row struct {
	table  *Table
	values []*string
}

// ColumnError is a column that the server does not tell.
type ColumnError struct{ Server, Version, Statement, Column string }

func (e *ColumnError) Error() string {
	return fmt.Sprintf("%s, version %s, does not tell %s in %s", e.Server, e.Version, e.Column, e.Statement)
}

// Text is a column's text; null where it is NULL.
func (r Row) Text(column string) (text string, null bool, err error) {
	i, ok := r.table.columns[column]
	switch {
	case !ok:
		return "", false, &ColumnError{r.table.server, r.table.version, r.table.statement, column}
	case r.values[i] == nil:
		return "", true, nil
	}
	return *r.values[i], false, nil
}

// Number is a column's value; null where it is NULL. What is no finite number is an error.
func (r Row) Number(column string) (v float64, null bool, err error) {
	text, null, err := r.Text(column)
	if err != nil || null {
		return 0, null, err
	}
	v, err = strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, false, fmt.Errorf("%s of %s is %s, and not a number", column, r.table.server, strconv.Quote(short(text)))
	}
	return v, false, nil
}

// short is so much of a text as is shown.
func short(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
