package sqlite

import (
	"context"
	"fmt"
	"time"

	"tidemark/internal/record/tables"
)

// freeMost is how many pages are given back at once.
const freeMost = 100

// Maintain rolls up readings, deletes what is older than the retention allows, and, when the file is larger than MaxBytes,
// the oldest raw readings first, then the oldest of the roll-ups, then of the decisions and events. The latest decision and
// the state of each fleet always stay. Call it every minute or so; it works in small transactions between the commits and
// can be given up at any time. The size does not count the write-ahead log, which is a few megabytes.
func (j *Journal) Maintain(ctx context.Context, now time.Time) error {
	if err := j.Journal.Maintain(ctx, now); err != nil {
		return err
	}
	return j.shrink(ctx)
}

// size is the file's: its pages, those of them that are free, and what a page takes.
type size struct{ pages, free, page int64 }

func (s size) file() int64 { return s.pages * s.page }
func (s size) used() int64 { return (s.pages - s.free) * s.page }

func (j *Journal) size(ctx context.Context) (s size, err error) {
	const query = "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
	return s, j.Explain(j.DB.QueryRowContext(ctx, query).Scan(&s.pages, &s.free, &s.page))
}

// shrink brings the file below MaxBytes, and gives free pages back to the disk when there are many.
func (j *Journal) shrink(ctx context.Context) error {
	s, err := j.size(ctx)
	if err != nil {
		return err
	}
	tooLarge := s.file() > j.MaxBytes()
	for tooLarge && s.used() > j.MaxBytes()-j.MaxBytes()/16 { // some slack, so that it is not done each minute
		left, err := j.CutOldest(ctx)
		if err != nil {
			return err
		}
		if !left {
			break
		}
		if s, err = j.size(ctx); err != nil {
			return err
		}
	}
	if !tooLarge && s.free < s.pages/4 {
		return nil
	}
	return j.Each(ctx, []int64{0}, func(ctx context.Context, w *tables.Writer, _ int64) (bool, error) {
		var before, after int64
		err := w.Get(ctx, "PRAGMA freelist_count", nil, &before)
		if err == nil {
			_, err = w.Conn().ExecContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", freeMost))
		}
		if err == nil {
			err = w.Get(ctx, "PRAGMA freelist_count", nil, &after)
		}
		return after == 0 || after == before, err
	})
}
