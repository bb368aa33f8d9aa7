package acme_test

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"detour.example/interop/relay"
)

// With derper's own flags and the addresses of Let's Encrypt and Google that are built into both: a
// certificate by TLS-ALPN-01, and the other server goes on with it when it takes the first one's place.
func TestBuiltInAuthoritiesAndTheSwapOfServers(t *testing.T) {
	t.Parallel()
	t.Run("Let's Encrypt", func(t *testing.T) {
		t.Parallel()
		swapServers(t, letsEncrypt, pebbleOptions{tlsPort: 443}, "-certmode=letsencrypt")
	})
	t.Run("Google, which wants an account that it knows", func(t *testing.T) {
		t.Parallel()
		swapServers(t, google, pebbleOptions{tlsPort: 443, eab: true}, "-certmode=gcp", "-acme-email=me@interop.test", "-acme-eab-kid="+eabID, "-acme-eab-key="+eabKey)
	})
}

func swapServers(t *testing.T, name string, o pebbleOptions, args ...string) {
	// derper speaks TLS on port 443 alone in this mode; on an address of its own that is nobody else's.
	ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), 1+rand.IntN(250), 1+rand.IntN(250))

	a := startPebble(t, o)
	a.tell("/add-a", map[string]any{"host": host, "addresses": []string{ip}})
	env := a.as(name)
	roots := a.roots()
	start := func(dir, binary string) *relay.Relay {
		return relay.Start(t, relay.Options{Host: host, ListenIP: ip, Port: 443, HTTPPort: -1, NoSTUN: true, NoWait: true,
			Dir: dir, Env: env, Binary: binary, Args: args})
	}
	leafOf := func(r *relay.Relay) (leaf *x509.Certificate) {
		eventually(t, "a certificate is served", func() (err error) {
			leaf, err = verified(r.Addr, host, host, roots)
			return err
		})
		return leaf
	}
	first := start("", "")
	leaf := leafOf(first)
	if b := pemBlocks(t, filepath.Join(first.CertDir, host)); len(b) < 3 || b[0] != "EC PRIVATE KEY" {
		t.Errorf("kept on disk: %v", b)
	}
	// Without the name, and with another one, both refuse.
	for _, name := range []string{"", "other.interop.test"} {
		if _, err := handshake(first.Addr, name); err == nil {
			t.Errorf("the server name %q is served", name)
		}
	}
	first.Kill()

	other := relay.DerperBinary(t)
	if relay.IsDerper() {
		other = relay.DetourAsDerper(t)
	}
	second := start(first.Dir, other)
	if !leafOf(second).Equal(leaf) {
		t.Error("the other server has got itself another certificate")
	}
	if n := a.orders(); n != 1 {
		t.Errorf("%d certificates were issued, want 1", n)
	}
}
