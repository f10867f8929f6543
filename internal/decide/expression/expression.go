// Package expression derives a signal from others of the same fleet by a formula that the operator wrote, such as
//
//	pool_waiting + 2 * queue
//	cpu > 90 and queued == 0 ? 0 : queued / workers
//
// It is pure: the readings of one tick in, one reading out. A formula is checked once, when it is compiled: a misspelt signal is an error
// with its position. It knows numbers, the names of signals, + - * / ** and parentheses, comparisons, and, or, not, c ? a : b, and
// the functions min, max, abs, floor, ceil and round; what it costs is bounded by its length.
//
// A derived reading is worth as much as the least of those that the formula names, whether or not they decide the outcome: with one
// missing it is missing, with one stale it is stale, with one sparse it is sparse. What is no number (0/0, x/0), or negative
// where the unit cannot be, is missing.
package expression

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"tidemark/internal/fleet"
)

// Expression is a compiled formula. It is not for several goroutines at once.
type Expression struct {
	unit    fleet.Unit
	signals []string
	inputs  []int // those that the formula names, as indexes into signals; ascending
	program *vm.Program
	machine vm.VM
	values  reflect.Value // a struct with a field for each of signals: a name that is not there cannot be compiled
}

// Error is a mistake in a formula, at a line and column within it, both counted from 1.
type Error struct {
	Line, Column int
	Name         string // that is no signal; empty for every other mistake
	Msg          string
	Fix          string // what to write instead; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Msg)
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// maxLength bounds what an evaluation costs.
const maxLength = 1000

// Compile reads a formula over the signals of a fleet, which are all read from outside: a derived one is not among them. unit is
// what the result is measured in. The error is an *Error.
func Compile(text string, signals []string, unit fleet.Unit) (*Expression, error) {
	if n := len(text); n > maxLength {
		return nil, &Error{1, 1, "", fmt.Sprintf("the expression has %d bytes, and may have %d", n, maxLength), "derive it in the program that shows the signals"}
	}
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, located(err)
	}
	c := check{text: text, signals: signals}
	ast.Walk(&tree.Node, &c)
	if c.err != nil {
		return nil, c.err
	}
	if len(c.inputs) == 0 {
		return nil, &Error{1, 1, "", "the expression names no signal", "write one of " + strings.Join(signals, ", ")}
	}
	e := &Expression{unit: unit, signals: signals, inputs: c.inputs, values: environment(signals)}
	if e.program, err = expr.Compile(text, expr.Env(e.values.Addr().Interface()), expr.AsFloat64()); err != nil {
		return nil, located(err)
	}
	return e, nil
}

// environment is a pointer's struct with a number for each signal.
func environment(signals []string) reflect.Value {
	fields := make([]reflect.StructField, len(signals))
	for i, name := range signals {
		fields[i] = reflect.StructField{Name: fmt.Sprint("S", i), Type: reflect.TypeFor[float64](), Tag: reflect.StructTag(fmt.Sprintf("expr:%q", name))}
	}
	return reflect.New(reflect.StructOf(fields)).Elem()
}

// located is what the language's own checks say.
func located(err error) error {
	var at *file.Error
	if !errors.As(err, &at) {
		return &Error{1, 1, "", err.Error(), ""}
	}
	return &Error{max(at.Line, 1), at.Column + 1, "", at.Message, ""}
}

// check walks a formula: it allows what the package's doc says, and collects the signals that it names.
type check struct {
	text    string
	signals []string
	inputs  []int
	err     *Error // the first in the text
}

var (
	operators = []string{"+", "-", "*", "/", "**", "^", "<", "<=", ">", ">=", "==", "!=", "and", "&&", "or", "||", "not", "!"}
	functions = []string{"min", "max", "abs", "floor", "ceil", "round"}
)

// Visit is called for each node of a formula.
func (c *check) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.ConditionalNode:
	case *ast.IdentifierNode:
		i := slices.Index(c.signals, n.Value)
		if i < 0 {
			c.fail(n, n.Value, fmt.Sprintf("%q is no signal of this fleet", n.Value), c.near(n.Value))
		} else if at, known := slices.BinarySearch(c.inputs, i); !known {
			c.inputs = slices.Insert(c.inputs, at, i)
		}
	case *ast.UnaryNode:
		c.allow(n, n.Operator, operators, "operator")
	case *ast.BinaryNode:
		c.allow(n, n.Operator, operators, "operator")
	case *ast.BuiltinNode:
		c.allow(n, n.Name, functions, "function")
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			c.allow(n, callee.Value, functions, "function")
		}
	default:
		c.fail(n, "", "only numbers, signals and what is computed of them can stand here", "see the documentation of derived signals")
	}
}

func (c *check) allow(n ast.Node, name string, known []string, what string) {
	if !slices.Contains(known, name) {
		c.fail(n, "", fmt.Sprintf("%q is no %s here", name, what), "write one of "+strings.Join(known, " "))
	}
}

// near says what may be written instead of a name. A - in a name would be read as minus.
func (c *check) near(name string) string {
	for _, s := range c.signals {
		if head, _, dashed := strings.Cut(s, "-"); dashed && head == name {
			return fmt.Sprintf("the - of %s means minus here: call the signal %s", s, strings.ReplaceAll(s, "-", "_"))
		}
	}
	return "write one of " + strings.Join(c.signals, ", ")
}

func (c *check) fail(n ast.Node, name, msg, fix string) {
	e := &Error{Name: name, Msg: msg, Fix: fix}
	e.Line, e.Column = position(c.text, n.Location().From)
	if c.err == nil || cmp.Or(cmp.Compare(e.Line, c.err.Line), cmp.Compare(e.Column, c.err.Column)) < 0 {
		c.err = e
	}
}

// position counts an offset's line and column, in characters.
func position(text string, offset int) (line, column int) {
	runes := []rune(text)
	before := string(runes[:min(max(offset, 0), len(runes))])
	last := strings.LastIndexByte(before, '\n')
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[last+1:]) + 1
}

// Inputs are the signals that the formula names, as indexes into those of Compile, ascending.
func (e *Expression) Inputs() []int { return e.inputs }

// Reading derives the reading of the tick at now from all signals' readings, in the order of Compile. An error says why it is
// missing or stale.
func (e *Expression) Reading(now time.Time, signals []fleet.Reading) (fleet.Reading, error) {
	r := fleet.Reading{Time: now, Quality: fleet.Fresh}
	least := e.inputs[0]
	for _, i := range e.inputs {
		if signals[i].Quality < signals[least].Quality {
			least = i
		}
		e.values.Field(i).SetFloat(signals[i].Value)
	}
	if q := signals[least].Quality; q != fleet.Fresh {
		r.Quality = q
		if q == fleet.Sparse {
			return r, nil
		}
		return r, fmt.Errorf("%s, which it is derived from, is %s", e.signals[least], q)
	}
	v, err := e.evaluate()
	if err != nil {
		r.Quality = fleet.Missing
		return r, fmt.Errorf("%w, with %s", err, e.figures(signals))
	}
	r.Value = v
	return r, nil
}

func (e *Expression) evaluate() (float64, error) {
	out, err := e.machine.Run(e.program, e.values.Addr().Interface())
	if err != nil {
		return 0, fmt.Errorf("it cannot be computed: %w", err)
	}
	v, ok := out.(float64)
	switch {
	case !ok || math.IsNaN(v) || math.IsInf(v, 0):
		return 0, fmt.Errorf("the outcome is %v", out)
	case v < 0 && e.unit != fleet.Number:
		return 0, fmt.Errorf("the outcome is %v, and %s are never negative", v, e.unit)
	}
	return v, nil
}

// figures are the inputs in words.
func (e *Expression) figures(signals []fleet.Reading) string {
	var out []string
	for _, i := range e.inputs {
		out = append(out, fmt.Sprintf("%s %v", e.signals[i], signals[i].Value))
	}
	return strings.Join(out, ", ")
}
