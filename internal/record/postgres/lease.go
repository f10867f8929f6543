package postgres

import (
	"errors"
	"fmt"
	"time"

	"tidemark/internal/record"
)

// The times of the lead (package lead). A leader proves it with every transaction, at least every beat. Whoever wants it has seen no
// transaction for patient.
//
//	leader   ──tx──tx──tx──✗ frozen, or cut off
//	                   │◄── validity ──►│ acts no more
//	standby            └►│◄──── patient ────►│ takes the lead, if the lock is free and no transaction came
//	server             │◄───── silence ──────►│ ends the leader's session, and frees the lock
const (
	beat     = 2 * time.Second
	validity = 6 * time.Second
	patient  = validity + time.Second
	silence  = 8 * time.Second // from the last statement on
	poll     = time.Second     // between two looks of a standby
	patience = 5 * time.Second // for an answer
)

// errLapsed: PostgreSQL did not confirm the lead for longer than validity. The fleet stays as it is until it does.
var errLapsed = errors.New("journal: PostgreSQL does not confirm that this daemon leads: the fleet is held as it is")

var errGivenUp = fmt.Errorf("%w: it was given up", record.ErrDeposed)
