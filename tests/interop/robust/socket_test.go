package robust_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"golang.org/x/sys/unix"
)

// socketOf gives a copy of the relay's own descriptor of the connection to c, on which its options can
// be read.
func socketOf(t *testing.T, r *relay.Relay, c net.Conn) int {
	t.Helper()
	pidfd, err := unix.PidfdOpen(r.Pid, 0)
	if err != nil {
		t.Fatalf("pidfd_open: %v", err)
	}
	defer unix.Close(pidfd)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range fds {
		if target, err := os.Readlink(path); err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		var n int
		fmt.Sscan(filepath.Base(path), &n)
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			t.Fatalf("pidfd_getfd: %v", err)
		}
		if peer, err := unix.Getpeername(fd); err == nil {
			if p, ok := peer.(*unix.SockaddrInet4); ok && p.Port == c.LocalAddr().(*net.TCPAddr).Port {
				t.Cleanup(func() { unix.Close(fd) })
				return fd
			}
		}
		unix.Close(fd)
	}
	t.Fatalf("the relay has no socket for %v", c.LocalAddr())
	return -1
}

func TestSocketOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		args        []string
		idle        int // seconds until the first keepalive probe
		userTimeout int // milliseconds
	}{
		{"by default", nil, 600, 15000},
		{"as told", []string{"-tcp-keepalive-time", "2m", "-tcp-user-timeout", "7s"}, 120, 7000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := relay.Start(t, relay.Options{NoSTUN: true, Args: c.args})
			conn := wire.Login(t, r)
			fd := socketOf(t, r, conn)
			for _, o := range []struct {
				name          string
				level, option int
				want          int
			}{
				{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
				{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, c.idle},
				{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
				{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
				{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, c.userTimeout},
			} {
				got, err := unix.GetsockoptInt(fd, o.level, o.option)
				if err != nil {
					t.Fatalf("%s: %v", o.name, err)
				}
				// Any non-zero value is "on".
				if o.want == 1 && got != 0 {
					got = 1
				}
				if got != o.want {
					t.Errorf("%s is %d, want %d", o.name, got, o.want)
				}
			}
		})
	}
}

// Service managers start programs with a soft limit of 1024 descriptors; the relay takes what it may.
func TestTheLimitOfDescriptorsIsRaised(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, Wrap: []string{"sh", "-c", `ulimit -Sn 200 && ulimit -Hn 900 && exec "$0" "$@"`}})
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max open files") {
			// Go stops one below the hard limit.
			if f[3] != "900" && f[3] != "899" || f[4] != "900" {
				t.Errorf("%q, want the soft limit raised to the hard one of 900", strings.TrimSpace(line))
			}
			return
		}
	}
	t.Errorf("no limit of open files in %s", b)
}
