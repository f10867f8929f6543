package backtest

import (
	"context"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/record"
)

// Histories answers with a signal's history.
type Histories interface {
	Series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error)
}

// Rate is the load that a fleet had, by the first of its signals that reads requests/s; nil when it has none.
func Rate(ctx context.Context, h Histories, f *config.Fleet, since, until time.Time) (*load.Series, []string, error) {
	probes, _ := foresee.Probes(f, foresee.Work{})
	for i, p := range probes {
		if p.Reads != sim.ArrivalRate {
			continue
		}
		name := f.Signals[i].Name
		points, err := h.Series(ctx, record.SeriesQuery{Fleet: f.Name, Signal: name, Since: since, Until: until, MaxPoints: 1_000_000})
		if err != nil {
			return nil, nil, err
		}
		return load.History("the journal's "+name, points)
	}
	return nil, nil, nil
}
