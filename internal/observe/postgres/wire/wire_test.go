package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/config"
	"tidemark/internal/observe/postgres/wire/wiretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ages = time.Minute

var start = time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)

func open(t *testing.T, kind Kind, dsn string) *Server {
	t.Helper()
	servers := Servers{Limit: ages}
	s, err := servers.Open(kind, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func number(t *testing.T, s *Server, at time.Time) float64 {
	t.Helper()
	table, err := s.Ask(t.Context(), at, "SHOW X")
	if err != nil {
		t.Fatal(err)
	}
	v, null, err := table.Only()
	if err != nil || null {
		t.Fatal(null, err)
	}
	return v
}

// The waits between attempts grow to 10 s, by the time of the ticks alone, and end with the first success.
func TestBackoff(t *testing.T) {
	fake := wiretest.New(t, "1")
	relay := wiretest.NewRelay(t, fake.Port())
	fake.Set("SHOW X", []string{"x"}, []string{"1"})
	s := open(t, PgBouncer, strings.Replace(fake.URL, fmt.Sprint(fake.Port()), fmt.Sprint(relay.Port), 1))
	for range 2 { // the same again
		number(t, s, start)
		relay.Leave()
		var tried []int
		for second := 1; second <= 50; second++ {
			before := relay.Joined()
			_, err := s.Ask(t.Context(), start.Add(time.Duration(second)*time.Second), "SHOW X")
			if err == nil {
				t.Fatal("an answer from nobody")
			}
			if relay.Joined() != before {
				tried = append(tried, second)
			} else if !strings.Contains(err.Error(), "tried again in") {
				t.Errorf("second %d: %v", second, err)
			}
		}
		if want := []int{1, 2, 4, 8, 16, 26, 36, 46}; !slices.Equal(tried, want) {
			t.Errorf("tried at %v, want %v", tried, want)
		}
		if _, err := s.Ask(t.Context(), start.Add(-time.Hour), "SHOW X"); err == nil || strings.Contains(err.Error(), "tried again") {
			t.Errorf("after the clock was set back: %v", err)
		}
		relay.Return()
		number(t, s, start.Add(time.Hour))
	}
}

// A connection that was lost unseen costs no answer.
func TestALostConnectionIsReplaced(t *testing.T) {
	fake := wiretest.New(t, "1")
	fake.Set("SHOW X", []string{"x"}, []string{"1"})
	s := open(t, PgBouncer, fake.URL)
	for i := range 5 {
		number(t, s, start.Add(time.Duration(i)*time.Second))
		fake.Drop()
	}
	if ever, _ := fake.Dialled(); ever != 5 || s.life != 5 {
		t.Errorf("%d connections, and the life is %d", ever, s.life)
	}
}

func TestOneConnectionForAllWhoOpen(t *testing.T) {
	fake := wiretest.New(t, "1")
	fake.Set("SHOW X", []string{"x"}, []string{"1"})
	servers := Servers{Limit: ages}
	one, err := servers.Open(PgBouncer, fake.URL)
	if err != nil {
		t.Fatal(err)
	}
	other, err := servers.Open(PgBouncer, fake.URL)
	if err != nil || one != other {
		t.Fatal("two servers", err)
	}
	number(t, one, start)
	one.Close()
	number(t, other, start.Add(1))
	if ever, now := fake.Dialled(); ever != 1 || now != 1 {
		t.Errorf("%d connections, %d left", ever, now)
	}
	other.Close()
	if _, err := other.Ask(t.Context(), start, "SHOW X"); err == nil {
		t.Error("closed, and it answers")
	}
	for deadline := time.Now().Add(ages); ; time.Sleep(time.Millisecond) {
		if _, now := fake.Dialled(); now == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("the connection is left")
		}
	}
	again, err := servers.Open(PgBouncer, fake.URL)
	if err != nil || again == one {
		t.Error("a closed server is opened", err)
	}
	again.Close()
}

// One server that is waited for holds up no other, and who waits leaves when its time is over.
func TestServersDoNotWaitForEachOther(t *testing.T) {
	fake := wiretest.New(t, "1")
	fake.Set("SHOW X", []string{"x"}, []string{"1"})
	servers := Servers{Limit: ages}
	frozen, _ := servers.Open(PgBouncer, fake.URL+"&application_name=another")
	well, _ := servers.Open(PgBouncer, fake.URL)
	defer frozen.Close()
	defer well.Close()
	frozen.turn <- struct{}{} // as long as somebody waits for its answer
	number(t, well, start)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := frozen.Ask(ctx, start, "SHOW X"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-frozen.turn
	number(t, frozen, start)
}

func TestRubbish(t *testing.T) {
	fake := wiretest.New(t, "1")
	fake.Set("SHOW X", []string{"x"}, []string{"1"})
	at := start
	for name, rubbish := range map[string]string{
		"a web server":       "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n",
		"a huge message":     "T\x7f\xff\xff\xff",
		"a negative length":  "D\xff\xff\xff\xf0",
		"a torn row":         "T\x00\x00\x00\x06\x00\x09",
		"an unknown message": "\x00\x00\x00\x00\x04",
		"values of no table": "D\x00\x00\x00\x0a\x00\x03\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, PgBouncer, fake.URL)
			for _, fresh := range []bool{true, false} { // as it connects, and later
				if !fresh {
					at = at.Add(time.Minute)
					number(t, s, at)
				}
				// A server that holds the connection after half a message is given up in time, as a frozen one is.
				s.limit = 300 * time.Millisecond
				fake.Rubbish([]byte(rubbish))
				at = at.Add(time.Minute)
				if _, err := s.Ask(t.Context(), at, "SHOW X"); err == nil || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v", err)
				} else {
					t.Log(err)
				}
				fake.Rubbish(nil)
				s.limit = ages
				at = at.Add(time.Minute)
				number(t, s, at)
			}
		})
	}
}

func TestAnswersThatAreNoTable(t *testing.T) {
	fake := wiretest.New(t, "1")
	s := open(t, PgBouncer, fake.URL)
	long := [][]string{{"x"}}
	for range 100 {
		long = append(long, []string{strings.Repeat("x", 100_000)})
	}
	fake.Set("SHOW LONG", long...)
	fake.Set("SHOW HUGE", []string{"x"}, []string{strings.Repeat("x", maxMessage)})
	fake.Set("SHOW X", []string{"x"}, []string{"1"})
	for statement, want := range map[string]string{"SHOW LONG": "longer than 8 MiB", "SHOW HUGE": "longer than 8 MiB", "SHOW NOTHING": "unsupported: SHOW NOTHING (SQLSTATE 08P01)"} {
		if _, err := s.Ask(t.Context(), start, statement); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", statement, err)
		}
		number(t, s, start) // the others of the tick have their answers
	}
	fake.Set("SHOW X", []string{"x", "x"}, []string{"1", "NULL"}, []string{"2", "3"})
	table, err := s.Ask(t.Context(), start.Add(1), "SHOW X")
	if err != nil || table.Len() != 2 || !table.Has("x") || table.Has("y") {
		t.Fatal(table, err)
	}
	if _, _, err := table.Only(); err == nil || !strings.Contains(err.Error(), "2 rows of 2 columns") {
		t.Error(err)
	}
	if _, null, err := table.Row(0).Number("x"); !null || err != nil {
		t.Error(null, err)
	}
	var missing *ColumnError
	if _, _, err := table.Row(0).Text("y"); !errors.As(err, &missing) || missing.Column != "y" || missing.Version != "1" {
		t.Error(err)
	}
}

// The fake refuses transactions and the extended protocol, as a console does.
func TestKinds(t *testing.T) {
	fake := wiretest.New(t, "1")
	s := open(t, PostgreSQL, fake.URL)
	if _, err := s.Ask(t.Context(), start, "SHOW X"); err == nil || !strings.Contains(err.Error(), "unsupported: BEGIN READ ONLY") {
		t.Error(err)
	}
	s.limit = margin
	if _, err := s.Ask(t.Context(), start.Add(1), "SHOW X"); err == nil {
		t.Error("an answer without time")
	}
}

// The password is in no message, whatever goes wrong and whoever repeats it.
func TestSecrets(t *testing.T) {
	fake := wiretest.New(t, "1")
	s := open(t, PgBouncer, fake.URL)
	_, err := s.Ask(t.Context(), start, "SHOW geheim")
	if err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "SHOW ******") {
		t.Errorf("got %v", err)
	}
	var servers Servers
	for _, dsn := range []string{"postgres://u:geheim@h:port/db", "postgres://u:ge%heim@h/db", "host=h password='geheim", "://geheim@", "postgres://u:geheim@h/db?sslmode=geheim", "host=h port=geheim"} {
		if _, err := servers.Open(PostgreSQL, dsn); err == nil || strings.Contains(err.Error(), "heim") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	if _, err := new(Servers).Open(PostgreSQL, "postgres://u:geheim@h/db?sslmode=verify-ca&sslrootcert=/nowhere/ca.pem"); err == nil || !strings.Contains(err.Error(), "a file that dsn names cannot be read: open /nowhere/ca.pem") {
		t.Errorf("%v", err)
	}
	dead := open(t, PostgreSQL, "postgres://u:geheim@127.0.0.1:1/db?sslmode=prefer")
	if _, err := dead.Ask(t.Context(), start, "SELECT 1"); err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "PostgreSQL at 127.0.0.1:1 cannot be reached: connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestManyAskAtOnce(t *testing.T) {
	fake := wiretest.New(t, "1")
	fake.Set("SHOW X", []string{"x"}, []string{"1"})
	fake.Set("SHOW Y", []string{"x"}, []string{"2"})
	s := open(t, PgBouncer, fake.URL)
	const ticks = 20
	for i := range ticks {
		var wg sync.WaitGroup
		for j := range 20 {
			wg.Go(func() {
				if _, err := s.Ask(t.Context(), start.Add(time.Duration(i)*time.Second), []string{"SHOW X", "SHOW Y", "SHOW NOTHING"}[j%3]); (err == nil) == (j%3 == 2) {
					t.Error(j, err)
				}
			})
		}
		wg.Wait()
	}
	for _, statement := range []string{"SHOW X", "SHOW Y", "SHOW NOTHING"} {
		if n := fake.Asked(statement); n != ticks {
			t.Errorf("%s was asked %d times", statement, n)
		}
	}
}

func TestCheckDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u@h/db": "", "postgresql://u:p@h:1/db?sslmode=disable": "", "host=h dbname='db'": "", "postgres://h?dbname=db": "",
		"": "is missing", "postgres://u@h/other": "another database", "host=h": "another database", "h:5432": "no connection string", "mysql://h/db?a=b": "no connection string",
	} {
		var errs config.FieldErrors
		CheckDSN(&errs, dsn, "db", "postgres://h/db")
		if got := fmt.Sprint(errs.Err()); want == "" && errs.Err() != nil || !strings.Contains(got, want) {
			t.Errorf("%q: %s", dsn, got)
		}
	}
}
