package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"tidemark/internal/act/docker"
	"tidemark/internal/config"
)

// forgotten is the age from which a volume that no container uses is reported. Requirements: 30 days.
const forgotten = 30 * 24 * time.Hour

// Volumes are those that no container uses.
type Volumes struct {
	Unused []docker.Volume
	At     time.Time // when they were listed
}

// askDocker lists the unused volumes of the engine that a docker target names, or of the one in its usual place.
func (s *Site) askDocker(ctx context.Context, c *config.Config) {
	socket := docker.DefaultSocket
	if c != nil {
		for _, f := range c.Fleets {
			if body, ok := f.Target.Body.(*docker.Config); ok {
				socket = body.Socket
				break
			}
		}
	}
	if _, err := os.Stat(socket); errors.Is(err, os.ErrNotExist) {
		s.Absent[Engine] = "there is no " + socket
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	unused, err := docker.UnusedVolumes(ctx, socket)
	if err != nil {
		s.Absent[Engine] = err.Error()
		return
	}
	s.Volumes = &Volumes{Unused: unused, At: time.Now()}
}

var dockerChecks = []check{
	{"unused volumes", []Part{Engine}, func(s *Site, o *outcome) {
		var old []string
		for _, v := range s.Volumes.Unused {
			if age := s.Volumes.At.Sub(v.Created); age >= forgotten {
				old = append(old, fmt.Sprintf("%s (made %d days ago)", v.Name, int(age/(24*time.Hour))))
			}
		}
		slices.Sort(old)
		if len(old) > 0 {
			o.find(Finding{Severity: Advice, What: fmt.Sprintf("no container uses %d volumes that are 30 days old or more", len(old)), Arithmetic: strings.Join(old, ", "),
				Fix: "look at what is in each, keep a copy of what may be needed, then docker volume rm NAME; Tidemark removes none"})
		}
		o.holds("%d volumes that no container uses, none of them 30 days old", len(s.Volumes.Unused))
	}},
}
