package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/decide/alert"
	"tidemark/internal/tell"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "0123456789abcdef0123456789abcdef"

func message(id, title string) tell.Message {
	at := time.Date(2027, 3, 1, 9, 15, 0, 0, time.UTC)
	return tell.Message{ID: id, Thread: id, Kind: tell.Raised, Time: at,
		Notice: alert.Notice{Key: "odoo-workers/short", Instance: "dfr", Severity: alert.Critical, Title: title, Lines: []string{"a < b & c"}, Started: at}}
}

type request struct {
	signature string
	body      []byte
}

// receiver keeps what is posted.
func receiver(t *testing.T) (url string, got <-chan request) {
	t.Helper()
	c := make(chan request, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		c <- request{r.Header.Get(SignatureHeader), body}
	}))
	t.Cleanup(s.Close)
	return s.URL, c
}

func channel(t *testing.T, cfg Config) tell.Channel {
	t.Helper()
	c, err := New(cfg, time.FixedZone("", 13*3600))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSignedJSON(t *testing.T) {
	url, got := receiver(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){"secret": func(c *Config) { c.Secret = key }, "file": func(c *Config) { c.SecretFile = file }} {
		cfg := DefaultConfig()
		cfg.URL = url
		change(&cfg)
		c := channel(t, cfg)
		if err := c.Sender.Send(t.Context(), []tell.Message{message("aa", "short")}); err != nil {
			t.Fatal(err)
		}
		r := <-got
		if err := Verify(r.signature, r.body, key, time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var p payload
		if err := json.Unmarshal(r.body, &p); err != nil || p.ID != "aa" || p.Instance != "dfr" || len(p.Messages) != 1 || p.Messages[0].Notice.Title != "short" {
			t.Errorf("%v %s", err, r.body)
		}
		if !strings.Contains(p.Text, "2027-03-01 22:15 (UTC+13:00)") {
			t.Errorf("%s", p.Text)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	body := []byte(`{"id":"aa"}`)
	good := sign(body, key, now)
	if err := Verify(good, body, key, now.Add(4*time.Minute)); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"another body":      Verify(good, []byte(`{"id":"ab"}`), key, now),
		"another key":       Verify(good, body, key+"x", now),
		"a recording":       Verify(good, body, key, now.Add(Tolerance+time.Second)),
		"the future":        Verify(good, body, key, now.Add(-Tolerance-time.Second)),
		"another time":      Verify(strings.Replace(good, "t=18", "t=19", 1), body, key, now),
		"nothing":           Verify("", body, key, now),
		"no hex":            Verify("t=1800000000,v1=zz", body, key, now),
		"an empty checksum": Verify("t=1800000000,v1=", body, key, now),
		"no time":           Verify("v1=00,v1=00", body, key, now),
	} {
		if err == nil {
			t.Errorf("%s is believed", name)
		}
	}
}

// The form is documented: who wrote a receiver relies on it. Computed with Python's hmac.
func TestTheSignatureStaysAsItIs(t *testing.T) {
	const want = "t=1800000000,v1=39706bacbde2185b15fbccac16f140b668f7b8af141d56332dcda9f9d5d4ed7d"
	if got := sign([]byte("hello"), key, time.Unix(1_800_000_000, 0)); got != want {
		t.Errorf("%s", got)
	}
}

func TestSlack(t *testing.T) {
	url, got := receiver(t)
	cfg := DefaultConfig()
	cfg.URL, cfg.Format = url+"/services/hunter2", Slack
	c := channel(t, cfg)
	if !strings.HasPrefix(c.Name, "slack 127.0.0.1") || strings.Contains(c.Name, "hunter2") {
		t.Errorf("name %q", c.Name)
	}
	if err := c.Sender.Send(t.Context(), []tell.Message{message("aa", "p95 > 400ms <!channel> *"+strings.Repeat("x", 20_000))}); err != nil {
		t.Fatal(err)
	}
	r := <-got
	var p map[string]string
	if err := json.Unmarshal(r.body, &p); err != nil || len(p) != 1 || r.signature != "" {
		t.Fatalf("%v %s", err, r.body)
	}
	if !strings.HasPrefix(p["text"], "*CRITICAL [dfr] p95 &gt; 400ms &lt;!channel&gt; ∗xxx") || len(p["text"]) > 12_000 {
		t.Errorf("%.200s (%d)", p["text"], len(p["text"]))
	}
}

func TestADigestIsOneRequest(t *testing.T) {
	url, got := receiver(t)
	cfg := DefaultConfig()
	cfg.URL, cfg.Secret = url, key
	if err := channel(t, cfg).Sender.Send(t.Context(), []tell.Message{message("aa", "x"), message("bb", "x")}); err != nil {
		t.Fatal(err)
	}
	var p payload
	if r := <-got; json.Unmarshal(r.body, &p) != nil || len(p.Messages) != 2 || p.ID == "aa" {
		t.Errorf("%s", r.body)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                               func(*Config) {},
		"url: is missing":                func(c *Config) { c.URL = "" },
		"secret_file: stands beside":     func(c *Config) { c.Secret, c.SecretFile = key, "/x" },
		"secret: is of no use":           func(c *Config) { c.Format, c.Secret = Slack, key },
		"secret: is missing":             func(c *Config) { c.URL = "http://x.example" },
		"secret: has fewer than 16":      func(c *Config) { c.Secret = "hunter2" },
		"timeout: 0s is not":             func(c *Config) { c.Timeout = 0 },
		"repeat: -1s is not between":     func(c *Config) { c.Repeat = -time.Second },
		"digest.over: 5000 is not betwe": func(c *Config) { c.Digest.Over = 5000 },
	} {
		c := DefaultConfig()
		c.URL = "https://ops.moa.example/x"
		change(&c)
		got := fmt.Sprint(c.Validate())
		if (want == "") != (c.Validate() == nil) || !strings.Contains(got, want) || strings.Contains(got, "hunter2") || strings.Contains(got, "\n") {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
