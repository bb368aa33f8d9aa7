package mesh_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netmon"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

func regionOf(r *tailcfg.DERPRegion) func() *tailcfg.DERPRegion {
	return func() *tailcfg.DERPRegion { return r }
}

// startWithKey starts one relay with a mesh key and nobody to mesh with.
func startWithKey(t *testing.T) (*relay.Relay, string) {
	t.Helper()
	meshKey := newMeshKey()
	r := relay.Start(t, relay.Options{NoSTUN: true, HTTPPort: -1,
		Args: []string{"-mesh-psk-file", writeKey(t, " \t"+strings.ToUpper(meshKey)+"\r\n\n")}})
	return r, meshKey
}

func meshInfo(meshKey string) string {
	return fmt.Sprintf(`{"meshKey":"%s","version":2,"CanAckPings":false}`, meshKey)
}

func loginMesh(t *testing.T, r *relay.Relay, meshKey string) *wire.Conn {
	t.Helper()
	c := wire.Dial(t, r)
	c.Login(meshInfo(meshKey))
	return c
}

// present is a PeerPresent frame, taken apart.
type present struct {
	key   key.NodePublic
	addr  netip.AddrPort
	flags byte
	app   string
}

func readPresent(t *testing.T, f wire.Frame) present {
	t.Helper()
	if f.Type != wire.PeerPresent || len(f.Payload) < 51 {
		t.Fatalf("want PeerPresent with at least 51 bytes, got %v", f)
	}
	p := present{
		key:   key.NodePublicFromRaw32(memB(f.Payload[:32])),
		addr:  netip.AddrPortFrom(netip.AddrFrom16([16]byte(f.Payload[32:48])), binary.BigEndian.Uint16(f.Payload[48:])),
		flags: f.Payload[50],
	}
	rest := f.Payload[51:]
	if relay.DetourOnly(t, "PeerPresent carries the app name") {
		if len(rest) == 0 || int(rest[0]) != len(rest)-1 {
			t.Fatalf("behind the flags: %x, want a length and the app name", rest)
		}
		p.app = string(rest[1:])
	} else if len(rest) != 0 {
		t.Fatalf("%d bytes behind the flags", len(rest))
	}
	return p
}

func wantPresent(t *testing.T, got present, c *wire.Conn, flags byte, app string) {
	t.Helper()
	local := c.Conn.LocalAddr().(*net.TCPAddr).AddrPort()
	want := present{c.Pub, netip.AddrPortFrom(netip.AddrFrom16(local.Addr().As16()), local.Port()), flags, app}
	if relay.IsDerper() {
		want.app = ""
	}
	if got != want {
		t.Fatalf("PeerPresent\n got %+v\nwant %+v", got, want)
	}
}

func TestWatchConnsFloodsThenFollows(t *testing.T) {
	t.Parallel()
	r, meshKey := startWithKey(t)
	regular := wire.Login(t, r)
	prober := wire.Dial(t, r)
	prober.Login(`{"version":2,"IsProber":true}`)
	app := wire.Dial(t, r)
	app.Login(`{"version":2,"AppName":"an app of 32 printable letters.."}`)
	notIdeal := wire.Dial(t, r)
	notIdeal.Put(wire.Head("DERP", "Derp-Fast-Start: 1", "Ideal-Node: 9z"), notIdeal.Info(wire.DefaultInfo))
	if err := notIdeal.ReadLogin(); err != nil {
		t.Fatal(err)
	}
	watcher := loginMesh(t, r, meshKey)
	watcher.Quiet()

	who := map[key.NodePublic]struct {
		c     *wire.Conn
		flags byte
		app   string
	}{
		regular.Pub:  {regular, 1, ""},
		prober.Pub:   {prober, 4, ""},
		app.Pub:      {app, 1, "an app of 32 printable letters.."},
		notIdeal.Pub: {notIdeal, 8, ""},
		watcher.Pub:  {watcher, 2, ""},
	}
	for round := range 2 { // Asked again, the flood comes again.
		watcher.Put(wire.Encode(wire.WatchConns))
		seen := map[key.NodePublic]bool{}
		for range who {
			p := readPresent(t, watcher.Frame())
			w, ok := who[p.key]
			if !ok || seen[p.key] {
				t.Fatalf("round %d: PeerPresent for %v, seen before: %v", round, p.key, seen[p.key])
			}
			seen[p.key] = true
			wantPresent(t, p, w.c, w.flags, w.app)
		}
		watcher.Quiet()
	}
	if got := r.Var(t, "derp.gauge_watchers"); got != 1 {
		t.Errorf("gauge_watchers is %v, want 1", got)
	}

	// From then on each connection is told, and each key that leaves.
	priv := key.NewNode()
	one := wire.LoginAs(t, r, priv)
	wantPresent(t, readPresent(t, watcher.Frame()), one, 1, "")
	two := wire.LoginAs(t, r, priv)
	wantPresent(t, readPresent(t, watcher.Frame()), two, 1, "")
	one.Close()
	relay.Poll(timeout, func() bool { return r.Var(t, "derp.gauge_current_connections") == 6 })
	watcher.Quiet()
	two.Close()
	watcher.Want(wire.PeerGone, wire.Raw(priv.Public()), []byte{0})

	// A second watcher gets its own feed; one that leaves is no watcher any more.
	other := loginMesh(t, r, meshKey)
	wantPresent(t, readPresent(t, watcher.Frame()), other, 2, "")
	other.Put(wire.Encode(wire.WatchConns))
	for range 6 {
		readPresent(t, other.Frame())
	}
	regular.Close()
	for _, w := range []*wire.Conn{watcher, other} {
		w.Want(wire.PeerGone, wire.Raw(regular.Pub), []byte{0})
	}
	watcher.Close()
	other.Want(wire.PeerGone, wire.Raw(watcher.Pub), []byte{0})
	if got := r.WantVar(t, "derp.gauge_watchers", 1); got != 1 {
		t.Errorf("gauge_watchers is %v, want 1", got)
	}
}

func TestMeshFramesNeedTheMeshKey(t *testing.T) {
	t.Parallel()
	withKey, meshKey := startWithKey(t)
	without := relay.Start(t, relay.Options{NoSTUN: true, HTTPPort: -1})
	zero := strings.Repeat("0", 64)
	frames := map[string]func(c *wire.Conn) []byte{
		"WatchConns": func(*wire.Conn) []byte { return wire.Encode(wire.WatchConns) },
		"ClosePeer":  func(c *wire.Conn) []byte { return wire.Encode(wire.ClosePeer, wire.Raw(key.NewNode().Public())) },
		"ForwardPacket": func(c *wire.Conn) []byte {
			return wire.Encode(wire.ForwardPacket, wire.Raw(c.Pub), wire.Raw(key.NewNode().Public()), payload(10, 1))
		},
	}
	for _, c := range []struct {
		name    string
		r       *relay.Relay
		info    string
		allowed bool
	}{
		{"the key", withKey, meshInfo(meshKey), true},
		{"the key in capitals", withKey, meshInfo(strings.ToUpper(meshKey)), true},
		{"no key", withKey, wire.DefaultInfo, false},
		{"another key", withKey, meshInfo(newMeshKey()), false},
		{"the key but for its last digit", withKey, meshInfo(meshKey[:63] + map[bool]string{true: "1", false: "0"}[meshKey[63] == '0']), false},
		{"zeros", withKey, meshInfo(zero), false},
		{"a key where the relay has none", without, meshInfo(meshKey), false},
		{"zeros where the relay has none", without, meshInfo(zero), false},
	} {
		for name, frame := range frames {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				conn := wire.Dial(t, c.r)
				conn.Login(c.info)
				conn.WantAlive() // A wrong key is a client like any other.
				conn.Put(frame(conn))
				if !c.allowed {
					conn.WantClosed()
					return
				}
				conn.Put(wire.Encode(wire.Ping, []byte("12345678")))
				for {
					f := conn.Frame()
					if f.Type == wire.Pong {
						break
					}
					if f.Type != wire.PeerPresent && f.Type != wire.PeerGone {
						t.Fatalf("got %v", f)
					}
				}
			})
		}
	}
}

func TestForwardPacket(t *testing.T) {
	t.Parallel()
	r, meshKey := startWithKey(t)
	peer := loginMesh(t, r, meshKey)
	local := wire.Login(t, r)
	source := key.NewNode().Public()
	nobody := key.NewNode().Public()
	before := r.Vars(t)
	forward := func(to key.NodePublic, data []byte) []byte {
		return wire.Encode(wire.ForwardPacket, wire.Raw(source), wire.Raw(to), data)
	}
	for _, data := range [][]byte{{}, payload(1, 1), payload(1400, 2), wire.Disco(62), payload(64<<10, 3)} {
		peer.Put(forward(local.Pub, data))
		local.Want(wire.RecvPacket, wire.Raw(source), data)
	}
	peer.Put(forward(nobody, payload(100, 1)))
	peer.Quiet()
	peer.Put(forward(nobody, wire.Disco(100)))
	peer.Want(wire.PeerGone, wire.Raw(nobody), []byte{1})
	local.Send(source, wire.Disco(70)) // Where the source is, nobody said.
	local.Want(wire.PeerGone, wire.Raw(source), []byte{1})

	after := r.Vars(t)
	for name, want := range map[string]float64{
		"derp.packets_forwarded_in":      7,
		"derp.packets_forwarded_out":     0,
		"derp.packets_received":          1,
		"derp.packets_sent":              5,
		"derp.bytes_sent":                0 + 1 + 1400 + 62 + 64<<10,
		"derp.peer_gone_not_here_frames": 2,
	} {
		if got := after[name].(float64) - before[name].(float64); got != want {
			t.Errorf("%s moved by %v, want %v", name, got, want)
		}
	}
	varz := r.Varz(t)
	for _, kind := range []string{"disco", "other"} {
		name := fmt.Sprintf(`derp_packets_dropped{reason="unknown_dest_on_fwd",kind="%s"}`, kind)
		if varz[name] != 1 {
			t.Errorf("%s is %v, want 1", name, varz[name])
		}
	}
	peer.Put(wire.Header(wire.ForwardPacket, 64+64<<10+1), wire.Raw(source), wire.Raw(local.Pub))
	peer.WantClosed()
}

func TestSizesOfMeshFrames(t *testing.T) {
	t.Parallel()
	r, meshKey := startWithKey(t)
	for name, frame := range map[string][]byte{
		"WatchConns with a payload":        wire.Encode(wire.WatchConns, []byte{0}),
		"ClosePeer without a whole key":    wire.Encode(wire.ClosePeer, make([]byte, 31)),
		"ClosePeer with more than a key":   wire.Encode(wire.ClosePeer, make([]byte, 33)),
		"ForwardPacket without whole keys": wire.Encode(wire.ForwardPacket, make([]byte, 63)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := loginMesh(t, r, meshKey)
			c.Put(frame)
			c.WantClosed()
		})
	}
}

func TestClosePeerClosesAllConnectionsOfAKey(t *testing.T) {
	t.Parallel()
	r, meshKey := startWithKey(t)
	peer := loginMesh(t, r, meshKey)
	priv := key.NewNode()
	targets := []*wire.Conn{wire.LoginAs(t, r, priv), wire.LoginAs(t, r, priv), wire.LoginAs(t, r, priv)}
	bystander := wire.Login(t, r)
	peer.Put(wire.Encode(wire.ClosePeer, wire.Raw(key.NewNode().Public())))
	peer.WantAlive()
	for _, c := range targets {
		c.WantAlive()
	}
	peer.Put(wire.Encode(wire.ClosePeer, wire.Raw(priv.Public())))
	for _, c := range targets {
		c.WantClosed()
	}
	peer.WantAlive()
	bystander.WantAlive()
	if got := r.WantVar(t, "derp.gauge_current_connections", 2); got != 2 {
		t.Errorf("%v connections, want 2", got)
	}
	again := wire.LoginAs(t, r, priv) // It is no ban.
	again.WantAlive()
}

// TestOfficialWatchLoop runs the loop that derper itself runs for its mesh against a relay with more
// than a thousand clients.
func TestOfficialWatchLoop(t *testing.T) {
	t.Parallel()
	r, meshKey := startWithKey(t)
	const clients = 1200
	conns := make([]*wire.Conn, clients)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for i := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			c, err := wire.DialError(t, r, r.TLSConfig())
			if err == nil {
				err = c.LoginError(wire.DefaultInfo)
			}
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			conns[i] = c
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}

	var mu sync.Mutex
	here := map[key.NodePublic]bool{}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(here) }
	c := derphttp.NewRegionClient(key.NewNode(), func(string, ...any) {}, netmon.NewStatic(), regionOf(r.Region(900)))
	var err error
	if c.MeshKey, err = key.ParseDERPMesh(meshKey); err != nil {
		t.Fatal(err)
	}
	c.WatchConnectionChanges = true
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.RunWatchConnectionLoop(ctx, key.NewNode().Public(), nil,
			func(m derp.PeerPresentMessage) {
				mu.Lock()
				defer mu.Unlock()
				here[m.Key] = true
				if !m.IPPort.IsValid() || m.IPPort.Addr() != netip.MustParseAddr("127.0.0.1") || m.Flags == 0 {
					t.Errorf("PeerPresent %+v", m)
				}
			},
			func(m derp.PeerGoneMessage) {
				mu.Lock()
				defer mu.Unlock()
				delete(here, m.Peer)
			}, func(err error) {})
	}()
	defer func() { cancel(); c.Close(); <-done }()
	if !relay.Poll(timeout, func() bool { return count() == clients+1 }) {
		t.Fatalf("told of %d clients, want %d", count(), clients+1)
	}
	for _, conn := range conns {
		conn.Close()
	}
	if !relay.Poll(timeout, func() bool { return count() == 1 }) {
		t.Fatalf("%d clients are left, want the watcher alone", count())
	}
	varz := r.Varz(t)
	if got := varz["derp_mesh_update_batch_size_sum"]; got != 2*clients+1 {
		t.Errorf("derp_mesh_update_batch_size_sum is %v, want %d", got, 2*clients+1)
	}
	if got := varz["derp_mesh_update_loop_count_count"]; got == 0 {
		t.Error("derp_mesh_update_loop_count has no samples")
	}
}

// TestAWatcherThatReadsLate gets every event although its socket was full in between.
func TestAWatcherThatReadsLate(t *testing.T) {
	t.Parallel()
	r, meshKey := startWithKey(t)
	watcher := loginMesh(t, r, meshKey)
	// It reads nothing while several times what sockets hold is told: flood upon flood.
	residents := 200
	for range residents {
		wire.Login(t, r)
	}
	const floods = 600
	watcher.Put(bytes.Repeat(wire.Encode(wire.WatchConns), floods))
	counts := map[key.NodePublic]int{}
	for range floods * (residents + 1) {
		f := watcher.Frame()
		if f.Type != wire.PeerPresent {
			t.Fatalf("got %v", f)
		}
		counts[key.NodePublicFromRaw32(memB(f.Payload[:32]))]++
	}
	for k, n := range counts {
		if n != floods {
			t.Errorf("%v: told %d times, want %d", k, n, floods)
		}
	}
	watcher.Quiet()
}

// TestMeshPeersMayBeSlow lets a mesh peer take nothing for longer than clients may.
func TestMeshPeersMayBeSlow(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("left out with -short: takes seconds")
	}
	meshKey := newMeshKey()
	r := relay.Start(t, relay.Options{NoSTUN: true, HTTPPort: -1,
		Args: []string{"-mesh-psk-file", writeKey(t, meshKey), "-tcp-write-timeout=500ms"}})
	peer := loginMesh(t, r, meshKey)
	client := wire.Login(t, r)
	sender := wire.Login(t, r)
	for range 400 { // More than sockets and queues hold.
		sender.Send(client.Pub, payload(64<<10, 1))
		sender.Send(peer.Pub, payload(64<<10, 1))
	}
	if got := r.WantVar(t, "derp.sclient_write_timeouts", 1); got != 1 {
		t.Fatalf("%v write timeouts, want that of the client", got)
	}
	for {
		f, err := client.TryFrame(timeout)
		if err != nil {
			break
		}
		if f.Type != wire.RecvPacket {
			t.Fatalf("got %v", f)
		}
	}
	peer.Put(wire.Encode(wire.Ping, []byte("stillalv")))
	for {
		f := peer.Frame()
		if f.Type == wire.Pong {
			return
		}
	}
}

func TestMeshKeyFiles(t *testing.T) {
	t.Parallel()
	good := newMeshKey()
	for _, c := range []struct {
		name, content string
		works         bool
		says          string
	}{
		{"white space around it", "\n\t " + good + " \n\n", true, ""},
		{"capitals", strings.ToUpper(good), true, ""},
		{"empty: no mesh key", "", true, ""},
		{"white space alone", " \n", false, "white space"},
		{"a digit less", good[1:], false, "63"},
		{"a digit more", good + "0", false, "65"},
		{"no digit", "g" + good[1:], false, "hex"},
		{"two lines", good[:32] + "\n" + good[32:], false, "hex"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := writeKey(t, c.content)
			o := relay.Options{NoSTUN: true, HTTPPort: -1, Args: []string{"-mesh-psk-file", file}, NoWait: !c.works}
			r := relay.Start(t, o)
			if c.works {
				_, index, err := r.Get("/debug/")
				if err != nil {
					t.Fatal(err)
				}
				if got, want := strings.Contains(strings.ReplaceAll(string(index), "</b>", ""), "Mesh key: true"), c.content != ""; got != want {
					t.Errorf("/debug/ says that there is a mesh key: %v, want %v\n%s", got, want, index)
				}
				return
			}
			select {
			case <-r.Exited():
			case <-time.After(timeout):
				t.Fatal("it runs with a bad mesh key")
			}
			if r.ExitError() == nil {
				t.Error("it ended with status 0")
			}
			if relay.DetourOnly(t, "messages name the file and the mending") {
				for _, want := range []string{file, c.says, "openssl rand -hex 32"} {
					if !strings.Contains(r.Log(), want) {
						t.Errorf("the log does not say %q:\n%s", want, r.Log())
					}
				}
				if strings.Contains(strings.ToLower(r.Log()), good[1:20]) {
					t.Errorf("the log has a part of the key:\n%s", r.Log())
				}
			}
		})
	}
}
