package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tidemark/registry/store"
)

func syncLogCommand() *cobra.Command {
	var db, device string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "sync-log --db FILE",
		Short:   "Show what devices' synchronisations came to, newest first: why is this device behind?",
		Example: "  registry sync-log --db farmers.db --device tablet-7\n  registry sync-log --db farmers.db --limit 1000 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return fmt.Errorf("--limit %d: must be at least 1", limit)
			}
			return withStore(cmd, db, func(s *store.Store) error {
				all, err := s.SyncLog(cmd.Context(), device, limit)
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
				}
				if len(all) == 0 {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), "There are no synchronisations: none was made, or the last was more than 90 days ago.")
					return err
				}
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "AT (UTC)\tDEVICE\tREQUEST\tBATCH\tAPP\tVERSIONS\tTOOK\tRECEIVED\tSENT\tCHANGES\tRECORDS\tANSWER")
				for _, e := range all {
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d/%d\t%v\t%d B\t%d B\t%s\t%d\t%s\n", e.At.Format(time.DateTime), e.Device, e.Op, cmp.Or(e.Batch, "-"), cmp.Or(e.App, "-"),
						e.Protocol, e.Schema, e.Took, e.Received, e.Sent, outcomes(e), e.Records, verdict(e))
				}
				return table.Flush()
			})
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().StringVar(&device, "device", "", "only this device's")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

func outcomes(e store.SyncEntry) string {
	var parts []string
	for _, o := range slices.Sorted(maps.Keys(e.Outcomes)) {
		parts = append(parts, fmt.Sprint(e.Outcomes[o], " ", o))
	}
	return cmp.Or(strings.Join(parts, ", "), "-")
}

func verdict(e store.SyncEntry) string {
	switch {
	case e.Problem != "":
		return fmt.Sprint(e.Status, ": ", e.Problem)
	case e.More:
		return "more to pull"
	}
	return "complete"
}
