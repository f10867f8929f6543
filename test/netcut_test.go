package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tidemark/test/servers"
)

// cable is a link between the test's network and a namespace of its own for one host.
type cable struct {
	t             *testing.T
	network       string // the namespace's name, and the link's end in the test's network
	near, distant string // addresses of the two ends
}

// layCable makes a namespace, which takes root, and a kernel that lets root do it.
func layCable(t *testing.T, n int) *cable {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are root's")
	}
	c := &cable{t: t, network: fmt.Sprintf("tm%d-%d", os.Getpid(), n)}
	net := fmt.Sprintf("198.18.%d.", (os.Getpid()+n)%256) // for tests of networks: RFC 2544
	c.near, c.distant = net+"1", net+"2"
	if out, err := exec.Command(servers.Need(t, "ip"), "netns", "add", c.network).CombinedOutput(); err != nil {
		t.Skipf("this machine has no network namespaces: %s", out)
	}
	t.Cleanup(func() { c.ip("netns delete NETWORK") })
	c.ip("link add NETWORK type veth peer name eth0 netns NETWORK")
	t.Cleanup(func() { c.ip("link delete NETWORK") })
	c.ip("address add NEAR/24 dev NETWORK")
	c.ip("-n NETWORK address add DISTANT/24 dev eth0")
	c.ip("-n NETWORK link set eth0 up")
	c.plug()
	return c
}

func (c *cable) ip(words string) {
	c.t.Helper()
	words = strings.NewReplacer("NETWORK", c.network, "NEAR", c.near, "DISTANT", c.distant).Replace(words)
	if out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput(); err != nil {
		c.t.Errorf("ip %s: %v\n%s", words, err, out)
	}
}

func (c *cable) cut()  { c.t.Helper(); c.ip("link set NETWORK down") }
func (c *cable) plug() { c.t.Helper(); c.ip("link set NETWORK up") }

// loseAnswers lets what the host sends arrive, and nothing come back.
func (c *cable) loseAnswers() { c.t.Helper(); c.ip("route add blackhole DISTANT/32") }
func (c *cable) findAnswers() { c.t.Helper(); c.ip("route delete blackhole DISTANT/32") }

// Two hosts, each with a network of its own between it and PostgreSQL. The leader's is cut: it holds, another leads within 15 s, and when the
// cable is plugged in again the first one stands by. Then both lose PostgreSQL, the leader in such a way that what it sends still arrives: it
// holds and nobody else leads, and it goes on when answers come back.
func TestNetworkCut(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: cuts networks and waits for take-overs")
	}
	t.Parallel() // it mostly waits
	cables := []*cable{layCable(t, 0), layCable(t, 1)}
	pg := servers.Postgres(t, "listen_addresses=*")
	pg.Admit("198.18.0.0/15")
	var dsns []string
	for _, c := range cables {
		dsns = append(dsns, strings.Replace(pg.URL("postgres"), "127.0.0.1", c.near, 1))
	}
	s := newStanding(t, pg, dsns...)
	for i, h := range s.hosts {
		h.network = cables[i].network
	}
	a, b := s.first(), s.hosts[1]

	cables[0].cut()
	start := time.Now()
	s.leader(takeOver, b)
	t.Logf("leader cut off: the other leads after %v", time.Since(start))
	s.held(a)
	s.decides(1)
	cables[0].plug()
	s.standsBy(a)
	s.decides(1)

	cables[0].cut()
	cables[1].loseAnswers()
	s.held(b)
	cables[1].findAnswers()
	s.goesOn(b)
	s.decides(1)
	cables[0].plug()
	s.standsBy(a)
	s.end(b, 4)
}
