package httpjson

import (
	"math"
	"strings"
	"testing"
)

func TestPointer(t *testing.T) {
	const page = `{"a": {"b": [1, 2.5, {"c/d": -3e2, "e~f": 4, "": 5}], "text": "6", "yes": true, "none": null}, "01": 7, "big": 1e999, "dup": 1, "dup": 8}`
	for _, c := range []struct {
		at   string
		want float64
		err  string
	}{
		{at: "/a/b/0", want: 1},
		{at: "/a/b/1", want: 2.5},
		{at: "/a/b/2/c~1d", want: -300},
		{at: "/a/b/2/e~0f", want: 4},
		{at: "/a/b/2/", want: 5},
		{at: "/01", want: 7},
		{at: "/dup", want: 8},
		{at: "/a/x", err: `the page has no /a/x; /a has "b", "none", "text", "yes"`},
		{at: "/x", err: `the page has no /x; the document has "01", "a", "big", "dup"`},
		{at: "/a/b/3", err: "the page has no /a/b/3: the list has 3 entries"},
		{at: "/a/b/01", err: `/a/b is a list, and "01" is no place in it: write 0 for the first`},
		{at: "/a/b/-", err: `/a/b is a list, and "-" is no place in it`},
		{at: "/a/b/-1", err: `/a/b is a list, and "-1" is no place in it`},
		{at: "/a/b/0/c", err: "/a/b/0 is a number, and has nothing in it"},
		{at: "/a/text", err: "/a/text is a text, and no number"},
		{at: "/a/yes", err: "/a/yes is a truth value, and no number"},
		{at: "/a/none", err: "/a/none is null, and no number"},
		{at: "/a", err: "/a is an object, and no number"},
		{at: "/a/b", err: "/a/b is a list, and no number"},
		{at: "/big", err: "/big is too large a number"},
	} {
		p, err := parsePointer(c.at)
		if err != nil {
			t.Fatal(err)
		}
		if p.String() != c.at {
			t.Errorf("%s is written %s", c.at, p)
		}
		v, err := number(p, page)
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) || c.err == "" && (err != nil || v != c.want) {
			t.Errorf("%s: %v, %v; want %v %s", c.at, v, err, c.want, c.err)
		}
	}
	p := pointer{"a"}
	for _, page := range []string{"", "{", `{"a":1} {"a":2}`, `{"a":1}]`, `{"a":NaN}`, `{"a":01}`, "\xff"} {
		if v, err := number(p, page); err == nil || !strings.Contains(err.Error(), "no JSON") {
			t.Errorf("%q: %v, %v", page, v, err)
		}
	}
}

func number(p pointer, page string) (float64, error) {
	document, err := parseJSON([]byte(page))
	if err != nil {
		return 0, err
	}
	return p.number(document)
}

// Whatever a page says, there is a finite figure or an error, and what is found is what was asked for.
func FuzzText(f *testing.F) {
	for _, page := range []string{exposition, "n 5 1800000000000\n", "n{a=\"b\",} 0x1p-2\n", "# TYPE n histogram\nn_count 5\n", "n NaN\nn 1\n"} {
		f.Add([]byte(page), "n", "a", "b")
	}
	f.Fuzz(func(t *testing.T, page []byte, metric, label, value string) {
		var labels map[string]string
		if label != "" {
			labels = map[string]string{label: value}
		}
		found, err := parseText(page)
		if err != nil {
			return
		}
		all, _, err := found.find(metric, labels)
		if err != nil || check(all, true) != nil {
			return
		}
		for _, s := range all {
			if math.IsNaN(s.value) || math.IsInf(s.value, 0) || !strings.Contains(s.name, metric) {
				t.Errorf("%q: %+v", metric, s)
			}
		}
	})
}

func FuzzPointer(f *testing.F) {
	f.Add(`{"a": [{"b": 1}]}`, "/a/0/b")
	f.Add(`[1e400]`, "/0")
	f.Add(`{"": {"~/": 2}}`, "//~0~1")
	f.Fuzz(func(t *testing.T, page, at string) {
		p, err := parsePointer(at)
		if err != nil {
			return
		}
		if p.String() != at {
			t.Errorf("%q is written %q", at, p)
		}
		if v, err := number(p, page); err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Errorf("%q in %q is %v", at, page, v)
		}
	})
}
