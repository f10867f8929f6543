// Command worker is what the tests of package prefork run under their masters: it does what the path of a request says.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/registry/prefork"
	"tidemark/registry/serve"
)

var kept [][]byte // for as long as the process lives

func cpuTime() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		log.Fatal(err)
	}
	return t.Nano()
}

func main() {
	var limits prefork.Limits
	slot := flag.Int("slot", 0, "")
	flag.Int64Var(&limits.MemorySoft, "soft", 0, "")
	flag.Int64Var(&limits.MemoryHard, "hard", 0, "")
	flag.IntVar(&limits.Requests, "requests", 0, "")
	flag.Parse()
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	post, err := prefork.TakePost(prefork.FirstFD, *slot, 1, limits)
	if err != nil {
		log.Fatal(err)
	}
	server := serve.New(post.Listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what, text, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		n, _ := strconv.Atoi(text)
		switch what {
		case "grow": // n MiB
			for range n {
				page := make([]byte, 1<<20)
				for i := range page {
					page[i] = 1
				}
				kept = append(kept, page)
			}
		case "gulp": // n MiB at once
			kept = append(kept, make([]byte, n<<20))
		case "nibble": // n MiB in small pieces
			for range n << 10 {
				kept = append(kept, make([]byte, 1<<10))
			}
		case "stack": // for ever
			var deeper func(*[1 << 10]byte) byte
			deeper = func(b *[1 << 10]byte) byte { c := *b; c[0]++; return deeper(&c) + c[1] }
			deeper(&[1 << 10]byte{})
		case "burn": // n ms of CPU time
			for end := cpuTime() + int64(n)*int64(time.Millisecond); cpuTime() < end; {
			}
		case "spin": // for ever
			for {
			}
		case "sleep": // n ms
			time.Sleep(time.Duration(n) * time.Millisecond)
		case "panic":
			go func() { panic("out of order") }()
			select {}
		}
		post.Counters()[0].Add(1)
		fmt.Fprint(w, os.Getpid())
	}), log.New(os.Stderr, "", 0), post.Busy)
	if err := post.Ready(); err != nil {
		log.Fatal(err)
	}
	go func() {
		select {
		case <-term:
			server.Stop(0, time.Minute)
		case <-post.Gone:
			server.Stop(time.Second, time.Minute)
		}
	}()
	if err := server.Run(); err != nil {
		log.Fatal(err)
	}
}
