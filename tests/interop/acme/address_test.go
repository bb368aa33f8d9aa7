package acme_test

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"detour.example/interop/relay"
	"detour.example/interop/world"
)

// In a world of its own ports 443 and 80 are free, and the machine gets addresses that the internet knows.
func TestMain(m *testing.M) { world.Main(m, func() error { return nil }) }

// giveAddress gives loopback an address, with the length of the network that the kernel makes of it.
func giveAddress(t *testing.T, alias, ip string) (takeAway func()) {
	t.Helper()
	bare, _, _ := strings.Cut(ip, "/")
	if err := world.Address(alias, bare); err != nil {
		t.Fatal(err)
	}
	return func() {
		if out, err := exec.Command("ip", "addr", "del", ip, "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("taking %s away: %v\n%s", ip, err, out)
		}
	}
}

// With -acme-ip-certs a client that comes to an address gets a certificate for it, also when the machine
// has that address only since the relay runs; the host name has one of its own beside them. Alone, since
// it takes the ports of all addresses.
func TestACertificateForEachAddressThatIsReached(t *testing.T) {
	a := startPebble(t, pebbleOptions{httpPort: 80, tlsPort: 443, validity: shortLived})
	roots := a.roots()
	env := a.as(letsEncrypt)
	dir := t.TempDir()
	name := host
	start := func(binary string) *relay.Relay {
		return relay.Start(t, relay.Options{Host: name, AnyIP: true, Port: 443, HTTPPort: 80, NoSTUN: true, NoWait: true,
			Dir: dir, Env: env, Binary: binary, Args: []string{"-certmode=letsencrypt", "-acme-ip-certs"}})
	}
	// What the client sends as server name, and where it comes to.
	reached := func(sni, ip string) {
		t.Helper()
		want := ip
		if sni == host {
			want = host
		}
		eventually(t, "a certificate for "+want, func() error {
			_, err := verified(net.JoinHostPort(ip, "443"), sni, want, roots)
			return err
		})
	}
	r := start("")
	reached(host, "127.0.0.1")
	for _, ip := range []string{"8.8.4.4/8", "2606:4700::1111/128"} {
		takeAway := giveAddress(t, "lo:7", ip)
		t.Cleanup(takeAway)
		ip, _, _ = strings.Cut(ip, "/")
		reached("", ip)
		reached(host, ip)
	}
	issued := a.orders()
	// Who is there already gets what there is.
	for range 3 {
		reached("", "8.8.4.4")
	}
	if n := a.orders(); n != issued {
		t.Errorf("%d certificates were issued, want %d", n, issued)
	}
	r.Kill()

	// The other server goes on with them, and so does the same one.
	other := relay.DerperBinary(t)
	if relay.IsDerper() {
		other = relay.DetourAsDerper(t)
	}
	for _, binary := range []string{other, ""} {
		r := start(binary)
		reached(host, "127.0.0.1")
		reached("", "8.8.4.4")
		reached("", "2606:4700::1111")
		r.Kill()
	}
	if n := a.orders(); n != issued {
		t.Errorf("after restarts %d certificates were issued, want %d", n, issued)
	}

	// A relay that has no other name than its address.
	name, dir = "8.8.4.4", t.TempDir()
	start("")
	reached("", "8.8.4.4")
	if _, err := handshake("8.8.4.4:443", host); err == nil {
		t.Error("a client that asks for a name is served")
	}
}

const ownDirectory = "derper asks no authority of one's own, and has no bound"

// Clients cannot make the relay order without end, and an address that the machine has no more is
// forgotten when it would be renewed.
func TestAddressesThatClientsAskFor(t *testing.T) {
	detourOnly(t, ownDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http, validity: map[string]int{"default": 90 * 86400, "shortlived": 30}})
	s := serve(t, "", p, "--listen", fmt.Sprintf(":%d", p.tls), "--hostname", host, "--cert-mode", "letsencrypt", "--acme-ip-certs",
		"--acme-directory", a.directory, "--acme-ca-file", a.caFile)
	s.waitFor("got one for " + host)
	takeAway := giveAddress(t, "lo:8", "203.0.113.9/24")
	reach := func(ip string) { handshake(net.JoinHostPort(ip, fmt.Sprint(p.tls)), "") }
	reach("203.0.113.9")
	s.waitFor("got one for 203.0.113.9")
	takeAway()
	for i := 1; i <= 7; i++ {
		reach(fmt.Sprintf("127.0.1.%d", i))
	}
	s.waitFor("got one for 127.0.1.7")
	reach("127.0.1.8")
	s.waitFor("clients asked for more addresses than 8: none is ordered for 127.0.1.8")
	// That makes room.
	s.waitFor("203.0.113.9 is no address of this machine any more")
	reach("127.0.1.8")
	s.waitFor("got one for 127.0.1.8")
	if strings.Contains(s.output(), "none could be got") {
		t.Error("an order failed")
	}
	s.stop()
}
