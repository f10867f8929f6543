package servers

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// Alertmanager is a real one, which tells nobody.
type Alertmanager struct{ URL string }

// Alert is one that it holds active.
type Alert struct{ Labels, Annotations map[string]string }

// StartAlertmanager starts one until the end of the test.
func StartAlertmanager(t testing.TB) *Alertmanager {
	t.Helper()
	program := Need(t, "prometheus-alertmanager")
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
		_ = cmd.Process.Kill() // it may have ended
		<-read
		_ = cmd.Wait() // killed
	})
	host, ok := <-address
	if !ok {
		t.Fatal("Alertmanager does not listen")
	}
	return &Alertmanager{"http://" + host}
}

// Active lists the alerts that it holds active.
func (a *Alertmanager) Active(t testing.TB) (all []Alert) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: ages}
	resp, err := client.Get(a.URL + "/api/v2/alerts?active=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Until waits until it holds n alerts active, and returns them.
func (a *Alertmanager) Until(t testing.TB, n int) []Alert {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(ages); ; {
		all := a.Active(t)
		if len(all) == n {
			return all
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%d alerts are active and not %d: %v", len(all), n, all)
		}
	}
}
