package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"

	"detour.example/interop/relay"
)

const (
	regionID = 900
	// connectedLine is what a node logs when the relay has let it in.
	connectedLine = "magicsock: derp-900 connected"
	// recoverTimeout is how long two nodes may take to talk again once their relay is back. They
	// redial at most every 5 s, and a TCP connection inside doubles its own pauses.
	recoverTimeout = 40 * time.Second
)

// controlServer is Tailscale's test control server on a loopback port.
type controlServer struct {
	*testcontrol.Server
	url string
}

// newControl starts a control server that hands out derpMap.
func newControl(t testing.TB, derpMap *tailcfg.DERPMap) *controlServer {
	t.Helper()
	log := new(logBuffer)
	control := &testcontrol.Server{Logf: log.Logf, DERPMap: derpMap, AllOnline: true}
	// testcontrol panics, and takes the test binary with it, on a path that it does not know.
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/key", path == "/ts2021", path == "/generate_204", strings.HasPrefix(path, "/c2n/"):
			control.ServeHTTP(w, r)
		default:
			log.Logf("refused: %s %s", r.Method, path)
			http.NotFound(w, r)
		}
	}))
	control.HTTPTestServer = web
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
		if t.Failed() {
			t.Logf("log of the control server:\n%s", log.tail(logTail))
		}
	})
	return &controlServer{control, web.URL}
}

// join starts a node and logs it in.
func (c *controlServer) join(t testing.TB, n *node) {
	t.Helper()
	n.start(t)
	n.up(t, c.url)
	key, _ := n.self(t)
	// A node whose relay is dead suspects a captive portal and asks servers on the internet.
	c.SetNodeCapMap(key, tailcfg.NodeCapMap{
		tailcfg.NodeAttrDisableCaptivePortalDetection: nil,
	})
}

// tailnet is two nodes that know each other and have only the relay between them.
type tailnet struct {
	relay   *relay.Relay
	derpMap *tailcfg.DERPMap
	control *controlServer
	a, b    *node
}

// newTailnet brings two nodes together and waits until the relay has let both in and each knows where
// to find the other. nodeEnv is added to the environment of both.
func newTailnet(t testing.TB, r *relay.Relay, derpMap *tailcfg.DERPMap, nodeEnv ...string) *tailnet {
	t.Helper()
	start := time.Now()
	tn := &tailnet{
		relay:   r,
		derpMap: derpMap,
		control: newControl(t, derpMap),
		a:       newNode(t, "alpha", nodeEnv...),
		b:       newNode(t, "beta", nodeEnv...),
	}
	for _, n := range tn.nodes() {
		tn.control.join(t, n)
	}
	tn.awaitReady(t, nil)
	t.Logf("two nodes joined the relay and met in %v", time.Since(start).Round(time.Millisecond))
	return tn
}

func (tn *tailnet) nodes() []*node { return []*node{tn.a, tn.b} }

// code is the short name of the region, as the client shows it.
func (tn *tailnet) code() string { return tn.derpMap.Regions[regionID].RegionCode }

// logMarks remembers how far the log of each node has come.
type logMarks map[*node]int

func (tn *tailnet) markLogs() logMarks {
	m := logMarks{}
	for _, n := range tn.nodes() {
		m[n] = n.log.mark()
	}
	return m
}

// awaitReady waits until the relay has let each node in (after marks) and each knows the other's home.
func (tn *tailnet) awaitReady(t testing.TB, marks logMarks) {
	t.Helper()
	for _, n := range tn.nodes() {
		n.awaitLog(t, marks[n], connectedLine, nodeTimeout)
	}
	for _, pair := range [][2]*node{{tn.a, tn.b}, {tn.b, tn.a}} {
		ok := relay.Poll(nodeTimeout, func() bool {
			p := pair[0].peer(t, pair[1])
			return p != nil && p.Relay == tn.code()
		})
		if !ok {
			t.Fatalf("%s has not learned from control within %v that %s is at relay %q",
				pair[0].name, nodeTimeout, pair[1].name, tn.code())
		}
	}
}

// ping sends one disco ping from one node to the other and fails unless the answer came through the
// relay.
func (tn *tailnet) ping(ctx context.Context, t testing.TB, from, to *node) error {
	t.Helper()
	_, addr := to.self(t)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	res, err := from.local.Ping(ctx, addr, tailcfg.PingDisco)
	switch {
	case err != nil:
		return err
	case res.Err != "":
		return fmt.Errorf("ping: %s", res.Err)
	case res.DERPRegionID != regionID || res.Endpoint != "":
		t.Fatalf("the answer from %s to %s came via region %d, endpoint %q: want the relay only",
			to.name, from.name, res.DERPRegionID, res.Endpoint)
	}
	return nil
}

// awaitPing waits until both nodes reach each other through the relay.
func (tn *tailnet) awaitPing(t testing.TB, timeout time.Duration) {
	t.Helper()
	for _, pair := range [][2]*node{{tn.a, tn.b}, {tn.b, tn.a}} {
		var err error
		if !relay.Poll(timeout, func() bool {
			err = tn.ping(t.Context(), t, pair[0], pair[1])
			return err == nil
		}) {
			t.Fatalf("%s does not reach %s within %v: %v", pair[0].name, pair[1].name, timeout, err)
		}
	}
}

// requireRelayed fails unless both nodes use the relay for each other and nothing else.
func (tn *tailnet) requireRelayed(t testing.TB) {
	t.Helper()
	for _, pair := range [][2]*node{{tn.a, tn.b}, {tn.b, tn.a}} {
		p := pair[0].mustPeer(t, pair[1])
		if p.Relay != tn.code() || p.CurAddr != "" || p.PeerRelay != "" {
			t.Errorf("%s sees %s at relay %q, CurAddr %q, PeerRelay %q: want relay %q and nothing else",
				pair[0].name, pair[1].name, p.Relay, p.CurAddr, p.PeerRelay, tn.code())
		}
	}
}
