package httpstun_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// site is how the relays of some rows are started.
type site int

const (
	ordinary   site = iota // TLS with a certificate for an address
	blank                  // -home blank
	redirected             // -home with a URL
	noDERP                 // -derp=false
	withKey                // TS_DEBUG_KEY_PATH
	plain                  // no TLS: the main listener speaks HTTP
	siteCount
)

// port is which listener a request goes to.
type port int

const (
	mainPort port = iota
	httpPort
)

// exchange is one raw request. Both servers get it, and have to answer with this status and, but for the
// Date, with the very same headers and body.
type exchange struct {
	name    string
	site    site
	port    port
	request string // "{}" becomes the end of a head with a Host
	status  int
	differs string // why Detour's answer is not derper's; only this status is checked then, of each
	ours    int    // Detour's status where that differs
	gist    bool   // the page is text or numbers of its own: body and its length are not compared
	stream  bool   // the answer has no end: its head alone is compared
}

// get is a request of HTTP/1.1 with the headers given, each ending in CRLF.
func get(target string, headers ...string) string { return ask("GET", target, headers...) }

func ask(method, target string, headers ...string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: relay.example\r\n" + strings.Join(headers, "\r\n") +
		map[bool]string{true: "\r\n", false: ""}[len(headers) > 0] + "\r\n"
}

const (
	forwarded = "X-Forwarded-For: 192.0.2.1"
	loopback  = "X-Forwarded-For: 127.0.0.1"
	since1104 = "the page came with v1.104"
	goRuntime = "a page about the runtime of Go"
	// wordsOf400: of what is no request.
	wordsOf400 = "the text and the headers of 400 are not those of Go's server"
)

func exchanges() []exchange {
	rows := []exchange{
		// The main listener.
		{name: "DERP without an upgrade", request: get("/derp"), status: 426},
		{name: "DERP without an upgrade, HEAD", request: ask("HEAD", "/derp"), status: 426},
		{name: "DERP with another upgrade", request: get("/derp", "Upgrade: h2c", "Connection: Upgrade"), status: 426},
		{name: "probe", request: get("/derp/probe"), status: 200},
		{name: "probe, HEAD", request: ask("HEAD", "/derp/probe"), status: 200},
		{name: "probe with a query", request: get("/derp/probe?a=b"), status: 200},
		{name: "probe, POST", request: ask("POST", "/derp/probe", "Content-Length: 0"), status: 405},
		{name: "probe, OPTIONS of a browser", request: ask("OPTIONS", "/derp/probe", "Origin: https://x.example", "Access-Control-Request-Method: GET"), status: 405},
		{name: "probe, unknown method", request: ask("BREW", "/derp/probe"), status: 405},
		{name: "latency check", request: get("/derp/latency-check"), status: 200},
		{name: "latency check, HEAD", request: ask("HEAD", "/derp/latency-check"), status: 200},
		{name: "latency check, DELETE", request: ask("DELETE", "/derp/latency-check"), status: 405},
		{name: "below the probe", request: get("/derp/probe/"), status: 200, gist: true},
		{name: "below DERP", request: get("/derp/"), status: 200, gist: true},
		{name: "further below DERP", request: get("/derp/nope"), status: 200, gist: true},
		{name: "DERP, POST", request: ask("POST", "/derp", "Content-Length: 0"), status: 426},
		{name: "no content", request: get("/generate_204"), status: 204},
		{name: "no content, HEAD", request: ask("HEAD", "/generate_204"), status: 204},
		{name: "no content, POST", request: ask("POST", "/generate_204", "Content-Length: 3") + "abc", status: 204},
		{name: "bootstrap DNS", request: get("/bootstrap-dns"), status: 200},
		{name: "bootstrap DNS, POST", request: ask("POST", "/bootstrap-dns?q=x", "Content-Length: 0"), status: 200},
		{name: "bootstrap DNS, HEAD", request: ask("HEAD", "/bootstrap-dns"), status: 200},
		{name: "robots", request: get("/robots.txt"), status: 200},
		{name: "robots, HEAD", request: ask("HEAD", "/robots.txt"), status: 200},
		{name: "robots, PUT", request: ask("PUT", "/robots.txt", "Content-Length: 0"), status: 200},
		{name: "below robots", request: get("/robots.txt/"), status: 200, gist: true},
		{name: "below no content", request: get("/generate_204/"), status: 200, gist: true},
		{name: "home", request: get("/"), status: 200, gist: true},
		{name: "home by another name", request: get("/index.html"), status: 200, gist: true},
		{name: "home of others", request: get("/", forwarded), status: 200, gist: true},
		{name: "home, HEAD", request: ask("HEAD", "/"), status: 200, gist: true},
		{name: "home, POST", request: ask("POST", "/", "Content-Length: 0"), status: 200, gist: true},
		{name: "home in absolute form", request: get("http://other.example/"), status: 200, gist: true},
		{name: "home of HTTP/1.0", request: "GET / HTTP/1.0\r\n\r\n", status: 200, gist: true},
		{name: "home of HTTP/1.0, kept", request: "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", status: 200, gist: true},
		{name: "home, closed", request: get("/", "Connection: close"), status: 200, gist: true},
		{name: "robots of HTTP/1.0, kept", request: "GET /robots.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", status: 200},
		{name: "an unknown path", request: get("/nope"), status: 200, gist: true},
		{name: "an escaped path", request: get("/%64erp/probe"), status: 200},
		{name: "an escaped slash", request: get("/derp%2Fprobe"), status: 200, gist: true},
		{name: "two slashes", request: get("//derp"), status: 307},
		{name: "two slashes and a query", request: get("//derp?a=b"), status: 307},
		{name: "a dot", request: get("/./derp/probe"), status: 307},
		{name: "two dots", request: get("/a/../derp/probe"), status: 307},
		{name: "too many dots", request: get("/../../x"), status: 307},
		{name: "a slash in the end stays", request: get("/a//b/"), status: 307},
		{name: "two slashes, POST", request: ask("POST", "//derp", "Content-Length: 0"), status: 307},
		{name: "two slashes, HEAD", request: ask("HEAD", "//derp"), status: 307},
		{name: "OPTIONS of the server", request: ask("OPTIONS", "*"), status: 200},
		{name: "a star for a path", request: get("*"), status: 400, ours: 400, differs: wordsOf400},
		{name: "CONNECT", request: ask("CONNECT", "controlplane.tailscale.com:443"), status: 403},
		{name: "no path", request: get("nope"), status: 400, ours: 400, differs: wordsOf400},
		{name: "an expectation", request: ask("POST", "/robots.txt", "Expect: 100-continue", "Content-Length: 0"), status: 200},
		{name: "an unknown expectation", request: get("/robots.txt", "Expect: something"), status: 417, ours: 200, differs: "no client expects anything but 100-continue"},
		{name: "a large head", request: get("/robots.txt", "X-Large: "+strings.Repeat("x", 12<<10)), status: 200},
		{name: "HTTP/2 without TLS", request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 400, ours: 400, differs: wordsOf400},

		// Home pages.
		{name: "blank home", site: blank, request: get("/"), status: 200},
		{name: "blank home, HEAD", site: blank, request: ask("HEAD", "/"), status: 200},
		{name: "blank home, unknown path", site: blank, request: get("/nope"), status: 200},
		{name: "home elsewhere", site: redirected, request: get("/"), status: 302},
		{name: "home elsewhere, HEAD", site: redirected, request: ask("HEAD", "/nope"), status: 302},
		{name: "home elsewhere, POST", site: redirected, request: ask("POST", "/", "Content-Length: 0"), status: 302},
		{name: "home elsewhere, robots", site: redirected, request: get("/robots.txt"), status: 200},
		{name: "home elsewhere, HTTP port", site: redirected, port: httpPort, request: get("/a"), status: 302},

		// -derp=false.
		{name: "DERP off", site: noDERP, request: get("/derp"), status: 404},
		{name: "DERP off, upgrade", site: noDERP, request: get("/derp", "Upgrade: DERP", "Connection: Upgrade"), status: 404},
		{name: "DERP off, WebSocket", site: noDERP, request: get("/derp", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: derp"), status: 404},
		{name: "DERP off, probe", site: noDERP, request: get("/derp/probe"), status: 200},
		{name: "DERP off, latency check, HEAD", site: noDERP, request: ask("HEAD", "/derp/latency-check"), status: 200},
		{name: "DERP off, no content", site: noDERP, request: get("/generate_204"), status: 204},
		{name: "DERP off, home", site: noDERP, request: get("/"), status: 200, gist: true},
		{name: "DERP off, HTTP port", site: noDERP, port: httpPort, request: get("/derp"), status: 302},

		// The HTTP port beside TLS.
		{name: "80: no content", port: httpPort, request: get("/generate_204"), status: 204},
		{name: "80: no content with a time", port: httpPort, request: get("/generate_204?t=1"), status: 204},
		{name: "80: no content, HEAD", port: httpPort, request: ask("HEAD", "/generate_204"), status: 204},
		{name: "80: no content, POST", port: httpPort, request: ask("POST", "/generate_204", "Content-Length: 0"), status: 204},
		{name: "80: a page", port: httpPort, request: get("/a/b?c=d"), status: 302},
		{name: "80: a page, HEAD", port: httpPort, request: ask("HEAD", "/a"), status: 302},
		{name: "80: a page with marks", port: httpPort, request: get("/a%20b?c=%22<x>"), status: 302},
		{name: "80: the root of who may debug", port: httpPort, request: get("/"), status: 302},
		{name: "80: the root of others", port: httpPort, request: get("/", forwarded), status: 302},
		{name: "80: the root with a query", port: httpPort, request: get("/?a=b"), status: 302},
		{name: "80: a probe", port: httpPort, request: get("/derp/probe"), status: 302},
		{name: "80: DERP", port: httpPort, request: get("/derp", "Upgrade: DERP", "Connection: Upgrade"), status: 302},
		{name: "80: POST", port: httpPort, request: ask("POST", "/a", "Content-Length: 0"), status: 400},
		{name: "80: PUT", port: httpPort, request: ask("PUT", "/", "Content-Length: 2") + "ab", status: 400},
		{name: "80: OPTIONS", port: httpPort, request: ask("OPTIONS", "/a"), status: 400},
		{name: "80: OPTIONS of the server", port: httpPort, request: ask("OPTIONS", "*"), status: 200},
		{name: "80: CONNECT", port: httpPort, request: ask("CONNECT", "controlplane.tailscale.com:443"), status: 404},
		{name: "80: two slashes", port: httpPort, request: get("//a"), status: 307},
		{name: "80: robots", port: httpPort, request: get("/robots.txt"), status: 302},
		{name: "80: a challenge nobody set", port: httpPort, request: get("/.well-known/acme-challenge/x"), status: 302},
		{name: "80: metrics", port: httpPort, request: get("/debug/varz"), status: 200, gist: true},
		{name: "80: metrics of others", port: httpPort, request: get("/debug/varz", forwarded), status: 403},
		{name: "80: metrics through a proxy here", port: httpPort, request: get("/debug/varz", loopback), status: 403},
		{name: "80: vars", port: httpPort, request: get("/debug/vars"), status: 200, gist: true},
		{name: "80: traffic", port: httpPort, request: get("/debug/traffic"), status: 200, stream: true},
		{name: "80: traffic of others", port: httpPort, request: get("/debug/traffic", forwarded), status: 403},
		{name: "80: clients", port: httpPort, request: get("/debug/clients/?all"), status: 404, ours: 200, differs: since1104},
		{name: "80: clients of others", port: httpPort, request: get("/debug/clients/?all", forwarded), status: 403},
		{name: "80: debug without its slash", port: httpPort, request: get("/debug"), status: 307},
		{name: "80: what only begins like debug", port: httpPort, request: get("/debugger"), status: 200, gist: true},
		{name: "80: absolute form", port: httpPort, request: get("http://other.example/a"), status: 302, ours: 302, differs: "derper redirects to https://other.examplehttp://other.example/a, which is no URL"},
		{name: "80: a host with a port", port: httpPort, request: "GET /a HTTP/1.1\r\nHost: relay.example:8080\r\n\r\n", status: 302},
		{name: "80: an IPv6 host", port: httpPort, request: "GET /a HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", status: 302},

		// Debug pages.
		{name: "debug index", request: get("/debug/"), status: 200, gist: true},
		{name: "debug index, HEAD", request: ask("HEAD", "/debug/"), status: 200, gist: true},
		{name: "debug index, POST", request: ask("POST", "/debug/", "Content-Length: 0"), status: 200, gist: true},
		{name: "debug index of others", request: get("/debug/", forwarded), status: 403},
		{name: "debug without its slash", request: get("/debug"), status: 307},
		{name: "debug without its slash, of others", request: get("/debug", forwarded), status: 307},
		{name: "vars", request: get("/debug/vars"), status: 200, gist: true},
		{name: "vars, HEAD", request: ask("HEAD", "/debug/vars"), status: 200, gist: true},
		{name: "vars of others", request: get("/debug/vars", forwarded), status: 403},
		{name: "vars through a proxy here", request: get("/debug/vars", loopback), status: 403},
		{name: "vars, POST", request: ask("POST", "/debug/vars", "Content-Length: 0"), status: 200, gist: true},
		{name: "varz", request: get("/debug/varz"), status: 200, gist: true},
		{name: "varz, HEAD", request: ask("HEAD", "/debug/varz"), status: 200, gist: true},
		{name: "varz of others", request: get("/debug/varz", forwarded), status: 403},
		{name: "check", request: get("/debug/check"), status: 200},
		{name: "check, HEAD", request: ask("HEAD", "/debug/check"), status: 200},
		{name: "check of others", request: get("/debug/check", forwarded), status: 403},
		{name: "traffic", request: get("/debug/traffic"), status: 200, stream: true},
		{name: "traffic, POST", request: ask("POST", "/debug/traffic", "Content-Length: 0"), status: 200, stream: true},
		{name: "traffic of others", request: get("/debug/traffic", forwarded), status: 403},
		{name: "below traffic", request: get("/debug/traffic/x"), status: 404},
		{name: "clients", request: get("/debug/clients/?all"), status: 404, ours: 200, differs: since1104},
		{name: "clients as JSON", request: get("/debug/clients/?all&format=json"), status: 404, ours: 200, differs: since1104},
		{name: "clients, HEAD", request: ask("HEAD", "/debug/clients/"), status: 404, ours: 200, differs: since1104},
		{name: "clients of others", request: get("/debug/clients/?all", forwarded), status: 403},
		{name: "an unknown debug page", request: get("/debug/nope"), status: 404},
		{name: "an unknown debug page, HEAD", request: ask("HEAD", "/debug/nope"), status: 404},
		{name: "an unknown debug page of others", request: get("/debug/nope", forwarded), status: 403},
		{name: "below a debug page", request: get("/debug/vars/x"), status: 404},
		{name: "an empty forward", request: get("/debug/check", "X-Forwarded-For: "), status: 200},
		{name: "the key", site: withKey, request: get("/debug/check?debugkey=open-sesame", forwarded), status: 200},
		{name: "the key, HEAD", site: withKey, request: ask("HEAD", "/debug/check?debugkey=open-sesame", forwarded), status: 403},
		{name: "the key, POST", site: withKey, request: ask("POST", "/debug/check?debugkey=open-sesame", forwarded, "Content-Length: 0"), status: 403},
		{name: "the key twice, the first counts", site: withKey, request: get("/debug/check?debugkey=open-sesame&debugkey=x", forwarded), status: 200},
		{name: "the key twice, the second does not", site: withKey, request: get("/debug/check?debugkey=x&debugkey=open-sesame", forwarded), status: 403},
		{name: "the key on the HTTP port", site: withKey, port: httpPort, request: get("/debug/check?debugkey=open-sesame", forwarded), status: 200},
		{name: "the key among others, escaped", site: withKey, request: get("/debug/check?a=b&debugkey=open%2Dsesame&c=d", forwarded), status: 200},
		{name: "a wrong key", site: withKey, request: get("/debug/check?debugkey=open-sesam", forwarded), status: 403},
		{name: "an empty key", site: withKey, request: get("/debug/check?debugkey=", forwarded), status: 403},
		{name: "the white space of the file", site: withKey, request: get("/debug/check?debugkey=%20open-sesame", forwarded), status: 403},
		{name: "traffic with the key", site: withKey, request: get("/debug/traffic?debugkey=open-sesame", forwarded), status: 200, stream: true},
		{name: "clients with the key", site: withKey, request: get("/debug/clients/?all&debugkey=open-sesame", forwarded), status: 404, ours: 200, differs: since1104},
		{name: "no key file, an empty key", request: get("/debug/check?debugkey=", forwarded), status: 403},
		{name: "no key file, some key", request: get("/debug/check?debugkey=x", forwarded), status: 403},
		{name: "the root with the key", site: withKey, port: httpPort, request: get("/?debugkey=open-sesame", forwarded), status: 302},
		{name: "mutex profile", request: get("/debug/set-mutex-profile-fraction"), status: 400, ours: 404, differs: goRuntime},
		{name: "garbage collection", request: get("/debug/gc"), status: 200, ours: 404, differs: goRuntime},
		{name: "profiles", request: get("/debug/pprof/"), status: 200, ours: 404, differs: goRuntime},
		{name: "command line", request: get("/debug/pprof/cmdline"), status: 200, ours: 404, differs: goRuntime},

		// Without TLS.
		{name: "plain: probe", site: plain, request: get("/derp/probe"), status: 200},
		{name: "plain: DERP without an upgrade", site: plain, request: get("/derp"), status: 426},
		{name: "plain: no content", site: plain, request: get("/generate_204"), status: 204},
		{name: "plain: home", site: plain, request: get("/"), status: 200, gist: true},
		{name: "plain: robots", site: plain, request: get("/robots.txt"), status: 200},
		{name: "plain: check", site: plain, request: get("/debug/check"), status: 200},
		{name: "plain: CONNECT", site: plain, request: ask("CONNECT", "controlplane.tailscale.com:443"), status: 404},
		{name: "plain: OPTIONS of the server", site: plain, request: ask("OPTIONS", "*"), status: 200},
		{name: "plain: a challenge", site: plain, request: get("/.well-known/acme-challenge/x"), status: 200, gist: true},
	}
	for _, challenge := range []string{
		"", "ts_127.0.0.1", "ts_derp1.example.com", "azAZ09.-_:", strings.Repeat("a", 64), strings.Repeat("a", 65), "with blank", "slash/",
		"<script>", "caf\u00e9", "a,b",
	} {
		rows = append(rows,
			exchange{name: "challenge " + challenge, request: get("/generate_204", "X-Tailscale-Challenge: "+challenge), status: 204},
			exchange{name: "80: challenge " + challenge, port: httpPort, request: get("/generate_204", "X-Tailscale-Challenge: "+challenge), status: 204})
	}
	return rows
}

func startSite(t *testing.T, s site, binary string) *relay.Relay {
	t.Helper()
	o := relay.Options{NoSTUN: true, Binary: binary}
	switch s {
	case blank:
		o.Args = []string{"-home", "blank"}
	case redirected:
		o.Args = []string{"-home", "https://example.com/about?a=b&c=d"}
	case noDERP:
		o.Args = []string{"-derp=false"}
	case withKey:
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(" \n open-sesame\t\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Env = []string{"TS_DEBUG_KEY_PATH=" + file}
	case plain:
		o.NoWait = true
		o.Args = []string{"-certmode", "letsencrypt"}
	}
	r := relay.Start(t, o)
	if s == plain {
		r.WaitForKey(t)
	}
	return r
}

// answer is all of an answer; of Date it is how many there are.
type answer struct {
	status  int
	line    string
	headers map[string]string
	body    string
	closes  bool
}

func (e exchange) send(t *testing.T, r *relay.Relay) answer {
	t.Helper()
	var c net.Conn
	var err error
	switch {
	case e.port == httpPort:
		c, err = net.Dial("tcp", r.HTTPAddr)
	case e.site == plain:
		c, err = net.Dial("tcp", r.Addr)
	default:
		c, err = tls.Dial("tcp", r.Addr, r.TLSConfig())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * timeout))
	if _, err := io.WriteString(c, e.request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(e.request, " ")
	if method == "CONNECT" {
		method = "GET" // Refusals have a body, which ReadResponse does not expect.
	}
	reader := bufio.NewReader(c)
	res, err := http.ReadResponse(reader, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, line: res.Proto + " " + res.Status, headers: map[string]string{}}
	for name, values := range res.Header {
		a.headers[name] = strings.Join(values, " | ")
	}
	a.headers["Date"] = fmt.Sprint(len(res.Header["Date"]))
	a.headers["Transfer-Encoding"] = strings.Join(res.TransferEncoding, " | ")
	if e.stream {
		return a
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a.body = string(body)
	// The next request shows whether the connection stays.
	io.WriteString(c, "GET /generate_204 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_, err = http.ReadResponse(reader, nil)
	a.closes = err != nil
	if e.gist {
		a.body = ""
		delete(a.headers, "Content-Length")
		delete(a.headers, "Transfer-Encoding") // of long pages
	}
	return a
}

// Every endpoint of both listeners, as derper answers it.
func TestAnswersAreThoseOfDerper(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "state is exchanged with derper") {
		return
	}
	rows := exchanges()
	names := map[string]bool{}
	for s := range siteCount {
		t.Run(fmt.Sprintf("site %d", s), func(t *testing.T) {
			theirs, ours := startSite(t, s, relay.DerperBinary(t)), startSite(t, s, relay.DetourAsDerper(t))
			for _, row := range rows {
				if row.site != s {
					continue
				}
				if names[row.name] {
					t.Errorf("two rows are called %q", row.name)
				}
				names[row.name] = true
				t.Run(row.name, func(t *testing.T) {
					want, got := row.send(t, theirs), row.send(t, ours)
					if want.status != row.status {
						t.Errorf("derper answers %d, the table says %d", want.status, row.status)
					}
					if row.differs != "" {
						if got.status != row.ours {
							t.Errorf("Detour answers %d, the table says %d", got.status, row.ours)
						}
						return
					}
					if got.line != want.line || got.closes != want.closes {
						t.Errorf("got %s, connection ends: %v; derper: %s, %v", got.line, got.closes, want.line, want.closes)
					}
					for _, name := range slices.Sorted(maps.Keys(want.headers)) {
						if got.headers[name] != want.headers[name] {
							t.Errorf("%s is %q, derper: %q", name, got.headers[name], want.headers[name])
						}
					}
					for name, value := range got.headers {
						if _, there := want.headers[name]; !there {
							t.Errorf("%s: %q, which derper has not", name, value)
						}
					}
					if got.body != want.body {
						t.Errorf("body %q, derper: %q", got.body, want.body)
					}
				})
			}
		})
	}
}
