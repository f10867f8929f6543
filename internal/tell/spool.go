package tell

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/decide/alert"
)

// spool keeps messages on disk until they are delivered, one file each, in order. A file is complete or is not there: it is
// written under another name, flushed, and renamed. What cannot be written is held in memory and written later. One goroutine
// uses it.
type spool struct {
	dir     string
	limits  Limits
	waiting []*entry
	bytes   int64
	seq     uint64
	lost    loss

	damaged int   // files that were half or changed since they were written; kept beside, as .bad
	failed  error // why the last write failed; nil when all is on disk
}

// entry is one waiting message, without its text.
type entry struct {
	seq  uint64
	id   string
	key  string
	at   time.Time
	size int64
	held *Message // not on disk yet
}

// loss is what the limits took, and nobody was told of yet.
type loss struct {
	Count int       `json:"count"`
	First time.Time `json:"first"` // when the first and the last of them became news
	Last  time.Time `json:"last"`
}

const (
	messageEnd = ".msg"
	halfEnd    = ".tmp"
	badEnd     = ".bad"
	mostBad    = 20
	lossFile   = "dropped.json"
)

// openSpool reads what waits in dir. The notes say what was found damaged.
func openSpool(dir string, limits Limits) (s *spool, notes []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the spool: %w", err)
	}
	s = &spool{dir: dir, limits: limits}
	files, err := os.ReadDir(dir) // in the order of their names: in order
	if err != nil {
		return nil, nil, fmt.Errorf("read the spool: %w", err)
	}
	var bad []string
	for _, f := range files {
		name := f.Name()
		switch filepath.Ext(name) {
		case halfEnd:
			s.damaged++
			notes = append(notes, fmt.Sprintf("%s was cut off while it was written, and is ignored: its news was not yet told as kept", name))
			_ = os.Remove(filepath.Join(dir, name)) // else the next time
		case badEnd:
			bad = append(bad, name)
		case messageEnd:
			head, _, _ := strings.Cut(name, "-")
			seq, err := strconv.ParseUint(head, 16, 64)
			if err != nil || len(head) != 16 {
				continue // not ours
			}
			s.seq = max(s.seq, seq)
			e := &entry{seq: seq, id: strings.TrimSuffix(name[17:], messageEnd)}
			m, size, err := s.read(e)
			if errors.Is(err, errDamaged) {
				notes = append(notes, s.setAside(e, err))
				continue
			}
			if err != nil {
				return nil, notes, fmt.Errorf("read the spool: %w", err)
			}
			e.id, e.key, e.at, e.size = m.ID, m.Notice.Key, m.Time, size
			s.waiting = append(s.waiting, e)
			s.bytes += size
		}
	}
	for _, name := range bad[:max(0, len(bad)-mostBad)] {
		_ = os.Remove(filepath.Join(dir, name)) // kept for a look, not for ever
	}
	switch b, err := os.ReadFile(filepath.Join(dir, lossFile)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, notes, fmt.Errorf("read the spool: %w", err)
	case json.Unmarshal(b, &s.lost) != nil:
		s.lost = loss{}
		notes = append(notes, lossFile+" is damaged: how many messages were dropped is not known")
	}
	return s, notes, nil
}

func (s *spool) path(e *entry) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x-%s%s", e.seq, e.id, messageEnd))
}

// put keeps a message; one that waits already is not kept twice. The error says that it is held in memory only.
func (s *spool) put(m Message) error {
	if slices.ContainsFunc(s.waiting, func(e *entry) bool { return e.id == m.ID }) {
		return nil
	}
	data, err := encode(m)
	if err != nil {
		return err
	}
	s.seq++
	e := &entry{seq: s.seq, id: m.ID, key: m.Notice.Key, at: m.Time, size: int64(len(data)), held: &m}
	s.waiting = append(s.waiting, e)
	s.bytes += e.size
	for len(s.waiting) > 1 && (len(s.waiting) > s.limits.Messages || s.bytes > s.limits.MaxBytes) {
		s.drop()
	}
	return s.flush()
}

// flush writes what is held in memory.
func (s *spool) flush() error {
	if s.failed != nil {
		_ = os.MkdirAll(s.dir, 0o700) // whoever cleaned up took it away; what still is wrong the next write says
	}
	s.failed = nil
	for _, e := range s.waiting {
		if e.held == nil {
			continue
		}
		data, err := encode(*e.held)
		if err == nil {
			err = writeFile(s.path(e), data)
		}
		if err != nil {
			s.failed = fmt.Errorf("write the spool: %w", err)
			return s.failed
		}
		e.held = nil
	}
	return nil
}

// held counts the messages that are in memory only.
func (s *spool) held() int {
	n := 0
	for _, e := range s.waiting {
		if e.held != nil {
			n++
		}
	}
	return n
}

// drop makes room by the rule that Limits states.
func (s *spool) drop() {
	newest := map[string]*entry{}
	for _, e := range s.waiting {
		newest[e.key] = e
	}
	at := max(0, slices.IndexFunc(s.waiting, func(e *entry) bool { return newest[e.key] != e }))
	e := s.waiting[at]
	if s.lost.Count == 0 || e.at.Before(s.lost.First) {
		s.lost.First = e.at
	}
	if e.at.After(s.lost.Last) {
		s.lost.Last = e.at
	}
	s.lost.Count++
	s.saveLoss() // first: better counted twice than never
	s.remove(e)
}

// saveLoss keeps the count across a restart; on a full disk it is kept in memory alone.
func (s *spool) saveLoss() {
	path := filepath.Join(s.dir, lossFile)
	if s.lost.Count == 0 {
		_ = os.Remove(path) // told once more after a restart, at worst
		return
	}
	b, err := json.Marshal(s.lost)
	if err == nil {
		err = writeFile(path, b)
	}
	if err != nil {
		s.failed = fmt.Errorf("write the spool: %w", err)
	}
}

// remove forgets messages. A file that a power cut brings back is sent twice, under the same ID.
func (s *spool) remove(gone ...*entry) {
	for _, e := range gone {
		if e.held == nil {
			_ = os.Remove(s.path(e)) // sent again after a restart, at worst
		}
		s.unlist(e)
	}
}

func (s *spool) unlist(e *entry) {
	s.bytes -= e.size
	s.waiting = slices.DeleteFunc(s.waiting, func(o *entry) bool { return o == e })
}

// next is what to send now: the oldest message, or the digest that begins with it. No entries: nothing waits. The notes say
// what was found damaged, the error what could not be read at the moment.
func (s *spool) next(d Digest, zone *time.Location) (batch []Message, entries []*entry, notes []string, err error) {
	for len(entries) == 0 && len(s.waiting) > 0 {
		n := s.together(d, zone)
		for _, e := range slices.Clone(s.waiting[:n]) {
			m, _, err := s.read(e)
			switch {
			case errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist):
				notes = append(notes, s.setAside(e, err))
				s.unlist(e)
			case err != nil:
				return nil, nil, notes, fmt.Errorf("read the spool: %w", err)
			default:
				batch, entries = append(batch, m), append(entries, e)
			}
		}
	}
	return batch, entries, notes, nil
}

// together is how many of the oldest messages go as one.
func (s *spool) together(d Digest, zone *time.Location) int {
	first := period(s.waiting[0].at, d.Period, zone)
	n := 1
	for n < len(s.waiting) && period(s.waiting[n].at, d.Period, zone).Equal(first) {
		n++
	}
	if d.Over == 0 || n <= d.Over {
		return 1
	}
	return n
}

// follows reports whether news about key waits.
func (s *spool) follows(key string) bool {
	return slices.ContainsFunc(s.waiting, func(e *entry) bool { return e.key == key })
}

func (s *spool) read(e *entry) (Message, int64, error) {
	if e.held != nil {
		return *e.held, e.size, nil
	}
	b, err := os.ReadFile(s.path(e))
	if err != nil {
		return Message{}, 0, err
	}
	m, err := decode(b)
	return m, int64(len(b)), err
}

// setAside keeps what cannot be read out of the way, for a look, and says so.
func (s *spool) setAside(e *entry, why error) string {
	s.damaged++
	name := filepath.Base(s.path(e))
	_ = os.Rename(s.path(e), s.path(e)+badEnd) // if it is there at all
	return fmt.Sprintf("%s cannot be read and is set aside as %s: %v", name, name+badEnd, why)
}

// lossMessage tells of what was dropped.
func (s *spool) lossMessage(instance, channel string, zone *time.Location) Message {
	l := s.lost
	return newMessage(Raised, l.Count, l.Last, alert.Notice{
		Key: "channel/" + channel + "/dropped", Rule: "dropped", Instance: instance, Severity: alert.Warning, Started: l.First, Once: true,
		Title: fmt.Sprintf("%d older messages to %s were dropped unsent", l.Count, channel),
		Lines: []string{
			fmt.Sprintf("They are from %s to %s. Its spool was full: at most %d messages and %s are kept.", stamp(l.First, zone), stamp(l.Last, zone),
				s.limits.Messages, megabytes(s.limits.MaxBytes)),
			"Where a newer message about the same thing waited it was kept, so the last state of each is told. 'tidemark events' has all that happened.",
		},
	})
}

// told takes back what lossMessage told of; more may have been lost meanwhile.
func (s *spool) told(count int) {
	s.lost.Count -= count
	if s.lost.Count <= 0 {
		s.lost = loss{}
	}
	s.saveLoss()
}

// The file: a line with the format, the length of what follows and a checksum of it, then JSON.
const magic = "tidemark-message-1"

func encode(m Message) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write a message: %w", err)
	}
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "%s %d %s\n%s", magic, len(body), hex.EncodeToString(sum[:]), body), nil
}

var (
	errDamaged = errors.New("damaged")
	errHalf    = fmt.Errorf("%w: it is half, or was changed since it was written", errDamaged)
)

func decode(b []byte) (m Message, err error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return m, errHalf
	}
	sum := sha256.Sum256(body)
	if string(head) != fmt.Sprintf("%s %d %s", magic, len(body), hex.EncodeToString(sum[:])) {
		return m, errHalf
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("%w: it is no message: %w", errDamaged, err)
	}
	if m.ID == "" || strings.Trim(m.ID, "0123456789abcdef") != "" {
		return m, fmt.Errorf("%w: it is a message without an ID", errDamaged)
	}
	return m, nil
}

// writeFile makes a file appear whole or not at all, also when the power is cut.
func writeFile(path string, data []byte) error {
	half := path + halfEnd
	f, err := os.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(half, path)
	}
	if err != nil {
		_ = os.Remove(half) // ignored and removed at the next start otherwise
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// period is the beginning of the digest's period that t is in.
func period(t time.Time, length time.Duration, zone *time.Location) time.Time {
	l := t.In(zone)
	midnight := time.Date(l.Year(), l.Month(), l.Day(), 0, 0, 0, 0, zone)
	if length <= 0 || length >= 24*time.Hour {
		return midnight
	}
	return midnight.Add(t.Sub(midnight).Truncate(length))
}
