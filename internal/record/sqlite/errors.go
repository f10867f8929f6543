package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

// What can be wrong with a journal. Errors of this package wrap one of these wherever a caller may branch on it.
var (
	ErrFull     = errors.New("no space left on device")
	ErrReadOnly = errors.New("cannot write")
	ErrIO       = errors.New("disk error")
	ErrCorrupt  = errors.New("damaged file")
	ErrForeign  = errors.New("not a Tidemark journal")
	ErrNewer    = errors.New("file of a newer Tidemark")
	ErrMissing  = errors.New("no journal")
	ErrBusy     = errors.New("file in use")
)

// Error says what is wrong with which file and what to do about it.
type Error struct {
	Kind error // one of the above
	Path string
	Hint string
	Err  error // what was underneath; may be nil
}

func (e *Error) Error() string   { return fmt.Sprintf("journal: %v at %s: %s", e.Kind, e.Path, e.Hint) }
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

const hintCorrupt = "stop Tidemark and move the file and its -wal and -shm aside, or bring back a copy of it; cooldowns and history are lost with it"

// problems maps SQLite's primary result codes to what an operator can do.
var problems = map[int]Error{
	codes.SQLITE_FULL:     {Kind: ErrFull, Hint: "free some space; Tidemark holds until it can write"},
	codes.SQLITE_READONLY: {Kind: ErrReadOnly, Hint: "make the file and its folder writable for Tidemark's user; Tidemark holds until it can write"},
	codes.SQLITE_PERM:     {Kind: ErrReadOnly, Hint: "make the file and its folder writable for Tidemark's user; Tidemark holds until it can write"},
	codes.SQLITE_CANTOPEN: {Kind: ErrReadOnly, Hint: "make the file and its folder readable and writable for Tidemark's user"},
	codes.SQLITE_IOERR:    {Kind: ErrIO, Hint: "look at the system's log for this disk; Tidemark holds until it can write"},
	codes.SQLITE_CORRUPT:  {Kind: ErrCorrupt, Hint: hintCorrupt},
	codes.SQLITE_NOTADB:   {Kind: ErrCorrupt, Hint: hintCorrupt},
	codes.SQLITE_BUSY:     {Kind: ErrBusy, Hint: "another program writes to it: is a second Tidemark running, or a backup?"},
}

// explain puts an error of the driver or the file system into an operator's words.
func explain(path string, err error) error {
	var ours *Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	code := 0
	var sqliteErr *driver.Error
	switch {
	case errors.As(err, &sqliteErr):
		code = sqliteErr.Code() & 0xff
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code = codes.SQLITE_FULL
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code = codes.SQLITE_READONLY
	}
	if p, ok := problems[code]; ok {
		p.Path, p.Err = path, err
		if code == codes.SQLITE_IOERR {
			p.Hint = fmt.Sprintf("%v; %s", err, p.Hint)
		}
		return &p
	}
	return fmt.Errorf("journal %s: %w", path, err)
}

// worthReopening reports whether the connection may be what is wrong, rather than the disk's fill or another's lock.
func worthReopening(err error) bool {
	return !errors.Is(err, ErrFull) && !errors.Is(err, ErrBusy)
}
