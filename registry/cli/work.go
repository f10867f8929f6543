package cli

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tidemark/registry/dedup"
	"tidemark/registry/exchange"
	"tidemark/registry/metrics"
	"tidemark/registry/store"
	"tidemark/registry/work"
)

// methods are all that the queue's jobs can be about.
func methods(s *store.Store) map[string]work.Method {
	importID := func(j store.Job) (int64, error) {
		id, err := strconv.ParseInt(j.Payload, 10, 64)
		if err != nil {
			return 0, errors.New("its payload is no import's number")
		}
		return id, nil
	}
	return map[string]work.Method{
		dedup.Method: {Do: func(ctx context.Context, j store.Job) error {
			_, err := dedup.Run(ctx, s, time.Now(), strings.Fields(j.Payload))
			return err
		}},
		exchange.Method: {
			Do: func(ctx context.Context, j store.Job) error {
				id, err := importID(j)
				if err != nil {
					return err
				}
				return exchange.Run(ctx, s, id, time.Now, nil)
			},
			GaveUp: func(ctx context.Context, j store.Job, why error) error {
				id, err := importID(j)
				if err != nil {
					return nil // there is no import to be marked
				}
				return exchange.Fail(ctx, s, time.Now(), id, why)
			},
		},
	}
}

func workCommand() *cobra.Command {
	var db, channels, metricsAddress string
	config := work.Config{Now: time.Now}
	cmd := &cobra.Command{
		Use:   "work --db FILE|URL",
		Short: "Run the jobs of the queue: the search for duplicates, imports",
		Long: `Run the jobs of the queue: the search for duplicates after each registration and synchronisation, and imports.

It is a process of its own, beside registry serve, so that no job takes memory or time from a request; there may be
several. --channels says how many jobs run at a time, of all (root) and of each channel below it, in all processes that
are given the same; jobs of other channels below root share root's capacity.

A job that fails is tried again after 10 s, 30 s, 90 s and so on up to an hour, as often as the job says; then it has
failed for good. One whose process was killed is taken again by any other after six beats (--beat).

SIGTERM and SIGINT end it gracefully: jobs in hand have --grace to end; then they are given back, to be done by others.

With --metrics it shows on /metrics, in Prometheus's format, what became of jobs in this process, and how many wait in the
registry.`,
		Example: `  registry work --db farmers.db
  registry work --db farmers.db --metrics 127.0.0.1:8071
  registry work --db 'postgres://dfr@127.0.0.1:6432/dfr' --channels root:4,root.dedup:1,root.import:2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if config.Channels, err = work.ParseChannels(channels); err != nil {
				return fmt.Errorf("--channels: %w", err)
			}
			if config.Poll <= 0 || config.Beat < time.Second || config.Grace < 0 {
				return errors.New("--poll must be above 0, --beat at least 1s, and --grace not negative")
			}
			beFrugal()
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			logger := log.New(cmd.ErrOrStderr(), "registry work: ", 0)
			// Each job has a connection, and there is one more for telling that it is being worked on.
			s, err := openWide(ctx, db, config.Slots()+1)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			jobs := metrics.NewJobs()
			if metricsAddress != "" {
				stop, err := show(metricsAddress, jobs.Handler(backlog(s, logger)), logger, "metrics of the jobs: GET /metrics")
				if err != nil {
					return err
				}
				defer stop()
			}
			config.Store, config.Methods = s, methods(s)
			config.Tell = func(e work.Event) {
				switch e.What {
				case work.Started:
					jobs.Started(e.Job.Method)
				case work.Away, work.Back:
				default:
					jobs.Ended(e.Job.Method, e.What.String(), e.Took)
				}
				logger.Print(happened(e))
			}
			logger.Printf("taking jobs from %s, %s", redacted(db), channels)
			work.Run(ctx, config)
			logger.Print("no job is in hand: ending")
			return nil
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().StringVar(&channels, "channels", "root:2,root.dedup:1,root.import:1", "how many jobs of each channel run at a time")
	cmd.Flags().StringVar(&metricsAddress, "metrics", "", "show metrics at this address, such as 127.0.0.1:8071")
	cmd.Flags().DurationVar(&config.Poll, "poll", time.Second, "how long to wait for a job before asking again")
	cmd.Flags().DurationVar(&config.Beat, "beat", 10*time.Second, "how often a job is reported as being worked on; after six misses it counts as lost")
	cmd.Flags().DurationVar(&config.Grace, "grace", 30*time.Second, "how long jobs may take to end when the process must")
	return cmd
}

// happened is the log's line: the job by its number, never by what it is about.
func happened(e work.Event) string {
	job := fmt.Sprintf("job %d (%s)", e.Job.ID, e.Job.Method)
	took := e.Took.Round(time.Millisecond)
	switch e.What {
	case work.Started:
		return fmt.Sprintf("%s started, try %d", job, e.Job.Retry)
	case work.Done:
		return fmt.Sprintf("%s done in %s", job, took)
	case work.Retried:
		return fmt.Sprintf("%s failed after %s, next try in %s: %v", job, took, e.Pause, e.Trouble)
	case work.Failed:
		return fmt.Sprintf("%s failed for good after %s: %v", job, took, e.Trouble)
	case work.Released:
		return fmt.Sprintf("%s given back after %s", job, took)
	case work.Gone:
		if e.Trouble != nil {
			return fmt.Sprintf("%s: what became of it after %s could not be recorded, so it will be taken again: %v", job, took, e.Trouble)
		}
		return fmt.Sprintf("%s was taken for lost, and is another worker's now", job)
	case work.Away:
		return fmt.Sprintf("no job is to be had, asking again: %v", e.Trouble)
	default:
		return "jobs are to be had again"
	}
}
