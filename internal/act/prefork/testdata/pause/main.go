// Command pause waits to be ended: the only program of a container without a shell. To the target it looks like Odoo's master.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	in := make(chan os.Signal, 1)
	signal.Notify(in, syscall.SIGTERM)
	<-in
}
