package registry

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"
)

// Record is a household, farmer, member, plot or submission as it is stored.
type Record struct {
	Entity    string
	UID       string
	Version   int // 1 when created, one more with each change
	Fields    Fields
	Deleted   bool // a tombstone: kept so that devices learn of it
	CreatedAt time.Time
	UpdatedAt time.Time
}

// MarshalJSON writes one flat object: uid, version and times beside the fields.
func (r Record) MarshalJSON() ([]byte, error) {
	flat := make(map[string]any, len(r.Fields)+6)
	maps.Copy(flat, r.Fields)
	flat["entity"], flat["uid"], flat["version"] = r.Entity, r.UID, r.Version
	flat["created_at"], flat["updated_at"] = r.CreatedAt.UTC(), r.UpdatedAt.UTC()
	if r.Deleted {
		flat["deleted"] = true
	}
	return json.Marshal(flat)
}

// Op is what a change does.
type Op string

// The ops. A deleted record stays as a tombstone.
const (
	Create Op = "create"
	Update Op = "update"
	Delete Op = "delete"
)

// Change is one edit of one record. The same OpID from the same device is carried out once, however often it comes.
type Change struct {
	OpID   string // unique per device; empty for an edit made on the server itself
	Entity string
	UID    string // chosen by who creates the record
	Op     Op
	Base   int    // the version that the editor saw; of no meaning for Create
	Fields Fields // as Entity.Decode returned them; nil for Delete
	At     time.Time
	Faults Faults // found before it got here: it is rejected with them, and nothing else is looked at
	// Exact is for an editor who is online and can be told: what would go to the review queue is Stale or Rejected
	// instead, and nothing of it is stored. Base must be the newest version, or the Create a new record or the same again.
	Exact bool
}

// Outcome is what became of a change.
type Outcome string

// The outcomes. Only Retry asks the sender to send it again.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Merged    Outcome = "merged"    // beside an edit of other fields that the sender had not seen
	Duplicate Outcome = "duplicate" // stored, but it seems to be somebody who is registered already: in the review queue
	Conflict  Outcome = "conflict"  // at least one field is in the review queue; the others are stored
	Rejected  Outcome = "rejected"  // not stored: the faults say why
	Retry     Outcome = "retry"     // not stored: the database had no time for it
	Stale     Outcome = "stale"     // not stored: an Exact change of what is another version, or another record, by now
)

// Result is the answer to one Change.
type Result struct {
	OpID     string   `json:"op_id,omitempty"`
	Entity   string   `json:"entity"`
	UID      string   `json:"uid"`
	Outcome  Outcome  `json:"outcome"`
	Version  int      `json:"version,omitempty"`   // of the record now
	Conflict []string `json:"conflict,omitempty"`  // the fields that are in the review queue
	Of       string   `json:"of,omitempty"`        // the uid of whom a Duplicate seems to be, or who has the national id
	Faults   Faults   `json:"faults,omitempty"`    // why it was Rejected
	Replayed bool     `json:"replayed,omitempty"`  // this is the answer given before to the same op_id
	Review   int64    `json:"review_id,omitempty"` // where a Conflict or Duplicate waits
}

// Actor is who makes a change, for the audit trail.
type Actor struct {
	Name   string // "device:tablet-7", "account:moana", "token:erp", "portal", "job:dedup"
	Device string // the id under which op ids are unique, empty when it is not a device
	// Areas are the islands that the actor may see and write; empty for all.
	Areas []string
}

// May says whether the actor may see and write records of an island.
func (a Actor) May(area string) bool { return len(a.Areas) == 0 || slices.Contains(a.Areas, area) }

// Revision is one entry of the audit trail: what a change did to a record.
type Revision struct {
	Version int            `json:"version"`
	Op      Op             `json:"op"`
	Actor   string         `json:"actor"`
	At      time.Time      `json:"at"`               // on the server
	Client  time.Time      `json:"client,omitzero"`  // as the device said
	Fields  map[string]Was `json:"fields,omitempty"` // what changed
}

// Was is one field before and after a change.
type Was struct {
	Old any `json:"old"`
	New any `json:"new"`
}

// Village is a place that people live in. Names repeat between islands, never on one. An island is an area: devices
// and their enumerators are assigned to islands.
type Village struct {
	Country string `json:"country"` // ISO 3166-1 alpha-3
	Island  string `json:"island"`
	Name    string `json:"name"`
}

// What a store answers besides success.
var (
	ErrNotFound = errors.New("no such record")
	ErrStale    = errors.New("somebody else has changed it meanwhile")
	ErrBusy     = errors.New("the registry is busy")
	ErrAway     = errors.New("the database does not answer")
)

// Today is the last day that has begun anywhere: dates up to it are not in the future. The day begins in the Pacific
// before it does in UTC.
func Today(now time.Time) time.Time { return now.Add(14 * time.Hour) }
