package external

import (
	"bufio"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/prove/outcome"
)

// JMeter reads a results file (JTL), CSV or XML, and makes an outcome of it. A transaction controller becomes a journey of its label; a label
// that begins with "page" is a page, any other an API call. A warm-up at the start is not judged.
//
// JMeter counts from the send: what a user waits while its thread still waits for the answer before is not in it, and the outcome says so.
func JMeter(path string, warmUp time.Duration) (*outcome.Run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readJMeter(path, f, warmUp)
}

func readJMeter(name string, r io.Reader, warmUp time.Duration) (*outcome.Run, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	head, err := in.Peek(512)
	if len(head) == 0 {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, fmt.Errorf("%s is empty: an empty result is a test that was not run", name)
	}
	g := gather("JMeter")
	g.run.Scenario = filepath.Base(name)
	g.run.Notes = []string{"measured by JMeter, from the send: a service that stalls its threads hides what others would have waited"}
	if strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(string(head), "\ufeff")), "<") {
		g.jtlXML(in)
	} else if err := g.jtlCSV(name, in); err != nil {
		return nil, err
	}
	return g.outcome(name, warmUp)
}

// row is a sample as JMeter writes it, in either format.
type row struct {
	stamp, elapsed, label, code, message, success, bytes string
}

// transaction is how a transaction controller's sample begins its message.
const transaction = "Number of samples in transaction"

func (g *gathered) sample(r row) error {
	start, err := stamp(r.stamp)
	if err != nil {
		return err
	}
	ms, err := strconv.ParseInt(r.elapsed, 10, 64)
	if err != nil {
		return fmt.Errorf("elapsed %q is no number of milliseconds", r.elapsed)
	}
	if err := plausible(start, float64(ms)); err != nil {
		return err
	}
	if r.success != "true" && r.success != "false" {
		return fmt.Errorf("success %q is neither true nor false", r.success)
	}
	took, failed := time.Duration(ms)*time.Millisecond, r.success == "false"
	if strings.HasPrefix(r.message, transaction) {
		g.journey(r.label, start, took, failed)
		return nil
	}
	one := request{name: r.label, kind: outcome.API, start: start, latency: took, service: took}
	if strings.HasPrefix(strings.ToLower(r.label), "page") {
		one.kind = outcome.Page
	}
	if n, err := strconv.ParseUint(r.bytes, 10, 64); err == nil {
		one.bytes = n
	}
	if failed {
		if status, err := strconv.Atoi(r.code); err == nil {
			one.class = byStatus(status)
		} else {
			one.class = byException(r.code + " " + r.message)
		}
	}
	g.request(one)
	return nil
}

// stamps are the ways in which JMeter writes a time, beside milliseconds.
var stamps = []string{"2006/01/02 15:04:05.000", "2006-01-02 15:04:05.000", "2006/01/02 15:04:05", "2006-01-02 15:04:05", time.RFC3339Nano}

func stamp(s string) (time.Time, error) {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms > 0 {
		return time.UnixMilli(ms), nil
	}
	for _, layout := range stamps {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("timeStamp %q is no time", s)
}

// byException is the class of a failure that is no answer: JMeter writes the exception as the response code.
func byException(text string) outcome.Class {
	for _, e := range []struct {
		word  string
		class outcome.Class
	}{
		{"UnknownHost", outcome.FailedDNS}, {"ConnectTimeout", outcome.FailedConnect}, {"SocketTimeout", outcome.FailedTimeout}, {"Timeout", outcome.FailedTimeout},
		{"SSL", outcome.FailedTLS}, {"Connection reset", outcome.FailedReset}, {"NoHttpResponse", outcome.FailedReset}, {"HttpHostConnect", outcome.FailedConnect},
		{"ConnectException", outcome.FailedConnect}, {"refused", outcome.FailedConnect}, {"SocketException", outcome.FailedReset}, {"Assertion", outcome.FailedCheck},
	} {
		if strings.Contains(text, e.word) {
			return e.class
		}
	}
	return outcome.FailedOther
}

func (g *gathered) jtlCSV(name string, in *bufio.Reader) error {
	head, err := in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head = strings.TrimRight(strings.TrimPrefix(head, "\ufeff"), "\r\n")
	comma := ','
	for _, c := range []rune{'\t', ';', '|'} {
		if strings.ContainsRune(head, c) {
			comma = c
		}
	}
	at := map[string]int{}
	for i, field := range strings.Split(head, string(comma)) {
		at[strings.Trim(field, `" `)] = i
	}
	for _, need := range []string{"timeStamp", "elapsed", "label", "success"} {
		if _, ok := at[need]; !ok {
			return fmt.Errorf("%s:1: no column %s: columns are told by their names, so let JMeter write them (jmeter.save.saveservice.print_field_names=true)", name, need)
		}
	}
	r := csv.NewReader(in)
	r.Comma, r.FieldsPerRecord, r.ReuseRecord = comma, -1, true
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		g.lines++
		var broken *csv.ParseError
		if errors.As(err, &broken) {
			g.bad(broken.StartLine+1, broken.Err) // the header was line 1
			continue
		}
		if err != nil {
			return err
		}
		field := func(name string) string {
			if i, ok := at[name]; ok && i < len(record) {
				return record[i]
			}
			return ""
		}
		line, _ := r.FieldPos(0)
		if err := g.sample(row{field("timeStamp"), field("elapsed"), field("label"), field("responseCode"), field("responseMessage"), field("success"), field("bytes")}); err != nil {
			g.bad(line+1, err)
		}
	}
}

func (g *gathered) jtlXML(in io.Reader) {
	d := xml.NewDecoder(in)
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // JMeter writes UTF-8, whatever it says
	depth := 0
	for {
		token, err := d.Token()
		line, _ := d.InputPos()
		if errors.Is(err, io.EOF) && depth == 0 {
			return
		}
		if err != nil {
			// A file of a JMeter that was killed ends in the middle: what is there counts, and is not the whole.
			g.run.Cut = fmt.Sprintf("the file ends in line %d: %v", line, err)
			return
		}
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			if depth != 2 || (e.Name.Local != "httpSample" && e.Name.Local != "sample") {
				continue // a sample within a sample is a part of it: a redirect, or a resource
			}
			g.lines++
			a := map[string]string{}
			for _, attr := range e.Attr {
				a[attr.Name.Local] = attr.Value
			}
			if err := g.sample(row{a["ts"], a["t"], a["lb"], a["rc"], a["rm"], a["s"], a["by"]}); err != nil {
				g.bad(line, err)
			}
		case xml.EndElement:
			depth--
		}
	}
}
