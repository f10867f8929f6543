package systemd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// manager speaks D-Bus with a service manager. It connects when it is asked first, and again after the connection broke.
type manager struct {
	user bool

	mu   sync.Mutex
	conn *sd.Conn
	raw  *dbus.Conn // that conn asks by
}

// unit is what the target looks at of a loaded unit.
type unit struct {
	name        string
	load        string // loaded, not-found, masked ...
	active, sub string
	job         string // start, stop ..., or ""
	service
}

// service is what the manager knows of a service's processes.
type service struct {
	pid      int // 0 when there is none
	started  time.Time
	restarts int    // by the manager itself, since it was started last
	result   string // of the life before: success, exit-code, signal, oom-kill, timeout, start-limit-hit ...
	status   int    // exit code or signal of the life before
	cpu      uint64 // ns; math.MaxUint64 when it is not accounted for
	memory   uint64 // bytes; likewise
}

// sockets are where a manager listens, the best first. The private one takes root, or the manager's own user, and needs no bus.
func (m *manager) sockets() []string {
	if m.user {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			dir = fmt.Sprint("/run/user/", os.Getuid())
		}
		return []string{filepath.Join(dir, "systemd/private")}
	}
	return []string{"/run/systemd/private", "/run/dbus/system_bus_socket"}
}

// open returns a connection that works, as far as is known.
func (m *manager) open(ctx context.Context) (*sd.Conn, *dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, m.raw, nil
	}
	m.shut()
	var errs []error
	for _, path := range m.sockets() {
		var raw *dbus.Conn
		conn, err := sd.NewConnection(func() (*dbus.Conn, error) {
			c, err := dial(ctx, path)
			if raw == nil {
				raw = c
			}
			return c, err
		})
		if err == nil {
			m.conn, m.raw = conn, raw
			return conn, raw, nil
		}
		if raw != nil {
			_ = raw.Close()
		}
		errs = append(errs, err)
	}
	return nil, nil, fmt.Errorf("reach systemd: %w", errors.Join(errs...))
}

// dial connects within ctx: a manager that hangs takes connections, and does not answer.
func dial(ctx context.Context, path string) (*dbus.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	conn, err := dbus.NewConn(c)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil && strings.HasSuffix(path, "bus_socket") {
		err = conn.Hello()
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return conn, nil
}

func (m *manager) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut()
}

func (m *manager) shut() {
	if m.conn != nil {
		m.conn.Close()
		m.conn, m.raw = nil, nil
	}
}

// list returns the loaded units that match a pattern, with what is known of their services.
func (m *manager) list(ctx context.Context, pattern string) ([]unit, error) {
	conn, _, err := m.open(ctx)
	if err != nil {
		return nil, err
	}
	found, err := conn.ListUnitsByPatternsContext(ctx, nil, []string{pattern})
	if err != nil {
		return nil, fmt.Errorf("list the units %s: %w", pattern, err)
	}
	units := make([]unit, len(found))
	for i, f := range found {
		units[i] = unit{name: f.Name, load: f.LoadState, active: f.ActiveState, sub: f.SubState, job: f.JobType}
		p, err := conn.GetUnitTypePropertiesContext(ctx, f.Name, "Service")
		if err != nil {
			return nil, fmt.Errorf("read the properties of %s: %w", f.Name, err)
		}
		units[i].service = read(p)
	}
	return units, nil
}

// read takes properties of org.freedesktop.systemd1.Service. What an old manager does not have stays unknown.
func read(p map[string]any) service {
	s := service{cpu: math.MaxUint64, memory: math.MaxUint64}
	if v, ok := p["MainPID"].(uint32); ok {
		s.pid = int(v)
	}
	if v, ok := p["ExecMainStartTimestamp"].(uint64); ok && v > 0 {
		s.started = time.UnixMicro(int64(v))
	}
	if v, ok := p["NRestarts"].(uint32); ok {
		s.restarts = int(v)
	}
	if v, ok := p["Result"].(string); ok {
		s.result = v
	}
	if v, ok := p["ExecMainStatus"].(int32); ok {
		s.status = int(v)
	}
	if v, ok := p["CPUUsageNSec"].(uint64); ok {
		s.cpu = v
	}
	if v, ok := p["MemoryCurrent"].(uint64); ok {
		s.memory = v
	}
	return s
}

// loaded says whether there is a file for a unit: loaded, not-found, masked, bad-setting or error.
func (m *manager) loaded(ctx context.Context, name string) (string, error) {
	conn, _, err := m.open(ctx)
	if err != nil {
		return "", err
	}
	p, err := conn.GetUnitPropertyContext(ctx, name, "LoadState")
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", name, err)
	}
	state, _ := p.Value.Value().(string)
	return state, nil
}

// start has a unit started, forgetting that it failed. It returns when the manager has taken the order.
func (m *manager) start(ctx context.Context, u string, failed bool) error {
	conn, _, err := m.open(ctx)
	if err != nil {
		return err
	}
	if failed {
		if err := conn.ResetFailedUnitContext(ctx, u); err != nil {
			return err
		}
	}
	_, err = conn.StartUnitContext(ctx, u, "replace", nil)
	return err
}

// stop has a unit stopped: by its own stop signal, and killed after its own time-out. It returns when the manager has taken the order.
func (m *manager) stop(ctx context.Context, u string) error {
	conn, _, err := m.open(ctx)
	if err != nil {
		return err
	}
	_, err = conn.StopUnitContext(ctx, u, "replace", nil)
	return err
}

// cpuTime is what a unit's control group has used, in ns; math.MaxUint64 when it is not known.
func (m *manager) cpuTime(ctx context.Context, name string) uint64 {
	conn, _, err := m.open(ctx)
	if err != nil {
		return math.MaxUint64
	}
	p, err := conn.GetServicePropertyContext(ctx, name, "CPUUsageNSec")
	if err != nil {
		return math.MaxUint64
	}
	used, ok := p.Value.Value().(uint64)
	if !ok {
		return math.MaxUint64
	}
	return used
}

// processes lists the pids of a unit's processes.
func (m *manager) processes(ctx context.Context, name string) ([]int, error) {
	_, raw, err := m.open(ctx)
	if err != nil {
		return nil, err
	}
	var found []struct {
		Group   string
		PID     uint32
		Command string
	}
	systemd := raw.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	if err := systemd.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.GetUnitProcesses", 0, name).Store(&found); err != nil {
		return nil, fmt.Errorf("list the processes of %s: %w", name, err)
	}
	pids := make([]int, len(found))
	for i, p := range found {
		pids[i] = int(p.PID)
	}
	return pids, nil
}
