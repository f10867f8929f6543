// Command control judges autoscalers on traces of real load: ours as it comes, the requirements' step policies, and others both tuned on each
// trace and in the one setting that does best on all. See docs/control.md.
package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/peer"
)

// row is one policy in one cell.
type row struct {
	Trace   string  `json:"trace"`
	Workers float64 `json:"workers"` // busy at the 99.9th percentile
	CV      float64 `json:"cv"`
	Boot    float64 `json:"boot_seconds"`
	Policy  string  `json:"policy"`
	Setting float64 `json:"setting"` // of a peer
	figures
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "control:", err)
		os.Exit(2)
	}
}

func run() (err error) {
	folder := flag.String("traces", "bench/traces", "folder of the traces")
	out := flag.String("out", "", "folder to write control.csv, control.json and the plots to")
	seeds := flag.Int("seeds", 8, "runs of each policy in each cell")
	workers := flag.String("workers", "4,16,200", "demand to scale the traces to: busy workers at the 99.9th percentile")
	cvs := flag.String("cv", "1,2", "coefficients of variation of the service time")
	boots := flag.String("boot", "15,60,300", "seconds until a new worker serves")
	days := flag.Float64("days", 28, "most days of each trace to train on, and to be judged on")
	only := flag.String("only", "", "traces, by name; all when empty")
	mine := flag.Bool("ours", false, "leave the peers out")
	most := flag.Float64("requests", 50e6, "most requests that a policy is tried with in a cell, over its runs: where one run has as many, chance evens out within it")
	flag.Parse()

	var cells []*cell
	series := map[string]*load.Series{}
	for _, t := range traces {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), t.name) {
			continue
		}
		s, err := t.read(*folder)
		if err != nil {
			return err
		}
		series[t.name] = s
		for _, w := range numbers(*workers) {
			for _, cv := range numbers(*cvs) {
				for _, boot := range numbers(*boots) {
					cells = append(cells, newCell(t, s, w, cv, time.Duration(boot*float64(time.Second)), *seeds, time.Duration(*days*24*float64(time.Hour))))
				}
			}
		}
	}
	if len(cells) == 0 {
		return fmt.Errorf("there is no trace %q", *only)
	}
	for _, c := range cells {
		c.seeds = min(max(int(*most/c.score.requests()), 1), c.seeds)
	}
	kept := &book{}
	if *out != "" {
		if kept, err = openBook(*out); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, kept.close()) }()
	}
	rows, err := judge(cells, *mine, kept)
	if err != nil {
		return err
	}
	if err := show(os.Stdout, rows); err != nil {
		return err
	}
	if *out == "" {
		return nil
	}
	return write(*out, rows)
}

func numbers(list string) (out []float64) {
	for s := range strings.SplitSeq(list, ",") {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v > 0) {
			fmt.Fprintf(os.Stderr, "control: %q is no number above 0\n", s)
			os.Exit(2)
		}
		out = append(out, v)
	}
	return out
}

// trial is what the training taught about each peer in one cell.
type trial struct {
	All  [][]figures // by peer and setting
	Best []int       // by peer
}

// judge tunes in all cells, then finds the one setting for all, then scores.
func judge(cells []*cell, mine bool, kept *book) ([]row, error) {
	trials := make([]trial, len(cells))
	tried := peers
	if mine {
		tried = nil
	}
	err := each(len(cells), "tuned", func(i int) error {
		return kept.recall(fmt.Sprint("tuned ", len(tried), " in ", cells[i].String()), &trials[i], func() (err error) {
			trials[i], err = cells[i].learn(tried)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	forAll := make([]int, len(tried))
	for k := range tried {
		forAll[k] = single(trials, k)
	}
	rows := make([][]row, len(cells))
	err = each(len(cells), "judged", func(i int) error {
		return kept.recall(fmt.Sprint("judged ", forAll, " in ", cells[i].String()), &rows[i], func() (err error) {
			rows[i], err = cells[i].scored(tried, trials[i], forAll)
			return err
		})
	})
	return slices.Concat(rows...), err
}

// learn tunes peers in training.
func (c *cell) learn(tried []contender) (t trial, err error) {
	for k := range tried {
		all, best, err := c.tune(&tried[k])
		if err != nil {
			return t, err
		}
		t.All, t.Best = append(t.All, all), append(t.Best, best)
	}
	return t, nil
}

// single is the setting of peer k that does best in all cells together: its mean cost, where each tenth of a percent of the minutes beyond the budget counts as 1 % of
// the cost.
func single(trials []trial, k int) int {
	best, least := 0, math.Inf(1)
	for s := range trials[0].All[k] {
		sum := 0.0
		for i := range trials {
			f := trials[i].All[k][s]
			sum += f.Cost * (1 + 0.1*max(f.Violations-100*budget, 0))
		}
		if sum < least {
			best, least = s, sum
		}
	}
	return best
}

func (c *cell) scored(tried []contender, t trial, forAll []int) ([]row, error) {
	var out []row
	add := func(name string, setting float64, f figures) {
		out = append(out, row{c.trace.name, c.busy, c.cv, c.boot.Seconds(), name, setting, f})
	}
	tidemark, err := fleetOf(c.most(), c.work())
	if err != nil {
		return nil, err
	}
	steps, err := c.peer(peer.Steps)
	if err != nil {
		return nil, err
	}
	for _, own := range []struct {
		name string
		run  *peer.Run
	}{{"tidemark", tidemark}, {"requirements", steps}} {
		f, err := c.try(c.score, own.run, c.seeds)
		if err != nil {
			return nil, err
		}
		add(own.name, 0, f)
	}
	for _, who := range foreknowing {
		f, err := c.keeps(who.plan)
		if err != nil {
			return nil, err
		}
		add(who.name, 0, f)
	}
	without, err := c.peer(fmt.Sprintf("%s:%d", peer.Fixed, c.most()))
	if err != nil {
		return nil, err
	}
	f, err := c.try(c.score, without, c.seeds)
	if err != nil {
		return nil, err
	}
	add("boundless", 0, f)
	for k := range tried {
		tuned, one := t.Best[k], forAll[k]
		for _, kind := range []struct {
			name string
			at   int
		}{{"tuned", tuned}, {"one", one}} {
			setting := tried[k].settings[kind.at]
			if kind.name == "tuned" || one != tuned { // else it is the same run
				r, err := c.run(&tried[k], setting)
				if err != nil {
					return nil, err
				}
				if f, err = c.try(c.score, r, c.seeds); err != nil {
					return nil, err
				}
			}
			add(tried[k].name+" "+kind.name, setting, f)
		}
	}
	return out, nil
}

// each does the work of all cells, on all cores, and tells how far it is.
func each(n int, done string, work func(int) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	next, finished := 0, 0
	began := time.Now()
	for range runtime.NumCPU() {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := i >= n || first != nil
				mu.Unlock()
				if stop {
					return
				}
				err := work(i)
				mu.Lock()
				first = cmp.Or(first, err)
				finished++
				fmt.Fprintf(os.Stderr, "%d of %d cells %s, %s\n", finished, n, done, time.Since(began).Round(time.Second))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return first
}

// show prints each policy's summary, and ours cell by cell.
func show(w io.Writer, rows []row) error {
	fmt.Fprintf(w, "Worker-hours over the clairvoyant's (geometric mean, worst), minutes missed (mean, worst), cells within %g %%, actions a day (worst)\n\n", 100*budget)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "policy\tcost\tworst\tmissed %\tworst\tcells kept\tactions\tworst\t")
	for _, name := range names(rows) {
		s := summarise(rows, name)
		fmt.Fprintf(tw, "%s\t%.3f\t%.3f\t%.3f\t%.3f\t%d of %d\t%.0f\t%.0f\t\n", name, s.cost, s.worstCost, s.missed, s.worstMissed, s.kept, s.n, s.actions, s.worstActions)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nOurs, beside someone who knows every rate to come and keeps the objective too (foreknown), the same with %d actions a day (at rest), and what a fleet without end misses\n", restful)
	fmt.Fprintln(tw, "trace\tworkers\tcv\tboot\tcost\tmissed %\tlongest min\tactions\tforeknown cost\tmissed %\tat rest cost\tmissed %\tboundless missed %\t")
	for i, r := range rows {
		if r.Policy != "tidemark" {
			continue
		}
		k, rest, most := rows[i+2], rows[i+3], rows[i+4]
		fmt.Fprintf(tw, "%s\t%g\t%g\t%g\t%.3f\t%.3f\t%.0f\t%.0f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t\n", r.Trace, r.Workers, r.CV, r.Boot, r.Cost, r.Violations, r.Longest, r.Actions, k.Cost, k.Violations, rest.Cost, rest.Violations, most.Violations)
	}
	return tw.Flush()
}

func names(rows []row) (out []string) {
	for _, r := range rows {
		if !slices.Contains(out, r.Policy) {
			out = append(out, r.Policy)
		}
	}
	return out
}

type summary struct {
	n, kept                                                          int
	cost, worstCost, missed, worstMissed, actions, worstActions, log float64
}

func summarise(rows []row, policy string) (s summary) {
	for _, r := range rows {
		if r.Policy != policy {
			continue
		}
		s.n++
		if r.Violations <= 100*budget {
			s.kept++
		}
		s.log += math.Log(r.Cost)
		s.missed += r.Violations
		s.actions += r.Actions
		s.worstCost, s.worstMissed, s.worstActions = max(s.worstCost, r.Cost), max(s.worstMissed, r.Violations), max(s.worstActions, r.Actions)
	}
	n := float64(s.n)
	s.cost, s.missed, s.actions = math.Exp(s.log/n), s.missed/n, s.actions/n
	return s
}

func write(folder string, rows []row) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	whole, err := json.MarshalIndent(rows, "", " ")
	if err != nil {
		return err
	}
	var text strings.Builder
	c := csv.NewWriter(&text)
	cells := [][]string{{"trace", "workers", "cv", "boot_s", "policy", "setting", "cost", "violation_percent", "actions_a_day", "longest_violation_min", "theta_u", "theta_o", "tau_u", "tau_o", "instability", "worker_hours"}}
	for _, r := range rows {
		line := []string{r.Trace, f(r.Workers), f(r.CV), f(r.Boot), r.Policy, f(r.Setting)}
		for _, v := range []float64{r.Cost, r.Violations, r.Actions, r.Longest, r.Under, r.Over, r.UnderTime, r.OverTime, r.Instability, r.WorkerHours} {
			line = append(line, f(v))
		}
		cells = append(cells, line)
	}
	if err := c.WriteAll(cells); err != nil {
		return err
	}
	for name, body := range map[string]string{"control.json": string(whole) + "\n", "control.csv": text.String(), "pareto.svg": pareto(rows)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(body), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func f(v float64) string { return strconv.FormatFloat(v, 'g', 5, 64) }
