// Package connect_test has a relay open CONNECT tunnels (-ace) to hosts of tailscale.com.
//
// Both servers only connect to ports 443 and 80 of such names, so the tests run in a world of their own,
// where those ports are free and the names lead to loopback addresses.
package connect_test

import (
	"testing"

	"detour.example/interop/world"
)

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
	world.Main(m, func() error {
		text := "127.0.0.1 localhost\n"
		for name, ip := range hosts {
			text += ip + " " + name + "\n"
		}
		if err := world.File("/etc/hosts", text); err != nil {
			return err
		}
		// Nobody listens there, so a name that is not in the file above is unknown at once.
		return world.File("/etc/resolv.conf", "nameserver 127.9.255.255\noptions timeout:1 attempts:1\n")
	})
}
