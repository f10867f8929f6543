package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

const maxDepth = 64

// readYAML reads the one document of a file, which is a what. Keys that are written twice are left for the decoder to find.
func readYAML(t *text, body []byte, what string) (*yaml.Node, Problems) {
	loader, err := yaml.NewLoader(bytes.NewReader(body), yaml.WithUniqueKeys(false), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, Problems{t.problem(mark{1, 1}, Error, "", err.Error(), "")}
	}
	var first, second yaml.Node
	least := "write its fields"
	if what == configuration {
		least = "write at least fleets: with one entry"
	}
	switch err := loader.Load(&first); {
	case errors.Is(err, io.EOF), err == nil && isNull(first.Content[0]):
		return nil, Problems{t.problem(mark{1, 1}, Error, "", "the file says nothing", least)}
	case err != nil:
		return nil, Problems{t.syntax(err)}
	}
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
		return first.Content[0], nil
	case err != nil:
		return nil, Problems{t.syntax(err)}
	}
	return nil, Problems{t.problem(mark{second.Line, second.Column}, Error, "", "a second document begins here, and a file holds one "+what, "delete the --- line, or this and what follows")}
}

// plainWords says what the YAML reader's complaints mean. The first entry whose parts are all in the complaint is taken.
// open: the place to show is where the construct begins, not where the reader gave up.
var plainWords = []struct {
	complaint, context string
	open               bool
	msg, fix           string
}{
	{"end of stream", "quoted scalar", true, "this quote is never closed", "add the closing quote"},
	{"document indicator", "quoted scalar", true, "this quote is never closed", "add the closing quote"},
	{"escape", "quoted scalar", false, "this backslash means nothing within double quotes", `write \\ for a backslash, or use single quotes`},
	{"hexadecimal", "quoted scalar", false, "this escape needs hexadecimal digits", `write \\ for a backslash, or use single quotes`},
	{"',' or ']'", "flow sequence", true, "this list is not closed, or a comma is missing in it", "add , between its entries and ] at its end"},
	{"',' or '}'", "flow mapping", true, "this { is not closed, or a comma is missing in it", "add , between its fields and } at its end; put a value with { or } in quotes"},
	{"node content", "flow node", false, "a value is missing here, or a bracket is not closed", "write the value, or close the bracket"},
	{"mapping values are not allowed", "", false, "this colon comes where no field can begin", "check the indentation; put a value that has a colon and a space in quotes"},
	{"expected key", "block mapping", false, "here should be a field, indented like those above it", "indent it like them, and check quotes and brackets before it"},
	{"'-' indicator", "block collection", false, "here should be an entry of the list above, or a field that is indented further", `begin it with "- ", or indent it`},
	{"block sequence entries", "", false, "a list cannot begin here", `put "- " on a line of its own below the field`},
	{"expected ':'", "simple key", true, "this line has no colon", `write it as "name: value"`},
	{"unknown anchor", "", false, "this * refers to nothing that was marked with &", "put the value in quotes if it is text"},
	{"max depth", "", false, fmt.Sprintf("this is nested more than %d deep", maxDepth), "check the brackets"},
	{"comment without", "", false, "this # does not begin a comment", "put a space before it, or the value in quotes"},
	{"tab", "", false, "here is a tab", "indent with spaces"},
	{"mixed spaces and tabs", "", false, "here is a tab", "indent with spaces"},
	{"", "block scalar", true, "this begins a block of text, and that is not what follows", "put the value in quotes"},
	{"", "anchor", true, "this begins an anchor, and that is not what follows", "put the value in quotes"},
	{"", "alias", true, "this begins an alias, and that is not what follows", "put the value in quotes"},
	{"", "tag", true, "this begins a YAML tag, and tags have no place here", "put the value in quotes"},
	{"", "directive", true, "this begins a YAML directive, and directives have no place here", "put the value in quotes, or delete the line"},
	{"simple key", "", false, "this line has no colon, or the field's name is too long", `write it as "name: value"`},
	{"", "plain scalar", false, "this value ends in a way that cannot be read", "put the value in quotes"},
}

// colons are the ways to get a field's colon wrong.
var colons = []struct {
	form     *regexp.Regexp
	msg, fix string
}{
	{regexp.MustCompile(`^[ -]*([A-Za-z_]\w*):[^\s:]`), "there is no space after the colon", "$1: with a space after it"},
	{regexp.MustCompile(`^[ -]*([A-Za-z_]\w*) +[{\[]`), "there is no colon after the name", "$1: with its colon"},
}

// syntax says what is wrong with the YAML itself.
func (t *text) syntax(err error) Problem {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		return t.problem(mark{1, 1}, Error, "", "this is not YAML: "+err.Error(), "")
	}
	at := mark{e.Mark.Line, e.Mark.Column}
	rest := t.rest(at)
	if strings.Contains(e.Message, "cannot start any token") && rest != "" {
		if strings.HasPrefix(rest, "\t") {
			return t.problem(at, Error, "", "here is a tab", "indent with spaces")
		}
		if strings.HasPrefix(rest, ">") {
			return t.problem(at, Error, "", "an operator that begins with > is written in quotes", `write ">=" or ">"`)
		}
		return t.problem(at, Error, "", fmt.Sprintf("a value cannot begin with %c", []rune(rest)[0]), "put it in quotes")
	}
	for _, w := range plainWords {
		if !strings.Contains(e.Message, w.complaint) || !strings.Contains(e.ContextMsg, w.context) {
			continue
		}
		if w.open && e.ContextMark.Line > 0 {
			at = mark{e.ContextMark.Line, e.ContextMark.Column}
		}
		line := t.lines[t.clamp(at).line-1]
		if strings.Contains(w.context+w.complaint, "simple key") || w.complaint == "mapping values are not allowed" {
			for _, h := range colons {
				if m := h.form.FindStringSubmatchIndex(line); m != nil {
					return t.problem(mark{at.line, utf8.RuneCountInString(line[:m[3]]) + 1}, Error, "", h.msg, "write "+string(h.form.ExpandString(nil, h.fix, line, m)))
				}
			}
		}
		if w.open && strings.HasPrefix(w.context, "flow") && strings.Count(line, `"`)%2 == 1 {
			at.column = utf8.RuneCountInString(line[:strings.LastIndexByte(line, '"')]) + 1
			return t.problem(at, Error, "", "a quote in this line is never closed", "add the closing quote")
		}
		if w.context == "block scalar" && strings.HasPrefix(t.rest(at), ">=") {
			w.msg, w.fix = "an operator that begins with > is written in quotes", `write ">=" or ">"`
		}
		if w.context == "flow mapping" && strings.Contains(line, "${") {
			w.fix = `put ${NAME} in quotes: "${NAME}"`
		}
		return t.problem(at, Error, "", w.msg, w.fix)
	}
	return t.problem(at, Error, "", "this is not YAML: "+e.Message, "check quotes, brackets and indentation around it")
}
