// Package protocol_test checks a relay byte by byte: what official clients would never send, and the
// exact form of every answer.
package protocol_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// Keys of the golden examples.
const (
	serverPriv = "1011111111111111111111111111111111111111111111111111111111111151"
	serverPub  = "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"
	aPriv      = "2022222222222222222222222222222222222222222222222222222222222262"
	aPub       = "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"
	bPriv      = "3033333333333333333333333333333333333333333333333333333333333373"
	bPub       = "7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14"
	mPriv      = "4044444444444444444444444444444444444444444444444444444444444444"
	mPub       = "ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b"
)

// goldenRelay runs on the golden server key.
func goldenRelay(t *testing.T) *relay.Relay {
	t.Helper()
	dir := t.TempDir()
	cfg := "{\n\t\"PrivateKey\": \"privkey:" + serverPriv + "\"\n}"
	if err := os.WriteFile(filepath.Join(dir, "derper.key"), []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	r := relay.Start(t, relay.Options{Dir: dir})
	if got := r.PublicKey.UntypedHexString(); got != serverPub {
		t.Fatalf("public key of the relay: %s, want %s", got, serverPub)
	}
	return r
}

const goldenServerKey = `
	01 00 00 00 28 44 45 52 50 f0 9f 94 91 7b 4e 90
	9b be 7f fe 44 c4 65 a2 20 03 7d 60 8e e3 58 97
	d3 1e f9 72 f0 7f 74 89 2c b0 f7 3f 13`

// goldenClientInfoA is A's login, JSON {"version":2,"CanAckPings":true}, nonce 00..17.
const goldenClientInfoA = `
	02 00 00 00 68 0f aa 68 4e d2 88 67 b9 7f 4a 6a
	2d ee 5d f8 ce 97 4e 76 b7 01 8e 3f 22 a1 c4 cf
	26 78 57 0f 20 00 01 02 03 04 05 06 07 08 09 0a
	0b 0c 0d 0e 0f 10 11 12 13 14 15 16 17 a8 58 a0
	62 bb 55 fb d0 e5 65 bf 95 22 25 b5 e2 20 ae 6f
	f3 2c e0 93 a7 54 8f 0f 9e fd 73 31 db 8b 94 71
	1f e4 54 6f 1e d0 d7 38 12 1d 94 ab e3`

// goldenClientInfoM is the login of a mesh peer with a mesh key that this relay does not have.
const goldenClientInfoM = `
	02 00 00 00 b6 ff 2e e4 56 01 ec 1b 67 31 0c 77
	90 40 45 85 ae 69 73 31 ee e1 c1 f8 cf 24 19 73
	1c 1f ff 3e 6b 40 41 42 43 44 45 46 47 48 49 4a
	4b 4c 4d 4e 4f 50 51 52 53 54 55 56 57 12 3b 19
	66 32 db f0 73 76 ca 91 a9 0a 6a d7 82 80 ff 22
	63 fe 85 ce b5 3b 52 42 c1 81 73 af f2 9b 0a ac
	17 c3 27 88 da 05 04 f3 06 21 31 d9 4f 36 0d 81
	8e 2e e5 c7 a7 f6 6a a6 78 72 b6 01 0e 29 12 80
	13 64 ae b5 8c 4c 88 c9 25 f5 65 3f 7d 43 77 17
	99 be 6b c3 93 3f e1 cc 3e cf 66 07 45 67 7c 34
	05 fa a8 1d 2a 57 a0 c4 24 d2 db 40 52 94 87 db
	d1 eb 5a 5a 01 21 3c 26 06 bf 75`

func TestEveryGoldenFrameIsSentAndTakenAsWritten(t *testing.T) {
	t.Parallel()
	r := goldenRelay(t)
	keyA, keyB := wire.PrivateKey(aPriv), wire.PrivateKey(bPriv)
	if keyA.Public().UntypedHexString() != aPub || keyB.Public().UntypedHexString() != bPub {
		t.Fatal("the golden keys do not fit together")
	}

	// A comes the slow way: upgrade with an answer.
	a := wire.Dial(t, r)
	a.Priv, a.Pub = keyA, keyA.Public()
	a.Put(wire.Head("DERP"))
	first := "HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: DERP\r\n" +
		"Connection: Upgrade\r\n" +
		"Derp-Version: 2\r\n" +
		"Derp-Public-Key: " + serverPub + "\r\n" +
		"\r\n" + string(wire.Hex(goldenServerKey))
	// One TLS record gives one read: head and ServerKey come together.
	buf := make([]byte, 4096)
	a.SetReadDeadline(time.Now().Add(wire.IOTimeout))
	n, err := a.Conn.Read(buf)
	if err != nil || string(buf[:n]) != first {
		t.Fatalf("first record: %q (error %v)\nwant %q", buf[:n], err, first)
	}

	a.Put(wire.Hex(goldenClientInfoA))
	f := a.Frame()
	if f.Type != wire.ServerInfo || len(f.Payload) != 0x35 {
		t.Fatalf("second frame: %v, want ServerInfo with 53 bytes", f)
	}
	if text, ok := wire.Open(keyA, r.PublicKey, f.Payload); !ok || string(text) != `{"version":2}` {
		t.Fatalf("ServerInfo says %q (box opens: %v), want {\"version\":2}", text, ok)
	}

	// B is not there yet: a disco packet to it is answered by PeerGone (not here).
	a.Put(wire.Hex(`
		04 00 00 00 5e 7b 0d 47 d9 34 27 f8 31 11 60 78
		1c 7c 73 3f d8 9f 88 97 0a ef 49 0d 8a a0 ee 19
		a4 cb 8a 1b 14 54 53 f0 9f 92 ac 7b 0d 47 d9 34
		27 f8 31 11 60 78 1c 7c 73 3f d8 9f 88 97 0a ef
		49 0d 8a a0 ee 19 a4 cb 8a 1b 14 00 00 00 00 00
		00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
		00 00 00`))
	a.WantBytes(wire.Hex(`
		08 00 00 00 21 7b 0d 47 d9 34 27 f8 31 11 60 78
		1c 7c 73 3f d8 9f 88 97 0a ef 49 0d 8a a0 ee 19
		a4 cb 8a 1b 14 01`))

	// Home and not home.
	a.Put(wire.Hex("07 00 00 00 01 01"))
	if v := r.WantVar(t, "derp.gauge_current_home_connections", 1); v != 1 {
		t.Errorf("home connections after NotePreferred 1: %v, want 1", v)
	}
	a.Put(wire.Hex("07 00 00 00 01 00"))
	if v := r.WantVar(t, "derp.gauge_current_home_connections", 0); v != 0 {
		t.Errorf("home connections after NotePreferred 0: %v, want 0", v)
	}

	// Ping and pong.
	a.Put(wire.Hex("12 00 00 00 08 01 02 03 04 05 06 07 2a"))
	a.WantBytes(wire.Hex("13 00 00 00 08 01 02 03 04 05 06 07 2a"))

	// A says hello to B.
	b := wire.LoginAs(t, r, keyB)
	a.Put(wire.Hex(`
		04 00 00 00 25 7b 0d 47 d9 34 27 f8 31 11 60 78
		1c 7c 73 3f d8 9f 88 97 0a ef 49 0d 8a a0 ee 19
		a4 cb 8a 1b 14 68 65 6c 6c 6f`))
	b.WantBytes(wire.Hex(`
		05 00 00 00 25 0f aa 68 4e d2 88 67 b9 7f 4a 6a
		2d ee 5d f8 ce 97 4e 76 b7 01 8e 3f 22 a1 c4 cf
		26 78 57 0f 20 68 65 6c 6c 6f`))

	// A leaves, and B is told.
	a.Close()
	b.WantBytes(wire.Hex(`
		08 00 00 00 21 0f aa 68 4e d2 88 67 b9 7f 4a 6a
		2d ee 5d f8 ce 97 4e 76 b7 01 8e 3f 22 a1 c4 cf
		26 78 57 0f 20 00`))
	b.WantAlive()
}

func TestAMeshKeyThatDoesNotFitMakesAnOrdinaryClient(t *testing.T) {
	t.Parallel()
	r := goldenRelay(t)
	m := wire.Dial(t, r)
	m.Priv = wire.PrivateKey(mPriv)
	m.Pub = m.Priv.Public()
	if got := m.Pub.UntypedHexString(); got != mPub {
		t.Fatalf("public key of M: %s, want %s", got, mPub)
	}
	m.Put(wire.FastHead(), wire.Hex(goldenClientInfoM))
	if err := m.ReadLogin(); err != nil {
		t.Fatal(err)
	}
	m.WantAlive()
	m.Put(wire.Encode(wire.WatchConns))
	m.WantClosed()
}

func TestServerKeyIsTheSameAtEveryLogin(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	seen := map[string]bool{}
	for range 5 {
		c := wire.Dial(t, r)
		c.Put(wire.FastHead())
		f := c.Frame()
		if f.Type != wire.ServerKey || len(f.Payload) != 40 || !bytes.Equal(f.Payload[:8], wire.Magic) {
			t.Fatalf("first frame: %v, want ServerKey with magic and 32 bytes", f)
		}
		seen[fmt.Sprintf("%x", f.Payload[8:])] = true
	}
	r.Restart()
	c := wire.Login(t, r)
	seen[c.Server.UntypedHexString()] = true
	if len(seen) != 1 || !seen[r.PublicKey.UntypedHexString()] {
		t.Errorf("server keys seen: %v, want only that of the key file, %s", seen, r.PublicKey.UntypedHexString())
	}
}

// The extra certificate that tells clients the server key before the first byte of DERP.
func TestMetaCertificateHasTheExactForm(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cfg := r.TLSConfig()
			cfg.MinVersion, cfg.MaxVersion = version, version
			c, err := wire.DialError(t, r, cfg)
			if err != nil {
				t.Fatal(err)
			}
			certs := c.Conn.(*tls.Conn).ConnectionState().PeerCertificates
			if len(certs) != 2 {
				t.Fatalf("%d certificates in the chain, want the leaf and the meta certificate", len(certs))
			}
			meta := certs[1]
			if want := "derpkey" + r.PublicKey.UntypedHexString(); meta.Subject.CommonName != want {
				t.Errorf("CN %q, want %q", meta.Subject.CommonName, want)
			}
			if len(meta.Subject.Names) != 1 || !bytes.Equal(meta.RawSubject, meta.RawIssuer) {
				t.Errorf("subject %v, issuer %v: want one RDN, the same in both", meta.Subject, meta.Issuer)
			}
			if !bytes.Contains(meta.RawSubject, []byte{0x13, 0x47, 'd', 'e', 'r', 'p'}) {
				t.Errorf("subject %x: want the CN as a PrintableString of 71 characters", meta.RawSubject)
			}
			if meta.Version != 3 || meta.SerialNumber.String() != "2" {
				t.Errorf("version %d, serial %v: want 3 and 2", meta.Version, meta.SerialNumber)
			}
			if meta.PublicKeyAlgorithm != x509.Ed25519 || meta.SignatureAlgorithm != x509.PureEd25519 {
				t.Errorf("key %v, signature %v: want Ed25519", meta.PublicKeyAlgorithm, meta.SignatureAlgorithm)
			}
			if err := meta.CheckSignature(meta.SignatureAlgorithm, meta.RawTBSCertificate, meta.Signature); err != nil {
				t.Errorf("it does not sign itself: %v", err)
			}
			now := time.Now()
			if now.Before(meta.NotBefore) || now.After(meta.NotAfter) || meta.NotAfter.Sub(meta.NotBefore) < 59*24*time.Hour {
				t.Errorf("valid from %v to %v: want 30 days back and 30 ahead", meta.NotBefore, meta.NotAfter)
			}
			if len(meta.Extensions) != 1 {
				t.Fatalf("%d extensions, want basic constraints alone", len(meta.Extensions))
			}
			x := meta.Extensions[0]
			if !x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 19}) || !x.Critical || !bytes.Equal(x.Value, []byte{0x30, 0x00}) {
				t.Errorf("extension %v critical=%v %x: want critical basic constraints, empty", x.Id, x.Critical, x.Value)
			}
		})
	}
}

// The self-signed certificate of a relay without a domain is what a pin needs: the leaf alone beside
// the meta certificate, for the address, valid now.
func TestSelfSignedCertificateSuitsAPin(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	leaf := r.Leaf
	if err := leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Errorf("%v", err)
	}
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		t.Errorf("valid from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
	if leaf.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("key %v, want ECDSA", leaf.PublicKeyAlgorithm)
	}
	if !relay.Poll(30*time.Second, func() bool { return strings.Contains(r.Log(), r.Pin) }) {
		t.Errorf("the log does not name the pin %s", r.Pin)
	}
	pin := r.Pin
	r.Restart()
	if r.Pin != pin {
		t.Errorf("the pin changed with a restart: %s, then %s", pin, r.Pin)
	}
}

func privateKeys(n int) []key.NodePrivate {
	ks := make([]key.NodePrivate, n)
	for i := range ks {
		ks[i] = key.NewNode()
	}
	return ks
}
