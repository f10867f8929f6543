package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
)

// stack is PostgreSQL, PgBouncer, nginx and the registry, as deploy/local starts them, and a queue worker beside them.
type stack struct {
	url   string // of nginx
	store *store.Store
	root  string
	dir   string
	queue *exec.Cmd
}

// start builds the programs, makes a registry of so many farmers in dir and serves it from port on.
func start(ctx context.Context, root, dir string, port, workers, farmers int) (s *stack, err error) {
	if err := run(ctx, root, "go", "build", "-o", "bin/", "./cmd/registry"); err != nil {
		return nil, err
	}
	s = &stack{url: fmt.Sprintf("http://127.0.0.1:%d", port), root: root, dir: dir}
	if err := run(ctx, root, "deploy/local/start", "--dir", dir, "--port", strconv.Itoa(port), "--workers", strconv.Itoa(workers),
		"--farmers", strconv.Itoa(farmers)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if err := os.Setenv("PGPASSFILE", filepath.Join(dir, "pgpass")); err != nil {
		return nil, err
	}
	if s.store, err = postgres.Open(ctx, fmt.Sprintf("postgres://dfr@127.0.0.1:%d/dfr?sslmode=disable", port+4), 1); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "queue.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.queue = exec.Command(filepath.Join(root, "bin", "registry"), "work", "--db", fmt.Sprintf("postgres://dfr@127.0.0.1:%d/dfr?sslmode=disable", port+3))
	s.queue.Stderr, s.queue.Stdout = log, log
	return s, s.queue.Start()
}

// stop ends all that start has started, and removes the folder.
func (s *stack) stop() error {
	var errs []error
	if s.queue != nil && s.queue.Process != nil {
		errs = append(errs, s.queue.Process.Signal(syscall.SIGTERM), s.queue.Wait())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return errors.Join(append(errs, run(ctx, s.root, "deploy/local/stop", "--dir", s.dir, "--purge"))...)
}

func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
