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

// seeded is what `seed --json` prints.
type seeded struct {
	DB       string            `json:"db"`
	Farmers  int               `json:"farmers"`
	Villages int               `json:"villages"`
	Seed     uint64            `json:"seed"`
	Seconds  float64           `json:"seconds"`
	Bytes    int64             `json:"bytes"` // of the file; 0 for a server's database
	Sample   []registry.Record `json:"sample"`
}

func seedCommand() *cobra.Command {
	var db string
	var farmers int
	var number uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "seed --db FILE|URL --farmers N",
		Short: "Make a registry of plausible farmers; the same --seed makes the same ones",
		Example: `  registry seed --db farmers.db --farmers 20000
  registry seed --db farmers.db --farmers 100000 --seed 7 --json
  registry seed --db 'postgres://dfr@127.0.0.1/dfr' --farmers 100000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if farmers < 0 || farmers > seed.Max {
				return fmt.Errorf("--farmers %d: must be from 0 to %d", farmers, seed.Max)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			var progress func(int)
			if term.IsTerminal(int(os.Stderr.Fd())) {
				progress = func(n int) { fmt.Fprintf(cmd.ErrOrStderr(), "\r%d of %d farmers", n, farmers) }
				defer fmt.Fprint(cmd.ErrOrStderr(), "\r\033[K")
			}
			out := seeded{DB: db, Farmers: farmers, Villages: len(seed.Villages()), Seed: number, Sample: []registry.Record{}}
			start := time.Now()
			every := max(farmers/samples, 1)
			fill := func(s *store.Store) error {
				return seed.Fill(ctx, s, sample(seed.Farmers(number, farmers), every, &out.Sample), progress)
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
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d farmers in %d villages%s, %.1f s\n", out.DB, farmers, out.Villages, size, out.Seconds)
			return nil
		},
	}
	cmd.Flags().StringVar(&db, "db", "", "the SQLite file to make, or the URL of an empty PostgreSQL database")
	cmd.Flags().IntVar(&farmers, "farmers", 20_000, "how many")
	cmd.Flags().Uint64Var(&number, "seed", 1, "which ones")
	cmd.Flags().BoolVar(&asJSON, "json", false, fmt.Sprintf("print the result as JSON, with %d of the farmers", samples))
	mustHave(cmd, "db")
	return cmd
}

// sample passes all through and keeps each every-th, at most samples of them.
func sample(all iter.Seq[registry.Record], every int, kept *[]registry.Record) iter.Seq[registry.Record] {
	return func(yield func(registry.Record) bool) {
		i := 0
		for f := range all {
			if i%every == 0 && len(*kept) < samples {
				*kept = append(*kept, f)
			}
			i++
			if !yield(f) {
				return
			}
		}
	}
}
