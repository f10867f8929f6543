package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"tidemark/internal/atomicfile"
	"tidemark/internal/config"
	"tidemark/internal/decide/alert"
	"tidemark/internal/foresee/month"
	"tidemark/internal/show/report"
	"tidemark/internal/tell"
	"tidemark/internal/tell/mail"
)

// monthly makes the month's report when it is due, and mails it. What was made stands in the state folder's reports, so that a restart makes
// none twice; what cannot be delivered waits in a spool of its own. nil: none is configured.
type monthly struct {
	app    *App
	cfg    *config.Config
	dir    string
	teller *tell.Teller // nil: nobody is written to
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// monthlyLook is how often the clock is looked at: it may jump.
const monthlyLook = time.Minute

// due is the last moment up to now at which a report was due, and the month that it is of.
func due(c *config.Report, zone *time.Location, now time.Time) (name string, at time.Time) {
	local := now.In(zone)
	for back := range 2 {
		at = time.Date(local.Year(), local.Month()-time.Month(back), c.Day, 0, int(time.Duration(c.At).Minutes()), 0, 0, zone)
		if !at.After(now) {
			break
		}
	}
	return month.Before(at, zone), at
}

// startMonthly begins to wait for what is due. Without a report in the configuration it does nothing.
func (a *App) startMonthly(cfg *config.Config) (*monthly, error) {
	if !cfg.Report.Scheduled {
		return nil, nil
	}
	m := &monthly{app: a, cfg: cfg, dir: cfg.ReportsDir()}
	to, err := readers(cfg)
	if err != nil {
		return nil, err
	}
	if len(to) > 0 {
		opts := tell.Options{Instance: cfg.Instance.Name, Zone: cfg.Instance.Zone, Dir: filepath.Join(m.dir, "spool"), Log: a.opts.Log}
		if m.teller, err = tell.New(opts, to); err != nil {
			return nil, err
		}
		m.teller.Start()
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.wg.Go(func() { m.run(ctx) })
	return m, nil
}

// readers are the channels of those who get the report: one mail each, at once, by the server of the alerts' mail.
func readers(cfg *config.Config) ([]tell.Channel, error) {
	if len(cfg.Report.To) == 0 {
		return nil, nil
	}
	for _, n := range cfg.Notify {
		if c, ok := n.Body.(*mail.Config); ok {
			d := tell.DefaultDelivery()
			d.Repeat, d.Digest.Over = 0, 0
			return mail.Channels(c.For(cfg.Report.To, d), cfg.Instance.Zone)
		}
	}
	return nil, errors.New("report.to: there is no mail server to send it by") // refused when the configuration is read
}

// end delivers what can be delivered at once and stops.
func (m *monthly) end() {
	if m == nil {
		return
	}
	m.stop()
	m.wg.Wait()
	if m.teller != nil {
		ctx, cancel := context.WithTimeout(context.Background(), tellStop)
		defer cancel()
		m.teller.Stop(ctx)
	}
}

// status is how its channels fare.
func (m *monthly) status() []tell.Status {
	if m == nil || m.teller == nil {
		return nil
	}
	return m.teller.Status()
}

func (m *monthly) run(ctx context.Context) {
	ticker := time.NewTicker(monthlyLook)
	defer ticker.Stop()
	told, said := "", ""
	for {
		name, at := due(&m.cfg.Report, m.cfg.Instance.Zone, time.Now())
		if name != told {
			err := m.make(ctx, name, at)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				told, said = name, ""
			case err.Error() != said:
				said = err.Error()
				m.app.opts.Log("the report of " + name + ": " + said + "; it is tried again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// make makes a month's report and tells of it. One that was made before is only told of: its readers' spool knows who has it.
func (m *monthly) make(ctx context.Context, name string, at time.Time) error {
	r, err := month.Make(ctx, m.app.journal, m.cfg, name, time.Now())
	if err != nil {
		return err
	}
	known := false
	for i := range r.Fleets {
		known = known || r.Fleets[i].Coverage.Known > 0
	}
	if !known { // Tidemark was not there yet
		return nil
	}
	page := report.Month(r, m.cfg.File)
	path := func(suffix string) string { return filepath.Join(m.dir, name+suffix) }
	for _, f := range []struct {
		path  string
		write func(io.Writer) error
	}{
		{path(".csv"), func(w io.Writer) error { return report.MonthCSV(w, r) }},
		{path("-focus.csv"), func(w io.Writer) error { return report.MonthFOCUS(w, r, m.cfg.Instance.Region) }},
		{path(".md"), page.Markdown},
		{path(".html"), page.Write}, // the last: when it is there all are
	} {
		if _, err := os.Stat(path(".html")); err == nil {
			break
		}
		var b bytes.Buffer
		if err := f.write(&b); err != nil {
			return err
		}
		if err := atomicfile.Write(f.path, b.Bytes(), 0o640, nil); err != nil {
			return err
		}
	}
	if m.teller != nil {
		m.teller.Sync("report", []alert.Notice{{
			Key: "report/" + name, Rule: "report", Instance: m.cfg.Instance.Name, Severity: alert.Info, Started: at, Once: true,
			Title: "the report of " + report.MonthName(name), File: path(".html"),
			Lines: append(report.Summary(r), "The whole report goes with this mail; it is kept as "+path(".html")+"."),
		}})
	}
	return nil
}
