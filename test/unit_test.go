package test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
	"tidemark/test/servers"
)

// exposure is the most that `systemd-analyze security` may find of the daemon's unit, in tenths: 0 is safe, 100 is not.
const exposure = 19

// unitDropIn is what a test changes of the unit: where things are, and who runs it. A user's manager in a test's mount namespace cannot
// hide folders, as the last three ask for; none of what they hide is the daemon's.
const unitDropIn = `[Service]
User=nobody
Group=nogroup
ExecStartPre=
ExecStartPre=%[1]s check -c %[2]s/tidemark.yaml
ExecStart=
ExecStart=%[1]s run -c %[2]s/tidemark.yaml
PrivateTmp=no
ReadWritePaths=%[2]s
ProtectHome=no
ProtectKernelTunables=no
ProtectKernelLogs=no
`

const unitConfig = `
instance: {name: unit, time_zone: UTC}
state_dir: %[1]s/state
fleets:
  - name: registry
    target: {prefork: {flavour: registry, pid_file: %[1]s/registry.pid, settle: 0s}}
    bounds: {min: 1, max: 4}
    signals:
      cpu: {procfs: {field: cpu}}
      memory: {procfs: {field: memory_pss}}
      queued: {listen_queue: {port: %[2]d, field: queued}}
`

// The daemon in its hardened unit, as an ordinary user, moves the workers of a master that is another user's, and sees what they use.
// The unit's score is at most what is recorded here.
func TestUnit(t *testing.T) {
	const unit = "../deploy/systemd/tidemark.service"
	out, err := exec.Command(servers.Need(t, "systemd-analyze"), "security", "--offline=true", "--no-pager", fmt.Sprint("--threshold=", exposure), unit).CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Errorf("systemd-analyze security: %v: %s", err, lines[len(lines)-1])
	}
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	systemd := servers.StartSystemd(t, map[string]string{"tidemark.service": string(text)})
	dir, err := os.MkdirTemp("", "unit") // not t.TempDir, which only its owner may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what stays behind is only litter
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{bin, dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, uid, -1); err != nil {
		t.Fatal(err)
	}
	port := servers.FreePort(t)
	write(t, filepath.Join(dir, "tidemark.yaml"), fmt.Sprintf(unitConfig, dir, port))
	dropIns := filepath.Join(systemd.Units, "tidemark.service.d")
	if err := os.Mkdir(dropIns, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dropIns, "test.conf"), fmt.Sprintf(unitDropIn, program("tidemark"), dir))

	db := filepath.Join(t.TempDir(), "db")
	if out, err := exec.Command(program("registry"), "seed", "--db", db, "--farmers", "10").CombinedOutput(); err != nil {
		t.Fatalf("seed: %v\n%s", err, out)
	}
	serve(t, t.TempDir(), program("registry"), "serve", "--open", "--db", db, "--workers", "1", "--listen", fmt.Sprint("127.0.0.1:", port), "--pid-file", filepath.Join(dir, "registry.pid"))

	manage := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("systemctl", append([]string{"--user"}, args...)...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+systemd.Runtime)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("systemctl %s: %v\n%s\n%s", strings.Join(args, " "), err, out, systemd.Log())
		}
		return string(out)
	}
	manage("daemon-reload")
	manage("start", "tidemark")
	socket := filepath.Join(dir, "state", "tidemark.sock")
	client := web.Dial(socket)
	eventually(t, time.Minute, "the daemon sees its fleet", func() error {
		o, err := client.Status(t.Context())
		if err != nil {
			return err
		}
		if f := o.Fleets[0]; f.Size.Serving != 1 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	if code, out, errOut := tidemark(t, "scale", "registry", "3", "--socket", socket); code != 0 {
		t.Fatalf("scale: %s%s", out, errOut)
	}
	eventually(t, time.Minute, "three workers serve, and their figures are seen", func() error {
		o, err := client.Status(t.Context())
		if err != nil {
			return err
		}
		f := o.Fleets[0]
		if f.Size.Serving != 3 {
			return fmt.Errorf("%+v", f.Size)
		}
		for _, s := range f.Signals {
			if s.Reading.Quality != fleet.Fresh {
				return fmt.Errorf("%s: %+v", s.Name, s.Reading)
			}
		}
		return nil
	})
	if who := manage("show", "tidemark", "-p", "UID,NoNewPrivileges,ProtectSystem,SubState"); !strings.Contains(who, "UID="+nobody.Uid+"\n") {
		t.Errorf("the daemon is not nobody's: %s", who)
	}
}
