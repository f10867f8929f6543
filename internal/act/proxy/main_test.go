package proxy

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the other processes that the tests need.
func TestMain(m *testing.M) {
	switch os.Getenv("PROXY_TEST_MAIN") {
	case "backends":
		backendMain()
		return
	case "proxy":
		proxyMain()
		return
	case "worker":
		workerMain()
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")) // lingers longer than goleak waits
}
