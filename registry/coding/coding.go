// Package coding is HTTP's content codings (RFC 9110, 8.4) for the registry's large bodies: gzip (RFC 1952) and zstd
// (RFC 8878), both ways, with limits on what a small body may unfold to.
package coding

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Names are the codings, best first.
var Names = []string{"zstd", "gzip"}

// Why a body cannot be read to its end, beside that it ends too early (io.ErrUnexpectedEOF) and what its source says.
var (
	ErrUnknown  = errors.New("unknown content coding")
	ErrTooLarge = errors.New("unfolds to more than is allowed")
	ErrCorrupt  = errors.New("is not of its content coding")
)

const (
	// maxRatio is how much more than was read may come out, beyond the first free bytes. A batch in which each change
	// has ids of its own does not reach 30; what unfolds to more is a bomb.
	maxRatio = 100
	free     = 1 << 20
	// window is how far back a zstd body may refer: what RFC 8878 asks every reader to support.
	window = 8 << 20
)

// NewReader returns what r holds, which is of a coding: one of Names, or identity, which may be left empty. More than
// limit bytes are ErrTooLarge, and so is what unfolds out of proportion. Close it after use; r stays open.
func NewReader(coding string, r io.Reader, limit int64) (io.ReadCloser, error) {
	u := &unfolding{limit: limit, in: counting{r: r}, stop: func() {}}
	switch strings.ToLower(coding) {
	case "", "identity":
		u.out, u.plain = &u.in, true
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(&u.in)
		if err != nil {
			return nil, u.explain(err)
		}
		u.out = z
	case "zstd":
		z, err := zstd.NewReader(&u.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			return nil, u.explain(err)
		}
		u.out, u.stop = z, z.Close
	default:
		return nil, ErrUnknown
	}
	return u, nil
}

// unfolding is a body being read.
type unfolding struct {
	in       counting
	out      io.Reader
	stop     func()
	plain    bool
	n, limit int64
}

func (u *unfolding) Read(p []byte) (int, error) {
	if over := u.limit + 1 - u.n; int64(len(p)) > over {
		p = p[:over] // one byte too many is enough to know
	}
	n, err := u.out.Read(p)
	u.n += int64(n)
	if u.n > u.limit || !u.plain && u.n > free && u.n > maxRatio*u.in.n {
		return 0, ErrTooLarge
	}
	return n, u.explain(err)
}

func (u *unfolding) Close() error {
	u.stop()
	return nil
}

// explain tells a fault of the source from one of the coding.
func (u *unfolding) explain(err error) error {
	switch {
	case err == nil, u.plain:
		return err
	case u.in.err != nil && !errors.Is(u.in.err, io.EOF):
		return u.in.err
	case errors.Is(err, io.EOF) && u.out == nil, errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return ErrTooLarge
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// counting counts what is read of r and keeps how it ended.
type counting struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil {
		c.err = err
	}
	return n, err
}

// encoder is shared: EncodeAll may be called by many at once. The small window is for small memory, here and on phones.
var encoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

// Encode returns text in a coding, one of Names or identity.
func Encode(coding string, text []byte) ([]byte, error) {
	switch coding {
	case "", "identity":
		return text, nil
	case "gzip":
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(text); err != nil {
			return nil, err
		}
		err := z.Close()
		return b.Bytes(), err
	case "zstd":
		return encoder().EncodeAll(text, nil), nil
	}
	return nil, ErrUnknown
}

// Choose returns the best coding that an Accept-Encoding header admits, empty for identity.
func Choose(header string) string {
	weight := map[string]float64{}
	for part := range strings.SplitSeq(strings.ToLower(header), ",") {
		name, parameters, _ := strings.Cut(part, ";")
		q := 1.0
		if value, ok := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(value, 64); err != nil {
				q = 0
			}
		}
		weight[strings.TrimSpace(name)] = q
	}
	best, most := "", 0.0
	for _, name := range Names {
		q, named := weight[name]
		if !named {
			q = weight["*"]
		}
		if q > most {
			best, most = name, q
		}
	}
	return best
}
