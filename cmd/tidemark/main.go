// Command tidemark is the autoscaler: one binary for the daemon, its proxy, and the operator's commands.
package main

import (
	"os"
	_ "time/tzdata" // the zone files of old servers are wrong for Samoa

	"tidemark/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
