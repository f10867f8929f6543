package externalscaler

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tidemark/test/servers"
)

// What is generated is what the protocol's file says.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	if testing.Short() {
		t.Skip("builds protoc's plug-ins")
	}
	servers.Need(t, "protoc")
	dir := t.TempDir()
	if out, err := exec.Command("../../../../scripts/protobuf", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"externalscaler.pb.go", "externalscaler_grpc.pb.go"} {
		have, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(dir, "internal/act/keda/externalscaler", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s is not current; run 'go generate ./internal/act/keda/externalscaler'", name)
		}
	}
}
