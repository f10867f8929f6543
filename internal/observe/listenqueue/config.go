// Package listenqueue reads how busy a listening socket is from the kernel: how many connections wait to be accepted, how full
// their queue is, and which workers hold one. For workers that serve one request at a time this is the true queue of
// requests, which no log shows: Odoo's prefork workers, for one, share a socket, and what waits there waits before it is
// timed by anybody. act/sockets reads the tables; this package owns what a signal makes of them.
//
// The tables are those of the network namespace that the fleet's workers are in, so that workers in a container are seen too;
// of Tidemark's own when the workers are no processes of this machine. Each reading is of the moment, and not an average: the
// statistic over a period's readings is the engine's.
package listenqueue

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config says which socket, and which figure of it.
type Config struct {
	// Port is the TCP port that is listened on, over IPv4, IPv6 or both, 1..65535. If several sockets listen on it (on
	// different addresses, or with SO_REUSEPORT), they are taken together.
	Port int `yaml:"port"`
	// Path is that of a unix stream socket, as its server has bound it; an abstract name begins with @.
	Path string `yaml:"path"`
	// Field is the figure; see the constants. Default: queued.
	Field string `yaml:"field"`
	// Backlog is how many connections the queue takes, for queued_percent. 0, the default, asks the kernel; to be written where
	// that cannot be asked: in another network namespace than Tidemark's, such as a container's.
	Backlog int `yaml:"backlog"`
}

// The fields.
const (
	// Queued is the number of connections that no worker has accepted yet: the Recv-Q of ss -ltn.
	Queued = "queued"
	// QueuedPercent is Queued in percent of what the queue takes, of the fullest if there are several sockets. At 100 the
	// kernel drops new connections, whose clients try again after a second and more.
	QueuedPercent = "queued_percent"
	// BusyWorkers is the number of serving workers that hold an accepted connection. A connection kept alive between two
	// requests counts as busy. It needs the workers' own user, or CAP_SYS_PTRACE.
	BusyWorkers = "busy_workers"
	// BusyPercent is the same in percent of the serving workers.
	BusyPercent = "busy_percent"
	// Connections is the number of connections that were accepted and are still open.
	Connections = "connections"
	// Overflows is how many connections a second were dropped because a queue was full, since the reading before. The kernel
	// counts them for the whole network namespace, so that another service's overflows are among them.
	Overflows = "overflows"
)

// fields says of each field what it is and how it is read.
var fields = map[string]struct {
	unit      fleet.Unit
	perWorker bool // rises as workers leave
	read      reader
}{
	Queued:        {unit: fleet.Number, read: (*Source).queued},
	QueuedPercent: {unit: fleet.Percent, read: (*Source).queuedPercent},
	BusyWorkers:   {unit: fleet.Number, read: (*Source).busyWorkers},
	BusyPercent:   {unit: fleet.Percent, perWorker: true, read: (*Source).busyPercent},
	Connections:   {unit: fleet.Number, read: (*Source).connections},
	Overflows:     {unit: fleet.Number, read: (*Source).overflows},
}

// DefaultConfig is the length of the queue.
func DefaultConfig() Config { return Config{Field: Queued} }

// maxUnixPath is what Linux keeps of a socket's path, less the zero at its end.
const maxUnixPath = 107

// Validate reports what cannot work.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if _, ok := fields[c.Field]; !ok {
		errs.Add("field", fmt.Sprintf("%q is not known", c.Field), "write one of "+strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
	}
	switch {
	case c.Port == 0 && c.Path == "":
		errs.Add("port", "is missing", "write the TCP port that the workers listen on, such as 8069, or path for a unix socket")
	case c.Port != 0 && c.Path != "":
		errs.Add("path", "is given beside port", "delete one of them")
	case c.Port < 0 || c.Port > 65535:
		errs.Add("port", fmt.Sprintf("%d is no TCP port", c.Port), "write 1 to 65535")
	case c.Path != "" && !filepath.IsAbs(c.Path) && !strings.HasPrefix(c.Path, "@"):
		errs.Add("path", fmt.Sprintf("%q is not absolute", c.Path), "begin it with /, or with @ for an abstract name")
	case len(c.Path) > maxUnixPath:
		errs.Add("path", fmt.Sprintf("has %d bytes, and the system allows %d", len(c.Path), maxUnixPath), "write the path that the server listens on")
	}
	switch {
	case c.Backlog < 0:
		errs.Add("backlog", fmt.Sprintf("%d is negative", c.Backlog), "write the backlog that the server listens with, or delete it")
	case c.Backlog > 0 && c.Field != QueuedPercent:
		errs.Add("backlog", "is only used by "+QueuedPercent, "delete it")
	}
	return errs.Err()
}

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return fields[c.Field].unit }

// Distribution: these are plain figures.
func (c *Config) Distribution() bool { return false }

// PerWorker reports whether the figure rises as workers leave.
func (c *Config) PerWorker() bool { return fields[c.Field].perWorker }

// socket names what is listened on.
func (c *Config) socket() string {
	if c.Path != "" {
		return c.Path
	}
	return fmt.Sprintf("TCP port %d", c.Port)
}
