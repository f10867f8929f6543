// Package access says who may do what over the dashboard's listener: accounts with passwords, tokens for programs, the sessions of
// browsers, and how often somebody may try. What a role may do is said by the routes of package web and of the dashboard.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/atomicfile"
	"tidemark/internal/show/web"
)

// Accounts are who may sign in, as a file says. Each line is an account or a token; what begins with # is a comment:
//
//	user mele operator $argon2id$v=19$m=19456,t=2,p=1$...
//	token grafana viewer sha256:6f1d... 2027-11-28
//
// A password and a token are never in it, only what they are recognised by.
type Accounts struct {
	lines []line
}

// User is a person who signs in with a password.
type User struct {
	Name string   `json:"name"`
	Role web.Role `json:"role"`

	hash hashed
	// stamp changes with the line: sessions of an account that was changed end.
	stamp [32]byte
}

// Token is what a program shows. It is told by its SHA-256: a token has 256 bits of chance, so that no hash need be slow.
type Token struct {
	Name    string    `json:"name"`
	Role    web.Role  `json:"role"`
	Expires time.Time `json:"expires,omitzero"` // zero: never

	sum [32]byte
}

type line struct {
	text  string
	user  *User
	token *Token
}

const (
	userWord  = "user"
	tokenWord = "token"
	sumPrefix = "sha256:"
	dateForm  = "2006-01-02"
)

var fitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// mostAccounts bounds the file, in bytes.
const mostAccounts = 1 << 20

// CheckName says why a name is none for an account or a token.
func CheckName(name string) error {
	if !fitName.MatchString(name) {
		return fmt.Errorf("%q is no name: write 1 to 64 of a to z, A to Z, 0 to 9, and . _ @ - after the first", name)
	}
	return nil
}

// parse reads a file's text. The error names the line.
func parse(path, text string) (*Accounts, error) {
	a := &Accounts{}
	for i, raw := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		l := line{text: raw}
		fields := strings.Fields(raw)
		if len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			if err := l.read(fields); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
			}
			if l.user != nil && a.user(l.user.Name) != nil || l.token != nil && a.token(l.token.Name) != nil {
				return nil, fmt.Errorf("%s:%d: %s stands in it twice: delete one of the lines", path, i+1, fields[1])
			}
		}
		a.lines = append(a.lines, l)
	}
	return a, nil
}

func (l *line) read(fields []string) error {
	if len(fields) < 4 || fields[0] != userWord && fields[0] != tokenWord {
		return errors.New("write a line as 'user NAME ROLE HASH' or 'token NAME ROLE sha256:SUM [EXPIRY]'; 'tidemark user add' and 'tidemark token add' do")
	}
	if err := CheckName(fields[1]); err != nil {
		return err
	}
	role, err := web.ParseRole(fields[2])
	if err != nil {
		return err
	}
	if fields[0] == userWord {
		l.user = &User{Name: fields[1], Role: role, stamp: sha256.Sum256([]byte(fields[3]))}
		if l.user.hash, err = parseHash(fields[3]); err != nil {
			return fmt.Errorf("what stands for the password of %s %w", fields[1], err)
		}
		return tooMany(fields[4:])
	}
	l.token = &Token{Name: fields[1], Role: role}
	sum, err := hex.DecodeString(strings.TrimPrefix(fields[3], sumPrefix))
	if err != nil || len(sum) != len(l.token.sum) || !strings.HasPrefix(fields[3], sumPrefix) {
		return fmt.Errorf("what the token %s is recognised by is no SHA-256: make a new one by 'tidemark token add'", fields[1])
	}
	l.token.sum = [32]byte(sum)
	if len(fields) > 4 {
		if l.token.Expires, err = time.Parse(dateForm, fields[4]); err != nil {
			return fmt.Errorf("%q is no date: write the first day on which the token is not good any more, as 2027-11-28", fields[4])
		}
		fields = fields[1:]
	}
	return tooMany(fields[4:])
}

func tooMany(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("there is more in the line than belongs there: %q", rest[0])
	}
	return nil
}

func (a *Accounts) user(name string) *User {
	for _, l := range a.lines {
		if l.user != nil && l.user.Name == name {
			return l.user
		}
	}
	return nil
}

func (a *Accounts) token(name string) *Token {
	for _, l := range a.lines {
		if l.token != nil && l.token.Name == name {
			return l.token
		}
	}
	return nil
}

// Users and Tokens list what is there, in the file's order.
func (a *Accounts) Users() []User {
	out := []User{}
	for _, l := range a.lines {
		if l.user != nil {
			out = append(out, *l.user)
		}
	}
	return out
}

func (a *Accounts) Tokens() []Token {
	out := []Token{}
	for _, l := range a.lines {
		if l.token != nil {
			out = append(out, *l.token)
		}
	}
	return out
}

// shown finds the token of a text. It looks at all of them, so that the time says nothing of how near a wrong one was.
func (a *Accounts) shown(text string, now time.Time) *Token {
	sum := sha256.Sum256([]byte(text))
	var found *Token
	for _, l := range a.lines {
		if l.token != nil && subtle.ConstantTimeCompare(l.token.sum[:], sum[:]) == 1 {
			found = l.token
		}
	}
	if found == nil || !found.Expires.IsZero() && !now.Before(found.Expires) {
		return nil
	}
	return found
}

// SetUser adds an account, or gives one that is there another role and password.
func (a *Accounts) SetUser(name string, role web.Role, password string) error {
	if err := errors.Join(CheckName(name), CheckPassword(name, password)); err != nil {
		return err
	}
	return a.set(fmt.Sprintf("%s %s %s %s", userWord, name, role, hash(password, argonMemory, argonPasses)))
}

// AddToken adds a token and returns it: it is not to be had later. A zero expiry is never; otherwise the day of it counts.
func (a *Accounts) AddToken(name string, role web.Role, expires time.Time) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	if a.token(name) != nil {
		return "", fmt.Errorf("there is a token %s: remove it first ('tidemark token remove %s'), or take another name", name, name)
	}
	var chance [32]byte
	rand.Read(chance[:]) // never fails: crypto/rand ends the program instead
	text := "tidemark_" + base64.RawURLEncoding.EncodeToString(chance[:])
	sum := sha256.Sum256([]byte(text))
	made := fmt.Sprintf("%s %s %s %s%x", tokenWord, name, role, sumPrefix, sum)
	if !expires.IsZero() {
		made += " " + expires.UTC().Format(dateForm)
	}
	return text, a.set(made)
}

// set puts a line in place of the one about the same, or at the end.
func (a *Accounts) set(text string) error {
	l := line{text: text}
	if err := l.read(strings.Fields(text)); err != nil {
		return err
	}
	i := slices.IndexFunc(a.lines, func(o line) bool {
		return l.user != nil && o.user != nil && o.user.Name == l.user.Name || l.token != nil && o.token != nil && o.token.Name == l.token.Name
	})
	if i >= 0 {
		a.lines[i] = l
	} else {
		a.lines = append(a.lines, l)
	}
	return nil
}

// RemoveUser and RemoveToken report whether there was one.
func (a *Accounts) RemoveUser(name string) bool {
	return a.remove(func(l line) bool { return l.user != nil && l.user.Name == name })
}

func (a *Accounts) RemoveToken(name string) bool {
	return a.remove(func(l line) bool { return l.token != nil && l.token.Name == name })
}

func (a *Accounts) remove(is func(line) bool) bool {
	n := len(a.lines)
	a.lines = slices.DeleteFunc(a.lines, is)
	return len(a.lines) < n
}

const head = "# Who may sign in to Tidemark's dashboard and API: 'tidemark user' and 'tidemark token' write it. A change counts at once."

// Read reads a file; one that is not there holds nobody.
func Read(path string) (*Accounts, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Accounts{lines: []line{{text: head}}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	if p := st.Mode().Perm(); p&0o027 != 0 {
		return nil, fmt.Errorf("%s may be read by everybody or written by its group (mode %o): say 'chmod 600 %s', or 640 for a group that reads it", path, p, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, mostAccounts+1))
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	if len(text) > mostAccounts {
		return nil, fmt.Errorf("%s is larger than %d bytes: it is no list of accounts", path, mostAccounts)
	}
	return parse(path, string(text))
}

// Edit changes a file. It is replaced whole and keeps its owner and mode; a new one is of the folder's owner, who alone may read it:
// root makes accounts, and the daemon's user reads them. Two who edit at once do so one after the other.
func Edit(path string, change func(*Accounts) error) error {
	folder, err := os.Open(filepath.Dir(path)) // it stays, while the file is replaced
	if err != nil {
		return fmt.Errorf("edit the accounts: %w", err)
	}
	defer folder.Close()
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("edit the accounts: lock %s: %w", folder.Name(), err)
	}
	a, err := Read(path)
	if err != nil {
		return err
	}
	if err := change(a); err != nil {
		return err
	}
	var b strings.Builder
	for _, l := range a.lines {
		b.WriteString(l.text + "\n")
	}
	owner, mode := filepath.Dir(path), fs.FileMode(0o600)
	if st, err := os.Stat(path); err == nil {
		owner, mode = path, st.Mode().Perm()
	}
	return replace(path, owner, mode, b.String())
}

// replace writes a file whole, as the owner of another has it.
func replace(path, like string, mode fs.FileMode, text string) error {
	err := atomicfile.Write(path, []byte(text), mode, func(f *os.File) error {
		st, err := os.Stat(like)
		if err != nil || os.Geteuid() != 0 {
			return nil // it is ours
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			return f.Chown(int(sys.Uid), int(sys.Gid))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	return nil
}

// book reads the accounts anew when their file has changed.
type book struct {
	path string
	log  func(string)

	mu   sync.Mutex
	seen string // the file as it was last read
	it   *Accounts
	err  error
}

// now are the accounts as they stand. When they cannot be read nobody has one: the error says why.
func (b *book) now() (*Accounts, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := "none"
	if st, err := os.Stat(b.path); err == nil {
		sys, _ := st.Sys().(*syscall.Stat_t)
		seen = fmt.Sprint(st.ModTime().UnixNano(), st.Size(), st.Mode(), sys.Ino)
	}
	if seen == b.seen && b.it != nil {
		return b.it, nil
	}
	it, err := Read(b.path)
	if err != nil {
		if b.err == nil || b.err.Error() != err.Error() {
			b.log("access: " + err.Error() + "; nobody can sign in until then")
		}
		b.it, b.err = nil, err
		return &Accounts{}, err
	}
	b.seen, b.it, b.err = seen, it, nil
	return it, nil
}
