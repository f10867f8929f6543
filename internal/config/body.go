package config

import "errors"

// Body is an adapter's own configuration: a pointer to a struct with `yaml` tags, filled with defaults by whoever
// makes it. Validate is pure: it opens nothing and dials nothing. It returns all problems at once, as FieldErrors joined by
// errors.Join, so that each is shown at its own line and column.
type Body interface {
	Validate() error
}

// FieldError is one problem of a Body: which field (the yaml names from the body inwards, joined by dots), what is
// wrong with it, and what to write instead.
type FieldError struct {
	Field string
	Msg   string // "is 0 workers", "has no unit"
	Fix   string // "write 400ms"
}

func (e *FieldError) Error() string {
	s := e.Msg
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// FieldErrors collects the problems of a Body. The zero value is ready.
type FieldErrors struct{ errs []error }

// Add notes one problem.
func (f *FieldErrors) Add(field, msg, fix string) {
	f.errs = append(f.errs, &FieldError{Field: field, Msg: msg, Fix: fix})
}

// Err is nil when nothing was added.
func (f *FieldErrors) Err() error { return errors.Join(f.errs...) }
