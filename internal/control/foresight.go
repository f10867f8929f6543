package control

import (
	"context"
	"fmt"
	"time"

	"tidemark/internal/decide/forecast"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// foresight is what one forecast's policy has learned of the weeks before: from the journal when it begins, and from each tick
// after that. The state of the engine has none of it, so that a tick's record stays small.
type foresight struct {
	key     string
	policy  int // index of its policy
	profile *forecast.Profile
	err     error     // why the journal could not be read
	last    time.Time // tick
}

// learned is how far back the journal is asked: somewhat more than a profile remembers, in steps of five minutes.
const (
	learned       = 9 * 7 * 24 * time.Hour
	learnedPoints = int(learned / (5 * time.Minute))
)

// foresights fits them to the policies. What is still the same goes on; what is new learns from the journal.
func (r *runner) foresights(ctx context.Context, p *policy.Fleet) {
	old := r.foresee
	r.foresee = nil
	for i := range p.Policies {
		f := p.Policies[i].Forecast
		if f == nil {
			continue
		}
		now := foresight{policy: i, key: fmt.Sprintf("%s: %s, %v, %d weeks, %v", p.Policies[i].ID, p.Signals[f.Signal].Name, f.Lead, f.MinWeeks, r.opts.Zone)}
		for _, o := range old {
			if o.key == now.key && o.err == nil {
				now.profile, now.last = o.profile, o.last
			}
		}
		if now.profile == nil {
			now.learn(ctx, &r.opts, p, f)
		}
		r.foresee = append(r.foresee, now)
	}
}

// learn reads what the journal has. When it cannot be read the profile is learned from now on.
func (o *foresight) learn(ctx context.Context, opts *Options, p *policy.Fleet, f *policy.Forecast) {
	if o.profile, o.err = forecast.New(forecast.Config{MinWeeks: f.MinWeeks, Horizon: f.Lead}, opts.Zone); o.err != nil {
		return
	}
	now := opts.Clock.Wall()
	points, err := opts.Journal.Series(ctx, record.SeriesQuery{Fleet: p.Name, Signal: p.Signals[f.Signal].Name, Since: now.Add(-learned), Until: now, MaxPoints: learnedPoints})
	if err != nil {
		o.err = fmt.Errorf("read the weeks before: %w", err)
		return
	}
	step := record.StepOf(points)
	for _, point := range points {
		if end := point.Time.Add(step); point.N > 0 && !end.After(now) {
			o.profile.Observe(forecast.Sample{End: end, Span: step, Rate: point.Mean})
		}
	}
}

// outlook takes in this tick's readings and says what is expected.
func (r *runner) outlook(now time.Time) []forecast.Band {
	r.bands = r.bands[:0]
	for i := range r.foresee {
		o := &r.foresee[i]
		if o.profile == nil {
			r.bands = append(r.bands, forecast.Band{})
			continue
		}
		f := r.parts.Policy.Policies[o.policy].Forecast
		if span := now.Sub(o.last); !o.last.IsZero() && span <= 4*r.opts.Tick {
			if reading := r.readings[f.Signal]; reading.Quality == fleet.Fresh {
				o.profile.Observe(forecast.Sample{End: now, Span: span, Rate: reading.Value})
			}
		}
		o.last = now
		r.bands = append(r.bands, o.profile.At(now.Add(f.Lead)))
	}
	return r.bands
}
