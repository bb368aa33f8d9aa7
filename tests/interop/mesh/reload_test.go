package mesh_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"detour.example/interop/relay"
	"tailscale.com/derp"
	"tailscale.com/types/key"
)

// reloadable is a region whose nodes have their list in a file each, and one file with the key each.
type reloadable struct {
	*region
	names    []string
	configs  []string
	keyFiles []string
}

func startReloadable(t *testing.T, nodes int) *reloadable {
	t.Helper()
	g := &reloadable{region: &region{t: t, ca: relay.NewCA()}}
	meshKey := newMeshKey()
	for i := range nodes {
		host, port := fmt.Sprintf("node%d.mesh.test", i), relay.FreePort(t, "127.0.0.1")
		g.names = append(g.names, fmt.Sprintf("%s:%d", host, port))
		g.keyFiles = append(g.keyFiles, writeKey(t, meshKey))
		g.configs = append(g.configs, filepath.Join(t.TempDir(), "relay.toml"))
		g.setList(i)
		cert, priv := g.ca.For(host)
		g.nodes = append(g.nodes, relay.Start(t, relay.Options{
			Serve: true, Host: host, Port: port, HTTPPort: -1, NoSTUN: true, CertFile: cert, KeyFile: priv, Roots: g.ca.PEM,
			Args: []string{"--config", g.configs[i], "--mesh-psk-file", g.keyFiles[i]},
		}))
	}
	return g
}

// setList writes which peers a node has.
func (g *reloadable) setList(node int, peers ...int) {
	g.t.Helper()
	entries := []string{}
	for _, p := range peers {
		entries = append(entries, fmt.Sprintf("%q", g.names[p]+"/127.0.0.1"))
	}
	text := "mesh-with = [" + strings.Join(entries, ", ") + "]\n"
	if err := os.WriteFile(g.configs[node], []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *reloadable) setKey(node int, content string) {
	g.t.Helper()
	if err := os.WriteFile(g.keyFiles[node], []byte(content), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// reload waits until a node says all of these.
func (g *reloadable) reload(node int, says ...string) {
	g.t.Helper()
	before := len(g.nodes[node].Log())
	g.nodes[node].Signal(syscall.SIGHUP)
	for _, text := range says {
		if !relay.Poll(meshTimeout, func() bool { return strings.Contains(g.nodes[node].Log()[before:], text) }) {
			g.t.Fatalf("node %d does not say %q after SIGHUP:\n%s", node, text, g.nodes[node].Log()[before:])
		}
	}
}

func (g *reloadable) waitWatchers(node int, want float64) {
	g.t.Helper()
	var got float64
	if !relay.Poll(meshTimeout, func() bool { got = g.nodes[node].Var(g.t, "derp.gauge_watchers"); return got == want }) {
		g.t.Fatalf("node %d has %v watchers, want %v; its log:\n%s", node, got, want, g.nodes[node].Log())
	}
}

// TestPeersComeAndLeaveOnSIGHUP changes the lists of running nodes: links come about and end, and
// clients, also those of the other links, notice nothing else.
func TestPeersComeAndLeaveOnSIGHUP(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "settings come from the environment and from a file") {
		return
	}
	g := startReloadable(t, 3)
	a, b, c := dial(t, g.nodes[0], key.NewNode()), dial(t, g.nodes[1], key.NewNode()), dial(t, g.nodes[2], key.NewNode())

	// Out of nothing; each list has the node itself in it.
	g.setList(0, 0, 1)
	g.setList(1, 0, 1)
	g.reload(0, "mesh-with was ", "linked with")
	g.reload(1, "mesh-with was ", "linked with")
	g.waitWatchers(0, 1)
	g.waitWatchers(1, 1)
	exchange(t, []*client{a, b})

	for i := range 3 {
		g.setList(i, 0, 1, 2)
		g.reload(i, "linked with")
	}
	g.waitMeshed()
	g.waitTotal(6)
	exchange(t, []*client{a, b, c})

	// The third leaves, and hears of the others no more.
	g.setList(0, 0, 1)
	g.setList(1, 0, 1)
	g.setList(2)
	for i := range 3 {
		g.reload(i, "not in the list any more, the link is closed")
	}
	g.waitWatchers(0, 1)
	g.waitWatchers(1, 1)
	g.waitWatchers(2, 0)
	a.wantGone(c.pub, derp.PeerGoneReasonDisconnected)
	b.wantGone(c.pub, derp.PeerGoneReasonDisconnected)
	gone := map[key.NodePublic]bool{}
	for range 2 {
		m := c.next()
		g, ok := m.(derp.PeerGoneMessage)
		if !ok || g.Reason != derp.PeerGoneReasonDisconnected {
			t.Fatalf("want PeerGone, got %#v", m)
		}
		gone[g.Peer] = true
	}
	if !gone[a.pub] || !gone[b.pub] {
		t.Errorf("the one that left hears of %v, want both others", gone)
	}
	exchange(t, []*client{a, b})

	// What cannot be understood changes nothing.
	g.setList(0, 1)
	bad := g.configs[0]
	text, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte(strings.Replace(string(text), "node1", "node1?", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.reload(0, "has a character that host names cannot have", "nothing was changed")
	exchange(t, []*client{a, b})

	// And back again.
	for i := range 3 {
		g.setList(i, 0, 1, 2)
		g.reload(i, "reload:")
	}
	g.waitMeshed()
	for i, n := range g.nodes {
		// Its own name in the list is no link that is missing.
		if got := n.Varz(t)["detour_mesh_links"]; got != 2 {
			t.Errorf("node %d counts %v links to keep up, want 2", i, got)
		}
	}
}

// TestAnotherKeyOnSIGHUP exchanges the secret of a region while it runs: who has the old one is out at
// once, and in again with the new one.
func TestAnotherKeyOnSIGHUP(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "settings come from the environment and from a file") {
		return
	}
	g := startReloadable(t, 2)
	for i := range 2 {
		g.setList(i, 0, 1)
		g.reload(i, "linked with")
	}
	g.waitMeshed()
	a, b := dial(t, g.nodes[0], key.NewNode()), dial(t, g.nodes[1], key.NewNode())
	g.waitTotal(4)
	exchange(t, []*client{a, b})

	// A file that is no key, and none at all.
	g.setKey(0, "0123")
	g.reload(0, "has 4 characters", "the mesh stays as it was")
	if err := os.Remove(g.keyFiles[0]); err != nil {
		t.Fatal(err)
	}
	g.reload(0, g.keyFiles[0], "the mesh stays as it was")
	g.waitMeshed()
	exchange(t, []*client{a, b})

	next := newMeshKey()
	g.setKey(0, next)
	g.reload(0, "the mesh key is another one")
	for i := range 2 {
		g.waitWatchers(i, 0)
	}
	b.wantGone(a.pub, derp.PeerGoneReasonDisconnected)
	a.wantGone(b.pub, derp.PeerGoneReasonDisconnected)

	g.setKey(1, next)
	g.reload(1, "the mesh key is another one")
	g.waitMeshed()
	g.waitTotal(4)
	exchange(t, []*client{a, b})
}
