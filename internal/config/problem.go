package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a problem keeps the configuration from being used.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Problem is one thing that is wrong, or legal and yet unlikely to work. Line and Column count from 1, columns in
// characters; a byte order mark is not counted.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Severity Severity `json:"severity"`
	Field    string   `json:"field,omitempty"` // from the top inwards, joined by dots; list entries count from 0
	Message  string   `json:"message"`
	Fix      string   `json:"fix,omitempty"`    // what to write instead
	Source   string   `json:"source,omitempty"` // the line, with secrets blotted out
}

// Problems are in the order of the file.
type Problems []Problem

// Failed reports whether there is more than warnings.
func (ps Problems) Failed() bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Severity == Error })
}

// Error shows all of them, each with its line and a caret.
func (ps Problems) Error() string {
	var b strings.Builder
	for i := range ps {
		b.WriteString(ps[i].String())
	}
	return b.String()
}

// String shows the problem as it is printed: where, what, what to write instead, then the line with a caret.
func (p *Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	if name := leaf(p.Field); name != "" {
		b.WriteString(name + ": ")
	}
	b.WriteString(p.Message)
	if p.Fix != "" {
		b.WriteString("; " + p.Fix)
	}
	line, column := clip([]rune(p.Source), p.Column)
	fmt.Fprintf(&b, "\n%7d | %s\n        | %s^\n", p.Line, string(line), blank(line[:min(column-1, len(line))]))
	return b.String()
}

const widest = 160

// clip shortens a line that is too long for a terminal to the part around the column.
func clip(line []rune, column int) ([]rune, int) {
	if len(line) <= widest {
		return line, column
	}
	from := max(0, min(column-widest/2, len(line)-widest))
	to := from + widest
	out := slices.Clone(line[from:to])
	if from > 0 {
		out[0] = '…'
	}
	if to < len(line) {
		out[widest-1] = '…'
	}
	return out, column - from
}

// blank is as wide as s on the screen.
func blank(s []rune) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(s))
}

// leaf is the last name of a path; a list's entry goes by the list's name.
func leaf(path string) string {
	for path != "" {
		head, last := cut(path)
		if strings.Trim(last, "0123456789") != "" {
			return last
		}
		path = head
	}
	return ""
}

// cut splits a path before its last step.
func cut(path string) (head, last string) {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(ps, func(a, b Problem) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Message == b.Message && leaf(a.Field) == leaf(b.Field)
	})
}
