package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
)

// stack is PostgreSQL, PgBouncer, nginx and the registry, as deploy/local starts them.
type stack struct {
	url   string // of nginx
	store *store.Store
	root  string
	dir   string
}

// start builds the programs, makes a registry of so many farmers in dir and serves it from port on.
func start(ctx context.Context, root, dir string, port, workers, syncWorkers, farmers int) (s *stack, err error) {
	if err := run(ctx, root, "go", "build", "-o", "bin/", "./cmd/registry"); err != nil {
		return nil, err
	}
	s = &stack{url: fmt.Sprintf("http://127.0.0.1:%d", port), root: root, dir: dir}
	started := s
	defer func() {
		if err != nil {
			err = errors.Join(err, started.stop())
		}
	}()
	if err := run(ctx, root, "deploy/local/start", "--dir", dir, "--port", strconv.Itoa(port), "--workers", strconv.Itoa(workers), "--sync-workers", strconv.Itoa(syncWorkers),
		"--farmers", strconv.Itoa(farmers)); err != nil {
		return nil, err
	}
	if err := os.Setenv("PGPASSFILE", filepath.Join(dir, "pgpass")); err != nil {
		return nil, err
	}
	if s.store, err = postgres.Open(ctx, fmt.Sprintf("postgres://dfr@127.0.0.1:%d/dfr?sslmode=disable", port+4), 1); err != nil {
		return nil, err
	}
	return s, nil
}

// stop ends all that start has started, and removes the folder.
func (s *stack) stop() error {
	var errs []error
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return errors.Join(append(errs, run(ctx, s.root, "deploy/local/stop", "--dir", s.dir, "--purge"))...)
}

// cpu is the CPU time of each part of the stack so far, in seconds, in user and kernel.
func (s *stack) cpu() map[string]float64 {
	parts, parent, used := map[int]string{}, map[int]int{}, map[int]float64{}
	for _, part := range []string{"postgresql", "pgbouncer", "registry", "sync", "work", "nginx"} {
		b, _ := os.ReadFile(filepath.Join(s.dir, part+".pid")) // without it the part counts 0
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			parts[pid] = part
		}
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		// proc(5): state, ppid and so on follow the name in brackets; from the 14th field on stand utime and stime, and
		// those of children that have ended.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent[pid], _ = strconv.Atoi(fields[1])
		for _, f := range fields[11:15] {
			ticks, _ := strconv.ParseFloat(f, 64)
			used[pid] += ticks / 100 // sysconf(_SC_CLK_TCK) is 100 on every Linux that Go runs on
		}
	}
	sum := map[string]float64{}
	for pid, seconds := range used {
		for at := pid; at > 1; at = parent[at] {
			if part, ok := parts[at]; ok {
				sum[part] += seconds
				break
			}
		}
	}
	return sum
}

// since is what the parts have used after an earlier cpu, together and one by one.
func (s *stack) since(before map[string]float64) (total float64, note string) {
	now := s.cpu()
	for _, part := range slices.Sorted(maps.Keys(now)) {
		total += now[part] - before[part]
		note += fmt.Sprintf("%s %.2f ", part, now[part]-before[part])
	}
	return total, strings.TrimSpace(note)
}

func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
