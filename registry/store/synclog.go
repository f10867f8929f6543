package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"tidemark/registry"
)

// SyncEntry is what one request of a device's synchronisation came to. It holds nothing of what was sent but ids.
type SyncEntry struct {
	Device   string                   `json:"device"`
	At       time.Time                `json:"at"`
	Took     time.Duration            `json:"took_ns"`
	Op       string                   `json:"op"` // push or pull
	Batch    string                   `json:"batch_id,omitempty"`
	App      string                   `json:"app,omitempty"`      // User-Agent
	Protocol int                      `json:"protocol,omitempty"` // 0 when it was not said
	Schema   int                      `json:"schema_version,omitempty"`
	Status   int                      `json:"status"`            // of the answer
	Problem  string                   `json:"problem,omitempty"` // why it was refused
	Received int64                    `json:"received"`          // bytes of the body, compressed as it came
	Sent     int64                    `json:"sent"`              // bytes of the answer, likewise
	Outcomes map[registry.Outcome]int `json:"outcomes"`          // of changes; answers given again are also counted as Replayed
	Records  int                      `json:"records"`           // sent, tombstones too
	More     bool                     `json:"more"`              // another page was to come
}

// Replayed counts, among a SyncEntry's outcomes, the changes that had been carried out before.
const Replayed registry.Outcome = "replayed"

const (
	// keepSyncLog is how long the log tells about a device's synchronisations.
	keepSyncLog = 90 * 24 * time.Hour
	// keepOps is how long the answer to an op id is remembered. A device that sends a change again after that, and
	// synchronised in between, has it carried out as a new one.
	keepOps = 400 * 24 * time.Hour
)

// LogSync keeps an entry, and whether the device's synchronisation goes on when it was a success. What is too old of the
// device's entries and answers to op ids is forgotten.
func (s *Store) LogSync(ctx context.Context, e SyncEntry) error {
	outcomes, err := json.Marshal(e.Outcomes)
	if err != nil {
		return err
	}
	done := e.At.Add(e.Took)
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if e.Status < 300 {
			if err := s.seen(ctx, tx, done, e.Device, e.More); err != nil {
				return err
			}
		}
		if _, err := s.exec(ctx, tx, `INSERT INTO sync_log (device, at, took, op, batch_id, app, protocol, schema_version, status, problem, received, sent, outcomes, records, more)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, e.Device, millis(e.At), e.Took.Milliseconds(), e.Op, e.Batch, e.App, e.Protocol, e.Schema, e.Status,
			e.Problem, e.Received, e.Sent, string(outcomes), e.Records, e.More); err != nil {
			return err
		}
		if _, err := s.exec(ctx, tx, "DELETE FROM sync_log WHERE device = ? AND at < ?", e.Device, millis(done.Add(-keepSyncLog))); err != nil {
			return err
		}
		_, err := s.exec(ctx, tx, "DELETE FROM op WHERE device = ? AND at < ?", e.Device, millis(done.Add(-keepOps)))
		return err
	})
	if err != nil {
		return fmt.Errorf("log a synchronisation: %w", err)
	}
	return nil
}

// SyncLog returns the newest entries of a device, or of all when device is empty, newest first.
func (s *Store) SyncLog(ctx context.Context, device string, limit int) ([]SyncEntry, error) {
	all := []SyncEntry{}
	where, args := "", []any{limit}
	if device != "" {
		where, args = "WHERE device = ? ", []any{device, limit}
	}
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		var e SyncEntry
		var at, took int64
		var outcomes string
		if err := rows.Scan(&e.Device, &at, &took, &e.Op, &e.Batch, &e.App, &e.Protocol, &e.Schema, &e.Status, &e.Problem, &e.Received, &e.Sent, &outcomes, &e.Records, &e.More); err != nil {
			return err
		}
		e.At, e.Took = fromMillis(at), time.Duration(took)*time.Millisecond
		if err := json.Unmarshal([]byte(outcomes), &e.Outcomes); err != nil {
			return fmt.Errorf("the outcomes of a synchronisation: %w", err)
		}
		all = append(all, e)
		return nil
	}, "SELECT device, at, took, op, batch_id, app, protocol, schema_version, status, problem, received, sent, outcomes, records, more FROM sync_log "+where+"ORDER BY id DESC LIMIT ?", args...)
	if err != nil {
		return nil, fmt.Errorf("read the log of synchronisations: %w", s.explain(err))
	}
	return all, nil
}
