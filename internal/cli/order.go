package cli

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

// order sends an operator's word and shows what came of it.
func (c *command) order(cmd *cobra.Command, name string, o web.OrderRequest, lasts time.Duration, note string) error {
	d, overview, err := c.ask(cmd.Context())
	if err != nil {
		return err
	}
	o.By, o.Note = operator(), note
	if lasts > 0 {
		f := fleet.Duration(lasts)
		o.For = &f
	}
	st, err := d.Order(cmd.Context(), name, o)
	if err != nil {
		return err
	}
	return c.show(st, func() { text.Order(c.out, c.view(overview.TimeZone), st) })
}

// operator is who gives an order: the user behind sudo, if there is one.
func operator() string {
	if s := os.Getenv("SUDO_USER"); s != "" {
		return s
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}

// orderFlags are those of a hold or a pinned size.
type orderFlags struct {
	lasts time.Duration
	note  string
}

func (c *command) orderFlags(cmd *cobra.Command, f *orderFlags) *cobra.Command {
	cmd.Flags().DurationVar(&f.lasts, "for", time.Hour, "how long it lasts; 0: until released")
	cmd.Flags().StringVarP(&f.note, "reason", "m", "", "why, for the record")
	return c.jsonFlag(cmd)
}

func (c *command) scaleCommand() *cobra.Command {
	var f orderFlags
	return c.orderFlags(&cobra.Command{
		Use: "scale FLEET SIZE", Short: "Set a fleet's size and keep it there, within its bounds", Args: cobra.ExactArgs(2),
		Example: "  tidemark scale odoo-workers 6 --for 4h -m 'registration drive'\n  tidemark release odoo-workers",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 {
				return fmt.Errorf("%q is no size: write a number of workers, at least 1", args[1])
			}
			return c.order(cmd, args[0], web.OrderRequest{Kind: engine.Pin, Size: n}, f.lasts, f.note)
		},
	}, &f)
}

func (c *command) holdCommand() *cobra.Command {
	var f orderFlags
	return c.orderFlags(&cobra.Command{
		Use: "hold FLEET", Short: "Leave a fleet's size as it is", Args: cobra.ExactArgs(1),
		Example: "  tidemark hold odoo-workers --for 30m -m 'restoring a backup'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.order(cmd, args[0], web.OrderRequest{Kind: engine.Hold}, f.lasts, f.note)
		},
	}, &f)
}

func (c *command) releaseCommand() *cobra.Command {
	var note string
	cmd := c.jsonFlag(&cobra.Command{
		Use: "release FLEET", Short: "End a hold or a set size: the policies decide again", Args: cobra.ExactArgs(1),
		Example: "  tidemark release odoo-workers",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.order(cmd, args[0], web.OrderRequest{Kind: engine.Release}, 0, note)
		},
	})
	cmd.Flags().StringVarP(&note, "reason", "m", "", "why, for the record")
	return cmd
}

func (c *command) modeCommand() *cobra.Command {
	var note string
	cmd := c.jsonFlag(&cobra.Command{
		Use: "mode FLEET on|scale_out_only|shadow|off|configured", Short: "Set what a fleet's decisions may do, over its configuration", Args: cobra.ExactArgs(2),
		Example: "  tidemark mode odoo-workers shadow\n  tidemark mode odoo-workers configured",
		RunE: func(cmd *cobra.Command, args []string) error {
			o := web.OrderRequest{Kind: engine.SetMode}
			if args[1] == "configured" {
				o.Kind = engine.DropMode
			} else if err := o.Mode.UnmarshalText([]byte(args[1])); err != nil {
				return fmt.Errorf("%q is no mode: write on, scale_out_only, shadow, off, or configured (as the configuration has it)", args[1])
			}
			return c.order(cmd, args[0], o, 0, note)
		},
	})
	cmd.Flags().StringVarP(&note, "reason", "m", "", "why, for the record")
	return cmd
}
