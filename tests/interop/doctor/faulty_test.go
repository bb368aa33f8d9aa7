package doctor_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go4.org/mem"
	"tailscale.com/types/key"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

// faultyRelay speaks enough DERP for two clients, and hands packets over as deliver says: it gets each
// packet with its number and passes on what it likes.
type faultyRelay struct {
	key     key.NodePrivate
	deliver func(number int, packet []byte, pass func([]byte))

	mu      sync.Mutex
	sizes   map[int]int // packets of each size
	clients map[key.NodePublic]net.Conn
	packets int
}

// serve is for serveHTTP.
func (f *faultyRelay) serve(req *http.Request, c net.Conn) {
	switch {
	case strings.EqualFold(req.Header.Get("Upgrade"), "derp"):
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n")
		f.relay(c)
	case req.Header.Get("Upgrade") != "":
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	default:
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

func (f *faultyRelay) relay(c net.Conn) {
	c.Write(wire.Encode(wire.ServerKey, wire.Magic, wire.Raw(f.key.Public())))
	r := bufio.NewReader(c)
	typ, info, err := readFrame(r)
	if err != nil || typ != wire.ClientInfo || len(info) < 32 {
		return
	}
	client := key.NodePublicFromRaw32(mem.B(info[:32]))
	c.Write(wire.Encode(wire.ServerInfo, f.key.SealTo(client, []byte(`{"version":2}`))))
	f.mu.Lock()
	f.clients[client] = c
	f.mu.Unlock()
	for {
		typ, payload, err := readFrame(r)
		if err != nil {
			return
		}
		if typ == wire.SendPacket && len(payload) > 32 {
			f.hand(client, key.NodePublicFromRaw32(mem.B(payload[:32])), payload[32:])
		}
	}
}

func (f *faultyRelay) hand(from, to key.NodePublic, packet []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.packets++
	if f.sizes == nil {
		f.sizes = map[int]int{}
	}
	f.sizes[len(packet)]++
	f.deliver(f.packets, packet, func(b []byte) {
		if c := f.clients[to]; c != nil {
			c.Write(wire.Encode(wire.RecvPacket, wire.Raw(from), b))
		}
	})
}

func readFrame(r io.Reader) (typ byte, payload []byte, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, binary.BigEndian.Uint32(head[1:])&0xfffff)
	_, err = io.ReadFull(r, payload)
	return head[0], payload, err
}

// A relay that mistreats packets, which no path below TLS and TCP can do.
func TestARelayThatMistreatsPackets(t *testing.T) {
	t.Parallel()
	const row = 10 // of six packets of three sizes and then rows of sixteen: one in the first row
	ca := relay.NewCA()
	roots := write(t, "ca.pem", ca.PEM)
	var held []byte
	for _, c := range []struct {
		name    string
		deliver func(int, []byte, func([]byte))
		expect  expect
	}{
		{"well", func(_ int, b []byte, pass func([]byte)) { pass(b) }, expect{pass: []string{"D19"}}},
		{"other bytes", func(_ int, b []byte, pass func([]byte)) { b[0] ^= 1; pass(b) }, expect{fail: []string{"D19 damaged"}}},
		{"one is lost", func(n int, b []byte, pass func([]byte)) {
			if n != row {
				pass(b)
			}
		}, expect{fail: []string{"D19 loss"}}},
		{"one comes late", func(n int, b []byte, pass func([]byte)) {
			if n == row {
				held = append([]byte(nil), b...)
				return
			}
			pass(b)
			if n == row+1 {
				pass(held)
			}
		}, expect{warn: []string{"D19 order"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &faultyRelay{key: key.NewNode(), deliver: c.deliver, clients: map[key.NodePublic]net.Conn{}}
			addr := serveHTTP(t, ca, f.serve)
			doctor(t, target(addr), "--authorities", roots, "--stun-port", "off", "--timeout", "1").want(t, c.expect)
			if c.name != "well" {
				return
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, size := range []int{1, 1400, 65536} {
				if f.sizes[size] < 2 {
					t.Errorf("not both ways with %d bytes: %v", size, f.sizes)
				}
			}
		})
	}
}
