package docker

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// DefaultSocket is where an engine listens that was not told otherwise.
const DefaultSocket = "/var/run/docker.sock"

// Volume is a volume that no container uses, be it running or not. The engine keeps no record of when it was last used.
type Volume struct {
	Name    string
	Created time.Time `json:"CreatedAt"`
}

// UnusedVolumes asks the engine at a socket for them. Nothing is changed.
func UnusedVolumes(ctx context.Context, socket string) ([]Volume, error) {
	e := newEngine(socket)
	defer e.close()
	var found struct{ Volumes []Volume }
	if err := e.call(ctx, http.MethodGet, "/volumes", url.Values{"filters": {`{"dangling":["true"]}`}}, nil, &found); err != nil {
		return nil, fmt.Errorf("list the unused volumes: %w", err)
	}
	return found.Volumes, nil
}
