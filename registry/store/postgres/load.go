package postgres

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/errgroup"

	"tidemark/registry/store"
)

// load writes each table by COPY on a connection and in a transaction of its own, all at the same time. What makes it
// quick: the indexes are built at the end, from all rows at once; and rows of a table that was emptied in the same
// transaction are written as if they had been there for long (FREEZE).
func load(ctx context.Context, db *sql.DB, tables []store.Table, rows iter.Seq2[int, []any]) error {
	if most := db.Stats().MaxOpenConnections; most > 0 && most < len(tables) {
		db.SetMaxOpenConns(len(tables))
		defer db.SetMaxOpenConns(most)
	}
	group, ctx := errgroup.WithContext(ctx)
	streams := make([]*stream, len(tables))
	for i, t := range tables {
		s := &stream{full: make(chan []byte, 2), columns: len(t.Columns)}
		s.begin()
		streams[i] = s
		group.Go(func() error {
			if err := fill(ctx, db, t, s); err != nil {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
			return nil
		})
	}
	for i, row := range rows {
		if err := streams[i].add(ctx, row); err != nil {
			group.Go(func() error { return err }) // unless it has a better reason already
			break
		}
	}
	for _, s := range streams {
		s.end(ctx)
	}
	return group.Wait()
}

// fill copies a stream into a table.
func fill(ctx context.Context, db *sql.DB, t store.Table, from *stream) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // back to the pool
	return conn.Raw(func(driver any) error {
		return pgx.BeginFunc(ctx, driver.(*stdlib.Conn).Conn(), func(tx pgx.Tx) error {
			for _, command := range []string{
				"SET LOCAL statement_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0", // a slow seed is no accident
				"SET LOCAL maintenance_work_mem = '256MB'",
				"LOCK TABLE " + t.Name + " IN ACCESS EXCLUSIVE MODE",
			} {
				if _, err := tx.Exec(ctx, command); err != nil {
					return err
				}
			}
			var some bool
			if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM "+t.Name+")").Scan(&some); err != nil || some {
				if some {
					err = fmt.Errorf("it is not empty")
				}
				return err
			}
			rebuild, err := dropIndexes(ctx, tx, t.Name)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "TRUNCATE "+t.Name); err != nil {
				return err
			}
			if _, err := tx.Conn().PgConn().CopyFrom(ctx, from, "COPY "+t.Name+" ("+strings.Join(t.Columns, ", ")+") FROM STDIN (FORMAT binary, FREEZE)"); err != nil {
				return err
			}
			for _, command := range append(rebuild, "ANALYZE "+t.Name) {
				if _, err := tx.Exec(ctx, command); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// dropIndexes drops a table's indexes, those of its constraints too, and returns what makes them again.
func dropIndexes(ctx context.Context, tx pgx.Tx, table string) (rebuild []string, err error) {
	rows, err := tx.Query(ctx, `SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), coalesce(quote_ident(c.conname), ''), coalesce(pg_get_constraintdef(c.oid), '')
		FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u')
		WHERE i.indrelid = '`+table+`'::regclass ORDER BY i.indexrelid`)
	if err != nil {
		return nil, err
	}
	var drop []string
	var index, definition, constraint, rule string
	_, err = pgx.ForEachRow(rows, []any{&index, &definition, &constraint, &rule}, func() error {
		if constraint == "" {
			drop, rebuild = append(drop, "DROP INDEX "+index), append(rebuild, definition)
			return nil
		}
		drop = append(drop, "ALTER TABLE "+table+" DROP CONSTRAINT "+constraint)
		rebuild = append(rebuild, "ALTER TABLE "+table+" ADD CONSTRAINT "+constraint+" "+rule)
		return nil
	})
	for _, command := range drop {
		if err == nil {
			_, err = tx.Exec(ctx, command)
		}
	}
	return rebuild, err
}

// stream writes rows in COPY's binary format (PostgreSQL manual, COPY, "Binary Format"), for a reader beside the writer.
type stream struct {
	full    chan []byte
	columns int
	next    []byte // written
	rest    []byte // read
}

const streamed = 128 << 10 // bytes that are handed over at once

func (s *stream) begin() {
	s.next = append(make([]byte, 0, streamed+4096), "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
}

// add writes a row.
func (s *stream) add(ctx context.Context, row []any) error {
	b := binary.BigEndian.AppendUint16(s.next, uint16(s.columns))
	for _, v := range row {
		switch v := v.(type) {
		case nil:
			b = binary.BigEndian.AppendUint32(b, math.MaxUint32)
		case string:
			b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
			b = append(b, v...)
		case int64:
			b = binary.BigEndian.AppendUint32(b, 8)
			b = binary.BigEndian.AppendUint64(b, uint64(v))
		case int:
			b = binary.BigEndian.AppendUint32(b, 8)
			b = binary.BigEndian.AppendUint64(b, uint64(v))
		case float64:
			b = binary.BigEndian.AppendUint32(b, 8)
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
		case bool:
			b = binary.BigEndian.AppendUint32(b, 1)
			if v {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		default:
			return fmt.Errorf("a value of the type %T cannot be loaded", v)
		}
	}
	if s.next = b; len(b) < streamed {
		return nil
	}
	return s.hand(ctx)
}

// hand gives what is written to the reader.
func (s *stream) hand(ctx context.Context) error {
	select {
	case s.full <- s.next:
		s.next = make([]byte, 0, streamed+4096)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end tells the reader that there is no more.
func (s *stream) end(ctx context.Context) {
	s.next = binary.BigEndian.AppendUint16(s.next, math.MaxUint16)
	_ = s.hand(ctx) // when the reader has gone there is nobody to tell
	close(s.full)
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		next, ok := <-s.full
		if !ok {
			return 0, io.EOF
		}
		s.rest = next
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
