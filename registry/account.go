package registry

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Role is what a person of the registry's office may do on the admin pages. Each may do what those before it may.
type Role string

// The roles.
const (
	Viewer        Role = "viewer"        // read
	Officer       Role = "officer"       // edit farmers and decide about the review queue
	Administrator Role = "administrator" // import and export
)

// Roles are all roles, the least first.
var Roles = []Role{Viewer, Officer, Administrator}

// May says whether the role may do what needs least.
func (r Role) May(least Role) bool { return slices.Index(Roles, r) >= slices.Index(Roles, least) }

// Account is a person who may sign in to the admin pages. The password is no part of it: the store has a hash.
type Account struct {
	ID         int64     `json:"id"`
	Name       string    `json:"name"` // they sign in by it, and it is in the audit trail
	Role       Role      `json:"role"`
	Areas      []string  `json:"areas,omitempty"` // islands; none for all
	CreatedAt  time.Time `json:"created_at"`
	DisabledAt time.Time `json:"disabled_at,omitzero"`
	SignedInAt time.Time `json:"signed_in_at,omitzero"`
}

// Why somebody is not signed in. Which of the two was wrong is not said.
var ErrCredentials = errors.New("the name or the password is wrong")

// Throttled is the error of what was tried too often.
type Throttled struct {
	Wait time.Duration // until it may be tried again
}

func (t Throttled) Error() string {
	return fmt.Sprintf("tried too often: wait %v", t.Wait.Round(time.Second))
}

// Check returns what is wrong with an account.
func (a *Account) Check() Faults {
	var faults Faults
	if a.Name == "" || len(a.Name) > 40 || strings.Trim(a.Name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		faults = append(faults, Fault{"name", "must be 1 to 40 letters a-z, digits, full stops, hyphens and _"})
	}
	if !slices.Contains(Roles, a.Role) {
		faults = append(faults, Fault{"role", "must be viewer, officer or administrator"})
	}
	return faults
}

// CheckPassword returns what is wrong with a new password for the account. Length is what counts (NIST SP 800-63B).
func (a *Account) CheckPassword(password string) Faults {
	const least, most = 12, 200
	switch n := utf8.RuneCountInString(password); {
	case n < least || n > most || !utf8.ValidString(password):
		return Faults{{"password", fmt.Sprintf("must be %d to %d characters: three or four words are good", least, most)}}
	case strings.Contains(strings.ToLower(password), a.Name) && n < len(a.Name)+least:
		return Faults{{"password", "must be more than the account's name"}}
	case len(Trigrams(password)) < 8:
		return Faults{{"password", "repeats itself: three or four words are good"}}
	}
	return nil
}

// Actor is who acts by the account.
func (a *Account) Actor() Actor { return Actor{Name: "account:" + a.Name, Areas: a.Areas} }

// The cost of a password's hash: OWASP's first recommendation for Argon2id, 19 MiB and two passes. It takes some 30 ms,
// and a worker, which has one request at a time, has the memory.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	argonLanes  = 1
)

// HashPassword returns a salted hash that says by itself how it was made (PHC string format), so that the cost can be
// raised later for new passwords.
func HashPassword(password string) string {
	var salt [16]byte
	rand.Read(salt[:]) // never fails: crypto/rand ends the program instead
	sum := argon2.IDKey([]byte(password), salt[:], argonPasses, argonMemory, argonLanes, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes, b64.EncodeToString(salt[:]), b64.EncodeToString(sum))
}

// IsPassword says whether a hash is that of a password. It takes the same time for any password.
func IsPassword(hash, password string) bool {
	var version, memory, passes, lanes uint32
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false
	}
	if n, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes, &lanes); n != 4 || err != nil {
		return false
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	const mostMemory, mostPasses = 1 << 20, 100 // a hash that asks for more was not made here
	if err1 != nil || err2 != nil || version != argon2.Version || memory > mostMemory || passes < 1 || passes > mostPasses || lanes < 1 || lanes > 255 || len(want) < 16 {
		return false
	}
	sum := argon2.IDKey([]byte(password), salt, passes, memory, uint8(lanes), uint32(len(want)))
	return subtle.ConstantTimeCompare(sum, want) == 1
}
