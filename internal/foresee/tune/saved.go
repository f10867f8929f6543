package tune

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tidemark/internal/atomicfile"
)

// Outcome is what a search came to, and when: it is kept for the month's report.
type Outcome struct {
	Made time.Time `json:"made"`
	*Result
}

// fileOf is where a fleet's latest outcome is kept, in the folder of reports.
func fileOf(dir, fleet string) string { return filepath.Join(dir, "tune-"+fleet+".json") }

// Save keeps an outcome as its fleet's latest. One that was interrupted was not validated, and is not kept.
func Save(dir string, o Outcome) error {
	if o.Interrupted {
		return nil
	}
	text, err := json.Marshal(o)
	if err == nil {
		err = atomicfile.Write(fileOf(dir, o.Fleet), text, 0o644, nil)
	}
	if err != nil {
		return fmt.Errorf("keep the outcome for the month's report: %w", err)
	}
	return nil
}

// Saved is a fleet's latest outcome; nil when there is none.
func Saved(dir, fleet string) (*Outcome, error) {
	text, err := os.ReadFile(fileOf(dir, fleet))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	o := &Outcome{}
	if err == nil {
		err = json.Unmarshal(text, o)
	}
	if err == nil && (o.Result == nil || o.Fleet != fleet || o.Present.HoldOut == nil || o.Recommended != nil && o.Recommended.HoldOut == nil) {
		err = errors.New("it is no outcome of 'tidemark tune'")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; run 'tidemark tune' again", fileOf(dir, fleet), err)
	}
	return o, nil
}
