package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidemark/registry"
	"tidemark/registry/exchange"
	"tidemark/registry/store"
)

// operator is who acts on the command line.
func operator() registry.Actor {
	name := "operator"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return registry.Actor{Name: "cli:" + name}
}

func importCommand() *cobra.Command {
	var db, report string
	var resume int64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import --db FILE|URL FILE.csv",
		Short: "Register and update farmers from a CSV file",
		Long: `Register and update farmers from a CSV file: UTF-8, with commas, semicolons or tabs, at most 20 MB.

The header names the farmer's fields, in any order and case: given_name, family_name, birth_date and village at least,
and any of national_id, phone, sex, island, household, status, consent, note, uid and version. A row with the uid of a
farmer, or with the name, birth date and village or national id of one, updates the farmer, in the cells that are not empty;
any other registers somebody new. registry export writes a file that can be edited and imported again.

Rows are stored one by one: what is wrong with one holds up no other. Those that somebody must look at are written to
--errors, with the reason in the last column; corrected, that file can be imported as it is. An import that was broken off,
however that was, goes on with --resume and carries out each row once.`,
		Example: `  registry import --db farmers.db list.csv
  registry import --db farmers.db list.csv --errors wrong.csv
  registry import --db farmers.db --resume 12`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (resume > 0) {
				return errors.New("give a file to import, or --resume and the number of an import")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return withStore(cmd, db, func(s *store.Store) error {
				id := resume
				if id == 0 {
					f, err := os.Open(args[0])
					if err != nil {
						return err
					}
					defer f.Close()
					if id, err = exchange.Keep(ctx, s, operator(), time.Now(), args[0], f); err != nil {
						return fmt.Errorf("%s: %w", args[0], err)
					}
				}
				i, err := runImport(ctx, s, id, cmd.ErrOrStderr())
				if err != nil {
					return fmt.Errorf("import %d: %w; go on with --resume %d", id, err, id)
				}
				if report != "" {
					if err := writeFile(report, func(w io.Writer) error { return exchange.ErrorReport(ctx, s, id, w) }); err != nil {
						return err
					}
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(i)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "import %d of %s: %s, %d of %d rows: %d created, %d updated, %d in conflict, %d duplicate, %d rejected\n",
					i.ID, i.Name, i.State, i.Done, i.Total, i.Created, i.Updated, i.Conflict, i.Duplicate, i.Rejected)
				return nil
			})
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().StringVar(&report, "errors", "", "write the rows that somebody must look at to this file")
	cmd.Flags().Int64Var(&resume, "resume", 0, "go on with the import of this number")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// runImport runs an import to its end and shows its progress to a person.
func runImport(ctx context.Context, s *store.Store, id int64, stderr io.Writer) (exchange.Import, error) {
	var progress func(exchange.Import)
	if term.IsTerminal(int(os.Stderr.Fd())) {
		progress = func(i exchange.Import) { fmt.Fprintf(stderr, "\r%d of %d rows", i.Done, i.Total) }
		defer fmt.Fprint(stderr, "\r\033[K")
	}
	if err := exchange.Run(ctx, s, id, time.Now, progress); err != nil {
		return exchange.Import{}, err
	}
	return exchange.ImportByID(ctx, s, id)
}

func exportCommand() *cobra.Command {
	var db, out string
	var filter exchange.Filter
	cmd := &cobra.Command{
		Use:   "export --db FILE|URL",
		Short: "Write the farmers as CSV, for a spreadsheet or another registry",
		Long: `Write the farmers as CSV, for a spreadsheet or another registry, however many they are. Cells that a spreadsheet would
run as a formula begin with an apostrophe, telephone numbers among them; registry import knows that.`,
		Example: `  registry export --db farmers.db > farmers.csv
  registry export --db farmers.db --island Aitutaki --status active --out aitutaki.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if filter.Status != "" && !slices.Contains(registry.Statuses, filter.Status) {
				return fmt.Errorf("--status %s: must be one of %v", filter.Status, registry.Statuses)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return withStore(cmd, db, func(s *store.Store) error {
				export := func(w io.Writer) error { return exchange.Export(ctx, s, operator(), filter, w) }
				if out != "" {
					return writeFile(out, export)
				}
				return export(cmd.OutOrStdout())
			})
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().StringVar(&out, "out", "", "write to this file, which only its owner can read; standard output when left out")
	cmd.Flags().StringVar(&filter.Status, "status", "", "only farmers of this status")
	cmd.Flags().StringVar(&filter.Island, "island", "", "only farmers of this island")
	return cmd
}

// writeFile writes a file of personal data: nobody else can read it.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := bufio.NewWriter(f)
	return errors.Join(write(b), b.Flush())
}
