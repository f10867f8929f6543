package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/foresee/month"
	"tidemark/internal/record"
	"tidemark/internal/show/web"
)

// months are those that were reckoned lately. One is reckoned at a time, whoever asks.
type months struct {
	mu sync.Mutex
	of map[string]reckoned
}

type reckoned struct {
	cfg *config.Config
	at  time.Time
	is  *month.Report
}

// How long a month stands as it was reckoned, and how many do.
const (
	monthFor      = time.Minute
	wholeMonthFor = time.Hour
	mostMonths    = 24
)

// Month reckons a month of the journal; without a name, the present one.
func (a *App) Month(ctx context.Context, name string) (*month.Report, error) {
	a.mu.Lock()
	cfg := a.cfg
	a.mu.Unlock()
	now := time.Now()
	name = cmp.Or(name, now.In(cfg.Instance.Zone).Format(month.Form))
	if from, _, err := month.Span(name, cfg.Instance.Zone); err != nil {
		return nil, &web.Problem{Status: http.StatusNotFound, Detail: err.Error()}
	} else if !from.Before(now) {
		return nil, &web.Problem{Status: http.StatusNotFound, Detail: name + " has not begun"}
	}
	a.months.mu.Lock()
	defer a.months.mu.Unlock()
	if m, ok := a.months.of[name]; ok && m.cfg == cfg {
		lasts := monthFor
		if m.is.Whole() {
			lasts = wholeMonthFor
		}
		if now.Sub(m.at) < lasts {
			return m.is, nil
		}
	}
	r, err := month.Make(ctx, a.journal, cfg, name, now)
	if err != nil {
		return nil, err
	}
	if a.months.of == nil || len(a.months.of) >= mostMonths {
		a.months.of = map[string]reckoned{}
	}
	a.months.of[name] = reckoned{cfg, now, r}
	return r, nil
}

// Reports lists the months that the journal knows of and the reports that are kept, the newest first.
func (a *App) Reports(ctx context.Context) (*web.Reports, error) {
	a.mu.Lock()
	cfg := a.cfg
	a.mu.Unlock()
	out := &web.Reports{Folder: cfg.ReportsDir(), Months: []string{}, Kept: []web.Kept{}}
	first, err := a.journal.Events(ctx, record.EventQuery{After: 1, Limit: 1}) // oldest first
	if err != nil {
		return nil, err
	}
	now := time.Now().In(cfg.Instance.Zone)
	begin := now
	if len(first) > 0 {
		begin = first[0].Time.In(cfg.Instance.Zone)
	}
	for at := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, now.Location()); len(out.Months) < mostMonths; at = at.AddDate(0, -1, 0) {
		out.Months = append(out.Months, at.Format(month.Form))
		if !begin.Before(at) {
			break
		}
	}
	root, err := os.OpenRoot(out.Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the reports: %w", err)
	}
	defer func() { _ = root.Close() }() // it was read only
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list the reports: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && keptName.MatchString(e.Name()) {
			out.Kept = append(out.Kept, web.Kept{Name: e.Name(), Made: info.ModTime().UTC(), Bytes: info.Size()})
		}
	}
	slices.SortFunc(out.Kept, func(a, b web.Kept) int { return cmp.Or(b.Made.Compare(a.Made), strings.Compare(a.Name, b.Name)) })
	out.Kept = out.Kept[:min(len(out.Kept), mostKept)]
	for i := range out.Kept {
		out.Kept[i].Title = titleOf(root, out.Kept[i].Name)
	}
	return out, nil
}

const (
	mostKept      = 200
	mostKeptBytes = 16 << 20
)

var (
	keptName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.html$`)
	title    = regexp.MustCompile(`(?i)<title>([^<]{1,200})</title>`)
)

// titleOf is the title of a report's page; its name where it has none, or cannot be read.
func titleOf(root *os.Root, name string) string {
	f, err := root.Open(name)
	if err != nil {
		return name
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if m := title.FindSubmatch(head); err == nil && m != nil {
		return html.UnescapeString(string(m[1]))
	}
	return name
}

// Kept is the page of a report that is kept.
func (a *App) Kept(name string) ([]byte, error) {
	a.mu.Lock()
	dir := a.cfg.ReportsDir()
	a.mu.Unlock()
	none := &web.Problem{Status: http.StatusNotFound, Detail: "there is no such report; /reports lists those there are"}
	if !keptName.MatchString(name) {
		return nil, none
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, none
	}
	defer func() { _ = root.Close() }() // it was read only
	f, err := root.Open(name)
	if err != nil {
		return nil, none
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > mostKeptBytes {
		return nil, none
	}
	text, err := io.ReadAll(io.LimitReader(f, mostKeptBytes))
	if err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	return text, nil
}
