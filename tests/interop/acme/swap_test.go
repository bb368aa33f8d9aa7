package acme_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netmon"
	"tailscale.com/types/key"
)

// swap writes both certificate files of a relay, the key first, as a renewal job does.
func swap(t *testing.T, r *relay.Relay, certificate, privateKey string) {
	t.Helper()
	base := filepath.Join(r.CertDir, relay.CertBase(r.Host))
	for ext, text := range map[string]string{".key": privateKey, ".crt": certificate} {
		if err := os.WriteFile(base+ext+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(base+ext+".new", base+ext); err != nil {
			t.Fatal(err)
		}
	}
}

// Files that change are served within 10 s, and clients that are connected notice nothing.
func TestChangedFilesArePickedUpUnderAConnectedClient(t *testing.T) {
	detourOnly(t, "it needs a restart")
	ca := relay.NewCA()
	chain, privateKey := ca.For(host)
	r := relay.Start(t, relay.Options{NoSTUN: true, HTTPPort: -1, Host: host, CertFile: chain, KeyFile: privateKey, Roots: ca.PEM})
	client := func() (*derphttp.Client, key.NodePublic) {
		priv := key.NewNode()
		c, err := derphttp.NewClient(priv, "https://"+host+"/derp", func(string, ...any) {}, netmon.NewStatic())
		if err != nil {
			t.Fatal(err)
		}
		c.TLSConfig = &tls.Config{RootCAs: ca.Pool()}
		c.SetURLDialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, r.Addr)
		})
		t.Cleanup(func() { c.Close() })
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Connect(ctx); err != nil {
			t.Fatalf("the official client: %v", err)
		}
		return c, priv.Public()
	}
	from, _ := client()
	to, toKey := client()
	relayPacket(t, from, to, toKey)

	// A certificate that clients would refuse changes nothing, and is said once.
	other, otherKey := ca.For("other.interop.test")
	swap(t, r, other, otherKey)
	eventually(t, "the bad certificate is refused", func() error {
		if !strings.Contains(r.Log(), "does not cover the host name") {
			return errors.New("not yet")
		}
		return nil
	})
	if leaf, err := verified(r.Addr, host, host, ca.Pool()); err != nil || !leaf.Equal(r.Leaf) {
		t.Errorf("after the bad files: %v", err)
	}

	next, nextKey := ca.For(host)
	swap(t, r, next, nextKey)
	changed := time.Now()
	eventually(t, "the new certificate is served", func() error {
		leaf, err := verified(r.Addr, host, host, ca.Pool())
		if err != nil {
			t.Fatal(err)
		}
		if leaf.Equal(r.Leaf) {
			return errors.New("still the old one")
		}
		return nil
	})
	if left := r.Varz(t)[`detour_certificate_expires_in_seconds{name="`+host+`"}`]; left < 3600 {
		t.Errorf("%v seconds until it expires", left)
	}
	if took := time.Since(changed); took > 10*time.Second+relay.Slack {
		t.Errorf("it took %v", took)
	}
	if n := strings.Count(r.Log(), "does not cover the host name"); n != 1 {
		t.Errorf("the bad certificate was mentioned %d times", n)
	}
	relayPacket(t, from, to, toKey)
	newcomer, _ := client()
	relayPacket(t, newcomer, to, toKey)
}
