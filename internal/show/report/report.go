// Package report writes pages that stand alone: one HTML file with its style in it, without a script and without anything fetched,
// that reads well on a screen, on a phone and on paper. What is in a report is its writer's business: this package has the frame,
// and the parts that reports are made of. Charts are package chart's.
package report

import (
	"html/template"
	"io"
	"strings"
	"time"

	"tidemark/internal/show/chart"
)

// Page is a report.
type Page struct {
	Title    string
	Lead     string // what it is about, in a sentence or two
	Facts    []Fact // of the whole: what was asked, of what, when
	Made     time.Time
	Zone     *time.Location // of the times in it; default UTC
	Sections []Section
}

// Fact is a name and what it is.
type Fact struct{ Name, Value string }

// Section is a part of a page under a heading.
type Section struct {
	Title  string
	Blocks []Block
}

// Block is a part of a section: *chart.Chart, Text, Code, Note, Tiles, Table, Details.
type Block interface{ HTML() template.HTML }

// Text is a paragraph.
type Text string

// Code is text in which each character keeps its place, such as a diff.
type Code string

// Note is a remark that stands out.
type Note struct {
	Tone Tone
	Text string
}

// Tone says how something is meant.
type Tone uint8

// The tones.
const (
	Plain Tone = iota
	Good
	Warn
	Bad
)

var tones = [...]string{"", "good", "warn", "bad"}

func (t Tone) String() string { return tones[t] }

// Tiles are the figures that count most, large.
type Tiles []Tile

// Tile is one of them: "0.4 %", "minutes above 500ms", "± 0.1".
type Tile struct {
	Value, Name, More string
	Tone              Tone
}

// Table is rows of cells under headings.
type Table struct {
	Caption string
	Columns []Column
	Rows    []Row
	Empty   string // said in place of a table without rows
}

// Column is a heading. Numbers stand to the right.
type Column struct {
	Name    string
	Numeric bool
}

// Row is one row: as many cells as there are columns.
type Row []Cell

// Cell is what stands in a table. More is said below, smaller.
type Cell struct {
	Text, More string
	Tone       Tone
}

// Cells makes a row of plain texts.
func Cells(texts ...string) Row {
	row := make(Row, len(texts))
	for i, t := range texts {
		row[i].Text = t
	}
	return row
}

// Details are blocks that open when asked. On paper they are shown as they stand on the screen.
type Details struct {
	Summary string
	Open    bool
	Blocks  []Block
}

var parts = template.Must(template.New("").Funcs(template.FuncMap{
	"style": func() template.CSS { return template.CSS(chart.Style + style) },
	"date":  func(t time.Time, zone *time.Location) string { return t.In(zone).Format("2006-01-02 15:04 MST") },
}).Parse(`
{{define "page"}}<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';style-src 'unsafe-inline'">
<title>{{.Title}}</title><style>{{style}}</style></head>
<body><main>
<header><h1>{{.Title}}</h1>
{{with .Lead}}<p class="lead">{{.}}</p>{{end}}
{{with .Facts}}<dl class="facts">{{range .}}<div><dt>{{.Name}}</dt><dd>{{.Value}}</dd></div>{{end}}</dl>{{end}}
</header>
{{range .Sections}}<section>{{with .Title}}<h2>{{.}}</h2>{{end}}
{{range .Blocks}}{{.HTML}}{{end}}</section>
{{end}}<footer>Made by Tidemark{{if not .Made.IsZero}} on {{date .Made .Zone}}{{end}}. Times are those of {{.Zone}}; a chart tells UTC too when pointed at.</footer>
</main></body></html>
{{end}}
{{define "text"}}<p>{{.}}</p>
{{end}}
{{define "code"}}<pre>{{.}}</pre>
{{end}}
{{define "note"}}<p class="note {{.Tone}}" role="note">{{.Text}}</p>
{{end}}
{{define "tiles"}}<div class="tiles">{{range .}}<div class="tile {{.Tone}}"><b>{{.Value}}</b><span>{{.Name}}</span>{{with .More}}<small>{{.}}</small>{{end}}</div>{{end}}</div>
{{end}}
{{define "table"}}{{if .Rows}}<div class="wide" tabindex="0" role="region" aria-label="{{or .Caption "table"}}"><table>{{with .Caption}}<caption>{{.}}</caption>{{end}}
<thead><tr>{{range .Columns}}<th scope="col"{{if .Numeric}} class="n"{{end}}>{{.Name}}</th>{{end}}</tr></thead>
<tbody>{{$columns := .Columns}}{{range .Rows}}<tr>{{range $i, $c := .}}<td class="{{if (index $columns $i).Numeric}}n {{end}}{{$c.Tone}}">{{$c.Text}}{{with $c.More}}<small>{{.}}</small>{{end}}</td>{{end}}</tr>
{{end}}</tbody></table></div>
{{else}}<p class="empty">{{.Empty}}</p>
{{end}}{{end}}
{{define "details"}}<details{{if .Open}} open=""{{end}}><summary>{{.Summary}}</summary>
{{range .Blocks}}{{.HTML}}{{end}}</details>
{{end}}`))

func render(name string, v any) template.HTML { return renderOf(parts, name, v) }

func renderOf(t *template.Template, name string, v any) template.HTML {
	var b strings.Builder
	if err := t.ExecuteTemplate(&b, name, v); err != nil {
		panic(err) // a builder does not fail, and the templates are tested: a mistake in this package
	}
	return template.HTML(b.String())
}

// HTML is the paragraph.
func (t Text) HTML() template.HTML { return render("text", string(t)) }

// HTML is the text.
func (c Code) HTML() template.HTML { return render("code", string(c)) }

// HTML is the note.
func (n Note) HTML() template.HTML { return render("note", n) }

// HTML is the row of tiles.
func (t Tiles) HTML() template.HTML { return render("tiles", t) }

// HTML is the table. A row with more cells than there are columns is cut.
func (t Table) HTML() template.HTML {
	for i, row := range t.Rows {
		t.Rows[i] = row[:min(len(row), len(t.Columns))]
	}
	return render("table", t)
}

// HTML is the summary and what it hides.
func (d Details) HTML() template.HTML { return render("details", d) }

// Write writes the page.
func (p Page) Write(w io.Writer) error {
	if p.Zone == nil {
		p.Zone = time.UTC
	}
	return parts.ExecuteTemplate(w, "page", p)
}
