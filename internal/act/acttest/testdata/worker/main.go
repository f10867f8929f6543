// Command worker is what targets run in tests: an HTTP server on $PORT that ends gracefully. While the file $SPOIL exists, one that starts
// is unfit for good.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_, err := os.Stat(os.Getenv("SPOIL"))
	spoiled := err == nil
	var busy atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if spoiled {
			http.Error(w, "spoiled", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("/busy", func(http.ResponseWriter, *http.Request) { // answers when it has burnt enough CPU time to tell, however long that takes
		busy.Store(true)
		enough, until := make(chan struct{}), cpuTime()+300*time.Millisecond
		go func() {
			for busy.Load() && cpuTime() < until {
			}
			close(enough)
			for busy.Load() { //nolint:revive // it stays busy
			}
		}()
		<-enough
	})
	mux.HandleFunc("/idle", func(http.ResponseWriter, *http.Request) { busy.Store(false) })
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.FormValue("d"))
		time.Sleep(d)
		fmt.Fprint(w, "done")
	})
	srv := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		_ = srv.Shutdown(context.Background())
	}()
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-done
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
