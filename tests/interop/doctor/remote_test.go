package doctor_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

func pinOf(chain string) string {
	sum := sha256.Sum256(ders(chain)[0])
	return "sha256-raw:" + hex.EncodeToString(sum[:])
}

// TestCertificates puts a server with one fault in its certificate before a healthy relay: the rest
// works, and only the fault is named.
func TestCertificates(t *testing.T) {
	t.Parallel()
	const name = "derp.example.test"
	root := relay.NewCA()
	middle := root.Intermediate()
	other := relay.NewCA()
	backend := plainRelay(t)
	dns := serveDNS(t, records{name: {"127.0.0.1"}})
	roots := write(t, "roots.pem", root.PEM)
	full, fullKey := middle.For(name)
	leaf, leafKey := middle.Issue(relay.Leaf{Names: []string{name}})
	deep := middle.Intermediate()
	incomplete, incompleteKey := deep.Issue(relay.Leaf{Names: []string{name}})
	deepLeaf, deepKey := deep.Issue(relay.Leaf{Names: []string{name}})
	private, privateKey := other.Issue(relay.Leaf{Names: []string{name}})
	strange, strangeKey := middle.For("www.example.net")
	now := time.Now()
	issue := func(l relay.Leaf) (string, string) {
		l.Names = []string{name}
		c, k := middle.Issue(l)
		return c + middle.Chain, k
	}
	expired, expiredKey := issue(relay.Leaf{NotBefore: now.Add(-90 * 24 * time.Hour), NotAfter: now.Add(-time.Hour)})
	early, earlyKey := issue(relay.Leaf{NotBefore: now.Add(time.Hour), NotAfter: now.Add(90 * 24 * time.Hour)})
	soon, soonKey := issue(relay.Leaf{NotBefore: now.Add(-80 * 24 * time.Hour), NotAfter: now.Add(10 * 24 * time.Hour)})
	short, shortKey := issue(relay.Leaf{NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(5 * 24 * time.Hour)})
	weakRSA, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, weakKey := issue(relay.Leaf{Key: weakRSA})
	selfSigned, selfKey := selfSign(t, name, now.Add(-time.Hour), now.Add(24*365*time.Hour))
	selfExpired, selfExpiredKey := selfSign(t, name, now.Add(-48*time.Hour), now.Add(-time.Hour))
	selfOther, selfOtherKey := selfSign(t, "www.example.net", now.Add(-time.Hour), now.Add(24*365*time.Hour))

	works := []string{"D04", "D13", "D16", "D18", "D19", "D22"}
	stunOnly := []string{"D23 stun-only"}
	for _, c := range []struct {
		name   string
		front  front
		noMeta bool
		args   []string
		want   expect
	}{
		{"a full chain", front{chain: full, key: fullKey}, false, nil,
			expect{pass: append([]string{"D06", "D07", "D08", "D15"}, works...)}},
		{"the leaf alone", front{chain: leaf, key: leafKey}, false, nil,
			expect{fail: []string{"D06 leaf-only"}, pass: works, info: stunOnly}},
		{"one of two intermediates missing", front{chain: incomplete + deep.PEM, key: incompleteKey}, false, nil,
			expect{fail: []string{"D06 incomplete"}, pass: works, info: stunOnly}},
		{"a private authority", front{chain: private + other.PEM, key: privateKey}, false, nil,
			expect{fail: []string{"D06 unknown-authority"}, pass: works, info: []string{"D11 private-authority"}}},
		{"intermediates in the wrong order", front{chain: deepLeaf + middle.PEM + deep.PEM, key: deepKey}, false, nil,
			expect{warn: []string{"D06 order"}, pass: works}},
		{"another name", front{chain: strange, key: strangeKey}, false, nil,
			expect{fail: []string{"D07 wrong-name"}, pass: works, info: stunOnly}},
		{"expired", front{chain: expired, key: expiredKey}, false, nil,
			expect{fail: []string{"D08 expired"}, pass: append([]string{"D06", "D07"}, works...), info: stunOnly}},
		{"not valid yet", front{chain: early, key: earlyKey}, false, nil,
			expect{fail: []string{"D08 not-yet-valid"}, pass: works}},
		{"ten days left of ninety", front{chain: soon, key: soonKey}, false, nil,
			expect{warn: []string{"D08 expires-soon"}, pass: works}},
		{"five days left of six", front{chain: short, key: shortKey}, false, nil,
			expect{pass: append([]string{"D08"}, works...)}},
		{"a clock that is 9 minutes behind", front{chain: full, key: fullKey, filter: shiftDate(-9 * time.Minute)}, false, nil,
			expect{warn: []string{"D09 skew"}, pass: works}},
		{"a clock that is right where ours is wrong", front{chain: early, key: earlyKey, filter: shiftDate(2 * time.Hour)}, false, nil,
			expect{fail: []string{"D09 clock"}, pass: works}},
		{"the pinned certificate", front{chain: selfSigned, key: selfKey}, false, []string{"--pin", pinOf(selfSigned)},
			expect{pass: append([]string{"D10"}, works...), info: []string{"D11 pin"}}},
		{"a self-signed one without a pin", front{chain: selfSigned, key: selfKey}, false, nil,
			expect{fail: []string{"D10 unpinned"}, pass: works}},
		{"another than the pinned one", front{chain: selfSigned, key: selfKey}, false, []string{"--pin", pinOf(full)},
			expect{fail: []string{"D10 wrong-pin"}, pass: works}},
		{"the pinned one and its chain", front{chain: full, key: fullKey}, false, []string{"--pin", pinOf(full)},
			expect{fail: []string{"D10 several-certificates"}, pass: works}},
		{"the pinned one has expired", front{chain: selfExpired, key: selfExpiredKey}, false, []string{"--pin", pinOf(selfExpired)},
			expect{fail: []string{"D08 expired"}, pass: append([]string{"D10"}, works...)}},
		{"the pinned one is for another name", front{chain: selfOther, key: selfOtherKey}, false, []string{"--pin", pinOf(selfOther)},
			expect{fail: []string{"D07 wrong-name"}, pass: works}},
		{"a weak key", front{chain: weak, key: weakKey}, false, nil,
			expect{warn: []string{"D15 weak-key"}, pass: works}},
		{"TLS 1.2 only", front{chain: full, key: fullKey, config: &tls.Config{MaxVersion: tls.VersionTLS12}}, false, nil,
			expect{warn: []string{"D15 old-tls"}, pass: works}},
		{"TLS 1.1 only", front{chain: full, key: fullKey, config: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}, false, nil,
			expect{fail: []string{"D15 old-tls"}}},
		{"a proxy that ends TLS well", front{chain: full, key: fullKey}, true, nil,
			expect{pass: works, info: []string{"D15 front"}}},
		{"a CDN with its own certificate", front{chain: strange, key: strangeKey}, true, nil,
			expect{fail: []string{"D15 foreign-certificate"}, info: []string{"D00 left-out", "D23 stun-only"}}},
		{"a CDN where a pin is expected", front{chain: strange, key: strangeKey}, true, []string{"--pin", pinOf(selfSigned)},
			expect{fail: []string{"D15 foreign-certificate"}}},
		{"a firewall that opens TLS", front{chain: private + other.PEM, key: privateKey}, true, nil,
			expect{fail: []string{"D15 substituted"}}},
		{"insecure", front{chain: leaf, key: leafKey}, false, []string{"--insecure"},
			expect{pass: works, info: []string{"D06 insecure"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.front.backend = backend.Addr
			if !c.noMeta {
				c.front.meta = backend
			}
			args := []string{"https://" + name + ":" + port(c.front.start(t)), "--stun-port", port(backend.STUNAddr), "--resolver", dns}
			if len(c.args) == 0 || c.args[0] == "" {
				args = append(args, "--authorities", roots)
			}
			doctor(t, append(args, c.args...)...).want(t, c.want)
		})
	}
}

func selfSign(t testing.TB, name string, from, until time.Time) (certificate, privateKey string) {
	t.Helper()
	return relay.SelfSigned(relay.Leaf{Names: []string{name}, NotBefore: from, NotAfter: until})
}

// shiftDate moves the Date header of answers, as a wrong clock does.
func shiftDate(by time.Duration) func([]byte) []byte {
	date := regexp.MustCompile(`\nDate: [^\r]*`)
	return func(b []byte) []byte {
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 ")) {
			return b
		}
		return date.ReplaceAll(b, []byte("\nDate: "+time.Now().Add(by).UTC().Format(http.TimeFormat)))
	}
}

func TestWhatAnswersIsNoTLS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		fault  string
		handle func(net.Conn)
	}{
		{"plain HTTP", "D04 not-tls", func(c net.Conn) {
			c.Read(make([]byte, 1024))
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
		}},
		{"SSH", "D04 not-tls", func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); hold(c) }},
		{"silence", "D04 silent", hold},
		{"a close", "D04 cut-off", func(c net.Conn) { c.Read(make([]byte, 1)) }},
		{"a reset", "D04 cut-off", func(c net.Conn) {
			c.Read(make([]byte, 1024))
			c.(*net.TCPConn).SetLinger(0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, listen(t), c.handle)
			doctor(t, target(addr), "--stun-port", "off", "--timeout", "1").want(t, expect{
				fail: []string{c.fault}, info: []string{"D00 left-out", "D22 off"}, pass: []string{"D13"},
			})
		})
	}
	t.Run("a relay without TLS", func(t *testing.T) {
		t.Parallel()
		r := plainRelay(t)
		doctor(t, target(r.Addr), "--stun-port", port(r.STUNAddr)).want(t, expect{
			fail: []string{"D04 not-tls"}, info: []string{"D23 stun-only"}, pass: []string{"D13", "D22"},
		})
	})
}

// Servers that speak TLS and let no client of DERP through the handshake.
func TestAHandshakeThatFails(t *testing.T) {
	t.Parallel()
	chain, privateKey := relay.NewCA().For("127.0.0.1")
	certificate := []tls.Certificate{{Certificate: ders(chain), PrivateKey: parseKey(t, privateKey)}}
	server := func(c *tls.Config) func(net.Conn) {
		c.Certificates = certificate
		return func(raw net.Conn) { tls.Server(raw, c).Handshake() }
	}
	for _, c := range []struct {
		name, fault string
		handle      func(net.Conn)
	}{
		{"no cipher in common", "D15 refused", server(&tls.Config{MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}})},
		{"a certificate of the client is asked for", "D15 refused", server(&tls.Config{
			MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert})},
		{"a ServerHello that is none", "D15 handshake", func(raw net.Conn) {
			raw.Read(make([]byte, 16<<10))
			raw.Write([]byte{22, 3, 3, 0, 8, 2, 0, 0, 4, 3, 3, 0, 0})
			hold(raw)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			doctor(t, target(serve(t, listen(t), c.handle)), "--stun-port", "off", "--timeout", "1").want(t, expect{
				fail: []string{c.fault}, info: []string{"D00 left-out"}, pass: []string{"D13"},
			})
		})
	}
}

// A filter on the path that knows the name resets the connection behind the ClientHello.
func TestAResetThatDependsOnTheName(t *testing.T) {
	t.Parallel()
	ca, r := namedRelay(t)
	dns := serveDNS(t, records{"derp.example.test": {"127.0.0.1"}})
	addr := serve(t, listen(t), func(c net.Conn) {
		buf := make([]byte, 16<<10)
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("derp.example.test")) {
			c.(*net.TCPConn).SetLinger(0)
			return
		}
		b, err := net.Dial("tcp", r.Addr)
		if err != nil {
			return
		}
		b.Write(buf[:n])
		join(c, b)
	})
	doctor(t, "https://derp.example.test:"+port(addr), "--stun-port", port(r.STUNAddr), "--resolver", dns,
		"--authorities", write(t, "ca.pem", ca.PEM)).want(t, expect{
		fail: []string{"D14 reset-by-name"}, info: []string{"D00 left-out", "D23 stun-only"},
	})
}

func TestANameThatTheRelayRefuses(t *testing.T) {
	t.Parallel()
	ca, r := namedRelay(t)
	dns := serveDNS(t, records{"other.example.test": {"127.0.0.1"}})
	doctor(t, "https://other.example.test:"+port(r.Addr), "--stun-port", port(r.STUNAddr), "--resolver", dns,
		"--authorities", write(t, "ca.pem", ca.PEM)).want(t, expect{
		fail: []string{"D07 name-refused"}, info: []string{"D23 stun-only"},
	})
}

func TestDNS(t *testing.T) {
	t.Parallel()
	ca, r := namedRelay(t)
	const name = "derp.example.test"
	right := serveDNS(t, records{name: {"127.0.0.1"}})
	for _, c := range []struct {
		name      string
		resolvers []string
		want      expect
	}{
		{"a fake address of a proxy program", []string{serveDNS(t, records{name: {"198.18.0.7"}})}, expect{fail: []string{"D12 fake-ip"}}},
		{"the last fake address", []string{serveDNS(t, records{name: {"198.19.255.255"}})}, expect{fail: []string{"D12 fake-ip"}}},
		{"a blocked name", []string{serveDNS(t, records{name: {"0.0.0.0"}})}, expect{fail: []string{"D12 blocked"}}},
		{"no such name", []string{serveDNS(t, records{})}, expect{fail: []string{"D12 no-address"}}},
		{"a name without addresses", []string{serveDNS(t, records{name: {}})}, expect{fail: []string{"D12 no-address"}}},
		{"a silent resolver", []string{serveDNS(t, nil)}, expect{fail: []string{"D12 no-answer"}}},
		{"two resolvers that differ", []string{right, serveDNS(t, records{name: {"203.0.113.9"}})}, expect{warn: []string{"D12 resolvers-differ"}, pass: everyLayer}},
		{"a second resolver without the name", []string{right, serveDNS(t, records{})}, expect{warn: []string{"D12 resolvers-differ"}, pass: everyLayer}},
		{"a second resolver that is silent", []string{right, serveDNS(t, nil)}, expect{pass: append([]string{"D12"}, everyLayer...)}},
		{"two resolvers that share an address", []string{right, serveDNS(t, records{name: {"203.0.113.9", "127.0.0.1"}})}, expect{pass: append([]string{"D12"}, everyLayer...)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"https://" + name + ":" + port(r.Addr), "--stun-port", port(r.STUNAddr), "--authorities", write(t, "ca.pem", ca.PEM)}
			for _, resolver := range c.resolvers {
				args = append(args, "--resolver", resolver)
			}
			doctor(t, args...).want(t, c.want)
		})
	}
	t.Run("another address in the map", func(t *testing.T) {
		t.Parallel()
		m := mapOf(&tailcfg.DERPNode{Name: "900a", RegionID: 900, HostName: name, IPv4: "127.0.0.1", IPv6: "none",
			DERPPort: r.Port, STUNPort: r.STUNPort})
		args := []string{"--map", mapFile(t, m), "--authorities", write(t, "ca.pem", ca.PEM)}
		doctor(t, append(args, "--resolver", serveDNS(t, records{name: {"127.0.0.2"}}))...).want(t, expect{
			warn: []string{"D12 map-differs"}, pass: everyLayer,
		})
		// The map's address is enough to go on without DNS.
		doctor(t, append(args, "--resolver", serveDNS(t, records{}))...).want(t, expect{
			warn: []string{"D12 no-address"}, pass: everyLayer,
		})
	})
}

func mapOf(nodes ...*tailcfg.DERPNode) *tailcfg.DERPMap {
	m := &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{}}
	for _, n := range nodes {
		region := m.Regions[n.RegionID]
		if region == nil {
			region = &tailcfg.DERPRegion{RegionID: n.RegionID, RegionCode: fmt.Sprintf("r%d", n.RegionID), RegionName: "Test"}
			m.Regions[n.RegionID] = region
		}
		region.Nodes = append(region.Nodes, n)
	}
	return m
}

func mapFile(t testing.TB, m *tailcfg.DERPMap) string {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "map.json", string(b))
}

func TestTCP(t *testing.T) {
	t.Parallel()
	t.Run("nothing listens", func(t *testing.T) {
		t.Parallel()
		l := listen(t)
		l.Close()
		doctor(t, target(l.Addr().String()), "--stun-port", "off").want(t, expect{
			fail: []string{"D13 refused"}, info: []string{"D00 left-out"},
		})
	})
	t.Run("the relay is down, STUN with it", func(t *testing.T) {
		t.Parallel()
		l := listen(t)
		l.Close()
		u, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u.Close()
		doctor(t, target(l.Addr().String()), "--stun-port", port(u.LocalAddr().String())).want(t, expect{
			fail: []string{"D13 refused"}, info: []string{"D00 left-out", "D22 refused"},
		})
	})
	t.Run("packets are dropped", func(t *testing.T) {
		t.Parallel()
		addr, _ := fullBacklog(t)
		doctor(t, target(addr), "--stun-port", "off", "--timeout", "1").want(t, expect{
			fail: []string{"D13 silent"}, info: []string{"D00 left-out"},
		})
	})
	// The kernel repeats a SYN after one second, and again two seconds later (in newer kernels one).
	r := relay.Start(t, relay.Options{})
	for _, c := range []struct {
		name string
		lost time.Duration
		want expect
	}{
		{"one packet is lost", 700 * time.Millisecond, expect{warn: []string{"D13 slow"}, pass: []string{"D04", "D19"}}},
		{"two packets are lost", 2500 * time.Millisecond, expect{fail: []string{"D13 too-slow"}, pass: []string{"D04", "D19"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr, free := fullBacklog(t)
			timer := time.AfterFunc(c.lost, func() { free(r.Addr) })
			defer timer.Stop()
			doctor(t, target(addr), "--stun-port", "off", "--pin", r.Pin).want(t, c.want)
		})
	}
	t.Run("only the first connection is let in", func(t *testing.T) {
		t.Parallel()
		addr, _ := backlogOfOne(t)
		doctor(t, target(addr), "--stun-port", "off", "--timeout", "1").want(t, expect{
			fail: []string{"D13 unsteady"}, info: []string{"D00 left-out"},
		})
	})
	t.Run("one of two addresses is dead", func(t *testing.T) {
		t.Parallel()
		ca, r := namedRelay(t)
		dns := serveDNS(t, records{"derp.example.test": {"127.0.0.1", "127.0.0.77"}})
		doctor(t, "https://derp.example.test:"+port(r.Addr), "--stun-port", "off", "--resolver", dns,
			"--authorities", write(t, "ca.pem", ca.PEM)).want(t, expect{
			warn: []string{"D13 refused"}, pass: []string{"D13", "D19"},
		})
	})
}

// backlogOfOne is a port that takes one connection, and whose kernel drops the SYNs of others until
// free lets it forward to a relay.
func backlogOfOne(t testing.TB) (addr string, free func(backend string)) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		file.Close()
		l.Close()
	})
	return l.Addr().String(), func(backend string) {
		syscall.Listen(fd, 64)
		serve(t, l, func(c net.Conn) {
			b, err := net.Dial("tcp", backend)
			if err != nil {
				return
			}
			join(c, b)
		})
	}
}

// fullBacklog is the same with that one connection made.
func fullBacklog(t testing.TB) (addr string, free func(backend string)) {
	t.Helper()
	addr, free = backlogOfOne(t)
	for range 8 {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr, free
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog does not fill up")
	return
}

const upgradeHeaders = `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_read_timeout 1h;`

func TestNginxInFront(t *testing.T) {
	t.Parallel()
	backend := plainRelay(t)
	ca := relay.NewCA()
	chain, privateKey := ca.For("127.0.0.1")
	roots := write(t, "ca.pem", ca.PEM)
	certificates := fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.2 TLSv1.3;",
		write(t, "crt.pem", chain), write(t, "key.pem", privateKey))
	closed := listen(t)
	closed.Close()
	for _, c := range []struct {
		name, server string
		want         expect
	}{
		{"passes the upgrade on", "location / { proxy_pass http://" + backend.Addr + "; " + upgradeHeaders + " }",
			expect{pass: []string{"D16", "D18", "D19"}, info: []string{"D15 front"}}},
		{"strips the upgrade", "location / { proxy_pass http://" + backend.Addr + "; }",
			expect{fail: []string{"D16 upgrade-stripped"}, info: []string{"D00 left-out"}}},
		{"passes /derp only", "location = /derp { proxy_pass http://" + backend.Addr + "; " + upgradeHeaders + " }",
			expect{warn: []string{"D16 no-latency-check"}, pass: []string{"D19"}}},
		{"does not pass /derp", "location /derp { return 404; }",
			expect{fail: []string{"D16 not-found"}}},
		{"has no relay behind it", "location / { proxy_pass http://" + closed.Addr().String() + "; }",
			expect{fail: []string{"D16 backend-down"}}},
		{"passes no WebSocket", "location / { if ($http_upgrade = websocket) { return 400; } proxy_pass http://" + backend.Addr + "; " + upgradeHeaders + " }",
			expect{pass: []string{"D19"}, info: []string{"D17 no-websocket"}}},
		{"is a web site", "location / { return 200 hello; }",
			expect{fail: []string{"D16 no-upgrade"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := nginx(t, certificates+" "+c.server)
			r := doctor(t, target(addr), "--authorities", roots, "--stun-port", "off")
			r.want(t, c.want)
			if len(c.want.fail) == 1 && strings.HasSuffix(c.want.fail[0], "stripped") && !strings.Contains(r.text, "proxy_set_header Upgrade") {
				t.Errorf("the mending for nginx is missing:\n%s", r.text)
			}
		})
	}
}

func TestUpgradesThatGoWrong(t *testing.T) {
	t.Parallel()
	ca := relay.NewCA()
	roots := write(t, "ca.pem", ca.PEM)
	switching := func(protocol string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + protocol + "\r\nConnection: Upgrade\r\n\r\n"
	}
	serverKey := func() string {
		k := key.NewNode().Public().Raw32()
		return "\x01\x00\x00\x00\x28DERP🔑" + string(k[:])
	}()
	for _, c := range []struct {
		name   string
		handle func(*http.Request, net.Conn)
		fault  string
	}{
		{"only WebSocket", func(req *http.Request, c net.Conn) {
			if strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
				io.WriteString(c, switching("websocket"))
			} else {
				io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			}
		}, "D16 websocket-only"},
		{"no HTTP", func(_ *http.Request, c net.Conn) { io.WriteString(c, "* OK IMAP4rev1 ready\r\n") }, "D16 no-http"},
		{"no answer", func(_ *http.Request, c net.Conn) { hold(c) }, "D16 no-http"},
		{"no server key", func(_ *http.Request, c net.Conn) { io.WriteString(c, switching("DERP")); hold(c) }, "D16 no-server-key"},
		{"no login", func(req *http.Request, c net.Conn) {
			if req.Header.Get("Upgrade") == "" || strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				return
			}
			io.WriteString(c, switching("DERP")+serverKey)
			hold(c)
		}, "D19 no-login"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := serveHTTP(t, ca, c.handle)
			doctor(t, target(addr), "--authorities", roots, "--stun-port", "off", "--timeout", "1").want(t, expect{
				fail: []string{c.fault},
			})
		})
	}
	t.Run("DERP is off", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{Args: []string{"-derp=false"}})
		doctor(t, target(r.Addr), "--pin", r.Pin, "--stun-port", port(r.STUNAddr)).want(t, expect{
			fail: []string{"D16 not-found"}, info: []string{"D23 stun-only"},
		})
	})
}

func TestFiveServersBehindOnePort(t *testing.T) {
	t.Parallel()
	ca := relay.NewCA()
	chain, privateKey := ca.For("127.0.0.1")
	var backends []string
	for range 5 {
		r := relay.Start(t, relay.Options{CertFile: chain, KeyFile: privateKey, Roots: ca.PEM, NoSTUN: true})
		backends = append(backends, r.Addr)
	}
	var next atomic.Int64
	addr := serve(t, listen(t), func(c net.Conn) {
		b, err := net.Dial("tcp", backends[int(next.Add(1))%len(backends)])
		if err != nil {
			return
		}
		join(c, b)
	})
	doctor(t, target(addr), "--authorities", write(t, "ca.pem", ca.PEM), "--stun-port", "off").want(t, expect{
		fail: []string{"D18 several-servers"}, info: []string{"D00 left-out"}, pass: []string{"D06", "D16"},
	})
}

// A path that swallows data once a connection has carried some: what a wrong MTU does.
func TestPacketsThatDoNotArrive(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	for _, c := range []struct {
		name  string
		bytes int64 // that a client may send
		fault string
	}{
		// TLS, upgrade and login take about 900 bytes; the first packet stays behind.
		{"nothing arrives", -1, "D19 nothing-relayed"},
		{"large packets are lost", 20000, "D19 size-lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, listen(t), func(c2 net.Conn) {
				b, err := net.Dial("tcp", r.Addr)
				if err != nil {
					return
				}
				defer b.Close()
				go func() { io.Copy(c2, b); c2.Close() }()
				limited(c2, b, c.bytes)
			})
			doctor(t, target(addr), "--pin", r.Pin, "--stun-port", "off", "--timeout", "1").want(t, expect{
				fail: []string{c.fault}, pass: []string{"D04", "D16", "D18"},
			})
		})
	}
}

// limited copies so many bytes and drops the rest. With -1 it drops what comes after the login: a TLS
// record that is too small to be one (a packet of one byte), seen by its size.
func limited(from, to net.Conn, bytes int64) {
	if bytes >= 0 {
		io.CopyN(to, from, bytes)
		hold(from)
		return
	}
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, int(head[3])<<8|int(head[4]))
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		// SendPacket with one byte: 5 + 32 + 1, the record's type and its tag.
		if head[0] == 23 && len(body) == 38+1+16 {
			hold(from)
			return
		}
		if _, err := to.Write(append(head, body...)); err != nil {
			return
		}
	}
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	t.Run("strangers are refused", func(t *testing.T) {
		t.Parallel()
		verify := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"Allow":false}`)
		}))
		defer verify.Close()
		r := relay.Start(t, relay.Options{Binary: relay.DerperBinary(t), Args: []string{"-verify-client-url", verify.URL}})
		doctor(t, target(r.Addr), "--pin", r.Pin, "--stun-port", port(r.STUNAddr)).want(t, expect{
			info: []string{"D20 unknown-refused", "D21 indexable"}, pass: []string{"D16", "D18", "D22"},
		})
	})
	t.Run("strangers are refused, and a key of ours is admitted or not", func(t *testing.T) {
		t.Parallel()
		var admitted atomic.Value
		admitted.Store("")
		verify := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			var ask struct{ NodePublic string }
			json.NewDecoder(req.Body).Decode(&ask)
			fmt.Fprintf(w, `{"Allow":%v}`, ask.NodePublic == admitted.Load())
		}))
		defer verify.Close()
		r := relay.Start(t, relay.Options{Args: []string{"-verify-client-url", verify.URL}})
		file := filepath.Join(t.TempDir(), "doctor.key")
		args := []string{target(r.Addr), "--pin", r.Pin, "--stun-port", port(r.STUNAddr), "--key-file", file}
		refused := doctor(t, args...)
		refused.want(t, expect{fail: []string{"D20 known-refused"}, info: []string{"D21 indexable"}})
		key := regexp.MustCompile(`(nodekey:[0-9a-f]{64}) of --key-file`).FindStringSubmatch(refused.text)
		if key == nil {
			t.Fatalf("the key is not named:\n%s", refused.text)
		}
		admitted.Store(key[1])
		// Detour remembers a refusal for some seconds.
		relay.Poll(60*time.Second, func() bool { return !doctor(t, args...).has("FAIL", "D20 known-refused") })
		doctor(t, args...).want(t, expect{pass: []string{"D16", "D18", "D19", "D20", "D22"}, info: []string{"D21 indexable"}})
		// A file that is no key.
		os.WriteFile(file, []byte("{}"), 0o600)
		if _, said, exit := runCommand(t, nil, append([]string{"doctor"}, args...)...); exit != 2 || !strings.Contains(said, file) {
			t.Errorf("exit status %d: %s", exit, said)
		}
	})
	t.Run("an open relay that scanners find", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{})
		if rep := doctor(t, target(r.Addr), "--pin", r.Pin, "--stun-port", port(r.STUNAddr)); !rep.has("WARN", openRelay) || rep.exit != 1 {
			t.Errorf("no WARN %s, exit status %d:\n%s", openRelay, rep.exit, rep.text)
		}
	})
	t.Run("an open relay with a blank page", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{Args: []string{"-home", "blank"}})
		rep := doctor(t, target(r.Addr), "--pin", r.Pin, "--stun-port", port(r.STUNAddr))
		rep.want(t, expect{info: []string{"D21 open"}})
		if rep.exit != 0 {
			t.Errorf("exit status %d, want 0", rep.exit)
		}
	})
}

func TestWebSocketOfDerper(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{Binary: relay.DerperBinary(t)})
	doctor(t, target(r.Addr), "--pin", r.Pin, "--stun-port", port(r.STUNAddr)).want(t, expect{
		pass: append([]string{"D17"}, everyLayer...),
	})
}

func TestSTUN(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	silent := func([]byte, netip.AddrPort) []byte { return nil }
	right := func(b []byte, from netip.AddrPort) []byte { return stunAnswer(b, from) }
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	tcpOnly := serve(t, listen(t), hold)
	for _, c := range []struct{ name, addr, fault string }{
		{"silence", serveUDP(t, silent, false), "D22 silent"},
		{"nothing listens", closed.LocalAddr().String(), "D22 refused"},
		{"the port is mapped as TCP", tcpOnly, "D22 tcp-only"},
		{"an answer from another port", serveUDP(t, right, true), "D22 other-source"},
		{"an answer that is none", serveUDP(t, func([]byte, netip.AddrPort) []byte { return []byte("hello") }, false), "D22 silent"},
		{"an address that docker made up", serveUDP(t, func(b []byte, from netip.AddrPort) []byte {
			return stunAnswer(b, netip.AddrPortFrom(netip.MustParseAddr("172.17.0.1"), from.Port()))
		}, false), "D22 wrong-mapped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if strings.HasSuffix(c.name, "is none") {
				c.fault = "D22 not-stun"
			}
			want := expect{fail: []string{c.fault}, pass: []string{"D19"}}
			if c.fault != "D22 wrong-mapped" {
				want.info = []string{"D23 relay-only"}
			}
			doctor(t, target(r.Addr), "--pin", r.Pin, "--stun-port", port(c.addr)).want(t, want)
		})
	}
}

func TestCaptivePortalCheck(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	m := r.DERPMap(900)
	m.OmitDefaultRegions = false
	m.Regions[900].Nodes[0].CanPort80 = true
	file := mapFile(t, m)
	doctor(t, "--map", file, "--http-port", port(r.HTTPAddr)).want(t, expect{pass: append([]string{"D24"}, everyLayer...)})

	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Redirect(w, &http.Request{Method: "GET"}, "https://www.example.com/", http.StatusFound)
	}))
	defer web.Close()
	doctor(t, "--map", file, "--http-port", port(web.Listener.Addr().String())).want(t, expect{
		warn: []string{"D24 no-204"}, pass: everyLayer,
	})
	noChallenge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	defer noChallenge.Close()
	doctor(t, "--map", file, "--http-port", port(noChallenge.Listener.Addr().String())).want(t, expect{
		warn: []string{"D24 no-204"}, pass: everyLayer,
	})
}

func TestAProxyOfThisMachine(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	args := []string{target(r.Addr), "--pin", r.Pin, "--stun-port", port(r.STUNAddr)}
	doctor(t, args...).want(t, expect{pass: []string{"D19"}})
	rep := doctorWithEnv(t, []string{"HTTPS_PROXY=http://me:secret@127.0.0.1:3128"}, args...)
	rep.want(t, expect{info: []string{"D32 client-proxy"}, pass: []string{"D19"}})
	if strings.Contains(rep.text, "secret") || !strings.Contains(rep.text, "HTTPS_PROXY=http://***@127.0.0.1:3128") {
		t.Errorf("the proxy, without its password:\n%s", rep.text)
	}
}
