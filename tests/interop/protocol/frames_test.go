package protocol_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

const (
	packetMax  = 65536
	unknownMax = 32 + packetMax // the largest SendPacket
)

// Every row of what a logged-in client may and may not send.
func TestFrameErrors(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	peer := key.NewNode().Public() // nobody
	zeros := func(n int) []byte { return make([]byte, n) }
	const longUnknown = "unknown frames end at 65,568 bytes"
	cases := []struct {
		name       string
		bytes      []byte
		closed     bool
		detourOnly string
	}{
		{"SendPacket without a payload", wire.Encode(wire.SendPacket), true, ""},
		{"SendPacket one byte short of a key", wire.Encode(wire.SendPacket, zeros(31)), true, ""},
		{"SendPacket with a key alone", wire.Encode(wire.SendPacket, wire.Raw(peer)), false, ""},
		{"SendPacket at the limit", wire.Encode(wire.SendPacket, wire.Raw(peer), zeros(packetMax)), false, ""},
		{"SendPacket one above the limit", wire.Encode(wire.SendPacket, wire.Raw(peer), zeros(packetMax+1)), true, ""},
		{"SendPacket with the largest length", append(wire.Header(wire.SendPacket, 1<<32-1), zeros(64)...), true, ""},
		{"SendPacket to the zero key", wire.Encode(wire.SendPacket, zeros(32), []byte("x")), false, ""},

		{"NotePreferred empty", wire.Encode(wire.NotePreferred), true, ""},
		{"NotePreferred 0", wire.Encode(wire.NotePreferred, []byte{0}), false, ""},
		{"NotePreferred 1", wire.Encode(wire.NotePreferred, []byte{1}), false, ""},
		{"NotePreferred 255", wire.Encode(wire.NotePreferred, []byte{255}), false, ""},
		{"NotePreferred of two bytes", wire.Encode(wire.NotePreferred, []byte{1, 1}), true, ""},

		{"Ping empty", wire.Encode(wire.Ping), true, ""},
		{"Ping of 7 bytes", wire.Encode(wire.Ping, zeros(7)), true, ""},
		{"Ping of 1001 bytes", wire.Encode(wire.Ping, zeros(1001)), true, ""},
		{"Ping with the largest length", append(wire.Header(wire.Ping, 1<<32-1), zeros(64)...), true, ""},

		{"ForwardPacket from a client that is no mesh peer", wire.Encode(wire.ForwardPacket, zeros(64), []byte("x")), true, ""},
		{"ForwardPacket too short", wire.Encode(wire.ForwardPacket, zeros(63)), true, ""},
		{"WatchConns from a client that is no mesh peer", wire.Encode(wire.WatchConns), true, ""},
		{"WatchConns of one byte", wire.Encode(wire.WatchConns, zeros(1)), true, ""},
		{"ClosePeer from a client that is no mesh peer", wire.Encode(wire.ClosePeer, wire.Raw(peer)), true, ""},
		{"ClosePeer of 31 bytes", wire.Encode(wire.ClosePeer, zeros(31)), true, ""},

		{"Pong", wire.Encode(wire.Pong, zeros(8)), false, ""},
		{"Pong of a wrong size", wire.Encode(wire.Pong, zeros(3)), false, ""},
		{"ClientInfo again", wire.Encode(wire.ClientInfo, zeros(200)), false, ""},
		{"ServerKey", wire.Encode(wire.ServerKey, wire.Magic, zeros(32)), false, ""},
		{"ServerInfo", wire.Encode(wire.ServerInfo, zeros(53)), false, ""},
		{"RecvPacket", wire.Encode(wire.RecvPacket, zeros(40)), false, ""},
		{"KeepAlive", wire.Encode(wire.KeepAlive), false, ""},
		{"KeepAlive with a payload", wire.Encode(wire.KeepAlive, zeros(9)), false, ""},
		{"PeerGone", wire.Encode(wire.PeerGone, zeros(33)), false, ""},
		{"PeerPresent", wire.Encode(wire.PeerPresent, zeros(51)), false, ""},
		{"Health", wire.Encode(wire.Health, []byte("dup")), false, ""},
		{"Restarting", wire.Encode(wire.Restarting, zeros(8)), false, ""},

		{"unknown type 0x00", wire.Encode(0x00), false, ""},
		{"unknown type 0x0b", wire.Encode(0x0b, zeros(1)), false, ""},
		{"unknown type 0x16", wire.Encode(0x16, zeros(17000)), false, ""},
		{"unknown type 0xff at the limit", wire.Encode(0xff, zeros(unknownMax)), false, ""},
		{"unknown type one above the limit", wire.Encode(0xff, zeros(unknownMax+1)), true, longUnknown},
		{"unknown type with the largest length", append(wire.Header(0x7f, 1<<32-1), zeros(64)...), true, longUnknown},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.detourOnly != "" && !relay.DetourOnly(t, c.detourOnly) {
				return
			}
			conn := wire.Login(t, r)
			if c.closed {
				// Written from aside: the relay may close before it has read everything.
				done := make(chan struct{})
				go func() { defer close(done); conn.Write(c.bytes) }()
				conn.WantClosed()
				conn.Close()
				<-done
				return
			}
			// Twice, in one write with a ping behind, so that a wrong length shows.
			conn.Put(c.bytes, c.bytes, wire.Encode(wire.Ping, []byte("behind!!")))
			conn.Want(wire.Pong, []byte("behind!!"))
			// And every byte of a small one alone.
			if len(c.bytes) < 300 {
				for i := range c.bytes {
					conn.Put(c.bytes[i : i+1])
				}
				conn.WantAlive()
			}
		})
	}
}

// An error of one client must not touch another, and what it sent before the error still arrives.
func TestWhatCameBeforeAnErrorIsStillDelivered(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	good, bad := wire.Login(t, r), wire.Login(t, r)
	bad.Put(wire.Encode(wire.SendPacket, wire.Raw(good.Pub), []byte("last words")), wire.Encode(wire.NotePreferred))
	good.Want(wire.RecvPacket, wire.Raw(bad.Pub), []byte("last words"))
	bad.WantClosed()
	// Whether good hears of the end depends on whether the packet was written before it.
	good.Put(wire.Encode(wire.Ping, []byte("12345678")))
	f := good.Frame()
	if f.Type == wire.PeerGone {
		f = good.Frame()
	}
	if f.Type != wire.Pong {
		t.Errorf("got %v, want a pong", f)
	}
}

func TestPingSizesFrom8To1000AreAnsweredWithTheirFirst8Bytes(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Login(t, r)
	for _, n := range []int{8, 9, 15, 16, 17, 100, 999, 1000} {
		data := make([]byte, n)
		rand.Read(data)
		c.Put(wire.Encode(wire.Ping, data))
		c.Want(wire.Pong, data[:8])
	}
}

// At most one pong waits to be written; the rest of a flood is not answered, and all pings count.
func TestAFloodOfPings(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Login(t, r)
	const n = 2000
	var flood []byte
	for i := range n {
		flood = append(flood, wire.Encode(wire.Ping, fmt.Appendf(nil, "%08d", i))...)
	}
	c.Put(flood)
	last, pongs := -1, 0
	for last != n-1 {
		f, err := c.TryFrame(500 * time.Millisecond)
		if err != nil {
			break // the last ones need not be answered
		}
		var i int
		if _, err := fmt.Sscanf(string(f.Payload), "%08d", &i); err != nil || f.Type != wire.Pong || len(f.Payload) != 8 {
			t.Fatalf("got %v, want a pong", f)
		}
		if i <= last {
			t.Fatalf("pong %d came after pong %d", i, last)
		}
		last, pongs = i, pongs+1
	}
	if pongs < 1 || pongs > n {
		t.Errorf("%d pongs for %d pings", pongs, n)
	}
	if got := r.WantVar(t, "derp.got_ping", n); got != n {
		t.Errorf("got_ping is %v, want %d", got, n)
	}
	if got := r.WantVar(t, "derp.sent_pong", float64(pongs)); got != float64(pongs) {
		t.Errorf("sent_pong is %v, want %d", got, pongs)
	}
}

func TestPeerGoneNotHereOnlyForDiscoAndThreeAtOnce(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := wire.Login(t, r), wire.Login(t, r)
	nobody := key.NewNode().Public()

	// No notice for these: not disco.
	almost := wire.Disco(62)
	for _, p := range [][]byte{nil, []byte("hello"), almost[:61], almost[:6], bytes.Repeat([]byte{0x54}, 62),
		append([]byte{0x54, 0x53, 0xf0, 0x9f, 0x92, 0xad}, make([]byte, 100)...)} {
		a.Send(nobody, p)
	}
	// Six in a row: three notices. Each for the key that was asked for.
	targets := privateKeys(6)
	for i, k := range targets {
		a.Send(k.Public(), wire.Disco(62+i))
	}
	seen := map[string]bool{}
	for range 3 {
		f := a.Frame()
		if f.Type != wire.PeerGone || len(f.Payload) != 33 || f.Payload[32] != 1 {
			t.Fatalf("got %v, want PeerGone with reason 1", f)
		}
		seen[string(f.Payload[:32])] = true
	}
	for _, k := range targets[:3] {
		if !seen[string(wire.Raw(k.Public()))] {
			t.Errorf("no notice for %v", k.Public())
		}
	}
	// The limit is each connection's own.
	b.Send(nobody, wire.Disco(65536))
	b.Want(wire.PeerGone, wire.Raw(nobody), []byte{1})
	// Nothing comes from the other three, until the bucket holds a token again (one a second).
	a.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if b, err := a.R.Peek(1); err == nil {
		t.Fatalf("a fourth notice came at once: frame 0x%02x", b[0])
	}
	start := time.Now()
	again := false
	for !again && time.Since(start) < 5*time.Second+relay.Slack {
		a.Send(nobody, wire.Disco(62))
		f, err := a.TryFrame(150 * time.Millisecond)
		if err == nil {
			if f.Type != wire.PeerGone || !bytes.Equal(f.Payload, append(wire.Raw(nobody), 1)) {
				t.Fatalf("got %v, want PeerGone not here", f)
			}
			again = true
		}
	}
	if !again {
		t.Error("no further notice in time")
	}
	if got := r.WantVar(t, "derp.peer_gone_not_here_frames", 5); got != 5 {
		t.Errorf("peer_gone_not_here_frames is %v, want 5", got)
	}
}

func TestPacketsToOneself(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Login(t, r)
	for _, n := range []int{0, 1, 62, 1400, 65536} {
		p := make([]byte, n)
		rand.Read(p)
		c.Send(c.Pub, p)
		c.Want(wire.RecvPacket, wire.Raw(c.Pub), p)
	}
}

// ServerInfo comes second, whatever somebody sends to the key meanwhile.
func TestServerInfoComesBeforeAnyPacket(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	sender := wire.Login(t, r)
	stop := make(chan struct{})
	done := make(chan struct{})
	priv := key.NewNode()
	go func() {
		defer close(done)
		frame := wire.Encode(wire.SendPacket, wire.Raw(priv.Public()), []byte("early"))
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := sender.Write(frame); err != nil {
					return
				}
			}
		}
	}()
	for range 40 {
		c := wire.LoginAs(t, r, priv) // fails unless ServerKey and ServerInfo come first
		c.Want(wire.RecvPacket, wire.Raw(sender.Pub), []byte("early"))
		c.Close()
	}
	close(stop)
	<-done
}

// KeepAlive comes every 60 to 65 s to everybody, quiet or busy, and is exactly five bytes.
func TestKeepAliveComesAfter60To65SecondsToQuietAndBusyClients(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	start := time.Now()
	quiet, busy, sender := wire.Login(t, r), wire.Login(t, r), wire.Login(t, r)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		frame := wire.Encode(wire.SendPacket, wire.Raw(busy.Pub), []byte("x"))
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				sender.Write(frame)
			}
		}
	}()
	busyGot := make(chan error, 1)
	go func() {
		for {
			f, err := busy.TryFrame(66*time.Second + relay.Slack)
			switch {
			case err != nil:
				busyGot <- err
				return
			case f.Type == wire.KeepAlive && len(f.Payload) == 0:
				busyGot <- nil
				return
			case f.Type != wire.RecvPacket:
				busyGot <- fmt.Errorf("unexpected %v", f)
				return
			}
		}
	}()
	f, err := quiet.TryFrame(67*time.Second + relay.Slack)
	if err != nil {
		t.Fatalf("no keepalive in time: %v", err)
	}
	elapsed := time.Since(start)
	if got := f.Bytes(); !bytes.Equal(got, wire.Hex("06 00 00 00 00")) {
		t.Fatalf("got %v, want KeepAlive without a payload", f)
	}
	if elapsed < 59*time.Second || elapsed > 66*time.Second+relay.Slack {
		t.Errorf("the keepalive came after %v, want 60 to 65 s", elapsed)
	}
	select {
	case err := <-busyGot:
		if err != nil {
			t.Errorf("busy client: %v", err)
		}
	case <-time.After(10*time.Second + relay.Slack):
		t.Error("the busy client got no keepalive")
	}
	quiet.WantAlive()
}
