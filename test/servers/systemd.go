package servers

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Systemd is a real service manager: systemd --user, in a mount namespace where the machine looks as if systemd had booted it. Its units
// are in Units, and what speaks to it finds it by XDG_RUNTIME_DIR=Runtime. It needs no bus.
type Systemd struct {
	*process
	Runtime, Units string
}

// manage makes the machine look booted and becomes the manager.
const manage = `mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system &&
exec /lib/systemd/systemd --user --log-target=console --log-level=notice --show-status=false`

// StartSystemd starts a manager with these unit files until the end of the test, and stops all its units then. It takes root.
func StartSystemd(t testing.TB, units map[string]string) *Systemd {
	t.Helper()
	Need(t, "/lib/systemd/systemd")
	needRoot(t, "a service manager takes root for a mount namespace")
	dir, err := os.MkdirTemp("", "systemd") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what stays behind is only litter
	if err := os.MkdirAll("/run/systemd", 0o755); err != nil {
		t.Fatal(err)
	}
	s := &Systemd{Runtime: filepath.Join(dir, "run"), Units: filepath.Join(dir, "config/systemd/user")}
	for path, mode := range map[string]os.FileMode{s.Runtime: 0o700, s.Units: 0o755} {
		if err := os.MkdirAll(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range units {
		if err := os.WriteFile(filepath.Join(s.Units, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.process = &process{
		t: t, name: "systemd", stop: syscall.SIGTERM, log: filepath.Join(dir, "log"),
		ready: func() error {
			conn, err := net.Dial("unix", filepath.Join(s.Runtime, "systemd/private"))
			if err == nil {
				err = conn.Close()
			}
			return err
		},
		start: func() *exec.Cmd {
			cmd := exec.Command("/bin/sh", "-c", manage)
			cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "XDG_RUNTIME_DIR=" + s.Runtime}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: syscall.CLONE_NEWNS}
			return cmd
		},
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}
