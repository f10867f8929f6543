package lines

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"a\nb\r\n\nc", []string{"a", "b", "", "c"}},
		{"a\n" + long + "\nb\n", []string{"a", "too long: " + long[:16], "b"}},
		{long, []string{"too long: " + long[:16]}},
	} {
		var got []string
		for line, err := range Of(strings.NewReader(tt.text), 16) {
			switch {
			case errors.Is(err, ErrTooLong):
				got = append(got, "too long: "+string(line))
			case err != nil:
				t.Errorf("%q: %v", tt.text, err)
			default:
				got = append(got, string(line))
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
	for range Of(strings.NewReader("a\nb\n"), 16) {
		break // whoever has seen enough goes
	}
}

// A file that was cut off yields its whole lines and says so.
func TestCutOff(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for i := range 20_000 {
		fmt.Fprintf(z, "%d\n", i*i)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	text, is, err := Plain(bytes.NewReader(packed.Bytes()[:packed.Len()/2]))
	if err != nil || !is {
		t.Fatalf("gzip is taken for %v, %v", is, err)
	}
	n, failed := 0, error(nil)
	for line, err := range Of(text, 1000) {
		if failed = err; err != nil {
			continue
		}
		if string(line) != fmt.Sprint(n*n) {
			t.Fatalf("line %d is %q", n, line)
		}
		n++
	}
	if !errors.Is(failed, io.ErrUnexpectedEOF) || n < 1000 {
		t.Errorf("%d lines, then %v", n, failed)
	}
	if text, is, err := Plain(strings.NewReader("plain")); is || err != nil {
		t.Errorf("%v is taken for gzip: %v", text, err)
	}
	if _, _, err := Plain(strings.NewReader("\x1f\x8bno")); err == nil {
		t.Error("half a header is taken for gzip")
	}
}
