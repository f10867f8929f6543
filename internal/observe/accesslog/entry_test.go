package accesslog

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Each testdata/*.txt is a log_format in its first line, then lines; its .golden is what they say.
func TestParseGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			format, lines, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), "\n")
			f, err := Compile(format)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			var e Entry
			for line := range strings.SplitSeq(lines, "\n") {
				fmt.Fprintln(&got, describe(f, line, &e))
			}
			golden := strings.TrimSuffix(name, ".txt") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			wants := strings.Split(string(want), "\n")
			for i, g := range strings.Split(got.String(), "\n") {
				if i >= len(wants) || g != wants[i] {
					t.Errorf("line %d:\n got %s\nwant %s", i+2, g, wants[min(i, len(wants)-1)])
				}
			}
		})
	}
}

func describe(f *Format, line string, e *Entry) string {
	if err := f.Parse([]byte(line), e); err != nil {
		return "error: " + err.Error()
	}
	at := "-"
	if when, ok := e.Time(); ok {
		at = when.Format("2006-01-02T15:04:05.000Z")
	}
	return fmt.Sprintf("%s method=%q uri=%q path=%q status=%d request=%v upstream=%v",
		at, e.Method, e.URI, e.Path, e.Status, e.RequestTime, e.UpstreamTime)
}

func TestSecondsAndLists(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		value string
		want  float64
		ok    bool
	}{
		{"0.123", 0.123, true}, {"0.000", 0, true}, {"12", 12, true}, {"86400.001", 86400.001, true},
		{"-", nan, true}, {"", nan, true},
		{"0.100, 0.200", 0.3, true}, {"0.100 : 0.200", 0.3, true}, {"-, 0.200", 0.2, true}, {"0.100, -", 0.1, true},
		{"-, -", nan, true}, {"- : -", nan, true}, {"0.100 : ", 0.1, true}, {"0.1, 0.2, 0.3 : 0.4", 1, true},
		{"x", 0, false}, {"0.1x", 0, false}, {"0.1.2", 0, false}, {"-1", 0, false}, {"1e3", 0, false}, {"NaN", 0, false},
		{"0.1, x", 0, false}, {"9999999999999999999", 0, false},
	}
	for _, tt := range tests {
		got, ok := total([]byte(tt.value))
		if ok != tt.ok || ok && math.Abs(got-tt.want) > 1e-9 || ok && math.IsNaN(got) != math.IsNaN(tt.want) {
			t.Errorf("%q: %v %v, want %v %v", tt.value, got, ok, tt.want, tt.ok)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`/caf\xC3\xA9`: "/café", `/caf\xc3\xa9`: "/café", `/\x5C`: `/\`, `/a\"b`: `/a"b`, `/a\\b`: `/a\b`, `/\u0007x`: "/\ax",
		`/\n\r\t\b\f`: "/\n\r\t\b\f", `/\x`: `/\x`, `/\xZZ`: `/\xZZ`, `/\u00`: `/\u00`, `\`: `\`, ``: ``, `/\/`: `//`,
	} {
		if got := string(unescape(nil, []byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPath(t *testing.T) {
	for uri, want := range map[string]string{
		"/a/b?c=/d": "/a/b", "/": "/", "*": "*", "": "", "/a?": "/a", "http://h.example/a/b?c": "/a/b", "http://h.example": "/",
		"http://h.example?x=/y": "/", "h.example:443": "h.example:443",
	} {
		if got := string(path([]byte(uri))); got != want {
			t.Errorf("%q: %q, want %q", uri, got, want)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	f, err := Compile("tidemark")
	if err != nil {
		t.Fatal(err)
	}
	good := []byte(`10.0.0.1 - - [01/Mar/2027:07:00:00 -1000] "GET /caf\xC3\xA9 HTTP/1.1" 200 5 "-" "curl/8" rt=0.002 urt="0.001, 0.004" uct="0.000" uht="0.001" addr="127.0.0.1:8069" len=77`)
	bad := good[:60]
	var e Entry
	_ = f.Parse(good, &e)
	if n := testing.AllocsPerRun(100, func() { _ = f.Parse(good, &e); _ = f.Parse(bad, &e) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTime(t *testing.T) {
	want := time.Date(2027, 3, 1, 17, 0, 1, 0, time.UTC)
	for format, line := range map[string]string{
		"$msec":                       "1803920401.000",
		"[$time_local]":               "[01/Mar/2027:07:00:01 -1000]",
		"$time_iso8601":               "2027-03-01T07:00:01-10:00",
		"$time_iso8601 $msec":         "junk 1803920401.000",
		"$msec|$time_local":           "1803920401.000|junk",
		"[$time_local] $time_iso8601": "[junk] 2027-03-01T17:00:01+00:00",
	} {
		f, err := Compile(format)
		if err != nil {
			t.Fatal(err)
		}
		var e Entry
		if err := f.Parse([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if got, ok := e.Time(); !ok || !got.Equal(want) {
			t.Errorf("%s: %v %v", format, got, ok)
		}
	}
	for _, format := range []string{"$msec", "$time_local", "$time_iso8601"} {
		f, _ := Compile(format)
		var e Entry
		_ = f.Parse([]byte("-"), &e)
		if got, ok := e.Time(); ok {
			t.Errorf("%s: - is %v", format, got)
		}
	}
}

// FuzzParse: no line makes the parser panic, and what it accepts is sane.
func FuzzParse(f *testing.F) {
	formats := []string{
		"tidemark", "combined", `escape=json {"r":"$request","s":$status,"t":"$upstream_response_time","q":"$request_time"}`,
		`escape=none $request_method $request_uri $status $upstream_response_time $request_time`, `$msec|$uri|$upstream_addr $upstream_response_time $status`,
	}
	for i, format := range formats {
		c, err := Compile(format)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, []byte(c.String()))
	}
	f.Add(0, []byte(`10.0.0.1 - - [01/Mar/2027:07:00:00 -1000] "GET /a\xC3 HTTP/1.1" 200 5 "-" "\x22" rt=0.002 urt="0.001, -" uct="-" uht="-" addr="a, b" len=77`))
	f.Add(2, []byte(`{"r":"GET /\"\\ HTTP/1.1","s":200,"t":"0.1 : 0.2","q":"0.3"}`))
	f.Add(3, []byte(`GET /a 200 0.1, 0.2 : - 0.3`))
	f.Add(4, []byte(`1803920401.000|/a b|127.0.0.1:80, unix:/x : - 0.1 200`))
	f.Add(1, []byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, which int, line []byte) {
		if which < 0 {
			return
		}
		c, err := Compile(formats[which%len(formats)])
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(line)
		var e Entry
		if c.Parse(line, &e) != nil {
			return
		}
		if !bytes.Equal(line, before) {
			t.Fatal("the line was changed")
		}
		if e.Status < 0 || e.Status > 999 || e.RequestTime < 0 || e.UpstreamTime < 0 || math.IsInf(e.UpstreamTime, 0) {
			t.Fatalf("%q: %+v", line, e)
		}
		if bytes.IndexByte(e.Path, '?') >= 0 || !bytes.Contains(e.URI, e.Path) && string(e.Path) != "/" {
			t.Fatalf("%q: uri %q, path %q", line, e.URI, e.Path)
		}
		e.Time()
	})
}
