// Package mesh_test proves the mesh: what a connection with the mesh key may do, and regions of several
// relays that forward for each other, also of both kinds.
package mesh_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netmon"
	"tailscale.com/types/key"
)

const (
	// meshTimeout bounds how long a region may take to find together: the reference tries again every 5 s.
	meshTimeout = 25 * time.Second
	timeout     = 10 * time.Second
)

// newMeshKey gives 64 hex digits.
func newMeshKey() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// writeKey puts a mesh key into a file, as an editor would leave it.
func writeKey(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// region is several relays that mesh with each other, each with the whole list, itself included.
type region struct {
	t     testing.TB
	ca    *relay.CA
	nodes []*relay.Relay
}

// Kinds of nodes: the server under test, or one of the two whatever is under test.
const (
	tested = ""
	detour = "detour"
	derper = "derper"
)

func program(t testing.TB, kind string) string {
	switch kind {
	case detour:
		link := filepath.Join(t.TempDir(), "derper")
		if err := os.Symlink(relay.DetourBinary(t), link); err != nil {
			t.Fatal(err)
		}
		return link
	case derper:
		return relay.DerperBinary(t)
	default:
		return relay.Binary(t)
	}
}

// startRegion starts one node of each kind and waits until all know each other.
func startRegion(t testing.TB, kinds ...string) *region {
	t.Helper()
	g := &region{t: t, ca: relay.NewCA()}
	keyFile := writeKey(t, newMeshKey()+"\n")
	names, ports, entries := []string{}, []int{}, []string{}
	for i := range kinds {
		name := fmt.Sprintf("node%d.mesh.test", i)
		port := relay.FreePort(t, "127.0.0.1")
		names, ports = append(names, name), append(ports, port)
		entries = append(entries, fmt.Sprintf("%s:%d/127.0.0.1", name, port))
	}
	for i, kind := range kinds {
		g.nodes = append(g.nodes, g.start(kind, names[i], ports[i], keyFile, strings.Join(entries, ",")))
	}
	g.waitMeshed()
	return g
}

func (g *region) start(kind, name string, port int, keyFile, with string) *relay.Relay {
	cert, priv := g.ca.For(name)
	return relay.Start(g.t, relay.Options{
		Host: name, Port: port, HTTPPort: -1, NoSTUN: true,
		CertFile: cert, KeyFile: priv, Roots: g.ca.PEM, Binary: program(g.t, kind),
		Args: []string{"-mesh-psk-file", keyFile, "-mesh-with", with},
	})
}

// waitMeshed waits until every node is watched by all others.
func (g *region) waitMeshed() {
	g.t.Helper()
	want := float64(len(g.nodes) - 1)
	for i, n := range g.nodes {
		var got float64
		ok := relay.Poll(meshTimeout, func() bool { got = n.Var(g.t, "derp.gauge_watchers"); return got == want })
		if !ok {
			g.t.Fatalf("node %d has %v watchers, want %v; its log:\n%s", i, got, want, n.Log())
		}
	}
}

// waitTotal waits until every node knows so many keys, its own clients and those of the others,
// relays included.
func (g *region) waitTotal(want int) {
	g.t.Helper()
	for i, n := range g.nodes {
		var got float64
		if !relay.Poll(meshTimeout, func() bool { got = n.Var(g.t, "derp.gauge_clients_total"); return got == float64(want) }) {
			g.t.Fatalf("node %d knows %v clients, want %d", i, got, want)
		}
	}
}

// client is an official client whose messages are collected.
type client struct {
	*derphttp.Client
	t    testing.TB
	pub  key.NodePublic
	msgs chan derp.ReceivedMessage
	once sync.Once
}

func dial(t testing.TB, r *relay.Relay, priv key.NodePrivate) *client {
	t.Helper()
	region := r.Region(900)
	d := derphttp.NewRegionClient(priv, func(string, ...any) {}, netmon.NewStatic(), regionOf(region))
	c := &client{Client: d, t: t, pub: priv.Public(), msgs: make(chan derp.ReceivedMessage, 4096)}
	t.Cleanup(c.leave)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	if first, err := c.Recv(); err != nil {
		t.Fatal(err)
	} else if _, ok := first.(derp.ServerInfoMessage); !ok {
		t.Fatalf("first message is %T, want ServerInfo", first)
	}
	go func() {
		defer close(c.msgs)
		for {
			m, err := c.Recv()
			if err != nil {
				return
			}
			switch m := m.(type) {
			case derp.ReceivedPacket:
				c.msgs <- derp.ReceivedPacket{Source: m.Source, Data: bytes.Clone(m.Data)}
			case derp.KeepAliveMessage:
			default:
				c.msgs <- m
			}
		}
	}()
	return c
}

func (c *client) leave() { c.once.Do(func() { c.Close() }) }

func (c *client) next() derp.ReceivedMessage {
	c.t.Helper()
	select {
	case m, ok := <-c.msgs:
		if !ok {
			c.t.Fatal("the connection ended")
		}
		return m
	case <-time.After(timeout):
		c.t.Fatal("nothing came")
		return nil
	}
}

func (c *client) wantPacket(from key.NodePublic, data []byte) {
	c.t.Helper()
	m := c.next()
	p, ok := m.(derp.ReceivedPacket)
	if !ok || p.Source != from || !bytes.Equal(p.Data, data) {
		if ok {
			c.t.Fatalf("want %d bytes from %v, got %d bytes from %v", len(data), from, len(p.Data), p.Source)
		}
		c.t.Fatalf("want %d bytes from %v, got %#v", len(data), from, m)
	}
}

func (c *client) wantGone(peer key.NodePublic, reason derp.PeerGoneReasonType) {
	c.t.Helper()
	m := c.next()
	if g, ok := m.(derp.PeerGoneMessage); !ok || g.Peer != peer || g.Reason != reason {
		c.t.Fatalf("want PeerGone %v reason %v, got %#v", peer, reason, m)
	}
}

func (c *client) send(to *client, data []byte) {
	c.t.Helper()
	if err := c.Send(to.pub, data); err != nil {
		c.t.Fatal(err)
	}
}

func payload(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + seed)
	}
	if n > 0 {
		b[0] = 4
	}
	return b
}

// exchange sends packets of all sizes between each two clients, both ways.
func exchange(t testing.TB, clients []*client) {
	t.Helper()
	for i, a := range clients {
		for j, b := range clients {
			if i == j {
				continue
			}
			for n, size := range []int{0, 1, 148, 1400, 16 << 10, 64 << 10} {
				a.send(b, payload(size, n))
				b.wantPacket(a.pub, payload(size, n))
			}
			a.send(b, wire.Disco(120))
			b.wantPacket(a.pub, wire.Disco(120))
		}
	}
}

// bothKinds skips tests that need both programs anyway.
func bothKinds(t *testing.T) {
	if relay.IsDerper() {
		t.Skip("not for derper: takes both servers whatever is under test, so once, with Detour, is enough")
	}
}

func TestRegions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		kinds []string
		mixed bool
	}{
		{"three of the server under test", []string{tested, tested, tested}, false},
		{"Detour and derper", []string{detour, derper}, true},
		{"derper, Detour, derper", []string{derper, detour, derper}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.mixed {
				bothKinds(t)
			}
			g := startRegion(t, c.kinds...)
			var clients []*client
			for _, n := range g.nodes {
				clients = append(clients, dial(t, n, key.NewNode()))
			}
			// Each relay's own links count as clients of the others, so all keys of the region are known
			// everywhere: relays and clients.
			g.waitTotal(2 * len(g.nodes))
			exchange(t, clients)

			// Packets over links are counted where they leave and where they come in.
			perPair := 7.0
			want := perPair * float64(len(clients)-1)
			for i, n := range g.nodes {
				for _, name := range []string{"derp.packets_forwarded_out", "derp.packets_forwarded_in"} {
					if got := n.WantVar(t, name, want); got != want {
						t.Errorf("node %d: %s is %v, want %v", i, name, got, want)
					}
				}
				if got := n.WantVar(t, "derp.packets_sent", want); got != want {
					t.Errorf("node %d: packets_sent is %v, want %v: forwarding is not sending", i, got, want)
				}
			}

			// Who got packets from a client of another node hears when it leaves, and only then.
			first, rest := clients[0], clients[1:]
			first.leave()
			for _, c := range rest {
				c.wantGone(first.pub, derp.PeerGoneReasonDisconnected)
			}
			g.waitTotal(2*len(g.nodes) - 1)
			// Nobody has it any more: disco is answered.
			last := rest[len(rest)-1]
			last.send(first, wire.Disco(100))
			last.wantGone(first.pub, derp.PeerGoneReasonNotHere)
			exchange(t, rest)
		})
	}
}

// TestClientsMove moves a client from node to node without a gap: nobody is told that it left.
func TestClientsMove(t *testing.T) {
	t.Parallel()
	g := startRegion(t, tested, tested)
	priv := key.NewNode()
	b := dial(t, g.nodes[1], key.NewNode())
	a0 := dial(t, g.nodes[0], priv)
	g.waitTotal(4)
	a0.send(b, payload(100, 1))
	b.wantPacket(a0.pub, payload(100, 1))
	b.send(a0, payload(100, 2))
	a0.wantPacket(b.pub, payload(100, 2))

	a1 := dial(t, g.nodes[1], priv) // Now on both; the node of b prefers its own.
	b.send(a1, payload(100, 3))
	a1.wantPacket(b.pub, payload(100, 3))
	a0.leave()
	relay.Poll(timeout, func() bool { return g.nodes[0].Var(t, "derp.gauge_clients_local") == 1 })
	b.send(a1, payload(100, 4))
	a1.wantPacket(b.pub, payload(100, 4))
	a1.send(b, payload(100, 5))
	b.wantPacket(a1.pub, payload(100, 5)) // And no PeerGone before it.

	a0 = dial(t, g.nodes[0], priv)
	if !relay.Poll(timeout, func() bool { return g.nodes[0].Var(t, "derp.gauge_clients_local") == 2 }) {
		t.Fatal("it did not come back")
	}
	a1.leave()
	if !relay.Poll(timeout, func() bool {
		b.send(a0, payload(100, 6))
		select {
		case m := <-a0.msgs:
			_, ok := m.(derp.ReceivedPacket)
			return ok
		case <-time.After(100 * time.Millisecond):
			return false
		}
	}) {
		t.Fatal("packets do not follow it back")
	}
	a0.leave()
	for {
		if _, ok := b.next().(derp.PeerGoneMessage); ok {
			break // Now it is nowhere.
		}
	}
}

// TestSeveralNodesHaveAClient has one key on two nodes: the third one keeps to the first it knew, and
// the counters of the reference move as they do there.
func TestSeveralNodesHaveAClient(t *testing.T) {
	t.Parallel()
	g := startRegion(t, tested, tested, tested)
	third := g.nodes[2]
	b := dial(t, third, key.NewNode())
	g.waitTotal(4)
	priv := key.NewNode()
	a0 := dial(t, g.nodes[0], priv)
	g.waitTotal(5)
	// Relays are clients of each other, so their own keys are on two nodes as well.
	before := third.Vars(t)
	delta := func(name string) float64 {
		return third.Var(t, "derp."+name) - before["derp."+name].(float64)
	}
	a1 := dial(t, g.nodes[1], priv)
	if !relay.Poll(timeout, func() bool { return delta("multiforwarder_created") == 1 }) {
		t.Fatalf("multiforwarder_created moved by %v, want 1", delta("multiforwarder_created"))
	}
	b.send(a0, payload(50, 1))
	a0.wantPacket(b.pub, payload(50, 1))
	a0.leave()
	if !relay.Poll(timeout, func() bool { return delta("multiforwarder_deleted") == 1 }) {
		t.Fatalf("multiforwarder_deleted moved by %v, want 1", delta("multiforwarder_deleted"))
	}
	b.send(a1, payload(50, 2))
	a1.wantPacket(b.pub, payload(50, 2))
	a1.send(b, payload(50, 3))
	b.wantPacket(a1.pub, payload(50, 3))
	a1.leave()
	b.wantGone(a1.pub, derp.PeerGoneReasonDisconnected)
	if got := delta("packet_forwarder_delete_other_value"); got != 0 {
		t.Errorf("packet_forwarder_delete_other_value moved by %v, want 0", got)
	}
}

// TestRestartHeals ends a node the hard way and starts it again: its clients are gone for the others,
// and afterwards packets flow again in all directions.
func TestRestartHeals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		kinds []string
		mixed bool
	}{
		{"of the server under test", []string{tested, tested}, false},
		{"Detour beside derper", []string{detour, derper}, true},
		{"derper beside Detour", []string{derper, detour}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.mixed {
				bothKinds(t)
			}
			g := startRegion(t, c.kinds...)
			a := dial(t, g.nodes[0], key.NewNode())
			b := dial(t, g.nodes[1], key.NewNode())
			g.waitTotal(4)
			exchange(t, []*client{a, b})
			a.leave()
			g.nodes[0].Kill()
			b.wantGone(a.pub, derp.PeerGoneReasonDisconnected)
			if got := g.nodes[1].WantVar(t, "derp.gauge_clients_remote", 0); got != 0 {
				t.Errorf("the node that is left knows %v remote clients, want none", got)
			}
			g.nodes[0].Restart()
			g.waitMeshed()
			a = dial(t, g.nodes[0], key.NewNode())
			g.waitTotal(4)
			exchange(t, []*client{a, b})
		})
	}
}

// TestAnotherMeshKey puts a stranger into the list: no link comes about, and nothing else suffers.
func TestAnotherMeshKey(t *testing.T) {
	t.Parallel()
	g := &region{t: t, ca: relay.NewCA()}
	ports := []int{relay.FreePort(t, "127.0.0.1"), relay.FreePort(t, "127.0.0.1")}
	with := fmt.Sprintf("node0.mesh.test:%d/127.0.0.1,node1.mesh.test:%d/127.0.0.1", ports[0], ports[1])
	for i, port := range ports {
		g.nodes = append(g.nodes, g.start(tested, fmt.Sprintf("node%d.mesh.test", i), port, writeKey(t, newMeshKey()), with))
	}
	for _, n := range g.nodes {
		// The other side logs in, asks to watch, and is closed.
		if !relay.Poll(meshTimeout, func() bool { return n.Var(t, "derp.accepts") >= 2 }) {
			t.Fatal("the other node does not try")
		}
		if w := n.Var(t, "derp.gauge_watchers"); w != 0 {
			t.Errorf("%v watchers with another mesh key, want none", w)
		}
	}
	a, b := dial(t, g.nodes[0], key.NewNode()), dial(t, g.nodes[1], key.NewNode())
	a.send(b, wire.Disco(100))
	a.wantGone(b.pub, derp.PeerGoneReasonNotHere)
	a2 := dial(t, g.nodes[0], key.NewNode())
	exchange(t, []*client{a, a2})
	if relay.DetourOnly(t, "the log says why there is no mesh link") {
		if !relay.Poll(timeout, func() bool { return strings.Contains(g.nodes[0].Log(), "both relays need the same one") }) {
			t.Errorf("the log does not say that the mesh keys differ:\n%s", g.nodes[0].Log())
		}
	}
}

// TestUntrustedNode has a certificate from nobody this relay knows: links are verified.
func TestUntrustedNode(t *testing.T) {
	t.Parallel()
	keyFile := writeKey(t, newMeshKey())
	other := &region{t: t, ca: relay.NewCA()}
	port := relay.FreePort(t, "127.0.0.1")
	untrusted := other.start(tested, "node1.mesh.test", port, keyFile, fmt.Sprintf("node1.mesh.test:%d/127.0.0.1", port))
	mine := &region{t: t, ca: relay.NewCA()}
	n := mine.start(tested, "node0.mesh.test", relay.FreePort(t, "127.0.0.1"), keyFile,
		fmt.Sprintf("node1.mesh.test:%d/127.0.0.1,other.mesh.test:%d/127.0.0.1", port, port))
	if !relay.Poll(meshTimeout, func() bool {
		return strings.Contains(n.Log(), "node1.mesh.test") && strings.Contains(n.Log(), "certificate")
	}) {
		t.Errorf("the log does not say that the certificate is the reason:\n%s", n.Log())
	}
	if w := untrusted.Var(t, "derp.gauge_watchers"); w != 0 {
		t.Errorf("%v watchers, want none", w)
	}
}

// TestManyPacketsOverOneLink has clients of one node send to those of another all at once: nothing is
// lost, nothing changes order.
func TestManyPacketsOverOneLink(t *testing.T) {
	t.Parallel()
	g := startRegion(t, tested, tested)
	const pairs, packets = 8, 600
	var senders, receivers []*client
	for range pairs {
		senders = append(senders, dial(t, g.nodes[0], key.NewNode()))
		receivers = append(receivers, dial(t, g.nodes[1], key.NewNode()))
	}
	g.waitTotal(2 + 2*pairs)
	var wg sync.WaitGroup
	for i := range pairs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; n < packets; n += 20 {
				for k := range 20 {
					if err := senders[i].Send(receivers[i].pub, payload(1200, n+k)); err != nil {
						t.Errorf("pair %d: %v", i, err)
						return
					}
				}
				for k := range 20 {
					select {
					case m := <-receivers[i].msgs:
						p, ok := m.(derp.ReceivedPacket)
						if !ok || !bytes.Equal(p.Data, payload(1200, n+k)) {
							t.Errorf("pair %d: packet %d: got %T", i, n+k, m)
							return
						}
					case <-time.After(timeout):
						t.Errorf("pair %d: packet %d did not come", i, n+k)
						return
					}
				}
			}
		}()
	}
	wg.Wait()
	want := float64(pairs * packets)
	if got := g.nodes[0].WantVar(t, "derp.packets_forwarded_out", want); got != want {
		t.Errorf("packets_forwarded_out is %v, want %v", got, want)
	}
}
