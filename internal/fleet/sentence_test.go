package fleet

import (
	"testing"
	"time"
)

func TestElapsed(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 250 * time.Millisecond: "250ms", 999_900 * time.Microsecond: "1s", 4500 * time.Millisecond: "4.5s", 59600 * time.Millisecond: "1m",
		200 * time.Second: "3m20s", time.Hour - time.Millisecond: "1h", 65 * time.Minute: "1h5m", 48*time.Hour - time.Second: "2d", 76 * time.Hour: "3d4h",
		-90 * time.Second: "-1m30s",
	} {
		if got := Elapsed(d); got != want {
			t.Errorf("Elapsed(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestUnitFormat(t *testing.T) {
	tests := []struct {
		unit Unit
		v    float64
		want string
	}{
		{Percent, 72.46, "72.5 %"}, {Percent, 100, "100 %"}, {Seconds, 0.4, "400ms"}, {Seconds, 0.0004, "400µs"}, {Seconds, 1.25, "1.25s"},
		{Seconds, 300, "5m"}, {Bytes, 512 << 20, "512 MiB"}, {Bytes, 12, "12 B"}, {Number, 1234567, "1234567"}, {Number, 0.5, "0.5"},
	}
	for _, tt := range tests {
		if got := tt.unit.Format(tt.v); got != tt.want {
			t.Errorf("%v %g: %q, want %q", tt.unit, tt.v, got, tt.want)
		}
	}
}

// Each code has a sentence of its own: none is shown by its name.
func TestEveryReasonHasASentence(t *testing.T) {
	now := time.Unix(1000, 0)
	for c := range codeNames {
		code := Code(c)
		r := Reason{Code: code, Signal: "cpu", Policy: "p", Note: "n", Since: now, Until: now, Operator: AtLeast}
		if got := r.Sentence(now); code != NoCode && got == code.String() {
			t.Errorf("%v has no sentence", code)
		}
	}
}

// What holds a scale-out back is told with its figures.
func TestGuardsAndBudgetsAreToldWithFigures(t *testing.T) {
	now := time.Date(2027, 3, 1, 9, 0, 0, 0, time.UTC)
	guard := Reason{Policy: "database", Signal: "pool_waiting", Operator: AtLeast, Value: 7, Threshold: 5, M: 1, N: 3, Breaching: 2, Since: now.Add(-3 * time.Minute)}
	with := func(r Reason, c Code) Reason { r.Code = c; return r }
	memory := Reason{Code: LimitedMemory, Signal: "available", Unit: Bytes, Value: 750 << 20, Reserve: 612 << 20, Others: 100 << 20, Threshold: 100 << 20, Size: 3, Limit: 1, Want: 5}
	window := Reason{Limit: 2, Note: "off-peak", Until: now.Add(2 * time.Hour)}
	for _, tt := range []struct {
		r    Reason
		want string
	}{
		{with(guard, BlockedDatabase), "blocked by the database: pool_waiting is 7 (guard database: >= 5 in 1 of 3 datapoints, 2 breach)"},
		{with(guard, BlockedGuard), "blocked: pool_waiting is 7 (guard database: >= 5 in 1 of 3 datapoints, 2 breach)"},
		{Reason{Code: GuardUnknown, Policy: "database", Signal: "pool_waiting", Note: "missing", Since: now.Add(-3 * time.Minute)}, "no scale-out: pool_waiting, which the guard database watches, has been missing for 3m"},
		{memory, "limited to 3 workers by the host's memory: available is 750 MiB less 612 MiB kept free (100 MiB of it for other fleets), at 100 MiB a worker: 1 of 3 more fit"},
		{Reason{Code: LimitedConnections, Signal: "pg_free", Value: 5, Reserve: 4, Threshold: 2, Size: 4, Want: 7}, "blocked by the database's connections: pg_free is 5 less 4 kept free, at 2 a worker: none fits"},
		{with(window, ScheduledCeiling), `at most 2 workers by the window "off-peak", for another 2h`},
		{with(window, CeilingLifted), `a scale-out is asked for, so the ceiling of 2 does not count (window "off-peak", for another 2h)`},
		{Reason{Code: LimitedQuota, Size: 4, Limit: 4, Want: 6}, "the quota of the instance leaves 4 workers here, and 6 are wanted"},
		{Reason{Code: LimitedBounds, Size: 10, Limit: 10, Want: 12}, "limited to 10 workers by the bounds, and 12 are wanted"},
	} {
		if got := tt.r.Sentence(now); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestShort(t *testing.T) {
	for _, tt := range []struct{ from, wanted, maximum, want int }{{10, 12, 10, 2}, {9, 12, 10, 0}, {10, 10, 10, 0}, {10, 8, 10, 0}, {10, 0, 10, 0}} {
		if got := (&Decision{From: tt.from, Wanted: tt.wanted}).Short(tt.maximum); got != tt.want {
			t.Errorf("%d of %d, %d wanted: short of %d, want %d", tt.from, tt.maximum, tt.wanted, got, tt.want)
		}
	}
}

func TestInstanceTellsLivesApart(t *testing.T) {
	a, b := Worker{ID: "slot-3", PID: 7}, Worker{ID: "slot-3", PID: 8}
	if a.Instance() == b.Instance() || a.Instance() != "slot-3.7" || (Worker{ID: "web-1"}).Instance() != "web-1" {
		t.Errorf("%s, %s, %s", a.Instance(), b.Instance(), Worker{ID: "web-1"}.Instance())
	}
}
