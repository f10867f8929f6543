package report

import (
	"encoding/xml"
	"io"
	"strings"
	"time"

	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/verdict"
	"tidemark/internal/show/text"
)

type suites struct {
	XMLName  xml.Name `xml:"testsuites"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Time     float64  `xml:"time,attr"`
	Suite    suite    `xml:"testsuite"`
}

type suite struct {
	Name      string     `xml:"name,attr"`
	Tests     int        `xml:"tests,attr"`
	Failures  int        `xml:"failures,attr"`
	Errors    int        `xml:"errors,attr"`
	Skipped   int        `xml:"skipped,attr"`
	Time      float64    `xml:"time,attr"`
	Timestamp string     `xml:"timestamp,attr,omitempty"`
	Cases     []testCase `xml:"testcase"`
}

type testCase struct {
	Name    string   `xml:"name,attr"`
	Class   string   `xml:"classname,attr"`
	Time    float64  `xml:"time,attr"`
	Failure *problem `xml:"failure,omitempty"`
	Error   *problem `xml:"error,omitempty"`
	Skipped *problem `xml:"skipped,omitempty"`
	Out     string   `xml:"system-out,omitempty"`
}

type problem struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit writes a verdict as the XML that CI systems read: a test case for each criterion. What failed is a failure; what is undecided, and a run
// that proves nothing, is an error, so that neither is taken for passed; what was not exercised is skipped.
func JUnit(w io.Writer, runs []*outcome.Run, v *verdict.Verdict) error {
	s := suite{Name: "load test"}
	for i, run := range runs {
		s.Time += run.Ended.Sub(run.Started).Seconds()
		if i == 0 {
			s.Name, s.Timestamp = run.Scenario, run.Started.UTC().Format("2006-01-02T15:04:05")
		}
	}
	s.Time = float64(time.Duration(s.Time*1000)) / 1000
	class := "tidemark.loadtest." + strings.ReplaceAll(s.Name, ".", "_")
	if len(v.Invalid) > 0 {
		s.Cases = append(s.Cases, testCase{Name: "the runs are valid", Class: class, Error: &problem{Message: v.Invalid[0], Type: "invalid", Text: strings.Join(v.Invalid, "\n")}})
	}
	for i := range v.Criteria {
		r := &v.Criteria[i]
		lines := []string{text.StatusWords[r.Status] + ": measured " + text.Measured(r)}
		if b := text.Bounds(r); b != "" {
			lines[0] += " (" + b + ")"
		}
		if a := text.Asked(r); a != "" {
			lines[0] += ", asked " + a
		}
		if r.Why != "" {
			lines = append(lines, r.Why)
		}
		if r.Baseline != nil {
			lines = append(lines, text.Against(r))
		}
		c, p := testCase{Name: r.Name, Class: class}, &problem{Message: lines[0], Type: string(r.Status), Text: strings.Join(lines, "\n")}
		switch r.Status {
		case verdict.Failed:
			c.Failure = p
		case verdict.Undecided, verdict.Invalid:
			c.Error = p
		case verdict.Unneeded:
			c.Skipped = &problem{Message: r.Why}
		case verdict.Passed, verdict.Within:
			c.Out = p.Text
		}
		s.Cases = append(s.Cases, c)
	}
	for _, c := range s.Cases {
		s.Tests++
		s.Failures += one(c.Failure)
		s.Errors += one(c.Error)
		s.Skipped += one(c.Skipped)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(suites{Name: "tidemark", Tests: s.Tests, Failures: s.Failures, Errors: s.Errors, Time: s.Time, Suite: s}); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func one(p *problem) int {
	if p == nil {
		return 0
	}
	return 1
}
