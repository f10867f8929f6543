package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/act/prefork"
	"tidemark/internal/config"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/observe/postgres"
)

// Options say where to look. What is empty is looked for in its usual places.
type Options struct {
	Odoo, PgBouncer, Nginx string
	DSN                    string         // of PostgreSQL; empty: the first that Config's signals name
	DiskDir                string         // where to test the disk; empty: PostgreSQL's data_directory, when it is here
	Writes                 int            // of the disk's test; 0 leaves it out
	CPUOver                time.Duration  // how long to watch PostgreSQL's processes
	Config                 *config.Config // Tidemark's own; may be nil
}

// usual places of configurations on Debian.
var usual = map[Part][]string{
	OdooConf:  {"/etc/odoo/odoo.conf", "/etc/odoo.conf"},
	PgBouncer: {"/etc/pgbouncer/pgbouncer.ini"},
	NginxConf: {"/etc/nginx/nginx.conf"},
}

// flags by which a file is named.
var flags = map[Part]string{OdooConf: "--odoo", PgBouncer: "--pgbouncer", NginxConf: "--nginx"}

// Look reads a site. A file that the options name must be readable; what is merely not in its usual place is absent.
func Look(ctx context.Context, o Options) (*Site, error) {
	s := &Site{Absent: map[Part]string{}}
	var err error
	if s.Odoo, err = look(s, OdooConf, o.Odoo, ReadOdoo); err != nil {
		return nil, err
	}
	if s.Bouncer, err = look(s, PgBouncer, o.PgBouncer, ReadPgBouncer); err != nil {
		return nil, err
	}
	if s.Nginx, err = look(s, NginxConf, o.Nginx, ReadNginx); err != nil {
		return nil, err
	}
	if o.Config != nil {
		s.Fleet = fleetOf(o.Config)
	}
	switch dsn := dsnOf(o.Config); {
	case o.DSN != "":
		if s.Postgres, err = AskPostgres(ctx, o.DSN, o.CPUOver); err != nil {
			return nil, fmt.Errorf("PostgreSQL: %w", err)
		}
	case dsn != "":
		if s.Postgres, err = AskPostgres(ctx, dsn, o.CPUOver); err != nil {
			s.Absent[PostgreSQL] = err.Error()
		}
	default:
		s.Absent[PostgreSQL] = "name it by --postgres, or let $TIDEMARK_DOCTOR_DSN hold its connection string"
	}
	dir := ""
	if s.Odoo != nil {
		dir = s.Odoo.Get("data_dir").Text
	}
	if s.Host, err = LookAtHost(dir); err != nil {
		s.Absent[ThisHost] = err.Error()
	}
	s.askDocker(ctx, o.Config)
	return s, s.testDisk(ctx, o)
}

// look reads one file: the one that is named, or the first that is in a usual place.
func look[T any](s *Site, part Part, named string, read func(string) (*T, error)) (*T, error) {
	if named != "" {
		return read(named)
	}
	for _, path := range usual[part] {
		if _, err := os.Stat(path); err == nil {
			return read(path)
		}
	}
	s.Absent[part] = fmt.Sprintf("there is no %s (name it by %s)", strings.Join(usual[part], ", no "), flags[part])
	return nil, nil
}

func (s *Site) testDisk(ctx context.Context, o Options) (err error) {
	dir, named := o.DiskDir, o.DiskDir != ""
	if !named && s.Postgres != nil && s.Postgres.Local {
		dir = filepath.Dir(s.Postgres.DataDir) // beside the data: nobody but the server writes among them
	}
	switch {
	case o.Writes == 0:
		s.Absent[Disk] = "it was not to be tested"
	case dir == "" || dir == ".":
		s.Absent[Disk] = "it is not known where the database lies (name its folder by --disk)"
	default:
		s.Disk, err = TimeDisk(ctx, dir, o.Writes)
		if err != nil && !named {
			s.Absent[Disk], err = fmt.Sprintf("%v (run doctor as root, or name a folder on the same disk by --disk)", err), nil
		}
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w (name a folder that this user may write)", err)
		}
	}
	return err
}

// fleetOf picks the fleet of Odoo's workers, or the first.
func fleetOf(c *config.Config) *Fleet {
	var picked *config.Fleet
	for i := range c.Fleets {
		f := &c.Fleets[i]
		if body, ok := f.Target.Body.(*prefork.Config); ok && body.Flavour == "odoo" {
			picked = f
			break
		}
		if picked == nil {
			picked = f
		}
	}
	if picked == nil {
		return nil
	}
	out := &Fleet{Name: picked.Name, Max: Value{Name: "bounds.max of " + picked.Name, Text: strconv.Itoa(picked.Policy.Bounds.Max), File: c.File}}
	for _, sig := range picked.Signals {
		if body, ok := sig.Body.(*accesslog.Config); ok {
			out.Logs = append(out.Logs, body.Path)
		}
	}
	return out
}

// dsnOf is the first PostgreSQL that a signal reads.
func dsnOf(c *config.Config) string {
	if c == nil {
		return ""
	}
	for i := range c.Fleets {
		for _, sig := range c.Fleets[i].Signals {
			if body, ok := sig.Body.(*postgres.Config); ok {
				return body.DSN
			}
		}
	}
	return ""
}
