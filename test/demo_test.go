package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// `tidemark demo` as CI runs it: the fleet follows the tide up and down, no request fails, and the summary says so.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays the whole demo")
	}
	file := filepath.Join(t.TempDir(), "demo.json")
	t.Log(run(t, program("tidemark"), "demo", "--headless", "--json", file))
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var sum map[string]any
	if err := json.Unmarshal(b, &sum); err != nil {
		t.Fatal(err)
	}
	number := func(key string) float64 {
		v, ok := sum[key].(float64)
		if !ok {
			t.Errorf("the summary has no %s", key)
		}
		return v
	}
	if n := number("failed_requests"); n != 0 {
		t.Errorf("%g requests failed: %v", n, sum["notes"])
	}
	if n := number("requests"); n < 3000 {
		t.Errorf("only %g requests", n)
	}
	if up, down := number("scale_ups"), number("scale_downs"); up < 2 || down < 2 {
		t.Errorf("%g up, %g down: the fleet does not follow the tide", up, down)
	}
	if peak, final := number("peak_workers"), number("final_workers"); peak < 4 || final >= peak {
		t.Errorf("peak %g, %g at the end", peak, final)
	}
	for _, key := range []string{"p95_ms", "time_to_scale_s"} {
		if number(key) <= 0 {
			t.Errorf("%s is %v", key, sum[key])
		}
	}
	if n := number("time_to_scale_s"); n > 300 {
		t.Errorf("time to scale %g s; the requirements' target is 5 minutes", n)
	}
}
