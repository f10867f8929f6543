package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/show/chart"
)

// sample is a page with one of each part.
func sample(t testing.TB) Page {
	zone, err := time.LoadLocation("Pacific/Rarotonga")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2027, 3, 1, 0, 0, 0, 0, zone)
	size, p95, load := make([]float64, 288), make([]float64, 288), make([]float64, 288)
	for i := range size {
		load[i] = 30 + 28*math.Sin(float64(i)/40)
		size[i] = 2 + math.Round(load[i]/10)
		p95[i] = 0.2 + load[i]*load[i]/9000
	}
	for i := 100; i < 115; i++ {
		p95[i] = math.NaN()
	}
	x := chart.Axis{Scale: chart.Time, Zone: zone}
	step := 5 * time.Minute
	return Page{
		Title: "odoo-workers under <daily>", Lead: "What two policies would have done.", Zone: zone, Made: start, Facts: []Fact{{"load", "daily, 60/s at its peak"}, {"seeds", "8"}},
		Sections: []Section{
			{"Outcome", []Block{
				Tiles{{Value: "0.42 %", Name: "minutes above 500ms", More: "± 0.1", Tone: Bad}, {Value: "318", Name: "worker-hours"}, {Value: "4.2", Name: "mean size"}},
				Note{Warn, "memory (procfs) is not simulated: taken to be 40 % all the time."},
				Table{Caption: "Policies", Columns: []Column{{Name: "policy"}, {"worker-hours", true}}, Rows: []Row{Cells("a.yaml", "318"), {{Text: "b & c.yaml", More: "tried"}, {Text: "290", Tone: Good}}}},
				Table{Columns: []Column{{Name: "policy"}}, Empty: "No decision changed the size."},
			}},
			{"Over time", []Block{
				&chart.Chart{Title: "Load", About: "Arrivals a second.", X: x, Y: chart.Axis{Per: "/s"}, Series: []chart.Series{{Name: "load", Kind: chart.Area, Points: chart.Times(start, step, load)}}, Height: 100},
				&chart.Chart{Title: "Workers", X: x, Series: []chart.Series{{Name: "a.yaml", Kind: chart.Step, Points: chart.Times(start, step, size)}},
					Marks: []chart.Mark{{X: chart.At(start.Add(3 * time.Hour)), Text: "4 -> 5"}, {X: chart.At(start.Add(9 * time.Hour)), Text: "failed", Bad: true}}},
				&chart.Chart{Title: "p95", X: x, Y: chart.Axis{Unit: fleet.Seconds}, Series: []chart.Series{{Name: "a.yaml", Points: chart.Times(start, step, p95)}, {Name: "b.yaml", Points: chart.Times(start, step, load[:0])}},
					Thresholds: []chart.Threshold{{Name: "objective 500ms", Value: 0.5}}, Spans: []chart.Span{{Name: "violated", From: chart.At(start.Add(5 * time.Hour)), To: chart.At(start.Add(6 * time.Hour))}}},
				Details{Summary: "Response times", Open: true, Blocks: []Block{
					&chart.Chart{Title: "Percentiles", X: chart.Axis{Scale: chart.Percentile}, Y: chart.Axis{Unit: fleet.Seconds},
						Series: []chart.Series{{Name: "a.yaml", Points: chart.Percentiles(10000, func(q float64) float64 { return -0.1 * math.Log(1-q) })}}},
					&chart.Chart{Title: "Worker-hours", X: chart.Axis{Scale: chart.Named, Names: []string{"a.yaml", "b.yaml", "fixed:10"}},
						Series: []chart.Series{{Name: "worker-hours", Kind: chart.Bars, Points: []chart.Point{{X: 0, Y: 318}, {X: 1, Y: 290}, {X: 2, Y: 1680}}}, {Name: "least", Kind: chart.Bars, Points: []chart.Point{{X: 0, Y: 200}, {X: 1, Y: 200}, {X: 2, Y: 200}}}}},
				}},
			}},
		},
	}
}

// A page stands alone: it names nothing that would be fetched and runs no script; what people wrote is text in it.
func TestPage(t *testing.T) {
	var b strings.Builder
	if err := sample(t).Write(&b); err != nil {
		t.Fatal(err)
	}
	html := b.String()
	if file := os.Getenv("REPORT_SAMPLE"); file != "" { // to be looked at
		if err := os.WriteFile(file, []byte(html), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, not := range []string{"<script", "<link", "http://", "https://", "url(", "@import", "<daily>", "NaN", "ZgotmplZ", "%!"} {
		if strings.Contains(html, not) {
			t.Errorf("the page contains %q", not)
		}
	}
	for _, want := range []string{
		"odoo-workers under &lt;daily&gt;", "b &amp; c.yaml", `role="img"`, "<desc>Arrivals a second. load: ", "15 of 288 missing", "No decision changed the size.",
		"Mon 2027-03-01 00:00:00 -10:00 (2027-03-01 10:00:00 UTC)", `class="n good"`, "Times are those of Pacific/Rarotonga",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	wellFormed(t, html[strings.Index(html, "<main>"):strings.Index(html, "</body>")])
}

// wellFormed reads markup as XML, which finds what is not closed.
func wellFormed(t *testing.T, html string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(html))
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
