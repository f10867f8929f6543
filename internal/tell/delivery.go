package tell

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/alert"
)

// Delivery is what an operator may say of every channel that sends messages. A channel's Config has it inline.
type Delivery struct {
	Severity alert.Severity `yaml:"severity"` // the least that is told here
	Repeat   time.Duration  `yaml:"repeat"`   // between reminders of what is still the case; 0: none
	Digest   Digest         `yaml:"digest"`
	Spool    Limits         `yaml:"spool"`
}

// Digest makes one message of many that wait. They are delivered in order all the same: only those of one period that
// stand together become one.
type Digest struct {
	Over   int           `yaml:"over"`   // so many may wait and still be sent one by one; 0: always one by one
	Period time.Duration `yaml:"period"` // counted from the local midnight
}

// Limits bound what waits on disk. When they are reached a message gives way that a newer one about the same thing follows,
// the oldest first; where there is none, the oldest of all. How many went is counted, and told as soon as anything can be.
type Limits struct {
	Messages int   `yaml:"messages"`
	MaxBytes int64 `yaml:"max_size,bytes"`
}

// DefaultDelivery is what holds where the operator wrote nothing. One mail in the morning says what 200 would: days
// without a link become one mail each.
func DefaultDelivery() Delivery {
	return Delivery{
		Severity: alert.Info, Repeat: 6 * time.Hour,
		Digest: Digest{Over: 3, Period: 24 * time.Hour},
		Spool:  Limits{Messages: 2000, MaxBytes: 8 << 20},
	}
}

// Check adds its problems to those of the Config that it is part of.
func (d *Delivery) Check(errs *config.FieldErrors) {
	if d.Repeat != 0 && (d.Repeat < time.Minute || d.Repeat > 30*24*time.Hour) {
		errs.Add("repeat", fmt.Sprintf("%v is not between 1m and 30d", d.Repeat), "write for example 6h, or 0s for no reminders")
	}
	if d.Digest.Over < 0 || d.Digest.Over > 1000 {
		errs.Add("digest.over", fmt.Sprintf("%d is not between 0 and 1000", d.Digest.Over), "write for example 3, or 0 for no digests")
	}
	if p := d.Digest.Period; p < 10*time.Minute || p > 24*time.Hour || 24*time.Hour%p != 0 {
		errs.Add("digest.period", fmt.Sprintf("%v does not divide a day into periods of 10m or more", p), "write for example 24h, 12h or 1h")
	}
	if d.Spool.Messages < 10 || d.Spool.Messages > 100_000 {
		errs.Add("spool.messages", fmt.Sprintf("%d is not between 10 and 100000", d.Spool.Messages), "write for example 2000")
	}
	if d.Spool.MaxBytes < 1<<20 || d.Spool.MaxBytes > 1<<30 {
		errs.Add("spool.max_size", fmt.Sprintf("%d bytes are not between 1MiB and 1GiB", d.Spool.MaxBytes), "write for example 8MiB")
	}
}

// CheckTimeout adds a problem if t is no sensible time-out of one attempt.
func CheckTimeout(errs *config.FieldErrors, t time.Duration) {
	if t < time.Second || t > 5*time.Minute {
		errs.Add("timeout", fmt.Sprintf("%v is not between 1s and 5m", t), "write for example 30s")
	}
}

// Secret is a password or a key: value if it is written (with ${NAME}, from the environment), else what stands in file, without
// the line's end. The file is read at each use, so that a new secret needs no restart.
func Secret(value, file string) (string, error) {
	if value != "" || file == "" {
		return value, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	defer f.Close()
	const most = 4096
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read the secret: %w", err)
	case len(b) > most:
		return "", fmt.Errorf("read the secret: %s holds more than %d bytes, so it is no secret", file, most)
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return "", fmt.Errorf("read the secret: %s is empty", file)
	}
	return s, nil
}
