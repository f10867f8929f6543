package device_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"tidemark/registry/api"
	"tidemark/registry/store"
	"tidemark/registry/store/sqlite"
	"tidemark/registry/sync"
	"tidemark/registry/sync/device"
)

// 500 farmers with two plots and a submission each go up at 128 kbit/s and come down at 384 kbit/s in under 120 s: there is
// no time for more than 1.92 MB up. The exchange alone, without server time and headers, must leave most of it.
func TestADayFitsTheLink(t *testing.T) {
	const up, down = 128_000 / 8, 384_000 / 8 // bytes a second
	path := filepath.Join(t.TempDir(), "farmers.db")
	if err := sqlite.Create(t.Context(), path, func(s *store.Store) error { ready(t, s); return nil }); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := &http.Client{Transport: &network{h: api.New(s, api.Options{Open: true, Timeout: time.Hour, More: sync.Routes(s), Trouble: func(err error) { t.Errorf("trouble: %v", err) }})}}
	for i, coding := range []string{"zstd", "gzip", ""} {
		d := device.New(device.Options{Client: client, URL: "http://registry", ID: "sender-" + coding, Coding: coding})
		d.Register(500, device.Drive{Seed: uint64(i), Villages: villages, Form: crops})
		if err := d.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(d.Answered) > 0 || len(d.Records()) != 2000*(i+1) {
			t.Fatalf("%d records, %+v", len(d.Records()), d.Answered)
		}
		// It brings what the senders before it have sent, too: a device of its own tells what one day is.
		seconds := float64(d.Sent)/up + float64(d.Received)/float64(i+1)/down
		t.Logf("coding %q: %d bytes up for 2,000 changes (%d a farmer), %d bytes down for %d records and 2,000 results: %.0f s on the link for a day", coding,
			d.Sent, d.Sent/500, d.Received, len(d.Records()), seconds)
		if coding != "" && (d.Sent > 1_920_000/4 || seconds > 60) {
			t.Errorf("coding %q: %d bytes up, %d down: %.0f s", coding, d.Sent, d.Received, seconds)
		}
	}
}
