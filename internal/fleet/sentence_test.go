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

func TestInstanceTellsLivesApart(t *testing.T) {
	a, b := Worker{ID: "slot-3", PID: 7}, Worker{ID: "slot-3", PID: 8}
	if a.Instance() == b.Instance() || a.Instance() != "slot-3.7" || (Worker{ID: "web-1"}).Instance() != "web-1" {
		t.Errorf("%s, %s, %s", a.Instance(), b.Instance(), Worker{ID: "web-1"}.Instance())
	}
}
