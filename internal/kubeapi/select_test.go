package kubeapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cluster is an API server of pods, which are shared by all who ask: each list and watch of them is counted.
type cluster struct {
	pods           []map[string]any // of the first list
	lists, watches atomic.Int32
	events         chan map[string]any
}

func (k *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("watch") == "" {
		k.lists.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"resourceVersion": "100"}, "items": k.pods})
		return
	}
	k.watches.Add(1)
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case e := <-k.events:
			_ = json.NewEncoder(w).Encode(e)
		case <-r.Context().Done():
			return
		}
	}
}

func pod(name, version string, labels ...string) map[string]any {
	of := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		of[labels[i]] = labels[i+1]
	}
	return map[string]any{"metadata": map[string]any{"namespace": "dfr", "name": name, "resourceVersion": version, "labels": of}}
}

// selected waits until a selector takes these pods.
func selected(t *testing.T, c *Client, selector, want string) PodList {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		list, err := c.Pods(t.Context(), selector)
		var names []string
		for _, p := range list.Pods {
			names = append(names, p.Meta.Name)
		}
		have := strings.Join(names, " ")
		if err == nil && have == want {
			return list
		}
		if time.Now().After(end) {
			t.Fatalf("%s: want %q, have %q, %v", selector, want, have, err)
		}
	}
}

// However many ask for pods by whatever labels, the server lists them once and is asked for changes once.
func TestManyShareOneWatch(t *testing.T) {
	k := &cluster{events: make(chan map[string]any), pods: []map[string]any{
		pod("b", "3", "app", "web", "tier", "front"), pod("a", "2", "app", "web"), pod("c", "1", "app", "db", "tier", "back"),
	}}
	c := client(t, k.ServeHTTP)
	for selector, want := range map[string]string{
		"app=web": "a b", "app in (db)": "c", "app in (db,web)": "a b c", "app=web,tier=front": "b", "tier!=back": "a b", "!tier": "a", "": "a b c", "app=nobody": "",
	} {
		selected(t, c, selector, want)
	}
	for _, e := range []struct {
		kind, selector, want string
		pod                  map[string]any
	}{
		{"ADDED", "app=web", "a b d", pod("d", "101", "app", "web")},
		{"MODIFIED", "app=web", "a d", pod("b", "102", "app", "db")}, // its labels changed
		{"MODIFIED", "app=db", "b c", pod("b", "103", "app", "db")},
		{"DELETED", "app=db", "b", pod("c", "104", "app", "db")},
	} {
		k.events <- map[string]any{"type": e.kind, "object": e.pod}
		selected(t, c, e.selector, e.want)
	}
	k.events <- map[string]any{"type": "BOOKMARK", "object": pod("", "200")}
	for Older(selected(t, c, "", "a b d").Version, "200") {
		time.Sleep(time.Millisecond) // it is on its way
	}
	if k.lists.Load() != 1 || k.watches.Load() != 1 {
		t.Errorf("%d lists and %d watches", k.lists.Load(), k.watches.Load())
	}
	if _, err := c.Pods(t.Context(), "app web"); err == nil {
		t.Error("a selector that is none")
	}
}

// What was not confirmed for too long is not told, however whole the connection looks.
func TestSilenceIsNotTaken(t *testing.T) {
	k := &cluster{events: make(chan map[string]any), pods: []map[string]any{pod("a", "1", "app", "web")}}
	c := client(t, k.ServeHTTP)
	var now atomic.Int64
	c.uptime = func() time.Duration { return time.Duration(now.Load()) }
	selected(t, c, "app=web", "a")
	bound := c.oldest()
	if bound > 30*time.Second {
		t.Errorf("a copy may be %v old", bound)
	}
	now.Store(int64(bound))
	selected(t, c, "app=web", "a")
	now.Add(int64(time.Second))
	if list, err := c.Pods(t.Context(), "app=web"); err == nil || list.Pods != nil || !strings.Contains(err.Error(), "was last heard of /api/v1/namespaces/dfr/pods 26s ago") {
		t.Errorf("%+v, %v", list, err)
	}
	k.events <- map[string]any{"type": "BOOKMARK", "object": pod("", "101")}
	selected(t, c, "app=web", "a")
}

func TestManyWatchesAskSeldom(t *testing.T) {
	c := client(t, func(http.ResponseWriter, *http.Request) {})
	for i := range 1000 {
		c.follows[fmt.Sprint(i)] = nil
	}
	if rate := 1000 / c.watchFor().Seconds(); rate > 5 {
		t.Errorf("1,000 watches are renewed %.1f times a second", rate)
	}
}

func TestOlder(t *testing.T) {
	got := []bool{Older("9", "10"), Older("10", "10"), Older("10", "9"), Older("", "9"), Older("x", "9")}
	if want := []bool{true, false, false, true, true}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
