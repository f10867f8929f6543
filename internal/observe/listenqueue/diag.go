package listenqueue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// backlogs asks the kernel how many connections the queue of each listening socket takes, by inode: the Send-Q of ss -l, which
// no file of /proc tells. It answers for Tidemark's own network namespace. See sock_diag(7).
func backlogs(unixSockets bool) (map[uint64]int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for the backlog (systemd: RestrictAddressFamilies must allow AF_NETLINK; or write backlog): %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	wait := unix.NsecToTimeval(int64(time.Second)) // the kernel answers at once; this only bounds what cannot happen
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, fmt.Errorf("ask the kernel for the backlog: %w", err)
	}
	out := map[uint64]int{}
	requests := [][]byte{inetRequest(unix.AF_INET), inetRequest(unix.AF_INET6)}
	parse := parseInet
	if unixSockets {
		requests, parse = [][]byte{unixRequest()}, parseUnix
	}
	for _, req := range requests {
		if err := dump(fd, req, func(body []byte) { parse(body, out) }); err != nil {
			return nil, fmt.Errorf("ask the kernel for the backlog, or write backlog: %w", err)
		}
	}
	return out, nil
}

const (
	tcpListen    = 10   // TCP_LISTEN of include/net/tcp_states.h, which unix sockets share
	showRqlen    = 0x10 // UDIAG_SHOW_RQLEN
	attrRqlen    = 4    // UNIX_DIAG_RQLEN
	inetReqSize  = 56   // struct inet_diag_req_v2
	inetMsgSize  = 72   // struct inet_diag_msg
	unixReqSize  = 24   // struct unix_diag_req
	unixMsgSize  = 16   // struct unix_diag_msg
	attrHeadSize = 4    // struct nlattr
)

// request frames a body as a request to dump all sockets that it describes.
func request(size int, fill func(body []byte)) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+size)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	fill(b[unix.SizeofNlMsghdr:])
	return b
}

func inetRequest(family byte) []byte {
	return request(inetReqSize, func(b []byte) {
		b[0], b[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(b[4:], 1<<tcpListen)
	})
}

func unixRequest() []byte {
	return request(unixReqSize, func(b []byte) {
		b[0] = unix.AF_UNIX
		binary.NativeEndian.PutUint32(b[4:], 1<<tcpListen)
		binary.NativeEndian.PutUint32(b[12:], showRqlen)
	})
}

// dump sends a request and hands each answer on.
func dump(fd int, req []byte, each func(body []byte)) error {
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if done, err := messages(buf[:n], each); done || err != nil {
			return err
		}
	}
}

var errDiag = errors.New("the answer is not understood")

// messages takes a datagram of netlink apart. done: the last one was in it.
func messages(b []byte, each func(body []byte)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, errDiag
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errDiag
			}
			return true, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		case unix.SOCK_DIAG_BY_FAMILY:
			each(body)
		}
		b = b[min(align(size), len(b)):]
	}
	return false, nil
}

func align(n int) int { return (n + 3) &^ 3 }

// parseInet reads an inet_diag_msg: for a listener, idiag_wqueue is its backlog.
func parseInet(b []byte, into map[uint64]int) {
	if len(b) < inetMsgSize || b[1] != tcpListen {
		return
	}
	into[uint64(binary.NativeEndian.Uint32(b[68:]))] = int(binary.NativeEndian.Uint32(b[60:]))
}

// parseUnix reads a unix_diag_msg with its UNIX_DIAG_RQLEN: the queue's length, then its backlog.
func parseUnix(b []byte, into map[uint64]int) {
	if len(b) < unixMsgSize || b[2] != tcpListen {
		return
	}
	inode := uint64(binary.NativeEndian.Uint32(b[4:]))
	for b = b[unixMsgSize:]; len(b) >= attrHeadSize; {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < attrHeadSize || size > len(b) {
			return
		}
		if kind == attrRqlen && size >= attrHeadSize+8 {
			into[inode] = int(binary.NativeEndian.Uint32(b[attrHeadSize+4:]))
		}
		b = b[min(align(size), len(b)):]
	}
}
