// Package connect_test has a relay open CONNECT tunnels (-ace) to hosts of tailscale.com.
//
// Both servers only connect to ports 443 and 80 of such names. The tests therefore run in a network and
// a file system view of their own, in which those ports are free and the names lead to loopback
// addresses: the test binary starts itself anew in its own user, network and mount namespace.
package connect_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

const insideVariable = "INTEROP_CONNECT_WORLD"

// hosts are the targets, each on an address of its own so that tests do not meet.
var hosts = map[string]string{
	"echo.tailscale.com":   "127.9.0.1",
	"big.tailscale.com":    "127.9.0.2",
	"slow.tailscale.com":   "127.9.0.3",
	"nobody.tailscale.com": "127.9.0.4", // Nobody listens there.
	"leaves.tailscale.com": "127.9.0.5",
	"half.tailscale.com":   "127.9.0.6",
	"many.tailscale.com":   "127.9.0.7",
	"gone.tailscale.com":   "127.9.0.8",
}

func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) == "" {
		os.Exit(runInside())
	}
	if err := arrange(); err != nil {
		fmt.Fprintln(os.Stderr, "arranging the namespaces:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runInside starts this test binary anew in its own namespaces and gives its exit status.
func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		fmt.Fprintf(os.Stderr, "these tests need user, network and mount namespaces (sysctl kernel.unprivileged_userns_clone, or a container with SYS_ADMIN): %v\n", err)
		return 1
	}
}

// arrange turns loopback on and has the names lead to it.
func arrange() error {
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to ourselves: %w", err)
	}
	text := "127.0.0.1 localhost\n"
	for name, ip := range hosts {
		text += ip + " " + name + "\n"
	}
	dir, err := os.MkdirTemp("", "connect")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"hosts": text,
		// Nobody listens there, so a name that is not in the file above is unknown at once.
		"resolv.conf": "nameserver 127.9.255.255\noptions timeout:1 attempts:1\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
		target, err := filepath.EvalSymlinks(filepath.Join("/etc", name))
		if err != nil {
			return err
		}
		if err := syscall.Mount(path, target, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting over %s: %w", target, err)
		}
	}
	return os.RemoveAll(dir)
}

func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var request struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	request.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
