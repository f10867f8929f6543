package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tidemark/registry"
	"tidemark/registry/store"
)

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke the tokens that the API asks for",
		Example: `  registry token add --db farmers.db --scope enumerator --device tablet-7 --island Aitutaki
  registry token list --db farmers.db
  registry token revoke --db farmers.db 3`,
	}
	cmd.AddCommand(tokenAddCommand(), tokenListCommand(), tokenRevokeCommand())
	return cmd
}

// maxDays is the longest that a token may be valid.
const maxDays = 3650

func tokenAddCommand() *cobra.Command {
	var db string
	var t registry.Token
	var scope string
	var days int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add --db FILE --scope SCOPE",
		Short: "Make a token and show it, this once",
		Long: `Make a token and show it, this once: the registry keeps only a hash of it.

A token of the scope enumerator is for one device (--device) and, with --island, only for the farmers of these islands.
Those of the scopes admin and integration are for people and for other systems.`,
		Example: `  registry token add --db farmers.db --scope enumerator --device tablet-7 --island Aitutaki
  registry token add --db farmers.db --scope integration --name erp --days 90 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 1 || days > maxDays {
				return fmt.Errorf("--days %d: must be from 1 to %d", days, maxDays)
			}
			t.Scope = registry.Scope(scope)
			t.Name = cmp.Or(t.Name, t.Device, scope)
			t.CreatedAt = time.Now()
			t.ExpiresAt = t.CreatedAt.AddDate(0, 0, days)
			if faults := t.Check(); faults != nil {
				return fmt.Errorf("--%s: %s", faults[0].Field, faults[0].Detail)
			}
			return withStore(cmd, db, func(s *store.Store) error {
				known, err := knownIslands(cmd.Context(), s, t.Areas)
				if err != nil {
					return err
				}
				t.Areas = known
				secret, t, err := s.AddToken(cmd.Context(), t)
				if err != nil {
					return err
				}
				out := cmd.OutOrStdout()
				if asJSON {
					return json.NewEncoder(out).Encode(struct {
						registry.Token
						Secret string `json:"secret"`
					}{t, secret})
				}
				fmt.Fprintf(out, "Token %d, %s, for %s, islands: %s, until %s:\n\n  %s\n\nIt is shown this once: the registry keeps only a hash of it.\n",
					t.ID, t.Scope, t.Name, islands(t), t.ExpiresAt.Format(time.DateOnly), secret)
				return nil
			})
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().StringVar(&scope, "scope", "", "enumerator, admin or integration")
	cmd.Flags().StringVar(&t.Name, "name", "", "whom it is for, shown in lists and in the audit trail; the device when left out")
	cmd.Flags().StringVar(&t.Device, "device", "", "the id of the enumerator's device")
	cmd.Flags().StringArrayVar(&t.Areas, "island", nil, "only for the farmers of this island; may be given several times")
	cmd.Flags().IntVar(&days, "days", 365, "how long it is valid")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	mustHave(cmd, "scope")
	return cmd
}

func tokenListCommand() *cobra.Command {
	var db string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list --db FILE",
		Short:   "List all tokens, also those that have expired or were revoked",
		Example: "  registry token list --db farmers.db\n  registry token list --db farmers.db --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, db, func(s *store.Store) error {
				all, err := s.Tokens(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
				}
				now := time.Now()
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "ID\tNAME\tSCOPE\tDEVICE\tISLANDS\tUNTIL\tLAST USED\tSTATE")
				for _, t := range all {
					fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Name, t.Scope, cmp.Or(t.Device, "-"), islands(t),
						t.ExpiresAt.Format(time.DateOnly), lastUsed(t), state(t, now))
				}
				return table.Flush()
			})
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

func tokenRevokeCommand() *cobra.Command {
	var db string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "revoke --db FILE ID",
		Short:   "Make a token invalid, at once and for good",
		Example: "  registry token revoke --db farmers.db 3",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%q is no token's number: `registry token list` shows them", args[0])
			}
			return withStore(cmd, db, func(s *store.Store) error {
				switch err := s.RevokeToken(cmd.Context(), time.Now(), id); {
				case errors.Is(err, registry.ErrNotFound):
					return fmt.Errorf("there is no token %d: `registry token list` shows them", id)
				case err != nil:
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"id": id, "revoked": true})
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Token %d is revoked.\n", id)
				return nil
			})
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// knownIslands returns the names of islands as the registry writes them.
func knownIslands(ctx context.Context, s *store.Store, wanted []string) ([]string, error) {
	villages, err := s.Villages(ctx)
	if err != nil {
		return nil, err
	}
	known := slices.Clone(wanted)
	for i, name := range known {
		at := slices.IndexFunc(villages, func(v registry.Village) bool { return registry.Fold(v.Island) == registry.Fold(name) })
		if at < 0 {
			return nil, fmt.Errorf("--island %s: no village of this registry is on an island of that name", name)
		}
		known[i] = villages[at].Island
	}
	return known, nil
}

// withStore does something with the registry that --db names.
func withStore(cmd *cobra.Command, db string, do func(*store.Store) error) (err error) {
	s, err := openStore(cmd.Context(), db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return do(s)
}

func dbFlag(cmd *cobra.Command, db *string) {
	cmd.Flags().StringVar(db, "db", "", "the registry: a postgres:// URL or an SQLite file")
	mustHave(cmd, "db")
}

func islands(t registry.Token) string { return cmp.Or(strings.Join(t.Areas, ", "), "all") }

func lastUsed(t registry.Token) string {
	if t.UsedAt.IsZero() {
		return "never"
	}
	return t.UsedAt.Format("2006-01-02 15:04 UTC")
}

func state(t registry.Token, now time.Time) string {
	switch err := t.Valid(now); {
	case errors.Is(err, registry.ErrRevoked):
		return "revoked"
	case errors.Is(err, registry.ErrExpired):
		return "expired"
	default:
		return "valid"
	}
}
