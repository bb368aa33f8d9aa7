// Package proxy_test puts nginx and HAProxy in front of a relay, as people do who share port 443, and
// looks whether clients get through and which address the relay knows them by.
package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"github.com/coder/websocket"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netmon"
	"tailscale.com/net/wsconn"
	"tailscale.com/types/key"
)

const (
	timeout = 10 * time.Second
	// clientIP is where the test's clients come from: another address than the proxies'.
	clientIP = "127.0.0.9"
	// proxyRange holds the addresses that proxies call the relay from.
	proxyRange = "127.0.0.1/32"
)

// ca is trusted by this process as a system root.
var ca *relay.CA

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	ca = relay.NewCA()
	dir, err := os.MkdirTemp("", "interop-ca")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, []byte(ca.PEM), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", roots)
	os.Setenv("SSL_CERT_DIR", dir)
	return m.Run()
}

// --- The proxies --------------------------------------------------------------------------------

func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; !exists(path) {
			t.Fatalf("%s is missing; ./dev test installs it", name)
		}
	}
	return path
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// run starts a proxy and waits until it takes connections at addr.
func run(t testing.TB, addr, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := relay.StartBound(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, output.String())
		}
	})
	if !relay.Poll(timeout, func() bool { return relay.Accepts(addr) }) {
		t.Fatalf("%s does not listen on %s:\n%s", name, addr, output.String())
	}
}

// nginx runs with the given blocks behind "events" and gives the address that stands for LISTEN.
func nginx(t testing.TB, blocks string) string {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1"))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := "daemon off;\nworker_processes 1;\npid " + dir + "/pid;\nerror_log stderr notice;\n"
	if os.Getuid() == 0 {
		conf += "user root;\n"
	}
	if module := "/usr/lib/nginx/modules/ngx_stream_module.so"; strings.Contains(blocks, "stream {") && exists(module) {
		conf += "load_module " + module + ";\n"
	}
	conf += "events { worker_connections 256; }\n" + strings.ReplaceAll(blocks, "LISTEN", addr)
	conf = strings.ReplaceAll(conf, "TEMP", dir)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, addr, "nginx", "-e", "stderr", "-p", dir, "-c", file)
	return addr
}

// haproxy runs with the given sections and gives the address that stands for LISTEN.
func haproxy(t testing.TB, sections string) string {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1"))
	conf := "global\n  maxconn 256\ndefaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 60s\n" +
		strings.ReplaceAll(sections, "LISTEN", addr)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, addr, "haproxy", "-db", "-f", file)
	return addr
}

const nginxTemp = "client_body_temp_path TEMP/a; proxy_temp_path TEMP/b; fastcgi_temp_path TEMP/c; uwsgi_temp_path TEMP/d; scgi_temp_path TEMP/e; access_log off;\n"

// --- The relay ----------------------------------------------------------------------------------

const meshKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// start starts a relay whose clients a mesh peer can watch.
func start(t testing.TB, o relay.Options) *relay.Relay {
	t.Helper()
	psk := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(psk, []byte(meshKey), 0o600); err != nil {
		t.Fatal(err)
	}
	o.NoSTUN = true
	o.CertFile, o.KeyFile = ca.For("127.0.0.1")
	o.Roots = ca.PEM
	flag := "-mesh-psk-file"
	if o.Serve {
		flag = "--mesh-psk-file"
	}
	o.Args = append([]string{flag, psk}, o.Args...)
	return relay.Start(t, o)
}

// addressOf asks, over a connection of a mesh peer, where the relay believes a client to be.
func addressOf(t testing.TB, mesh *wire.Conn, client key.NodePublic) netip.AddrPort {
	t.Helper()
	mesh.Login(`{"version":2,"CanAckPings":true,"meshKey":"` + meshKey + `"}`)
	mesh.Put(wire.Encode(wire.WatchConns))
	for {
		f := mesh.Frame()
		if f.Type != wire.PeerPresent || !bytes.Equal(f.Payload[:32], wire.Raw(client)) {
			continue
		}
		ip := netip.AddrFrom16([16]byte(f.Payload[32:48])).Unmap()
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(f.Payload[48:50]))
	}
}

// --- Clients ------------------------------------------------------------------------------------

var dialer = net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientIP)}}

// client is an official client that calls url through the proxy at addr.
func client(t testing.TB, url, addr string) (*derphttp.Client, key.NodePublic, *string) {
	t.Helper()
	priv := key.NewNode()
	c, err := derphttp.NewClient(priv, url, t.Logf, netmon.NewStatic())
	if err != nil {
		t.Fatal(err)
	}
	local := new(string)
	c.SetURLDialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err == nil {
			*local = conn.LocalAddr().String()
		}
		return conn, err
	})
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		t.Fatalf("through the proxy: %v", err)
	}
	m, err := c.Recv()
	if _, ok := m.(derp.ServerInfoMessage); !ok {
		t.Fatalf("got %v, %v, want ServerInfo", m, err)
	}
	return c, priv.Public(), local
}

// exchange sends packets of many sizes from a to b.
func exchange(t testing.TB, a, b *derphttp.Client, bKey key.NodePublic) {
	t.Helper()
	for _, n := range []int{1, 1400, 20000, 65536} {
		p := make([]byte, n)
		rand.Read(p)
		if err := a.Send(bKey, p); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			m, err := b.Recv()
			if packet, ok := m.(derp.ReceivedPacket); err == nil && (!ok || !bytes.Equal(packet.Data, p)) {
				err = fmt.Errorf("got %T, want the packet of %d bytes", m, n)
			}
			got <- err
		}()
		select {
		case err := <-got:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(timeout):
			t.Fatalf("a packet of %d bytes did not come", n)
		}
	}
}

// TestPassingTLSThrough is what needs nothing of the relay: the proxy passes the bytes on.
func TestPassingTLSThrough(t *testing.T) {
	t.Parallel()
	r := start(t, relay.Options{})
	for name, addr := range map[string]string{
		"nginx":   nginx(t, "stream { server { listen LISTEN; proxy_pass "+r.Addr+"; } }\n"),
		"HAProxy": haproxy(t, "listen relay\n  mode tcp\n  bind LISTEN\n  server relay "+r.Addr+"\n"),
	} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := client(t, "https://"+r.Addr+"/derp", addr)
			b, bKey, _ := client(t, "https://"+r.Addr+"/derp", addr)
			exchange(t, a, b, bKey)
		})
	}
}

// With the PROXY protocol the relay knows the clients behind the proxy by their own address and port.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "clients behind a proxy are known by their own address") {
		return
	}
	r := start(t, relay.Options{NoWait: true, Serve: true, Args: []string{"--trusted-proxies", proxyRange, "--proxy-protocol"}})
	r.WaitForKey(t)
	for name, addr := range map[string]string{
		"nginx":              nginx(t, "stream { server { listen LISTEN; proxy_pass "+r.Addr+"; proxy_protocol on; } }\n"),
		"HAProxy, version 1": haproxy(t, "listen relay\n  mode tcp\n  bind LISTEN\n  server relay "+r.Addr+" send-proxy\n"),
		"HAProxy, version 2": haproxy(t, "listen relay\n  mode tcp\n  bind LISTEN\n  server relay "+r.Addr+" send-proxy-v2 proxy-v2-options unique-id,crc32c\n"),
	} {
		t.Run(name, func(t *testing.T) {
			a, aKey, aLocal := client(t, "https://"+r.Addr+"/derp", addr)
			b, bKey, _ := client(t, "https://"+r.Addr+"/derp", addr)
			exchange(t, a, b, bKey)
			// The mesh peer comes past the proxy, from an address that is not trusted, so without a header.
			if got := addressOf(t, direct(t, r), aKey); got.String() != *aLocal {
				t.Errorf("the relay believes the client at %v, it is at %s", got, *aLocal)
			}
		})
	}
}

// direct is a TLS connection from an address that is no proxy's.
func direct(t testing.TB, r *relay.Relay) *wire.Conn {
	t.Helper()
	nc, err := tls.DialWithDialer(&dialer, "tcp", r.Addr, r.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	return wire.New(t, r, nc)
}

func TestPeersThatKeepNoProxyProtocol(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "clients behind a proxy are known by their own address") {
		return
	}
	r := start(t, relay.Options{NoWait: true, Serve: true, Args: []string{"--trusted-proxies", proxyRange, "--proxy-protocol"}})
	r.WaitForKey(t)
	const header = "PROXY TCP4 203.0.113.7 192.0.2.1 51966 443\r\n"
	send := func(from, to, text string) string {
		t.Helper()
		d := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(timeout))
		io.WriteString(c, text)
		all, _ := io.ReadAll(c)
		return string(all)
	}
	const get = "GET /generate_204 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for _, c := range []struct {
		name, from, to, text string
		status, log          string
	}{
		{"a header from the proxy", "127.0.0.1", r.HTTPAddr, header + get, "HTTP/1.1 204 ", ""},
		{"no header from the proxy", "127.0.0.1", r.HTTPAddr, get, "", "is a trusted proxy and sent no PROXY header"},
		{"a broken header from the proxy", "127.0.0.1", r.HTTPAddr, "PROXY TCP4 x y 1 2\r\n" + get, "", "the PROXY header is malformed"},
		{"no header from somebody else", clientIP, r.HTTPAddr, get, "HTTP/1.1 204 ", ""},
		{"a header from somebody else", clientIP, r.HTTPAddr, header + get, "", "it is not among --trusted-proxies"},
		{"a header from somebody else, TLS", clientIP, r.Addr, header, "", "it is not among --trusted-proxies"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(r.Log())
			got := send(c.from, c.to, c.text)
			if c.status == "" && got != "" || !strings.HasPrefix(got, c.status) {
				t.Errorf("got %q, want %q", got, c.status)
			}
			if c.log != "" && !relay.Poll(timeout, func() bool { return strings.Contains(r.Log()[before:], c.log) }) {
				t.Errorf("the log lacks %q:\n%s", c.log, r.Log()[before:])
			}
		})
	}
	t.Run("a header byte by byte", func(t *testing.T) {
		c, err := net.Dial("tcp", r.Addr)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(header) {
			if _, err := io.WriteString(c, header[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		tc := tls.Client(c, r.TLSConfig())
		conn := wire.New(t, r, tc)
		conn.Login(wire.DefaultInfo)
		if got := addressOf(t, direct(t, r), conn.Pub); got.String() != "203.0.113.7:51966" {
			t.Errorf("the relay believes the client at %v", got)
		}
	})
}

// plain is a relay without TLS, for a proxy that ends TLS.
func plain(t testing.TB, trusting bool) *relay.Relay {
	t.Helper()
	o := relay.Options{NoWait: true, Args: []string{"-certmode", "letsencrypt"}}
	if trusting {
		o = relay.Options{NoWait: true, Serve: true, Args: []string{"--no-tls", "--trusted-proxies", proxyRange}}
	}
	r := start(t, o)
	r.WaitForKey(t)
	return r
}

// A proxy that speaks HTTP and lets the upgrade through.
func TestHTTPInFront(t *testing.T) {
	t.Parallel()
	detour := relay.DetourOnly(t, "clients behind a proxy are known by their own address")
	r := plain(t, detour)
	for name, addr := range map[string]string{
		"nginx": nginx(t, "http { "+nginxTemp+` map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
			server { listen LISTEN; location / { proxy_pass http://`+r.Addr+`; proxy_http_version 1.1; proxy_buffering off;
			proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
			proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } } }`+"\n"),
		"HAProxy": haproxy(t, "listen relay\n  mode http\n  bind LISTEN\n  option forwardfor\n  server relay "+r.Addr+"\n"),
	} {
		t.Run(name, func(t *testing.T) {
			a, aKey, aLocal := client(t, "http://"+addr+"/derp", addr)
			b, bKey, _ := client(t, "http://"+addr+"/derp", addr)
			exchange(t, a, b, bKey)
			if detour {
				mesh := wire.DialTCP(t, r, r.Addr)
				want, _ := netip.ParseAddrPort(*aLocal)
				if got := addressOf(t, mesh, aKey); got.Addr() != want.Addr() {
					t.Errorf("the relay believes the client at %v, it is at %v", got, want)
				}
			}

			// WebSocket takes the same way.
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			ws, _, err := websocket.Dial(ctx, "ws://"+addr+"/derp", &websocket.DialOptions{Subprotocols: []string{"derp"}})
			if err != nil {
				t.Fatal(err)
			}
			nc := wsconn.NetConn(context.Background(), ws, websocket.MessageBinary, addr)
			defer nc.Close()
			if _, err := derp.NewClient(key.NewNode(), nc, bufio.NewReadWriter(bufio.NewReader(nc), bufio.NewWriter(nc)), t.Logf); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Who may read the debug pages is decided by the client's address, and only a trusted proxy names it.
func TestForwardedForDecidesAccess(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "clients behind a proxy are known by their own address") {
		return
	}
	r := plain(t, true)
	for _, c := range []struct {
		from, forwarded string
		status          int
	}{
		{"127.0.0.1", "", 200},
		{"127.0.0.1", "203.0.113.7", 403},
		{"127.0.0.1", "127.0.0.9", 200},
		{"127.0.0.1", "127.0.0.9, 203.0.113.7", 403},
		{"127.0.0.1", "203.0.113.7, 127.0.0.9", 200},
		{"127.0.0.9", "127.0.0.9", 403},
		{"127.0.0.9", "203.0.113.7", 403},
	} {
		d := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
		tr := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
		req, _ := http.NewRequest("GET", "http://"+r.Addr+"/debug/varz", nil)
		if c.forwarded != "" {
			req.Header.Set("X-Forwarded-For", c.forwarded)
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("from %s for %q: status %d, want %d", c.from, c.forwarded, res.StatusCode, c.status)
		}
	}
}
