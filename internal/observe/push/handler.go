package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"tidemark/internal/fleet"
)

// Pattern is where a Board is mounted.
const Pattern = "PUT /api/v1/fleets/{fleet}/signals/{signal}"

// maxBody is far more than a value needs.
const maxBody = 4 << 10

// ServeHTTP takes one value: a bare number, or {"value": 17, "expiry": "90s"}, whose expiry may be left out. It answers 204, or
// a problem (RFC 9457): 404 for a signal that is not declared, 400 for what is no value. Who may push is for the server to say
// on which it is mounted.
func (b *Board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	value, expiry, err := parse(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = b.Push(r.PathValue("fleet"), r.PathValue("signal"), value, expiry)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	status := http.StatusBadRequest
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, ErrUnknown):
		status = http.StatusNotFound
	case errors.As(err, &large):
		status = http.StatusRequestEntityTooLarge
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may be gone
		"title": http.StatusText(status), "status": status, "detail": err.Error(),
	})
}

// parse reads a pushed value. One that is not written is no 0.
func parse(body io.Reader) (value float64, expiry time.Duration, err error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return 0, 0, fmt.Errorf("read the value: %w", err)
	}
	var sent struct {
		Value  *float64       `json:"value"`
		Expiry fleet.Duration `json:"expiry"`
	}
	into := any(&sent.Value)
	if text = bytes.TrimSpace(text); bytes.HasPrefix(text, []byte("{")) {
		into = &sent
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err == nil && sent.Value == nil {
		err = errors.New("there is none")
	}
	if err != nil {
		return 0, 0, fmt.Errorf(`the value cannot be read: %w; send a number, or {"value": 17, "expiry": "90s"}`, err)
	}
	if sent.Expiry < 0 {
		return 0, 0, fmt.Errorf("an expiry of %s is out of range: send 1s to 24h, or none", time.Duration(sent.Expiry))
	}
	return *sent.Value, time.Duration(sent.Expiry), nil
}
