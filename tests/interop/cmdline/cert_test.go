package cmdline_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

const host = "relay.interop.test"

// offer writes certificate files for a host name ("" leaves one out) and tries to start on them.
func offer(t *testing.T, hostname, certificate, privateKey string, env ...string) (dir string, r result) {
	t.Helper()
	dir = t.TempDir()
	certs := filepath.Join(dir, "certs")
	if err := os.MkdirAll(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	for ext, text := range map[string]string{".crt": certificate, ".key": privateKey} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(certs, relay.CertBase(hostname)+ext), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := append(served(t, dir), "-hostname", hostname, "-a", fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1")))
	return dir, runBinary(t, relay.Binary(t), dir, env, args...)
}

// Each of these would leave clients outside. It is refused at the start, with the file and what to do.
func TestCertificatesThatClientsWouldRefuseAreRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	ca := relay.NewCA()
	sub := ca.Intermediate()
	leaf, k := ca.Issue(relay.Leaf{Names: []string{host}})
	_, otherKey := ca.Issue(relay.Leaf{Names: []string{host}})
	now := time.Now()
	issue := func(l relay.Leaf) [2]string { c, k := ca.Issue(l); return [2]string{c, k} }
	expired := issue(relay.Leaf{Names: []string{host}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Hour)})
	future := issue(relay.Leaf{Names: []string{host}, NotBefore: now.Add(time.Hour), NotAfter: now.Add(48 * time.Hour)})
	wrong := issue(relay.Leaf{Names: []string{"other.interop.test", "127.0.0.1"}})
	deep := issue(relay.Leaf{Names: []string{"*.test", "*." + host}})
	alone, aloneKey := sub.Issue(relay.Leaf{Names: []string{host}})
	const dates, chain = "certificates are checked for their dates", "certificates are checked for their chain"
	cases := []struct {
		name       string
		hostname   string
		cert, key  string
		says       []string
		detourOnly string
	}{
		{"no files", host, "", "", []string{".crt"}, ""},
		{"no key", host, leaf, "", []string{".key"}, ""},
		{"no certificate", host, "", k, []string{".crt"}, ""},
		{"the key of another certificate", host, leaf, otherKey, []string{"match"}, ""},
		{"a certificate that is none", host, "hello", k, []string{".crt"}, ""},
		{"an empty certificate", host, "\n", k, []string{".crt"}, ""},
		{"a damaged certificate", host, strings.Replace(leaf, "M", "N", 3), k, []string{".crt"}, ""},
		{"a key that is none", host, leaf, "hello", []string{".key"}, ""},
		{"the certificate as key", host, leaf, leaf, []string{".key"}, ""},
		{"another name", host, wrong[0], wrong[1], []string{"other.interop.test", host}, ""},
		{"wildcards that do not reach", host, deep[0], deep[1], []string{host}, ""},
		{"an address that it is not for", "127.0.0.2", wrong[0], wrong[1], []string{"127.0.0.2"}, ""},
		{"a name for an address", "127.0.0.1", leaf, k, []string{"127.0.0.1"}, ""},
		{"expired", host, expired[0], expired[1], []string{"expired"}, dates},
		{"not yet valid", host, future[0], future[1], []string{"not yet valid"}, dates},
		{"the leaf without its intermediate", host, alone, aloneKey, []string{"--fullchain-file"}, chain},
		{"one file missing for an address, the certificate", "127.0.0.1", "", wrong[1], []string{".crt", ".key"}, "one missing file of two is no reason to overwrite the other"},
		{"one file missing for an address, the key", "127.0.0.1", wrong[0], "", []string{".crt", ".key"}, "one missing file of two is no reason to overwrite the other"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.detourOnly != "" && !relay.DetourOnly(t, c.detourOnly) {
				return
			}
			dir, r := offer(t, c.hostname, c.cert, c.key)
			if r.status != 1 {
				t.Fatalf("status %d, want 1; stderr:\n%s", r.status, r.errOut)
			}
			if !relay.DetourOnly(t, "messages name the file and the mending") {
				return
			}
			base := filepath.Join(dir, "certs", relay.CertBase(c.hostname))
			if !strings.Contains(r.errOut, base) {
				t.Errorf("the message does not name %s.crt or .key:\n%s", base, r.errOut)
			}
			for _, s := range c.says {
				if !strings.Contains(r.errOut, s) {
					t.Errorf("the message does not say %q:\n%s", s, r.errOut)
				}
			}
			// Nothing was written over.
			for ext, text := range map[string]string{".crt": c.cert, ".key": c.key} {
				b, err := os.ReadFile(base + ext)
				if text == "" && err == nil || text != "" && string(b) != text {
					t.Errorf("%s was changed (%v)", base+ext, err)
				}
			}
		})
	}
}

func TestCertificatesThatAreFine(t *testing.T) {
	t.Parallel()
	root := relay.NewCA()
	sub := root.Intermediate()
	ecKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1 := func(k *ecdsa.PrivateKey) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(k))}))
	}
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}))
	issue := func(k crypto.Signer, names ...string) string {
		if names == nil {
			names = []string{host}
		}
		c, _ := sub.Issue(relay.Leaf{Names: names, Key: k})
		return c
	}
	direct, _ := root.Issue(relay.Leaf{Names: []string{host}, Key: ecKey})
	cases := []struct {
		name, hostname, cert, key, roots string
		chain                            int // certificates sent, without the meta certificate
	}{
		{"ECDSA P-256, PKCS 8", host, issue(ecKey) + sub.Chain, relay.KeyPEM(ecKey), "", 2},
		{"ECDSA P-256, SEC 1", host, issue(ecKey) + sub.Chain, sec1(ecKey), "", 2},
		{"ECDSA P-384", host, issue(p384) + sub.Chain, relay.KeyPEM(p384), "", 2},
		{"RSA 2048, PKCS 1", host, issue(rsaKey) + sub.Chain, pkcs1, "", 2},
		{"RSA 2048, PKCS 8", host, issue(rsaKey) + sub.Chain, relay.KeyPEM(rsaKey), "", 2},
		{"Ed25519", host, issue(edKey) + sub.Chain, relay.KeyPEM(edKey), "", 2},
		{"with the root at its end", host, issue(ecKey) + sub.Chain + root.PEM, relay.KeyPEM(ecKey), "", 0},
		{"the leaf alone, directly below a trusted root", host, direct, relay.KeyPEM(ecKey), root.PEM, 1},
		{"a wildcard", host, issue(ecKey, "*.interop.test") + sub.Chain, relay.KeyPEM(ecKey), "", 2},
		{"one name of several", host, issue(ecKey, "first.interop.test", host, "127.0.0.1") + sub.Chain, relay.KeyPEM(ecKey), "", 2},
		{"for an address", "127.0.0.1", issue(ecKey, "127.0.0.1") + sub.Chain, relay.KeyPEM(ecKey), "", 2},
		{"for an IPv6 address", "::1", issue(ecKey, "::1") + sub.Chain, relay.KeyPEM(ecKey), "", 2},
		{"with text before it and Windows lines", host, "subject=/CN=relay\n" + strings.ReplaceAll(issue(ecKey)+"\nissuer\n"+sub.Chain, "\n", "\r\n"), relay.KeyPEM(ecKey), "", 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := relay.Start(t, relay.Options{NoSTUN: true, Host: c.hostname, CertFile: c.cert, KeyFile: c.key, Roots: c.roots})
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				cfg := r.TLSConfig()
				cfg.MinVersion, cfg.MaxVersion = version, version
				conn, err := wire.DialError(t, r, cfg)
				if err != nil {
					t.Fatalf("%s: %v", tls.VersionName(version), err)
				}
				certs := conn.Conn.(*tls.Conn).ConnectionState().PeerCertificates
				if n := len(certs) - 1; c.chain != 0 && n != c.chain {
					t.Errorf("%s: %d certificates and the meta certificate, want %d", tls.VersionName(version), n, c.chain)
				}
				if !strings.HasPrefix(certs[len(certs)-1].Subject.CommonName, "derpkey") {
					t.Errorf("%s: the meta certificate is not the last one", tls.VersionName(version))
				}
				// As a proper client checks it.
				opts := x509.VerifyOptions{Roots: root.Pool(), DNSName: c.hostname, Intermediates: x509.NewCertPool()}
				if strings.Contains(c.hostname, ":") {
					opts.DNSName = "[" + c.hostname + "]"
				}
				for _, i := range certs[1 : len(certs)-1] {
					opts.Intermediates.AddCert(i)
				}
				if _, err := certs[0].Verify(opts); err != nil {
					t.Errorf("%s: a client refuses it: %v", tls.VersionName(version), err)
				}
				conn.Login(wire.DefaultInfo)
				conn.WantAlive()
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A relay with a name wants to be asked for it; one with an address takes any name, and none.
func TestServerNames(t *testing.T) {
	t.Parallel()
	sub := relay.NewCA().Intermediate()
	chain, k := sub.For(host, "other.interop.test")
	named := relay.Start(t, relay.Options{NoSTUN: true, Host: host, CertFile: chain, KeyFile: k})
	address := relay.Start(t, relay.Options{NoSTUN: true})
	for _, c := range []struct {
		relay *relay.Relay
		sni   string
		ok    bool
	}{
		{named, host, true},
		{named, "other.interop.test", false},
		{named, "interop.test", false},
		{named, "a." + host, false},
		{named, "", false},
		{address, "", true},
		{address, "anything.example", true},
	} {
		t.Run(fmt.Sprintf("%s asked for %q", c.relay.Host, c.sni), func(t *testing.T) {
			conn, err := wire.DialError(t, c.relay, &tls.Config{InsecureSkipVerify: true, ServerName: c.sni})
			if (err == nil) != c.ok {
				t.Fatalf("error %v, want it to work: %v", err, c.ok)
			}
			if err == nil {
				conn.Login(wire.DefaultInfo)
			}
		})
	}
}

// For an address the relay makes a certificate once and keeps it: a new one would shut out every
// client that knows the old one.
func TestAnAddressGetsACertificateOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ host, listen string }{{"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {"203.0.113.7", "127.0.0.1"}} {
		t.Run(c.host, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			certs := filepath.Join(dir, "a", "b") // neither is there
			r := relay.Start(t, relay.Options{NoSTUN: true, Host: c.host, ListenIP: c.listen, Dir: dir, Args: []string{"-certdir", certs}})
			base := filepath.Join(certs, relay.CertBase(c.host))
			for _, f := range []struct {
				name string
				mode os.FileMode
			}{{base + ".crt", 0o644}, {base + ".key", 0o600}} {
				if info, err := os.Stat(f.name); err != nil || info.Mode().Perm() != f.mode {
					t.Errorf("%s: %v, %v; want mode %v", f.name, info, err, f.mode)
				}
			}
			pair, err := tls.LoadX509KeyPair(base+".crt", base+".key")
			if err != nil {
				t.Fatal(err)
			}
			if len(pair.Certificate) != 1 || string(pair.Certificate[0]) != string(r.Leaf.Raw) {
				t.Error("the relay does not serve the certificate in its files")
			}
			if _, ok := pair.PrivateKey.(*ecdsa.PrivateKey); !ok {
				t.Errorf("the key is %T, want ECDSA", pair.PrivateKey)
			}
			if b, err := os.ReadFile(base + ".key"); err != nil || !strings.HasPrefix(string(b), "-----BEGIN EC PRIVATE KEY-----\n") {
				t.Errorf("the key file begins with %.40q (%v), want EC PRIVATE KEY", b, err)
			}
			if r.Leaf.Subject.CommonName != c.host || len(r.Leaf.IPAddresses) != 1 || r.Leaf.IPAddresses[0].String() != c.host || len(r.Leaf.DNSNames) != 0 {
				t.Errorf("CN %q, addresses %v, names %v; want %s as CN and only address", r.Leaf.Subject.CommonName, r.Leaf.IPAddresses, r.Leaf.DNSNames, c.host)
			}
			if r.Leaf.NotBefore.After(time.Now()) || r.Leaf.NotAfter.Before(time.Now().Add(300*24*time.Hour)) {
				t.Errorf("valid from %v to %v", r.Leaf.NotBefore, r.Leaf.NotAfter)
			}
			if relay.DetourOnly(t, "self-signed certificates last ten years") && r.Leaf.NotAfter.Before(time.Now().Add(9*365*24*time.Hour)) {
				t.Errorf("valid until %v, want about ten years", r.Leaf.NotAfter)
			}
			// A relay may log behind its work.
			if !relay.Poll(30*time.Second, func() bool { return strings.Contains(r.Log(), r.Pin) && strings.Contains(r.Log(), `"CertName"`) }) {
				t.Errorf("the log has no DERP map entry with the pin %s:\n%s", r.Pin, r.Log())
			}
			r.Restart() // compares the pin
		})
	}
}
