// Package httpstun_test checks a relay's HTTP surface, its metrics and its STUN server.
package httpstun_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

const timeout = 10 * time.Second

// browserHeaders are on every page that a browser may show.
var browserHeaders = map[string]string{
	"Strict-Transport-Security": "max-age=63072000; includeSubDomains",
	"Content-Security-Policy":   "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; block-all-mixed-content; object-src 'none'",
	"X-Frame-Options":           "DENY",
	"X-Content-Type-Options":    "nosniff",
}

var noBrowserHeaders = map[string]string{
	"Strict-Transport-Security": "",
	"Content-Security-Policy":   "",
	"X-Frame-Options":           "",
}

func with(base map[string]string, more ...string) map[string]string {
	m := map[string]string{}
	for k, v := range base {
		m[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

type row struct {
	name    string
	method  string // default GET
	path    string
	headers map[string]string // of the request
	status  int
	want    map[string]string // headers of the answer; "" is absent
	body    string            // exact, unless bodyHas is set
	bodyHas []string
}

func (c row) check(t *testing.T, base string) {
	t.Helper()
	method := c.method
	if method == "" {
		method = "GET"
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, query, hasQuery := strings.Cut(c.path, "?")
	req.URL.Path = path
	if hasQuery {
		req.URL.RawQuery = query
	}
	for k, v := range c.headers {
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	tr := &http.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
		DisableCompression: true,
	}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, c.path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the body: %v", method, c.path, err)
	}
	if res.StatusCode != c.status {
		t.Errorf("%s %s: status %d, want %d", method, c.path, res.StatusCode, c.status)
	}
	if len(res.Header.Values("Date")) != 1 {
		t.Errorf("%s %s: Date %q, want one", method, c.path, res.Header.Values("Date"))
	}
	for k, v := range c.want {
		if got := res.Header.Get(k); got != v {
			t.Errorf("%s %s: %s is %q, want %q", method, c.path, k, got, v)
		}
		if n := len(res.Header.Values(k)); n > 1 {
			t.Errorf("%s %s: %s comes %d times", method, c.path, k, n)
		}
	}
	if c.bodyHas == nil && string(body) != c.body {
		t.Errorf("%s %s: body %q, want %q", method, c.path, body, c.body)
	}
	for _, s := range c.bodyHas {
		if !strings.Contains(string(body), s) {
			t.Errorf("%s %s: the body lacks %q:\n%s", method, c.path, s, body)
		}
	}
}

const textPlain = "text/plain; charset=utf-8"

func run(t *testing.T, base string, rows []row) {
	for _, c := range rows {
		name := c.name
		if name == "" {
			name = c.method + " " + c.path
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t, base)
		})
	}
}

var noContent = with(noBrowserHeaders,
	"Cache-Control", "no-cache, no-store, must-revalidate, no-transform, max-age=0", "Content-Type", "", "Content-Length", "")

// generate204 holds on both ports.
func generate204() []row {
	long := strings.Repeat("a", 64)
	answer := func(challenge, response string) row {
		return row{
			name: "challenge " + challenge, path: "/generate_204", status: 204,
			headers: map[string]string{"X-Tailscale-Challenge": challenge},
			want:    with(noContent, "X-Tailscale-Response", response),
		}
	}
	return []row{
		{path: "/generate_204", status: 204, want: with(noContent, "X-Tailscale-Response", "")},
		{path: "/generate_204?t=1700000000", status: 204, want: noContent},
		{method: "HEAD", path: "/generate_204", status: 204, want: noContent},
		{method: "POST", path: "/generate_204", status: 204, want: noContent},
		answer("ts_127.0.0.1", "response ts_127.0.0.1"),
		answer("ts_derp1.example.com", "response ts_derp1.example.com"),
		answer("azAZ09.-_:", "response azAZ09.-_:"),
		answer(long, "response "+long),
		answer(long+"a", ""),
		answer("with blank", ""),
		answer("slash/", ""),
		answer("<script>", ""),
		answer("caf\u00e9", ""),
		answer("a,b", ""),
	}
}

func TestMainPort(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	home := row{status: 200, want: with(browserHeaders, "Content-Type", "text/html; charset=utf-8"), bodyHas: []string{"<h1>DERP</h1>", "Tailscale", "DERP server", "/debug/"}}
	at := func(path string) row { c := home; c.path = path; return c }
	headHome := home
	headHome.method, headHome.path, headHome.bodyHas = "HEAD", "/", nil
	postHome := home
	postHome.method, postHome.path = "POST", "/"
	// From a caller without access the page does not point to the debug pages.
	forwarded := home
	forwarded.name, forwarded.path, forwarded.headers = "home page through a proxy", "/", map[string]string{"X-Forwarded-For": "192.0.2.1"}
	forwarded.bodyHas = []string{"<h1>DERP</h1>"}
	probe := with(noBrowserHeaders, "Access-Control-Allow-Origin", "*", "Content-Length", "0")
	noProbe := map[string]string{"Content-Type": textPlain, "X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": ""}
	rows := []row{
		at("/"), at("/nope"), at("/derp/"), at("/derp/nope"), at("/index.html"), at("/generate_204/"), at("/robots.txt/"),
		headHome, postHome, forwarded,
		{path: "/derp/probe", status: 200, want: probe},
		{path: "/derp/latency-check", status: 200, want: probe},
		{path: "/derp/probe?x=1", status: 200, want: probe},
		{method: "HEAD", path: "/derp/probe", status: 200, want: with(probe, "Content-Length", "")},
		{method: "HEAD", path: "/derp/latency-check", status: 200, want: with(probe, "Content-Length", "")},
		{method: "POST", path: "/derp/probe", status: 405, want: noProbe, body: "bogus probe method\n"},
		{method: "DELETE", path: "/derp/latency-check", status: 405, want: noProbe, body: "bogus probe method\n"},
		{method: "OPTIONS", path: "/derp/probe", status: 405, want: noProbe, body: "bogus probe method\n"},
		{path: "/robots.txt", status: 200, want: with(browserHeaders, "Content-Type", textPlain), body: "User-agent: *\nDisallow: /\n"},
		{method: "HEAD", path: "/robots.txt", status: 200, want: browserHeaders},
		{path: "/derp", status: 426, want: map[string]string{"Content-Type": textPlain, "X-Content-Type-Options": "nosniff"}, body: "DERP requires connection upgrade\n"},
		{method: "POST", path: "/derp", status: 426, body: "DERP requires connection upgrade\n"},
	}
	// HEAD may or may not carry a Content-Length.
	for i := range rows {
		if rows[i].method == "HEAD" {
			delete(rows[i].want, "Content-Length")
		}
	}
	run(t, "https://"+r.Addr, append(rows, generate204()...))
}

func TestHomePageFlag(t *testing.T) {
	t.Parallel()
	html := with(browserHeaders, "Content-Type", "text/html; charset=utf-8")
	for _, c := range []struct {
		flag string
		row  row
	}{
		{"blank", row{path: "/", status: 200, want: html}},
		{"blank", row{path: "/nope", status: 200, want: html}},
		{"https://example.com/about?x=1", row{path: "/", status: 302, want: with(browserHeaders, "Location", "https://example.com/about?x=1"), bodyHas: []string{}}},
		{"http://example.com", row{path: "/nope", status: 302, want: with(browserHeaders, "Location", "http://example.com"), bodyHas: []string{}}},
	} {
		t.Run(c.flag+c.row.path, func(t *testing.T) {
			t.Parallel()
			r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-home", c.flag}})
			c.row.check(t, "https://"+r.Addr)
			// Everything else stays.
			row{path: "/derp/probe", status: 200, want: noBrowserHeaders}.check(t, "https://"+r.Addr)
			row{path: "/robots.txt", status: 200, want: browserHeaders, bodyHas: []string{"Disallow"}}.check(t, "https://"+r.Addr)
		})
	}
	t.Run("DERP switched off", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-derp=false"}})
		row{path: "/", status: 200, want: html, bodyHas: []string{"disabled"}}.check(t, "https://"+r.Addr)
	})
}

func TestHTTPPort(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	host := map[string]string{"Host": "derp1.example.com"}
	to := func(url string) map[string]string { return with(noBrowserHeaders, "Location", url) }
	any := []string{}
	rows := []row{
		{name: "a page", path: "/nope", headers: host, status: 302, want: to("https://derp1.example.com/nope"), bodyHas: any},
		{name: "a page with a query", path: "/a/b?c=d&e=%20f", headers: host, status: 302, want: to("https://derp1.example.com/a/b?c=d&e=%20f"), bodyHas: any},
		{name: "HEAD", method: "HEAD", path: "/x", headers: host, status: 302, want: to("https://derp1.example.com/x")},
		{name: "a host with a port keeps it", path: "/x", headers: map[string]string{"Host": "derp1.example.com:8080"}, status: 302, want: to("https://derp1.example.com:8080/x"), bodyHas: any},
		{name: "the root from a trusted caller", path: "/", headers: host, status: 302, want: to("https://derp1.example.com/debug/"), bodyHas: any},
		{name: "the root through a proxy", path: "/", headers: map[string]string{"Host": "derp1.example.com", "X-Forwarded-For": "192.0.2.1"}, status: 302, want: to("https://derp1.example.com/"), bodyHas: any},
		{name: "a probe", path: "/derp/probe", headers: host, status: 302, want: to("https://derp1.example.com/derp/probe"), bodyHas: any},
		{name: "DERP", path: "/derp", headers: map[string]string{"Host": "derp1.example.com", "Upgrade": "DERP", "Connection": "Upgrade"}, status: 302, want: to("https://derp1.example.com/derp"), bodyHas: any},
		{name: "an ACME challenge in manual mode", path: "/.well-known/acme-challenge/token", headers: host, status: 302, want: to("https://derp1.example.com/.well-known/acme-challenge/token"), bodyHas: any},
		{name: "POST", method: "POST", path: "/x", status: 400, want: map[string]string{"Content-Type": textPlain, "X-Content-Type-Options": "nosniff"}, body: "Use HTTPS\n"},
		{name: "PUT /", method: "PUT", path: "/", status: 400, body: "Use HTTPS\n"},
		{name: "metrics", path: "/debug/vars", status: 200, want: map[string]string{"Content-Type": "application/json; charset=utf-8"}, bodyHas: []string{`"derp"`}},
		{name: "metrics for Prometheus", path: "/debug/varz", status: 200, bodyHas: []string{"derp_accepts"}},
		{name: "metrics through a proxy", path: "/debug/varz", headers: map[string]string{"X-Forwarded-For": "127.0.0.1"}, status: 403, body: "debug access denied\n"},
	}
	run(t, "http://"+r.HTTPAddr, append(rows, generate204()...))
}

func TestHTTPPortSwitchedOff(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, HTTPPort: -1})
	if res, _, err := r.Get("/generate_204"); err != nil || res.StatusCode != 204 {
		t.Errorf("main port: %v %v", res, err)
	}
	if got := r.ListenPorts(t); len(got) != 1 || got[0] != r.Port {
		t.Errorf("it listens on %v, want only %d", got, r.Port)
	}
	on := relay.Start(t, relay.Options{NoSTUN: true})
	want := []int{min(on.Port, on.HTTPPort), max(on.Port, on.HTTPPort)}
	if got := on.ListenPorts(t); !slices.Equal(got, want) {
		t.Errorf("with the HTTP port it listens on %v, want %v", got, want)
	}
}

func TestDebugAccess(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(" \n open-sesame\t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := relay.Start(t, relay.Options{NoSTUN: true, Env: []string{"TS_DEBUG_KEY_PATH=" + secret}})
	proxied := map[string]string{"X-Forwarded-For": "192.0.2.1"}
	denied := with(map[string]string{"Content-Type": textPlain, "X-Content-Type-Options": "nosniff"})
	const no = "debug access denied\n"
	debugHeaders := with(browserHeaders, "Content-Security-Policy", browserHeaders["Content-Security-Policy"]+"; style-src 'self' 'unsafe-inline'")
	rows := []row{
		{name: "loopback", path: "/debug/vars", status: 200, want: with(debugHeaders, "Content-Type", "application/json; charset=utf-8"), bodyHas: []string{`"derp"`}},
		{name: "loopback, Prometheus", path: "/debug/varz", status: 200, want: debugHeaders, bodyHas: []string{"# TYPE derp_accepts counter\n"}},
		{name: "HEAD from loopback", method: "HEAD", path: "/debug/vars", status: 200, want: debugHeaders},
		{name: "an unknown page from loopback", path: "/debug/nope", status: 404, bodyHas: []string{}},
		{name: "proxied", path: "/debug/vars", headers: proxied, status: 403, want: denied, body: no},
		{name: "proxied, Prometheus", path: "/debug/varz", headers: proxied, status: 403, want: denied, body: no},
		{name: "proxied for loopback", path: "/debug/vars", headers: map[string]string{"X-Forwarded-For": "127.0.0.1"}, status: 403, want: denied, body: no},
		{name: "proxied, unknown page", path: "/debug/nope", headers: proxied, status: 403, want: denied, body: no},
		{name: "proxied, index", path: "/debug/", headers: proxied, status: 403, want: denied, body: no},
		{name: "proxied with the key", path: "/debug/vars?debugkey=open-sesame", headers: proxied, status: 200, bodyHas: []string{`"derp"`}},
		{name: "proxied with the key among others", path: "/debug/varz?a=b&debugkey=open%2Dsesame&c=d", headers: proxied, status: 200, bodyHas: []string{"derp_accepts"}},
		{name: "proxied with a wrong key", path: "/debug/vars?debugkey=open-sesam", headers: proxied, status: 403, body: no},
		{name: "proxied with an empty key", path: "/debug/vars?debugkey=", headers: proxied, status: 403, body: no},
		{name: "proxied with the file's white space", path: "/debug/vars?debugkey=%20open-sesame", headers: proxied, status: 403, body: no},
		{name: "the key in a POST", method: "POST", path: "/debug/vars?debugkey=open-sesame", headers: proxied, status: 403, body: no},
	}
	run(t, "https://"+r.Addr, rows)

	t.Run("no key file", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{NoSTUN: true})
		row{path: "/debug/vars?debugkey=", headers: proxied, status: 403, body: no}.check(t, "https://"+r.Addr)
		row{path: "/debug/vars?debugkey=x", headers: proxied, status: 403, body: no}.check(t, "https://"+r.Addr)
	})
}

// request is one request and what its answer begins with, on a connection used for many.
type request struct{ text, status, body string }

func (q request) check(t *testing.T, r *bufio.Reader) {
	t.Helper()
	method, _, _ := strings.Cut(q.text, " ")
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", q.text, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%q: %v", q.text, err)
	}
	if res.Proto != "HTTP/1.1" || !strings.HasPrefix(res.Status, q.status) {
		t.Errorf("%q: %s %s, want HTTP/1.1 %s", q.text, res.Proto, res.Status, q.status)
	}
	if q.body != "" && string(body) != q.body {
		t.Errorf("%q: body %q, want %q", q.text, body, q.body)
	}
}

var many = []request{
	{"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n", "200", ""},
	{"HEAD /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n", "200", ""},
	{"GET /generate_204 HTTP/1.1\r\nHost: x\r\n\r\n", "204", ""},
	{"GET /robots.txt HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", "200", "User-agent: *\nDisallow: /\n"},
	{"POST /derp/probe HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world", "405", "bogus probe method\n"},
	{"POST /nope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", "200", ""},
	{"GET /derp HTTP/1.1\r\nHost: x\r\n\r\n", "426", "DERP requires connection upgrade\n"},
	{"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", "200", ""},
	{"GET /derp/latency-check HTTP/1.1\r\nHost: x\r\n\r\n", "200", ""},
}

func TestManyRequestsOnOneConnection(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	t.Run("one after the other", func(t *testing.T) {
		t.Parallel()
		c := wire.Dial(t, r)
		for range 3 {
			for _, q := range many {
				c.Put([]byte(q.text))
				c.SetReadDeadline(time.Now().Add(timeout))
				q.check(t, c.R)
			}
		}
	})
	t.Run("all in one write", func(t *testing.T) {
		t.Parallel()
		c := wire.Dial(t, r)
		var all string
		for _, q := range many {
			all += q.text
		}
		c.Put([]byte(all))
		c.SetReadDeadline(time.Now().Add(timeout))
		for _, q := range many {
			q.check(t, c.R)
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		t.Parallel()
		c := wire.Dial(t, r)
		for _, q := range many[:6] {
			for i := range len(q.text) {
				c.Put([]byte(q.text[i : i+1]))
			}
			c.SetReadDeadline(time.Now().Add(timeout))
			q.check(t, c.R)
		}
	})
	t.Run("on the HTTP port", func(t *testing.T) {
		t.Parallel()
		c := wire.DialTCP(t, r, r.HTTPAddr)
		for range 3 {
			for _, q := range []request{
				{"GET /generate_204 HTTP/1.1\r\nHost: x\r\n\r\n", "204", ""},
				{"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "302", ""},
				{"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "400", "Use HTTPS\n"},
				{"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n", "302", ""},
			} {
				c.Put([]byte(q.text))
				c.SetReadDeadline(time.Now().Add(timeout))
				q.check(t, c.R)
			}
		}
	})
}

func TestConnectionsEndWhenTheRequestSaysSo(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, text := range []string{
		"GET /robots.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /robots.txt HTTP/1.0\r\n\r\n",
	} {
		t.Run(strings.Fields(text)[2], func(t *testing.T) {
			t.Parallel()
			c := wire.Dial(t, r)
			c.Put([]byte(text))
			c.SetReadDeadline(time.Now().Add(timeout))
			all, err := io.ReadAll(c.R) // up to the end of the connection
			if err != nil {
				t.Fatalf("the connection stays open: %v", err)
			}
			if !strings.HasPrefix(string(all), "HTTP/1.") || !strings.HasSuffix(string(all), "Disallow: /\n") {
				t.Errorf("got %q", all)
			}
		})
	}
}

// Requests that are none get 400 (or 505) and the end of the connection, never silence.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for name, text := range map[string]string{
		"no HTTP":                    "hello\r\n\r\n",
		"no version":                 "GET /\r\n\r\n",
		"unknown version":            "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
		"no Host":                    "GET / HTTP/1.1\r\n\r\n",
		"two Hosts":                  "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"header without a colon":     "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
		"blank before the colon":     "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
		"bad length":                 "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
		"two lengths":                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"negative length":            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"unknown transfer encoding":  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
		"control byte in a header":   "GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
		"blank in the header's name": "GET / HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := wire.Dial(t, r)
			c.Put([]byte(text))
			c.SetReadDeadline(time.Now().Add(timeout))
			all, err := io.ReadAll(c.R)
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Fatalf("the connection is still open; got %q so far", all)
			}
			status := ""
			if f := strings.Fields(string(all)); len(f) > 1 && strings.HasPrefix(f[0], "HTTP/1.") {
				status = f[1]
			}
			if len(all) > 0 && status != "400" && status != "505" && status != "501" {
				t.Errorf("got %q, want status 400, 501 or 505, or the end", all)
			}
		})
	}
}

func TestPlainHTTPOnTheTLSPortIsToldSoOrCut(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.DialTCP(t, r, r.Addr)
	c.Put([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	c.SetReadDeadline(time.Now().Add(timeout))
	all, err := io.ReadAll(c.R)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatalf("the connection is still open; got %q so far", all)
	}
	if strings.HasPrefix(string(all), "HTTP/") && !strings.Contains(strings.SplitN(string(all), "\r\n", 2)[0], " 400 ") {
		t.Errorf("got %q, want status 400", all)
	}
}

func TestALPN(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, c := range []struct {
		offer []string
		want  string
	}{
		{nil, ""},
		{[]string{"http/1.1"}, "http/1.1"},
		{[]string{"h2", "http/1.1"}, "http/1.1"},
		{[]string{"http/1.1", "h2"}, "http/1.1"},
	} {
		t.Run(fmt.Sprint(c.offer), func(t *testing.T) {
			cfg := r.TLSConfig()
			cfg.NextProtos = c.offer
			conn, err := wire.DialError(t, r, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != c.want {
				t.Errorf("offered %v, got %q, want %q", c.offer, got, c.want)
			}
			conn.Login(wire.DefaultInfo)
		})
	}
}
