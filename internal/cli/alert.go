package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tidemark/internal/show/text"
)

func (c *command) alertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "alert", Short: "What people are told, and whether they can be reached",
		Example: "  tidemark alert list\n  tidemark alert test",
	}
	cmd.AddCommand(c.alertListCommand(), c.alertTestCommand())
	return cmd
}

func (c *command) alertListCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "list", Short: "What is raised, since when, who was told, and what still waits", Args: cobra.NoArgs,
		Example: "  tidemark alert list\n  tidemark alert list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.daemon()
			if err != nil {
				return err
			}
			a, err := d.Alerts(cmd.Context())
			if err != nil {
				return err
			}
			return c.show(a, func() { text.Alerts(c.out, c.view(a.TimeZone), a) })
		},
	})
}

func (c *command) alertTestCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "test", Short: "Send a test message through each channel, and say what became of it", Args: cobra.NoArgs,
		Long: `Have the daemon send a test message through each channel of notify, past what waits there, and ping each dead man's
switch. It says what each place answered. The daemon sends it, not this command: its passwords and its way to the network count.

Exit code 2: one or more channels could not deliver.`,
		Example: "  tidemark alert test\n  tidemark alert test --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.daemon()
			if err != nil {
				return err
			}
			tried, err := d.TestAlerts(cmd.Context())
			if err != nil {
				return err
			}
			if len(tried) == 0 {
				return errors.New("there is no channel to test: write notify in the configuration, and reload or restart the daemon")
			}
			if err := c.show(tried, func() { text.Tried(c.out, c.view(""), tried) }); err != nil {
				return err
			}
			bad := 0
			for _, one := range tried {
				if one.Error != "" {
					bad++
				}
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d channels could not deliver", bad, len(tried))
			}
			return nil
		},
	})
}
