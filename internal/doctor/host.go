package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Host is the machine that doctor runs on.
type Host struct {
	CPUs      int
	Memory    int64 // bytes in all
	Somaxconn Value
	Files     map[string]string // kind of the file system under a folder, by folder; only those asked for
}

// shared file systems are seen by more than one host.
var sharedFS = []string{"nfs", "cifs", "smb", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2", "9p"}

// fsNames names the file systems that matter here (statfs(2)).
var fsNames = map[int64]string{
	unix.NFS_SUPER_MAGIC: "nfs", 0xff534d42: "cifs", unix.SMB2_SUPER_MAGIC: "smb", unix.SMB_SUPER_MAGIC: "smb", unix.CEPH_SUPER_MAGIC: "ceph", 0x0bd00bd0: "lustre",
	unix.OCFS2_SUPER_MAGIC: "ocfs2", 0x01161970: "gfs2", unix.FUSE_SUPER_MAGIC: "fuse", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs",
	unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.TMPFS_MAGIC: "tmpfs", unix.V9FS_MAGIC: "9p",
}

// LookAtHost reads /proc, and the file systems under folders.
func LookAtHost(folders ...string) (*Host, error) {
	h := &Host{CPUs: runtime.NumCPU(), Files: map[string]string{}}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/meminfo: %w", err)
			}
			h.Memory = kb * kib
		}
	}
	if h.Memory == 0 {
		return nil, fmt.Errorf("/proc/meminfo tells no MemTotal")
	}
	const somaxconn = "/proc/sys/net/core/somaxconn"
	if text, err := os.ReadFile(somaxconn); err == nil {
		h.Somaxconn = Value{Name: "net.core.somaxconn", Text: strings.TrimSpace(string(text)), File: somaxconn}
	}
	for _, dir := range folders {
		var fs unix.Statfs_t
		if dir != "" && unix.Statfs(dir, &fs) == nil {
			kind, known := fsNames[int64(uint32(fs.Type))]
			if !known {
				kind = fmt.Sprintf("0x%x", uint32(fs.Type))
			}
			h.Files[dir] = kind
		}
	}
	return h, nil
}

// DiskTest is how long a small write takes to be safe.
type DiskTest struct {
	Dir        string
	Writes     int
	Median     time.Duration
	P95        time.Duration
	Rotational bool // the kernel takes it for a disk that spins; a virtual one may be called so wrongly
}

// TimeDisk writes blocks of PostgreSQL's size into a file of its own in dir and waits for each (fdatasync), as a commit
// does, at most writes times and for 5 s.
func TimeDisk(ctx context.Context, dir string, writes int) (_ *DiskTest, err error) {
	f, err := os.CreateTemp(dir, ".tidemark-doctor-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		f.Close()
		if removed := os.Remove(f.Name()); err == nil {
			err = removed
		}
	}()
	block := make([]byte, 8*kib)
	if _, err := f.Write(make([]byte, 16*len(block))); err != nil { // so that the size does not change at each write
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	var took []time.Duration
	for end := time.Now().Add(5 * time.Second); len(took) < writes && time.Now().Before(end) && ctx.Err() == nil; {
		start := time.Now()
		if _, err := f.WriteAt(block, int64(len(took)%16*len(block))); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, fmt.Errorf("fdatasync: %w", err)
		}
		took = append(took, time.Since(start))
	}
	if len(took) == 0 {
		return nil, ctx.Err()
	}
	slices.Sort(took)
	return &DiskTest{Dir: dir, Writes: len(took), Median: took[len(took)/2], P95: took[len(took)*95/100], Rotational: rotational(dir)}, nil
}

// rotational asks the kernel about the device under a folder.
func rotational(dir string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return false
	}
	dev := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	for _, at := range []string{"queue/rotational", "../queue/rotational"} { // of the disk, or of the disk of this partition
		if text, err := os.ReadFile(filepath.Join(dev, at)); err == nil {
			return strings.TrimSpace(string(text)) == "1"
		}
	}
	return false
}
