// Package derpclient_test meets a relay with the code that official clients run: tailscale's own
// derphttp client, netcheck, STUN client and prober.
package derpclient_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"detour.example/interop/relay"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netmon"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// ca is trusted by this process as a system root.
var ca *relay.CA

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ca = relay.NewCA()
	dir, err := os.MkdirTemp("", "interop-ca")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, []byte(ca.PEM), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", roots)
	os.Setenv("SSL_CERT_DIR", dir)
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			os.Unsetenv(name)
		}
	}
	return m.Run()
}

const timeout = 10 * time.Second

// client is an official client whose messages are collected.
type client struct {
	*derphttp.Client
	t    testing.TB
	pub  key.NodePublic
	msgs chan derp.ReceivedMessage
	errs chan error
}

type option func(*derphttp.Client)

func withTLS(c *tls.Config) option { return func(d *derphttp.Client) { d.TLSConfig = c } }

func newClient(t testing.TB, region *tailcfg.DERPRegion, priv key.NodePrivate, opts ...option) *client {
	d := derphttp.NewRegionClient(priv, func(string, ...any) {}, netmon.NewStatic(), func() *tailcfg.DERPRegion { return region })
	return wrap(t, d, priv, opts...)
}

func newURLClient(t testing.TB, url string, priv key.NodePrivate, opts ...option) *client {
	t.Helper()
	d, err := derphttp.NewClient(priv, url, func(string, ...any) {}, netmon.NewStatic())
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, d, priv, opts...)
}

func wrap(t testing.TB, d *derphttp.Client, priv key.NodePrivate, opts ...option) *client {
	for _, o := range opts {
		o(d)
	}
	c := &client{Client: d, t: t, pub: priv.Public(), msgs: make(chan derp.ReceivedMessage, 4096), errs: make(chan error, 1)}
	t.Cleanup(func() { d.Close() })
	return c
}

func (c *client) connectError() error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		return err
	}
	first, err := c.Recv()
	if err != nil {
		return fmt.Errorf("waiting for ServerInfo: %w", err)
	}
	if _, ok := first.(derp.ServerInfoMessage); !ok {
		return fmt.Errorf("first message is %T, want ServerInfo", first)
	}
	return nil
}

// connect logs in, checks that ServerInfo comes first, and starts to collect what comes.
func (c *client) connect() *client {
	c.t.Helper()
	if err := c.connectError(); err != nil {
		c.t.Fatal(err)
	}
	go c.collect()
	return c
}

func (c *client) collect() {
	for {
		m, err := c.Recv()
		if err != nil {
			c.errs <- err
			close(c.msgs)
			return
		}
		switch m := m.(type) {
		case derp.ReceivedPacket:
			// Data is only valid until the next Recv.
			c.msgs <- derp.ReceivedPacket{Source: m.Source, Data: bytes.Clone(m.Data)}
		case derp.KeepAliveMessage:
		default:
			c.msgs <- m
		}
	}
}

func (c *client) next() derp.ReceivedMessage {
	c.t.Helper()
	select {
	case m, ok := <-c.msgs:
		if !ok {
			c.t.Fatalf("the connection ended: %v", <-c.errs)
		}
		return m
	case <-time.After(timeout):
		c.t.Fatal("no message within 10 s")
	}
	return nil
}

func (c *client) want(src key.NodePublic, data []byte) {
	c.t.Helper()
	m := c.next()
	p, ok := m.(derp.ReceivedPacket)
	if !ok {
		c.t.Fatalf("got %T %+v, want a packet of %d bytes", m, m, len(data))
	}
	if p.Source != src {
		c.t.Fatalf("packet from %v, want %v", p.Source, src)
	}
	if !bytes.Equal(p.Data, data) {
		c.t.Fatalf("packet of %d bytes differs from the one sent, of %d bytes", len(p.Data), len(data))
	}
}

func (c *client) send(to key.NodePublic, data []byte) {
	c.t.Helper()
	if err := c.Send(to, data); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// pair is two clients of a relay that have logged in.
func pair(t testing.TB, r *relay.Relay, opts ...option) (a, b *client) {
	t.Helper()
	return newClient(t, r.Region(900), key.NewNode(), opts...).connect(), newClient(t, r.Region(900), key.NewNode(), opts...).connect()
}

// randomBytes is a packet that is surely not disco.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	if n > 0 {
		b[0] = 4
	}
	return b
}

func TestClientsComeInByEveryWay(t *testing.T) {
	t.Parallel()
	const name = "relay.interop.test"
	selfSigned := relay.Start(t, relay.Options{NoSTUN: true})
	chain, k := ca.For(name, "other.interop.test")
	named := relay.Start(t, relay.Options{NoSTUN: true, Host: name, CertFile: chain, KeyFile: k, Roots: ca.PEM})
	chain, k = ca.For("127.0.0.1", "fronted.interop.test")
	addressed := relay.Start(t, relay.Options{NoSTUN: true, CertFile: chain, KeyFile: k, Roots: ca.PEM})
	chain, k = ca.For("localhost")
	local := relay.Start(t, relay.Options{NoSTUN: true, Host: "localhost", CertFile: chain, KeyFile: k, Roots: ca.PEM})
	v6 := relay.Start(t, relay.Options{NoSTUN: true, Host: "::1", ListenIP: "::1"})
	otherCA := relay.NewCA()
	chain, k = otherCA.Intermediate().For(name)
	private := relay.Start(t, relay.Options{NoSTUN: true, Host: name, CertFile: chain, KeyFile: k})

	node := func(r *relay.Relay, change func(n *tailcfg.DERPNode)) *tailcfg.DERPRegion {
		reg := r.Region(900)
		reg.Nodes[0].CertName, reg.Nodes[0].InsecureForTests = "", false
		change(reg.Nodes[0])
		return reg
	}
	wrongPin := "sha256-raw:" + strings.Repeat("0", 64)
	cases := []struct {
		name   string
		relay  *relay.Relay
		region *tailcfg.DERPRegion
		url    string
		roots  *x509.CertPool
		ok     bool
	}{
		{"pinned, by address, no SNI", selfSigned, node(selfSigned, func(n *tailcfg.DERPNode) { n.CertName = selfSigned.Pin }), "", nil, true},
		{"pinned, IPv6", v6, node(v6, func(n *tailcfg.DERPNode) { n.CertName = v6.Pin }), "", nil, true},
		{"wrong pin", selfSigned, node(selfSigned, func(n *tailcfg.DERPNode) { n.CertName = wrongPin }), "", nil, false},
		{"self-signed, nothing known", selfSigned, node(selfSigned, func(n *tailcfg.DERPNode) {}), "", nil, false},
		{"self-signed, no verification", selfSigned, node(selfSigned, func(n *tailcfg.DERPNode) { n.InsecureForTests = true }), "", nil, true},
		{"by name with SNI", named, node(named, func(n *tailcfg.DERPNode) {}), "", nil, true},
		{"by name with SNI, pinned", named, node(named, func(n *tailcfg.DERPNode) { n.CertName = named.Pin }), "", nil, true},
		{"by name, certificate of another name it has", named, node(named, func(n *tailcfg.DERPNode) { n.CertName = "other.interop.test" }), "", nil, true},
		{"by name, certificate of a name it has not", named, node(named, func(n *tailcfg.DERPNode) { n.CertName = "alien.interop.test" }), "", nil, false},
		{"under a wrong name", named, node(named, func(n *tailcfg.DERPNode) { n.HostName = "other.interop.test" }), "", nil, false},
		{"by address, certificate of a CA", addressed, node(addressed, func(n *tailcfg.DERPNode) {}), "", nil, true},
		{"by address, CertName is a name", addressed, node(addressed, func(n *tailcfg.DERPNode) { n.CertName = "fronted.interop.test" }), "", nil, true},
		{"any SNI to a relay that is an address", addressed, node(addressed, func(n *tailcfg.DERPNode) { n.HostName = "fronted.interop.test" }), "", nil, true},
		{"full chain with an intermediate", private, node(private, func(n *tailcfg.DERPNode) {}), "", otherCA.Pool(), true},
		{"unknown CA", private, node(private, func(n *tailcfg.DERPNode) {}), "", nil, false},
		{"URL with localhost", local, nil, fmt.Sprintf("https://localhost:%d/derp", local.Port), nil, true},
		{"URL with an address", addressed, nil, fmt.Sprintf("https://127.0.0.1:%d/derp", addressed.Port), nil, true},
		{"URL to a self-signed relay", selfSigned, nil, fmt.Sprintf("https://127.0.0.1:%d/derp", selfSigned.Port), nil, false},
	}
	for _, c := range cases {
		for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(c.name+"/"+tls.VersionName(max), func(t *testing.T) {
				t.Parallel()
				conf := &tls.Config{MaxVersion: max, RootCAs: c.roots}
				var cl *client
				if c.url != "" {
					cl = newURLClient(t, c.url, key.NewNode(), withTLS(conf))
				} else {
					cl = newClient(t, c.region, key.NewNode(), withTLS(conf))
				}
				if !c.ok {
					if err := cl.connectError(); err == nil {
						t.Fatal("the client came in; it must not")
					}
					return
				}
				cl.connect()
				if got := cl.ServerPublicKey(); got != c.relay.PublicKey {
					t.Errorf("server key %v, want %v", got, c.relay.PublicKey)
				}
				state, ok := cl.TLSConnectionState()
				if !ok || state.Version != max {
					t.Errorf("TLS version %s, want %s", tls.VersionName(state.Version), tls.VersionName(max))
				}
				if state.DidResume {
					t.Error("the session was resumed")
				}
				p := randomBytes(1400)
				cl.send(cl.pub, p)
				cl.want(cl.pub, p)
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				if err := cl.Ping(ctx); err != nil {
					t.Errorf("ping: %v", err)
				}
			})
		}
	}
}

// gate is a TCP proxy that can hold back what the relay says from the moment on at which the client
// has sent its first encrypted record (in TLS 1.3 that is its Finished, in 1.2 its first request).
type gate struct {
	port int
	open chan struct{}
}

func newGate(t *testing.T, target string) *gate {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{port: l.Addr().(*net.TCPAddr).Port, open: make(chan struct{})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				return
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			encrypted := make(chan struct{})
			wg.Add(2)
			go func() {
				defer wg.Done()
				defer server.Close()
				var once sync.Once
				for {
					head := make([]byte, 5)
					if _, err := io.ReadFull(client, head); err != nil {
						return
					}
					body := make([]byte, int(head[3])<<8|int(head[4]))
					if _, err := io.ReadFull(client, body); err != nil {
						return
					}
					if head[0] == 23 {
						once.Do(func() { close(encrypted) })
					}
					if _, err := server.Write(append(head, body...)); err != nil {
						return
					}
				}
			}()
			go func() {
				defer wg.Done()
				defer client.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := server.Read(buf)
					select {
					case <-encrypted:
						<-g.open
					default:
					}
					if _, werr := client.Write(buf[:n]); werr != nil || err != nil {
						return
					}
				}
			}()
		}
	}()
	return g
}

// With TLS 1.3 the client finds the server key in the meta certificate and is through before the relay
// has said a word (fast start). With TLS 1.2 it waits for the answer.
func TestFastStartHappensWithTLS13AndNotWithTLS12(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			g := newGate(t, r.Addr)
			opened := sync.OnceFunc(func() { close(g.open) })
			defer opened()
			reg := r.Region(900)
			reg.Nodes[0].DERPPort = g.port
			c := newClient(t, reg, key.NewNode(), withTLS(&tls.Config{MaxVersion: version}))
			done := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				done <- c.Connect(ctx)
			}()
			if version == tls.VersionTLS13 {
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(5 * time.Second):
					t.Fatal("the client still waits for the relay: no fast start")
				}
				if got := c.ServerPublicKey(); got != r.PublicKey {
					t.Errorf("server key from the meta certificate: %v, want %v", got, r.PublicKey)
				}
				opened()
			} else {
				select {
				case err := <-done:
					t.Fatalf("connected without a word of the relay (error %v)", err)
				case <-time.After(200 * time.Millisecond):
				}
				opened()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			first, err := c.Recv()
			if _, ok := first.(derp.ServerInfoMessage); !ok {
				t.Fatalf("first message is %T (error %v), want ServerInfo", first, err)
			}
		})
	}
}

func TestServerKeyIsTheSameForEveryConnection(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for range 5 {
		for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := newClient(t, r.Region(900), key.NewNode(), withTLS(&tls.Config{MaxVersion: max})).connect()
			if got := c.ServerPublicKey(); got != r.PublicKey {
				t.Fatalf("server key %v, want %v", got, r.PublicKey)
			}
			c.Close()
		}
	}
}

func TestEverySizeArrivesUnchanged(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	sizes := []int{0, 1, 2, 31, 32, 33, 61, 62, 63, 1400, 1500, 2011, 2012, 2048, 4059, 4096,
		16347, 16348, 16383, 16384, 16385, 32731, 32732, 32768, 65499, 65535, 65536}
	for range 60 {
		sizes = append(sizes, rand.IntN(65537))
	}
	// Every small size, every size around a TLS record that holds the frame, and a sweep over the rest.
	for n := range 300 {
		sizes = append(sizes, n)
	}
	for n := 16384 - 60; n < 16384+10; n++ {
		sizes = append(sizes, n)
	}
	for n := 300; n < 65536; n += 641 {
		sizes = append(sizes, n)
	}
	for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(max), func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, r, withTLS(&tls.Config{MaxVersion: max}))
			for _, n := range sizes {
				p := randomBytes(n)
				a.send(b.pub, p)
				b.want(a.pub, p)
			}
			// The same back, several on the way at once.
			const ahead = 8
			sent := [][]byte{}
			for _, n := range sizes {
				p := randomBytes(n)
				b.send(a.pub, p)
				sent = append(sent, p)
				if len(sent) == ahead {
					a.want(b.pub, sent[0])
					sent = sent[1:]
				}
			}
			for _, p := range sent {
				a.want(b.pub, p)
			}
		})
	}
}

func TestDiscoPacketsArriveUnchanged(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := pair(t, r)
	for n := 56; n < 200; n++ {
		p := randomBytes(n)
		copy(p, "TS\xf0\x9f\x92\xac")
		a.send(b.pub, p)
		b.want(a.pub, p)
	}
}

// 100 MB in packets of 64 KiB with 30 of them on the way, as the bandwidth prober does it: all arrive,
// in order.
func Test100MBInOrderWithoutLoss(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	// Several times, each with new connections: which of a relay's threads serves them is chance.
	for range 4 {
		transfer100MB(t, r)
	}
}

func transfer100MB(t *testing.T, r *relay.Relay) {
	t.Helper()
	a, b := pair(t, r)
	defer a.Close()
	defer b.Close()
	const (
		size     = 65536
		inFlight = 30
		count    = 100_000_000/size + 1
	)
	base := randomBytes(size)
	tokens := make(chan struct{}, inFlight)
	sendErr := make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		p := bytes.Clone(base)
		for i := range count {
			select {
			case tokens <- struct{}{}:
			case <-stop:
				return
			}
			copy(p[1:], fmt.Sprintf("%08d", i))
			if err := a.Send(b.pub, p); err != nil {
				sendErr <- fmt.Errorf("packet %d: %w", i, err)
				return
			}
		}
		sendErr <- nil
	}()
	for i := range count {
		m := b.next()
		p, ok := m.(derp.ReceivedPacket)
		if !ok {
			t.Fatalf("got %T, want packet %d", m, i)
		}
		if p.Source != a.pub || len(p.Data) != size || !bytes.Equal(p.Data[9:], base[9:]) {
			t.Fatalf("packet %d came changed", i)
		}
		if got, want := string(p.Data[1:9]), fmt.Sprintf("%08d", i); got != want {
			t.Fatalf("packet %s came, want %s: lost or out of order; %s", got, want, drops(t, r))
		}
		<-tokens
	}
	if err := <-sendErr; err != nil {
		t.Fatal(err)
	}
}

// drops says what the relay has dropped so far.
func drops(t testing.TB, r *relay.Relay) string {
	var all []string
	for name, v := range r.Varz(t) {
		if strings.HasPrefix(name, "derp_packets_dropped{") && v > 0 {
			all = append(all, fmt.Sprint(name, " ", v))
		}
	}
	return fmt.Sprintf("the relay's drops: %v", all)
}

// Many pairs at once spread over all the worker threads of a relay, in all combinations.
func TestManyPairsAtOnce(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	const pairs, packets, inFlight = 40, 300, 16
	var wg sync.WaitGroup
	for i := range pairs {
		a, b := pair(t, r)
		for _, dir := range [][2]*client{{a, b}, {b, a}} {
			wg.Add(1)
			go func() {
				defer wg.Done()
				from, to := dir[0], dir[1]
				var sent [][]byte
				check := func() bool {
					want := sent[0]
					sent = sent[1:]
					select {
					case m := <-to.msgs:
						p, ok := m.(derp.ReceivedPacket)
						if !ok || p.Source != from.pub || !bytes.Equal(p.Data, want) {
							later := -1
							for j, s := range sent {
								if ok && bytes.Equal(p.Data, s) {
									later = j + 1
								}
							}
							t.Errorf("pair %d: got %T, want the packet of %d bytes in its turn; it is one sent %d later (-1: none); %s", i, m, len(want), later, drops(t, r))
							return false
						}
					case <-time.After(timeout):
						t.Errorf("pair %d: no packet within 10 s, %d are on the way; %s", i, len(sent)+1, drops(t, r))
						return false
					}
					return true
				}
				rng := rand.New(rand.NewPCG(uint64(i), 7))
				for range packets {
					p := randomBytes(rng.IntN(3000))
					if err := from.Send(to.pub, p); err != nil {
						t.Errorf("pair %d: %v", i, err)
						return
					}
					sent = append(sent, p)
					if len(sent) == inFlight && !check() {
						return
					}
				}
				for len(sent) > 0 {
					if !check() {
						return
					}
				}
			}()
		}
	}
	wg.Wait()
	if got := r.Var(t, "derp.gauge_current_connections"); got != 2*pairs {
		t.Errorf("current_connections is %v, want %d", got, 2*pairs)
	}
}

func TestPeerGoneNotHere(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := pair(t, r)
	disco := append([]byte("TS\xf0\x9f\x92\xac"), make([]byte, 100)...)
	want := map[key.NodePublic]bool{}
	for i := range 6 {
		k := key.NewNode().Public()
		if i < 3 {
			want[k] = true
		}
		a.send(k, disco)
	}
	for range 3 {
		m := a.next()
		g, ok := m.(derp.PeerGoneMessage)
		if !ok || g.Reason != derp.PeerGoneReasonNotHere || !want[g.Peer] {
			t.Fatalf("got %T %+v, want PeerGone (not here) for one of the first three", m, m)
		}
		delete(want, g.Peer)
	}
	// What is not disco is dropped without a word: the next thing is b's packet.
	a.send(key.NewNode().Public(), []byte("hello"))
	b.send(a.pub, []byte("next"))
	a.want(b.pub, []byte("next"))
}

func TestPeerGoneDisconnected(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := pair(t, r)
	a.send(b.pub, []byte("hello"))
	b.want(a.pub, []byte("hello"))
	a.Close()
	m := b.next()
	if g, ok := m.(derp.PeerGoneMessage); !ok || g.Reason != derp.PeerGoneReasonDisconnected || g.Peer != a.pub {
		t.Fatalf("got %T %+v, want PeerGone (disconnected) for %v", m, m, a.pub)
	}
}

func TestDuplicateClients(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	peer := newClient(t, r.Region(900), key.NewNode()).connect()
	priv := key.NewNode()
	old := newClient(t, r.Region(900), priv).connect()
	old.send(peer.pub, []byte("so that the peer hears of the end"))
	peer.want(old.pub, []byte("so that the peer hears of the end"))
	young := newClient(t, r.Region(900), priv).connect()
	ping := func(c *client) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := c.Ping(ctx); err != nil {
			t.Fatalf("ping: %v", err)
		}
	}
	peer.send(old.pub, []byte("to the new one"))
	young.want(peer.pub, []byte("to the new one"))
	ping(old)
	peer.send(old.pub, []byte("to the old one, which spoke last"))
	old.want(peer.pub, []byte("to the old one, which spoke last"))
	ping(young)
	peer.send(old.pub, []byte("to the new one again"))
	young.want(peer.pub, []byte("to the new one again"))
	// The end of one of the two is no end for the peer: the first thing it hears is a packet.
	old.Close()
	if got := r.WantVar(t, "derp.gauge_current_connections", 2); got != 2 {
		t.Fatalf("current_connections is %v, want 2", got)
	}
	young.send(peer.pub, []byte("still here"))
	peer.want(young.pub, []byte("still here"))
	young.Close()
	m := peer.next()
	if g, ok := m.(derp.PeerGoneMessage); !ok || g.Reason != derp.PeerGoneReasonDisconnected || g.Peer != young.pub {
		t.Fatalf("got %T %+v, want PeerGone (disconnected)", m, m)
	}
}

func TestNotePreferredCountsHomes(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := newClient(t, r.Region(900), key.NewNode()), newClient(t, r.Region(900), key.NewNode())
	a.NotePreferred(true) // before the login: sent right behind ClientInfo
	a.connect()
	b.connect()
	const name = "derp.gauge_current_home_connections"
	for _, step := range []struct {
		do   func()
		want float64
	}{
		{func() {}, 1},
		{func() { b.NotePreferred(true) }, 2},
		{func() { b.NotePreferred(true) }, 2},
		{func() { a.NotePreferred(false) }, 1},
		{func() { b.Close() }, 0},
	} {
		step.do()
		if got := r.WantVar(t, name, step.want); got != step.want {
			t.Errorf("%s is %v, want %v", name, got, step.want)
		}
	}
}

// A client that did not end up on the first node of a region says so.
func TestIdealNodeIsCounted(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	reg := r.Region(900)
	dead := *reg.Nodes[0]
	dead.Name, dead.DERPPort = "900dead", relay.FreePort(t, "127.0.0.1")
	reg.Nodes = append([]*tailcfg.DERPNode{&dead}, reg.Nodes...)
	c := newClient(t, reg, key.NewNode()).connect()
	const name = "derp.gauge_current_notideal_connections"
	if got := r.WantVar(t, name, 1); got != 1 {
		t.Errorf("%s is %v, want 1", name, got)
	}
	c.Close()
	if got := r.WantVar(t, name, 0); got != 0 {
		t.Errorf("%s is %v after the end, want 0", name, got)
	}
}

// The client's connection object comes back by itself after the relay was away.
func TestClientsComeBackAfterARestart(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"SIGTERM", "SIGKILL"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := relay.Start(t, relay.Options{NoSTUN: true})
			priv := key.NewNode()
			a := newClient(t, r.Region(900), priv)
			if err := a.connectError(); err != nil {
				t.Fatal(err)
			}
			if how == "SIGKILL" {
				r.Kill()
			}
			r.Restart()
			if _, err := a.Recv(); err == nil {
				t.Fatal("the connection outlived the relay")
			}
			if err := a.connectError(); err != nil {
				t.Fatalf("after the restart: %v", err)
			}
			p := randomBytes(1000)
			a.send(a.pub, p)
			m, err := a.Recv()
			if got, ok := m.(derp.ReceivedPacket); err != nil || !ok || !bytes.Equal(got.Data, p) {
				t.Fatalf("after the restart: %T, %v", m, err)
			}
		})
	}
}
