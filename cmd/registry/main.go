// Command registry is the reference workload: see `registry --help`.
package main

import (
	"os"

	"tidemark/registry/cli"
)

func main() { os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr)) }
