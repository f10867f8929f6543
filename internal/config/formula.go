package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"tidemark/internal/decide/expression"
)

// formulas checks what derived signals are computed of, once all signals are known.
func (r *resolver) formulas() {
	var all []Signal
	for i := range r.spec.Signals {
		all = append(all, Signal{r.spec.Signals[i].Name, r.spec.Signals[i].Source})
	}
	names, inputs := FormulaNames(all)
	r.inputs = map[int][]int{}
	for i, s := range all {
		f, ok := s.Body.(Formula)
		if !ok {
			continue
		}
		setting, text := f.Formula()
		at := r.at("signals.%s.%s.%s", s.Name, s.Kind, setting)
		if !r.ok(at) {
			continue
		}
		e, err := expression.Compile(text, names, r.out.Signals[i].Unit)
		if err != nil {
			r.misread(at, text, err, names, all)
			continue
		}
		for _, n := range e.Inputs() {
			if n < len(inputs) {
				r.inputs[i] = append(r.inputs[i], inputs[n])
				continue
			}
			if path := r.at("signals.%s.per_worker", s.Name); !r.written(path) {
				r.warn(r.at("signals.%s", s.Name), "is computed with the number of workers, and does not say how it moves with it",
					"write per_worker: true if it rises as workers leave, as queue / workers does, else per_worker: false")
			}
		}
	}
}

// misread reports a mistake in a formula at its own place.
func (r *resolver) misread(path, text string, err error, names []string, all []Signal) {
	var e *expression.Error
	if !errors.As(err, &e) || r.places[path].hasRaw { // its words would show part of what the environment holds
		r.fail(path, "is no formula with what the environment fills in", "write the formula itself")
		return
	}
	fix := e.Fix
	switch near := nearest(e.Name, names); {
	case e.Name == "":
	case slices.ContainsFunc(all, func(s Signal) bool { return s.Name == e.Name }):
		e.Msg, fix = e.Name+" is derived itself, and formulas are computed from signals that are read", "write its formula in parentheses instead"
	case near != "":
		fix = "did you mean " + near + "?"
	}
	if fix == "" {
		fix = "correct the formula"
	}
	at, shown := r.inText(path, text, e.Line, e.Column)
	if !shown {
		e.Msg = fmt.Sprintf("line %d, column %d of the formula: %s", e.Line, e.Column, e.Msg)
	}
	r.failAt(at, path, r.scrub(e.Msg), r.scrub(fix))
}

// inText is the place of a line and column of a text in the file. It is not known, and is the value's own, unless the text stands there in
// one line as it is, with or without quotes.
func (d *decoder) inText(path, text string, line, column int) (at mark, known bool) {
	at = d.locate(path)
	rest := d.text.rest(at)
	if line != 1 || strings.Contains(text, "\n") {
		return at, false
	}
	for _, quote := range []string{"", `"`, "'"} {
		if strings.HasPrefix(rest, quote+text) {
			at.column += utf8.RuneCountInString(quote) + column - 1
			return at, true
		}
	}
	return at, false
}
