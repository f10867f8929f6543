package dashboard

import (
	"context"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/backtest"
	"tidemark/internal/show/foresight"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

// tried is what the page about other numbers shows.
type tried struct {
	*web.WhatIf
	Wrong   string // why the numbers cannot be tried
	Chart   template.HTML
	Changes []change
	More    int // that are not listed
}

// change is one of size, in the replay or in the journal.
type change struct {
	backtest.Difference
	Verdict, Size, Why string
	Otherwise          bool
}

// setPrefix begins the names of the form's numbers.
const setPrefix = "set:"

// whatIf shows what a policy would have decided with other numbers. The form asks for the same page, so that it can be kept as a bookmark.
func (s *Site) whatIf(ctx context.Context, r *http.Request) (*page, error) {
	name, q := r.PathValue("fleet"), r.URL.Query()
	p := s.page("What if: " + name)
	days, _ := strconv.Atoi(q.Get("days")) // what is none is the default
	days = min(max(days, 0), 30)
	numbers := map[string]string{}
	for key := range q {
		if path, ok := strings.CutPrefix(key, setPrefix); ok {
			numbers[path] = q.Get(key)
		}
	}
	data := &tried{}
	p.Data = data
	var err error
	if data.WhatIf, err = s.b.WhatIf(ctx, name, days, numbers); err != nil {
		if data.WhatIf == nil {
			return nil, err
		}
		data.Wrong = web.ProblemOf(err).Detail
	}
	if data.Replay == nil {
		return p, nil
	}
	v := text.View{Now: p.Now, Zone: p.Zone}
	data.Chart = foresight.Replayed(v, data.Replay).HTML()
	for i := range data.Replay.Changes {
		d := &data.Replay.Changes[i]
		if d.Verdict == backtest.Agree {
			continue
		}
		if len(data.Changes) == perPage {
			data.More++
			continue
		}
		c := change{Difference: *d, Verdict: text.Verdicts[d.Verdict], Size: text.Change(d)}
		if d.Replay != nil {
			c.Why = text.Scaling(d.Replay)
		} else if d.Journal != nil {
			c.Why = "was: " + text.Scaling(d.Journal)
		}
		data.Changes = append(data.Changes, c)
	}
	return p, nil
}

// Exact is how long the replay is exact, from its start.
func (t *tried) Exact() string { return fleet.Elapsed(t.Replay.SureUntil.Sub(t.Replay.Since)) }

// Limit says what a replay cannot know.
func (t *tried) Limit() string { return text.Limit }

// Again is the page with the file's own numbers.
func (t *tried) Again() string { return "/fleets/" + url.PathEscape(t.Fleet) + "/what-if" }
