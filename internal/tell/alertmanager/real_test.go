package alertmanager

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/test/servers"
)

// A real Alertmanager takes what is shown to it, and lets go of it when told so.
func TestRealAlertmanager(t *testing.T) {
	program := servers.Need(t, "prometheus-alertmanager")
	dir := t.TempDir()
	file := filepath.Join(dir, "am.yml")
	if err := os.WriteFile(file, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file="+file, "--storage.path="+dir, "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(address)
		found := regexp.MustCompile(`[Ll]istening on".* address=(127\.0\.0\.1:\d+)`)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := found.FindStringSubmatch(lines.Text()); m != nil && len(address) == 0 {
				address <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
	})
	host, ok := <-address
	if !ok {
		t.Fatal("it does not listen")
	}
	cfg := DefaultConfig()
	cfg.URLs = []string{"http://" + host}
	cs, err := Channels(cfg)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	n := alert.Notice{Key: "odoo/short", Rule: "short", Instance: "dfr", Fleet: "odoo", Severity: alert.Critical, Title: "short", Lines: []string{"x"}, Started: begun}
	if err := cs[0].Mirror.Show(t.Context(), begun, []alert.Notice{n}); err != nil {
		t.Fatal(err)
	}
	active := func() (names []string) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		resp, err := client.Get(fmt.Sprintf("http://%s/api/v2/alerts?active=true", host))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var all []struct{ Labels, Annotations map[string]string }
		if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			names = append(names, a.Labels["alertname"]+" "+a.Labels["severity"]+" "+a.Annotations["summary"])
		}
		return names
	}
	if got := active(); len(got) != 1 || got[0] != "TidemarkShort critical short" {
		t.Errorf("%q", got)
	}
	n.Ended = time.Now()
	if err := cs[0].Mirror.Show(t.Context(), time.Now(), []alert.Notice{n}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); len(active()) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("it does not end: %q", active())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
