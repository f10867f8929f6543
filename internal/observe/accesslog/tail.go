package accesslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"tidemark/internal/fleet"
)

// tail follows the file at a path, as lines are added to it, it is renamed and made anew, or copied and truncated:
//
//	             rename, new file at path
//	at path ────────────────────────────────> rotated ── nothing added for a minute ──> closed
//	   │  ^
//	   └──┘ truncated or rewritten: from its start
//
// What is complete at its first look is not its business; a file that appears later is read from its start. Only whole lines
// are handed on: a half line is read again when more has come. Two rotations between two reads lose the file between, and
// copytruncate loses what was added between the last read and the truncation: nothing names those bytes any more.
type tail struct {
	path   string
	limits limits
	looked bool      // what appears from now on is new
	files  []*file   // rotated ones that may still be added to, oldest first; the last is, or was, the one at path
	gone   time.Time // since when nothing is at path; zero while something is
	buf    []byte
	behind bool // the last read ended before the files did
	jumped bool // the last read left lines out because there were too many
	stats  Stats
}

// limits bound what one read costs.
type limits struct {
	chunk   int           // bytes asked of the kernel at once
	line    int           // a line of as many bytes or more is skipped
	bytes   int64         // read at most, and
	time    time.Duration // for about as long
	backlog int64         // bytes that it is worth catching up with; more are left out
	linger  time.Duration // a rotated or vanished file that nothing was added to for so long is given up
}

var defaultLimits = limits{
	chunk: 256 << 10, line: 1 << 20, bytes: 512 << 20, time: time.Second, backlog: 1 << 30, linger: time.Minute,
}

// maxFiles bounds the rotated files held open.
const maxFiles = 8

// Stats count what was read since the start.
type Stats struct {
	Lines       uint64 // complete lines, the skipped ones among them
	Skipped     uint64 // lines not of the format or too long
	TooLong     uint64 // of the skipped: 1 MiB and more
	Torn        uint64 // half lines that were never completed: a power cut, a full disk
	Rotations   uint64
	Truncations uint64
	LeftOut     int64 // bytes not read because too many had gathered
	Behind      int64 // bytes still to be read
}

// file is one file being followed.
type file struct {
	*os.File
	info  fs.FileInfo // which file it is
	pos   int64       // what is before is done with
	seen  []byte      // the bytes before pos: when they change, the file was rewritten
	again []byte      // room to read them again
	skip  bool        // pos is inside a line that is not wanted
	grew  time.Time   // when something was last added, or the file was rotated
}

// seenBytes is some twenty lines: with the times in them they do not come again at the same place by chance.
const seenBytes = 4 << 10

// read hands on the lines added since the last read. now only measures time between reads.
func (t *tail) read(ctx context.Context, now time.Time, line func([]byte)) error {
	err := t.look(now)
	if t.buf == nil {
		t.buf = make([]byte, t.limits.chunk)
	}
	t.behind, t.jumped, t.stats.Behind = false, false, 0
	b := budget{ctx: ctx, bytes: t.limits.bytes, until: time.Now().Add(t.limits.time)}
	for i, f := range t.files {
		if e := t.drain(f, &b, now, line); e != nil {
			err = errors.Join(err, fmt.Errorf("read %s: %w", f.Name(), e))
		}
		if i < len(t.files)-1 && !t.behind && now.Sub(f.grew) >= t.limits.linger {
			t.giveUp(f)
			t.files[i] = nil
		}
	}
	kept := t.files[:0]
	for _, f := range t.files {
		if f != nil {
			kept = append(kept, f)
		}
	}
	clear(t.files[len(kept):])
	t.files = kept
	if err == nil && !t.gone.IsZero() {
		if last := t.last(); now.Sub(t.gone) >= t.limits.linger && now.Sub(last.grew) >= t.limits.linger {
			err = fmt.Errorf("%s has vanished; if it was rotated, make nginx open it anew: nginx -s reopen", t.path)
		}
	}
	return err
}

// look finds out whether another file is at path now, and opens it.
func (t *tail) look(now time.Time) error {
	info, err := os.Stat(t.path)
	if errors.Is(err, fs.ErrNotExist) && len(t.files) > 0 {
		if t.gone.IsZero() {
			t.gone = now
		}
		return nil
	}
	first := !t.looked
	t.looked = true
	if err != nil {
		return t.explain(err)
	}
	t.gone = time.Time{}
	if len(t.files) > 0 && os.SameFile(t.last().info, info) {
		return nil
	}
	if !info.Mode().IsRegular() { // also before opening: opening a pipe takes something from its other end
		return t.irregular(info)
	}
	o, err := os.OpenFile(t.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return t.explain(err)
	}
	f := &file{File: o, grew: now}
	if f.info, err = o.Stat(); err != nil || !f.info.Mode().IsRegular() {
		_ = o.Close()
		if err != nil {
			return t.explain(err)
		}
		return t.irregular(f.info)
	}
	for i, old := range t.files {
		if os.SameFile(old.info, f.info) { // moved back
			_ = o.Close()
			t.files = append(append(t.files[:i], t.files[i+1:]...), old)
			return nil
		}
	}
	if first {
		if err := f.toEnd(f.info.Size()); err != nil {
			_ = o.Close()
			return t.explain(err)
		}
	}
	if len(t.files) > 0 {
		t.stats.Rotations++
		t.last().grew = now
	}
	if len(t.files) == maxFiles {
		t.giveUp(t.files[0])
		t.files = append(t.files[:0], t.files[1:]...)
	}
	t.files = append(t.files, f)
	return nil
}

func (t *tail) last() *file { return t.files[len(t.files)-1] }

// budget is what one read may still cost.
type budget struct {
	ctx   context.Context
	bytes int64
	until time.Time
}

func (b *budget) spent() bool {
	return b.bytes <= 0 || b.ctx.Err() != nil || !time.Now().Before(b.until)
}

// drain hands on the lines from pos to the file's end, as far as the budget goes.
func (t *tail) drain(f *file, b *budget, now time.Time, line func([]byte)) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !f.unchanged() {
		t.stats.Truncations++
		f.pos, f.seen, f.skip = 0, f.seen[:0], false
	}
	if behind := info.Size() - f.pos; behind > t.limits.backlog {
		t.stats.LeftOut += behind
		t.jumped = true
		f.grew = now
		return f.toEnd(info.Size())
	}
	for {
		if b.spent() {
			if info.Size() > f.pos {
				t.behind = true
				t.stats.Behind += info.Size() - f.pos
			}
			return nil
		}
		n, err := f.ReadAt(t.buf, f.pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		done := t.take(f, t.buf[:n], line)
		if done > 0 {
			f.pos += int64(done)
			f.grew = now
			f.seen = append(f.seen, t.buf[max(0, done-seenBytes):done]...)
			f.seen = append(f.seen[:0], f.seen[max(0, len(f.seen)-seenBytes):]...)
		}
		b.bytes -= int64(done)
		switch {
		case n < len(t.buf):
			return nil // the end
		case done == 0: // a line longer than the buffer
			t.buf = make([]byte, min(2*len(t.buf), t.limits.line))
		}
	}
}

// take hands on the complete lines at the start of chunk and returns how many bytes are done with.
func (t *tail) take(f *file, chunk []byte, line func([]byte)) int {
	done := 0
	if f.skip {
		done = bytes.IndexByte(chunk, '\n') + 1
		if done == 0 {
			return len(chunk)
		}
		f.skip = false
	}
	// A power cut leaves zeros where the file had grown and its bytes had not been written.
	zeros := bytes.IndexByte(chunk[done:], 0) >= 0
	for {
		n := bytes.IndexByte(chunk[done:], '\n')
		if n < 0 {
			break
		}
		l := chunk[done : done+n]
		done += n + 1
		if zeros {
			if i := bytes.LastIndexByte(l, 0); i >= 0 {
				t.stats.Torn++
				if l = l[i+1:]; len(l) == 0 {
					continue
				}
			}
		}
		t.stats.Lines++
		line(l)
	}
	if done == 0 && len(chunk) >= t.limits.line {
		t.stats.Lines++
		t.stats.Skipped++
		t.stats.TooLong++
		f.skip = true
		return len(chunk)
	}
	return done
}

// toEnd leaves out all that is there. A line that is half written by then began before and is left out too.
func (f *file) toEnd(size int64) error {
	f.pos = size
	f.seen = make([]byte, min(size, seenBytes))
	if _, err := f.ReadAt(f.seen, size-int64(len(f.seen))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	f.skip = len(f.seen) > 0 && f.seen[len(f.seen)-1] != '\n'
	return nil
}

// unchanged reports whether what was read last still stands before pos.
func (f *file) unchanged() bool {
	f.again = append(f.again[:0], f.seen...)
	n, err := f.ReadAt(f.again, f.pos-int64(len(f.seen)))
	return (err == nil || errors.Is(err, io.EOF)) && bytes.Equal(f.again[:n], f.seen)
}

// giveUp closes a file. What it still holds is half a line.
func (t *tail) giveUp(f *file) {
	if info, err := f.Stat(); err == nil && info.Size() > f.pos && !f.skip {
		t.stats.Torn++
	}
	_ = f.Close()
}

func (t *tail) close() {
	for _, f := range t.files {
		_ = f.Close()
	}
	t.files = nil
}

// explain says what an operator can do about a file that cannot be opened.
func (t *tail) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist; compare it with access_log in nginx's configuration", t.path)
	case errors.Is(err, fs.ErrPermission):
		group := "adm" // Debian's and Ubuntu's
		if info, err := os.Stat(t.path); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Gid != 0 {
				group = groupName(s.Gid)
			}
		}
		return fmt.Errorf("%s may not be read; add tidemark to the group %s (usermod -aG %s tidemark) and restart it", t.path, group, group)
	}
	return fmt.Errorf("access log: %w", err)
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

func (t *tail) irregular(info fs.FileInfo) error {
	return fmt.Errorf("%s is no regular file (%s); a container's log often is a link to /dev/stdout: "+
		"have nginx log to a file in a folder that both can see", t.path, fileType(info.Mode()))
}

func fileType(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// overtaken says that lines were left out, lag that some are still to be read.
func (t *tail) overtaken() error {
	return fmt.Errorf("%s grew by more than %s since it was last read: what is old was left out",
		t.path, fleet.Bytes.Format(float64(t.limits.backlog)))
}

func (t *tail) lag() error {
	return fmt.Errorf("%s: %s still to be read", t.path, fleet.Bytes.Format(float64(t.stats.Behind)))
}
