// Package websocket_test meets a relay through WebSocket: with the code of Tailscale's browser
// client, with hand-made frames, and with a real browser.
package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"github.com/coder/websocket"
	"tailscale.com/derp"
	"tailscale.com/net/wsconn"
	"tailscale.com/types/key"
)

const timeout = 10 * time.Second

func dialOptions(r *relay.Relay, protocols ...string) *websocket.DialOptions {
	return &websocket.DialOptions{
		Subprotocols: protocols,
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: r.TLSConfig()}},
	}
}

// dial logs a client in as Tailscale's browser client does.
func dial(t testing.TB, r *relay.Relay) (*derp.Client, net.Conn, key.NodePublic) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, res, err := websocket.Dial(ctx, "wss://"+r.Addr+"/derp", dialOptions(r, "derp"))
	if err != nil {
		t.Fatalf("WebSocket: %v", err)
	}
	if got := res.Header.Get("Sec-WebSocket-Protocol"); got != "derp" {
		t.Errorf("subprotocol %q, want derp", got)
	}
	if got := res.Header.Get("Sec-WebSocket-Extensions"); got != "" {
		t.Errorf("extensions %q, want none", got)
	}
	nc := wsconn.NetConn(context.Background(), c, websocket.MessageBinary, r.Addr)
	t.Cleanup(func() { nc.Close() })
	priv := key.NewNode()
	brw := bufio.NewReadWriter(bufio.NewReader(nc), bufio.NewWriter(nc))
	d, err := derp.NewClient(priv, nc, brw, t.Logf)
	if err != nil {
		t.Fatalf("DERP over WebSocket: %v", err)
	}
	if _, ok := recv(t, d).(derp.ServerInfoMessage); !ok {
		t.Fatal("the first message is not ServerInfo")
	}
	return d, nc, priv.Public()
}

func recv(t testing.TB, d *derp.Client) derp.ReceivedMessage {
	t.Helper()
	type result struct {
		m   derp.ReceivedMessage
		err error
	}
	done := make(chan result, 1)
	go func() {
		m, err := d.Recv()
		if p, ok := m.(derp.ReceivedPacket); ok {
			p.Data = bytes.Clone(p.Data)
			m = p
		}
		done <- result{m, err}
	}()
	select {
	case got := <-done:
		if got.err != nil {
			t.Fatalf("Recv: %v", got.err)
		}
		return got.m
	case <-time.After(timeout):
		t.Fatal("no message came")
		return nil
	}
}

func packet(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func TestPacketsThroughWebSocket(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, _, aKey := dial(t, r)
	b, _, bKey := dial(t, r)
	raw := wire.Login(t, r)

	for _, n := range []int{0, 1, 80, 125, 126, 1400, 4096, 32000} {
		p := packet(n)
		if err := a.Send(bKey, p); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		got, ok := recv(t, b).(derp.ReceivedPacket)
		if !ok || got.Source != aKey || !bytes.Equal(got.Data, p) {
			t.Fatalf("%d bytes: got %v bytes from %v", n, len(got.Data), got.Source)
		}
		// To a client without WebSocket.
		if err := a.Send(raw.Pub, p); err != nil {
			t.Fatal(err)
		}
		raw.Want(wire.RecvPacket, wire.Raw(aKey), p)
	}
	// And from one. A packet of 64 KiB takes several messages of at most 32 KiB; derper itself sends
	// larger ones, which its client refuses. Nor can that client send them.
	sizes := []int{0, 1, 1400, 32000}
	if relay.DetourOnly(t, "WebSocket messages end at 32,768 bytes") {
		sizes = append(sizes, 32767, 32768, 40000, 65535, 65536)
	}
	for _, n := range sizes {
		p := packet(n)
		raw.Send(bKey, p)
		if got, ok := recv(t, b).(derp.ReceivedPacket); !ok || got.Source != raw.Pub || !bytes.Equal(got.Data, p) {
			t.Fatalf("%d bytes from a client without WebSocket: got %d from %v", n, len(got.Data), got.Source)
		}
	}
	if got := r.WantVar(t, "derp_websocket_accepts", 2); got != 2 {
		t.Errorf("derp_websocket_accepts is %v, want 2", got)
	}
	if got := r.WantVar(t, "derp.accepts", 3); got != 3 {
		t.Errorf("derp.accepts is %v, want 3", got)
	}
}

func TestBurstsThroughWebSocketKeepTheirOrder(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, _, _ := dial(t, r)
	b, _, bKey := dial(t, r)
	const window, rounds = 24, 40
	next := uint32(0)
	for range rounds {
		for i := range window {
			p := packet(1000 + i)
			binary.BigEndian.PutUint32(p, next+uint32(i))
			if err := a.Send(bKey, p); err != nil {
				t.Fatal(err)
			}
		}
		for range window {
			got, ok := recv(t, b).(derp.ReceivedPacket)
			if !ok {
				t.Fatal("not a packet")
			}
			if n := binary.BigEndian.Uint32(got.Data); n != next {
				t.Fatalf("packet %d came where %d was due", n, next)
			}
			next++
		}
	}
}

func TestAPeerThatLeavesClosesItsWebSocketInOrder(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, aConn, aKey := dial(t, r)
	b, _, bKey := dial(t, r)
	if err := a.Send(bKey, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	recv(t, b)
	aConn.Close()
	gone, ok := recv(t, b).(derp.PeerGoneMessage)
	if !ok || gone.Peer != aKey {
		t.Fatalf("got %v, want PeerGone of %v", gone, aKey)
	}
}

// --- Frame by frame -----------------------------------------------------------------------------

const sampleKey = "dGhlIHNhbXBsZSBub25jZQ=="

func head(lines ...string) string {
	return "GET /derp HTTP/1.1\r\nHost: x\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

var goodHead = []string{
	"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
	"Sec-WebSocket-Key: " + sampleKey, "Sec-WebSocket-Protocol: derp",
}

func without(lines []string, name string, more ...string) []string {
	var kept []string
	for _, l := range lines {
		if !strings.HasPrefix(l, name+":") {
			kept = append(kept, l)
		}
	}
	return append(kept, more...)
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, c := range []struct {
		name   string
		lines  []string
		method string
		status string
		has    []string
	}{
		{"the example of the standard", goodHead, "GET", "101", []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Sec-Websocket-Protocol: derp"}},
		{"any origin", append(goodHead, "Origin: https://evil.example"), "GET", "101", nil},
		{"in capitals", without(goodHead, "Upgrade", "Upgrade: WebSocket"), "GET", "101", nil},
		{"compression is not agreed on", append(goodHead, "Sec-WebSocket-Extensions: permessage-deflate"), "GET", "101", nil},
		{"one of several subprotocols", without(goodHead, "Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: chat, derp"), "GET", "101", []string{"Sec-Websocket-Protocol: derp"}},
		{"no Connection: Upgrade", without(goodHead, "Connection"), "GET", "426", []string{"Upgrade: websocket"}},
		{"another version", without(goodHead, "Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), "GET", "400", []string{"Sec-Websocket-Version: 13"}},
		{"no key", without(goodHead, "Sec-WebSocket-Key"), "GET", "400", nil},
		{"a short key", without(goodHead, "Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="), "GET", "400", nil},
		{"two keys", append(goodHead, "Sec-WebSocket-Key: "+sampleKey), "GET", "400", nil},
		{"POST", goodHead, "POST", "405", nil},
		{"no subprotocol: DERP without WebSocket", without(goodHead, "Sec-WebSocket-Protocol"), "GET", "101", []string{"Upgrade: DERP"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := wire.Dial(t, r)
			conn.Put([]byte(strings.Replace(head(c.lines...), "GET", c.method, 1)))
			got := conn.ReadHead()
			if !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") {
				t.Errorf("got %q, want status %s", got, c.status)
			}
			for _, want := range c.has {
				if !strings.Contains(strings.ToLower(got), strings.ToLower(want)+"\r\n") {
					t.Errorf("got %q, want it to have %q", got, want)
				}
			}
			if strings.Contains(strings.ToLower(got), "extensions") {
				t.Errorf("got %q, want no extensions", got)
			}
		})
	}
}

// socket is a WebSocket written by hand.
type socket struct {
	*wire.Conn
	t testing.TB
}

func open(t testing.TB, r *relay.Relay, lines ...string) *socket {
	t.Helper()
	if lines == nil {
		lines = goodHead
	}
	c := wire.Dial(t, r)
	c.Put([]byte(head(lines...)))
	if got := c.ReadHead(); !strings.HasPrefix(got, "HTTP/1.1 101 ") {
		t.Fatalf("got %q, want 101", got)
	}
	return &socket{c, t}
}

// frame is a client's frame.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := []byte{1, 2, 3, 4}
	b = append(b, mask...)
	for i, x := range payload {
		b = append(b, x^mask[i%4])
	}
	return b
}

// next reads one frame of the server.
func (s *socket) next() (first byte, payload []byte, err error) {
	s.SetReadDeadline(time.Now().Add(timeout))
	var h [2]byte
	if _, err := io.ReadFull(s.R, h[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1])
	if n&0x80 != 0 {
		return 0, nil, errors.New("the server masks its frames")
	}
	var ext [8]byte
	switch n {
	case 126:
		if _, err := io.ReadFull(s.R, ext[:2]); err != nil {
			return 0, nil, err
		}
		n = uint64(binary.BigEndian.Uint16(ext[:2]))
	case 127:
		if _, err := io.ReadFull(s.R, ext[:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(ext[:])
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(s.R, payload)
	return h[0], payload, err
}

// wantClose reads until the server's close frame, then until the end.
func (s *socket) wantClose(code uint16) {
	s.t.Helper()
	for {
		first, payload, err := s.next()
		if err != nil {
			s.t.Fatalf("no close frame came: %v", err)
		}
		if first != 0x88 {
			continue
		}
		// derper's two sides close in a race: the one that only sees the end says 1000.
		if relay.IsDerper() && len(payload) >= 2 && binary.BigEndian.Uint16(payload) == 1000 {
			break
		}
		if len(payload) < 2 || binary.BigEndian.Uint16(payload) != code {
			s.t.Fatalf("close frame %x, want code %d", payload, code)
		}
		break
	}
}

func TestFaultsCloseTheWebSocket(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, c := range []struct {
		name  string
		bytes []byte
		code  uint16
	}{
		{"text", frame(0x81, []byte("hello")), 1003},
		{"a message above 32,768 bytes", frame(0x82, make([]byte, 32769)), 1009},
		{"no mask", []byte{0x82, 1, 0}, 1002},
		{"a reserved bit", frame(0xc2, []byte("x")), 1002},
		{"a continuation of nothing", frame(0x80, []byte("x")), 1002},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, r)
			s.Put(c.bytes)
			s.wantClose(c.code)
		})
	}
	t.Run("a subprotocol that only sounds like derp", func(t *testing.T) {
		t.Parallel()
		s := open(t, r, without(goodHead, "Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: xderp")...)
		s.wantClose(1008)
	})
	t.Run("the end of the client", func(t *testing.T) {
		t.Parallel()
		s := open(t, r)
		s.Put(frame(0x88, []byte{0x03, 0xe8}))
		s.wantClose(1000)
	})
}

func TestPingsAreAnswered(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	s := open(t, r)
	s.Put(frame(0x89, []byte("are you there?")))
	for {
		first, payload, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0x8a {
			if string(payload) != "are you there?" {
				t.Errorf("pong %q", payload)
			}
			return
		}
	}
}

// A DERP frame may lie across messages, and a message may hold several; the first message may come
// with the request.
func TestMessageBoundariesMeanNothing(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Dial(t, r)
	info := c.Info(wire.DefaultInfo)
	ping := wire.Encode(wire.Ping, []byte("01234567"))
	var all []byte
	all = append(all, head(goodHead...)...)
	all = append(all, frame(0x02, info[:3])...)
	all = append(all, frame(0x89, nil)...)
	all = append(all, frame(0x00, info[3:60])...)
	all = append(all, frame(0x80, info[60:])...)
	all = append(all, frame(0x82, append(bytes.Clone(ping), wire.Encode(0x30, []byte("skipped"))...))...)
	c.Put(all)
	if got := c.ReadHead(); !strings.HasPrefix(got, "HTTP/1.1 101 ") {
		t.Fatal(got)
	}
	s := &socket{c, t}
	var stream []byte
	pongs := 0
	until := func(derpPongs, websocketPongs int) {
		t.Helper()
		for bytes.Count(stream, wire.Encode(wire.Pong, []byte("01234567"))) < derpPongs || pongs < websocketPongs {
			first, payload, err := s.next()
			if err != nil {
				t.Fatalf("%v after %d bytes", err, len(stream))
			}
			switch first {
			case 0x82:
				stream = append(stream, payload...)
			case 0x8a:
				pongs++
			default:
				t.Fatalf("frame %#x", first)
			}
		}
	}
	until(1, 1)
	for i := range ping {
		c.Put(frame(0x82, ping[:i]), frame(0x82, ping[i:]))
		until(2+i, 1)
	}
	if !bytes.HasPrefix(stream, wire.Encode(wire.ServerKey, wire.Magic, wire.Raw(r.PublicKey))) {
		t.Errorf("the stream begins with %x, want ServerKey", stream[:min(len(stream), 50)])
	}
}

// A peer that sends pings and reads nothing costs no memory worth speaking of, and goes.
func TestAFloodOfPingsIsBounded(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "a flood of WebSocket pings is bounded") {
		return
	}
	r := relay.Start(t, relay.Options{NoSTUN: true})
	before := r.RSS(t)
	s := open(t, r)
	flood := bytes.Repeat(frame(0x89, make([]byte, 125)), 1000)
	sent := 0
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && sent < 64<<20; {
		s.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := s.Conn.Conn.Write(flood)
		sent += n
		if err != nil {
			break
		}
	}
	if after := r.RSS(t); after > before+24<<20 {
		t.Errorf("memory grew from %d to %d MiB under %d MiB of pings", before>>20, after>>20, sent>>20)
	}
	wire.Login(t, r).WantAlive()
}
