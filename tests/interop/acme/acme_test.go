package acme_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netmon"
	"tailscale.com/types/key"
)

// detourOnly leaves a test out when the suite runs against derper, which the reason is for.
func detourOnly(t *testing.T, reason string) {
	t.Helper()
	t.Parallel()
	if relay.IsDerper() {
		t.Skip("not for derper: " + reason)
	}
}

const noDirectory = "it knows no other ACME servers than Let's Encrypt's and Google's"

func TestHTTP01(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http})
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile, "--acme-email", "me@interop.test")
	s.waitFor("got one for " + host)
	leaf, err := verified(s.Addr, host, host, a.roots())
	if err != nil {
		t.Fatal(err)
	}
	if names := leaf.DNSNames; !slices.Equal(names, []string{host}) {
		t.Errorf("the certificate is for %v", names)
	}
	path := filepath.Join(s.CertDir, host)
	if b := pemBlocks(t, path); len(b) < 3 || b[0] != "EC PRIVATE KEY" || b[1] != "CERTIFICATE" || b[2] != "CERTIFICATE" {
		t.Errorf("%s holds %v", path, b)
	}
	for _, name := range []string{host, "acme_account+key"} {
		if st, err := os.Stat(filepath.Join(s.CertDir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	label := fmt.Sprintf(`{name="%s"}`, host)
	if v := s.metric("detour_certificate_renewals_total" + label); v != "1" {
		t.Errorf("renewals: %s", v)
	}
	// Where TLS-ALPN-01 came first and failed, that was within the same attempt.
	if v := s.metric("detour_certificate_renewal_failures_total" + label); v != "0" {
		t.Errorf("failures: %s", v)
	}
	if v := s.metric("detour_certificate_expires_in_seconds" + label); len(v) != len("7775999") {
		t.Errorf("seconds until it expires: %s, want about 90 days", v)
	}
	relaysFor(t, s, a)
}

// relaysFor lets Tailscale's own client relay a packet through the certificate.
func relaysFor(t *testing.T, s *served, a *authority) {
	t.Helper()
	newClient := func() (*derphttp.Client, key.NodePublic) {
		priv := key.NewNode()
		c, err := derphttp.NewClient(priv, "https://"+host+"/derp", t.Logf, netmon.NewStatic())
		if err != nil {
			t.Fatal(err)
		}
		c.TLSConfig = &tls.Config{RootCAs: a.roots()}
		c.SetURLDialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, s.Addr)
		})
		t.Cleanup(func() { c.Close() })
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Connect(ctx); err != nil {
			t.Fatalf("the official client: %v", err)
		}
		return c, priv.Public()
	}
	from, _ := newClient()
	to, toKey := newClient()
	relayPacket(t, from, to, toKey)
}

// relayPacket sends packets until one arrives: a client that has just connected may not be known yet.
func relayPacket(t *testing.T, from, to *derphttp.Client, toKey key.NodePublic) {
	t.Helper()
	got := make(chan error, 1)
	go func() {
		for {
			m, err := to.Recv()
			if err != nil {
				got <- err
				return
			}
			if p, ok := m.(derp.ReceivedPacket); ok {
				if string(p.Data) != "hello" {
					err = fmt.Errorf("got %q", p.Data)
				}
				got <- err
				return
			}
		}
	}()
	for begun := time.Now(); time.Since(begun) < patience; {
		if err := from.Send(toKey, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-got:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
	t.Fatal("no packet arrived")
}

func TestTLSALPN01(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{tlsPort: p.tls})
	p.http = 0
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
	s.waitFor("got one for " + host)
	if _, err := verified(s.Addr, host, host, a.roots()); err != nil {
		t.Fatal(err)
	}
	// The challenge is gone: whoever offers its protocol is served as everybody.
	c, err := tls.Dial("tcp", s.Addr, &tls.Config{InsecureSkipVerify: true, ServerName: host, NextProtos: []string{"acme-tls/1"}})
	if err == nil {
		if n := c.ConnectionState().PeerCertificates[0].Subject.CommonName; n == "ACME challenge" {
			t.Error("the certificate for the challenge is still shown")
		}
		c.Close()
	}
}

func TestDNS01(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{})
	hook := script(t, fmt.Sprintf(`
printf 'said %%s %%s\n' "$1" "$3"
test "$DETOUR_ACME_RECORD_VALUE" = "$4" || exit 9
case $1 in
present) curl -sf -d "{\"host\": \"$3\", \"value\": \"$4\"}" %[1]s/set-txt ;;
cleanup) curl -sf -d "{\"host\": \"$3\"}" %[1]s/clear-txt ;;
esac
`, a.dnsAdmin))
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile, "--acme-dns-hook", hook)
	s.waitFor("got one for "+host, "said present _acme-challenge."+host+".", "said cleanup _acme-challenge."+host+".")
	if _, err := verified(s.Addr, host, host, a.roots()); err != nil {
		t.Fatal(err)
	}
}

func TestDNSHookThatFails(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls})
	hook := script(t, "echo no such zone >&2; exit 3\n")
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile, "--acme-dns-hook", hook)
	s.waitFor("no such zone", "ended with status 3", "the next attempt is at")
	if a.orders() != 0 {
		t.Error("a certificate was issued")
	}
}

func TestExternalAccountBinding(t *testing.T) {
	detourOnly(t, noDirectory)
	t.Run("with the right key", func(t *testing.T) {
		t.Parallel()
		p := pickPorts(t)
		a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls, eab: true})
		s := serve(t, "", p, "--hostname", host, "--cert-mode", "gcp", "--acme-directory", a.directory, "--acme-ca-file", a.caFile,
			"--acme-email", "me@interop.test", "--acme-eab-kid", eabID, "--acme-eab-key", eabKey)
		s.waitFor("got one for " + host)
	})
	t.Run("with another key", func(t *testing.T) {
		t.Parallel()
		p := pickPorts(t)
		a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls, eab: true})
		s := serve(t, "", p, "--hostname", host, "--cert-mode", "gcp", "--acme-directory", a.directory, "--acme-ca-file", a.caFile,
			"--acme-email", "me@interop.test", "--acme-eab-kid", eabID, "--acme-eab-key", strings.Repeat("A", 64))
		s.waitFor("opening an account: the authority refuses")
	})
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		p := pickPorts(t)
		a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls, eab: true})
		s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
		s.waitFor("externalAccountRequired", "--acme-eab-kid")
	})
}

// shortLived are the profiles of an authority that gives certificates for addresses.
var shortLived = map[string]int{"default": 90 * 86400, "shortlived": 6 * 86400}

func TestIPCertificates(t *testing.T) {
	detourOnly(t, noDirectory)
	t.Run("for the address that is the host name", func(t *testing.T) {
		t.Parallel()
		p := pickPorts(t)
		a := startPebble(t, pebbleOptions{httpPort: p.http, validity: shortLived})
		s := serve(t, "", p, "--hostname", "127.0.0.1", "--cert-mode", "letsencrypt", "--acme-ip-certs", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
		s.waitFor("got one for 127.0.0.1")
		leaf, err := verified(s.Addr, "", "127.0.0.1", a.roots())
		if err != nil {
			t.Fatal(err)
		}
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 7*24*time.Hour {
			t.Errorf("it lives %v: not of the profile shortlived", life)
		}
		for _, name := range []string{"127.0.0.1.crt", "127.0.0.1.key"} {
			if _, err := os.Stat(filepath.Join(s.CertDir, name)); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("by TLS-ALPN-01 without an HTTP port", func(t *testing.T) {
		t.Parallel()
		p := pickPorts(t)
		a := startPebble(t, pebbleOptions{tlsPort: p.tls, validity: shortLived})
		p.http = 0
		s := serve(t, "", p, "--hostname", "127.0.0.1", "--cert-mode", "letsencrypt", "--acme-ip-certs", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
		s.waitFor("got one for 127.0.0.1")
		if _, err := verified(s.Addr, "", "127.0.0.1", a.roots()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("beside one for the name", func(t *testing.T) {
		t.Parallel()
		p := pickPorts(t)
		a := startPebble(t, pebbleOptions{httpPort: p.http, validity: shortLived})
		s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-ip-certs", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
		s.waitFor("got one for 127.0.0.1", "got one for "+host)
		if _, err := verified(s.Addr, "", "127.0.0.1", a.roots()); err != nil {
			t.Errorf("without a name: %v", err)
		}
		if _, err := verified(s.Addr, host, host, a.roots()); err != nil {
			t.Errorf("with the name: %v", err)
		}
	})
}

func TestBadNoncesAreTriedAgain(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls, badNonces: 60})
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
	s.waitFor("got one for " + host)
	if !strings.Contains(a.output(), "badNonce") && !strings.Contains(a.output(), "invalid nonce") {
		t.Log("pebble does not log refused nonces")
	}
}

// Until there is a certificate, handshakes fail with a reason, the HTTP port answers, and the relay
// ends in time; SIGHUP tries again at once.
func TestAuthorityThatRefusesAndThenDoesNot(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls})
	a.tell("/set-servfail", map[string]string{"host": host})
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
	s.waitFor("none could be got for "+host, "until then there is none for it")
	if _, err := handshake(s.Addr, host); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("a handshake without a certificate: %v", err)
	}
	s.waitFor("no certificate yet for " + host)
	res, err := http.Get("http://" + s.HTTPAddr + "/generate_204")
	if err != nil || res.StatusCode != 204 {
		t.Errorf("the HTTP port: %v, %v", res, err)
	}
	if v := s.metric(fmt.Sprintf(`detour_certificate_renewal_failures_total{name="%s"}`, host)); v != "1" {
		t.Errorf("failures: %s", v)
	}

	a.tell("/clear-servfail", map[string]string{"host": host})
	s.cmd.Process.Signal(syscall.SIGHUP)
	s.waitFor("got one for " + host)
	if _, err := verified(s.Addr, host, host, a.roots()); err != nil {
		t.Fatal(err)
	}
	if v := s.metric(fmt.Sprintf(`detour_certificate_last_renewal_failed{name="%s"}`, host)); v != "0" {
		t.Errorf("the last attempt failed: %s", v)
	}
	s.stop()
}

func TestNamesThatTheAuthorityBlocks(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls, blocked: []string{host}})
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
	s.waitFor("rejectedIdentifier", "use a name of your own domain")
}

func TestAuthorityThatIsNotTrusted(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{})
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory)
	s.waitFor("reading the authority's directory", "ca-certificates")
	s.stop()
}

func TestUnreachablePortsAreNamed(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{})
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
	// Both ways are tried in the first attempt.
	s.waitFor("at TCP port 443 of "+host, "at TCP port 80 of "+host)
}

func TestStopWhileTheAuthorityWorks(t *testing.T) {
	detourOnly(t, noDirectory)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p := pickPorts(t)
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", "https://"+silent.Addr().String()+"/dir")
	c, err := silent.Accept() // The relay is in the middle of its request.
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.stop()
}

func TestRenewal(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls, validity: map[string]int{"default": 18}})
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
	s.waitFor("got one for " + host)
	first, err := verified(s.Addr, host, host, a.roots())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "another certificate is served", func() error {
		// At every moment there is one that clients accept.
		leaf, err := verified(s.Addr, host, host, a.roots())
		if err != nil {
			t.Fatal(err)
		}
		if leaf.Equal(first) {
			return errors.New("still the first one")
		}
		return nil
	})
	if time.Now().After(first.NotAfter) {
		t.Error("the first one had expired by then")
	}
	if n := strings.Count(s.output(), "got one for "+host); n > 3 {
		t.Errorf("%d certificates so far: renewed too eagerly", n)
	}
}

// The last good certificate stays when the renewal fails.
func TestRenewalThatFails(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls, validity: map[string]int{"default": 75}})
	s := serve(t, "", p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile)
	s.waitFor("got one for " + host)
	first, err := verified(s.Addr, host, host, a.roots())
	if err != nil {
		t.Fatal(err)
	}
	a.tell("/set-servfail", map[string]string{"host": host})
	s.waitFor("the one that is served is valid until")
	if leaf, err := verified(s.Addr, host, host, a.roots()); err != nil || !leaf.Equal(first) {
		t.Errorf("after a renewal that failed: %v", err)
	}
}

func TestRestartUsesWhatIsKept(t *testing.T) {
	detourOnly(t, noDirectory)
	p := pickPorts(t)
	a := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls})
	args := []string{"--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", a.directory, "--acme-ca-file", a.caFile}
	s := serve(t, "", p, args...)
	s.waitFor("got one for " + host)
	first, err := verified(s.Addr, host, host, a.roots())
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	again := serve(t, s.Dir, p, args...)
	leaf, err := verified(again.Addr, host, host, a.roots())
	if err != nil || !leaf.Equal(first) {
		t.Errorf("after the restart: %v", err)
	}
	again.waitFor("is served, valid until")
	if n := a.orders(); n != 1 {
		t.Errorf("%d certificates were issued, want 1", n)
	}
	again.stop()

	// From another server the certificate is served until a new one is there.
	b := startPebble(t, pebbleOptions{httpPort: p.http, tlsPort: p.tls})
	other := serve(t, s.Dir, p, "--hostname", host, "--cert-mode", "letsencrypt", "--acme-directory", b.directory, "--acme-ca-file", b.caFile)
	other.waitFor("came from another ACME server", "got one for "+host)
	if _, err := verified(other.Addr, host, host, b.roots()); err != nil {
		t.Error(err)
	}
}
