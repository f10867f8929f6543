package cli

import (
	"strings"
	"testing"
)

func TestExport(t *testing.T) {
	unreachable(t)
	code, out, errOut := main(t, "export", "hpa", "-c", "../../examples/dfr/samoa.yaml")
	if code != done || !strings.Contains(out, "kind: HorizontalPodAutoscaler\n") || !strings.Contains(errOut, "the guard") {
		t.Errorf("exit %d, %q, %q", code, out, errOut)
	}
	for format, want := range map[string]string{"nomad": "write one of aws-terraform", "keda": "no such file"} {
		if code, _, errOut := main(t, "export", format, "-c", map[string]string{"nomad": "../../examples/dfr/samoa.yaml", "keda": "/nowhere.yaml"}[format]); code != failed || !strings.Contains(errOut, want) {
			t.Errorf("%s: exit %d, %q", format, code, errOut)
		}
	}
	if code, out, _ := main(t, "export", "keda", "--json", "-c", "../../examples/dfr/samoa.yaml"); code != done || !strings.Contains(out, `"lost":`) {
		t.Errorf("exit %d, %s", code, out)
	}
}
