// Package test holds what is true of the whole house: the direction of its imports, and end-to-end suites.
package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rooms are the parts of the house from the top down. A package may import packages of its own room and of rooms below.
var rooms = []string{
	"cmd", "internal/cli", "internal/demo", "internal/app", "internal/show", "internal/prove", "internal/foresee", "internal/doctor", "internal/control",
	"internal/observe", "internal/act", "internal/record", "internal/tell", "internal/atomicfile", "internal/kubeapi", "internal/lead", "internal/lines", "internal/config", "internal/decide", "internal/fleet",
}

// vendors: each library has the one package, or folder, that may import it.
var vendors = map[string]string{
	"github.com/expr-lang/expr":           "internal/decide/expression",
	"github.com/prometheus/client_model":  "internal/observe/httpjson",
	"github.com/prometheus/common":        "internal/observe/httpjson registry/metrics",
	"github.com/wneessen/go-mail":         "internal/tell/mail",
	"github.com/spf13/cobra":              "internal/cli registry/cli",
	"go.yaml.in/yaml":                     "internal/config",
	"modernc.org/sqlite":                  "internal/record/sqlite registry/store/sqlite",
	"github.com/prometheus/client_golang": "registry/metrics",
	"github.com/jackc/pgx":                "internal/observe/pgbouncer internal/observe/postgres internal/record/postgres registry/store/postgres",
	"github.com/coreos/go-oidc":           "internal/show/web/access",
	"golang.org/x/oauth2":                 "internal/show/web/access",
	"github.com/klauspost/compress":       "registry/coding internal/show/web",
	"github.com/coreos/go-systemd":        "internal/act/systemd",
	"github.com/godbus/dbus":              "internal/act/systemd",
	"k8s.io":                              "internal/kubeapi",
	"google.golang.org/grpc":              "internal/act/keda",
	"google.golang.org/protobuf":          "internal/act/keda/externalscaler",
}

// impure is what nothing under decide or fleet may import: there, everything is an argument.
var impure = []string{"os", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "syscall", "os/exec", "io/ioutil", "sync", "runtime"}

func TestImportsPointDown(t *testing.T) {
	seen := 0
	for file, imports := range importsOf(t) {
		from := room(file)
		for _, imp := range imports {
			seen++
			if path, ours := strings.CutPrefix(imp, "tidemark/"); ours {
				to := room(path)
				switch {
				case strings.HasPrefix(file, "registry/") != strings.HasPrefix(path, "registry") && !strings.HasPrefix(file, "cmd/registry"):
					t.Errorf("%s imports %s: the reference workload and the product know nothing of each other", file, imp)
				case from >= 0 && to >= 0 && to < from:
					t.Errorf("%s imports %s: imports point down, from %s to %s they point up", file, imp, rooms[from], rooms[to])
				}
			}
			for lib, homes := range vendors {
				if strings.HasPrefix(imp, lib) && !slices.ContainsFunc(strings.Fields(homes), func(h string) bool { return strings.HasPrefix(file, h) }) {
					t.Errorf("%s imports %s, which belongs to %s", file, imp, homes)
				}
			}
			if pure(file) && slices.Contains(impure, imp) {
				t.Errorf("%s imports %s: the core is pure", file, imp)
			}
		}
	}
	if seen < 100 {
		t.Fatalf("only %d imports seen: the test looks at the wrong place", seen)
	}
}

func pure(file string) bool {
	return strings.HasPrefix(file, "internal/decide/") || strings.HasPrefix(file, "internal/fleet/")
}

func room(path string) int {
	return slices.IndexFunc(rooms, func(r string) bool { return path == r || strings.HasPrefix(path, r+"/") })
}

// importsOf lists the imports of each file of the module that is not a test.
func importsOf(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, dir := range []string{"cmd", "internal", "registry"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			name := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
			for _, imp := range f.Imports {
				p, err := strconv.Unquote(imp.Path.Value)
				if err != nil {
					return err
				}
				out[name] = append(out[name], p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}
