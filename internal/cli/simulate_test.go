package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/foresee"
)

func TestSimulate(t *testing.T) {
	unreachable(t)
	example := filepath.Join("..", "..", "examples", "dfr", "tonga.yaml")
	code, out, errOut := main(t, "simulate", "-c", example, "--load", "registration-drive", "--policy", example, "--seeds", "2", "--decisions")
	if code != done || errOut != "" || !strings.Contains(out, "▲ 2 -> 3") || strings.Count(out, "tonga.yaml") != 2 || !strings.Contains(out, "95 % interval") {
		t.Errorf("exit %d, %q\n%s", code, errOut, out)
	}
	trace := filepath.Join(t.TempDir(), "trace.csv")
	if err := os.WriteFile(trace, []byte("time,rate\n0,5\n60,10\n120,20\n300,5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut = main(t, "simulate", "-c", example, "--load", trace, "--json")
	var forecasts []foresee.Forecast
	if err := json.Unmarshal([]byte(out), &forecasts); err != nil || code != done || len(forecasts) != 1 || forecasts[0].Requests.Mean < 1000 || !strings.Contains(errOut, "1 gaps") {
		t.Errorf("exit %d, %v, %q\n%s", code, err, errOut, out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--load", "weekly"}, "there is no load"},
		{[]string{"--load", "no.csv"}, "no such file"},
		{[]string{"--seeds", "0"}, "--seeds 0"},
		{[]string{"--quantile", "2"}, "--quantile 2"},
		{[]string{"--days", "-1"}, "--days -1"},
		{[]string{"--start", "soon"}, "write a date"},
		{[]string{"--fleet", "none"}, "has no fleet"},
		{[]string{"--service", "0s"}, "must be positive"},
	} {
		code, _, errOut := main(t, append([]string{"simulate", "-c", example}, c.args...)...)
		if code != failed || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, errOut)
		}
	}
}
