// Package world runs the tests of a package in user, network and mount namespaces of their own: loopback
// alone with the addresses that a test wants, all ports free, and files of /etc as it wants them.
package world

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

const insideVariable = "INTEROP_WORLD"

// Main is for TestMain: it starts the test binary anew inside, where arrange runs before the tests.
func Main(m *testing.M, arrange func() error) {
	if os.Getenv(insideVariable) == "" {
		os.Exit(runInside())
	}
	err := up("lo")
	if err == nil {
		// Mounts stay here.
		err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	}
	if err == nil {
		err = arrange()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "arranging the namespaces:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runInside gives the exit status of the tests.
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

// File puts a text in the place of a file that exists.
func File(path, content string) error {
	dir, err := os.MkdirTemp("", "world")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if err := syscall.Mount(file, target, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting over %s: %w", target, err)
	}
	return nil
}

// ifreq is struct ifreq with an IPv4 address in it.
type ifreq struct {
	name   [syscall.IFNAMSIZ]byte
	family uint16
	port   uint16
	ip     [4]byte
	_      [16]byte
}

// ifreqFlags is struct ifreq with flags in it.
type ifreqFlags struct {
	name  [syscall.IFNAMSIZ]byte
	flags uint16
	_     [22]byte
}

func interfaceFlags(name string, flags uint16) ifreqFlags {
	request := ifreqFlags{flags: flags}
	copy(request.name[:], name)
	return request
}

// Address gives loopback one more address, as an alias ("lo:1") that is unlike all others, or a device
// its IPv4 address.
func Address(name, ip string) error {
	address := net.ParseIP(ip)
	if v4 := address.To4(); v4 != nil {
		return setIPv4(syscall.SIOCSIFADDR, name, v4)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	var request [24]byte // struct in6_ifreq: address, prefix length, index
	copy(request[:], address.To16())
	binary.NativeEndian.PutUint32(request[16:], 128)
	binary.NativeEndian.PutUint32(request[20:], uint32(lo.Index))
	return ioctl(syscall.AF_INET6, syscall.SIOCSIFADDR, unsafe.Pointer(&request))
}

func netmask(name string, mask net.IPMask) error {
	return setIPv4(syscall.SIOCSIFNETMASK, name, mask)
}

func setIPv4(what uintptr, name string, value []byte) error {
	request := ifreq{family: syscall.AF_INET}
	copy(request.name[:], name)
	copy(request.ip[:], value)
	return ioctl(syscall.AF_INET, what, unsafe.Pointer(&request))
}

func up(name string) error {
	request := interfaceFlags(name, syscall.IFF_UP|syscall.IFF_RUNNING)
	return ioctl(syscall.AF_INET, syscall.SIOCSIFFLAGS, unsafe.Pointer(&request))
}

func ioctl(family int, request uintptr, argument unsafe.Pointer) error {
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}
