package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"tidemark/registry/store/postgres"
)

// devices is the process that synchronises until it is ended.
type devices struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
	once  sync.Once
	done  int
	err   error
}

var crowds atomic.Int64

// lookupDevices synchronise while look-ups are measured.
const lookupDevices = 10

func (s *stack) devices(ctx context.Context, c settings) (*devices, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d := &devices{cmd: exec.CommandContext(ctx, "nice", "-n", "10", self, "-as-devices", strconv.FormatInt(crowds.Add(1), 10), "-dir", s.dir, "-port", strconv.Itoa(c.port),
		"-link", c.Link, "-coding", c.Coding, "-batch", strconv.Itoa(c.Batch))}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, os.Stderr
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the devices: %w", err)
	}
	return d, nil
}

// end ends the devices and says how many batches they have synchronised.
func (d *devices) end() (batches int, err error) {
	d.once.Do(func() {
		_ = d.stdin.Close() // it tells them to end
		if d.err = d.cmd.Wait(); d.err == nil {
			d.done, d.err = strconv.Atoi(strings.TrimSpace(d.out.String()))
		}
		if d.err != nil {
			d.err = fmt.Errorf("the devices: %w", d.err)
		}
	})
	return d.done, d.err
}

// asDevices is what that process does: it synchronises until standard input ends, and prints how many batches it has. Each crowd
// has islands and people of its own.
func asDevices(ctx context.Context, c settings, crowd int64) (err error) {
	islands.Store(crowd * 1000)
	people.Store(crowd * 1_000_000)
	if err := os.Setenv("PGPASSFILE", filepath.Join(c.dir, "pgpass")); err != nil {
		return err
	}
	s := &stack{url: fmt.Sprintf("http://127.0.0.1:%d", c.port), dir: c.dir}
	if s.store, err = postgres.Open(ctx, fmt.Sprintf("postgres://dfr@127.0.0.1:%d/dfr?sslmode=disable", c.port+4), 1); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.store.Close()) }()
	phones := make([]*phone, lookupDevices)
	for i := range phones {
		island, err := s.newIsland(ctx)
		if err != nil {
			return err
		}
		if phones[i], err = s.newPhone(ctx, island, c); err != nil {
			return err
		}
		defer phones[i].close()
	}
	busy, rest := context.WithCancel(ctx)
	defer rest()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the pipe, however it ends
		rest()
	}()
	visits, errs := make([]int, len(phones)), make([]error, len(phones))
	var wg sync.WaitGroup
	for i, p := range phones {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for busy.Err() == nil {
				p.visit(rng)
				if err := p.sync(busy); err != nil {
					if busy.Err() == nil {
						errs[i] = err
					}
					return
				}
				visits[i]++
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range visits {
		sum += n
	}
	fmt.Println(sum)
	return errors.Join(errs...)
}
