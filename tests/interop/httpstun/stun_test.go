package httpstun_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

// attribute is one STUN attribute, padded to four bytes.
func attribute(typ uint16, value string) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// message is a STUN message: type, then the attributes, then FINGERPRINT over all of it.
func message(typ string, tx []byte, attributes ...[]byte) []byte {
	b := withoutFingerprint(typ, tx, 8, attributes...)
	b = append(b, 0x80, 0x28, 0, 4)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[:len(b)-4])^0x5354554e)
}

func withoutFingerprint(typ string, tx []byte, more int, attributes ...[]byte) []byte {
	body := bytes.Join(attributes, nil)
	b := []byte(typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)+more))
	b = append(b, 0x21, 0x12, 0xa4, 0x42)
	b = append(b, tx...)
	return append(b, body...)
}

// again puts a correct fingerprint on a message that was changed.
func again(b []byte) []byte {
	b = b[:len(b)-4]
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[:len(b)-4])^0x5354554e)
}

const binding = "\x00\x01"

func TestSTUNAnswersTailscalesRequestsAndNothingElse(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	software := attribute(0x8022, "tailnode")
	txid := func() []byte { b := make([]byte, 12); rand.Read(b); return b }
	change := func(f func(b []byte) []byte) func([]byte) []byte {
		return func(tx []byte) []byte { return f(message(binding, tx, software)) }
	}
	cases := []struct {
		name     string
		answered bool
		make     func(tx []byte) []byte
	}{
		{"a proper request", true, func(tx []byte) []byte { return message(binding, tx, software) }},
		{"an attribute before SOFTWARE", true, func(tx []byte) []byte { return message(binding, tx, attribute(0x0024, "abcd"), software) }},
		{"an attribute behind SOFTWARE", true, func(tx []byte) []byte { return message(binding, tx, software, attribute(0x8123, "abcde")) }},
		{"an attribute that must be understood", true, func(tx []byte) []byte { return message(binding, tx, software, attribute(0x0003, "\x00\x00\x00\x06")) }},
		{"SOFTWARE twice, the first one strange", true, func(tx []byte) []byte { return message(binding, tx, attribute(0x8022, "other"), software) }},
		{"SOFTWARE twice, the second one strange", true, func(tx []byte) []byte { return message(binding, tx, software, attribute(0x8022, "other")) }},
		{"a wrong length field", true, change(func(b []byte) []byte { b[3] = 0; return again(b) })},
		{"a long request", true, func(tx []byte) []byte {
			return message(binding, tx, software, attribute(0x8123, string(make([]byte, 400))))
		}},
		{"a request of 1,400 bytes", true, func(tx []byte) []byte {
			return message(binding, tx, software, attribute(0x8123, string(make([]byte, 1360))))
		}},
		{"a request of 60,000 bytes", true, func(tx []byte) []byte {
			return message(binding, tx, attribute(0x8123, string(make([]byte, 59960))), software)
		}},

		{"nothing", false, func([]byte) []byte { return nil }},
		{"one byte", false, func([]byte) []byte { return []byte{0} }},
		{"nineteen bytes", false, func(tx []byte) []byte { return message(binding, tx, software)[:19] }},
		{"a header alone", false, func(tx []byte) []byte { return withoutFingerprint(binding, tx, 0) }},
		{"a WebRTC request", false, func(tx []byte) []byte { return message(binding, tx, attribute(0x0006, "user:name")) }},
		{"no SOFTWARE", false, func(tx []byte) []byte { return message(binding, tx) }},
		{"another SOFTWARE", false, func(tx []byte) []byte { return message(binding, tx, attribute(0x8022, "stunnode")) }},
		{"a longer SOFTWARE", false, func(tx []byte) []byte { return message(binding, tx, attribute(0x8022, "tailnode2")) }},
		{"a shorter SOFTWARE", false, func(tx []byte) []byte { return message(binding, tx, attribute(0x8022, "tailnod")) }},
		{"SOFTWARE in capitals", false, func(tx []byte) []byte { return message(binding, tx, attribute(0x8022, "Tailnode")) }},
		{"no fingerprint", false, func(tx []byte) []byte { return withoutFingerprint(binding, tx, 0, software) }},
		{"a wrong fingerprint", false, change(func(b []byte) []byte { b[len(b)-1] ^= 1; return b })},
		{"a fingerprint of zeros", false, change(func(b []byte) []byte { return append(b[:len(b)-4], 0, 0, 0, 0) })},
		{"a changed transaction", false, change(func(b []byte) []byte { b[10] ^= 1; return b })},
		{"something behind the fingerprint", false, func(tx []byte) []byte { return append(message(binding, tx, software), attribute(0x8123, "abcd")...) }},
		{"a byte behind the fingerprint", false, func(tx []byte) []byte { return append(message(binding, tx, software), 0) }},
		{"cut by a byte", false, change(func(b []byte) []byte { return b[:len(b)-1] })},
		{"an attribute longer than the message", false, func(tx []byte) []byte {
			b := message(binding, tx, software)
			b[23] = 200
			return again(b)
		}},
		{"an attribute of 65535 bytes", false, func(tx []byte) []byte {
			b := message(binding, tx, software, []byte{0x81, 0x23, 0xff, 0xff})
			return again(b)
		}},
		{"a wrong cookie", false, change(func(b []byte) []byte { b[7] = 0x43; return again(b) })},
		{"no cookie (RFC 3489)", false, change(func(b []byte) []byte { copy(b[4:8], "\x00\x00\x00\x00"); return again(b) })},
		{"top bit set", false, change(func(b []byte) []byte { b[0] = 0x80; return again(b) })},
		{"second bit set", false, change(func(b []byte) []byte { b[0] = 0x40; return again(b) })},
		{"an indication", false, func(tx []byte) []byte { return message("\x00\x11", tx, software) }},
		{"a success response", false, func(tx []byte) []byte { return message("\x01\x01", tx, software) }},
		{"an allocate request", false, func(tx []byte) []byte { return message("\x00\x03", tx, software) }},
		{"random bytes", false, func([]byte) []byte { b := make([]byte, 500); rand.Read(b); return b }},
		{"zeros", false, func([]byte) []byte { return make([]byte, 1400) }},
		{"a huge datagram", false, func([]byte) []byte { return make([]byte, 60000) }},
		{"disco", false, func([]byte) []byte { return wire.Disco(100) }},
	}
	c, err := net.Dial("udp", r.STUNAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func(b []byte) {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	answer := func() []byte {
		buf := make([]byte, 2048)
		c.SetReadDeadline(time.Now().Add(timeout))
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		return buf[:n]
	}
	for _, row := range cases {
		t.Run(row.name, func(t *testing.T) {
			success, not := r.Var(t, "stun.counter_requests.success"), r.Var(t, "stun.counter_requests.not_stun")
			tx, proof := txid(), txid()
			ask(row.make(tx))
			// Datagrams on loopback keep their order: the answer to this one has to come next.
			ask(message(binding, proof, software))
			if row.answered {
				if got := answer(); !bytes.Equal(got[8:20], tx) || got[0] != 1 || got[1] != 1 {
					t.Fatalf("answer %x, want a success for transaction %x", got, tx)
				}
			}
			if got := answer(); !bytes.Equal(got[8:20], proof) {
				t.Fatalf("answer %x, want only the one for the proper request %x", got, proof)
			}
			wantSuccess, wantNot := success+1, not+1
			if row.answered {
				wantSuccess, wantNot = success+2, not
			}
			if got := r.WantVar(t, "stun.counter_requests.success", wantSuccess); got != wantSuccess {
				t.Errorf("success is %v, want %v", got, wantSuccess)
			}
			if got := r.WantVar(t, "stun.counter_requests.not_stun", wantNot); got != wantNot {
				t.Errorf("not_stun is %v, want %v", got, wantNot)
			}
		})
	}
}

// The request of the golden example, and the answer for our own address.
func TestSTUNGoldenBytes(t *testing.T) {
	t.Parallel()
	request := wire.Hex(`
		00 01 00 14 21 12 a4 42 10 11 12 13 14 15 16 17
		18 19 1a 1b 80 22 00 08 74 61 69 6c 6e 6f 64 65
		80 28 00 04 ac 27 62 61`)
	tx := request[8:20]
	cookie := request[4:8]
	xor := func(a []byte) []byte {
		mask := append(bytes.Clone(cookie), tx...)
		out := bytes.Clone(a)
		for i := range out {
			out[i] ^= mask[i]
		}
		return out
	}
	want4 := func(ip net.IP, port int) []byte {
		b := append(wire.Hex("01 01 00 0c 21 12 a4 42"), tx...)
		b = append(b, wire.Hex("00 20 00 08 00 01")...)
		b = binary.BigEndian.AppendUint16(b, uint16(port)^0x2112)
		return append(b, xor(ip.To4())...)
	}
	want6 := func(ip net.IP, port int) []byte {
		b := append(wire.Hex("01 01 00 18 21 12 a4 42"), tx...)
		b = append(b, wire.Hex("00 20 00 14 00 02")...)
		b = binary.BigEndian.AppendUint16(b, uint16(port)^0x2112)
		return append(b, xor(ip.To16())...)
	}
	// The helpers themselves against the published examples.
	if got, want := want4(net.ParseIP("203.0.113.7"), 41641), wire.Hex(`01 01 00 0c 21 12 a4 42 10 11 12 13 14 15 16 17 18 19 1a 1b 00 20 00 08 00 01 83 bb ea 12 d5 45`); !bytes.Equal(got, want) {
		t.Fatalf("test error: %x, want %x", got, want)
	}
	if got, want := want6(net.ParseIP("2001:db8::1"), 41641), wire.Hex(`01 01 00 18 21 12 a4 42 10 11 12 13 14 15 16 17 18 19 1a 1b 00 20 00 14 00 02 83 bb 01 13 a9 fa 10 11 12 13 14 15 16 17 18 19 1a 1a`); !bytes.Equal(got, want) {
		t.Fatalf("test error: %x, want %x", got, want)
	}

	v4 := relay.Start(t, relay.Options{})
	v6 := relay.Start(t, relay.Options{Host: "::1", ListenIP: "::1"})
	both := relay.Start(t, relay.Options{AnyIP: true})
	mapped := func(ip net.IP, port int) []byte { return want6(ip.To16(), port) }
	cases := []struct {
		name, addr string
		want       []func(net.IP, int) []byte // any of these
	}{
		{"IPv4", v4.STUNAddr, []func(net.IP, int) []byte{want4}},
		{"IPv6", v6.STUNAddr, []func(net.IP, int) []byte{want6}},
		{"IPv6 on all addresses", fmt.Sprintf("[::1]:%d", both.STUNPort), []func(net.IP, int) []byte{want6}},
		// derper answers with the mapped form here; clients take both.
		{"IPv4 on all addresses", fmt.Sprintf("127.0.0.1:%d", both.STUNPort), []func(net.IP, int) []byte{want4, mapped}},
	}
	for _, row := range cases {
		t.Run(row.name, func(t *testing.T) {
			c, err := net.Dial("udp", row.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Now().Add(timeout))
			got := make([]byte, 2048)
			n, err := c.Read(got)
			if err != nil {
				t.Fatal(err)
			}
			local := c.LocalAddr().(*net.UDPAddr)
			var wants [][]byte
			for _, f := range row.want {
				w := f(local.IP, local.Port)
				if bytes.Equal(got[:n], w) {
					return
				}
				wants = append(wants, w)
			}
			t.Errorf("answer %x, want one of %x", got[:n], wants)
		})
	}
	if got := v6.Var(t, "stun.counter_addrfamily.ipv6"); got < 1 {
		t.Errorf("stun addrfamily ipv6 is %v, want at least 1", got)
	}
}

// The answer comes from the address that was asked, which NAT and policy routing need.
func TestSTUNAnswersFromTheAddressThatWasAsked(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{AnyIP: true})
	if !relay.DetourOnly(t, "STUN answers from the address that was asked") {
		return
	}
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"} {
		// Not connected: the socket would take an answer from anywhere.
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		tx := make([]byte, 12)
		rand.Read(tx)
		if _, err := c.WriteTo(message(binding, tx, attribute(0x8022, "tailnode")), &net.UDPAddr{IP: net.ParseIP(ip), Port: r.STUNPort}); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2048)
		c.SetReadDeadline(time.Now().Add(timeout))
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			t.Fatalf("asking %s: %v", ip, err)
		}
		if got := from.(*net.UDPAddr); !got.IP.Equal(net.ParseIP(ip)) {
			t.Errorf("asked %s, the answer came from %s", ip, got.IP)
		}
	}
}

func TestSTUNSwitchedOff(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	if _, err := relay.STUNRequest(fmt.Sprintf("127.0.0.1:%d", r.STUNPort), 300*time.Millisecond); err == nil {
		t.Error("STUN answers with -stun=false")
	}
}

func TestSTUNAnswersManyAtOnce(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	c, err := net.Dial("udp", r.STUNAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const window, total = 32, 2000
	software := attribute(0x8022, "tailnode")
	waiting := map[string]bool{}
	buf := make([]byte, 2048)
	for i := range total {
		tx := make([]byte, 12)
		rand.Read(tx)
		waiting[string(tx)] = true
		if _, err := c.Write(message(binding, tx, software)); err != nil {
			t.Fatal(err)
		}
		for len(waiting) >= window || i == total-1 && len(waiting) > 0 {
			c.SetReadDeadline(time.Now().Add(timeout))
			n, err := c.Read(buf)
			if err != nil {
				t.Fatalf("%d answers are missing: %v", len(waiting), err)
			}
			if n < 20 || !waiting[string(buf[8:20])] {
				t.Fatalf("an answer nobody asked for: %x", buf[:n])
			}
			delete(waiting, string(buf[8:20]))
		}
	}
}
