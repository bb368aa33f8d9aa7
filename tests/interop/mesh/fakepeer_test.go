package mesh_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/derp"
	"tailscale.com/types/key"
)

// fakePeer is the other end of a mesh link, played by hand.
type fakePeer struct {
	t        *testing.T
	listener *net.TCPListener
	tls      *tls.Config
	priv     key.NodePrivate
}

// fakeLink is one connection that the relay under test made to a fakePeer.
type fakeLink struct {
	*fakePeer
	net.Conn
	r    *bufio.Reader
	head *http.Request
	key  key.NodePublic // the relay's
	info map[string]any
}

// metaCertificate is what a relay shows behind its chain, for links to use fast start.
func metaCertificate(t *testing.T, pub key.NodePublic) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		Subject:               pkix.Name{CommonName: "derpkey" + pub.UntypedHexString()},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// startWithFakePeer starts a relay that meshes with a fake peer alone.
func startWithFakePeer(t *testing.T, showMeta bool) (*relay.Relay, *fakePeer, string) {
	t.Helper()
	g := &region{t: t, ca: relay.NewCA()}
	chain, priv := g.ca.For("fake.mesh.test")
	pair, err := tls.X509KeyPair([]byte(chain), []byte(priv))
	if err != nil {
		t.Fatal(err)
	}
	self := key.NewNode()
	if showMeta {
		pair.Certificate = append(pair.Certificate, metaCertificate(t, self.Public()))
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &fakePeer{t: t, listener: l, tls: &tls.Config{Certificates: []tls.Certificate{pair}}, priv: self}
	meshKey := newMeshKey()
	r := g.start(tested, "node0.mesh.test", relay.FreePort(t, "127.0.0.1"), writeKey(t, meshKey),
		fmt.Sprintf("fake.mesh.test:%d/127.0.0.1", l.Addr().(*net.TCPAddr).Port))
	return r, p, meshKey
}

// accept takes the relay's next connection through its login.
func (p *fakePeer) accept() *fakeLink {
	p.t.Helper()
	p.listener.SetDeadline(time.Now().Add(meshTimeout))
	tcp, err := p.listener.Accept()
	if err != nil {
		p.t.Fatalf("the relay does not connect: %v", err)
	}
	nc := tls.Server(tcp, p.tls)
	p.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(timeout))
	l := &fakeLink{fakePeer: p, Conn: nc, r: bufio.NewReaderSize(nc, 128<<10)}
	if l.head, err = http.ReadRequest(l.r); err != nil {
		p.t.Fatalf("reading the upgrade: %v", err)
	}
	if l.head.Header.Get("Derp-Fast-Start") != "1" {
		l.put([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"))
	}
	l.put(wire.Encode(wire.ServerKey, wire.Magic, wire.Raw(p.priv.Public())))
	hello := l.frame()
	if hello.Type != wire.ClientInfo {
		p.t.Fatalf("first frame: %v, want ClientInfo", hello)
	}
	l.key = key.NodePublicFromRaw32(memB(hello.Payload[:32]))
	text, ok := wire.Open(p.priv, l.key, hello.Payload[32:])
	if !ok {
		p.t.Fatal("ClientInfo's box does not open")
	}
	if err := json.Unmarshal(text, &l.info); err != nil {
		p.t.Fatal(err)
	}
	var nonce [24]byte
	rand.Read(nonce[:])
	l.put(wire.Encode(wire.ServerInfo, wire.Seal(p.priv, l.key, &nonce, []byte(`{"version":2}`))))
	return l
}

func (l *fakeLink) put(b ...[]byte) {
	l.t.Helper()
	l.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := l.Write(bytes.Join(b, nil)); err != nil {
		l.t.Fatalf("writing to the relay: %v", err)
	}
}

func (l *fakeLink) frame() wire.Frame {
	l.t.Helper()
	l.SetReadDeadline(time.Now().Add(timeout))
	var h [5]byte
	if _, err := io.ReadFull(l.r, h[:]); err != nil {
		l.t.Fatalf("reading a frame from the relay: %v", err)
	}
	f := wire.Frame{Type: h[0], Payload: make([]byte, binary.BigEndian.Uint32(h[1:]))}
	if _, err := io.ReadFull(l.r, f.Payload); err != nil {
		l.t.Fatalf("reading a frame from the relay: %v", err)
	}
	return f
}

func (l *fakeLink) wantForward(from, to key.NodePublic, data []byte) {
	l.t.Helper()
	want := wire.Frame{Type: wire.ForwardPacket, Payload: bytes.Join([][]byte{wire.Raw(from), wire.Raw(to), data}, nil)}
	if f := l.frame(); f.Type != want.Type || !bytes.Equal(f.Payload, want.Payload) {
		l.t.Fatalf("got %v, want %v", f, want)
	}
}

// TestALinkByteByByte plays the other relay: login, WatchConns, forwarded packets, and everything
// that relays of all ages say about their clients.
func TestALinkByteByByte(t *testing.T) {
	t.Parallel()
	for name, showMeta := range map[string]bool{"plain upgrade": false, "fast start": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			playLink(t, showMeta)
		})
	}
}

func playLink(t *testing.T, showMeta bool) {
	r, p, meshKey := startWithFakePeer(t, showMeta)
	l := p.accept()
	if fast := l.head.Header.Get("Derp-Fast-Start") == "1"; fast != showMeta {
		t.Errorf("the link uses fast start: %v, want %v", fast, showMeta)
	}
	if host := fmt.Sprintf("fake.mesh.test:%d", p.listener.Addr().(*net.TCPAddr).Port); l.head.Host != host {
		t.Errorf("Host is %q, want %q", l.head.Host, host)
	}
	if l.head.URL.Path != "/derp" || !strings.EqualFold(l.head.Header.Get("Upgrade"), "DERP") {
		t.Errorf("the request is for %v with Upgrade %q", l.head.URL, l.head.Header.Get("Upgrade"))
	}
	if l.key != r.PublicKey {
		t.Errorf("the relay logs in as %v, want its own key %v", l.key, r.PublicKey)
	}
	if l.info["meshKey"] != meshKey || l.info["version"] != 2.0 || l.info["CanAckPings"] != false {
		t.Errorf("ClientInfo says %v", l.info)
	}
	if f := l.frame(); f.Type != wire.WatchConns || len(f.Payload) != 0 {
		t.Fatalf("got %v, want WatchConns", f)
	}

	a := dial(t, r, key.NewNode())
	var clients []key.NodePublic
	ip := append(append(make([]byte, 10), 0xff, 0xff), 192, 0, 2, 1)
	for i, tail := range [][]byte{
		{},
		append(bytes.Clone(ip), 0x12, 0x34),
		append(bytes.Clone(ip), 0x12, 0x34, 1),
		append(bytes.Clone(ip), 0x12, 0x34, 1, 0),
		append(bytes.Clone(ip), 0x12, 0x34, 1, 4, 't', 'e', 's', 't'),
		append(bytes.Clone(ip), 0x12, 0x34, 1, 4, 't', 'e', 's', 't', 9, 9, 9),
	} {
		c := key.NewNode().Public()
		clients = append(clients, c)
		l.put(wire.Encode(wire.KeepAlive), wire.Encode(wire.PeerPresent, wire.Raw(c), tail), wire.Encode(0xee, []byte("what is this")))
		if !relay.Poll(timeout, func() bool { return r.Var(t, "derp.gauge_clients_remote") == float64(i+1) }) {
			t.Fatalf("PeerPresent with %d bytes behind the key is not understood", len(tail))
		}
		for n, size := range []int{0, 1400, 64 << 10} {
			if err := a.Send(c, payload(size, n)); err != nil {
				t.Fatal(err)
			}
			l.wantForward(a.pub, c, payload(size, n))
		}
	}

	// Packets to the relay are for nobody: a link only listens.
	l.put(wire.Encode(wire.RecvPacket, wire.Raw(clients[0]), payload(100, 1)))
	// Each reason means that the key is not there, also without one, as old relays say it.
	for i, reason := range [][]byte{{0}, {1}, {}, {0xf0}} {
		l.put(wire.Encode(wire.PeerGone, wire.Raw(clients[i]), reason))
		if !relay.Poll(timeout, func() bool { return r.Var(t, "derp.gauge_clients_remote") == float64(len(clients)-1-i) }) {
			t.Fatalf("PeerGone with reason %x is not understood", reason)
		}
		if err := a.Send(clients[i], wire.Disco(80)); err != nil {
			t.Fatal(err)
		}
		if i < 3 { // Three at once are answered.
			a.wantGone(clients[i], derp.PeerGoneReasonNotHere)
		}
	}

	// The link ends: so do the ways over it, and a new one comes.
	l.Close()
	l = p.accept()
	if f := l.frame(); f.Type != wire.WatchConns {
		t.Fatalf("got %v, want WatchConns", f)
	}
	if got := r.WantVar(t, "derp.gauge_clients_remote", 0); got != 0 {
		t.Errorf("%v remote clients without a link, want none", got)
	}
	l.put(wire.Encode(wire.PeerPresent, wire.Raw(clients[0])))
	if got := r.WantVar(t, "derp.gauge_clients_remote", 1); got != 1 {
		t.Fatalf("%v remote clients, want 1", got)
	}
	if err := a.Send(clients[0], payload(10, 1)); err != nil {
		t.Fatal(err)
	}
	l.wantForward(a.pub, clients[0], payload(10, 1))
}

// TestAMeshPeerThatTakesNothing stops to read: its link is given up after 5 s and made anew, and the
// clients of this relay go on.
func TestAMeshPeerThatTakesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("left out with -short: takes more than 5 s")
	}
	r, p, _ := startWithFakePeer(t, false)
	l := p.accept()
	if f := l.frame(); f.Type != wire.WatchConns {
		t.Fatalf("got %v, want WatchConns", f)
	}
	far := key.NewNode().Public()
	l.put(wire.Encode(wire.PeerPresent, wire.Raw(far)))
	if got := r.WantVar(t, "derp.gauge_clients_remote", 1); got != 1 {
		t.Fatalf("%v remote clients, want 1", got)
	}
	sender := dial(t, r, key.NewNode())
	a, b := dial(t, r, key.NewNode()), dial(t, r, key.NewNode())
	start := time.Now()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 400 { // 25 MB
			if sender.Send(far, payload(64<<10, 1)) != nil {
				return
			}
		}
	}()
	exchange(t, []*client{a, b})
	again := p.accept()
	if took := time.Since(start); took < 4*time.Second {
		t.Errorf("the link was given up after %v, want 5 s", took)
	}
	if f := again.frame(); f.Type != wire.WatchConns {
		t.Fatalf("got %v, want WatchConns", f)
	}
	exchange(t, []*client{a, b})
	if relay.DetourOnly(t, "a full mesh link does not hold the sender up") {
		select {
		case <-sent:
		case <-time.After(timeout):
			t.Error("the sender still waits")
		}
		varz := r.Varz(t)
		if varz[`derp_packets_dropped{reason="queue_head",kind="other"}`]+varz[`derp_packets_dropped{reason="gone_disconnected",kind="other"}`] == 0 {
			t.Error("no packet was counted as dropped")
		}
	}
}
