package protocol_test

import (
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// The newest connection of a key, then whichever spoke last, gets the packets; the others stay open.
func TestDuplicatesTheLastWriterGetsThePackets(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	sender := wire.Login(t, r)
	priv := key.NewNode()
	pub := priv.Public()
	first := wire.LoginAs(t, r, priv)
	sender.Send(pub, []byte("1"))
	first.Want(wire.RecvPacket, wire.Raw(sender.Pub), []byte("1"))

	second := wire.LoginAs(t, r, priv)
	sender.Send(pub, []byte("2"))
	second.Want(wire.RecvPacket, wire.Raw(sender.Pub), []byte("2"))
	third := wire.LoginAs(t, r, priv)
	sender.Send(pub, []byte("3"))
	third.Want(wire.RecvPacket, wire.Raw(sender.Pub), []byte("3"))

	for name, want := range map[string]float64{
		"derp.gauge_current_connections":          4,
		"derp.gauge_current_dup_client_keys":      1,
		"derp.gauge_current_dup_client_conns":     3,
		"derp.counter_total_dup_client_conns":     2,
		"derp.gauge_clients_local":                2,
		"derp.gauge_clients_total":                2,
		"derp.gauge_clients_remote":               0,
		"derp.gauge_current_notideal_connections": 0,
	} {
		if got := r.WantVar(t, name, want); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}

	// Whoever writes, with any type of frame, is the one. A pong of its own proves that the relay has
	// read the frame.
	speak := map[string]func(c *wire.Conn){
		"a ping":             func(c *wire.Conn) { c.WantAlive() },
		"an unknown frame":   func(c *wire.Conn) { c.Put(wire.Encode(0x77, []byte("x"))); c.WantAlive() },
		"a packet to nobody": func(c *wire.Conn) { c.Send(key.NewNode().Public(), []byte("x")); c.WantAlive() },
	}
	for name, f := range speak {
		for i, c := range []*wire.Conn{first, third, second, first} {
			f(c)
			packet := []byte(name + string(rune('0'+i)))
			sender.Send(pub, packet)
			c.Want(wire.RecvPacket, wire.Raw(sender.Pub), packet)
		}
	}

	// The others got nothing meanwhile and are alive.
	third.WantAlive()
	second.WantAlive()
	// second spoke last; when it leaves, one of the others takes over, and nobody is told.
	first.Send(sender.Pub, []byte("so that the sender is told of the end"))
	sender.Want(wire.RecvPacket, wire.Raw(pub), []byte("so that the sender is told of the end"))
	second.WantAlive()
	second.Close()
	if got := r.WantVar(t, "derp.gauge_current_dup_client_conns", 2); got != 2 {
		t.Fatalf("current_dup_client_conns is %v after one of three left, want 2", got)
	}
	sender.Send(pub, []byte("to the last one in the history"))
	first.Want(wire.RecvPacket, wire.Raw(sender.Pub), []byte("to the last one in the history"))
	first.Close()
	if got := r.WantVar(t, "derp.gauge_current_dup_client_keys", 0); got != 0 {
		t.Fatalf("current_dup_client_keys is %v with one connection left, want 0", got)
	}
	if got := r.WantVar(t, "derp.gauge_current_dup_client_conns", 0); got != 0 {
		t.Fatalf("current_dup_client_conns is %v with one connection left, want 0", got)
	}
	sender.Send(pub, []byte("the survivor"))
	third.Want(wire.RecvPacket, wire.Raw(sender.Pub), []byte("the survivor"))

	// Not a word to the sender so far; the end of the last connection is the end of the key.
	sender.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if b, err := sender.R.Peek(1); err == nil {
		t.Fatalf("the sender was told something (frame 0x%02x) while the key was still there", b[0])
	}
	third.Close()
	sender.Want(wire.PeerGone, wire.Raw(pub), []byte{0})
}

// The old connection of a client that reconnects ends after the new one has logged in. That must not
// take the new one away.
func TestTheEndOfAnOldConnectionLeavesTheNewOneInPlace(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	peer := wire.Login(t, r)
	priv := key.NewNode()
	old := wire.LoginAs(t, r, priv)
	for i := range 50 {
		now := wire.LoginAs(t, r, priv)
		old.Close()
		packet := []byte{byte(i)}
		peer.Send(priv.Public(), packet)
		now.Want(wire.RecvPacket, wire.Raw(peer.Pub), packet)
		old = now
	}
	if got := r.WantVar(t, "derp.gauge_current_connections", 2); got != 2 {
		t.Errorf("current_connections is %v, want 2", got)
	}
	for _, name := range []string{"derp.gauge_current_dup_client_keys", "derp.gauge_current_dup_client_conns"} {
		if got := r.WantVar(t, name, 0); got != 0 {
			t.Errorf("%s is %v, want 0", name, got)
		}
	}
}

// Who got a packet from somebody is told when that one leaves; nobody else is.
func TestPeerGoneDisconnectedGoesToThoseWhoGotAPacket(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	s, told, untold := wire.Login(t, r), wire.Login(t, r), wire.Login(t, r)
	s.Send(told.Pub, []byte("hello"))
	told.Want(wire.RecvPacket, wire.Raw(s.Pub), []byte("hello"))
	// The other direction alone does not count.
	untold.Send(s.Pub, []byte("hello"))
	s.Want(wire.RecvPacket, wire.Raw(untold.Pub), []byte("hello"))
	s.Close()
	told.Want(wire.PeerGone, wire.Raw(s.Pub), []byte{0})
	// A packet that follows shows that nothing came before it.
	told.Send(untold.Pub, []byte("after"))
	untold.Want(wire.RecvPacket, wire.Raw(told.Pub), []byte("after"))
	if got := r.WantVar(t, "derp.peer_gone_disconnected_frames", 1); got != 1 {
		t.Errorf("peer_gone_disconnected_frames is %v, want 1", got)
	}
}
