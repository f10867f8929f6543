package allot_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tidemark/internal/decide/allot"
	"tidemark/internal/decide/policy"
)

func TestFor(t *testing.T) {
	tests := []struct {
		name   string
		quota  int
		claims []allot.Claim // the first asks
		want   int
	}{
		{"what nobody holds", 8, []allot.Claim{{Fleet: "a", Min: 2, Holds: 2}, {Fleet: "b", Min: 2, Holds: 3}}, 5},
		{"a minimum that is not there yet is kept free", 8, []allot.Claim{{Fleet: "a", Min: 2, Holds: 2}, {Fleet: "b", Min: 4, Holds: 0}}, 4},
		{"who goes first is not held up by what others want", 8, []allot.Claim{{Fleet: "a", Priority: 1, Min: 2, Holds: 2}, {Fleet: "b", Priority: 5, Min: 2, Holds: 3, Wants: 9}}, 5},
		{"what who goes first wants is left to it", 8, []allot.Claim{{Fleet: "a", Priority: 5, Min: 2, Holds: 2}, {Fleet: "b", Priority: 1, Min: 2, Holds: 3, Wants: 5}}, 3},
		{"gives way", 8, []allot.Claim{{Fleet: "a", Priority: 5, Min: 2, Holds: 5}, {Fleet: "b", Priority: 1, Min: 2, Holds: 3, Wants: 4}}, 4},
		{"never below the minimum", 8, []allot.Claim{{Fleet: "a", Priority: 5, Min: 3, Holds: 5}, {Fleet: "b", Priority: 1, Min: 2, Holds: 3, Wants: 10}}, 3},
		{"equals do not give way for a wish", 8, []allot.Claim{{Fleet: "b", Min: 2, Holds: 5}, {Fleet: "a", Min: 2, Holds: 3, Wants: 10}}, 5},
		{"a quota that was lowered: of equals, the last by name gives way", 6, []allot.Claim{{Fleet: "b", Min: 2, Holds: 5}, {Fleet: "a", Min: 2, Holds: 3}}, 3},
		{"a quota that was lowered: and not the first", 6, []allot.Claim{{Fleet: "a", Min: 2, Holds: 3}, {Fleet: "b", Min: 2, Holds: 5}}, 3},
		{"workers that others added by hand leave no room", 6, []allot.Claim{{Fleet: "a", Min: 2, Holds: 2}, {Fleet: "b", Min: 2, Holds: 9}}, 2},
	}
	for _, tt := range tests {
		if got := allot.For(tt.quota, tt.claims, 0); !got.Limited || got.Workers != tt.want {
			t.Errorf("%s: %+v, want %d", tt.name, got, tt.want)
		}
	}
	if got := allot.For(0, tests[0].claims, 0); got.Limited {
		t.Errorf("without a quota: %+v", got)
	}
}

func TestReserved(t *testing.T) {
	each := [policy.Resources]float64{policy.Connections: 2, policy.HostMemory: 100}
	claims := []allot.Claim{
		{Fleet: "me", Priority: 5, Holds: 2, Coming: 7, Wants: 9, Each: each},
		{Fleet: "first", Priority: 1, Holds: 4, Coming: 1, Wants: 6, Each: each},
		{Fleet: "equal", Priority: 5, Holds: 3, Coming: 1, Wants: 9, Each: each},
		{Fleet: "last", Priority: 9, Holds: 3, Wants: 9, Each: [policy.Resources]float64{policy.Connections: 2}},
	}
	// Of first: 1 comes and 2 are wanted; of equal: 1 comes.
	if got := allot.For(0, claims, 0).Reserved; got[policy.Connections] != 8 || got[policy.HostMemory] != 400 {
		t.Errorf("kept for others: %v", got)
	}
}

// world is a set of fleets of random wishes, each of which does in turn what it is allowed.
type world struct {
	quota  int
	claims []allot.Claim
}

func anyWorld(t *rapid.T) *world {
	w := &world{}
	least := 0
	for i := range rapid.IntRange(1, 5).Draw(t, "fleets") {
		c := allot.Claim{Fleet: fmt.Sprintf("f%d", i), Priority: rapid.IntRange(1, 3).Draw(t, "priority"), Min: rapid.IntRange(1, 4).Draw(t, "min")}
		c.Holds = c.Min
		least += c.Min
		w.claims = append(w.claims, c)
	}
	w.quota = least + rapid.IntRange(0, 10).Draw(t, "spare")
	return w
}

func (w *world) total() (n int) {
	for _, c := range w.claims {
		n += c.Holds
	}
	return n
}

// step lets one fleet move by at most so many workers towards what it wants, as far as it is allowed.
func (w *world) step(i, most int) {
	c := &w.claims[i]
	room := allot.For(w.quota, w.claims, i).Workers
	to := max(c.Min, min(c.Wants, room))
	c.Holds = max(min(to, c.Holds+most), c.Holds-most)
}

// Whatever fleets want, and in whatever order they look: never more than the quota, never less than a minimum; and when wishes stay
// as they are, who goes first has what it wants, or all that is not another's minimum.
func TestQuotaHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		for range rapid.IntRange(1, 40).Draw(t, "ticks") {
			i := rapid.IntRange(0, len(w.claims)-1).Draw(t, "fleet")
			w.claims[i].Wants = rapid.IntRange(w.claims[i].Min, 12).Draw(t, "wants")
			w.step(i, rapid.IntRange(1, 3).Draw(t, "step"))
			w.holds(t)
		}
		for range 40 {
			for i := range w.claims {
				w.step(i, 1)
				w.holds(t)
			}
		}
		w.settled(t)
	})
}

func (w *world) holds(t *rapid.T) {
	if n := w.total(); n > w.quota {
		t.Fatalf("%d workers, and the quota is %d: %+v", n, w.quota, w.claims)
	}
	for _, c := range w.claims {
		if c.Holds < c.Min {
			t.Fatalf("%s is below its minimum: %+v", c.Fleet, c)
		}
	}
}

// settled checks what each has in the end.
func (w *world) settled(t *rapid.T) {
	for _, c := range w.claims {
		if c.Holds >= c.Wants {
			continue
		}
		for _, o := range w.claims {
			if o.Priority > c.Priority && o.Holds > o.Min {
				t.Fatalf("%s wants %d and has %d, while %s, which goes after it, has %d of a minimum of %d", c.Fleet, c.Wants, c.Holds, o.Fleet, o.Holds, o.Min)
			}
		}
		if n := w.total(); n < w.quota {
			t.Fatalf("%s wants %d and has %d, and only %d of %d are taken: %+v", c.Fleet, c.Wants, c.Holds, n, w.quota, w.claims)
		}
	}
}

// What is no longer wanted is free at once: nothing stays set aside.
func TestNothingLeaks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		for i := range w.claims {
			w.claims[i].Wants = rapid.IntRange(0, 20).Draw(t, "wants")
			w.claims[i].Coming = rapid.IntRange(0, 2).Draw(t, "coming")
			w.claims[i].Each[0] = 2
		}
		for i := range w.claims {
			w.claims[i].Wants, w.claims[i].Coming = 0, 0
		}
		others := 0
		for _, c := range w.claims[1:] {
			others += c.Holds
		}
		if a := allot.For(w.quota, w.claims, 0); a.Workers != w.quota-others || a.Reserved[0] != 0 {
			t.Fatalf("%+v of a quota of %d, %d held by others", a, w.quota, others)
		}
	})
}

// The order in which the others stand changes nothing.
func TestOrderIsNoMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		for i := range w.claims {
			w.claims[i].Wants = rapid.IntRange(0, 12).Draw(t, "wants")
		}
		want := allot.For(w.quota, w.claims, 0)
		slices.Reverse(w.claims[1:])
		if got := allot.For(w.quota, w.claims, 0); got != want {
			t.Fatalf("%+v, and in reverse %+v", want, got)
		}
	})
}
