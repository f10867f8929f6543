package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/foresee/month"
	"tidemark/internal/show/report"
)

func (c *command) reportCommand() *cobra.Command {
	var name, journal, html, markdown, figures, focus string
	cmd := c.jsonFlag(&cobra.Command{
		Use: "report", Short: "A month: availability, service levels, scaling, cost, risks, and what is to be done", Args: cobra.NoArgs,
		Long: `Report a month from the journal: one page that anybody can read, then the details. Written as Markdown, unless files are named.
What was not measured is said to be not known; it is never counted as zero.

With report in the configuration the daemon makes it each month by itself, and mails it (docs/report.md).`,
		Example: "  tidemark report\n  tidemark report --month 2027-03 --html report.html --focus cost.csv\n  tidemark report --month 2027-03 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := checked(c.configPath())
			if err != nil {
				return err
			}
			j, err := history(cmd.Context(), cfg, journal)
			if err != nil {
				return err
			}
			defer func() { _ = j.Close() }() // it was only read
			now := time.Now()
			if name == "" {
				name = month.Before(now, cfg.Instance.Zone)
			}
			r, err := month.Make(cmd.Context(), j, cfg, name, now)
			if err != nil {
				return err
			}
			page := report.Month(r, cfg.File)
			wrote := false
			for _, f := range []struct {
				path  string
				write func(io.Writer) error
			}{
				{html, page.Write}, {markdown, page.Markdown}, {figures, func(w io.Writer) error { return report.MonthCSV(w, r) }},
				{focus, func(w io.Writer) error { return report.MonthFOCUS(w, r, cfg.Instance.Region) }},
			} {
				if err := writeFile(f.path, f.write); err != nil {
					return fmt.Errorf("write the report: %w", err)
				}
				wrote = wrote || f.path != ""
			}
			switch {
			case c.json:
				return c.writeJSON(r)
			case wrote:
				return nil
			}
			return page.Markdown(c.out)
		},
	})
	f := cmd.Flags()
	f.StringVar(&name, "month", "", "the `month`, such as 2027-03, by the instance's time zone (default: the last that is over)")
	f.StringVar(&journal, "journal", "", "the journal's `file` (default: the configuration's)")
	f.StringVar(&html, "html", "", "write a page that stands alone to this `file`; it prints")
	f.StringVar(&markdown, "markdown", "", "write Markdown to this `file`")
	f.StringVar(&figures, "csv", "", "write the figures as CSV to this `file`")
	f.StringVar(&focus, "focus", "", "write the cost of each day as CSV with FOCUS columns to this `file`")
	return cmd
}
