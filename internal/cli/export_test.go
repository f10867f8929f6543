package cli

import (
	"os"
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

// The definition in deploy and in the chart is that of the settings there are: go generate ./internal/kubeapi/scalingpolicy writes it.
func TestDefinitionIsCurrent(t *testing.T) {
	code, out, _ := main(t, "export", "crd")
	if code != done {
		t.Fatal(code)
	}
	for _, path := range []string{"../../deploy/kubernetes/crd.yaml", "../../deploy/helm/tidemark/crds/scalingpolicies.yaml"} {
		text, err := os.ReadFile(path)
		if err != nil || string(text) != out {
			t.Errorf("%s is not what tidemark export crd writes: go generate ./internal/kubeapi/scalingpolicy (%v)", path, err)
		}
	}
}
