// Package lines reads text files of any length line by line, plain or gzip, in bounded memory.
package lines

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
)

// ErrTooLong comes with the beginning of a line that is longer than is taken.
var ErrTooLong = errors.New("the line is too long")

// Plain is the text of a file that may be gzip, and whether it is.
func Plain(from io.Reader) (text io.Reader, packed bool, err error) {
	b := bufio.NewReaderSize(from, 256<<10)
	if magic, _ := b.Peek(2); !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return b, false, nil
	}
	z, err := gzip.NewReader(b)
	return z, true, err
}

// Of yields each line without its end; it is valid until the next. One that is longer than longest bytes comes cut, with ErrTooLong. The last
// pair has another error when the text cannot be read to its end: a half line before that is not yielded.
func Of(text io.Reader, longest int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		in := bufio.NewReaderSize(text, longest)
		for {
			line, err := in.ReadSlice('\n')
			if errors.Is(err, bufio.ErrBufferFull) {
				if !yield(line, fmt.Errorf("%w: more than %d bytes", ErrTooLong, in.Size())) {
					return
				}
				for errors.Is(err, bufio.ErrBufferFull) {
					_, err = in.ReadSlice('\n')
				}
			} else if (err == nil || errors.Is(err, io.EOF) && len(line) > 0) && !yield(bytes.TrimRight(line, "\r\n"), nil) {
				return
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}
