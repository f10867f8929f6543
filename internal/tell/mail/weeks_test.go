package mail

import (
	"context"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/tell"
	"tidemark/internal/tell/mail/mailtest"
)

// Eighteen days without a mail server, then one that greylists first: every message arrives, in order, in a mail for each day with more than three.
func TestWeeksWithoutAMailServer(t *testing.T) {
	srv := mailtest.Start(t, false)
	srv.Fault("greet", "close")
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.SMTP, cfg.To = srv.URL("smtp+insecure"), []string{"ict@moa.example"}
		channels, err := Channels(cfg, zone)
		if err != nil {
			t.Fatal(err)
		}
		begin := func() *tell.Teller {
			teller, err := tell.New(tell.Options{Instance: "dfr", Zone: zone, Dir: dir}, channels)
			if err != nil {
				t.Fatal(err)
			}
			teller.Start()
			return teller
		}
		end := func(teller *tell.Teller) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			teller.Stop(ctx)
		}
		teller := begin()
		var want []string
		for i := range 90 { // five a day
			n := alert.Notice{Key: "k", Rule: "short", Instance: "dfr", Fleet: "f", Title: fmt.Sprintf("event %d é", i), Started: time.Now(), Once: true}
			want = append(want, n.Title)
			teller.Sync("f", []alert.Notice{n})
			time.Sleep(24 * time.Hour / 5)
			if i == 40 {
				end(teller)
				teller = begin()
			}
		}
		srv.Fault("greet", "")
		srv.Fault("RCPT", "450 4.7.1 greylisted")
		time.Sleep(time.Hour)
		srv.Fault("RCPT", "")
		time.Sleep(time.Hour)
		end(teller)
		var got []string
		ids := map[string]bool{}
		for _, m := range srv.Mails() {
			h, body := m.Parse(t)
			ids[h.Get("Message-Id")] = true
			plain, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			if _, list, ok := strings.Cut(string(plain), "All, in order:"); ok {
				plain = []byte(list)
			}
			for l := range strings.Lines(string(plain)) {
				if _, title, ok := strings.Cut(strings.TrimSpace(l), "event "); ok {
					got = append(got, "event "+strings.TrimSuffix(title, "."))
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %d, want %d: %q", len(got), len(want), got)
		}
		if n := len(srv.Mails()); n < 18 || n > 25 || len(ids) != n {
			t.Errorf("%d mails with %d different IDs for 18 days", n, len(ids))
		}
	})
}
