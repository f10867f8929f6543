package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

func (c *command) statusCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "status [FLEET]", Short: "Sizes, alarms, and what holds each fleet back", Args: cobra.MaximumNArgs(1),
		Example: "  tidemark status\n  tidemark status odoo-workers --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			_, o, err := c.ask(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				for _, st := range o.Fleets {
					if st.Fleet == args[0] {
						o.Fleets = append(o.Fleets[:0], st)
						return c.show(o, func() { text.Status(c.out, c.view(o.TimeZone), o) })
					}
				}
				return noFleet(args[0])
			}
			return c.show(o, func() { text.Status(c.out, c.view(o.TimeZone), o) })
		},
	})
}

// ask finds the daemon and asks for its state, which tells the zone to write in.
func (c *command) ask(ctx context.Context) (*web.Client, web.Overview, error) {
	d, err := c.daemon()
	if err != nil {
		return nil, web.Overview{}, err
	}
	o, err := d.Status(ctx)
	return d, o, err
}

func noFleet(name string) error {
	return fmt.Errorf("there is no fleet %q; 'tidemark status' lists them", name)
}

// show writes v as JSON, or as people read it.
func (c *command) show(v any, forPeople func()) error {
	if c.json {
		return c.writeJSON(v)
	}
	forPeople()
	return nil
}

func (c *command) eventsCommand() *cobra.Command {
	var q record.EventQuery
	var since, until string
	var kinds []string
	var follow bool
	cmd := c.jsonFlag(&cobra.Command{
		Use: "events [FLEET]", Short: "What happened, oldest first", Args: cobra.MaximumNArgs(1),
		Example: "  tidemark events --since 24h\n  tidemark events odoo-workers -f\n  tidemark events --kind decision --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, o, err := c.ask(cmd.Context())
			if err != nil {
				return err
			}
			v := c.view(o.TimeZone)
			if q.Since, err = moment(since, v); err != nil {
				return err
			}
			if q.Until, err = moment(until, v); err != nil {
				return err
			}
			if len(args) == 1 {
				q.Fleet = args[0]
			}
			for _, k := range kinds {
				q.Kinds = append(q.Kinds, fleet.Kind(k))
			}
			events, err := d.Events(cmd.Context(), q)
			if err != nil {
				return err
			}
			slices.Reverse(events) // they come newest first
			if err := c.show(events, func() { text.Events(c.out, v, events) }); err != nil || !follow {
				return err
			}
			if len(events) > 0 {
				q.After = events[len(events)-1].ID
			}
			return c.follow(cmd.Context(), d.Events, q, v)
		},
	})
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "from this `time` on: 2h (ago), 15:04, 2006-01-02 15:04, RFC 3339")
	f.StringVar(&until, "until", "", "up to this `time`")
	f.StringSliceVar(&kinds, "kind", nil, "only these `kinds`: decision, action_done, alarm, operator, ...")
	f.IntVarP(&q.Limit, "limit", "n", 100, "at most this many, the newest")
	f.BoolVarP(&follow, "follow", "f", false, "go on with events as they come")
	return cmd
}

type eventsFunc func(context.Context, record.EventQuery) ([]fleet.Event, error)

// follow writes events as they come, until ctx ends or the daemon does.
func (c *command) follow(ctx context.Context, events eventsFunc, q record.EventQuery, v text.View) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	q.Since, q.Until = time.Time{}, time.Time{}
	if q.After == 0 {
		q.After = 1 // nothing yet: from the first on
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		more, err := events(ctx, q)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if len(more) == 0 {
			continue
		}
		q.After = more[len(more)-1].ID
		v.Now = time.Now()
		if err := c.show(more, func() { text.Events(c.out, v, more) }); err != nil {
			return err
		}
	}
}

func (c *command) explainCommand() *cobra.Command {
	var at string
	cmd := c.jsonFlag(&cobra.Command{
		Use: "explain FLEET", Short: "Why the size is what it is, now or at any time past", Args: cobra.ExactArgs(1),
		Example: "  tidemark explain odoo-workers\n  tidemark explain odoo-workers --at 25m\n  tidemark explain odoo-workers --at '2027-03-01 09:30'",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, o, err := c.ask(cmd.Context())
			if err != nil {
				return err
			}
			v := c.view(o.TimeZone)
			t, err := moment(at, v)
			if err != nil {
				return err
			}
			e, err := d.Explain(cmd.Context(), args[0], t)
			if err != nil {
				return err
			}
			return c.show(e, func() { text.Explain(c.out, v, e) })
		},
	})
	cmd.Flags().StringVar(&at, "at", "", "a `time` past: 25m (ago), 15:04, 2006-01-02 15:04, RFC 3339")
	return cmd
}

// moment reads a time as people write it, in the instance's zone. Empty is the zero time.
func moment(s string, v text.View) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(days(s)); err == nil {
		return v.Now.Add(-d.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, v.Zone); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, s, v.Zone); err == nil {
			day := v.Now.In(v.Zone)
			return time.Date(day.Year(), day.Month(), day.Day(), t.Hour(), t.Minute(), t.Second(), 0, v.Zone), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 25m (ago), 15:04, 2006-01-02 15:04, or 2006-01-02T15:04:05Z", s)
}
