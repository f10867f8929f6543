package app

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/month"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
	"tidemark/internal/tell/mail/mailtest"
)

func TestWhenAReportIsDue(t *testing.T) {
	for _, c := range []struct {
		zone, now, month, at string
		day                  int
	}{
		{"Pacific/Rarotonga", "2027-04-01T16:59:00Z", "2027-02", "2027-03-01T07:00:00-10:00", 1},
		{"Pacific/Rarotonga", "2027-04-01T17:00:00Z", "2027-03", "2027-04-01T07:00:00-10:00", 1},
		{"Pacific/Apia", "2027-03-31T18:00:00Z", "2027-03", "2027-04-01T07:00:00+13:00", 1}, // a day earlier in UTC
		{"Pacific/Auckland", "2027-04-29T00:00:00Z", "2027-03", "2027-04-28T07:00:00+12:00", 28},
		{"Pacific/Efate", "2028-01-02T00:00:00Z", "2027-11", "2027-12-03T07:00:00+11:00", 3},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		name, at := due(&config.Report{Day: c.day, At: config.TimeOfDay(7 * time.Hour)}, zone, now)
		if name != c.month || at.Format(time.RFC3339) != c.at {
			t.Errorf("%s at %s: %s at %s, want %s at %s", c.zone, c.now, name, at.Format(time.RFC3339), c.month, c.at)
		}
	}
}

// TestTheReportIsMailed: a daemon that finds a month over makes its report, mails it once, and does not again after a restart.
func TestTheReportIsMailed(t *testing.T) {
	srv := mailtest.Start(t, false)
	w := emptyWorld(t, 2)
	name := month.Before(time.Now(), time.UTC)
	from, _, err := month.Span(name, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	j, err := sqlite.Open(t.Context(), filepath.Join(w.dir, "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	var ticks []record.Tick
	for i := range 600 {
		ticks = append(ticks, record.Tick{Fleet: "f", Time: from.Add(time.Duration(i) * time.Minute), Size: fleet.Size{Known: true, Serving: 2}})
	}
	if err := j.Commit(t.Context(), ticks...); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	w.write(fmt.Sprintf(`
notify: {mail: {smtp: %q, ca_file: %q, to: [ict@moa.example], severity: critical}}
report: {at: "00:00", to: [director@moa.example]}`, srv.URL("smtp"), srv.CA), "")
	w.start()
	wait(t, "the mail", func() bool { return len(srv.Mails()) > 0 })
	mails := srv.Mails()
	if m := mails[0]; m.To != "RCPT TO:<director@moa.example>" || !strings.HasPrefix(m.From, "MAIL FROM:<tidemark@moa.example>") {
		t.Errorf("envelope %q %q", m.From, m.To)
	}
	page, err := os.ReadFile(filepath.Join(w.dir, "reports", name+".html"))
	if err != nil {
		t.Fatal(err)
	}
	raw := strings.ReplaceAll(mails[0].Raw, "\r\n", "")
	if !strings.Contains(raw, base64.StdEncoding.EncodeToString(page)) || !strings.Contains(raw, name+".html") {
		t.Error("the page does not go with the mail")
	}
	if !strings.Contains(strings.ReplaceAll(raw, "=", ""), "service was available 100.00 %") {
		t.Errorf("the mail does not say the month in words:\n%s", mails[0].Raw)
	}
	for _, suffix := range []string{".md", ".csv", "-focus.csv"} {
		if _, err := os.Stat(filepath.Join(w.dir, "reports", name+suffix)); err != nil {
			t.Error(err)
		}
	}
	w.Stop()
	made := filepath.Join(w.dir, "reports", name+".html")
	if err := os.Remove(made); err != nil { // it is made again, so that it is seen when the daemon has got there
		t.Fatal(err)
	}
	w.start()
	wait(t, "the report", func() bool { _, err := os.Stat(made); return err == nil })
	if n := len(w.Alerts().Channels); n != 2 {
		t.Errorf("%d channels are shown", n)
	}
	w.Stop() // delivers what there is
	if n := len(srv.Mails()); n != 1 {
		t.Errorf("%d mails after a restart", n)
	}
}

// wait waits for what is to come to pass.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(ages); !ok(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}
