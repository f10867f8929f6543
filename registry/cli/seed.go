package cli

import (
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidemark/registry"
	"tidemark/registry/seed"
	"tidemark/registry/store"
)

// samples is how many of the farmers `seed --json` shows, evenly spread, for a load generator to look up.
const samples = 100

// maxOfEach is how many plots or submissions a farmer can have.
const maxOfEach = 100

// seeded is what `seed --json` prints.
type seeded struct {
	DB       string            `json:"db"`
	Farmers  int               `json:"farmers"`
	Records  int               `json:"records"` // with the farmers
	Villages int               `json:"villages"`
	Seed     uint64            `json:"seed"`
	Seconds  float64           `json:"seconds"`
	Bytes    int64             `json:"bytes"` // of the file; 0 for a server's database
	Sample   []registry.Record `json:"sample"`
}

func seedCommand() *cobra.Command {
	var db string
	var plan seed.Plan
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "seed --db FILE|URL --farmers N",
		Short: "Make a registry of plausible farmers; the same --seed makes the same ones",
		Long: `Make a registry of plausible farmers of five Pacific countries, and with them households, members, plots, and answers to
forms. The same --seed makes the same records, and the farmers are the same whatever comes with them.

The records are in the sequence of changes, so that a device which synchronises for the first time gets them. They have no
history: they are as if they had always been there.

Into PostgreSQL it goes by COPY, past any pool, on one connection for each table, and only into empty tables.`,
		Example: `  registry seed --db farmers.db --farmers 20000
  registry seed --db farmers.db --farmers 1000 --households=false --plots 0 --submissions 0
  registry seed --db 'postgres://dfr@127.0.0.1/dfr' --farmers 100000 --seed 7 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if plan.Farmers < 0 || plan.Farmers > seed.Max {
				return fmt.Errorf("--farmers %d: must be from 0 to %d", plan.Farmers, seed.Max)
			}
			if plan.Plots < 0 || plan.Plots > maxOfEach || plan.Submissions < 0 || plan.Submissions > maxOfEach {
				return fmt.Errorf("--plots and --submissions must be from 0 to %d", maxOfEach)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			var progress func(int)
			if term.IsTerminal(int(os.Stderr.Fd())) {
				progress = func(n int) { fmt.Fprintf(cmd.ErrOrStderr(), "\r%d of %d farmers", n, plan.Farmers) }
				defer fmt.Fprint(cmd.ErrOrStderr(), "\r\033[K")
			}
			out := seeded{DB: db, Farmers: plan.Farmers, Villages: len(seed.Villages()), Seed: plan.Seed, Sample: []registry.Record{}}
			start := time.Now()
			every := max(plan.Farmers/samples, 1)
			fill := func(s *store.Store) error {
				return seed.Fill(ctx, s, out.watch(seed.Records(plan), every), progress)
			}
			if err := create(ctx, db, fill); err != nil {
				return err
			}
			out.DB, out.Seconds = redacted(db), time.Since(start).Seconds()
			if info, err := os.Stat(db); err == nil {
				out.Bytes = info.Size()
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			}
			size := ""
			if out.Bytes > 0 {
				size = fmt.Sprintf(", %.1f MB", float64(out.Bytes)/1e6)
			}
			more := ""
			if n := out.Records - out.Farmers; n > 0 {
				more = fmt.Sprintf(" and %d other records", n)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d farmers in %d villages%s%s, %.1f s\n", out.DB, out.Farmers, out.Villages, more, size, out.Seconds)
			return nil
		},
	}
	cmd.Flags().StringVar(&db, "db", "", "the SQLite file to make, or the URL of an empty PostgreSQL database")
	cmd.Flags().IntVar(&plan.Farmers, "farmers", 20_000, "how many")
	cmd.Flags().Uint64Var(&plan.Seed, "seed", 1, "which ones")
	cmd.Flags().BoolVar(&plan.Households, "households", true, "also make households with their members")
	cmd.Flags().IntVar(&plan.Plots, "plots", 2, "plots of each farmer")
	cmd.Flags().IntVar(&plan.Submissions, "submissions", 1, "answered forms of each farmer")
	cmd.Flags().BoolVar(&asJSON, "json", false, fmt.Sprintf("print the result as JSON, with %d of the farmers", samples))
	mustHave(cmd, "db")
	return cmd
}

// watch passes all through, counts them, and keeps each every-th farmer, at most samples of them.
func (s *seeded) watch(all iter.Seq[registry.Record], every int) iter.Seq[registry.Record] {
	return func(yield func(registry.Record) bool) {
		i := 0
		for r := range all {
			s.Records++
			if r.Entity == "farmer" {
				if i%every == 0 && len(s.Sample) < samples {
					s.Sample = append(s.Sample, r)
				}
				i++
			}
			if !yield(r) {
				return
			}
		}
	}
}
