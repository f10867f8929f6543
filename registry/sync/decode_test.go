package sync

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
)

var today = time.Date(2026, time.November, 24, 0, 0, 0, 0, time.UTC)

const farmer = "0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00"

const push = `{"changes":[
 {"op_id":"1","entity":"farmer","client_uuid":"0190B4A2-6c1e-4f0a-9d3e-2b7c5a1e8f00","op":"create","client_time":"2026-11-23T09:00:00+13:00","fields":{"given_name":" Mere  Ana ","birth_date":"1978-03-09","note":null}},
 {"op_id":"2","entity":"plot","client_uuid":"0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f01","op":"update","base_version":3,"client_time":"2026-11-23T09:00:00Z","fields":{"size_ha":-1,"colour":"red"}},
 {"op_id":"3","entity":"plot","client_uuid":"0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f01","op":"delete","base_version":4,"client_time":"2026-11-23T09:00:00Z"}
],"cursor":null,"batch_id":"b-1","device_id":"tablet-7","schema_version":1,"protocol":1}`

// The members may come in any order, and the body in any pieces.
func TestDecode(t *testing.T) {
	at := time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC)
	plot := "0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f01"
	want := batch{protocol: 1, schema: 1, device: "tablet-7", id: "b-1", changes: []registry.Change{
		{OpID: "1", Entity: "farmer", UID: farmer, Op: registry.Create, At: at.Add(-13 * time.Hour), Fields: registry.Fields{"given_name": "Mere Ana", "birth_date": "1978-03-09", "note": nil}},
		{OpID: "2", Entity: "plot", UID: plot, Op: registry.Update, Base: 3, At: at, Fields: registry.Fields{}, Faults: registry.Faults{{Detail: `unknown field "colour"`}, {Field: "size_ha", Detail: "must be from 0 to 100000"}}},
		{OpID: "3", Entity: "plot", UID: plot, Op: registry.Delete, Base: 4, At: at},
	}}
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(push), "byte by byte": iotest.OneByteReader(strings.NewReader(push)), "with its end": iotest.DataErrReader(strings.NewReader(push)),
	} {
		b, faults, err := decode(r, today)
		for i := range b.changes {
			b.changes[i].At = b.changes[i].At.UTC()
		}
		if diff := cmp.Diff(want, b, cmp.AllowUnexported(batch{})); err != nil || faults != nil || diff != "" {
			t.Errorf("%s: %v %v\n%s", name, faults, err, diff)
		}
	}
	// Cut anywhere it is no batch, and the error says that it was cut.
	for n := range len(push) {
		if _, _, err := decode(strings.NewReader(push[:n]), today); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	broken := errors.New("broken")
	if _, _, err := decode(io.MultiReader(strings.NewReader(push[:500]), iotest.ErrReader(broken)), today); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestFaultsAreFew(t *testing.T) {
	text := `{"changes":[` + strings.Repeat("0,", 1000) + `0]}`
	if _, faults, err := decode(strings.NewReader(text), today); err != nil || len(faults) != maxFaults {
		t.Errorf("%d faults, %v", len(faults), err)
	}
}

// FuzzDecode: whatever comes, it is a batch within the limits, or refused without a word of what was sent.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{push, "", "{}", "null", `{"changes":{"a":[1]}}`, `{"changes":[{}]}`, `{"protocol":1e9,"protocol":null}`, `{"cursor":"\ud800","changes":[null]}`, strings.Repeat("[", 40), `{"a":"\"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := strings.NewReader(string(text))
		b, faults, err := decode(r, today)
		if err != nil {
			if p := fmt.Sprint(unreadable(err)); strings.ContainsAny(p, "<>&") {
				t.Errorf("%q: %s", text, p)
			}
			return
		}
		if !json.Valid(text) {
			t.Errorf("no JSON, and yet a batch: %q", text)
		}
		if len(faults) > maxFaults || len(b.changes) > maxChanges {
			t.Errorf("%d faults, %d changes", len(faults), len(b.changes))
		}
		if len(faults) > 0 {
			return
		}
		if !registry.IsDevice(b.device) || !registry.IsDevice(b.id) {
			t.Errorf("%+v", b)
		}
		for _, c := range b.changes {
			if uid, ok := registry.ParseUID(c.UID); !ok || uid != c.UID || registry.EntityNamed(c.Entity) == nil || !registry.IsDevice(c.OpID) || c.Base < 0 || c.Op == registry.Delete && c.Fields != nil {
				t.Errorf("%+v", c)
			}
		}
	})
}

func TestInOrder(t *testing.T) {
	var changes []registry.Change
	for _, words := range []string{"delete farmer", "create submission", "create plot", "delete plot", "update farmer", "create member", "create farmer", "delete household", "update household", "delete submission"} {
		op, entity, _ := strings.Cut(words, " ")
		changes = append(changes, registry.Change{Op: registry.Op(op), Entity: entity})
	}
	var got []string
	for _, at := range inOrder(changes) {
		got = append(got, fmt.Sprint(changes[at].Op, " ", changes[at].Entity))
	}
	want := []string{"update household", "update farmer", "create farmer", "create member", "create plot", "create submission", "delete submission", "delete plot", "delete farmer", "delete household"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCursor(t *testing.T) {
	who := registry.Actor{Device: "tablet-7", Areas: []string{"Rarotonga", "Atiu"}}
	for _, seq := range []int64{0, 1, 1 << 40, 1<<63 - 1} {
		text := cursor(who, seq)
		if got, err := place(registry.Actor{Device: "tablet-7", Areas: []string{"Atiu", "Rarotonga"}}, text); got != seq || err != nil {
			t.Errorf("%d became %d, %v", seq, got, err)
		}
		for _, other := range []registry.Actor{{Device: "tablet-8", Areas: who.Areas}, {Device: "tablet-7"}, {Device: "tablet-7", Areas: []string{"Atiu"}}, {Device: "tablet-7", Areas: []string{"Rarotonga", "Atiu", "Mauke"}}} {
			if _, err := place(other, text); err == nil {
				t.Errorf("a cursor of %v is taken from %v", who, other)
			}
		}
		for i := range text {
			changed := text[:i] + map[bool]string{true: "B", false: "A"}[text[i] == 'A'] + text[i+1:]
			if got, err := place(who, changed); err == nil {
				t.Errorf("%s for %s is taken as %d", changed, text, got)
			}
		}
	}
}
