package mail

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sender makes a Sender for a server as if it stood elsewhere: nothing is allowed that only this machine's own is.
func sender(t *testing.T, url string, change func(*Config)) *Sender {
	t.Helper()
	cfg := DefaultConfig()
	cfg.SMTP, cfg.To, cfg.Timeout = url, []string{"ICT on call <ict@moa.example>"}, 30*time.Second
	if change != nil {
		change(&cfg)
	}
	cs, err := Channels(cfg, zone)
	if err != nil {
		t.Fatal(err)
	}
	s := cs[0].Sender.(*Sender)
	s.server.local = false
	return s
}

var zone = time.FixedZone("Pacific/Rarotonga", -10*3600)
