package registry

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// Scope is what a token is for. Each route says which scopes may use it.
type Scope string

// The scopes.
const (
	Enumerator  Scope = "enumerator"  // one device in the field
	Admin       Scope = "admin"       // a person of the registry's office
	Integration Scope = "integration" // another system
)

// Scopes are all scopes.
var Scopes = []Scope{Enumerator, Admin, Integration}

// Token says whom a bearer token stands for. The secret itself is no part of it: nobody keeps that but its holder.
type Token struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"` // for people and for the audit trail
	Scope     Scope     `json:"scope"`
	Device    string    `json:"device,omitempty"` // of an Enumerator
	Areas     []string  `json:"areas,omitempty"`  // islands; none for all
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	UsedAt    time.Time `json:"used_at,omitzero"` // to the minute
}

// Why a token is not taken.
var (
	ErrExpired = errors.New("the token has expired")
	ErrRevoked = errors.New("the token was revoked")
)

// maxDevice is the length of a device's id, in bytes.
const maxDevice = 60

// Check returns what is wrong with a token.
func (t *Token) Check() Faults {
	var faults Faults
	if t.Name == "" || utf8.RuneCountInString(t.Name) > maxName {
		faults = append(faults, Fault{"name", "must be 1 to 80 characters"})
	}
	switch t.Scope {
	case Enumerator:
		if !IsDevice(t.Device) {
			faults = append(faults, Fault{"device", "an enumerator's token is for one device: 1 to 60 letters, digits, hyphens, full stops and _"})
		}
	case Admin, Integration:
		if t.Device != "" {
			faults = append(faults, Fault{"device", "only an enumerator's token is for a device"})
		}
	default:
		faults = append(faults, Fault{"scope", "must be enumerator, admin or integration"})
	}
	if !t.ExpiresAt.After(t.CreatedAt) {
		faults = append(faults, Fault{"expires_at", "must be after created_at"})
	}
	return faults
}

// IsDevice says whether s can be the id of a device.
func IsDevice(s string) bool {
	return s != "" && len(s) <= maxDevice && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._") == ""
}

// Valid returns nil, ErrExpired or ErrRevoked.
func (t *Token) Valid(now time.Time) error {
	switch {
	case !t.RevokedAt.IsZero():
		return ErrRevoked
	case !now.Before(t.ExpiresAt):
		return ErrExpired
	}
	return nil
}

// Actor is who acts by the token.
func (t *Token) Actor() Actor {
	name := "token:" + t.Name
	if t.Device != "" {
		name = "device:" + t.Device
	}
	return Actor{Name: name, Device: t.Device, Areas: t.Areas}
}
