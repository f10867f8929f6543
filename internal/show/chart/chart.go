// Package chart draws charts as SVG, for the dashboard and for reports. A chart is a value: what is drawn of it depends on nothing
// else, and needs no script. It takes the width that it is given and keeps its letters readable on a phone; its colours are CSS
// classes (Style) for light, dark and print. Where a value is missing there is a gap, never a zero.
package chart

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// Chart is one plot: series over one horizontal axis.
type Chart struct {
	Title string
	About string // what is to be seen, in a sentence: for those who cannot see it
	X     Axis
	Y     Axis
	// Series are drawn in order, each in the next colour; Bands before them, and Spans before everything.
	Series     []Series
	Bands      []Band
	Spans      []Span
	Thresholds []Threshold
	Marks      []Mark
	Height     int // of the plot, in pixels; default 160
	// Told is for a page whose script tells what is pointed at, from the series' data-values: without it each column of the chart has a
	// title, which takes three times as many bytes as what is drawn.
	Told bool
}

// Axis says what stands along a side of a chart.
type Axis struct {
	Scale Scale
	Unit  fleet.Unit
	Per   string         // after the value, such as "/s"
	Zone  *time.Location // of times; default UTC
	Names []string       // of the values 0, 1, 2 ... on an axis of names
	// Min and Max are the axis' ends. When both are 0 the data says, and a linear axis begins at 0 unless they are negative.
	Min, Max float64
}

// Scale says how an axis spreads its values.
type Scale uint8

// The scales.
const (
	Linear     Scale = iota
	Time             // values are seconds since 1970, as At gives them
	Named            // values are indices of Axis.Names
	Percentile       // values are quantiles, 0..1; each further nine takes as much room as the one before
)

// At is a time as a value of an axis of times.
func At(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// Kind says how a series is drawn.
type Kind uint8

// The kinds.
const (
	Line Kind = iota
	Step      // a value holds until the next: a fleet's size
	Area      // a line, and what is below it
	Bars
)

// Series is one named row of points, by rising X.
type Series struct {
	Name   string
	Kind   Kind
	Points []Point
	// Gap is the distance in X beyond which two neighbours are not joined; 0: they always are.
	Gap float64
}

// Point is a value at a place. A Y of NaN is missing.
type Point struct{ X, Y float64 }

// Band is a range of values over X: a confidence interval, a forecast's reach, bounds.
type Band struct {
	Name   string
	Points []Range
}

// Range is one place of a band. NaN is missing.
type Range struct{ X, Low, High float64 }

// Span is a stretch of the horizontal axis: a window of a schedule, a time of violation.
type Span struct {
	Name     string
	From, To float64
}

// Threshold is a level that values are compared with.
type Threshold struct {
	Name  string
	Value float64
}

// Mark is something that happened.
type Mark struct {
	X    float64
	Text string
	Bad  bool
	// Faint is for what did not happen, and would have.
	Faint bool
}

// most is how many steps a drawn line has: beyond, points are drawn by the smallest and the largest of each step.
const most = 400

// mostRanges is how many places a drawn band has: beyond, each spans several ranges.
const mostRanges = 200

// columns is how many places of a chart tell their values when pointed at: of an hour 25 s, of a day 10 minutes.
const columns = 144

// HTML is the chart as a figure of a page whose style sheet holds Style.
func (c *Chart) HTML() template.HTML {
	d := newDrawing(c)
	d.caption()
	d.svg()
	d.print("</figure>\n")
	return template.HTML(d.String()) // all text went through escape
}

// SVG is the chart alone, as a file of its own.
func (c *Chart) SVG() string {
	d := newDrawing(c)
	d.alone = true
	d.svg()
	return d.String()
}

// A place in the plot is a whole number: half a pixel is enough, and is written in few letters.
const (
	across = 2000 // the plot's width
	finer  = 2    // of a pixel of its height
)

// drawing is a chart on its way to the page.
type drawing struct {
	strings.Builder
	*Chart
	x, y   axis
	height float64 // in pixels
	alone  bool
	values [][]string // of each series by column; empty: it has none there
	when   []float64  // of each column, the X that its first value is of
}

func newDrawing(c *Chart) *drawing {
	d := &drawing{Chart: c, height: float64(c.Height)}
	if c.Height == 0 {
		d.height = 160
	}
	var xs, ys extent
	for _, s := range c.Series {
		for _, p := range s.Points {
			xs.add(p.X)
			ys.add(p.Y)
		}
		if s.Kind == Bars || s.Kind == Area {
			ys.add(0)
		}
	}
	for _, b := range c.Bands {
		for _, p := range b.Points {
			xs.add(p.X)
			ys.add(p.Low)
			ys.add(p.High)
		}
	}
	for _, t := range c.Thresholds {
		ys.add(t.Value)
	}
	d.x = scaleX(c.X, xs, c.bars() > 0)
	d.y = scaleY(c.Y, ys)
	d.look()
	return d
}

func (c *Chart) bars() (n int) {
	for _, s := range c.Series {
		if s.Kind == Bars {
			n++
		}
	}
	return n
}

func (d *drawing) print(parts ...string) {
	for _, p := range parts {
		d.WriteString(p)
	}
}

// missing reports whether there is no value.
func missing(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

func escape(s string) string { return template.HTMLEscapeString(s) }

// num writes a coordinate outside the plot: a tenth of a pixel is enough.
func num(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// share is a place of the horizontal axis in percent.
func (d *drawing) share(x float64) string { return num(100*d.x.place(x)) + "%" }

// at and level place a value, kept inside the plot.
func (d *drawing) at(x float64) int    { return int(math.Round(across * d.x.place(x))) }
func (d *drawing) level(y float64) int { return int(math.Round(finer * d.height * (1 - d.y.place(y)))) }

// pen draws a path inside the plot, each place relative to the one before.
type pen struct {
	path     []byte
	x, y     int
	straight bool // the last that was written is a relative line, which the next continues
}

func (p *pen) move(x, y int) {
	p.path = strconv.AppendInt(append(p.path, 'M'), int64(x), 10)
	p.path = strconv.AppendInt(append(p.path, ' '), int64(y), 10)
	p.x, p.y, p.straight = x, y, false
}

func (p *pen) line(x, y int) {
	dx, dy := x-p.x, y-p.y
	switch {
	case dx == 0 && dy == 0:
		return
	case dy == 0:
		p.along('h', dx)
	case dx == 0:
		p.along('v', dy)
	default:
		if !p.straight {
			p.path = append(p.path, 'l')
		} else if dx >= 0 {
			p.path = append(p.path, ' ')
		}
		p.path = strconv.AppendInt(p.path, int64(dx), 10)
		if dy >= 0 {
			p.path = append(p.path, ' ')
		}
		p.path = strconv.AppendInt(p.path, int64(dy), 10)
		p.straight = true
	}
	p.x, p.y = x, y
}

func (p *pen) along(command byte, by int) {
	p.path = strconv.AppendInt(append(p.path, command), int64(by), 10)
	p.straight = false
}

func class(i int) string { return "s" + strconv.Itoa(i%6+1) }

// caption is the title, and what the colours mean.
func (d *drawing) caption() {
	d.print(`<figure class="chart"`)
	if d.Told {
		d.print(` data-from="`, strconv.FormatInt(int64(d.x.low), 10), `" data-to="`, strconv.FormatInt(int64(d.x.high), 10), `" data-columns="`, strconv.Itoa(len(d.when)), `"`)
	}
	d.print(`><figcaption><b>`, escape(d.Title), `</b>`)
	key := func(class, name string) {
		if name != "" {
			d.print(` <span class="key"><i class="`, class, `"></i>`, escape(name), `</span>`)
		}
	}
	if len(d.Series) > 1 || len(d.Bands)+len(d.Thresholds)+len(d.Spans) > 0 {
		for i, s := range d.Series {
			key(class(i), s.Name)
		}
	}
	for _, b := range d.Bands {
		key("band", b.Name)
	}
	for _, t := range d.Thresholds {
		key("limit", t.Name)
	}
	seen := map[string]bool{}
	for _, s := range d.Spans {
		if !seen[s.Name] {
			key("span", s.Name)
		}
		seen[s.Name] = true
	}
	d.print("</figcaption>\n")
}

// Below the plot there is room for the axis, above it for the marks.
const (
	above = 12.0
	below = 22.0
)

func (d *drawing) svg() {
	total := d.height + above + below
	if d.alone {
		d.print(`<svg xmlns="http://www.w3.org/2000/svg" width="720" height="`, num(total), `" viewBox="-60 0 800 `, num(total), `" class="alone" role="img">`, "\n<style>", Style, "</style>\n")
	} else {
		d.print(`<svg width="100%" height="`, num(total), `" role="img">`)
	}
	d.print("<title>", escape(d.Title), "</title><desc>", escape(d.describe()), "</desc>\n")
	d.labels()
	d.print(`<svg y="`, num(above), `" width="100%" height="`, num(d.height), `" viewBox="0 0 `, strconv.Itoa(across), " ", num(finer*d.height), `" preserveAspectRatio="none" class="plot">`, "\n")
	d.grid()
	for _, s := range d.Spans {
		from, to := d.at(s.From), d.at(s.To)
		d.print(`<rect class="span" x="`, strconv.Itoa(from), `" y="0" width="`, strconv.Itoa(max(to-from, 1)), `" height="`, num(finer*d.height), `"/>`, "\n")
	}
	for _, b := range d.Bands {
		d.band(b)
	}
	nth := 0
	for i, s := range d.Series {
		switch s.Kind {
		case Bars:
			d.columns(i, nth)
			nth++
		case Line, Step, Area:
			d.line(i)
		}
	}
	for _, t := range d.Thresholds {
		d.print(`<path class="limit" d="M0 `, strconv.Itoa(d.level(t.Value)), `H`, strconv.Itoa(across), `"/>`, "\n")
	}
	d.print("</svg>\n")
	d.marks()
	if !d.Told {
		d.hover()
	}
	d.print("</svg>\n")
}

// describe is what the chart says to those who do not see it: its own words, and how far each series reaches.
func (d *drawing) describe() string {
	out := d.About
	for _, s := range d.Series {
		var e extent
		none := 0
		for _, p := range s.Points {
			if !e.add(p.Y) {
				none++
			}
		}
		switch {
		case e.n == 0:
			out += fmt.Sprintf(" %s: no values.", s.Name)
		case none > 0:
			out += fmt.Sprintf(" %s: %s to %s, %d of %d missing.", s.Name, d.y.format(e.low), d.y.format(e.high), none, len(s.Points))
		default:
			out += fmt.Sprintf(" %s: %s to %s.", s.Name, d.y.format(e.low), d.y.format(e.high))
		}
	}
	return strings.TrimSpace(out)
}

// labels writes what stands along the axes.
func (d *drawing) labels() {
	for _, t := range d.y.ticks {
		d.print(`<text class="y" x="-6" y="`, num(float64(d.level(t.value))/finer+above), `">`, escape(t.label), `</text>`, "\n")
	}
	for i, t := range d.x.ticks {
		odd := ""
		if i%2 == 1 && d.X.Scale != Named {
			odd = " odd"
		}
		d.print(`<text class="x`, odd, `" x="`, d.share(t.value), `" y="`, num(d.height+above+17), `">`, escape(t.label), `</text>`, "\n")
	}
}

// grid draws the axes, in the plot.
func (d *drawing) grid() {
	var lines, axis pen
	for _, t := range d.y.ticks {
		lines.move(0, d.level(t.value))
		lines.line(across, lines.y)
	}
	bottom := d.level(d.y.low)
	for _, t := range d.x.ticks {
		axis.move(d.at(t.value), bottom)
		axis.line(axis.x, bottom+4*finer)
	}
	axis.move(0, bottom)
	axis.line(across, bottom)
	d.print(`<path class="grid" d="`, string(lines.path), `"/><path class="axis" d="`, string(axis.path), `"/>`, "\n")
}

// line draws a line, broken where something is missing.
func (d *drawing) line(i int) {
	s := d.Series[i]
	runs := split(s.Points, s.Gap)
	var p pen
	if s.Kind == Area {
		for _, run := range runs {
			run = thin(run)
			p = pen{}
			p.move(d.at(run[0].X), d.level(0))
			for _, at := range run {
				p.line(d.at(at.X), d.level(at.Y))
			}
			p.line(d.at(run[len(run)-1].X), d.level(0))
			d.print(`<path class="area `, class(i), `" d="`, string(p.path), `Z"/>`, "\n")
		}
	}
	p = pen{}
	for _, run := range runs {
		run = thin(run)
		for j, at := range run {
			x, y := d.at(at.X), d.level(at.Y)
			switch {
			case j == 0:
				p.move(x, y)
			case j < len(run)-1 && y == p.y && (s.Kind == Step || y == d.level(run[j+1].Y)):
				continue // on the way
			case s.Kind == Step:
				p.line(x, p.y)
				p.line(x, y)
			default:
				p.line(x, y)
			}
		}
		if len(run) == 1 {
			p.line(p.x+finer, p.y) // a lone value is seen too
		}
	}
	d.print(`<path class="line `, class(i), `"`, d.told(i), ` d="`, string(p.path), `"/>`, "\n")
}

// split cuts points where one is missing or too far from the one before.
func split(points []Point, gap float64) (runs [][]Point) {
	from := 0
	cut := func(to int) {
		if to > from {
			runs = append(runs, points[from:to])
		}
	}
	for i, p := range points {
		switch {
		case missing(p.Y):
			cut(i)
			from = i + 1
		case i > from && gap > 0 && p.X-points[i-1].X > gap:
			cut(i)
			from = i
		}
	}
	cut(len(points))
	return runs
}

// thin leaves of many points the first, the smallest, the largest and the last of each step, so that no peak is lost.
func thin(points []Point) []Point {
	if len(points) <= 2*most {
		return points
	}
	out := make([]Point, 0, 4*most)
	for i := range most {
		part := points[i*len(points)/most : (i+1)*len(points)/most]
		low, high := 0, 0
		for j, p := range part {
			if p.Y < part[low].Y {
				low = j
			}
			if p.Y > part[high].Y {
				high = j
			}
		}
		last := -1
		for _, j := range []int{0, min(low, high), max(low, high), len(part) - 1} {
			if j > last {
				out = append(out, part[j])
				last = j
			}
		}
	}
	return out
}

func (d *drawing) band(b Band) {
	from := 0
	draw := func(part []Range) {
		if len(part) < 2 {
			return
		}
		each := (len(part) + mostRanges - 1) / mostRanges
		var p pen
		var back []Range
		for i := 0; i < len(part); i += each {
			r := part[i]
			for _, p := range part[i:min(i+each, len(part))] {
				r.Low, r.High = min(r.Low, p.Low), max(r.High, p.High)
			}
			if i == 0 {
				p.move(d.at(r.X), d.level(r.High))
			}
			p.line(d.at(r.X), d.level(r.High))
			back = append(back, r)
		}
		for _, r := range slices.Backward(back) {
			p.line(d.at(r.X), d.level(r.Low))
		}
		d.print(`<path class="band" d="`, string(p.path), `Z"/>`, "\n")
	}
	for i, p := range b.Points {
		if missing(p.Low) || missing(p.High) {
			draw(b.Points[from:i])
			from = i + 1
		}
	}
	draw(b.Points[from:])
}

// columns draws the i-th series as bars, beside those of other series.
func (d *drawing) columns(i, nth int) {
	s := d.Series[i]
	each := d.x.pitch(s.Points) * across
	width := 0.8 * each / float64(d.bars())
	for _, p := range s.Points {
		if missing(p.Y) {
			continue
		}
		x, y, zero := float64(d.at(p.X))-0.4*each+float64(nth)*width, d.level(p.Y), d.level(0)
		d.print(`<rect class="bar `, class(i), `" x="`, num(x), `" y="`, strconv.Itoa(min(y, zero)), `" width="`, num(max(width*0.94, 1)), `" height="`, strconv.Itoa(max(y, zero)-min(y, zero)), `"/>`, "\n")
	}
}

func (d *drawing) marks() {
	for _, m := range d.Marks {
		kind := "mark"
		switch {
		case m.Bad:
			kind = "mark bad"
		case m.Faint:
			kind = "mark faint"
		}
		d.print(`<svg x="`, d.share(m.X), `" class="`, kind, `"><path d="M0 `, num(above), `V`, num(d.height+above), `M-4 2H4L0 10Z"/><title>`,
			escape(d.x.tell(m.X)+"\n"+m.Text), `</title></svg>`, "\n")
	}
}

// look finds what each column of the plot has to tell: of each series its largest value there.
func (d *drawing) look() {
	n := columns
	if d.X.Scale == Named {
		n = len(d.X.Names)
	}
	d.when, d.values = make([]float64, n), make([][]string, len(d.Series))
	empty := make([]bool, n)
	for c := range empty {
		empty[c] = true
	}
	for i, s := range d.Series {
		told := make([]int, n) // the point that each column tells of, from 1
		for j, p := range s.Points {
			c := min(int(d.x.place(p.X)*float64(n)), n-1)
			if !missing(p.Y) && c >= 0 && (told[c] == 0 || p.Y > s.Points[told[c]-1].Y) {
				told[c] = j + 1
			}
		}
		d.values[i] = make([]string, n)
		for c, j := range told {
			if j == 0 {
				continue
			}
			d.values[i][c] = d.y.format(s.Points[j-1].Y)
			if empty[c] {
				empty[c], d.when[c] = false, s.Points[j-1].X
			}
		}
	}
}

// told is what the page's script tells of a series, as attributes of its line.
func (d *drawing) told(i int) string {
	if !d.Told {
		return ""
	}
	return ` data-name="` + escape(d.Series[i].Name) + `" data-values="` + escape(strings.TrimRight(strings.Join(d.values[i], "|"), "|")) + `"`
}

// hover lays a row of columns over the plot that tell what is there, when pointed at.
func (d *drawing) hover() {
	n := len(d.when)
	for c := range n {
		text := ""
		for i, s := range d.Series {
			if v := d.values[i][c]; v != "" {
				text += "\n" + s.Name + ": " + v
			}
		}
		if text != "" {
			d.print(`<rect class="hit" x="`, num(float64(c)*100/float64(n)), `%" y="`, num(above), `" width="`, num(100/float64(n)), `%" height="`, num(d.height), `"><title>`,
				escape(d.x.tell(d.when[c])+text), `</title></rect>`, "\n")
		}
	}
}
