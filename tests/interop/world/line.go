package world

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// Line makes a network of its own behind the device name: whoever dials `there` reaches this machine at
// `here`, by a line that loses the IP packets that lose names. Both are IPv4 addresses of one /24.
//
// The line leads back to where it comes from: a packet gets its two addresses exchanged, which leaves
// all checksums right, so each side takes the other for a neighbour.
func Line(name, here, there string, lose func(packet []byte) bool) error {
	const tunNoHeader = 0x0001 | 0x1000 // IFF_TUN | IFF_NO_PI
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	device := os.NewFile(uintptr(fd), "/dev/net/tun")
	request := interfaceFlags(name, tunNoHeader)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		device.Close()
		return fmt.Errorf("TUNSETIFF: %w", errno)
	}
	if err := Address(name, here); err != nil {
		return fmt.Errorf("address of %s: %w", name, err)
	}
	if err := netmask(name, net.CIDRMask(24, 32)); err != nil {
		return fmt.Errorf("netmask of %s: %w", name, err)
	}
	if err := up(name); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a, b := [4]byte(net.ParseIP(here).To4()), [4]byte(net.ParseIP(there).To4())
	go carry(device, a, b, lose)
	return nil
}

// carry runs until the process ends.
func carry(device *os.File, here, there [4]byte, lose func([]byte) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := device.Read(buffer)
		if err != nil {
			return
		}
		packet := buffer[:n]
		if n < 20 || packet[0]>>4 != 4 || [4]byte(packet[12:16]) != here || [4]byte(packet[16:20]) != there {
			continue // the kernel's own, such as IPv6 router solicitations
		}
		if lose(packet) {
			continue
		}
		copy(packet[12:16], there[:])
		copy(packet[16:20], here[:])
		if _, err := device.Write(packet); err != nil {
			return
		}
	}
}
