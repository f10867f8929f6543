package haproxy

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What `show stat` of 2.6 says, with most columns left out, in another order.
const table = `# pxname,svname,status,qcur,scur,slim,stot,dreq,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,qtime,ctime,rtime,addr,
dfr,w1,no check,0,1,1,5,,0,5,0,0,0,0,0,0,24,127.0.0.1:8071,
dfr,w2,MAINT,0,0,,5,,0,5,0,0,0,0,0,0,24,unix,
dfr,BACKEND,UP,3,4,999,10,7,1,2,3,4,5,6,40,1,200,,
`

func TestParseStats(t *testing.T) {
	s, err := parseStats(table)
	if err != nil {
		t.Fatal(err)
	}
	w1, w2 := ServerStats{"w1", "127.0.0.1:8071", "no check", 1, 1}, ServerStats{"w2", "unix", "MAINT", 0, 0}
	if len(s.Servers) != 2 || s.Servers[0] != w1 || s.Servers[1] != w2 || !w1.Serving() || w2.Serving() {
		t.Errorf("servers %+v", s.Servers)
	}
	if s.Queued != 3 || s.Requests != 10 || s.Refused != 7 || s.Status != [5]uint64{1, 2, 3, 4, 5} || s.Answers() != 21 ||
		s.QueueTime != 40*time.Millisecond || s.ConnectTime != time.Millisecond || s.ResponseTime != 200*time.Millisecond {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct{ old, new, want string }{
		{"# pxname", "pxname", "there is no table"},
		{"BACKEND", "w3", "no line of the backend itself"},
		{"slim", "limit", "the table has no slim"},
		{"UP,3", "UP,", `qcur is "", which is no number`},
		{",40,1,200", ",99999999999,1,200", "which no request takes"},
		{"\ndfr,BACKEND", "\ndfr,FRONTEND", "no line of the backend itself"},
		{"no check", "\"no check", "quote"},
	} {
		_, err := parseStats(strings.Replace(table, c.old, c.new, 1))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %v, want %q", c.new, c.old, err, c.want)
		}
	}
}

func FuzzParseStats(f *testing.F) {
	f.Add(table)
	f.Add("# \n")
	f.Add("# svname\nBACKEND\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseStats(text); err == nil && (s.QueueTime < 0 || s.ResponseTime < 0) {
			t.Errorf("%+v", s)
		}
	})
}

// What HAProxy answers, and how it is understood.
func TestAnswers(t *testing.T) {
	for _, c := range []struct{ said, text, refusal string }{
		{"\n\n", "", ""},
		{"\n[6]: New server registered.\n\n", "New server registered.", ""},
		{"\n[3]: No such server.\n\n", "", "No such server."},
		{"\n# pxname,svname\n", "# pxname,svname", ""},
		{"Unknown command: 'add server', but maybe one of the following ones is a better match:\n  add acl\n", "", "Unknown command: 'add server', but maybe one of the following ones is a better match:"},
		{"\nPermission denied\n", "", "Permission denied"},
	} {
		path := filepath.Join(t.TempDir(), "h.sock")
		asked := listen(t, path, c.said)
		text, err := NewRuntime(path).Do(t.Context(), "show nothing")
		var r *RefusedError
		if errors.As(err, &r) != (c.refusal != "") || r != nil && (r.Said != c.refusal || r.Command != "show nothing") || text != c.text {
			t.Errorf("%q: %q, %v", c.said, text, err)
		}
		if got := <-asked; got != "set severity-output number; show nothing\n" {
			t.Errorf("asked %q", got)
		}
	}
	path := filepath.Join(t.TempDir(), "h.sock")
	asked := listen(t, path, "")
	if _, err := NewRuntime(path).Do(t.Context(), "show info"); !errors.Is(err, ErrDown) {
		t.Errorf("closed without an answer: %v", err)
	}
	<-asked
}

// listen answers one command, and says which it was.
func listen(t *testing.T, path, answer string) chan string {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			asked <- err.Error()
			return
		}
		b := make([]byte, 1000)
		n, _ := c.Read(b)
		_, _ = io.WriteString(c, answer)
		_, _ = c.Close(), ln.Close()
		asked <- string(b[:n])
	}()
	return asked
}
