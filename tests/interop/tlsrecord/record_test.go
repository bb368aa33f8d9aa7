// Package tlsrecord_test writes TLS 1.3 records by hand: what proper TLS libraries never send and
// every relay has to survive.
package tlsrecord_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	changeCipherSpec = 20
	alert            = 21
	handshake        = 22
	data             = 23
	plainMax         = 1 << 14
)

// half is one direction's keys.
type half struct {
	suite  uint16
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func (h *half) hash() func() hash.Hash {
	if h.suite == tls.TLS_AES_256_GCM_SHA384 {
		return sha512.New384
	}
	return sha256.New
}

// expand is HKDF-Expand-Label of RFC 8446 with an empty context.
func (h *half) expand(label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 "+label)))
	info = append(info, "tls13 "+label...)
	info = append(info, 0)
	out, err := hkdf.Expand(h.hash(), h.secret, string(info), n)
	if err != nil {
		panic(err)
	}
	return out
}

func (h *half) setKeys() {
	var err error
	switch h.suite {
	case tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384:
		n := 16
		if h.suite == tls.TLS_AES_256_GCM_SHA384 {
			n = 32
		}
		var block cipher.Block
		if block, err = aes.NewCipher(h.expand("key", n)); err == nil {
			h.aead, err = cipher.NewGCM(block)
		}
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		h.aead, err = chacha20poly1305.New(h.expand("key", 32))
	default:
		err = fmt.Errorf("cipher suite %x", h.suite)
	}
	if err != nil {
		panic(err)
	}
	h.iv = h.expand("iv", 12)
	h.seq = 0
}

// update goes on to the next keys (after a KeyUpdate).
func (h *half) update() {
	h.secret = h.expand("traffic upd", h.hash()().Size())
	h.setKeys()
}

func (h *half) nonce() []byte {
	n := bytes.Clone(h.iv)
	for i := range 8 {
		n[4+i] ^= byte(h.seq >> (56 - 8*i))
	}
	h.seq++
	return n
}

// seal makes a record of any content type with padding behind it.
func (h *half) seal(typ byte, content []byte, padding int) []byte {
	inner := append(append(bytes.Clone(content), typ), make([]byte, padding)...)
	return h.sealInner(inner)
}

func (h *half) sealInner(inner []byte) []byte {
	head := []byte{data, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(inner)+h.aead.Overhead()))
	return h.aead.Seal(head, h.nonce(), inner, head[:5:5])
}

// corked holds back what is written from the second write on until it is flushed.
type corked struct {
	net.Conn
	writes int
	held   []byte
}

func (c *corked) Write(b []byte) (int, error) {
	c.writes++
	if c.writes == 1 {
		return c.Conn.Write(b)
	}
	c.held = append(c.held, b...)
	return len(b), nil
}

// conn is a TLS 1.3 connection after the handshake, of which we hold the keys.
type conn struct {
	t       *testing.T
	tcp     net.Conn
	pending []byte // the client's Finished, not sent yet
	out, in half
	stream  bytes.Buffer // application data received and not read
	id      *wire.Conn   // key pair of the DERP client
}

// dial does the handshake; the client's Finished waits in pending until the first flush.
func dial(t *testing.T, r *relay.Relay) *conn {
	t.Helper()
	tcp, err := net.DialTimeout("tcp", r.Addr, wire.IOTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	tcp.SetDeadline(time.Now().Add(3 * wire.IOTimeout))
	cork := &corked{Conn: tcp}
	var keys bytes.Buffer
	cfg := r.TLSConfig()
	cfg.MinVersion = tls.VersionTLS13
	cfg.KeyLogWriter = &keys
	c := tls.Client(cork, cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	suite := c.ConnectionState().CipherSuite
	k := &conn{t: t, tcp: tcp, pending: cork.held, id: wire.New(t, r, tcp)}
	for line := range strings.Lines(keys.String()) {
		f := strings.Fields(line)
		h := map[string]*half{"CLIENT_TRAFFIC_SECRET_0": &k.out, "SERVER_TRAFFIC_SECRET_0": &k.in}[f[0]]
		if h == nil {
			continue
		}
		secret, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		h.suite, h.secret = suite, secret
		h.setKeys()
	}
	if k.out.aead == nil || k.in.aead == nil {
		t.Fatalf("no traffic secrets in %q", keys.String())
	}
	return k
}

// put writes bytes as they are, behind what is pending.
func (c *conn) put(b ...[]byte) {
	c.t.Helper()
	if err := c.tryPut(b...); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *conn) tryPut(b ...[]byte) error {
	all := append(c.pending, bytes.Join(b, nil)...)
	c.pending = nil
	c.tcp.SetWriteDeadline(time.Now().Add(wire.IOTimeout))
	_, err := c.tcp.Write(all)
	return err
}

// app makes records of application data.
func (c *conn) app(b []byte) []byte {
	var all []byte
	for len(b) > plainMax {
		all = append(all, c.out.seal(data, b[:plainMax], 0)...)
		b = b[plainMax:]
	}
	return append(all, c.out.seal(data, b, 0)...)
}

// record reads a record and opens it. Session tickets are skipped.
func (c *conn) record() (typ byte, content []byte, err error) {
	for {
		c.tcp.SetReadDeadline(time.Now().Add(wire.IOTimeout))
		head := make([]byte, 5)
		if _, err := io.ReadFull(c.tcp, head); err != nil {
			return 0, nil, err
		}
		body := make([]byte, binary.BigEndian.Uint16(head[3:]))
		if _, err := io.ReadFull(c.tcp, body); err != nil {
			return 0, nil, err
		}
		if head[0] != data || head[1] != 3 || head[2] != 3 {
			return 0, nil, fmt.Errorf("a record of type %d, version %d.%d: want 23, 3.3", head[0], head[1], head[2])
		}
		if len(body) > plainMax+256 {
			return 0, nil, fmt.Errorf("a record of %d bytes", len(body))
		}
		inner, err := c.in.aead.Open(nil, c.in.nonce(), body, head)
		if err != nil {
			return 0, nil, fmt.Errorf("record %d does not open: %w", c.in.seq-1, err)
		}
		inner = bytes.TrimRight(inner, "\x00")
		if len(inner) == 0 {
			return 0, nil, errors.New("a record without a content type")
		}
		if len(inner) > plainMax+1 {
			return 0, nil, fmt.Errorf("a record with %d bytes of content", len(inner)-1)
		}
		typ, content := inner[len(inner)-1], inner[:len(inner)-1]
		if typ == handshake && len(content) > 0 && content[0] == 4 {
			continue
		}
		return typ, content, nil
	}
}

// frame reads a DERP frame. KeyUpdates of the relay are followed, and counted.
func (c *conn) frame() (f wire.Frame, keyUpdates int, err error) {
	for {
		if b := c.stream.Bytes(); len(b) >= 5 {
			n := int(binary.BigEndian.Uint32(b[1:]))
			if len(b) >= 5+n {
				c.stream.Next(5)
				return wire.Frame{Type: b[0], Payload: bytes.Clone(c.stream.Next(n))}, keyUpdates, nil
			}
		}
		typ, content, err := c.record()
		if err != nil {
			return f, keyUpdates, err
		}
		switch {
		case typ == data:
			c.stream.Write(content)
		case typ == handshake && bytes.HasPrefix(content, []byte{24, 0, 0, 1}) && len(content) == 5:
			keyUpdates++
			c.in.update()
		case typ == alert:
			return f, keyUpdates, fmt.Errorf("alert %v", content)
		default:
			return f, keyUpdates, fmt.Errorf("a record of type %d: %x", typ, content)
		}
	}
}

func (c *conn) want(typ byte, payload []byte) (keyUpdates int) {
	c.t.Helper()
	f, n, err := c.frame()
	if err != nil {
		c.t.Fatalf("want frame 0x%02x, got %v", typ, err)
	}
	if f.Type != typ || payload != nil && !bytes.Equal(f.Payload, payload) {
		c.t.Fatalf("want frame 0x%02x %x, got %v", typ, payload, f)
	}
	return n
}

// loginBytes is request head and ClientInfo.
func (c *conn) loginBytes() []byte { return append(wire.FastHead(), c.id.Info(wire.DefaultInfo)...) }

func (c *conn) wantLogin() {
	c.t.Helper()
	c.want(wire.ServerKey, nil)
	c.want(wire.ServerInfo, nil)
}

func login(t *testing.T, r *relay.Relay) *conn {
	t.Helper()
	c := dial(t, r)
	c.put(c.app(c.loginBytes()))
	c.wantLogin()
	return c
}

func ping(text string) []byte { return wire.Encode(wire.Ping, []byte(text)) }

// alive checks that the connection works and gives the number of the relay's KeyUpdates on the way.
func (c *conn) alive() int {
	c.t.Helper()
	c.put(c.app(ping("are you?")))
	return c.want(wire.Pong, []byte("are you?"))
}

// wantClosed reads to the end; DERP frames must not come.
func (c *conn) wantClosed() {
	c.t.Helper()
	f, _, err := c.frame()
	if err == nil {
		c.t.Fatalf("want the end of the connection, got %v", f)
	}
	c.t.Logf("the relay ended it with: %v", err)
	// Behind an alert there must be an end, too.
	for !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatal("the connection is still open")
		}
		if _, ok := err.(*net.OpError); ok {
			return
		}
		c.tcp.SetReadDeadline(time.Now().Add(wire.IOTimeout))
		_, err = io.Copy(io.Discard, c.tcp)
		if err == nil {
			return
		}
	}
}

func keyUpdate(request byte) []byte { return []byte{24, 0, 0, 1, request} }

func TestRecordsThatAreUnusualButRight(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	cases := map[string]func(c *conn){
		"empty records between": func(c *conn) {
			for range 8 {
				c.put(c.out.seal(data, nil, 0))
			}
		},
		"empty padded records between": func(c *conn) {
			for range 8 {
				c.put(c.out.seal(data, nil, 100))
			}
		},
		"a little padding": func(c *conn) {
			c.put(c.out.seal(data, ping("padded 1"), 1))
			c.want(wire.Pong, []byte("padded 1"))
		},
		"as much padding as fits": func(c *conn) {
			p := ping("padded 2")
			c.put(c.out.seal(data, p, plainMax-len(p)))
			c.want(wire.Pong, []byte("padded 2"))
		},
		"the largest record": func(c *conn) {
			p := append(ping("largest1"), wire.Encode(0x7f, make([]byte, plainMax-2*13-5))...)
			p = append(p, ping("largest2")...)
			if len(p) != plainMax {
				c.t.Fatalf("test error: %d bytes", len(p))
			}
			c.put(c.out.seal(data, p, 0))
			f, _, err := c.frame()
			if err != nil || f.Type != wire.Pong {
				c.t.Fatalf("want a pong, got %v %v", f, err)
			}
			// The second ping may come while the pong waits; then it goes unanswered.
			if string(f.Payload) == "largest1" {
				c.put(c.app(ping("largest3")))
				for string(f.Payload) != "largest3" {
					if f, _, err = c.frame(); err != nil {
						c.t.Fatal(err)
					}
				}
			}
		},
		"one byte of content in each record": func(c *conn) {
			var all []byte
			for _, b := range ping("one each") {
				all = append(all, c.out.seal(data, []byte{b}, 0)...)
			}
			c.put(all)
			c.want(wire.Pong, []byte("one each"))
		},
		"one byte of a record in each segment": func(c *conn) {
			for _, b := range c.app(ping("bytewise")) {
				c.put([]byte{b})
			}
			c.want(wire.Pong, []byte("bytewise"))
		},
		"a record in two segments, at every place": func(c *conn) {
			for at := 1; at < 5+13+1+16; at++ {
				rec := c.app(ping("twoparts"))
				c.put(rec[:at])
				c.put(rec[at:])
				c.want(wire.Pong, []byte("twoparts"))
			}
		},
		"a thousand records in one segment": func(c *conn) {
			var all []byte
			for range 1000 {
				all = append(all, c.out.seal(data, wire.Encode(0x7f, []byte("x")), 0)...)
			}
			c.put(all, c.app(ping("lots of!")))
			c.want(wire.Pong, []byte("lots of!"))
		},
		"a packet of 64 KiB in odd records": func(c *conn) {
			p := bytes.Repeat([]byte("0123456789abcdef"), 4096)
			f := wire.Encode(wire.SendPacket, wire.Raw(c.id.Pub), p)
			for n := 1; len(f) > 0; n = n*7%16381 + 1 {
				n := min(n, len(f))
				c.put(c.out.seal(data, f[:n], n%50))
				f = f[n:]
			}
			c.want(wire.RecvPacket, append(wire.Raw(c.id.Pub), p...))
		},
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := login(t, r)
			f(c)
			c.alive()
		})
	}
}

// A relay that hands over from one TLS implementation to another after the handshake must not lose
// what came along with the client's Finished, wherever the network cuts it.
func TestBytesBehindFinishedInTheSameSegment(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	t.Run("all together", func(t *testing.T) {
		t.Parallel()
		c := dial(t, r)
		c.put(c.app(c.loginBytes()), c.app(ping("1234567x")))
		c.wantLogin()
		c.want(wire.Pong, []byte("1234567x"))
		c.alive()
	})
	t.Run("with a KeyUpdate behind Finished", func(t *testing.T) {
		t.Parallel()
		c := dial(t, r)
		update := c.out.seal(handshake, keyUpdate(0), 0)
		c.out.update()
		c.put(update, c.app(c.loginBytes()))
		c.wantLogin()
		c.alive()
	})
	// Cut around the end of Finished, of the first record's header, and of the records.
	model := dial(t, r)
	finished := len(model.pending)
	first := len(model.app(wire.FastHead()))
	for _, at := range []int{1, finished - 1, finished, finished + 1, finished + 4, finished + 5, finished + 6,
		finished + first - 1, finished + first, finished + first + 1, finished + first + 5, finished + first + 30} {
		t.Run(fmt.Sprintf("cut at %d of Finished's %d", at, finished), func(t *testing.T) {
			t.Parallel()
			c := dial(t, r)
			all := append(c.pending, c.app(wire.FastHead())...)
			all = append(all, c.app(c.id.Info(wire.DefaultInfo))...)
			c.pending = nil
			c.put(all[:at])
			if at < finished+first {
				// Nothing can come yet, except session tickets.
				c.tcp.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			}
			c.put(all[at:])
			c.wantLogin()
			c.alive()
		})
	}
}

func TestKeyUpdates(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	t.Run("not requested", func(t *testing.T) {
		t.Parallel()
		c := login(t, r)
		for range 5 {
			c.put(c.out.seal(handshake, keyUpdate(0), 0))
			c.out.update()
			if n := c.alive(); n != 0 {
				t.Fatalf("the relay changed its keys %d times without being asked", n)
			}
		}
	})
	t.Run("requested", func(t *testing.T) {
		t.Parallel()
		c := login(t, r)
		for i := range 5 {
			c.put(c.out.seal(handshake, keyUpdate(1), 0))
			c.out.update()
			if n := c.alive(); n != 1 {
				t.Fatalf("round %d: the relay changed its keys %d times, want once before its next data", i, n)
			}
		}
	})
	t.Run("between two halves of a frame", func(t *testing.T) {
		t.Parallel()
		c := login(t, r)
		p := ping("halfhalf")
		c.put(c.out.seal(data, p[:7], 0), c.out.seal(handshake, keyUpdate(1), 3))
		c.out.update()
		c.put(c.app(p[7:]))
		c.want(wire.Pong, []byte("halfhalf"))
		c.alive()
	})
	t.Run("in two records", func(t *testing.T) {
		t.Parallel()
		c := login(t, r)
		u := keyUpdate(0)
		c.put(c.out.seal(handshake, u[:2], 0), c.out.seal(handshake, u[2:], 0))
		c.out.update()
		c.alive()
	})
	t.Run("while packets come and go", func(t *testing.T) {
		t.Parallel()
		a, b := login(t, r), login(t, r)
		p := bytes.Repeat([]byte{7}, 3000)
		for i := range 40 {
			if i%3 == 0 {
				a.put(a.out.seal(handshake, keyUpdate(byte(i&1)), 0))
				a.out.update()
			}
			a.put(a.app(wire.Encode(wire.SendPacket, wire.Raw(b.id.Pub), p)))
			b.want(wire.RecvPacket, append(wire.Raw(a.id.Pub), p...))
			b.put(b.app(wire.Encode(wire.SendPacket, wire.Raw(a.id.Pub), p)))
			a.want(wire.RecvPacket, append(wire.Raw(b.id.Pub), p...))
		}
	})
	t.Run("change cipher spec, which Go skips and RFC 8446 forbids", func(t *testing.T) {
		t.Parallel()
		c, other := login(t, r), login(t, r)
		c.put([]byte{changeCipherSpec, 3, 3, 0, 1, 1})
		if c.tryPut(c.app(ping("12345678"))) == nil {
			if f, _, err := c.frame(); err == nil && (f.Type != wire.Pong || string(f.Payload) != "12345678") {
				t.Errorf("got %v, want a pong or the end", f)
			}
		}
		other.alive()
	})
	t.Run("a flood", func(t *testing.T) {
		t.Parallel()
		// The relay may end it, follow, or stop reading; it must not pile its answers up, and others go on.
		r := relay.Start(t, relay.Options{NoSTUN: true})
		c, other := login(t, r), login(t, r)
		before := r.RSS(t)
		for range 1000 {
			var batch []byte
			for range 300 {
				batch = append(batch, c.out.seal(handshake, keyUpdate(1), 0)...)
				c.out.update()
			}
			c.tcp.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.tcp.Write(batch); err != nil {
				break
			}
		}
		if grown := r.RSS(t) - before; grown > 30<<20 {
			t.Errorf("the relay has grown by %d MiB", grown>>20)
		}
		other.alive()
	})
}

func TestRecordsThatEndTheConnection(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	broken := func(change func(rec []byte)) func(c *conn) []byte {
		return func(c *conn) []byte { rec := c.app(ping("12345678")); change(rec); return rec }
	}
	cases := map[string]func(c *conn) []byte{
		"a changed byte":                     broken(func(rec []byte) { rec[9] ^= 1 }),
		"a changed tag":                      broken(func(rec []byte) { rec[len(rec)-1] ^= 0x80 }),
		"a record twice":                     func(c *conn) []byte { rec := c.app(wire.Encode(0x7f)); return append(bytes.Clone(rec), rec...) },
		"a record left out":                  func(c *conn) []byte { c.app(nil); return c.app(ping("12345678")) },
		"no room for a tag":                  func(c *conn) []byte { return []byte{data, 3, 3, 0, 5, 1, 2, 3, 4, 5} },
		"an empty record without protection": func(c *conn) []byte { return []byte{data, 3, 3, 0, 0} },
		"a record without a content type":    func(c *conn) []byte { return c.out.sealInner(make([]byte, 40)) },
		"a byte too much content":            func(c *conn) []byte { return c.out.seal(data, make([]byte, plainMax+1), 0) },
		"a length above any record":          func(c *conn) []byte { return append([]byte{data, 3, 3, 0x41, 1}, make([]byte, 20000)...) },
		"the largest length":                 func(c *conn) []byte { return append([]byte{data, 3, 3, 255, 255}, make([]byte, 70000)...) },
		"plain text":                         func(c *conn) []byte { return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n") },
		"an unknown content type":            func(c *conn) []byte { return c.out.seal(99, []byte("x"), 0) },
		"a heartbeat":                        func(c *conn) []byte { return c.out.seal(24, []byte{1, 0x40, 0}, 0) },
		"an alert without protection":        func(c *conn) []byte { return []byte{alert, 3, 3, 0, 2, 1, 0} },
		"a handshake without protection":     func(c *conn) []byte { return append([]byte{handshake, 3, 3, 0, 5}, keyUpdate(0)...) },
		"a fatal alert":                      func(c *conn) []byte { return c.out.seal(alert, []byte{2, 40}, 0) },
		"half an alert":                      func(c *conn) []byte { return c.out.seal(alert, []byte{1}, 0) },
		"close_notify":                       func(c *conn) []byte { return c.out.seal(alert, []byte{1, 0}, 0) },
		"a KeyUpdate of a wrong value":       func(c *conn) []byte { return c.out.seal(handshake, keyUpdate(2), 0) },
		"a KeyUpdate of two bytes":           func(c *conn) []byte { return c.out.seal(handshake, []byte{24, 0, 0, 2, 0, 0}, 0) },
		"an empty KeyUpdate":                 func(c *conn) []byte { return c.out.seal(handshake, []byte{24, 0, 0, 0}, 0) },
		"an empty handshake record":          func(c *conn) []byte { return c.out.seal(handshake, nil, 0) },
		"data within a KeyUpdate": func(c *conn) []byte {
			return append(c.out.seal(handshake, keyUpdate(0)[:3], 0), c.app(ping("12345678"))...)
		},
		"old keys after a KeyUpdate": func(c *conn) []byte {
			return append(c.out.seal(handshake, keyUpdate(0), 0), c.app(ping("12345678"))...)
		},
		"a session ticket": func(c *conn) []byte {
			return c.out.seal(handshake, append([]byte{4, 0, 0, 20}, make([]byte, 20)...), 0)
		},
		"a ClientHello": func(c *conn) []byte {
			return c.out.seal(handshake, append([]byte{1, 0, 0, 60}, make([]byte, 60)...), 0)
		},
		"a hello request": func(c *conn) []byte { return c.out.seal(handshake, []byte{0, 0, 0, 0}, 0) },
		"a Finished": func(c *conn) []byte {
			return c.out.seal(handshake, append([]byte{20, 0, 0, 32}, make([]byte, 32)...), 0)
		},
		"a handshake of 16 MiB":     func(c *conn) []byte { return c.out.seal(handshake, []byte{24, 255, 255, 255, 0}, 0) },
		"end of early data":         func(c *conn) []byte { return c.out.seal(handshake, []byte{5, 0, 0, 0}, 0) },
		"a certificate out of turn": func(c *conn) []byte { return c.out.seal(handshake, []byte{11, 0, 0, 4, 0, 0, 0, 0}, 0) },
	}
	bystander := login(t, r)
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			c := login(t, r)
			// Behind the offence there is a valid record under the keys of before: it must not be read.
			c.tryPut(f(c))
			c.wantClosed()
		})
	}
	bystander.alive()
}

// The end of one direction in the middle of a record is the end.
func TestATruncatedRecordIsTheEnd(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, n := range []int{1, 4, 5, 20} {
		c := login(t, r)
		c.put(c.app(ping("12345678"))[:n])
		c.tcp.(*net.TCPConn).CloseWrite()
		c.wantClosed()
	}
	if got := r.WantVar(t, "derp.gauge_current_connections", 0); got != 0 {
		t.Errorf("current_connections is %v, want 0", got)
	}
}

// TLS 1.2 with each of its suites, and RSA as well as ECDSA.
func TestTLS12Suites(t *testing.T) {
	t.Parallel()
	ecdsa := relay.Start(t, relay.Options{NoSTUN: true})
	for _, suite := range []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	} {
		t.Run(tls.CipherSuiteName(suite), func(t *testing.T) {
			t.Parallel()
			cfg := ecdsa.TLSConfig()
			cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{suite}
			a, err := wire.DialError(t, ecdsa, cfg)
			if err != nil {
				t.Fatal(err)
			}
			a.Login(wire.DefaultInfo)
			for _, n := range []int{0, 1, 1400, 16383, 16384, 65536} {
				p := bytes.Repeat([]byte{byte(n)}, n)
				a.Send(a.Pub, p)
				a.Want(wire.RecvPacket, wire.Raw(a.Pub), p)
			}
		})
	}
}

// Old and weak suites are not offered.
func TestWeakSuitesAreRefused(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, suite := range []uint16{
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA,
	} {
		cfg := r.TLSConfig()
		cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{suite}
		if c, err := wire.DialError(t, r, cfg); err == nil {
			t.Errorf("%s was accepted", tls.CipherSuiteName(suite))
			c.Close()
		}
	}
}

// Clients with only some of the curves, and a handshake that takes a second round.
func TestKeyExchangeGroups(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, curves := range [][]tls.CurveID{
		{tls.X25519}, {tls.CurveP256}, {tls.CurveP384}, {tls.X25519MLKEM768, tls.X25519}, {tls.CurveP521, tls.X25519}, {tls.CurveP521, tls.CurveP256},
	} {
		for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprint(curves, tls.VersionName(max)), func(t *testing.T) {
				t.Parallel()
				cfg := r.TLSConfig()
				cfg.CurvePreferences, cfg.MaxVersion = curves, max
				if max == tls.VersionTLS12 && !slices.Contains(curves, tls.CurveP256) {
					// In TLS 1.2 the list also says which curves a certificate may be on (RFC 8422, 5.1).
					cfg.CurvePreferences = append(slices.Clone(curves), tls.CurveP256)
				}
				c, err := wire.DialError(t, r, cfg)
				if err != nil {
					t.Fatal(err)
				}
				c.Login(wire.DefaultInfo)
				c.WantAlive()
			})
		}
	}
}
