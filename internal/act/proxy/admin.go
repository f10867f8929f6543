package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
)

// Health is the answer of GET /healthz and of every change.
type Health struct {
	Nonce   string   `json:"nonce"` // differs for each start of the process
	PID     int      `json:"pid"`
	Address string   `json:"address"`           // where the process listens for clients
	Digest  string   `json:"digest"`            // of the configuration in force
	Restart []string `json:"restart,omitempty"` // settings asked for that only a restart changes
}

// The limits of what the daemon may say.
const (
	maxAdminBody = 4 << 20
	maxWorkers   = 10_000
	maxID        = 200
)

// admin is the handler of the unix socket.
func (p *Process) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { p.reply(w, p.Health()) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) { p.reply(w, p.server.Stats()) })
	mux.HandleFunc("PUT /workers", func(w http.ResponseWriter, r *http.Request) {
		list, err := readAll(w, r, decodeWorkers)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.server.Set(list)
		p.reply(w, p.Health())
	})
	mux.HandleFunc("PUT /config", func(w http.ResponseWriter, r *http.Request) {
		cfg, err := readAll(w, r, decodeConfig)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		restart := p.server.Apply(cfg)
		h := p.Health()
		h.Restart = restart
		p.reply(w, h)
	})
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		if id == "" {
			http.Error(w, "which worker? say /drain?id=ID", http.StatusBadRequest)
			return
		}
		if err := p.server.Drain(r.Context(), id); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable) // the caller has left: it ended the wait
			return
		}
		p.reply(w, p.Health())
	})
	mux.HandleFunc("POST /handover", p.handOver)
	return mux
}

func (p *Process) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller sees a broken answer
}

func readAll[T any](w http.ResponseWriter, r *http.Request, decode func([]byte) (T, error)) (T, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
	if err != nil {
		var none T
		return none, err
	}
	return decode(b)
}

// strict decodes one JSON value and nothing after it, without unknown fields.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

func decodeConfig(b []byte) (Config, error) {
	var c Config
	if err := strict(b, &c); err != nil {
		return Config{}, fmt.Errorf("proxy configuration: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("proxy configuration: %w", err)
	}
	return c, nil
}

// decodeWorkers reads the list of workers: unique ids that may stand in a header, addresses that can be dialled.
func decodeWorkers(b []byte) ([]Endpoint, error) {
	var list []Endpoint
	if err := strict(b, &list); err != nil {
		return nil, fmt.Errorf("list of workers: %w", err)
	}
	if list == nil {
		return nil, errors.New("list of workers: it is null; an empty one is []")
	}
	if len(list) > maxWorkers {
		return nil, fmt.Errorf("list of workers: %d entries, more than %d", len(list), maxWorkers)
	}
	seen := make(map[string]bool, len(list))
	for _, e := range list {
		if err := e.check(); err != nil {
			return nil, err
		}
		if seen[e.ID] {
			return nil, fmt.Errorf("worker %q is listed twice", e.ID)
		}
		seen[e.ID] = true
	}
	return list, nil
}

func (e Endpoint) check() error {
	if e.ID == "" || len(e.ID) > maxID || strings.ContainsFunc(e.ID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("worker %q: an id is 1 to %d printable characters without spaces", e.ID, maxID)
	}
	if path, ok := strings.CutPrefix(e.Address, "unix:"); ok {
		if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
			return fmt.Errorf("worker %s: %q is no absolute socket path", e.ID, e.Address)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(e.Address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
		return fmt.Errorf("worker %s: %q is no address; the proxy needs host:port or unix:/path", e.ID, e.Address)
	}
	return nil
}
