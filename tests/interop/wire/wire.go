// Package wire speaks DERP byte by byte, for tests that need to send what no proper client sends and
// to see exactly what comes back.
package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"golang.org/x/crypto/nacl/box"
	"tailscale.com/types/key"
)

// Frame types.
const (
	ServerKey     = 0x01
	ClientInfo    = 0x02
	ServerInfo    = 0x03
	SendPacket    = 0x04
	RecvPacket    = 0x05
	KeepAlive     = 0x06
	NotePreferred = 0x07
	PeerGone      = 0x08
	PeerPresent   = 0x09
	ForwardPacket = 0x0a
	WatchConns    = 0x10
	ClosePeer     = 0x11
	Ping          = 0x12
	Pong          = 0x13
	Health        = 0x14
	Restarting    = 0x15
)

// Magic begins the payload of a ServerKey frame: "DERP" and U+1F511.
var Magic = []byte{0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91}

// DiscoMagic begins a disco packet (of at least 62 bytes).
var DiscoMagic = []byte{0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac}

// IOTimeout bounds every single read and write in a test.
const IOTimeout = 30 * time.Second

// DefaultInfo is what an official client says of itself.
const DefaultInfo = `{"version":2,"CanAckPings":true,"IsProber":false}`

// Frame is one received frame.
type Frame struct {
	Type    byte
	Payload []byte
}

func (f Frame) String() string {
	p := f.Payload
	if len(p) > 80 {
		return fmt.Sprintf("frame 0x%02x with %d bytes %x...", f.Type, len(p), p[:80])
	}
	return fmt.Sprintf("frame 0x%02x with %d bytes %x", f.Type, len(p), p)
}

// Bytes is the frame on the wire.
func (f Frame) Bytes() []byte { return Encode(f.Type, f.Payload) }

// Encode gives a frame's bytes.
func Encode(typ byte, payload ...[]byte) []byte {
	p := bytes.Join(payload, nil)
	return append(Header(typ, uint32(len(p))), p...)
}

// Header gives the five bytes before a payload of n bytes.
func Header(typ byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{typ}, n)
}

// Hex turns a hex dump (white space ignored) into bytes.
func Hex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// Disco is a packet of n >= 62 bytes that relays recognise as disco.
func Disco(n int) []byte {
	b := make([]byte, n)
	copy(b, DiscoMagic)
	return b
}

// Raw is a key's 32 bytes.
func Raw(k key.NodePublic) []byte { return k.AppendTo(nil) }

// Head is the upgrade request that an official client sends, with extra header lines.
func Head(upgrade string, extra ...string) []byte {
	var b strings.Builder
	b.WriteString("GET /derp HTTP/1.1\r\nHost: derp1.example.com\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n")
	for _, line := range extra {
		b.WriteString(line + "\r\n")
	}
	if upgrade != "" {
		b.WriteString("Upgrade: " + upgrade + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// FastHead is the upgrade request of a client that knows the server key from the meta certificate.
func FastHead() []byte { return Head("DERP", "Derp-Fast-Start: 1") }

// Seal makes nonce, tag and box as they stand in ClientInfo and ServerInfo.
func Seal(priv key.NodePrivate, peer key.NodePublic, nonce *[24]byte, text []byte) []byte {
	peerRaw := peer.Raw32()
	privRaw := PrivRaw(priv)
	return box.Seal(nonce[:], text, nonce, &peerRaw, &privRaw)
}

// Open undoes Seal.
func Open(priv key.NodePrivate, peer key.NodePublic, b []byte) ([]byte, bool) {
	if len(b) < 24 {
		return nil, false
	}
	peerRaw, privRaw := peer.Raw32(), PrivRaw(priv)
	return box.Open(nil, b[24:], (*[24]byte)(b[:24]), &peerRaw, &privRaw)
}

// PrivRaw is a private key's 32 bytes.
func PrivRaw(priv key.NodePrivate) [32]byte {
	text, err := priv.MarshalText()
	if err != nil {
		panic(err)
	}
	return [32]byte(Hex(strings.TrimPrefix(string(text), "privkey:")))
}

// PrivateKey makes a key from 64 hex digits.
func PrivateKey(hexDigits string) key.NodePrivate {
	var k key.NodePrivate
	if err := k.UnmarshalText([]byte("privkey:" + hexDigits)); err != nil {
		panic(err)
	}
	return k
}

// InfoPayload is a ClientInfo payload around any plaintext.
func InfoPayload(priv key.NodePrivate, server key.NodePublic, json string) []byte {
	var nonce [24]byte
	rand.Read(nonce[:])
	return append(Raw(priv.Public()), Seal(priv, server, &nonce, []byte(json))...)
}

// Conn is one connection to a relay.
type Conn struct {
	net.Conn // TLS, or plain TCP
	R        *bufio.Reader
	Priv     key.NodePrivate
	Pub      key.NodePublic
	Server   key.NodePublic
	t        testing.TB
}

// DialError dials without failing the test.
func DialError(t testing.TB, r *relay.Relay, cfg *tls.Config) (*Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), IOTimeout)
	defer cancel()
	d := tls.Dialer{Config: cfg}
	nc, err := d.DialContext(ctx, "tcp", r.Addr)
	if err != nil {
		return nil, err
	}
	return New(t, r, nc), nil
}

// New wraps an open connection. It is closed at the end of the test.
func New(t testing.TB, r *relay.Relay, nc net.Conn) *Conn {
	priv := key.NewNode()
	c := &Conn{Conn: nc, R: bufio.NewReaderSize(nc, 128<<10), Priv: priv, Pub: priv.Public(), Server: r.PublicKey, t: t}
	t.Cleanup(func() { nc.Close() })
	return c
}

// Dial makes a TLS connection.
func Dial(t testing.TB, r *relay.Relay) *Conn {
	t.Helper()
	c, err := DialError(t, r, r.TLSConfig())
	if err != nil {
		t.Fatalf("TLS to the relay: %v", err)
	}
	return c
}

// DialTCP makes a TCP connection without TLS to addr.
func DialTCP(t testing.TB, r *relay.Relay, addr string) *Conn {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, IOTimeout)
	if err != nil {
		t.Fatalf("TCP to the relay: %v", err)
	}
	return New(t, r, nc)
}

// Login makes a connection that has logged in with a new key.
func Login(t testing.TB, r *relay.Relay) *Conn {
	t.Helper()
	c := Dial(t, r)
	c.Login(DefaultInfo)
	return c
}

// LoginAs is Login with a given key.
func LoginAs(t testing.TB, r *relay.Relay, priv key.NodePrivate) *Conn {
	t.Helper()
	c := Dial(t, r)
	c.Priv, c.Pub = priv, priv.Public()
	c.Login(DefaultInfo)
	return c
}

// Login sends head (fast start) and ClientInfo in one write and reads ServerKey and ServerInfo.
func (c *Conn) Login(info string) {
	c.t.Helper()
	if err := c.LoginError(info); err != nil {
		c.t.Fatalf("login: %v", err)
	}
}

// LoginError is Login that gives the error back.
func (c *Conn) LoginError(info string) error {
	if _, err := c.Write(append(FastHead(), c.Info(info)...)); err != nil {
		return err
	}
	return c.ReadLogin()
}

// ReadLogin reads ServerKey and ServerInfo and checks them.
func (c *Conn) ReadLogin() error {
	f, err := c.TryFrame(IOTimeout)
	if err != nil {
		return fmt.Errorf("reading ServerKey: %w", err)
	}
	if want := append(append([]byte{}, Magic...), Raw(c.Server)...); f.Type != ServerKey || !bytes.Equal(f.Payload, want) {
		return fmt.Errorf("first frame: %v, want ServerKey %x", f, want)
	}
	return c.ReadServerInfo()
}

// ReadServerInfo reads the second frame and checks it.
func (c *Conn) ReadServerInfo() error {
	f, err := c.TryFrame(IOTimeout)
	if err != nil {
		return fmt.Errorf("reading ServerInfo: %w", err)
	}
	if f.Type != ServerInfo {
		return fmt.Errorf("second frame: %v, want ServerInfo", f)
	}
	text, ok := Open(c.Priv, c.Server, f.Payload)
	if !ok {
		return errors.New("ServerInfo's box does not open")
	}
	if string(text) != `{"version":2}` {
		return fmt.Errorf("ServerInfo says %q, want {\"version\":2}", text)
	}
	return nil
}

// Info is this connection's ClientInfo frame around the JSON.
func (c *Conn) Info(json string) []byte {
	return Encode(ClientInfo, InfoPayload(c.Priv, c.Server, json))
}

// Write writes with a deadline.
func (c *Conn) Write(b []byte) (int, error) {
	c.Conn.SetWriteDeadline(time.Now().Add(IOTimeout))
	return c.Conn.Write(b)
}

// Put writes and fails the test when that does not work.
func (c *Conn) Put(b ...[]byte) {
	c.t.Helper()
	if _, err := c.Write(bytes.Join(b, nil)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// Send sends a packet to a peer.
func (c *Conn) Send(to key.NodePublic, packet []byte) {
	c.t.Helper()
	c.Put(Encode(SendPacket, Raw(to), packet))
}

// TryFrame reads a frame.
func (c *Conn) TryFrame(timeout time.Duration) (Frame, error) {
	c.Conn.SetReadDeadline(time.Now().Add(timeout))
	var h [5]byte
	if _, err := io.ReadFull(c.R, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > 1<<20 {
		return Frame{}, fmt.Errorf("frame 0x%02x of %d bytes: no client takes more than 1 MiB", h[0], n)
	}
	f := Frame{Type: h[0], Payload: make([]byte, n)}
	if _, err := io.ReadFull(c.R, f.Payload); err != nil {
		return Frame{}, fmt.Errorf("frame 0x%02x cut short: %w", h[0], err)
	}
	return f, nil
}

// Frame reads a frame and fails the test when none comes.
func (c *Conn) Frame() Frame {
	c.t.Helper()
	f, err := c.TryFrame(IOTimeout)
	if err != nil {
		c.t.Fatalf("reading a frame: %v", err)
	}
	return f
}

// Want reads a frame that has to be exactly this.
func (c *Conn) Want(typ byte, payload ...[]byte) {
	c.t.Helper()
	want := Frame{typ, bytes.Join(payload, nil)}
	f, err := c.TryFrame(IOTimeout)
	if err != nil {
		c.t.Fatalf("want %v, got error %v", want, err)
	}
	if f.Type != want.Type || !bytes.Equal(f.Payload, want.Payload) {
		c.t.Fatalf("want %v\ngot  %v", want, f)
	}
}

// WantBytes reads exactly these bytes.
func (c *Conn) WantBytes(want []byte) {
	c.t.Helper()
	got := make([]byte, len(want))
	c.Conn.SetReadDeadline(time.Now().Add(IOTimeout))
	n, err := io.ReadFull(c.R, got)
	if !bytes.Equal(got[:n], want) {
		c.t.Fatalf("want bytes\n%sgot (error %v)\n%s", hex.Dump(want), err, hex.Dump(got[:n]))
	}
}

// WantClosed reads until the relay closes the connection, which it has to do without sending
// anything before, within the time limit of any read.
func (c *Conn) WantClosed() {
	c.t.Helper()
	c.WantClosedWithin(IOTimeout)
}

// WantClosedWithin is WantClosed with another limit.
func (c *Conn) WantClosedWithin(d time.Duration) {
	c.t.Helper()
	f, err := c.TryFrame(d)
	if err == nil {
		c.t.Fatalf("want the connection closed, got %v", f)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("want the connection closed, it is still open after %v", d)
	}
}

// WantAlive checks that the connection still works: a ping comes back, and nothing comes before it.
func (c *Conn) WantAlive() {
	c.t.Helper()
	var data [8]byte
	rand.Read(data[:])
	c.Put(Encode(Ping, data[:]))
	c.Want(Pong, data[:])
}

// Quiet checks that the relay has nothing more to say: a ping is answered by the pong alone.
func (c *Conn) Quiet() { c.t.Helper(); c.WantAlive() }

// ReadHead reads a response head up to and with the blank line.
func (c *Conn) ReadHead() string {
	c.t.Helper()
	c.Conn.SetReadDeadline(time.Now().Add(IOTimeout))
	var b strings.Builder
	for {
		line, err := c.R.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			c.t.Fatalf("reading a response head: %v after %q", err, b.String())
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}
