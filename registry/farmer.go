// Package registry is the reference workload that Tidemark is tried on: a small Digital Farmer Registry.
//
// This package owns the words (Farmer, Village, Registration) and the rules of what may be registered. Storage is in
// registry/sqlite, HTTP in registry/api, the one-request-at-a-time worker in registry/serve and the master of a
// prefork group in registry/prefork.
package registry

import (
	"errors"
	"time"
)

// Farmer is one registered farmer.
type Farmer struct {
	Registration
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Version   int       `json:"version"` // 1 when registered, one more with each change
}

// Registration is what a client sends to register a farmer. NationalID and Phone may be empty; an empty UID is filled
// in by the server. Sending the same Registration with the same UID again is harmless.
type Registration struct {
	UID        string `json:"uid"` // UUID, lower case
	GivenName  string `json:"given_name"`
	FamilyName string `json:"family_name"`
	BirthDate  string `json:"birth_date"` // YYYY-MM-DD
	Sex        string `json:"sex"`        // one of Sexes
	NationalID string `json:"national_id"`
	Phone      string `json:"phone"` // E.164: + and 7 to 15 digits
	Village    string `json:"village"`
	Island     string `json:"island"`
	Status     string `json:"status"` // one of Statuses
}

// Village is a place that a farmer can live in. Names repeat between islands, never on one.
type Village struct {
	Country string `json:"country"` // ISO 3166-1 alpha-3
	Island  string `json:"island"`
	Name    string `json:"name"`
}

// Sexes and Statuses list the values that the fields may take; the first status is the default.
var (
	Sexes    = []string{"female", "male", "unspecified"}
	Statuses = []string{"active", "pending", "inactive", "deceased"}
)

// What a store answers besides success.
var (
	ErrNotFound        = errors.New("no such farmer")
	ErrUIDTaken        = errors.New("the uid is registered with other particulars")
	ErrNationalIDTaken = errors.New("the national id is registered to another farmer")
	ErrVillageUnknown  = errors.New("no such village")
	ErrVillageUnclear  = errors.New("more than one island has a village of this name")
	ErrBusy            = errors.New("the database is busy")
)
