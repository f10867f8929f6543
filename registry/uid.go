package registry

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// NewUID returns a random UUID (RFC 9562 version 4).
func NewUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return FormatUID(b)
}

// FormatUID marks sixteen random bytes as a version 4 UUID and writes it in its usual form.
func FormatUID(b [16]byte) string {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	at := 0
	for i, n := range [...]int{4, 2, 2, 2, 6} {
		if i > 0 {
			s[at] = '-'
			at++
		}
		from := (at - i) / 2
		hex.Encode(s[at:], b[from:from+n])
		at += 2 * n
	}
	return string(s[:])
}

// ParseUID returns a UUID of any version in lower case, and whether s is one in the 8-4-4-4-12 form.
func ParseUID(s string) (string, bool) {
	if len(s) != 36 {
		return "", false
	}
	s = strings.ToLower(s)
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if dash != (c == '-') || !dash && !digit {
			return "", false
		}
	}
	return s, true
}
