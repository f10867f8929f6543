package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"tidemark/internal/show/chart"
)

// Markdown writes the page as text that reads as it stands, and that others can make a document of. Of a chart it says what is to be
// seen in it.
func (p Page) Markdown(w io.Writer) error {
	m := markdown{}
	m.line("# %s", plain(p.Title))
	if p.Lead != "" {
		m.line("%s", plain(p.Lead))
	}
	var facts []string
	for _, f := range p.Facts {
		facts = append(facts, fmt.Sprintf("- %s: %s", plain(f.Name), plain(f.Value)))
	}
	if facts != nil {
		m.line("%s", strings.Join(facts, "\n"))
	}
	for _, s := range p.Sections {
		if s.Title != "" {
			m.line("## %s", plain(s.Title))
		}
		for _, b := range s.Blocks {
			m.block(b)
		}
	}
	zone := p.Zone
	if zone == nil {
		zone = time.UTC
	}
	m.line("Made by Tidemark on %s. Times are those of %s.", p.Made.In(zone).Format("2006-01-02 15:04 MST"), zone)
	_, err := io.WriteString(w, m.String())
	return err
}

type markdown struct{ strings.Builder }

// line writes a paragraph.
func (m *markdown) line(format string, args ...any) {
	if m.Len() > 0 {
		m.WriteByte('\n')
	}
	fmt.Fprintf(m, format+"\n", args...)
}

func (m *markdown) block(b Block) {
	switch x := b.(type) {
	case Text:
		m.line("%s", plain(string(x)))
	case Code:
		m.line("    %s", strings.ReplaceAll(strings.TrimSuffix(string(x), "\n"), "\n", "\n    "))
	case Note:
		m.line("> %s", plain(x.Text))
	case Tiles:
		var rows []string
		for _, t := range x {
			rows = append(rows, strings.TrimSuffix(fmt.Sprintf("- **%s** %s, %s", plain(t.Value), plain(t.Name), plain(t.More)), ", "))
		}
		m.line("%s", strings.Join(rows, "\n"))
	case List:
		box := map[bool]string{true: "[ ] "}[x.Boxes]
		var rows []string
		for _, i := range x.Items {
			rows = append(rows, "- "+box+plain(i))
		}
		m.line("%s", strings.Join(rows, "\n"))
	case Table:
		m.table(&x)
	case Details:
		m.line("### %s", plain(x.Summary))
		for _, inner := range x.Blocks {
			m.block(inner)
		}
	case *chart.Chart:
		if x.About != "" {
			m.line("%s", plain(x.About))
		}
	}
}

// table writes a table whose columns stand below each other.
func (m *markdown) table(t *Table) {
	if t.Caption != "" {
		m.line("**%s**", plain(t.Caption))
	}
	if len(t.Rows) == 0 {
		m.line("%s", plain(t.Empty))
		return
	}
	rows := [][]string{nil}
	for _, c := range t.Columns {
		rows[0] = append(rows[0], plain(c.Name))
	}
	for _, r := range t.Rows {
		var row []string
		for _, c := range r[:min(len(r), len(t.Columns))] {
			text := c.Text
			if c.More != "" {
				text += " (" + c.More + ")"
			}
			row = append(row, plain(text))
		}
		rows = append(rows, row)
	}
	widths := make([]int, len(t.Columns))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], len([]rune(c)), 3)
		}
	}
	m.WriteByte('\n')
	for n, r := range rows {
		for i, c := range r {
			pad := strings.Repeat(" ", widths[i]-len([]rune(c)))
			if t.Columns[i].Numeric {
				c, pad = pad+c, ""
			}
			m.WriteString("| " + c + pad + " ")
		}
		m.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i := range r {
			rule := strings.Repeat("-", widths[i]+2)
			if t.Columns[i].Numeric {
				rule = rule[1:] + ":"
			}
			m.WriteString("|" + rule)
		}
		m.WriteString("|\n")
	}
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`, "`", "\\`", "[", `\[`, "\n", " ", "\r", " ")

// plain keeps what somebody wrote from being read as Markdown.
func plain(s string) string { return markdownEscapes.Replace(s) }
