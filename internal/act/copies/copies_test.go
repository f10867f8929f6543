package copies

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The meter compares with the look before, and waits only when there was none.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		old, young := Life{"old", start}, Life{"young", start}
		share := map[string]float64{"old": 0.5, "young": 0.1} // of a core; starting took a second of CPU time
		read := func(_ context.Context, l Life) (uint64, error) {
			return uint64(time.Second) + uint64(share[l.ID]*float64(time.Since(start))), nil
		}
		var m Meter
		ask := func(all ...Life) ([]uint64, time.Duration) {
			t.Helper()
			began := time.Now()
			busy, err := m.Utilisation(t.Context(), all, read)
			if err != nil {
				t.Fatal(err)
			}
			return busy, time.Since(began)
		}
		if busy, took := ask(old, young); !slices.Equal(busy, []uint64{500, 100}) || took != apart {
			t.Errorf("seen for the first time: %v after %v", busy, took)
		}
		time.Sleep(15 * time.Second)
		m.Note(t.Context(), []Life{old, young}, read)
		if busy, took := ask(old, young); !slices.Equal(busy, []uint64{500, 100}) || took != 0 {
			t.Errorf("looked at just now, and a tick before: %v after %v", busy, took)
		}
		again := Life{"young", start.Add(time.Minute)}
		if _, took := ask(old, again); took != apart {
			t.Errorf("another life of a copy has no look before it: it took %v", took)
		}
		if len(m.used) != 2 {
			t.Errorf("copies that have gone are remembered: %v", m.used)
		}
	})
}

func TestMeterFails(t *testing.T) {
	var m Meter
	broken := errors.New("away")
	read := func(context.Context, Life) (uint64, error) { return 0, broken }
	m.Note(t.Context(), []Life{{ID: "a"}, {ID: "b"}}, read)
	if busy, err := m.Utilisation(t.Context(), []Life{{ID: "a"}}, read); !errors.Is(err, broken) || busy != nil {
		t.Errorf("what cannot be read is not idle: %v, %v", busy, err)
	}
}

func TestPorts(t *testing.T) {
	for _, c := range []struct {
		ports       Ports
		slots, port int
	}{{Ports{}, MaxSlot, 0}, {Ports{First: 9001}, MaxSlot, 9003}, {Ports{9001, 9016}, 16, 9003}, {Ports{First: 65000}, 536, 65002}} {
		if c.ports.Slots() != c.slots || c.ports.At(3) != c.port {
			t.Errorf("%+v: %d slots, the third at %d; want %d and %d", c.ports, c.ports.Slots(), c.ports.At(3), c.slots, c.port)
		}
	}
	if got := (Ports{First: 9001}).Address(2); got != "127.0.0.1:9002" {
		t.Error(got)
	}
}

func TestLocal(t *testing.T) {
	if pid := os.Getpid(); Local(pid, "/") != pid || Local(pid, "no such group") != 0 || Local(1<<30, "") != 0 {
		t.Error(Local(pid, "/"), Local(pid, "no such group"), Local(1<<30, ""))
	}
}
