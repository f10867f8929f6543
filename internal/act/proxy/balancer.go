package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/atomicfile"
	"tidemark/internal/fleet"
)

// Balancer keeps a proxy process running and told which workers serve. Many may point at one socket: one process serves
// it. Closing the daemon leaves the process and its traffic as they are.
type Balancer struct {
	cfg    Config
	o      Options
	client *Client

	mu    sync.Mutex
	child int    // pid of the process that this daemon started, 0 when it has been reaped or is another's
	asked string // nonce of the process that was asked to take our configuration
	stuck []string
}

// Options say how the process is started.
type Options struct {
	// Command is the beginning of its argv, e.g. [/usr/bin/tidemark proxy]; --config FILE --socket PATH are added.
	Command []string
	// Socket is the admin socket. The configuration (.json) and the lock (.lock) lie beside it.
	Socket string
	// LogPath takes what the process prints; by default .log beside the socket.
	LogPath string
}

// startTimeout bounds the wait for a started process to answer.
const startTimeout = 10 * time.Second

// rivalTimeout is how long a process that ended at once may have made way for another daemon's, which is about to answer.
const rivalTimeout = time.Second

// maxLog is the size at which a log is put aside (one is kept) when a process is started.
const maxLog = 10 << 20

// NewBalancer makes a Balancer of a valid configuration; nothing is started before Set.
func NewBalancer(cfg Config, o Options) *Balancer {
	if o.LogPath == "" {
		o.LogPath = o.Socket + ".log"
	}
	return &Balancer{cfg: cfg, o: o, client: NewClient(o.Socket)}
}

// RestartNeededError says which settings the running process cannot take over. All else was done.
type RestartNeededError struct {
	Socket   string
	PID      int
	Settings []string
}

func (e *RestartNeededError) Error() string {
	return fmt.Sprintf("the proxy (pid %d) still runs with the old %s; all else is in force. To change it at a quiet time: kill %d, and the next tick starts it anew",
		e.PID, strings.Join(e.Settings, ", "), e.PID)
}

// Set makes exactly the serving workers take requests. It starts the process when none is there, and brings its
// configuration up to date.
func (b *Balancer) Set(ctx context.Context, workers []fleet.Worker) error {
	list, err := endpoints(workers)
	if err := errors.Join(err, checkSocketPath(b.o.Socket)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reap()
	h, err := b.client.Set(ctx, list)
	if errors.Is(err, ErrDown) {
		if err := b.start(ctx); err != nil {
			return err
		}
		h, err = b.client.Set(ctx, list)
	}
	if err != nil {
		return err
	}
	return b.configure(ctx, h)
}

// Drain takes one worker out and returns when no request is on its way to it. When no proxy runs, none is.
func (b *Balancer) Drain(ctx context.Context, w fleet.Worker) error {
	err := b.client.Drain(ctx, w.Instance())
	if errors.Is(err, ErrDown) {
		return nil
	}
	return err
}

// Status asks the process who it is.
func (b *Balancer) Status(ctx context.Context) (Health, error) { return b.client.Health(ctx) }

func endpoints(workers []fleet.Worker) ([]Endpoint, error) {
	list := make([]Endpoint, 0, len(workers))
	for _, w := range workers {
		if w.Phase != fleet.Serving {
			continue
		}
		e := Endpoint{w.Instance(), w.Address}
		if err := e.check(); err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// configure asks the process to take our configuration, once for each process.
func (b *Balancer) configure(ctx context.Context, h Health) error {
	if h.Digest == b.cfg.Digest() {
		b.asked, b.stuck = "", nil
		return nil
	}
	if b.asked != h.Nonce {
		if err := b.writeConfig(); err != nil { // for whoever starts it next
			return err
		}
		got, err := b.client.Configure(ctx, b.cfg)
		if err != nil {
			return fmt.Errorf("%w; if the proxy is of another version: kill %d at a quiet time, and the next tick starts it anew", err, h.PID)
		}
		b.asked, b.stuck = h.Nonce, got.Restart
	}
	if len(b.stuck) > 0 {
		return &RestartNeededError{b.o.Socket, h.PID, b.stuck}
	}
	return nil
}

func (b *Balancer) configPath() string { return b.o.Socket + ".json" }

func (b *Balancer) writeConfig() error {
	data, err := json.MarshalIndent(b.cfg, "", "  ")
	if err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	path := b.configPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	if err := atomicfile.Write(path, append(data, '\n'), 0o600, nil); err != nil { // two daemons may write theirs at once
		return fmt.Errorf("proxy configuration: %w", err)
	}
	return nil
}

// start starts the process in a session of its own, so that it outlives the daemon, and waits until it answers. When two
// daemons start one at once, the lock lets one process live and both are content.
func (b *Balancer) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := b.writeConfig(); err != nil {
		return err
	}
	out, err := b.openLog()
	if err != nil {
		return fmt.Errorf("proxy log: %w", err)
	}
	defer func() { _ = out.Close() }()
	argv := append(append([]string{}, b.o.Command...), "--config", b.configPath(), "--socket", b.o.Socket)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the proxy: %w", err)
	}
	b.child = cmd.Process.Pid
	_ = cmd.Process.Release() // reap waits for it, without a goroutine that would have to outlive us
	var ended string
	var until time.Time
	for {
		if _, err = b.client.Health(ctx); err == nil {
			return nil
		}
		if how := b.reap(); how != "" {
			ended, until = how, time.Now().Add(rivalTimeout)
		}
		if ended != "" && time.Now().After(until) {
			return fmt.Errorf("start the proxy: it ended at once (%s): %s", ended, b.lastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start the proxy: no answer within %s: %w", startTimeout, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// reap takes note of a process of ours that has ended, and says how.
func (b *Balancer) reap() string {
	if b.child == 0 {
		return ""
	}
	var status unix.WaitStatus
	pid, err := unix.Wait4(b.child, &status, unix.WNOHANG, nil)
	if err == nil && pid == 0 || errors.Is(err, unix.EINTR) {
		return "" // alive
	}
	b.child = 0
	switch {
	case err != nil:
		return ""
	case status.Signaled():
		return "killed by " + status.Signal().String()
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

func (b *Balancer) openLog() (*os.File, error) {
	if info, err := os.Stat(b.o.LogPath); err == nil && info.Size() > maxLog {
		if err := os.Rename(b.o.LogPath, b.o.LogPath+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(b.o.LogPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// lastWords is the last line that the process printed.
func (b *Balancer) lastWords() string {
	data, err := os.ReadFile(b.o.LogPath)
	if err != nil {
		return err.Error()
	}
	data = bytes.TrimSpace(data)
	line := string(data[bytes.LastIndexByte(data, '\n')+1:])
	if line == "" {
		return "it said nothing"
	}
	return line
}
