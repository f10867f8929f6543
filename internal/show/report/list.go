package report

import "html/template"

// List is short paragraphs, one below the other.
type List struct {
	Items []string
	Boxes bool // each has a box to be ticked on paper
}

// Break begins a new page on paper.
type Break struct{}

var lists = template.Must(template.New("").Parse(`<ul{{if .Boxes}} class="boxes"{{end}}>{{range .Items}}<li>{{.}}</li>
{{end}}</ul>
`))

// HTML is the list.
func (l List) HTML() template.HTML { return renderOf(lists, "", l) }

// HTML is where the page ends.
func (Break) HTML() template.HTML { return `<div class="break"></div>` + "\n" }
