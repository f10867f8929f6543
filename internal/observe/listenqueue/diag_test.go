package listenqueue

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func frame(kind uint16, body []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(b, uint32(cap(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	return append(b, body...)
}

func TestAnErrorOfTheKernelIsOne(t *testing.T) {
	code := make([]byte, 20)
	denied := -int32(unix.EPERM)
	binary.NativeEndian.PutUint32(code, uint32(denied))
	if done, err := messages(frame(unix.NLMSG_ERROR, code), nil); !done || !errors.Is(err, unix.EPERM) {
		t.Errorf("%v, %v", done, err)
	}
	for _, b := range [][]byte{frame(unix.NLMSG_ERROR, nil), frame(unix.SOCK_DIAG_BY_FAMILY, make([]byte, 9))[:20]} {
		if done, err := messages(b, nil); done || err == nil {
			t.Errorf("%x: %v, %v", b, done, err)
		}
	}
	if done, err := messages(frame(unix.NLMSG_DONE, nil), nil); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
}

// Whatever arrives, nothing is read beyond it.
func FuzzMessages(f *testing.F) {
	listener := make([]byte, inetMsgSize)
	listener[1] = tcpListen
	f.Add(frame(unix.SOCK_DIAG_BY_FAMILY, listener))
	local := append([]byte{unix.AF_UNIX, 1, tcpListen, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 12, 0, attrRqlen, 0, 1, 0, 0, 0, 9, 0, 0, 0)
	f.Add(frame(unix.SOCK_DIAG_BY_FAMILY, local))
	f.Add(frame(unix.NLMSG_DONE, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		into := map[uint64]int{}
		_, _ = messages(b, func(body []byte) {
			parseInet(body, into)
			parseUnix(body, into)
		})
		for inode, n := range into {
			if n < 0 {
				t.Errorf("backlog %d of %d", n, inode)
			}
		}
	})
}
