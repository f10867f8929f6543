package deadman

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPing(t *testing.T) {
	got := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Method + " " + r.URL.Path
		if r.URL.Path == "/wrong" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	for _, method := range []string{"GET", "POST", "HEAD"} {
		cfg := DefaultConfig()
		cfg.URL, cfg.Method = s.URL+"/uuid", method
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Ping(t.Context()); err != nil || <-got != method+" /uuid" || p.Interval() != time.Minute {
			t.Errorf("%s: %v", method, err)
		}
	}
	cfg := DefaultConfig()
	cfg.URL = s.URL + "/wrong"
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                             func(*Config) {},
		"url: is missing":              func(c *Config) { c.URL = "" },
		`method: "PUT" is no way`:      func(c *Config) { c.Method = "PUT" },
		"interval: 1s is not":          func(c *Config) { c.Interval, c.Timeout = time.Second, time.Second },
		"timeout: 2m0s is longer than": func(c *Config) { c.Timeout = 2 * time.Minute },
	} {
		c := DefaultConfig()
		c.URL = "https://hc.example/uuid"
		change(&c)
		if got := fmt.Sprint(c.Validate()); (want == "") != (c.Validate() == nil) || !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("got %s, want %s", got, want)
		}
		if _, err := New(c); (err == nil) != (want == "") {
			t.Errorf("%s: New: %v", want, err)
		}
	}
}
