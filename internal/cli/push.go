package cli

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
)

func (c *command) pushCommand() *cobra.Command {
	var expiry time.Duration
	cmd := c.jsonFlag(&cobra.Command{
		Use: "push FLEET SIGNAL VALUE", Short: "Send a value for a signal that takes pushed values", Args: cobra.ExactArgs(3),
		Long: `Send a value for a signal that is configured as NAME: {push: {}}. The value is a plain number in the signal's unit: percent from 0
to 100, seconds, or bytes. It is good until its expiry, stale for as long again, and then missing: send it at least twice within the
expiry, also when it has not changed.`,
		Example: "  tidemark push odoo-workers active_mobile_sync_sessions 17\n  tidemark push odoo-workers active_mobile_sync_sessions 17 --expiry 90s --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := strconv.ParseFloat(args[2], 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("%q is no number: write the value in the signal's unit, such as 17 or 0.25", args[2])
			}
			if expiry != 0 && (expiry < time.Second || expiry > 24*time.Hour) {
				return fmt.Errorf("an expiry of %s is out of range: write 1s to 24h", expiry)
			}
			d, err := c.daemon()
			if err != nil {
				return err
			}
			sent := web.Pushed{Value: v, Expiry: fleet.Duration(expiry)}
			if err := d.Push(cmd.Context(), args[0], args[1], sent); err != nil {
				return err
			}
			told := struct {
				Fleet  string `json:"fleet"`
				Signal string `json:"signal"`
				web.Pushed
			}{args[0], args[1], sent}
			return c.show(told, func() { fmt.Fprintf(c.out, "%s of %s is %v\n", args[1], args[0], v) })
		},
	})
	cmd.Flags().DurationVar(&expiry, "expiry", 0, "how long the value is good for (default: as the signal is configured)")
	return cmd
}
