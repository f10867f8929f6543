package dashboard

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"tidemark/internal/foresee/month"
	"tidemark/internal/show/report"
	"tidemark/internal/show/web"
)

// monthOf is what the page of a fleet's costs shows.
type monthOf struct {
	*month.Report
	Fleet    string
	Sections []report.Section
	Earlier  string // months' addresses; empty: there is none
	Later    string
}

// costs shows a month of one fleet: whether it kept its levels, how it was scaled, what it cost, and how the month will end.
func (s *Site) costs(ctx context.Context, r *http.Request) (*page, error) {
	name := r.PathValue("fleet")
	p := s.page("Cost and KPIs of " + name)
	if _, err := p.state(name); err != nil {
		return nil, err
	}
	m, err := s.b.Month(ctx, r.URL.Query().Get("month"))
	if err != nil {
		return nil, err
	}
	months, err := s.b.Months(ctx)
	if err != nil {
		return nil, err
	}
	data := &monthOf{Report: m, Fleet: name, Sections: report.FleetMonth(m, name, p.Overview.Config)}
	address := func(i int) string {
		if i < 0 || i >= len(months) {
			return ""
		}
		return "?" + url.Values{"month": {months[i]}}.Encode()
	}
	if at := slices.Index(months, m.Month); at >= 0 { // the newest is the first
		data.Earlier, data.Later = address(at+1), address(at-1)
	}
	p.Data = data
	return p, nil
}

// reports lists what there is to read: the months, and the reports that are kept.
func (s *Site) reports(ctx context.Context, _ *http.Request) (*page, error) {
	p := s.page("Reports")
	var err error
	p.Data, err = s.b.Reports(ctx)
	return p, err
}

// month writes a month's report, as it is mailed.
func (s *Site) month(w http.ResponseWriter, r *http.Request) {
	m, err := s.b.Month(r.Context(), r.PathValue("month"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	web.StandAlone(w)
	_ = report.Month(m, s.b.Overview().Config).Write(w) // the client may be gone
}
