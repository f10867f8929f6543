package coding

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

func TestThereAndBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for what, text := range map[string][]byte{"nothing": {}, "noise": noise, "words": bytes.Repeat([]byte("taro and cassava "), 2000)} {
		for _, name := range append([]string{"", "identity"}, Names...) {
			body, err := Encode(name, text)
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(name, iotest.OneByteReader(bytes.NewReader(body)), int64(len(text)))
			if err != nil {
				t.Fatalf("%s in %q: %v", what, name, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s in %q: %d bytes of %d, %v", what, name, len(got), len(text), err)
			}
			r.Close()
			if len(text) == 0 {
				continue
			}
			if r, err = NewReader(name, bytes.NewReader(body), int64(len(text)-1)); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); !errors.Is(err, ErrTooLarge) || len(got) > len(text)-1 {
				t.Errorf("%s in %q, one byte less allowed: %d bytes, %v", what, name, len(got), err)
			}
			r.Close()
		}
	}
	if _, err := Encode("br", nil); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := NewReader("br", strings.NewReader(""), 1); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// read is the error that a whole body ends with.
func read(name string, r io.Reader, limit int64) (int64, error) {
	z, err := NewReader(name, r, limit)
	if err != nil {
		return 0, err
	}
	defer z.Close()
	return io.Copy(io.Discard, z)
}

func TestBadBodies(t *testing.T) {
	text := bytes.Repeat([]byte("taro and cassava "), 2000)
	broken := errors.New("broken")
	for _, name := range Names {
		body, err := Encode(name, text)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n < len(body); n++ {
			if _, err := read(name, bytes.NewReader(body[:n]), 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s cut after %d of %d: %v", name, n, len(body), err)
			}
			if _, err := read(name, io.MultiReader(bytes.NewReader(body[:n]), iotest.ErrReader(broken)), 1<<20); !errors.Is(err, broken) {
				t.Errorf("%s whose source breaks after %d of %d: %v", name, n, len(body), err)
			}
		}
		wrong := bytes.Clone(body)
		wrong[len(wrong)-1] ^= 1 // gzip ends with its length, zstd with its checksum
		for what, bad := range map[string][]byte{"a wrong checksum": wrong, "something else": text} {
			if _, err := read(name, bytes.NewReader(bad), 1<<20); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s with %s: %v", name, what, err)
			}
		}
		bomb, err := Encode(name, make([]byte, 50<<20))
		if err != nil {
			t.Fatal(err)
		}
		for limit, most := range map[int64]int64{1 << 30: 2 << 20, 1000: 1000} { // out of proportion; over the limit
			if n, err := read(name, bytes.NewReader(bomb), limit); !errors.Is(err, ErrTooLarge) || n > most {
				t.Errorf("%s of 50 MB in %d bytes with a limit of %d: %d bytes, %v", name, len(bomb), limit, n, err)
			}
		}
	}
}

// FuzzNewReader: whatever a body is, no more comes out than is allowed, and the error is a known one.
func FuzzNewReader(f *testing.F) {
	for i, name := range Names {
		body, err := Encode(name, []byte(`{"protocol":1}`))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, i)
	}
	f.Fuzz(func(t *testing.T, body []byte, coding int) {
		const limit = 1 << 16
		n, err := read(Names[uint(coding)%2], bytes.NewReader(body), limit)
		if n > limit || err != nil && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
