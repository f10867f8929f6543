package sync

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"

	"tidemark/registry"
	"tidemark/registry/web"
)

// cursorForm is the first byte of a cursor. It changes when an older app's copy can no longer be brought up to date by
// what has changed since.
const cursorForm = 1

// startAnew refuses a cursor.
var startAnew = &web.Problem{Type: web.Kind("cursor"), Title: "The cursor is not valid here", Status: http.StatusBadRequest,
	Detail: "this cursor is not of this device, its islands or this registry: keep unsent changes, forget the local copies of records, and synchronise without a cursor"}

// cursor is the place seq in the sequence of changes, for one device with its areas. What it carries beside seq is no
// secret: a device that forges one reads no more than it may, and deceives only itself. It is there so that a cursor
// which has lost its meaning, since the device got other islands or another registry, is refused instead of obeyed.
func cursor(who registry.Actor, seq int64) string {
	b := append([]byte{cursorForm}, binary.BigEndian.AppendUint64(nil, uint64(seq))...)
	areas := slices.Sorted(slices.Values(who.Areas))
	sum := sha256.Sum256([]byte(string(b) + "\x00" + who.Device + "\x00" + strings.Join(areas, "\x00")))
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:8]...))
}

// place returns the seq of a cursor. The empty one is the beginning.
func place(who registry.Actor, text string) (seq int64, err error) {
	if text == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != 17 {
		return 0, startAnew
	}
	seq = int64(binary.BigEndian.Uint64(b[1:9]))
	if seq < 0 || !bytes.Equal([]byte(cursor(who, seq)), []byte(text)) {
		return 0, startAnew
	}
	return seq, nil
}
