// Package cli is the command line of the registry: flags in, exit codes and sentences out.
package cli

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Run carries out one command line, without the program's name, and returns the exit code: 0 done, 2 it could not be
// done.
func Run(args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "registry",
		Short: "A small Digital Farmer Registry: the workload that Tidemark is tried on",
		Example: `  registry seed --db farmers.db --farmers 20000
  registry serve --db farmers.db --listen 127.0.0.1:8069 --workers 2 --pid-file registry.pid
  registry work --db farmers.db
  registry import --db farmers.db list.csv
  registry token add --db farmers.db --scope enumerator --device tablet-7 --island Aitutaki
  curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:8069/api/farmer/lookup?name=tua&village=avarua'`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(seedCommand(), serveCommand(), tokenCommand(), accountCommand(), syncLogCommand(), workerCommand(), workCommand(), importCommand(), exportCommand(), versionCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if cmd, err := root.ExecuteC(); err != nil {
		fmt.Fprintf(stderr, "registry: %v\n", err)
		if !cmd.Hidden {
			fmt.Fprintf(stderr, "See `%s --help`.\n", cmd.CommandPath())
		}
		return 2
	}
	return 0
}

func mustHave(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err) // a flag that the command does not have
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Say which build this is",
		Example: "  registry version",
		Args:    cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			version, revision := "devel", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				if info.Main.Version != "" && info.Main.Version != "(devel)" {
					version = info.Main.Version
				}
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = ", revision " + s.Value
					}
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "registry %s%s, %s %s/%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

// beFrugal fits a process to its place: one of ten on a small machine, busy with one request. What the environment
// says goes first.
func beFrugal() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(64 << 20)
	}
}
