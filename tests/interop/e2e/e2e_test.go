package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tailscale.com/net/netcheck"

	"detour.example/interop/relay"
)

const (
	// transferSize is large enough to fill every queue on the way many times over.
	transferSize = 20 << 20
	// transferTimeout allows for 0.3 MB/s: the machine may be busy.
	transferTimeout = 60 * time.Second
)

// TestNodesPinnedByAddressRelay is the daily life of two nodes at a relay that has only an address
// (so the client sends no SNI) and a self-signed certificate known by its pin.
func TestNodesPinnedByAddressRelay(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	derpMap := r.DERPMap(regionID)
	derpNode := derpMap.Regions[regionID].Nodes[0]
	if _, err := netip.ParseAddr(derpNode.HostName); err != nil ||
		!strings.HasPrefix(derpNode.CertName, "sha256-raw:") || derpNode.InsecureForTests {
		t.Fatalf("the map's node %+v is not pinned by address", derpNode)
	}
	tn := newTailnet(t, r, derpMap)

	t.Run("PingGoesViaDERP", tn.testPing)
	t.Run("StatusShowsTheRelay", tn.testStatus)
	t.Run("NetcheckFindsTheRegion", tn.testNetcheck)
	t.Run("TransferArrivesIntactThroughTheRelayOnly", tn.testTransfer)
	t.Run("NodesThatRedialAtOnceStayReachable", tn.testRedial)
	t.Run("ARestartedNodeIsReachableAgain", tn.testNodeRestart)
}

func (tn *tailnet) testPing(t *testing.T) {
	for _, pair := range [][2]*node{{tn.a, tn.b}, {tn.b, tn.a}} {
		_, addr := pair[1].self(t)
		out := pair[0].mustCLI(t, "ping", "--c=1", "--timeout=10s", "--until-direct=false", addr.String())
		want := fmt.Sprintf("pong from %s (%s) via DERP(%s) in ", pair[1].name, addr, tn.code())
		if !strings.Contains(out, want) {
			t.Errorf("tailscale ping from %s printed %q, want %q", pair[0].name, out, want)
		}
	}
}

func (tn *tailnet) testStatus(t *testing.T) {
	// Traffic in the tunnel makes a peer "active", and only of an active one the text names the way.
	client, server := dialThrough(t, tn.a, tn.b)
	go io.Copy(server, server)
	exchange(t, client)

	tn.requireRelayed(t)
	for _, pair := range [][2]*node{{tn.a, tn.b}, {tn.b, tn.a}} {
		n, other := pair[0], pair[1]
		st := n.status(t)
		if st.Self.Relay != tn.code() {
			t.Errorf("%s has home relay %q, want %q", n.name, st.Self.Relay, tn.code())
		}
		for _, problem := range st.Health {
			if strings.Contains(problem, "relay server") {
				t.Errorf("%s complains: %s", n.name, problem)
			}
		}
		out := n.mustCLI(t, "status")
		want := regexp.MustCompile(fmt.Sprintf(`(?m)^\S+ +%s .* active; relay "%s", tx \d+ rx \d+`, other.name, tn.code()))
		if !want.MatchString(out) {
			t.Errorf("tailscale status on %s does not match %s:\n%s", n.name, want, out)
		}
	}
}

func (tn *tailnet) testNetcheck(t *testing.T) {
	name := tn.derpMap.Regions[regionID].RegionName

	// --bind-address: a user other than root could not reach 127.0.0.1 otherwise.
	out := tn.a.mustCLI(t, "netcheck", "--bind-address=127.0.0.1")
	for _, want := range []string{
		`\* UDP: true`, // or ICMP would hide a dead STUN from root
		`\* Nearest DERP: ` + name,
		fmt.Sprintf(`- %s: [0-9.]+[mµ]?s +\(%s\)`, tn.code(), name),
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("tailscale netcheck does not match %s:\n%s", want, out)
		}
	}

	out = tn.b.mustCLI(t, "netcheck", "--bind-address=127.0.0.1", "--format=json")
	var report netcheck.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("netcheck's report: %v\n%s", err, out)
	}
	latency := report.RegionV4Latency[regionID]
	if !report.UDP || !report.IPv4 || report.PreferredDERP != regionID || latency <= 0 || latency > time.Second {
		t.Errorf("netcheck's report: UDP %v, IPv4 %v, preferred %d, latency %v; want true, true, %d, up to 1s:\n%s",
			report.UDP, report.IPv4, report.PreferredDERP, latency, regionID, out)
	}
	if mapped := report.GlobalV4; mapped.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("STUN says that the node is at %v, want 127.0.0.1", mapped)
	}
}

func (tn *tailnet) testTransfer(t *testing.T) {
	atRelay := countersOf(t, tn.relay)
	sent, received := tn.a.mustPeer(t, tn.b).TxBytes, tn.b.mustPeer(t, tn.a).RxBytes
	tn.requireRelayed(t)

	start := time.Now()
	startTransfer(t, tn.a, tn.b, transferSize).await(t, transferTimeout)
	elapsed := time.Since(start)
	t.Logf("%d bytes in %v: %.1f MB/s", transferSize, elapsed.Round(time.Millisecond), transferSize/1e6/elapsed.Seconds())

	tn.requireRelayed(t)
	now := countersOf(t, tn.relay)
	for _, c := range []struct {
		name  string
		delta int64
	}{
		{"the relay's bytes_received", now.BytesReceived - atRelay.BytesReceived},
		{"the relay's bytes_sent", now.BytesSent - atRelay.BytesSent},
		{"the sender's TxBytes", tn.a.mustPeer(t, tn.b).TxBytes - sent},
		{"the receiver's RxBytes", tn.b.mustPeer(t, tn.a).RxBytes - received},
	} {
		if c.delta < transferSize {
			t.Errorf("%s rose by %d during a transfer of %d bytes", c.name, c.delta, transferSize)
		}
	}
}

// testRedial lets both nodes drop their connection and dial again several times within milliseconds.
// The same key then logs in anew before the relay has seen the end of the old connection; that end
// must not take the new connection out of the relay's directory.
func (tn *tailnet) testRedial(t *testing.T) {
	const rounds, redials = 4, 5
	for range rounds {
		var marks logMarks
		for range redials {
			marks = tn.markLogs()
			for _, n := range tn.nodes() {
				if err := n.local.DebugAction(t.Context(), "break-derp-conns"); err != nil {
					t.Fatal(err)
				}
			}
		}
		tn.awaitReady(t, marks)
		tn.awaitPing(t, recoverTimeout)
	}
	tn.requireTwoClients(t)
	tn.requireRelayed(t)
}

func (tn *tailnet) testNodeRestart(t *testing.T) {
	key, addr := tn.b.self(t)
	marks := logMarks{tn.b: tn.b.log.mark()}
	tn.b.kill()
	start := time.Now()
	tn.b.start(t)
	tn.awaitReady(t, marks)
	tn.awaitPing(t, recoverTimeout)
	t.Logf("reachable again %v after its start", time.Since(start).Round(time.Millisecond))

	if newKey, newAddr := tn.b.self(t); newKey != key || newAddr != addr {
		t.Errorf("the restarted node is %v at %v, was %v at %v", newKey, newAddr, key, addr)
	}
	client, server := dialThrough(t, tn.a, tn.b)
	go io.Copy(server, server)
	exchange(t, client)
	tn.requireTwoClients(t)
	tn.requireRelayed(t)
}

// requireTwoClients waits until the relay counts two clients with one connection each.
func (tn *tailnet) requireTwoClients(t testing.TB) {
	t.Helper()
	var c relayCounters
	if !relay.Poll(30*time.Second, func() bool {
		c = countersOf(t, tn.relay)
		return c.ClientsTotal == 2 && c.CurrentConnections == 2
	}) {
		t.Errorf("the relay counts %d clients and %d connections, want 2 and 2", c.ClientsTotal, c.CurrentConnections)
	}
}

// TestNodesRecoverAfterTheRelayRestarts kills the relay without warning and starts it again, then once
// more with SIGTERM. It also proves that the relay is the only way: while it is dead,
// nothing gets through.
func TestNodesRecoverAfterTheRelayRestarts(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	tn := newTailnet(t, r, r.DERPMap(regionID))
	client, server := dialThrough(t, tn.a, tn.b)
	var arrived atomic.Int64
	go io.Copy(io.MultiWriter(server, countTo{&arrived}), server)
	exchange(t, client)

	marks := tn.markLogs()
	r.Kill()
	requireNoPing(t, tn.a, tn.b)
	before := arrived.Load()
	atA, atB := tn.a.mustPeer(t, tn.b).RxBytes, tn.b.mustPeer(t, tn.a).RxBytes
	message := []byte("written while the relay is dead")
	if _, err := client.Write(message); err != nil {
		t.Fatalf("writing while the relay is dead: %v", err)
	}
	requireNoPing(t, tn.b, tn.a)
	if n := arrived.Load() - before; n != 0 {
		t.Errorf("%d bytes arrived while the relay was dead", n)
	}
	if a, b := tn.a.mustPeer(t, tn.b).RxBytes-atA, tn.b.mustPeer(t, tn.a).RxBytes-atB; a != 0 || b != 0 {
		t.Errorf("while the relay was dead %s received %d bytes and %s %d", tn.a.name, a, tn.b.name, b)
	}

	start := time.Now()
	r.Restart()
	t.Logf("the relay serves again after %v", time.Since(start).Round(time.Millisecond))
	tn.awaitReady(t, marks)
	tn.awaitPing(t, recoverTimeout)
	t.Logf("both nodes answer %v after the relay's start", time.Since(start).Round(time.Millisecond))
	readBack(t, client, message)
	t.Logf("the old TCP connection goes on %v after the relay's start", time.Since(start).Round(time.Millisecond))
	tn.testPing(t)
	tn.requireRelayed(t)
	tn.requireTwoClients(t)

	// The orderly way, as for an upgrade: SIGTERM with clients on board, then the new process.
	marks = tn.markLogs()
	start = time.Now()
	r.Restart()
	tn.awaitReady(t, marks)
	tn.awaitPing(t, recoverTimeout)
	exchange(t, client)
	t.Logf("after SIGTERM and a new start everything goes on %v after the SIGTERM", time.Since(start).Round(time.Millisecond))
}

// TestAnInterruptedTransferGoesOn kills the relay in the middle of a transfer: TCP inside the tunnel
// has to survive that, without a lost or doubled byte.
func TestAnInterruptedTransferGoesOn(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	tn := newTailnet(t, r, r.DERPMap(regionID))

	tr := startTransfer(t, tn.a, tn.b, transferSize)
	if !relay.Poll(transferTimeout, func() bool { return tr.received.Load() >= transferSize/4 }) {
		t.Fatalf("only %d bytes have arrived after %v", tr.received.Load(), transferTimeout)
	}
	marks := tn.markLogs()
	r.Kill()
	requireNoPing(t, tn.a, tn.b)
	before := tr.received.Load()
	if before >= transferSize {
		t.Fatal("the transfer was over before the relay was dead")
	}
	requireNoPing(t, tn.b, tn.a)
	if after := tr.received.Load(); after != before {
		t.Errorf("%d bytes arrived while the relay was dead", after-before)
	}

	start := time.Now()
	r.Restart()
	tn.awaitReady(t, marks)
	tr.await(t, recoverTimeout+transferTimeout)
	t.Logf("interrupted after %d of %d bytes; complete %v after the relay's start",
		before, transferSize, time.Since(start).Round(time.Millisecond))
	tn.requireRelayed(t)
}

// TestNodesRelayThroughANamedHost is a relay with a DNS name and a certificate of a company's own
// authority. The node's IPv4 field spares the name's resolution, as it does in a real map.
func TestNodesRelayThroughANamedHost(t *testing.T) {
	t.Parallel()
	const name = "relay.interop.test"
	ca := newPrivateCA(t)
	chain, key := ca.serverCert(t, name)
	r := relay.Start(t, relay.Options{Host: name, CertFile: chain, KeyFile: key})
	derpMap := r.DERPMap(regionID)
	derpNode := derpMap.Regions[regionID].Nodes[0]
	derpNode.InsecureForTests = false // the client has to verify chain and name
	derpNode.CertName = ""
	if derpNode.HostName != name || derpNode.IPv4 != "127.0.0.1" {
		t.Fatalf("the map's node is %+v, want host name %s at 127.0.0.1", derpNode, name)
	}
	tn := newTailnet(t, r, derpMap, "SSL_CERT_FILE="+ca.rootFile)
	t.Run("PingGoesViaDERP", tn.testPing)
	t.Run("StatusShowsTheRelay", tn.testStatus)
	t.Run("TransferArrivesIntactThroughTheRelayOnly", tn.testTransfer)

	t.Run("ANodeWithoutTheAuthorityStaysOut", func(t *testing.T) {
		before := countersOf(t, r).Accepts
		n := newNode(t, "gamma")
		newControl(t, derpMap).join(t, n)
		n.awaitLog(t, 0, "x509: certificate signed by unknown authority", nodeTimeout)
		requireStaysOut(t, n, r, before)
	})
}

// TestANodeWithAnotherPinStaysOut shows that the pinned nodes of the other tests really look at the
// pin.
func TestANodeWithAnotherPinStaysOut(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	derpMap := r.DERPMap(regionID)
	derpMap.Regions[regionID].Nodes[0].CertName = "sha256-raw:" + strings.Repeat("0", 64)
	n := newNode(t, "gamma")
	newControl(t, derpMap).join(t, n)
	n.awaitLog(t, 0, "cert hash does not match expected cert hash", nodeTimeout)
	requireStaysOut(t, n, r, 0)
}

// requireStaysOut fails if the node got as far as a login.
func requireStaysOut(t testing.TB, n *node, r *relay.Relay, acceptsBefore int64) {
	t.Helper()
	if strings.Contains(n.log.since(0), connectedLine) {
		t.Errorf("%s believes to be connected", n.name)
	}
	if accepts := countersOf(t, r).Accepts; accepts != acceptsBefore {
		t.Errorf("the relay has accepted %d clients more", accepts-acceptsBefore)
	}
}

// requireNoPing fails unless two pings from one node to the other stay without an answer.
func requireNoPing(t testing.TB, from, to *node) {
	t.Helper()
	_, addr := to.self(t)
	out, err := from.cli(t, "ping", "--c=2", "--timeout=1s", "--until-direct=false", addr.String())
	if err == nil || strings.Contains(out, "pong") || !strings.Contains(err.Error(), "no reply") {
		t.Errorf("tailscale ping from %s while the relay is dead: error %v, output %q; want no reply", from.name, err, out)
	}
}

// exchange sends a message to the echo at the other end and waits for it.
func exchange(t testing.TB, conn net.Conn) {
	t.Helper()
	message := []byte("hello through the relay")
	if _, err := conn.Write(message); err != nil {
		t.Fatal(err)
	}
	readBack(t, conn, message)
}

// readBack waits until the other end has echoed message.
func readBack(t testing.TB, conn net.Conn, message []byte) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(recoverTimeout))
	defer conn.SetReadDeadline(time.Time{})
	got := make([]byte, len(message))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != string(message) {
		t.Fatalf("the echo came back as %q, %v; want %q", got, err, message)
	}
}
