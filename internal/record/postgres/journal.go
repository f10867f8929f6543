package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/lead"
	"tidemark/internal/record"
	"tidemark/internal/record/tables"
)

// Options are what a daemon says of itself.
type Options struct {
	Holder string // how people know it: host and pid
	// Uptime counts on without jumps, also while the process is stopped or the machine suspended.
	Uptime func() time.Duration
	Log    func(line string)
	Spool  *Spool // nil: none
}

// Standby is a daemon that wants the lead.
type Standby struct {
	config   Config
	settings *pgx.ConnConfig
	opts     Options

	mu    sync.Mutex
	state string
}

// Stand prepares to take the lead; nothing is dialled.
func Stand(c Config, opts Options) (*Standby, error) {
	settings, err := parse(c)
	if err != nil {
		return nil, err
	}
	return &Standby{config: c, settings: settings, opts: opts, state: "it has not asked PostgreSQL yet"}, nil
}

// State is who leads, or why that is not known, in words.
func (s *Standby) State() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// tell keeps the state, and logs it when it has changed.
func (s *Standby) tell(state string) {
	s.mu.Lock()
	changed := state != s.state
	s.state = state
	s.mu.Unlock()
	if changed {
		s.opts.Log("standby: " + state)
	}
}

// seen is a look at who leads.
type seen struct {
	generation, written int64
	resigned            bool
	holder              string
}

// Lead waits until the lead is this daemon's, and returns the journal. While PostgreSQL does not answer nobody takes it: whoever leads has
// the time to come back.
func (s *Standby) Lead(ctx context.Context, keep record.Retention) (*Journal, error) {
	var conn *pgx.Conn
	defer func() { disconnect(conn) }()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var last seen
	var since time.Duration // by uptime, that nothing has changed
	migrated := false
	for {
		var now seen
		var err error
		if !migrated {
			err = s.migrate(ctx)
			migrated = err == nil
		}
		if err == nil {
			now, err = s.look(ctx, &conn)
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			since = 0
			s.tell(explain(err).Error())
		case since == 0 || now.generation != last.generation || now.written != last.written:
			last, since = now, s.opts.Uptime()
			if !now.resigned {
				s.tell(fmt.Sprintf("%s leads, generation %d", now.holder, now.generation))
			}
		}
		if err == nil && (now.resigned || s.opts.Uptime()-since >= patient) {
			j, err := s.take(ctx, now, keep)
			if err != nil {
				s.tell(explain(err).Error())
			}
			if j != nil {
				return j, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}

func (s *Standby) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	return migrate(ctx, s.settings, s.config.Schema)
}

func disconnect(conn *pgx.Conn) {
	if conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), poll)
		defer cancel()
		_ = conn.Close(ctx) // it only read
	}
}

// look asks who leads, on one connection as long as that answers.
func (s *Standby) look(ctx context.Context, conn **pgx.Conn) (now seen, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*poll)
	defer cancel()
	if *conn == nil {
		if *conn, err = pgx.ConnectConfig(ctx, s.settings); err != nil {
			*conn = nil
			return now, err
		}
	}
	err = (*conn).QueryRow(ctx, "SELECT generation, written, resigned, holder FROM lead").Scan(&now.generation, &now.written, &now.resigned, &now.holder)
	if err != nil {
		disconnect(*conn)
		*conn = nil
	}
	return now, err
}

// take tries to take the lead; nil: it is another's.
func (s *Standby) take(ctx context.Context, from seen, keep record.Retention) (*Journal, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w := newWriter(s.settings, s.config.Schema, s.opts.Uptime)
	taken, err := w.take(ctx, from, s.opts.Holder)
	if err != nil || !taken {
		w.term.Depose(errGivenUp)
		w.drop()
		_ = w.readers.Close() // nothing was asked
		return nil, err
	}
	s.opts.Log(fmt.Sprintf("standby: this daemon leads, generation %d", w.generation))
	j := &Journal{Journal: tables.New(w, w.readers, keep), term: w.term, generation: w.generation, spool: s.opts.Spool, ended: make(chan struct{})}
	go j.beat()
	if err := s.catchUp(j); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// catchUp takes in the spool.
func (s *Standby) catchUp(j *Journal) error {
	if s.opts.Spool == nil {
		return nil
	}
	taken, left, err := s.opts.Spool.catchUp(context.Background(), j.Journal, s.opts.Log)
	if taken+left > 0 {
		s.opts.Log(fmt.Sprintf("standby: of what PostgreSQL could not take earlier, %d ticks are recorded now; %d are recorded already or out of date", taken, left))
	}
	return err
}

// Journal is the journal of a leader. Its methods may be called at the same time. Once another daemon leads, nothing can be written any
// more: each commit's error is record.ErrDeposed.
type Journal struct {
	*tables.Journal
	term       *lead.Term
	generation int64
	spool      *Spool
	ended      chan struct{} // closed when beat has ended
}

// beat proves the lead while nothing is committed.
func (j *Journal) beat() {
	defer close(j.ended)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-j.term.Deposed():
			return
		case <-ticker.C:
			_ = j.Commit(context.Background()) // nothing but the proof; if it cannot be, that shows when something is done
		}
	}
}

// Lead proves, by a transaction, that this daemon leads, and returns a context that ends when that can no longer be vouched for.
func (j *Journal) Lead(ctx context.Context) (context.Context, error) {
	if err := j.Commit(ctx); err != nil {
		return nil, err
	}
	return j.term.During(ctx), j.term.Held()
}

// Held returns nil while nobody else can have the lead, and else why that is not known. It asks nobody.
func (j *Journal) Held() error { return j.term.Held() }

// Deposed is closed when the lead is gone for good.
func (j *Journal) Deposed() <-chan struct{} { return j.term.Deposed() }

// Close gives the lead up after the transaction that runs. Commits that still wait get tables.ErrClosed.
func (j *Journal) Close() error {
	err := j.Journal.Close()
	<-j.ended
	if j.spool != nil {
		err = errors.Join(err, j.spool.close())
	}
	return err
}
