package nginx

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// told is what nginx was last told: the file's digest, and which master took it.
type told struct {
	Digest string `json:"digest"`
	Master master `json:"master"`
}

// master is nginx's master process; the zero value is not known.
type master struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot: a pid may be given again
}

// master reads which process the pid file names; the zero value when there is none.
func (b *Balancer) master() master {
	text, err := os.ReadFile(b.cfg.PIDFile)
	if err != nil {
		return master{}
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return master{}
	}
	fields := statOf(pid)
	if len(fields) < 20 {
		return master{}
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return master{}
	}
	return master{pid, start}
}

// statOf is /proc/PID/stat from the third field on (the second may hold spaces); nil when the process is gone.
func statOf(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	s := string(text)
	return strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
}

// told reports whether the running nginx was told this content. In doubt it was not; that the pid file cannot be read is
// no doubt by itself, or nginx would be reloaded at every tick.
func (b *Balancer) told(content []byte) bool {
	text, err := os.ReadFile(b.beside(".state"))
	if err != nil {
		return false
	}
	var t told
	if json.Unmarshal(text, &t) != nil {
		return false
	}
	return t.Digest == digest(content) && t.Master == b.master()
}

// note remembers what nginx was told, and that it took it.
func (b *Balancer) note(content []byte, m master) error {
	text, err := json.Marshal(told{digest(content), m})
	if err != nil {
		return err
	}
	if err := writeFile(b.beside(".state"), append(text, '\n')); err != nil {
		return err
	}
	return writeFile(b.beside(".last"), content)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// writeFile replaces a file at once: after a power cut it is the old one or the new one, whole.
func writeFile(path string, content []byte) error {
	next := filepath.Join(filepath.Dir(path), "."+strings.TrimPrefix(filepath.Base(path), ".")+".new")
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
