package httpstun_test

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// leftOut are derper's metrics that Detour does not publish, by a prefix of their name in /debug/varz
// or /debug/vars, and why.
var leftOut = map[string]string{
	"go_":              "the runtime of Go",
	"memstats":         "the garbage collector of Go",
	"goroutines":       "there are none",
	"gauge_goroutines": "there are none",
	"cmdline":          "the command line may have secrets in it (-acme-eab-key), and anybody with access to metrics would read them",
}

// onlyOurs are metrics that Detour adds, and why.
var onlyOurs = map[string]string{
	"detour_":                    "what derper does not count",
	"detour.":                    "what derper does not count",
	"stun_no_local_addr":         "since v1.104",
	"stun.counter_no_local_addr": "since v1.104",
	`derper_tls_request_version{version="1.2"}`: "derper has it from the first use on; here it is there from the start",
	`derper_tls_active_version{version="1.2"}`:  "derper has it from the first use on; here it is there from the start",
	"derper_tls_request_version.1.2":            "derper has it from the first use on; here it is there from the start",
	"gauge_derper_tls_active_version.1.2":       "derper has it from the first use on; here it is there from the start",
}

func listed(table map[string]string, name string) bool {
	for prefix := range table {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// published is what one relay has: samples of /debug/varz with their labels but for values that are
// its own, types and help texts there, and the kinds of values in /debug/vars.
type published struct {
	samples map[string]bool
	types   map[string]string
	vars    map[string]string
}

func publishedBy(t *testing.T, bin string) published {
	t.Helper()
	rate := filepath.Join(t.TempDir(), "rate.json")
	if err := os.WriteFile(rate, []byte("{}"), 0600); err != nil {
		t.Fatal(err)
	}
	r := relay.Start(t, relay.Options{Binary: bin, Args: []string{"-rate-config", rate}})
	a, b := wire.Login(t, r), wire.Login(t, r)
	a.Send(b.Pub, []byte("x"))
	b.Want(wire.RecvPacket, wire.Raw(a.Pub), []byte("x"))
	if _, err := relay.STUNRequest(r.STUNAddr, timeout); err != nil {
		t.Fatal(err)
	}
	// Round-trip times are looked at every ten seconds from login on.
	if !relay.Poll(30*time.Second, func() bool {
		v, ok := r.Vars(t)["derp.counter_tcp_rtt.10ms"].(float64)
		return ok && v >= 2
	}) {
		t.Errorf("%s: no round-trip times of two clients after 20 s", bin)
	}
	p := published{map[string]bool{}, map[string]string{}, map[string]string{}}
	_, text, err := r.Get("/debug/varz")
	if err != nil {
		t.Fatal(err)
	}
	for name := range relay.ParseVarz(t, string(text)) {
		if strings.HasPrefix(name, "version{") {
			name = "version"
		}
		p.samples[name] = true
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" {
			p.types[f[2]] = f[3]
		}
	}
	for name, v := range r.Vars(t) {
		p.vars[name] = fmt.Sprintf("%T", v)
	}
	return p
}

// Every metric of derper is there, with its labels and type, but for those that are listed; and nothing
// is there that is not derper's or listed.
func TestMetricsAreThoseOfDerperNameByName(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "state is exchanged with derper") {
		return
	}
	theirs, ours := publishedBy(t, relay.DerperBinary(t)), publishedBy(t, relay.Binary(t))
	compare := func(what string, theirs, ours map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(theirs)) {
			if listed(leftOut, name) {
				if _, there := ours[name]; there {
					t.Errorf("%s: %s is there although it is listed as left out", what, name)
				}
				continue
			}
			if got, there := ours[name]; !there || got != theirs[name] {
				t.Errorf("%s: %s is %q (there: %v), derper has %q", what, name, got, there, theirs[name])
			}
		}
		for _, name := range slices.Sorted(maps.Keys(ours)) {
			if _, there := theirs[name]; !there && !listed(onlyOurs, name) {
				t.Errorf("%s: %s is neither derper's nor listed as ours", what, name)
			}
		}
	}
	asMap := func(set map[string]bool) map[string]string {
		m := map[string]string{}
		for name := range set {
			m[name] = "there"
		}
		return m
	}
	compare("/debug/varz", asMap(theirs.samples), asMap(ours.samples))
	compare("types in /debug/varz", theirs.types, ours.types)
	compare("/debug/vars", theirs.vars, ours.vars)
	if len(theirs.samples) < 150 || len(theirs.vars) < 80 {
		t.Errorf("derper publishes %d samples and %d variables: too few to be all", len(theirs.samples), len(theirs.vars))
	}
}

// noise are metrics that move by themselves or by looking at them.
func noise(name string) bool {
	for _, prefix := range []string{"process_", "go_", "memstats", "uptime_sec", "goroutines", "derp_current_file_descriptors",
		"derp_average_queue", "derp_buffered_write_frames", "derp_mesh_update", "derp_tcp_rtt", "tls_listener_accepted",
		"derper_tls_", "derp_memstats", "node_boot", "detour_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Each event moves the metrics that are named for it by just that much, and no others.
func TestEachEventMovesItsMetricsAlone(t *testing.T) {
	t.Parallel()
	type world struct {
		r    *relay.Relay
		a, b *wire.Conn
	}
	type deltas map[string]float64
	nobody := key.NewNode().Public()
	login := deltas{"derp_accepts": 1, "derp_current_connections": 1, "derp_clients_local": 1, "derp_clients_total": 1}
	meshKey := strings.Repeat("0a", 32)
	psk := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(psk, []byte(meshKey), 0o600); err != nil {
		t.Fatal(err)
	}
	meshPeer := func(t *testing.T, w *world) *wire.Conn {
		t.Helper()
		c := wire.Dial(t, w.r)
		c.Login(`{"version":2,"meshKey":"` + meshKey + `"}`)
		return c
	}
	stranger := key.NewNode().Public()
	// with is what a mesh peer's login moves, and more.
	with := func(base, more deltas) deltas {
		all := maps.Clone(base)
		for name, n := range more {
			all[name] += n
		}
		return all
	}
	cases := []struct {
		name   string
		event  func(t *testing.T, w *world)
		deltas deltas
	}{
		{"a mesh peer", func(t *testing.T, w *world) { meshPeer(t, w) }, login},
		{"a mesh peer that watches", func(t *testing.T, w *world) {
			c := meshPeer(t, w)
			c.Put(wire.Encode(wire.WatchConns))
			for range 3 {
				if f := c.Frame(); f.Type != wire.PeerPresent {
					t.Fatalf("got %v, want PeerPresent", f)
				}
			}
		}, with(login, deltas{"derp_watchers": 1})},
		{"a packet that a mesh peer forwards", func(t *testing.T, w *world) {
			meshPeer(t, w).Put(wire.Encode(wire.ForwardPacket, wire.Raw(stranger), wire.Raw(w.a.Pub), make([]byte, 50)))
			w.a.Want(wire.RecvPacket, wire.Raw(stranger), make([]byte, 50))
		}, with(login, deltas{"derp_packets_forwarded_in": 1, "derp_packets_sent": 1, "derp_bytes_sent": 50})},
		{"a forwarded packet for nobody", func(t *testing.T, w *world) {
			c := meshPeer(t, w)
			c.Put(wire.Encode(wire.ForwardPacket, wire.Raw(stranger), wire.Raw(nobody), make([]byte, 60)))
			c.WantAlive()
		}, with(login, deltas{"derp_packets_forwarded_in": 1, "derp_got_ping": 1, "derp_sent_pong": 1,
			`derp_packets_dropped{reason="unknown_dest_on_fwd",kind="other"}`: 1, `derp_bytes_dropped{reason="unknown_dest_on_fwd",kind="other"}`: 60})},
		{"a mesh peer has a client closed", func(t *testing.T, w *world) {
			meshPeer(t, w).Put(wire.Encode(wire.ClosePeer, wire.Raw(w.b.Pub)))
			w.b.WantClosed()
		}, deltas{"derp_accepts": 1}},
		{"a WebSocket that says nothing", func(t *testing.T, w *world) {
			c := wire.Dial(t, w.r)
			c.Put([]byte("GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: derp\r\n\r\n"))
			if head := c.ReadHead(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
				t.Fatalf("got %q", head)
			}
		}, deltas{"derp_websocket_accepts": 1, "derp_accepts": 1}},
		{"a question for a name that nobody published", func(t *testing.T, w *world) {
			if _, _, err := w.r.Get("/bootstrap-dns?q=a.example"); err != nil {
				t.Fatal(err)
			}
		}, deltas{"bootstrap_dns_requests": 1, "bootstrap_dns_unpublished_misses": 1, "bootstrap_dns_queried_domains": 1}},
		{"STUN over IPv6", func(t *testing.T, w *world) {
			if _, err := relay.STUNRequest(fmt.Sprintf("[::1]:%d", w.r.STUNPort), timeout); err != nil {
				t.Fatal(err)
			}
		}, deltas{`stun_requests{disposition="success"}`: 1, `stun_addrfamily{family="ipv6"}`: 1}},
		{"a login", func(t *testing.T, w *world) { wire.Login(t, w.r) }, login},
		{"a login that prefers another node", func(t *testing.T, w *world) {
			c := wire.Dial(t, w.r)
			c.Put(wire.Head("DERP", "Ideal-Node: 1a", "Derp-Fast-Start: 1"), c.Info(wire.DefaultInfo))
			if err := c.ReadLogin(); err != nil {
				t.Fatal(err)
			}
		}, deltas{"derp_accepts": 1, "derp_current_connections": 1, "derp_clients_local": 1, "derp_clients_total": 1, "derp_current_notideal_connections": 1}},
		{"a refused login", func(t *testing.T, w *world) {
			c := wire.Dial(t, w.r)
			c.Put(wire.FastHead(), c.Info("no JSON"))
			c.Want(wire.ServerKey, wire.Magic, wire.Raw(w.r.PublicKey))
			c.WantClosed()
		}, deltas{"derp_accepts": 1}},
		{"a second connection of one key", func(t *testing.T, w *world) { wire.LoginAs(t, w.r, w.a.Priv) },
			deltas{"derp_accepts": 1, "derp_current_connections": 1, "derp_current_dup_client_keys": 1, "derp_current_dup_client_conns": 2, "derp_total_dup_client_conns": 1}},
		{"a client leaves", func(t *testing.T, w *world) { w.b.Close() },
			deltas{"derp_current_connections": -1, "derp_clients_local": -1, "derp_clients_total": -1}},
		{"a client leaves that another heard of", func(t *testing.T, w *world) {
			w.b.Send(w.a.Pub, []byte("hello"))
			w.a.Want(wire.RecvPacket, wire.Raw(w.b.Pub), []byte("hello"))
			w.b.Close()
			w.a.Want(wire.PeerGone, wire.Raw(w.b.Pub), []byte{0})
		}, deltas{"derp_current_connections": -1, "derp_clients_local": -1, "derp_clients_total": -1, "derp_peer_gone_disconnected_frames": 1,
			"derp_packets_received": 1, "derp_packets_sent": 1, "derp_bytes_received": 5, "derp_bytes_sent": 5, `derp_packets_received_kind{kind="other"}`: 1}},
		{"a packet", func(t *testing.T, w *world) {
			w.a.Send(w.b.Pub, make([]byte, 1400))
			w.b.Want(wire.RecvPacket, wire.Raw(w.a.Pub), make([]byte, 1400))
		}, deltas{"derp_packets_received": 1, "derp_packets_sent": 1, "derp_bytes_received": 1400, "derp_bytes_sent": 1400, `derp_packets_received_kind{kind="other"}`: 1}},
		{"a disco packet", func(t *testing.T, w *world) {
			w.a.Send(w.b.Pub, wire.Disco(62))
			w.b.Want(wire.RecvPacket, wire.Raw(w.a.Pub), wire.Disco(62))
		}, deltas{"derp_packets_received": 1, "derp_packets_sent": 1, "derp_bytes_received": 62, "derp_bytes_sent": 62, `derp_packets_received_kind{kind="disco"}`: 1}},
		{"a packet for nobody", func(t *testing.T, w *world) {
			w.a.Send(nobody, make([]byte, 77))
			w.a.WantAlive() // The sender hears nothing of it.
		}, deltas{"derp_packets_received": 1, "derp_bytes_received": 77, `derp_packets_received_kind{kind="other"}`: 1, "derp_got_ping": 1, "derp_sent_pong": 1,
			`derp_packets_dropped{reason="unknown_dest",kind="other"}`: 1, `derp_bytes_dropped{reason="unknown_dest",kind="other"}`: 77}},
		{"a disco packet for nobody", func(t *testing.T, w *world) {
			w.a.Send(nobody, wire.Disco(70))
			w.a.Want(wire.PeerGone, wire.Raw(nobody), []byte{1})
		}, deltas{"derp_packets_received": 1, "derp_bytes_received": 70, `derp_packets_received_kind{kind="disco"}`: 1, "derp_peer_gone_not_here_frames": 1,
			`derp_packets_dropped{reason="unknown_dest",kind="disco"}`: 1, `derp_bytes_dropped{reason="unknown_dest",kind="disco"}`: 70}},
		{"a ping", func(t *testing.T, w *world) { w.a.WantAlive() }, deltas{"derp_got_ping": 1, "derp_sent_pong": 1}},
		{"a frame of an unknown type", func(t *testing.T, w *world) {
			w.a.Put(wire.Encode(0x77, []byte("what")))
			w.a.WantAlive()
		}, deltas{"derp_got_ping": 1, "derp_sent_pong": 1}},
		{"a client makes this its home", func(t *testing.T, w *world) {
			w.a.Put(wire.Encode(wire.NotePreferred, []byte{1}))
			w.a.WantAlive()
		}, deltas{"derp_current_home_connections": 1, "derp_got_ping": 1, "derp_sent_pong": 1}},
		{"STUN", func(t *testing.T, w *world) {
			if _, err := relay.STUNRequest(w.r.STUNAddr, timeout); err != nil {
				t.Fatal(err)
			}
		}, deltas{`stun_requests{disposition="success"}`: 1, `stun_addrfamily{family="ipv4"}`: 1}},
		{"a datagram that is not STUN", func(t *testing.T, w *world) { datagram(t, w.r.STUNAddr, "hello, is this STUN?") },
			deltas{`stun_requests{disposition="not_stun"}`: 1}},
		{"a probe of the latency", func(t *testing.T, w *world) {
			if _, _, err := w.r.Get("/derp/latency-check"); err != nil {
				t.Fatal(err)
			}
		}, deltas{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := &world{r: relay.Start(t, relay.Options{AnyIP: true, Args: []string{"-mesh-psk-file", psk}})}
			w.a, w.b = wire.Login(t, w.r), wire.Login(t, w.r)
			// The start itself asked for STUN and HTTP; from a state in which nothing moves any more.
			before := w.r.Varz(t)
			relay.Poll(30*time.Second, func() bool {
				before = w.r.Varz(t)
				return before["derp_current_connections"] == 2
			})
			c.event(t, w)
			differs := func() []string {
				after := w.r.Varz(t)
				var wrong []string
				for name := range after {
					if noise(name) {
						continue
					}
					if got, want := after[name]-before[name], c.deltas[name]; got != want {
						wrong = append(wrong, fmt.Sprintf("%s moved by %v, want %v", name, got, want))
					}
				}
				for name := range c.deltas {
					if _, there := after[name]; !there {
						wrong = append(wrong, name+" is not there")
					}
				}
				slices.Sort(wrong)
				return wrong
			}
			// Counters lag a little behind what a client sees, so they are looked at until they are right.
			if !relay.Poll(30*time.Second, func() bool { return len(differs()) == 0 }) {
				for _, s := range differs() {
					t.Error(s)
				}
			}
		})
	}
}

// datagram sends a text to a UDP address.
func datagram(t *testing.T, addr, text string) {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}
