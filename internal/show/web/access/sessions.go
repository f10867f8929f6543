package access

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// A session ends a working day after the sign-in, and an hour after its last page was closed.
const (
	longestSession = 12 * time.Hour
	idleSession    = time.Hour
	mostSessions   = 20 // of one person; the oldest end
	mostKnown      = 50 // addresses and browsers of one person
	knownFor       = 90 * 24 * time.Hour
)

// session is a browser that has signed in.
type session struct {
	Name  string    `json:"name"`
	Stamp string    `json:"stamp"` // of the account
	Began time.Time `json:"began"`
	// Groups is set when an identity provider answers for the person: it says what the person is there.
	Groups []string `json:"groups,omitempty"`

	used time.Time // last
	open int       // requests under way
}

// provided reports whether an identity provider answers for the person.
func (s *session) provided() bool { return s.Groups != nil }

// Sessions are the browsers that have signed in, and from where each person has signed in before. They outlive the daemon in a file
// that only its user may read; the file has no session's secret, only its SHA-256.
type Sessions struct {
	path  string
	log   func(string)
	tries throttle
	// hashing is held by who checks a password: its memory is needed once.
	hashing chan struct{}

	mu sync.Mutex
	kept
}

type kept struct {
	Sessions map[string]*session             `json:"sessions"` // by the SHA-256 of the secret
	Known    map[string]map[string]time.Time `json:"known"`    // by name and address or browser: when last
}

// OpenSessions reads the sessions that a daemon before left. A file that cannot be read ends them.
func OpenSessions(path string, log func(string)) *Sessions {
	s := &Sessions{path: path, log: log, hashing: make(chan struct{}, 1)}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &s.kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log(fmt.Sprintf("access: %s cannot be read, so all have to sign in again: %v", path, err))
	}
	if s.Sessions == nil || err != nil {
		s.kept = kept{Sessions: map[string]*session{}, Known: map[string]map[string]time.Time{}}
	}
	if s.Known == nil {
		s.Known = map[string]map[string]time.Time{}
	}
	now := time.Now().UTC()
	for k, one := range s.Sessions {
		if one == nil {
			delete(s.Sessions, k)
			continue
		}
		one.used = now // it was not to be had while no daemon ran
	}
	return s
}

// newSecret is what a browser keeps of a session.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func keyOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// begin starts a session and returns its secret, which is always new: none that a browser came with is taken.
// From now on the person is known at the address and by the browser.
func (s *Sessions) begin(one session, address, browser string) string {
	secret, now := newSecret(), time.Now().UTC()
	one.Began, one.used = now, now
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Sessions[keyOf(secret)] = &one
	s.prune(now)
	own := slices.Collect(func(yield func(string) bool) {
		for k, o := range s.Sessions {
			if o.Name == one.Name && !yield(k) {
				return
			}
		}
	})
	slices.SortFunc(own, func(a, b string) int { return s.Sessions[b].Began.Compare(s.Sessions[a].Began) })
	for _, k := range own[min(mostSessions, len(own)):] {
		delete(s.Sessions, k)
	}
	if s.Known[one.Name] == nil {
		s.Known[one.Name] = map[string]time.Time{}
	}
	s.Known[one.Name][address], s.Known[one.Name][browser] = now, now
	s.save()
	return secret
}

// prune ends what is over.
func (s *Sessions) prune(now time.Time) {
	maps.DeleteFunc(s.Sessions, func(_ string, one *session) bool { return one.over(now) })
	for name, known := range s.Known {
		maps.DeleteFunc(known, func(_ string, last time.Time) bool { return now.Sub(last) > knownFor })
		for len(known) > mostKnown {
			oldest := slices.MinFunc(slices.Collect(maps.Keys(known)), func(a, b string) int { return cmp.Or(known[a].Compare(known[b]), cmp.Compare(a, b)) })
			delete(known, oldest)
		}
		if len(known) == 0 {
			delete(s.Known, name)
		}
	}
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.Began) > longestSession || s.open == 0 && now.Sub(s.used) > idleSession || now.Before(s.Began.Add(-time.Minute))
}

// find is the session of a secret, as it is now.
func (s *Sessions) find(secret string) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.Sessions[keyOf(secret)]
	if one == nil {
		return session{}, false
	}
	now := time.Now().UTC()
	if one.over(now) {
		delete(s.Sessions, keyOf(secret))
		return session{}, false
	}
	one.used = now
	return *one, true
}

// using counts a request of a session from its begin to its end.
func (s *Sessions) using(secret string, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.Sessions[keyOf(secret)]; one != nil {
		one.open += change
		one.used = time.Now().UTC()
	}
}

// end ends a session.
func (s *Sessions) end(secret string) (was session, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.Sessions[keyOf(secret)]
	if one == nil {
		return was, false
	}
	delete(s.Sessions, keyOf(secret))
	s.save()
	return *one, true
}

// known reports whether somebody has signed in from an address, or by a browser, before.
func (s *Sessions) known(name, at string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.Known[name][at]
	return ok && time.Since(last) <= knownFor
}

// save writes what is to outlive the daemon. What cannot be written costs a sign-in after the next start.
func (s *Sessions) save() {
	text, err := json.Marshal(s.kept)
	if err == nil {
		err = replace(s.path, s.path, 0o600, string(text))
	}
	if err != nil {
		s.log("access: sessions end with the daemon: " + err.Error())
	}
}
