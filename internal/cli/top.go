package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/record"
	"tidemark/internal/show/screen"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

func (c *command) topCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use: "top", Short: "A live view of all fleets in the terminal", Args: cobra.NoArgs,
		Long: `Show all fleets, the signals of the chosen one, and what happened last, on one screen that keeps up to date: made for
ssh, and for terminals from 80 x 24 on. The arrows (or j and k) choose a fleet, q or Ctrl-C ends it. Where the output is
no terminal it is printed once.`,
		Example: "  tidemark top\n  tidemark top --every 5s\n  tidemark top | head",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return fmt.Errorf("--every: %s is too often; write 100ms or more", every)
			}
			d, err := c.daemon()
			if err != nil {
				return err
			}
			g := glance(cmd.Context(), d, text.Glance{})
			if g.Err != nil {
				return g.Err
			}
			out, ok := c.out.(*os.File)
			if !ok || !screen.IsTerminal(os.Stdin, out) {
				for _, line := range text.Top(c.view(g.TimeZone), g, 200, 0, 0) {
					fmt.Fprintln(c.out, line)
				}
				return nil
			}
			last := g
			return screen.Run(cmd.Context(), os.Stdin, out, screen.View[text.Glance]{
				Every: every,
				Look:  func(ctx context.Context) text.Glance { last = glance(ctx, d, last); return last },
				Frame: func(g text.Glance, at screen.State) []string {
					return text.Top(c.view(g.TimeZone), g, at.Width, at.Height, at.Selected)
				},
			})
		},
	}
	cmd.Flags().DurationVar(&every, "every", time.Second, "the `time` between two looks")
	return cmd
}

// mostEvents are asked for: a screen holds no more.
const mostEvents = 50

// glance asks the daemon; what cannot be asked now stays as it was, with the reason.
func glance(ctx context.Context, d *web.Client, before text.Glance) text.Glance {
	g := before
	g.Err = nil
	o, err := d.Status(ctx)
	if err == nil {
		g.Overview = o
		g.Events, err = d.Events(ctx, record.EventQuery{Limit: mostEvents})
	}
	g.Err = err
	return g
}
