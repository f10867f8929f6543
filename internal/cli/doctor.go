package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/app"
	"tidemark/internal/doctor"
	"tidemark/internal/show/text"
)

func (c *command) doctorCommand() *cobra.Command {
	var o doctor.Options
	cmd := c.jsonFlag(&cobra.Command{
		Use: "doctor", Short: "Check Odoo, PgBouncer, nginx, PostgreSQL and the host as one budget", Args: cobra.NoArgs,
		Long: `Check how Odoo, PgBouncer, nginx, PostgreSQL and this host are set up, as one budget of connections, memory, queues
and time-outs for as many workers as bounds.max allows. Each finding has its line, its arithmetic and its mend.
Nothing is changed; a small file is written and removed to time the disk.

Files are looked for in Debian's places. PostgreSQL is the one that a signal of the configuration reads, or
$TIDEMARK_DOCTOR_DSN, or --postgres; a user with the role pg_monitor sees all that is asked.

Exit codes: 0 no problem (there may be warnings and advice); 1 something is wrong; 2 it could not be looked at.`,
		Example: "  tidemark doctor -c tidemark.yaml\n  tidemark doctor --odoo /etc/odoo/odoo.conf --postgres postgres://monitor@127.0.0.1/dfr --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Writes < 0 {
				return fmt.Errorf("--disk-writes %d: must be 0 or more", o.Writes)
			}
			cfg, problems, err := app.Check(c.configPath())
			switch {
			case c.config == "" && errors.Is(err, os.ErrNotExist): // Tidemark itself may come later
			case err != nil:
				return err
			case cfg == nil:
				return problems
			}
			o.Config = cfg
			site, err := doctor.Look(cmd.Context(), o)
			if err != nil {
				return err
			}
			r := doctor.Examine(site)
			if c.json {
				err = c.writeJSON(r)
			} else {
				text.Doctor(c.out, c.view("UTC"), r)
			}
			if err == nil && r.Failed() {
				return errNo
			}
			return err
		},
	})
	f := cmd.Flags()
	f.StringVar(&o.Odoo, "odoo", "", "odoo.conf `file`")
	f.StringVar(&o.PgBouncer, "pgbouncer", "", "pgbouncer.ini `file`")
	f.StringVar(&o.Nginx, "nginx", "", "nginx's main configuration `file`")
	f.StringVar(&o.DSN, "postgres", os.Getenv("TIDEMARK_DOCTOR_DSN"), "connection `string` of PostgreSQL (or $TIDEMARK_DOCTOR_DSN, which other users do not see)")
	f.Lookup("postgres").DefValue = "" // help must not show a password
	f.StringVar(&o.DiskDir, "disk", "", "`folder` to time the disk in (default: beside PostgreSQL's data, when it is here)")
	f.IntVar(&o.Writes, "disk-writes", 200, "writes to time the disk by; 0 leaves it out")
	f.DurationVar(&o.CPUOver, "watch", 2*time.Second, "how long to watch PostgreSQL's CPU")
	return cmd
}
