package access

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// The cost of a password's hash: OWASP's first recommendation for Argon2id, 19 MiB and two passes. It takes some 30 ms.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
)

// Bounds of a password: what is shorter can be guessed at the pace that is allowed, what is longer is no password. The first is in
// letters, the second in bytes.
const (
	shortestPassword = 12
	longestPassword  = 1024
)

// CheckPassword says why a password is not to be used for an account.
func CheckPassword(name, password string) error {
	switch {
	case !utf8.ValidString(password):
		return errors.New("the password is no text in UTF-8")
	case utf8.RuneCountInString(password) < shortestPassword:
		return fmt.Errorf("the password is shorter than %d letters: take a sentence of four words or more", shortestPassword)
	case len(password) > longestPassword:
		return fmt.Errorf("the password has more than %d bytes", longestPassword)
	case strings.Contains(strings.ToLower(password), strings.ToLower(name)), strings.Count(password, password[:1]) == len(password):
		return errors.New("the password has the name in it, or is one letter: it would be guessed first")
	}
	return nil
}

// hash returns a salted hash that says by itself how it was made (PHC string format), so that the cost can be raised later.
func hash(password string, memory, passes uint32) string {
	var salt [16]byte
	rand.Read(salt[:]) // never fails: crypto/rand ends the program instead
	sum := argon2.IDKey([]byte(password), salt[:], passes, memory, 1, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, memory, passes, b64.EncodeToString(salt[:]), b64.EncodeToString(sum))
}

// hashed is a hash taken apart.
type hashed struct {
	memory, passes uint32
	lanes          uint8
	salt, sum      []byte
}

// parseHash reads a hash of hash, or of another program that writes Argon2id's. It refuses one that would cost too much to check.
func parseHash(s string) (h hashed, err error) {
	var version, lanes int
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return h, errors.New("is no hash of a password, as $argon2id$v=19$m=19456,t=2,p=1$salt$sum")
	}
	if n, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &h.memory, &h.passes, &lanes); n != 4 || err != nil || version != argon2.Version {
		return h, errors.New("is a hash of a password whose parameters cannot be read")
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	const mostMemory, mostPasses, mostLanes = 256 << 10, 16, 16
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.sum) < 16 || h.memory < 8 || h.memory > mostMemory || h.passes < 1 || h.passes > mostPasses || lanes < 1 || lanes > mostLanes {
		return h, errors.New("is a hash of a password that is not whole, or costs more than 256 MiB or 16 passes to check")
	}
	h.lanes = uint8(lanes)
	return h, nil
}

// is says whether the hash is a password's, in the same time for any password.
func (h hashed) is(password string) bool {
	sum := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}
