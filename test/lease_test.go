package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
	"tidemark/test/servers"
)

// leasedConfig is a fleet that is never content: with three workers it wants a fourth, and with four one less. So whoever leads acts all the time.
const leasedConfig = `
instance: {name: leased, time_zone: UTC}
state_dir: %[1]s/%[2]s
lease: {name: %[4]s, kubeconfig: %[3]s, namespace: dfr}
tick: 250ms
fleets:
  - name: workers
    target: {kubernetes: {kubeconfig: %[3]s, namespace: dfr, name: %[4]s}}
    bounds: {min: 2, max: 6}
    signals:
      ready: {kubernetes: {kubeconfig: %[3]s, namespace: dfr, selector: app=%[4]s, field: ready}, period: 250ms}
    policies:
      - id: never-content
        rules:
          - {signal: ready, operator: "<=", threshold: 3, scale_change: +1, evaluation_periods: 1}
          - {signal: ready, operator: ">=", threshold: 4, scale_change: -1, evaluation_periods: 1}
    safeguards: {cooldown: {scale_up: 500ms, scale_down: 500ms}, max_scaling_rate: 100 per 1s}
`

// leased are daemons of which a Lease lets one lead, and the API server's own account of what they did.
type leased struct {
	*testing.T
	k     *servers.Kube
	name  string // of the Lease, and of the Deployment
	hosts []*host
}

// newLeased has a host for each address of the API server.
func newLeased(t *testing.T, k *servers.Kube, name string, addresses ...string) *leased {
	t.Helper()
	l := &leased{T: t, k: k, name: name}
	deploy(t, k, name)
	k.Must(http.MethodPatch, "/apis/apps/v1/namespaces/dfr/deployments/"+name, object{"spec": object{"replicas": 3}}, nil)
	dir := t.TempDir()
	for i, address := range addresses {
		h := &host{name: string(rune('a' + i))}
		h.config, h.socket = filepath.Join(dir, h.name+".yaml"), filepath.Join(dir, h.name, "tidemark.sock")
		write(t, h.config, fmt.Sprintf(leasedConfig, dir, h.name, k.WriteKubeconfig(t, h.name, address), name))
		l.hosts = append(l.hosts, h)
	}
	return l
}

// written are the sizes and leads that the API server wrote.
func (l *leased) written() []servers.Written {
	l.Helper()
	return slices.DeleteFunc(l.k.Audit(l.T, "dfr"), func(w servers.Written) bool { return w.Name != l.name })
}

// sizes waits until so many more sizes were written, and returns the host that wrote the last.
func (l *leased) sizes(more int) *host {
	l.Helper()
	count := func() (n int, last string) {
		for _, w := range l.written() {
			if w.Resource == "deployments" {
				n, last = n+1, w.User
			}
		}
		return n, last
	}
	before, last := count()
	eventually(l.T, time.Minute, fmt.Sprint(more, " more sizes are written"), func() error {
		var n int
		if n, last = count(); n < before+more {
			return fmt.Errorf("%d, before there were %d", n, before)
		}
		return nil
	})
	return l.hosts[slices.IndexFunc(l.hosts, func(h *host) bool { return h.name == last })]
}

func (l *leased) standsBy(h *host) {
	l.Helper()
	eventually(l.T, 30*time.Second, h.name+" stands by", func() error {
		var p *web.Problem
		if _, err := h.client.Status(l.Context()); !errors.As(err, &p) || !strings.Contains(p.Detail, "the Lease "+l.name+" is held by") {
			return errors.Join(errors.New("it does not say so"), err)
		}
		return nil
	})
}

// held waits until a leader that is cut off says so. A signal is missing by then, or what it was a moment ago: nothing is taken for none.
func (l *leased) held(h *host) {
	l.Helper()
	eventually(l.T, 40*time.Second, h.name+" holds", func() error {
		o, err := h.client.Status(l.Context())
		if err != nil {
			return err
		}
		st := o.Fleets[0]
		if st.TargetErr == "" {
			return errors.New("it knows its workers")
		}
		if s := st.Signals[0]; s.Err == "" && s.Reading.Quality == fleet.Fresh && s.Reading.Value < minimum {
			l.Errorf("%+v", s)
		}
		return nil
	})
}

// judge reads the API server's record, whose order is that of what it wrote: whoever set a size held the Lease then, nobody who lost the Lease
// held it again, no size was below the minimum, and after the leader was lost another led within 15 s.
func (l *leased) judge(lost []time.Time, enough int) {
	l.Helper()
	var leads []servers.Written // the first write of each
	held := map[string]bool{}
	sizes := 0
	for _, w := range l.written() {
		if w.Resource == "leases" {
			if len(leads) > 0 && leads[len(leads)-1].Holder == w.Holder {
				continue
			}
			if held[w.Holder] {
				l.Errorf("%s holds the Lease again at %v", w.Holder, w.At)
			}
			held[w.Holder] = true
			leads = append(leads, w)
			continue
		}
		if led := leads[len(leads)-1].User; w.User != led {
			l.Errorf("%s set the size to %d at %v, while %s led", w.User, w.Replicas, w.At, led)
		}
		if w.Replicas < minimum {
			l.Errorf("%s set the size to %d at %v", w.User, w.Replicas, w.At)
		}
		sizes++
	}
	longest := time.Duration(0)
	for _, at := range lost {
		next := slices.IndexFunc(leads, func(w servers.Written) bool { return w.At.After(at) })
		if next < 0 {
			l.Fatalf("nobody led after %v", at)
		}
		longest = max(longest, leads[next].At.Sub(at))
	}
	l.Logf("%d sizes in %d leads, the leader lost %d times; another led after %v at most", sizes, len(leads), len(lost), longest.Round(time.Millisecond))
	if longest > takeOver || sizes < enough {
		l.Errorf("%d sizes (want %d); %v without a leader", sizes, enough, longest)
	}
}

// leaderKilled: of three real daemons, who leads is killed at a random moment, again and again, and started again to stand by.
func leaderKilled(t *testing.T, k *servers.Kube) {
	l := newLeased(t, k, "killed", k.Address, k.Address, k.Address)
	for _, h := range l.hosts {
		h.start(t)
	}
	kills := max(*leadChanges/5, 1)
	random := rand.New(rand.NewPCG(5, 6))
	var killed []time.Time
	for range kills {
		leader := l.sizes(2)
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond) // at random is what is tested
		killed = append(killed, time.Now())
		leader.kill()
		leader.start(t)
	}
	l.sizes(2)
	for _, h := range l.hosts {
		h.kill()
	}
	l.judge(killed, 2*kills+2)
}

// apiServerCut: two daemons, each with a network of its own between it and the API server. The leader's is cut: it holds, and another leads
// within 15 s; plugged in again, the first stands by. Then both are cut off: both hold, nothing is written, and afterwards one goes on.
func apiServerCut(t *testing.T, k *servers.Kube) {
	cables := []*cable{layCable(t, 2), layCable(t, 3)}
	var addresses []string
	for _, c := range cables {
		addresses = append(addresses, servers.NewRelayAt(t, c.near, k.Address).Address)
	}
	l := newLeased(t, k, "cut", addresses...)
	for i, h := range l.hosts {
		h.network = cables[i].network
	}
	a, b := l.hosts[0], l.hosts[1]
	a.start(t)
	l.sizes(1)
	b.start(t)
	l.standsBy(b)

	lost := []time.Time{time.Now()}
	cables[0].cut()
	l.held(a)
	if leads := l.sizes(2); leads != b {
		t.Errorf("%s leads", leads.name)
	}
	cables[0].plug()
	l.standsBy(a)

	cables[0].cut()
	cables[1].cut()
	l.held(b)
	before := l.written()
	eventually(t, 20*time.Second, "what b has under way ends with its lead", func() error { // it leads for 8 s after its last renewal
		if last := before[len(before)-1]; time.Since(last.At) < 10*time.Second {
			return fmt.Errorf("the last write was at %v", last.At)
		}
		return nil
	})
	if after := l.written(); len(after) != len(before) {
		t.Errorf("who is cut off wrote %+v", after[len(before):])
	}
	cables[1].plug()
	cables[0].plug()
	l.sizes(2)
	for _, h := range l.hosts {
		h.kill()
	}
	l.judge(lost, 5)
}
