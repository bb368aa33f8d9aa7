package connect_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

const (
	// patience is how long a test waits for what has to come.
	patience = 60 * time.Second
	opened   = "HTTP/1.1 200 OK\r\n\r\n"
)

func start(t *testing.T, o relay.Options) *relay.Relay {
	t.Helper()
	o.NoSTUN = true
	o.Args = append(o.Args, "-ace")
	return relay.Start(t, o)
}

// client is a TLS connection to the relay.
type client struct {
	*tls.Conn
	r *bufio.Reader
	t *testing.T
}

func dial(t *testing.T, r *relay.Relay) *client {
	t.Helper()
	c, err := tls.Dial("tcp", r.Addr, r.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{c, bufio.NewReader(c), t}
}

func request(target string) string {
	return fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
}

func (c *client) put(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// want reads exactly this text.
func (c *client) want(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != text {
		c.t.Fatalf("got %q, %v; want %q", got[:n], err, text)
	}
}

// wantAnswer reads an answer of HTTP that is no tunnel.
func (c *client) wantAnswer(status int, body string) {
	c.t.Helper()
	// A GET, since an answer to CONNECT has a body unless it is a success.
	res, err := http.ReadResponse(c.r, &http.Request{Method: "GET"})
	got := relay.Body(c.t, res, err)
	if res.StatusCode != status || got != body {
		c.t.Errorf("got %d %q, want %d %q", res.StatusCode, got, status, body)
	}
	if v := res.Header.Get("Content-Type"); v != "text/plain; charset=utf-8" {
		c.t.Errorf("Content-Type is %q", v)
	}
}

// wantEnd reads up to the end of the connection and wants nothing before it.
func (c *client) wantEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if err != nil || len(rest) != 0 {
		c.t.Errorf("got %d more bytes and %v, want the end", len(rest), err)
	}
}

// open has a tunnel opened.
func open(t *testing.T, r *relay.Relay, target string) *client {
	t.Helper()
	c := dial(t, r)
	c.put(request(target))
	c.want(opened)
	return c
}

// listen is a target: each connection goes to serve, and is closed behind it.
func listen(t *testing.T, host, port string, serve func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(hosts[host], port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				serve(c)
			}()
		}
	}()
}

func echo(c net.Conn) { io.Copy(c, c) }

func TestTunnel(t *testing.T) {
	t.Parallel()
	r := start(t, relay.Options{})
	for _, port := range []string{"443", "80"} {
		listen(t, "echo.tailscale.com", port, echo)
	}
	for _, port := range []string{"443", "80"} {
		t.Run("port "+port, func(t *testing.T) {
			c := open(t, r, "echo.tailscale.com:"+port)
			for _, text := range []string{"hello", "again", strings.Repeat("x", 100_000)} {
				c.put(text)
				c.want(text)
			}
		})
	}
	t.Run("the client does not wait for the answer", func(t *testing.T) {
		c := dial(t, r)
		c.put(request("echo.tailscale.com:443") + "early bird")
		c.want(opened + "early bird")
	})
	t.Run("head byte by byte", func(t *testing.T) {
		c := dial(t, r)
		for _, b := range []byte(request("echo.tailscale.com:443")) {
			c.put(string(b))
		}
		c.want(opened)
		c.put("hello")
		c.want("hello")
	})
	t.Run("with TLS 1.2", func(t *testing.T) {
		cfg := r.TLSConfig()
		cfg.MaxVersion = tls.VersionTLS12
		conn, err := tls.Dial("tcp", r.Addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		c := &client{conn, bufio.NewReader(conn), t}
		c.put(request("echo.tailscale.com:443"))
		c.want(opened)
		c.put("hello")
		c.want("hello")
	})
	t.Run("behind other requests", func(t *testing.T) {
		c := dial(t, r)
		c.put("GET /nope/../derp/probe HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := http.ReadResponse(c.r, nil); err != nil {
			t.Fatal(err)
		}
		c = dial(t, r)
		c.put("GET /generate_204 HTTP/1.1\r\nHost: x\r\n\r\n")
		if res, err := http.ReadResponse(c.r, nil); err != nil || res.StatusCode != 204 {
			t.Fatal(res, err)
		}
		c.put(request("echo.tailscale.com:80"))
		c.want(opened)
		c.put("hello")
		c.want("hello")
	})
	t.Run("relaying goes on", func(t *testing.T) {
		a, b := wire.Login(t, r), wire.Login(t, r)
		a.Send(b.Pub, []byte("packet"))
		b.Want(wire.RecvPacket, wire.Raw(a.Pub), []byte("packet"))
	})
}

func TestRefusedTargets(t *testing.T) {
	t.Parallel()
	r := start(t, relay.Options{})
	const no = "Invalid CONNECT target\n"
	for name, target := range map[string]string{
		"another port":                "echo.tailscale.com:22",
		"a port with a zero in front": "echo.tailscale.com:0443",
		"no port":                     "echo.tailscale.com",
		"another domain":              "example.com:443",
		"the domain itself":           "tailscale.com:443",
		"a domain that only ends so":  "eviltailscale.com:443",
		"one that only begins so":     "a.tailscale.com.example.com:443",
		"a dot behind":                "echo.tailscale.com.:443",
		"upper case":                  "ECHO.TAILSCALE.COM:443",
		"a DERP server":               "derp1.tailscale.com:443",
		"derp somewhere":              "anderper.tailscale.com:443",
		"an IPv4 address":             "127.0.0.1:80",
		"an IPv6 address":             "[::1]:80",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, r)
			c.put(request(target))
			c.wantAnswer(403, no)
			// The connection is still one for requests.
			c.put("GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n")
			c.wantAnswer(200, "User-agent: *\nDisallow: /\n")
		})
	}
	t.Run("an address that passes for a name", func(t *testing.T) {
		if !relay.DetourOnly(t, "CONNECT leads to names alone") {
			return
		}
		for _, target := range []string{"[::1%25.tailscale.com]:80", "127.0.0.1%25.tailscale.com:80", "a@b.tailscale.com:443", "/echo.tailscale.com:443"} {
			c := dial(t, r)
			c.put(request(target))
			c.wantAnswer(403, no)
		}
	})
}

func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := dial(t, r)
	c.put(request("echo.tailscale.com:443"))
	c.wantAnswer(403, "CONNECT not enabled\n")
}

func TestTargetsThatCannotBeReached(t *testing.T) {
	t.Parallel()
	r := start(t, relay.Options{})
	listen(t, "gone.tailscale.com", "443", echo)
	for name, target := range map[string]string{
		"nobody listens":   "nobody.tailscale.com:443",
		"no such host":     "unknown.tailscale.com:80",
		"an empty label":   ".tailscale.com:443",
		"two dots in line": "a..tailscale.com:443",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, r)
			c.put(request(target))
			c.wantAnswer(502, "Connect failure\n")
			// Another try on the same connection.
			c.put(request(target))
			c.wantAnswer(502, "Connect failure\n")
			c.put(request("gone.tailscale.com:443"))
			c.want(opened)
			c.put("hello")
			c.want("hello")
		})
	}
}

// Connecting has 15 s, and a client that leaves meanwhile leaves nothing behind.
func TestSlowTarget(t *testing.T) {
	t.Parallel()
	r := start(t, relay.Options{})
	full := fullListener(t, hosts["slow.tailscale.com"], 443)
	gone := dial(t, r)
	gone.put(request("slow.tailscale.com:443"))
	gone.NetConn().Close()

	c := dial(t, r)
	begun := time.Now()
	c.put(request("slow.tailscale.com:443"))
	c.wantAnswer(502, "Connect failure\n")
	if took := time.Since(begun); took < 14*time.Second || took > 15*time.Second+relay.Slack {
		t.Errorf("it took %v, want 15 s", took)
	}
	syscall.Close(full)
	if n := r.OpenFiles(t); n > 40 {
		t.Errorf("%d descriptors are open", n)
	}
}

// fullListener is a listener whose backlog is full: connections to it come to nothing.
func fullListener(t *testing.T, ip string, port int) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	address := &syscall.SockaddrInet4{Port: port}
	copy(address.Addr[:], net.ParseIP(ip).To4())
	if err := syscall.Bind(fd, address); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", ip, port), 300*time.Millisecond)
		if err != nil {
			return fd
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog does not fill up")
	return -1
}

// Both ways at once, far more than fits anywhere on the way, each byte checked; and while one side does
// not read, the relay does not buffer for it.
func TestLargeTransfers(t *testing.T) {
	t.Parallel()
	const size = 48 << 20
	r := start(t, relay.Options{})
	there, back := stream(1, size), stream(2, size)
	type received struct {
		sum [32]byte
		n   int64
	}
	atTarget := make(chan received, 1)
	begin := make(chan bool)
	listen(t, "big.tailscale.com", "443", func(c net.Conn) {
		done := make(chan bool)
		go func() {
			io.Copy(c, bytes.NewReader(back))
			done <- true
		}()
		<-begin // Nothing is read here at first.
		h := sha256.New()
		n, _ := io.CopyN(h, c, size)
		atTarget <- received{[32]byte(h.Sum(nil)), n}
		<-done
		// The client ends the tunnel.
		io.Copy(io.Discard, c)
	})
	before := r.RSS(t)
	c := open(t, r, "big.tailscale.com:443")
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(there)
		sent <- err
	}()
	// Neither side reads, and both write until nothing goes any more.
	select {
	case err := <-sent:
		t.Fatalf("%d bytes went to who reads nothing: %v", size, err)
	case <-time.After(2 * time.Second):
	}
	if grown := r.RSS(t) - before; grown > 24<<20 && !relay.IsDerper() {
		t.Errorf("the relay holds %d MiB for a tunnel in which nothing moves", grown>>20)
	}
	close(begin)
	h := sha256.New()
	if n, err := io.CopyN(h, c.r, size); err != nil || [32]byte(h.Sum(nil)) != sha256.Sum256(back) {
		t.Errorf("from the target: %d bytes, %v, or other ones", n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	select {
	case got := <-atTarget:
		if got.n != size || got.sum != sha256.Sum256(there) {
			t.Errorf("to the target: %d bytes, or other ones", got.n)
		}
	case <-time.After(patience):
		t.Error("the target waits for more")
	}
}

// stream gives bytes that do not repeat.
func stream(seed uint64, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func TestWhoLeavesEndsTheTunnel(t *testing.T) {
	t.Parallel()
	r := start(t, relay.Options{})
	ended := make(chan error, 16)
	listen(t, "leaves.tailscale.com", "443", func(c net.Conn) {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	last := strings.Repeat("last words ", 50_000)
	listen(t, "leaves.tailscale.com", "80", func(c net.Conn) { io.WriteString(c, last) })
	wantEnd := func(t *testing.T) {
		t.Helper()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the target was not told")
		}
	}
	t.Run("the client, in order", func(t *testing.T) {
		open(t, r, "leaves.tailscale.com:443").Close()
		wantEnd(t)
	})
	t.Run("the client, without a word", func(t *testing.T) {
		open(t, r, "leaves.tailscale.com:443").NetConn().Close()
		wantEnd(t)
	})
	t.Run("the client, by a reset", func(t *testing.T) {
		c := open(t, r, "leaves.tailscale.com:443")
		c.NetConn().(*net.TCPConn).SetLinger(0)
		c.NetConn().Close()
		wantEnd(t)
	})
	t.Run("the target", func(t *testing.T) {
		c := open(t, r, "leaves.tailscale.com:80")
		c.want(last)
		c.wantEnd()
	})
}

func TestOneSideMayEndAlone(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "one direction of a tunnel may end alone") {
		return
	}
	r := start(t, relay.Options{})
	listen(t, "half.tailscale.com", "80", func(c net.Conn) {
		asked, _ := io.ReadAll(c)
		fmt.Fprintf(c, "you said %q", asked)
	})
	c := open(t, r, "half.tailscale.com:80")
	c.put("everything")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.want(`you said "everything"`)
	c.wantEnd()
}

func TestTunnelsAreBounded(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "the number of tunnels is bounded") {
		return
	}
	// 64 descriptors less 24, a quarter of which is for tunnels.
	r := start(t, relay.Options{Wrap: []string{"sh", "-c", `ulimit -n 64; exec "$0" "$@"`}})
	listen(t, "many.tailscale.com", "443", echo)
	var tunnels []*client
	for range 10 {
		tunnels = append(tunnels, open(t, r, "many.tailscale.com:443"))
	}
	c := dial(t, r)
	c.put(request("many.tailscale.com:443"))
	c.wantAnswer(503, "too many CONNECT tunnels\n")
	vars := r.Varz(t)
	for name, want := range map[string]float64{
		"detour_connect_tunnels":                         10,
		`detour_connect_requests_total{result="opened"}`: 10,
		`detour_connect_requests_total{result="busy"}`:   1,
	} {
		if vars[name] != want {
			t.Errorf("%s is %v, want %v", name, vars[name], want)
		}
	}
	tunnels[3].Close()
	if !relay.Poll(patience, func() bool { return r.Varz(t)["detour_connect_tunnels"] == 9 }) {
		t.Error("a tunnel whose client left is still counted")
	}
	c.put(request("many.tailscale.com:443"))
	c.want(opened)
}
