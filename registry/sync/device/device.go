// Package device is an enumerator's device as the registry sees it: a local copy of the records on its islands, an outbox
// of changes made offline, and the exchange that docs/registry-sync.md describes. It is what an app does without its
// screens, for tests, benchmarks and load tests.
package device

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"tidemark/registry"
	"tidemark/registry/coding"
)

// Options say how a device reaches its registry.
type Options struct {
	Client *http.Client // http.DefaultClient when nil
	URL    string       // of the registry, such as http://127.0.0.1:8069
	Token  string       // empty for a registry that is open
	ID     string       // the device that the token is for
	Coding string       // of bodies, both ways: zstd, gzip, or empty for none
	Batch  int          // changes in a batch; 100 when 0
}

const (
	protocol, schema = 1, 1 // that this app speaks

	// A batch holds a worker, which serves nobody else meanwhile; 100 changes take it a tenth of a second, and cost a slow link
	// a few seconds a day in round trips.
	batchSize = 100
	maxAnswer = 64 << 20 // bytes of an answer, decoded
)

// Device is used by one goroutine at a time.
type Device struct {
	Options
	records map[string]Record // as the registry told last
	outbox  []Change
	sending string // the id of the batch that is not answered yet, empty for none
	inBatch int    // how many of the outbox are in it
	cursor  string

	// Answered are the answers that ask for somebody's attention: conflict, duplicate and rejected.
	Answered []registry.Result
	// Sent and Received are the bytes of all bodies so far, as they went over the wire.
	Sent, Received int64
}

// New returns a device that knows nothing yet.
func New(o Options) *Device {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Batch == 0 {
		o.Batch = batchSize
	}
	return &Device{Options: o, records: map[string]Record{}}
}

// Record is a local copy.
type Record struct {
	Entity  string
	UID     string
	Version int
	Fields  map[string]any // as JSON has them
}

// UnmarshalJSON reads a record as the registry writes it.
func (r *Record) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, &r.Fields); err != nil {
		return err
	}
	var head struct {
		Entity  string `json:"entity"`
		UID     string `json:"uid"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return err
	}
	r.Entity, r.UID, r.Version = head.Entity, head.UID, head.Version
	for _, name := range []string{"entity", "uid", "version", "created_at", "updated_at"} {
		delete(r.Fields, name)
	}
	return nil
}

// Change is one edit in the outbox, as it is sent.
type Change struct {
	OpID   string         `json:"op_id"`
	Entity string         `json:"entity"`
	UID    string         `json:"client_uuid"`
	Op     registry.Op    `json:"op"`
	Base   int            `json:"base_version,omitempty"`
	Fields map[string]any `json:"fields,omitzero"`
	At     time.Time      `json:"client_time"`
}

// Records are the local copies by uid, as the registry told last: without what is in the outbox.
func (d *Device) Records() map[string]Record { return d.records }

// Outbox is what the registry has not answered yet. It must not be changed.
func (d *Device) Outbox() []Change { return d.outbox }

// Create makes a record and returns its uid.
func (d *Device) Create(entity string, fields map[string]any) (uid string) {
	uid = registry.NewUID()
	d.add(Change{Entity: entity, UID: uid, Op: registry.Create, Fields: fields})
	return uid
}

// Update changes fields of a record; nil empties one. Delete deletes it. The record is one that the device has a copy
// of, or has made itself.
func (d *Device) Update(entity, uid string, fields map[string]any) {
	d.add(Change{Entity: entity, UID: uid, Op: registry.Update, Base: d.base(uid), Fields: fields})
}

// Delete: see Update.
func (d *Device) Delete(entity, uid string) {
	d.add(Change{Entity: entity, UID: uid, Op: registry.Delete, Base: d.base(uid)})
}

// base is the version that an edit starts from.
func (d *Device) base(uid string) int { return max(d.records[uid].Version, 1) }

func (d *Device) add(c Change) {
	c.OpID, c.At = registry.NewUID(), time.Now().UTC().Truncate(time.Second)
	d.outbox = append(d.outbox, c)
}

// Refusal is an answer other than 200. With a 429 or 503 the same is to be tried again after Retry.
type Refusal struct {
	Status int    `json:"-"`
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Pointer string `json:"pointer"` // into the batch
		Detail  string `json:"detail"`
	} `json:"errors"`
	Retry time.Duration `json:"-"`
}

func (r *Refusal) Error() string {
	text := fmt.Sprintf("the registry answers %d %s: %s", r.Status, r.Title, r.Detail)
	for _, e := range r.Errors {
		text += fmt.Sprintf("; %s %s", e.Pointer, e.Detail)
	}
	return text
}

// answer is what both requests bring.
type answer struct {
	Results    []registry.Result `json:"results"`
	Changes    []Record          `json:"changes"`
	Tombstones []struct {
		UID string `json:"uid"`
	} `json:"tombstones"`
	NextCursor string `json:"next_cursor"`
	HasMore    bool   `json:"has_more"`
}

// Sync pushes the outbox batch by batch and pulls until there is no more. With an error, whatever it is, nothing is lost
// and nothing done twice when it is called again.
func (d *Device) Sync(ctx context.Context) error {
	more := true
	for len(d.outbox) > 0 {
		before := len(d.outbox)
		var err error
		if more, err = d.push(ctx); err != nil {
			return err
		}
		if len(d.outbox) == before {
			return errors.New("the registry has no time for any change: synchronise again later")
		}
	}
	for more {
		var err error
		if more, err = d.pull(ctx); err != nil {
			return err
		}
	}
	return nil
}

// push sends one batch, the same again if that one has not been answered, and takes in what comes back.
func (d *Device) push(ctx context.Context) (more bool, err error) {
	if d.sending == "" {
		d.sending, d.inBatch = registry.NewUID(), min(len(d.outbox), d.Batch)
	}
	body, err := json.Marshal(struct {
		Protocol int      `json:"protocol"`
		Schema   int      `json:"schema_version"`
		Device   string   `json:"device_id"`
		Batch    string   `json:"batch_id"`
		Cursor   string   `json:"cursor"`
		Changes  []Change `json:"changes"`
	}{protocol, schema, d.ID, d.sending, d.cursor, d.outbox[:d.inBatch]})
	if err != nil {
		return false, err
	}
	a, err := d.exchange(ctx, http.MethodPost, "", body)
	if err != nil {
		return false, err
	}
	if len(a.Results) != d.inBatch {
		return false, fmt.Errorf("the registry answers %d changes of %d", len(a.Results), d.inBatch)
	}
	rest := d.outbox[:0:0]
	for i, c := range d.outbox[:d.inBatch] {
		switch r := a.Results[i]; r.Outcome {
		case registry.Retry:
			rest = append(rest, c)
		case registry.Conflict, registry.Duplicate, registry.Rejected:
			d.Answered = append(d.Answered, r)
		}
	}
	d.outbox, d.sending = append(rest, d.outbox[d.inBatch:]...), ""
	d.take(a)
	return a.HasMore, nil
}

func (d *Device) pull(ctx context.Context) (more bool, err error) {
	query := url.Values{}
	if d.cursor != "" {
		query.Set("cursor", d.cursor)
	}
	if d.Token == "" {
		query.Set("device_id", d.ID)
	}
	a, err := d.exchange(ctx, http.MethodGet, "?"+query.Encode(), nil)
	if err != nil {
		return false, err
	}
	d.take(a)
	return a.HasMore, nil
}

// take brings the local copies up to date.
func (d *Device) take(a answer) {
	for _, r := range a.Changes {
		d.records[r.UID] = r
	}
	for _, t := range a.Tombstones {
		delete(d.records, t.UID)
	}
	d.cursor = a.NextCursor
}

// exchange makes one request. A cursor that is not taken any more is forgotten, and the copies with it: the next Sync
// fetches all of them.
func (d *Device) exchange(ctx context.Context, method, query string, body []byte) (a answer, err error) {
	sent, err := coding.Encode(d.Coding, body)
	if err != nil {
		return a, err
	}
	r, err := http.NewRequestWithContext(ctx, method, d.URL+"/api/mobile/sync"+query, bytes.NewReader(sent))
	if err != nil {
		return a, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		if d.Coding != "" {
			r.Header.Set("Content-Encoding", d.Coding)
		}
	} else {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.Header.Set("Accept-Encoding", d.Coding) // set in any case, or net/http asks for gzip by itself
	r.Header.Set("User-Agent", "registry-device/1")
	if d.Token != "" {
		r.Header.Set("Authorization", "Bearer "+d.Token)
	}
	d.Sent += int64(len(sent))
	resp, err := d.Client.Do(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	wire := &counter{r: resp.Body}
	defer func() { d.Received += wire.n }()
	plain, err := coding.NewReader(resp.Header.Get("Content-Encoding"), wire, maxAnswer)
	if err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	defer plain.Close()
	text, err := io.ReadAll(plain)
	if err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		refusal := &Refusal{Title: http.StatusText(resp.StatusCode)}
		_ = json.Unmarshal(text, refusal) // a proxy's own answer is no document
		refusal.Status, refusal.Retry = resp.StatusCode, time.Duration(seconds)*time.Second
		if refusal.Type == startAnew {
			d.cursor, d.records = "", map[string]Record{}
		}
		return a, refusal
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	return a, nil
}

const startAnew = "urn:registry:problem:cursor"

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// List returns the local copies of an entity by uid.
func (d *Device) List(entity string) []Record {
	var all []Record
	for _, r := range d.records {
		if r.Entity == entity {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Record) int { return bytes.Compare([]byte(a.UID), []byte(b.UID)) })
	return all
}
