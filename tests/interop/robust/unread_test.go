package robust_test

import (
	"bytes"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

// Peers that make the relay answer and never read the answers must not fill its memory.
func TestAnswersThatNobodyReadsCostNoMemory(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	w := watch(t, r)
	before := r.RSS(t)
	nobody := wire.Raw(wire.Login(t, r).Pub)
	for name, f := range map[string]func(c *wire.Conn) []byte{
		"requests": func(*wire.Conn) []byte { return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n") },
		"metrics":  func(*wire.Conn) []byte { return []byte("GET /debug/varz HTTP/1.1\r\nHost: x\r\n\r\n") },
		"pings": func(c *wire.Conn) []byte {
			c.Login(wire.DefaultInfo)
			return wire.Encode(wire.Ping, []byte("12345678"))
		},
		"packets to self": func(c *wire.Conn) []byte {
			c.Login(wire.DefaultInfo)
			return wire.Encode(wire.SendPacket, wire.Raw(c.Pub), make([]byte, 3000))
		},
		"disco to nobody": func(c *wire.Conn) []byte {
			c.Login(wire.DefaultInfo)
			return wire.Encode(wire.SendPacket, nobody[:31], []byte{0}, wire.Disco(62))
		},
	} {
		c := wire.Dial(t, r)
		batch := bytes.Repeat(f(c), 200)
		// Until the relay takes no more, ends it, or has had plenty.
		for range 2000 {
			c.Conn.SetWriteDeadline(time.Now().Add(700 * time.Millisecond))
			if _, err := c.Conn.Write(batch); err != nil {
				break
			}
			if grown := r.RSS(t) - before; grown > 120<<20 {
				t.Errorf("%s without reading the answers: the relay has grown by %d MiB", name, grown>>20)
				break
			}
		}
		c.Close()
	}
	w.check(t)
}
