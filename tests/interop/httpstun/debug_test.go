package httpstun_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// trafficLine is what derper v1.102.5 writes about one client.
type trafficLine struct {
	Sent, Recv uint64
	Key        key.NodePublic
}

// traffic reads rounds of /debug/traffic, which never ends by itself.
type traffic struct {
	t     *testing.T
	res   *http.Response
	lines *bufio.Scanner
}

func openTraffic(t *testing.T, r *relay.Relay) *traffic {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout+relay.Slack)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+r.Addr+"/debug/traffic", nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return &traffic{t, res, bufio.NewScanner(res.Body)}
}

// round is what one round says of each client.
func (s *traffic) round() map[key.NodePublic]trafficLine {
	s.t.Helper()
	said := map[key.NodePublic]trafficLine{}
	for s.lines.Scan() {
		if s.lines.Text() == "" {
			return said
		}
		var line trafficLine
		if err := json.Unmarshal(s.lines.Bytes(), &line); err != nil {
			s.t.Fatalf("%q: %v", s.lines.Text(), err)
		}
		said[line.Key] = line
	}
	s.t.Fatalf("the stream ended: %v", s.lines.Err())
	return nil
}

// until reads rounds until one satisfies done.
func (s *traffic) until(done func(map[key.NodePublic]trafficLine) bool) map[key.NodePublic]trafficLine {
	s.t.Helper()
	for {
		if said := s.round(); done(said) {
			return said
		}
	}
}

func TestDebugTraffic(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := key.NewNode(), key.NewNode()
	ca, cb := wire.LoginAs(t, r, a), wire.LoginAs(t, r, b)

	s := openTraffic(t, r)
	if s.res.StatusCode != 200 || !slices.Equal(s.res.TransferEncoding, []string{"chunked"}) {
		t.Errorf("status %d, transfer encoding %v", s.res.StatusCode, s.res.TransferEncoding)
	}
	for k, v := range with(browserHeaders, "Content-Type", textPlain,
		"Content-Security-Policy", browserHeaders["Content-Security-Policy"]+"; style-src 'self' 'unsafe-inline'") {
		if got := s.res.Header.Get(k); got != v {
			t.Errorf("%s is %q, want %q", k, got, v)
		}
	}

	first := s.round()
	for _, k := range []key.NodePublic{a.Public(), b.Public()} {
		if line, ok := first[k]; !ok || line.Sent == 0 || line.Recv == 0 {
			t.Errorf("the first round says %+v of %v, want what its login took", line, k)
		}
	}
	const size = 30000
	ca.Send(b.Public(), make([]byte, size))
	cb.Want(wire.RecvPacket, wire.Raw(a.Public()), make([]byte, size))
	later := s.until(func(said map[key.NodePublic]trafficLine) bool { return said[b.Public()].Sent != 0 })
	if grew := later[b.Public()].Sent - first[b.Public()].Sent; grew < size || grew > size+2000 {
		t.Errorf("%d bytes more were sent to the receiver, want about %d", grew, size)
	}
	// Who is quiet is left out.
	s.until(func(said map[key.NodePublic]trafficLine) bool { return len(said) == 0 })
}

// What HEAD asks for has an end, unlike in derper.
func TestDebugTrafficHEAD(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "streams of traffic are bounded") {
		return
	}
	r := relay.Start(t, relay.Options{NoSTUN: true})
	row{method: "HEAD", path: "/debug/traffic", status: 200}.check(t, "https://"+r.Addr)
}

// Streams are bounded, and make place when their reader leaves.
func TestDebugTrafficStreams(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "streams of traffic are bounded") {
		return
	}
	r := relay.Start(t, relay.Options{NoSTUN: true})
	var streams []*traffic
	for range 8 {
		s := openTraffic(t, r)
		s.round()
		streams = append(streams, s)
	}
	row{path: "/debug/traffic", status: 503, bodyHas: []string{"too many"}}.check(t, "https://"+r.Addr)
	streams[3].res.Body.Close()
	deadline := time.Now().Add(timeout + relay.Slack)
	for {
		s := openTraffic(t, r)
		if s.res.StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no place came free")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// listedClient is what Tailscale's derper v1.104 says of one connection.
type listedClient struct {
	ConnNum                          int64
	Key                              key.NodePublic
	Remote                           string
	ConnectedAt                      time.Time
	Connected                        time.Duration
	Active, Dup, Disabled, Home      bool
	MeshPeer, NotIdeal, Prober       bool
	Version                          int
	AppName                          string
	RxPkts, RxBytes, TxPkts, TxBytes uint64
	Senders                          uint64
}

type clientList struct {
	Query                  string
	Conns, Keys, Remaining int
	Next                   string
	Clients                []listedClient
}

func TestDebugClients(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "clients are listed") {
		return
	}
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := key.NewNode(), key.NewNode()
	ca := wire.LoginAs(t, r, a)
	cb := wire.Dial(t, r)
	cb.Priv, cb.Pub = b, b.Public()
	cb.Login(`{"version":2,"IsProber":true,"AppName":"some app"}`)
	dup := wire.LoginAs(t, r, a)
	ca.Put(wire.Encode(wire.NotePreferred, []byte{1}))
	ca.Send(b.Public(), []byte("hello"))
	cb.Want(wire.RecvPacket, wire.Raw(a.Public()), []byte("hello"))
	dup.WantAlive()

	// The counters may be a moment behind what a client has seen.
	list := func(query string) (l clientList) {
		t.Helper()
		res, body, err := r.Get("/debug/clients/?format=json&" + query)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: status %d, %s:\n%s", query, res.StatusCode, res.Header.Get("Content-Type"), body)
		}
		if err := json.Unmarshal(body, &l); err != nil {
			t.Fatalf("%s: %v:\n%s", query, err, body)
		}
		return l
	}
	deadline := time.Now().Add(timeout + relay.Slack)
	for list("key=" + b.Public().String()).Clients[0].TxPkts == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	all := list("all&sort=conn")
	if all.Conns != 3 || all.Keys != 2 || len(all.Clients) != 3 {
		t.Fatalf("the list says %+v", all)
	}
	for _, c := range all.Clients {
		if d := time.Since(c.ConnectedAt); d < 0 || d > timeout+relay.Slack {
			t.Errorf("connected %v ago", d)
		}
		if !strings.HasPrefix(c.Remote, "127.0.0.1:") || c.Version != 2 || c.Disabled || c.MeshPeer || c.NotIdeal {
			t.Errorf("client %+v", c)
		}
	}
	ofA, ofB, ofDup := all.Clients[0], all.Clients[1], all.Clients[2]
	if ofA.Key != a.Public() || !ofA.Dup || !ofA.Home || ofA.RxPkts != 1 || ofA.RxBytes != 5 {
		t.Errorf("the sender is %+v", ofA)
	}
	if ofB.Key != b.Public() || ofB.Dup || !ofB.Active || !ofB.Prober || ofB.AppName != "some app" || ofB.TxPkts != 1 || ofB.TxBytes != 5 {
		t.Errorf("the receiver is %+v", ofB)
	}
	if ofDup.Key != a.Public() || !ofDup.Dup || ofDup.Active == ofA.Active {
		t.Errorf("the duplicate is %+v", ofDup)
	}

	var walked []int64
	for query := "all&sort=-conn&limit=1"; query != ""; {
		l := list(query)
		walked = append(walked, l.Clients[0].ConnNum)
		query = strings.TrimPrefix(l.Next, "?")
	}
	if want := []int64{ofDup.ConnNum, ofB.ConnNum, ofA.ConnNum}; !slices.Equal(walked, want) {
		t.Errorf("by pages %v, want %v", walked, want)
	}
	headers := with(browserHeaders, "Content-Type", "text/html; charset=utf-8",
		"Content-Security-Policy", browserHeaders["Content-Security-Policy"]+"; style-src 'self' 'unsafe-inline'")
	run(t, "https://"+r.Addr, []row{
		{name: "the index", path: "/debug/clients/", status: 200, want: headers, bodyHas: []string{"3 connections for 2 node keys", "<form"}},
		{name: "for people", path: "/debug/clients/?all", status: 200, want: headers, bodyHas: []string{b.Public().String(), "some app", "Showing 3 of 3"}},
		{name: "one app", path: "/debug/clients/?app=some+app", status: 200, bodyHas: []string{"Showing 1 of 1"}},
		{name: "a bad filter", path: "/debug/clients/?ip=x", status: 400, bodyHas: []string{"bad ip"}},
		{name: "without the slash", path: "/debug/clients", status: 307, want: map[string]string{"Location": "/debug/clients/"}, bodyHas: []string{}},
		{name: "a HEAD", method: "HEAD", path: "/debug/clients/?all", status: 200, want: headers},
	})
}

// An answer that somebody else works on leaves the connection as it was: what was sent behind the
// request is answered behind it.
func TestDebugClientsPipelined(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "clients are listed") {
		return
	}
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Dial(t, r)
	const rounds = 20
	for range rounds {
		c.Put([]byte("GET /debug/clients/?format=json HTTP/1.1\r\nHost: x\r\n\r\nGET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	c.SetReadDeadline(time.Now().Add(timeout + relay.Slack))
	reader := bufio.NewReader(c)
	for i := range 2 * rounds {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{`{"conns":0,"keys":0}`, "User-agent: *"}[i%2]
		if res.StatusCode != 200 || !strings.HasPrefix(string(body), want) {
			t.Fatalf("answer %d: status %d, %q, want %q", i, res.StatusCode, body, want)
		}
	}
	fmt.Fprintf(c, "GET /debug/clients/?all HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if rest, err := io.ReadAll(reader); err != nil || !strings.Contains(string(rest), "Showing 0 of 0") {
		t.Errorf("the last answer is %q, %v", rest, err)
	}
}
