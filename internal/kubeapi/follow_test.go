package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A copy follows what a server tells, lists anew only when the server no longer knows the way (410), and is kept while the server is away.
func TestFollow(t *testing.T) {
	type event struct {
		kind, name string
		status     int // of an ERROR
	}
	watches, lists := make(chan []event, 10), make(chan string, 10)
	refuse := make(chan int, 10)
	var asked []string // versions that were watched from
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case code := <-refuse:
			w.WriteHeader(code)
			_, _ = fmt.Fprintf(w, `{"kind":"Status","code":%d,"message":"no"}`, code)
			return
		default:
		}
		q := r.URL.Query()
		if q.Get("watch") == "" {
			names := <-lists
			items := []map[string]any{}
			for _, n := range strings.Fields(names) {
				items = append(items, map[string]any{"metadata": map[string]any{"namespace": "dfr", "name": n}})
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"resourceVersion": "7"}, "items": items})
			return
		}
		if q.Get("labelSelector") != "app=web" || q.Get("allowWatchBookmarks") != "true" {
			t.Errorf("watched by %s", r.URL.RawQuery)
		}
		asked = append(asked, q.Get("resourceVersion"))
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case some := <-watches:
			for i, e := range some {
				object := map[string]any{"metadata": map[string]any{"namespace": "dfr", "name": e.name, "resourceVersion": fmt.Sprint(10*len(asked) + i)}}
				if e.kind == "ERROR" {
					object = map[string]any{"code": e.status, "message": "too old"}
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"type": e.kind, "object": object})
			}
		case <-r.Context().Done():
		}
	})
	type thing struct {
		Meta Meta `json:"metadata"`
	}
	f := Follow(c, "/things", map[string][]string{"labelSelector": {"app=web"}}, func(o *thing) *Meta { return &o.Meta })
	if _, listed, err := f.Objects(); listed || err == nil {
		t.Errorf("before the first list: %v, %v", listed, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	until := func(what, names string, failing bool) {
		t.Helper()
		for end := time.After(time.Minute); ; {
			select {
			case <-f.Changed():
			case <-end:
				t.Fatalf("%s: not within a minute", what)
			}
			objects, listed, err := f.Objects()
			if listed && strings.Join(slices.Sorted(maps.Keys(objects)), " ") == names && (err != nil) == failing {
				return
			}
		}
	}
	lists <- "a b"
	until("the first list", "dfr/a dfr/b", false)
	watches <- []event{{kind: "ADDED", name: "c"}, {kind: "DELETED", name: "a"}, {kind: "BOOKMARK"}}
	until("changes", "dfr/b dfr/c", false)
	watches <- []event{{kind: "MODIFIED", name: "b"}, {kind: "ERROR", status: http.StatusGone}}
	lists <- "d"
	until("a version that is too old", "dfr/d", false)
	watches <- []event{{kind: "ADDED", name: "e"}}
	until("a watch after it", "dfr/d dfr/e", false)
	refuse <- http.StatusInternalServerError
	watches <- []event{{kind: "BOOKMARK"}}
	until("the server fails", "dfr/d dfr/e", true)
	until("and is back", "dfr/d dfr/e", false)
	stop()
	<-done
	if want := []string{"7", "12", "7"}; !slices.Equal(asked[:3], want) {
		t.Errorf("watched from %v, want %v", asked, want)
	}
}
