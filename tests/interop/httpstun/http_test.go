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

// What status and headers are is in the table of table_test.go; here is what the pages say.
func TestPagesOfTheMainPort(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	run(t, "https://"+r.Addr, []row{
		{path: "/", status: 200, want: with(browserHeaders, "Content-Type", "text/html; charset=utf-8"), bodyHas: []string{"<h1>DERP</h1>", "Tailscale", "DERP server", "/debug/"}},
		{method: "POST", path: "/", status: 200, bodyHas: []string{"<h1>DERP</h1>", "/debug/"}},
		{path: "/nope", status: 200, bodyHas: []string{"<h1>DERP</h1>"}},
		{path: "/robots.txt", status: 200, body: "User-agent: *\nDisallow: /\n"},
		{path: "/debug/vars", status: 200, bodyHas: []string{`"derp"`}},
		{path: "/debug/varz", status: 200, bodyHas: []string{"# TYPE derp_accepts counter\n"}},
	})
	// From a caller without access the page does not point to the debug pages.
	t.Run("home page through a proxy", func(t *testing.T) {
		t.Parallel()
		req, _ := http.NewRequest("GET", "https://"+r.Addr+"/", nil)
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer tr.CloseIdleConnections()
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || !strings.Contains(string(body), "<h1>DERP</h1>") || strings.Contains(string(body), "/debug/") {
			t.Errorf("%v, %s", err, body)
		}
	})
}

func TestHomePageWithoutDERP(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-derp=false"}})
	row{path: "/", status: 200, want: browserHeaders, bodyHas: []string{"disabled"}}.check(t, "https://"+r.Addr)
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
