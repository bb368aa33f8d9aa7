package protocol_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

func TestEveryWayToUpgradeIsTaken(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	get := func(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }
	cases := []struct {
		name string
		head string
		fast bool
	}{
		{"as an official client", string(wire.Head("DERP")), false},
		{"lower case", string(wire.Head("derp")), false},
		{"mixed case", string(wire.Head("DeRp")), false},
		{"old client saying WebSocket, no subprotocol", string(wire.Head("WebSocket")), false},
		{"WebSocket with another subprotocol", string(wire.Head("websocket", "Sec-WebSocket-Protocol: chat")), false},
		{"no Connection header", get("GET /derp HTTP/1.1", "Host: x", "Upgrade: DERP"), false},
		{"Connection: keep-alive", get("GET /derp HTTP/1.1", "Host: x", "Connection: keep-alive", "Upgrade: DERP"), false},
		{"header names in odd case", get("GET /derp HTTP/1.1", "hOST: x", "uPGRADE: DERP"), false},
		{"white space around the value", get("GET /derp HTTP/1.1", "Host: x", "Upgrade: \t DERP \t "), false},
		{"query after the path", get("GET /derp?region=1 HTTP/1.1", "Host: x", "Upgrade: DERP"), false},
		{"POST", get("POST /derp HTTP/1.1", "Host: x", "Upgrade: DERP", "Content-Length: 0"), false},
		{"an unknown method", get("RELAY /derp HTTP/1.1", "Host: x", "Upgrade: DERP"), false},
		{"HTTP/1.0", get("GET /derp HTTP/1.0", "Host: x", "Upgrade: DERP"), false},
		{"Ideal-Node", string(wire.Head("DERP", "Ideal-Node: 1a")), false},
		{"fast start", string(wire.FastHead()), true},
		{"fast start with Ideal-Node", string(wire.Head("DERP", "Ideal-Node: 1a", "Derp-Fast-Start: 1")), true},
		{"fast start, WebSocket without subprotocol", string(wire.Head("WebSocket", "Derp-Fast-Start: 1")), true},
		{"fast start says true", string(wire.Head("DERP", "Derp-Fast-Start: true")), false},
		{"fast start says 2", string(wire.Head("DERP", "Derp-Fast-Start: 2")), false},
		{"fast start says nothing", string(wire.Head("DERP", "Derp-Fast-Start:")), false},
		{"forty more headers", string(wire.Head("DERP", strings.TrimSuffix(strings.Repeat("X-Padding: 0123456789\r\n", 40), "\r\n"))), false},
		{"a head of 8 KiB", string(wire.Head("DERP", "X-Padding: "+strings.Repeat("p", 8<<10))), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := wire.Dial(t, r)
			conn.Put([]byte(c.head))
			if !c.fast {
				want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\n" +
					"Derp-Public-Key: " + r.PublicKey.UntypedHexString() + "\r\n\r\n"
				conn.WantBytes([]byte(want))
			}
			conn.Put(conn.Info(wire.DefaultInfo))
			if err := conn.ReadLogin(); err != nil {
				t.Fatal(err)
			}
			conn.WantAlive()
		})
	}
}

func TestFastStartSendsTheServerKeyWithoutWaitingForClientInfo(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Dial(t, r)
	c.Put(wire.FastHead())
	c.Want(wire.ServerKey, wire.Magic, wire.Raw(r.PublicKey))
	c.Put(c.Info(wire.DefaultInfo))
	if err := c.ReadServerInfo(); err != nil {
		t.Fatal(err)
	}
	c.WantAlive()
}

// Clients since 1.2 send head and ClientInfo in one flush; others may send more without waiting.
func TestBytesBehindTheHeadAreKept(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	peer := wire.Login(t, r)
	for _, fast := range []bool{true, false} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("fast=%v/%s", fast, tls.VersionName(version)), func(t *testing.T) {
				cfg := r.TLSConfig()
				cfg.MinVersion, cfg.MaxVersion = version, version
				c, err := wire.DialError(t, r, cfg)
				if err != nil {
					t.Fatal(err)
				}
				head := wire.Head("DERP")
				if fast {
					head = wire.FastHead()
				}
				packet := []byte("behind the head " + t.Name())
				// All in one record: head, login, home, ping, a packet.
				c.Put(head, c.Info(wire.DefaultInfo), wire.Encode(wire.NotePreferred, []byte{1}),
					wire.Encode(wire.SendPacket, wire.Raw(peer.Pub), packet),
					wire.Encode(wire.Ping, []byte("pipeline")))
				if !fast {
					if h := c.ReadHead(); !strings.HasPrefix(h, "HTTP/1.1 101 ") {
						t.Fatalf("answer %q, want 101", h)
					}
				}
				if err := c.ReadLogin(); err != nil {
					t.Fatal(err)
				}
				c.Want(wire.Pong, []byte("pipeline"))
				peer.Want(wire.RecvPacket, wire.Raw(c.Pub), packet)
				c.Close()
				peer.Want(wire.PeerGone, wire.Raw(c.Pub), []byte{0})
			})
		}
	}
}

// Every split of the stream that a network can make has to work. Each byte is its own TLS record.
func TestHeadAndClientInfoArriveByteByByte(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, fast := range []bool{true, false} {
		t.Run(fmt.Sprintf("fast=%v", fast), func(t *testing.T) {
			t.Parallel()
			c := wire.Dial(t, r)
			head := wire.Head("DERP")
			if fast {
				head = wire.FastHead()
			}
			all := append(head, c.Info(wire.DefaultInfo)...)
			all = append(all, wire.Encode(wire.Ping, []byte("one by 1"))...)
			for i := range all {
				c.Put(all[i : i+1])
			}
			if !fast {
				if h := c.ReadHead(); !strings.HasPrefix(h, "HTTP/1.1 101 ") {
					t.Fatalf("answer %q, want 101", h)
				}
			}
			if err := c.ReadLogin(); err != nil {
				t.Fatal(err)
			}
			c.Want(wire.Pong, []byte("one by 1"))
		})
	}
}

func TestEverySplitOfHeadAndLoginIntoTwoRecords(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	head := len(wire.FastHead())
	// Positions around the end of the head, the frame header, key, nonce and tag, and a few within.
	splits := []int{1, head / 2, head - 3, head - 2, head - 1, head, head + 1, head + 4, head + 5, head + 6,
		head + 5 + 31, head + 5 + 32, head + 5 + 33, head + 5 + 56, head + 5 + 72, head + 5 + 73}
	for _, at := range splits {
		t.Run(fmt.Sprint(at-head), func(t *testing.T) {
			t.Parallel()
			c := wire.Dial(t, r)
			all := append(wire.FastHead(), c.Info(wire.DefaultInfo)...)
			c.Put(all[:at])
			if at < head {
				// Nothing may come before the head is complete.
				c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
				if b, err := c.R.Peek(1); err == nil {
					t.Fatalf("the relay sent %x before the head was complete", b)
				}
			}
			// Only a new reader goes on after a deadline.
			c.R = bufio.NewReaderSize(c.Conn, 64<<10)
			c.Put(all[at:])
			if err := c.ReadLogin(); err != nil {
				t.Fatal(err)
			}
			c.WantAlive()
		})
	}
}

func TestRequestsWithoutAProperUpgradeGet426(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, upgrade := range []string{"", "h2c", "DERP2", "derp, websocket", "TLS/1.0"} {
		t.Run("Upgrade="+upgrade, func(t *testing.T) {
			t.Parallel()
			c := wire.Dial(t, r)
			// Twice on one connection: it stays open.
			for range 2 {
				c.Put(wire.Head(upgrade))
				c.SetReadDeadline(time.Now().Add(wire.IOTimeout))
				res, err := http.ReadResponse(c.R, nil)
				body := relay.Body(t, res, err)
				if res.StatusCode != 426 || body != "DERP requires connection upgrade\n" {
					t.Errorf("status %d, body %q: want 426 and the reason", res.StatusCode, body)
				}
				for name, want := range map[string]string{
					"Content-Type":           "text/plain; charset=utf-8",
					"X-Content-Type-Options": "nosniff",
					"Upgrade":                "",
				} {
					if got := res.Header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
			}
		})
	}
}

func TestAPlainRequestBeforeTheUpgradeOnTheSameConnection(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Dial(t, r)
	c.Put([]byte("GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n"))
	c.SetReadDeadline(time.Now().Add(wire.IOTimeout))
	res, err := http.ReadResponse(c.R, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("probe: %v %v", res, err)
	}
	io.Copy(io.Discard, res.Body)
	c.Login(wire.DefaultInfo)
	c.WantAlive()
}

// The answer to a probe and the upgrade's 101 come in the order of the requests, although the client
// did not wait.
func TestAProbeAndAnUpgradeInOneWrite(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Dial(t, r)
	c.Put([]byte("GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n"), wire.Head("DERP"), c.Info(wire.DefaultInfo))
	c.SetReadDeadline(time.Now().Add(wire.IOTimeout))
	res, err := http.ReadResponse(c.R, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("probe: %v %v", res, err)
	}
	io.Copy(io.Discard, res.Body)
	if h := c.ReadHead(); !strings.HasPrefix(h, "HTTP/1.1 101 ") {
		t.Fatalf("answer %q, want 101", h)
	}
	if err := c.ReadLogin(); err != nil {
		t.Fatal(err)
	}
	c.WantAlive()
}

func TestDERPSwitchedOffAnswers404(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-derp=false"}})
	for _, head := range [][]byte{wire.Head("DERP"), wire.FastHead()} {
		c := wire.Dial(t, r)
		c.Put(head)
		c.SetReadDeadline(time.Now().Add(wire.IOTimeout))
		res, err := http.ReadResponse(c.R, nil)
		body := relay.Body(t, res, err)
		if res.StatusCode != 404 || body != "derp server disabled\n" {
			t.Errorf("status %d, body %q: want 404 and \"derp server disabled\\n\"", res.StatusCode, body)
		}
	}
	for _, path := range []string{"/derp/probe", "/derp/latency-check"} {
		if res, body, err := r.Get(path); err != nil || res.StatusCode != 200 || len(body) != 0 {
			t.Errorf("%s: %v %q %v, want 200 without a body", path, res, body, err)
		}
	}
}

func TestTLSVersionsOlderThan12AreRefused(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	cfg := r.TLSConfig()
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := wire.DialError(t, r, cfg); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestOnePacketPerRecordAndManyPacketsPerRecordAreTheSame(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := wire.Login(t, r), wire.Login(t, r)
	var all, want []byte
	for i := range 20 {
		p := bytes.Repeat([]byte{byte(i)}, 37*i)
		all = append(all, wire.Encode(wire.SendPacket, wire.Raw(b.Pub), p)...)
		want = append(want, wire.Encode(wire.RecvPacket, wire.Raw(a.Pub), p)...)
	}
	a.Put(all)
	b.WantBytes(want)
	// The same with every record ending somewhere inside a frame.
	for len(all) > 0 {
		n := min(1+len(all)%97, len(all))
		a.Put(all[:n])
		all = all[n:]
	}
	b.WantBytes(want)
}
