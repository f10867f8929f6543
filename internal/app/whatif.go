package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
// has something else to do. With numbers that cannot stand there the settings come beside the error.
func (a *App) WhatIf(ctx context.Context, name string, days int, numbers map[string]string) (*web.WhatIf, error) {
	ctx, cancel := context.WithTimeout(ctx, whatIfLimit)
	defer cancel()
	select {
	case a.replaying <- struct{}{}:
		defer func() { <-a.replaying }()
	case <-ctx.Done():
		return nil, &web.Problem{Status: http.StatusServiceUnavailable, Detail: "others replay now: try again"}
	}
	a.mu.Lock()
	elsewhere := a.cfg.FromCluster(name)
	a.mu.Unlock()
	if elsewhere {
		return nil, &web.Problem{Status: http.StatusUnprocessableEntity, Detail: name + " is a ScalingPolicy: only the numbers of the daemon's own file can be tried here"}
	}
	data, err := os.ReadFile(a.path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	cfg, err := a.parsed(data)
	if err != nil {
		return nil, err
	}
	at := fleetAt(cfg, name)
	if at < 0 {
		return nil, control.ErrNoFleet
	}
	out := &web.WhatIf{Fleet: name, Days: cmp.Or(days, whatIfDays), Settings: []web.Setting{}}
	settings := cfg.Settings(name)
	slices.SortFunc(settings, func(a, b config.Setting) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	var edits []config.Edit
	var wrong error
	for _, s := range settings {
		one := web.Setting{Path: s.Path, Of: s.About(&cfg.Fleets[at].Policy), Line: s.Line, Written: s.Text}
		if tried, ok := numbers[s.Path]; ok && strings.TrimSpace(tried) != s.Text {
			one.Tried = tried
			e, err := s.Try(tried)
			wrong = cmp.Or(wrong, err)
			edits = append(edits, e)
		}
		out.Settings = append(out.Settings, one)
	}
	for _, path := range slices.Sorted(maps.Keys(numbers)) {
		if !slices.ContainsFunc(settings, func(s config.Setting) bool { return s.Path == path }) {
			wrong = cmp.Or(wrong, fmt.Errorf("%q is no number in the policy of %s", path, name))
		}
	}
	if wrong != nil {
		return out, &web.Problem{Status: http.StatusUnprocessableEntity, Detail: wrong.Error()}
	}
	tried, err := a.parsed(config.Rewrite(data, edits))
	if err != nil {
		return out, err
	}
	f := &tried.Fleets[at]
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

// fleetAt is where a fleet stands in a configuration; -1: nowhere.
func fleetAt(c *config.Config, name string) int {
	return slices.IndexFunc(c.Fleets, func(f config.Fleet) bool { return f.Name == name })
}

// parsed reads a configuration's bytes; a Problem says what is wrong with them.
func (a *App) parsed(data []byte) (*config.Config, error) {
	cfg, problems := config.Parse(a.path, data, Catalog(), os.LookupEnv)
	if cfg == nil {
		return nil, &web.Problem{Status: http.StatusUnprocessableEntity, Detail: problems.Error()}
	}
	return cfg, nil
}
