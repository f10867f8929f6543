package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/foresee/backtest"
	"tidemark/internal/show/web"
)

const (
	whatIfDays  = 7                // when nobody says
	whatIfLimit = 20 * time.Second // for one replay
)

// WhatIf replays the last of a fleet's journal with other numbers in the policy that stands in the file now. One at a time: the daemon
// has something else to do.
func (a *App) WhatIf(ctx context.Context, name string, days int, numbers map[string]string) (*web.WhatIf, error) {
	ctx, cancel := context.WithTimeout(ctx, whatIfLimit)
	defer cancel()
	select {
	case a.replaying <- struct{}{}:
		defer func() { <-a.replaying }()
	case <-ctx.Done():
		return nil, &web.Problem{Status: http.StatusServiceUnavailable, Detail: "others replay now: try again"}
	}
	data, err := os.ReadFile(a.path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	cfg, err := a.parsed(data)
	if err != nil {
		return nil, err
	}
	fleetOf := func(c *config.Config) int {
		return slices.IndexFunc(c.Fleets, func(f config.Fleet) bool { return f.Name == name })
	}
	if fleetOf(cfg) < 0 {
		return nil, control.ErrNoFleet
	}
	out := &web.WhatIf{Fleet: name, Days: days, Settings: []web.Setting{}}
	if days == 0 {
		out.Days = whatIfDays
	}
	settings := cfg.Settings(name)
	slices.SortFunc(settings, func(a, b config.Setting) int { return 1000*(a.Line-b.Line) + a.Column - b.Column })
	var edits []config.Edit
	for _, s := range settings {
		one := web.Setting{Path: s.Path, Of: about(&cfg.Fleets[fleetOf(cfg)], &s), Line: s.Line, Written: s.Text}
		if tried, ok := numbers[s.Path]; ok && strings.TrimSpace(tried) != s.Text {
			e, err := s.Try(tried)
			if err != nil {
				return nil, &web.Problem{Status: http.StatusUnprocessableEntity, Detail: err.Error()}
			}
			one.Tried = tried
			edits = append(edits, e)
		}
		out.Settings = append(out.Settings, one)
	}
	for path := range numbers {
		if !slices.ContainsFunc(settings, func(s config.Setting) bool { return s.Path == path }) {
			return nil, &web.Problem{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf("%q is no number in the policy of %s", path, name)}
		}
	}
	tried, err := a.parsed(config.Rewrite(data, edits))
	if err != nil {
		return nil, err
	}
	f := &tried.Fleets[fleetOf(tried)]
	now := time.Now()
	out.Replay, err = backtest.Replay{Name: "tried", Policy: &f.Policy, Tick: tried.Tick, Since: now.AddDate(0, 0, -out.Days), Until: now}.Run(ctx, a.journal)
	switch {
	case errors.Is(err, backtest.ErrNothing):
		out.Note = err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &web.Problem{Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf("a replay of %d days takes longer than %s here: ask for fewer, or say 'tidemark backtest'", out.Days, whatIfLimit)}
	case err != nil:
		return nil, err
	}
	return out, nil
}

// parsed reads a configuration's bytes; a Problem says what is wrong with them.
func (a *App) parsed(data []byte) (*config.Config, error) {
	cfg, problems := config.Parse(a.path, data, Catalog(), os.LookupEnv)
	if cfg == nil {
		return nil, &web.Problem{Status: http.StatusUnprocessableEntity, Detail: problems.Error()}
	}
	return cfg, nil
}

// about says what a setting is for.
func about(f *config.Fleet, s *config.Setting) string {
	p := &f.Policy
	switch {
	case s.Rule >= 0:
		r := &p.Policies[s.Policy].Rules[s.Rule]
		signal := &p.Signals[r.Signal]
		return fmt.Sprintf("%s: %s %s %s, %+d: %s", p.Policies[s.Policy].ID, signal.Name, r.Operator, signal.Unit.Format(r.Threshold), r.Change, s.Kind)
	case s.Policy >= 0:
		return fmt.Sprintf("%s: %s", p.Policies[s.Policy].ID, s.Kind)
	case s.Signal >= 0:
		return fmt.Sprintf("%s: %s", p.Signals[s.Signal].Name, s.Kind)
	}
	return s.Kind.String()
}
