package test

import "fmt"

// logLine is a line of the recommended log_format: a request for path that took latency seconds.
func logLine(path string, latency float64) string {
	return fmt.Sprintf(`127.0.0.1 - - [01/Mar/2027:07:00:00 +0000] "GET %s HTTP/1.1" 200 512 "-" "test" rt=%.3f urt="%.3f" uct="0.000" uht="%.3f" addr="127.0.0.1:9001" len=100`+"\n",
		path, latency, latency, latency)
}
