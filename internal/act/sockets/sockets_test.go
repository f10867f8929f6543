package sockets

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenRole makes the test binary a process that listens, says where, and waits for its standard input to end.
const listenRole = "TIDEMARK_TEST_LISTEN"

func TestMain(m *testing.M) {
	if addr := os.Getenv(listenRole); addr != "" {
		ln, err := net.Listen("tcp4", addr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(ln.Addr().(*net.TCPAddr).Port)
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// eventually waits for the kernel to finish what another goroutine or process began.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// look looks at this process, and at the sockets of one listener only: go test's other tests listen too.
func look(t *testing.T, addr net.Addr) (Load, error) {
	t.Helper()
	table, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	inodes, err := Inodes(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var mine Table
	for _, s := range table {
		if s.Network == Unix && s.Path == addr.String() || s.Network == TCP && addr.Network() == "tcp" && int(s.Local.Port()) == addr.(*net.TCPAddr).Port {
			mine = append(mine, s)
		}
	}
	return mine.load(map[int][]uint64{os.Getpid(): inodes}, 0)
}

func TestQueuedAndHeld(t *testing.T) {
	for _, c := range []struct{ name, network, addr, dialNetwork, dialHost string }{
		{"IPv4", "tcp4", "127.0.0.1:0", "tcp4", "127.0.0.1"},
		{"IPv4 on any address", "tcp4", "0.0.0.0:0", "tcp4", "127.0.0.1"},
		{"IPv6", "tcp6", "[::1]:0", "tcp6", "::1"},
		{"both, asked over IPv4", "tcp", "[::]:0", "tcp4", "127.0.0.1"},
		{"both, asked over IPv6", "tcp", "[::]:0", "tcp6", "::1"},
		{"unix", "unix", filepath.Join(t.TempDir(), "a b.sock"), "unix", ""},
		{"unix, abstract", "unix", "@tidemark-test-" + filepath.Base(t.TempDir()), "unix", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln, err := net.Listen(c.network, c.addr)
			if err != nil && strings.Contains(c.addr, "::") {
				t.Skip("needs IPv6")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			to := ln.Addr().String()
			if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
				to = net.JoinHostPort(c.dialHost, fmt.Sprint(tcp.Port))
			}
			expect := func(queued, held int) {
				t.Helper()
				var got Load
				eventually(t, fmt.Sprintf("%d queued and %d held", queued, held), func() bool {
					if got, err = look(t, ln.Addr()); err != nil {
						t.Fatal(err)
					}
					return got.Queued == queued && got.Held[os.Getpid()] == held
				})
				if want := min(held, 1); got.Busy() != want {
					t.Errorf("Busy() = %d, want %d", got.Busy(), want)
				}
				if len(got.Listeners) != 1 {
					t.Errorf("listeners %v, want one", got.Listeners)
				}
			}
			expect(0, 0)
			var clients, served []net.Conn
			for range 5 {
				conn, err := net.Dial(c.dialNetwork, to)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				clients = append(clients, conn)
			}
			expect(5, 0)
			for range 2 {
				conn, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				served = append(served, conn)
			}
			expect(3, 2)
			// Unread bytes are no connections.
			if _, err := clients[0].Write(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			expect(3, 2)
			// A client that hangs up leaves its worker busy until that one lets go.
			clients[0].Close()
			expect(3, 2)
			served[0].Close()
			served[1].Close()
			expect(3, 0)
		})
	}
}

func TestLookNarrowsByPort(t *testing.T) {
	var ports []int
	for range 2 {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		conn, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	all, err := Look([]int{os.Getpid()}, 0)
	if err != nil || len(all.Listeners) < 2 {
		t.Errorf("Look(0) = %+v, %v; want two listeners or more", all, err)
	}
	one, err := Look([]int{os.Getpid()}, ports[1])
	if err != nil || len(one.Listeners) != 1 || int(one.Listeners[0].Local.Port()) != ports[1] || one.Queued != 1 {
		t.Errorf("Look(%d) = %+v, %v; want that listener alone, one queued", ports[1], one, err)
	}
}

func TestLookRefusesToGuess(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	for _, c := range []struct {
		name string
		pids []int
		port int
		want string
	}{
		{"nobody", nil, 0, "no process"},
		{"nothing listens there", []int{os.Getpid()}, port, fmt.Sprintf("listens on port %d", port)},
		{"no such process", []int{1 << 30}, 0, "no such file"},
	} {
		if l, err := Look(c.pids, c.port); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Look = %+v, %v; want an error with %q", c.name, l, err, c.want)
		}
	}
}

// A process that ended is left out, and does not spoil what is known of the others.
func TestLookLeavesOutTheDead(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l, err := Look([]int{os.Getpid(), 1 << 30}, ln.Addr().(*net.TCPAddr).Port)
	if _, there := l.Held[1<<30]; err != nil || there || len(l.Held) != 1 {
		t.Errorf("Look = %+v, %v; want this process alone", l, err)
	}
}

func TestNetworkNamespaceOfTheProcess(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), listenRole+"=0.0.0.0:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("needs network namespaces: ", err)
	}
	defer func() { stdin.Close(); _ = cmd.Wait() }()
	var port int
	if _, err := fmt.Fscan(bufio.NewReader(stdout), &port); err != nil {
		t.Fatal(err)
	}
	if l, err := Look([]int{cmd.Process.Pid}, port); err != nil || len(l.Listeners) != 1 {
		t.Errorf("Look = %+v, %v; want the listener of the other namespace", l, err)
	}
	here, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range here {
		if s.State == Listen && int(s.Local.Port()) == port {
			t.Errorf("port %d of the other namespace is in this one's table", port)
		}
	}
}

func TestDropsRiseWhenTheQueueIsFull(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	before, err := ReadDrops(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(c)
		if err := unix.Connect(c, addr); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	eventually(t, "overflows counted", func() bool {
		after, err := ReadDrops(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return after.ListenOverflows > before.ListenOverflows && after.ListenDrops > before.ListenDrops
	})
}
