package tlsrecord_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// leafKeys are the kinds of certificates.
func leafKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys["RSA"] = k
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["Ed25519"] = e
	return keys
}

// hello is one client.
type hello struct {
	name string
	cfg  *tls.Config
}

func hellos() []hello {
	var all []hello
	add := func(name string, cfg *tls.Config) {
		cfg.InsecureSkipVerify = true
		all = append(all, hello{name, cfg})
	}
	versions := map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	for name, v := range versions {
		add("TLS "+name, &tls.Config{MinVersion: v, MaxVersion: v})
	}
	add("everything", &tls.Config{MinVersion: tls.VersionTLS10})
	curves := map[string][]tls.CurveID{
		"X25519": {tls.X25519}, "P-256": {tls.CurveP256}, "P-384": {tls.CurveP384}, "P-521": {tls.CurveP521},
		"MLKEM": {tls.X25519MLKEM768}, "MLKEM, X25519": {tls.X25519MLKEM768, tls.X25519}, "P-521, P-384": {tls.CurveP521, tls.CurveP384},
		"X25519, P-384": {tls.X25519, tls.CurveP384}, "P-256, X25519": {tls.CurveP256, tls.X25519},
	}
	for name, c := range curves {
		for _, v := range []string{"1.2", "1.3"} {
			add("TLS "+v+", groups "+name, &tls.Config{MinVersion: versions[v], MaxVersion: versions[v], CurvePreferences: c})
		}
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			continue
		}
		add("TLS 1.2, "+suite.Name, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
	}
	for _, offer := range [][]string{{"h2"}, {"http/1.1"}, {"h2", "http/1.1"}, {"http/1.1", "h2"}, {"foo"}, {"foo", "http/1.1"}, {"acme-tls/1"}, {"acme-tls/1", "http/1.1"}} {
		for _, v := range []string{"1.2", "1.3"} {
			add("TLS "+v+", ALPN "+strings.Join(offer, " "), &tls.Config{MinVersion: versions[v], MaxVersion: versions[v], NextProtos: offer})
		}
	}
	return all
}

// differs says why a handshake with Detour does not end as one with derper; empty when it has to.
func (h hello) differs(leaf string) string {
	groups := h.cfg.CurvePreferences
	curves := map[string]tls.CurveID{"P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521}
	curve, isECDSA := curves[leaf]
	switch {
	case slices.Equal(groups, []tls.CurveID{tls.X25519MLKEM768}):
		return "OpenSSL knows X25519MLKEM768 since 3.5"
	case isECDSA && h.cfg.MaxVersion == tls.VersionTLS12 && groups != nil && !slices.Contains(groups, curve):
		return "OpenSSL holds clients of TLS 1.2 to RFC 8422: they have to offer the curve of the certificate"
	case slices.Equal(h.cfg.NextProtos, []string{"h2"}):
		return "derper serves pages by HTTP/2, but no DERP"
	}
	return ""
}

// outcome is what came of a handshake.
func (h hello) outcome(t *testing.T, r *relay.Relay) string {
	t.Helper()
	nc, err := net.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	cfg := h.cfg.Clone()
	cfg.ServerName = r.TLSConfig().ServerName
	c := tls.Client(nc, cfg)
	if err := c.Handshake(); err != nil {
		return "refused"
	}
	// In TLS 1.3 the client is done before the server is.
	if _, err := c.Write([]byte("GET /generate_204 HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return "refused"
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return "refused"
	}
	s := c.ConnectionState()
	// Whether both sides know the post-quantum group depends on the version of OpenSSL.
	group := strings.TrimSuffix(s.CurveID.String(), "MLKEM768")
	return fmt.Sprintf("%s, %s, %s, ALPN %q", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), group, s.NegotiatedProtocol)
}

// Whatever Go's client can offer leads to the same with both servers.
func TestHandshakesAreThoseOfDerper(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "state is exchanged with derper") {
		return
	}
	ca := relay.NewCA()
	for name, leaf := range leafKeys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const host = "relay.interop.test"
			certificate, privateKey := ca.Issue(relay.Leaf{Names: []string{host}, Key: leaf})
			start := func(binary string) *relay.Relay {
				return relay.Start(t, relay.Options{NoSTUN: true, HTTPPort: -1, Host: host, CertFile: certificate, KeyFile: privateKey, Roots: ca.PEM, Binary: binary})
			}
			theirs, ours := start(relay.DerperBinary(t)), start(relay.DetourAsDerper(t))
			for _, h := range hellos() {
				if why := h.differs(name); why != "" {
					t.Logf("not compared: %s: %s", h.name, why)
					continue
				}
				if want, got := h.outcome(t, theirs), h.outcome(t, ours); got != want {
					t.Errorf("%s: %s; derper: %s", h.name, got, want)
				}
			}
		})
	}
}
