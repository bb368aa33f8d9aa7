package protocol_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

const meshKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestClientInfoJSON(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	zeros := strings.Repeat("0", 64)
	const appNames = "app names are checked"
	cases := []struct {
		name       string
		json       string
		ok         bool
		detourOnly string
	}{
		{"an official client", wire.DefaultInfo, true, ""},
		{"empty object", `{}`, true, ""},
		{"white space around", " \t\r\n { \"version\" : 2 } \n ", true, ""},
		{"null", `null`, true, ""},
		{"another version", `{"version":1}`, true, ""},
		{"negative version", `{"version":-7}`, true, ""},
		{"names in other case", `{"Version":2,"canackpings":true,"ISPROBER":false,"APPNAME":"x"}`, true, ""},
		{"unknown fields", `{"version":2,"Future":{"deep":[1,2,{"x":null}]},"y":1e300,"z":"\u0000"}`, true, ""},
		{"a key twice, the last one bad", `{"version":2,"version":"2"}`, false, ""},
		{"a key twice, the first one bad", `{"version":"2","version":2}`, false, ""},
		{"a key twice, both good", `{"version":1,"version":2,"VERSION":3}`, true, ""},
		{"known fields null", `{"version":null,"CanAckPings":null,"IsProber":null,"AppName":null}`, true, ""},
		{"escapes in names", `{"\u0076ersion":2}`, true, ""},
		{"escaped name, wrong type", `{"\u0076ersion":"2"}`, false, ""},

		{"no JSON", `hello`, false, ""},
		{"nothing", ``, false, ""},
		{"white space alone", ` `, false, ""},
		{"cut short", `{"version":2`, false, ""},
		{"something behind", `{"version":2} x`, false, ""},
		{"two objects", `{}{}`, false, ""},
		{"trailing comma", `{"version":2,}`, false, ""},
		{"comment", `{"version":2 /* x */}`, false, ""},
		{"single quotes", `{'version':2}`, false, ""},
		{"bare name", `{version:2}`, false, ""},
		{"NUL behind", "{}\x00", false, ""},
		{"array", `[]`, false, ""},
		{"string", `"version"`, false, ""},
		{"number", `2`, false, ""},
		{"true", `true`, false, ""},
		{"control byte in a string", "{\"x\":\"a\nb\"}", false, ""},
		{"leading zero", `{"version":02}`, false, ""},
		{"plus sign", `{"version":+2}`, false, ""},
		{"hexadecimal", `{"version":0x2}`, false, ""},
		{"NaN", `{"x":NaN}`, false, ""},
		{"bad escape", `{"x":"\q"}`, false, ""},
		{"no UTF-8 in an unknown string", "{\"x\":\"a\xffb\xc3\",\"version\":2}", true, ""},
		{"no UTF-8 in an unknown name", "{\"\xed\xa0\x80\":1}", true, ""},
		{"no UTF-8 outside strings", "{\"x\":1}\xff", false, ""},

		{"nested 1,000 deep", `{"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, true, ""},
		{"nested 120,000 deep", `{"x":` + strings.Repeat("[", 120000) + strings.Repeat("]", 120000) + `}`, false, ""},
		{"nested 120,000 deep and never closed", strings.Repeat(`{"x":`, 30000), false, ""},

		{"version as string", `{"version":"2"}`, false, ""},
		{"version as fraction", `{"version":2.5}`, false, ""},
		{"version as 2.0", `{"version":2.0}`, false, ""},
		{"version as 2e0", `{"version":2e0}`, false, ""},
		{"version of 20 digits", `{"version":99999999999999999999}`, false, ""},
		{"version at the limit of 64 bits", `{"version":9223372036854775807}`, true, ""},
		{"version one above the limit of 64 bits", `{"version":9223372036854775808}`, false, ""},
		{"version as bool", `{"version":true}`, false, ""},
		{"version as object", `{"version":{}}`, false, ""},
		{"CanAckPings as number", `{"CanAckPings":1}`, false, ""},
		{"CanAckPings as string", `{"CanAckPings":"true"}`, false, ""},
		{"IsProber as string", `{"IsProber":"yes"}`, false, ""},
		{"IsProber as array", `{"isProber":[]}`, false, ""},
		{"AppName as number", `{"AppName":1}`, false, ""},
		{"AppName as array", `{"appname":["x"]}`, false, ""},

		{"mesh key that does not fit", `{"meshKey":"` + meshKey + `"}`, true, ""},
		{"mesh key in upper case", `{"meshKey":"` + strings.ToUpper(meshKey) + `"}`, true, ""},
		{"mesh key of zeros", `{"meshKey":"` + zeros + `"}`, true, ""},
		{"mesh key under another case", `{"MeshKey":"` + meshKey + `"}`, true, ""},
		{"mesh key empty", `{"meshKey":""}`, false, ""},
		{"mesh key null", `{"meshKey":null}`, false, ""},
		{"mesh key of 63 digits", `{"meshKey":"` + meshKey[1:] + `"}`, false, ""},
		{"mesh key of 65 digits", `{"meshKey":"` + meshKey + `0"}`, false, ""},
		{"mesh key with a blank", `{"meshKey":" ` + meshKey + `"}`, false, ""},
		{"mesh key no hex", `{"meshKey":"` + strings.Repeat("g", 64) + `"}`, false, ""},
		{"mesh key as number", `{"meshKey":1}`, false, ""},
		{"mesh key under another case, bad", `{"MESHKEY":"x"}`, false, ""},

		{"app name", `{"AppName":"tsnet"}`, true, ""},
		{"app name empty", `{"AppName":""}`, true, ""},
		{"app name of 32 bytes", `{"AppName":"` + strings.Repeat("a", 32) + `"}`, true, ""},
		{"app name from first to last printable", `{"AppName":" !~"}`, true, ""},
		{"app name of 33 bytes", `{"AppName":"` + strings.Repeat("a", 33) + `"}`, false, appNames},
		{"app name below printable", `{"AppName":"a\u001fb"}`, false, appNames},
		{"app name above printable", `{"AppName":"a\u007fb"}`, false, appNames},
		{"app name in UTF-8", `{"AppName":"caf\u00e9"}`, false, appNames},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.detourOnly != "" && !relay.DetourOnly(t, c.detourOnly) {
				return
			}
			conn := wire.Dial(t, r)
			conn.Put(wire.FastHead(), conn.Info(c.json))
			conn.Want(wire.ServerKey, wire.Magic, wire.Raw(r.PublicKey))
			if !c.ok {
				conn.WantClosed()
				return
			}
			if err := conn.ReadServerInfo(); err != nil {
				t.Fatalf("%s: %v", c.json, err)
			}
			conn.WantAlive()
		})
	}
}

func TestClientInfoSizes(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	const overhead = 32 + 24 + 16
	cases := []struct {
		name string
		size int // of the payload; JSON is padded to fit
		ok   bool
	}{
		{"empty", 0, false},
		{"one below key and nonce", 55, false},
		{"key and nonce without a box", 56, false},
		{"one below key, nonce and tag", 71, false},
		{"box of nothing", 72, false},
		{"the smallest JSON", 74, true},
		{"more than one TLS record", 20000, true},
		{"the limit", 262144, true},
		{"one above the limit", 262145, false},
		{"sixteen times the limit", 1 << 22, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := wire.Dial(t, r)
			var payload []byte
			if c.size < overhead {
				payload = append(wire.Raw(conn.Pub), make([]byte, 40)...)[:c.size]
			} else {
				json := strings.Repeat(" ", c.size-overhead)
				if len(json) >= 2 {
					json = "{" + json[2:] + "}"
				}
				payload = wire.InfoPayload(conn.Priv, r.PublicKey, json)
			}
			if len(payload) != c.size {
				t.Fatalf("test error: payload of %d bytes, want %d", len(payload), c.size)
			}
			// The relay may close before all of it is sent, so write errors are fine here.
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn.Write(append(wire.FastHead(), wire.Encode(wire.ClientInfo, payload)...))
			}()
			conn.Want(wire.ServerKey, wire.Magic, wire.Raw(r.PublicKey))
			if c.ok {
				if err := conn.ReadServerInfo(); err != nil {
					t.Fatal(err)
				}
				<-done
				conn.WantAlive()
			} else {
				conn.WantClosed()
				conn.Close()
				<-done
			}
		})
	}
}

// A length above the limit is refused from the header alone: the relay must not wait for the payload
// (nor make room for it).
func TestClientInfoAboveTheLimitIsRefusedFromItsHeader(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, n := range []uint32{55, 262145, 1 << 31, 1<<32 - 1} {
		c := wire.Dial(t, r)
		c.Put(wire.FastHead(), wire.Header(wire.ClientInfo, n))
		c.Want(wire.ServerKey, wire.Magic, wire.Raw(r.PublicKey))
		c.WantClosedWithin(wire.IOTimeout / 2)
	}
}

func TestLoginsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	zero := make([]byte, 32)
	cases := []struct {
		name  string
		frame func(c *wire.Conn) []byte
	}{
		{"zero key", func(c *wire.Conn) []byte {
			p := wire.InfoPayload(c.Priv, r.PublicKey, wire.DefaultInfo)
			copy(p, zero)
			return wire.Encode(wire.ClientInfo, p)
		}},
		{"zero key and zero box", func(c *wire.Conn) []byte { return wire.Encode(wire.ClientInfo, make([]byte, 200)) }},
		{"another's key", func(c *wire.Conn) []byte {
			p := wire.InfoPayload(c.Priv, r.PublicKey, wire.DefaultInfo)
			copy(p, wire.Raw(privateKeys(1)[0].Public()))
			return wire.Encode(wire.ClientInfo, p)
		}},
		{"sealed for another server", func(c *wire.Conn) []byte {
			return wire.Encode(wire.ClientInfo, wire.InfoPayload(c.Priv, privateKeys(1)[0].Public(), wire.DefaultInfo))
		}},
		{"a flipped bit in the box", func(c *wire.Conn) []byte {
			p := wire.InfoPayload(c.Priv, r.PublicKey, wire.DefaultInfo)
			p[len(p)-1] ^= 1
			return wire.Encode(wire.ClientInfo, p)
		}},
		{"a flipped bit in the tag", func(c *wire.Conn) []byte {
			p := wire.InfoPayload(c.Priv, r.PublicKey, wire.DefaultInfo)
			p[56] ^= 0x80
			return wire.Encode(wire.ClientInfo, p)
		}},
		{"a flipped bit in the nonce", func(c *wire.Conn) []byte {
			p := wire.InfoPayload(c.Priv, r.PublicKey, wire.DefaultInfo)
			p[40] ^= 1
			return wire.Encode(wire.ClientInfo, p)
		}},
		{"random bytes", func(c *wire.Conn) []byte {
			p := make([]byte, 200)
			rand.Read(p)
			return wire.Encode(wire.ClientInfo, p)
		}},
		{"a ping first", func(c *wire.Conn) []byte {
			return append(wire.Encode(wire.Ping, []byte("12345678")), c.Info(wire.DefaultInfo)...)
		}},
		{"a packet first", func(c *wire.Conn) []byte {
			return append(wire.Encode(wire.SendPacket, wire.Raw(c.Pub), []byte("x")), c.Info(wire.DefaultInfo)...)
		}},
		{"an unknown frame first", func(c *wire.Conn) []byte {
			return append(wire.Encode(0x7f, []byte("x")), c.Info(wire.DefaultInfo)...)
		}},
		{"an empty frame of type 0 first", func(c *wire.Conn) []byte {
			return append(wire.Encode(0), c.Info(wire.DefaultInfo)...)
		}},
		{"the server's own frame first", func(c *wire.Conn) []byte {
			return wire.Encode(wire.ServerKey, wire.Magic, wire.Raw(r.PublicKey))
		}},
		{"HTTP first", func(c *wire.Conn) []byte { return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := wire.Dial(t, r)
			conn.Put(wire.FastHead(), c.frame(conn))
			conn.Want(wire.ServerKey, wire.Magic, wire.Raw(r.PublicKey))
			conn.WantClosed()
		})
	}
	// The relay is none the worse for it.
	t.Cleanup(func() {
		c := wire.Login(t, r)
		c.WantAlive()
		if n := r.WantVar(t, "derp.gauge_current_connections", 1); n != 1 {
			t.Errorf("connections counted: %v, want 1", n)
		}
	})
}

// A client that leaves in the middle of its login leaves nothing behind.
func TestLoginsCutShort(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	model := wire.Dial(t, r)
	all := append(wire.FastHead(), model.Info(wire.DefaultInfo)...)
	for i := 0; i < len(all); i += 7 {
		c := wire.Dial(t, r)
		c.Put(all[:i])
		c.Close()
	}
	c := wire.Login(t, r)
	c.WantAlive()
	if n := r.WantVar(t, "derp.gauge_current_connections", 1); n != 1 {
		t.Errorf("connections counted: %v, want 1", n)
	}
}
