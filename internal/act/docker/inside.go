package docker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"tidemark/internal/act/copies"
)

// Inside is a container that others made, by what goes on in it: its main process is found and signalled, and commands are run
// beside it. Which signals and commands is its caller's to know.
type Inside struct {
	engine *engine
	name   string
}

// NewInside touches nothing.
func NewInside(socket, name string) *Inside { return &Inside{newEngine(socket), name} }

// Close lets go of the connections to the engine.
func (c *Inside) Close() error {
	c.engine.close()
	return nil
}

// MainProcess returns the pid, on this machine, of the container's main process; 0 when it cannot be seen from here, because this
// program runs in a container or on another machine. A container that does not run is an error.
func (c *Inside) MainProcess(ctx context.Context) (int, error) {
	found, err := c.engine.inspect(ctx, c.name)
	switch {
	case err != nil:
		return 0, err
	case found == nil:
		return 0, fmt.Errorf("there is no container %s: docker ps -a lists those that are", c.name)
	case found.State.Status != "running":
		return 0, fmt.Errorf("the container %s does not run: it is %s", c.name, found.State.Status)
	}
	return copies.Local(found.State.PID, found.ID), nil
}

// Signal sends the main process a signal by name, such as TTIN. The kernel keeps from it, as from every first process of a container,
// what it does not handle.
func (c *Inside) Signal(ctx context.Context, signal string) error {
	err := c.engine.call(ctx, http.MethodPost, "/containers/"+url.PathEscape(c.name)+"/kill", url.Values{"signal": {signal}}, nil, nil)
	if err != nil {
		return fmt.Errorf("send %s to the container %s: %w", signal, c.name, err)
	}
	return nil
}

// Run runs a command in the container, as the container's user, and returns what it wrote to its standard output and its exit code. One that
// cannot be run, or that the container has no program for, is an error.
func (c *Inside) Run(ctx context.Context, command ...string) (out []byte, code int, err error) {
	var made struct {
		ID string `json:"Id"`
	}
	body := map[string]any{"AttachStdout": true, "AttachStderr": true, "Cmd": command}
	if err := c.engine.call(ctx, http.MethodPost, "/containers/"+url.PathEscape(c.name)+"/exec", nil, body, &made); err != nil {
		return nil, 0, fmt.Errorf("run a command in the container %s: %w", c.name, err)
	}
	var stream []byte
	if err := c.engine.call(ctx, http.MethodPost, "/exec/"+made.ID+"/start", nil, map[string]any{"Detach": false, "Tty": false}, &stream); err != nil {
		return nil, 0, fmt.Errorf("run %s in the container %s: %w", command[0], c.name, err)
	}
	out, said, err := split(stream)
	if err != nil {
		return nil, 0, fmt.Errorf("run %s in the container %s: %w", command[0], c.name, err)
	}
	var ended struct {
		ExitCode *int
	}
	if err := c.engine.call(ctx, http.MethodGet, "/exec/"+made.ID+"/json", nil, nil, &ended); err != nil {
		return nil, 0, fmt.Errorf("run %s in the container %s: %w", command[0], c.name, err)
	}
	const notRun = 126 // from here on, as shells count: the program could not be run, or a signal ended it
	switch {
	case ended.ExitCode == nil:
		return nil, 0, fmt.Errorf("%s in the container %s has not ended", command[0], c.name)
	case *ended.ExitCode >= notRun:
		return nil, 0, fmt.Errorf("%s in the container %s ended with exit code %d: %s", command[0], c.name, *ended.ExitCode, strings.TrimSpace(string(said)))
	}
	return out, *ended.ExitCode, nil
}

// split takes the engine's stream apart: frames of one byte for which output (1 standard, 2 error), three of nothing, four of length.
func split(stream []byte) (out, said []byte, err error) {
	for len(stream) > 0 {
		if len(stream) < 8 {
			return nil, nil, errors.New("its output ends within a frame")
		}
		n := uint64(binary.BigEndian.Uint32(stream[4:8]))
		kind, rest := stream[0], stream[8:]
		if n > uint64(len(rest)) {
			return nil, nil, errors.New("its output ends within a frame")
		}
		switch kind {
		case 1:
			out = append(out, rest[:n]...)
		case 2:
			said = append(said, rest[:n]...)
		default:
			return nil, nil, fmt.Errorf("its output has a frame of the unknown kind %d", kind)
		}
		stream = rest[n:]
	}
	return out, said, nil
}
