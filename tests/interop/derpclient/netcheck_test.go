package derpclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netcheck"
	"tailscale.com/net/netmon"
	"tailscale.com/net/stun"
	"tailscale.com/prober"
	"tailscale.com/tailcfg"
)

func report(t *testing.T, dm *tailcfg.DERPMap) *netcheck.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := &netcheck.Client{NetMon: netmon.NewStatic(), Logf: t.Logf, SkipExternalNetwork: true}
	if err := c.Standalone(ctx, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	rep, err := c.GetReport(ctx, dm, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestNetcheckReportsTheRelay(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	before := r.Var(t, "stun.counter_requests.success")
	rep := report(t, r.DERPMap(900))
	if !rep.UDP || !rep.IPv4 {
		t.Errorf("UDP %v, IPv4 %v: want both true", rep.UDP, rep.IPv4)
	}
	if rep.PreferredDERP != 900 {
		t.Errorf("preferred region %d, want 900", rep.PreferredDERP)
	}
	for name, m := range map[string]map[int]time.Duration{"RegionLatency": rep.RegionLatency, "RegionV4Latency": rep.RegionV4Latency} {
		if d, ok := m[900]; !ok || d <= 0 || d > time.Second {
			t.Errorf("%s is %v, want a latency of region 900", name, m)
		}
	}
	if rep.GlobalV4.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("mapped address %v, want 127.0.0.1", rep.GlobalV4)
	}
	// An answer is counted when it has left.
	if !relay.Poll(10*time.Second, func() bool { return r.Var(t, "stun.counter_requests.success") > before }) {
		t.Errorf("STUN answers counted: %v before the report, and no more after it", before)
	}
}

// Without UDP netcheck measures by HTTPS. As root it also pings, so the requests are counted at the
// relay.
func TestNetcheckMeasuresByHTTPSWhenThereIsNoSTUN(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	requests := func() (n float64) {
		for name, v := range r.Vars(t) {
			if strings.HasPrefix(name, "derper_tls_request_version.") {
				n += v.(float64)
			}
		}
		return n
	}
	// Each look at the metrics is a request itself. A relay may add up its counters a little late.
	before := requests()
	if !relay.Poll(30*time.Second, func() bool {
		last := before
		before = requests()
		return before == last+1
	}) {
		t.Fatalf("requests over TLS counted: %v; want one more with each request", before)
	}
	rep := report(t, r.DERPMap(900))
	if d, ok := rep.RegionLatency[900]; !ok || d <= 0 {
		t.Errorf("RegionLatency is %v, want a latency of region 900", rep.RegionLatency)
	}
	if rep.UDP {
		t.Error("UDP is true without a STUN server")
	}
	if !rep.IPv4 {
		t.Error("IPv4 is false: the request by HTTPS did not succeed")
	}
	looks, after := 0.0, 0.0
	if !relay.Poll(30*time.Second, func() bool {
		looks++
		after = requests()
		return after >= before+looks+1
	}) {
		t.Errorf("requests over TLS counted: %v, then %v at the look number %v: want one more, by netcheck", before, after, looks)
	}
}

// The request of netcheck's HTTPS probe, on the connection it makes for it: one small packet each way.
func TestLatencyCheckOverTheClientsOwnTLSConnection(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, path := range []string{"/derp/latency-check", "/derp/probe"} {
		dc := derphttp.NewNetcheckClient(t.Logf, netmon.NewStatic())
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		conn, closer, node, err := dc.DialRegionTLS(ctx, r.Region(900))
		if err != nil {
			t.Fatal(err)
		}
		defer closer.Close()
		if node.Name != "900a" {
			t.Errorf("node %q, want 900a", node.Name)
		}
		tr := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
		defer tr.CloseIdleConnections()
		for range 3 {
			req, _ := http.NewRequestWithContext(ctx, "GET", "https://127.0.0.1"+path, nil)
			res, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != 200 || len(body) != 0 {
				t.Errorf("%s: status %d, body %q, error %v: want 200 and nothing", path, res.StatusCode, body, err)
			}
		}
	}
}

func TestSTUNClient(t *testing.T) {
	t.Parallel()
	v4 := relay.Start(t, relay.Options{})
	v6 := relay.Start(t, relay.Options{Host: "::1", ListenIP: "::1"})
	both := relay.Start(t, relay.Options{AnyIP: true})
	for _, addr := range []string{v4.STUNAddr, v6.STUNAddr, fmt.Sprintf("127.0.0.1:%d", both.STUNPort), fmt.Sprintf("[::1]:%d", both.STUNPort)} {
		t.Run(addr, func(t *testing.T) {
			c, err := net.Dial("udp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for range 20 {
				tx := stun.NewTxID()
				if _, err := c.Write(stun.Request(tx)); err != nil {
					t.Fatal(err)
				}
				c.SetReadDeadline(time.Now().Add(timeout))
				buf := make([]byte, 1500)
				n, err := c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				gotTx, ap, err := stun.ParseResponse(buf[:n])
				if err != nil {
					t.Fatal(err)
				}
				want := c.LocalAddr().(*net.UDPAddr).AddrPort()
				if gotTx != tx || netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()) != want {
					t.Errorf("transaction %x says %v, want %x and %v", gotTx, ap, tx, want)
				}
			}
		})
	}
}

// Clients on a hotel network ask the HTTP port and look for their own challenge in the answer.
func TestCaptivePortalCheck(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, challenge := range []string{"ts_127.0.0.1", "ts_derp1.example.com"} {
		req, _ := http.NewRequest("GET", fmt.Sprintf("http://%s/generate_204?t=%d", r.HTTPAddr, time.Now().Unix()), nil)
		req.Header.Set("X-Tailscale-Challenge", challenge)
		c := &http.Client{
			Timeout:       timeout,
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got, want := res.Header.Get("X-Tailscale-Response"), "response "+challenge; res.StatusCode != 204 || got != want {
			t.Errorf("status %d, response %q: want 204 and %q", res.StatusCode, got, want)
		}
	}
}

// The official prober (derpprobe -once), which upstream runs against its own relays.
func TestOfficialProberIsContent(t *testing.T) {
	t.Parallel()
	chain, k := ca.For("localhost")
	r := relay.Start(t, relay.Options{Host: "localhost", CertFile: chain, KeyFile: k, Roots: ca.PEM})
	dm := r.DERPMap(900)
	dm.Regions[900].Nodes[0].InsecureForTests = false
	b, err := json.Marshal(dm)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "derpmap.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p := prober.New().WithOnce(true).WithMetricNamespace("interop")
	d, err := prober.DERP(p, "file://"+path,
		prober.WithMeshProbing(time.Second),
		prober.WithSTUNProbing(time.Second),
		prober.WithTLSProbing(time.Second),
		prober.WithBandwidthProbing(time.Second, 10_000_000, ""))
	if err != nil {
		t.Fatal(err)
	}
	p.Run("derpmap-probe", time.Second, nil, d.ProbeMap)
	done := make(chan struct{})
	go func() { defer close(done); p.Wait() }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Fatal("the prober did not finish within 60 s")
	}
	want := map[string]bool{
		"derpmap-probe": true, "derp/interop/900a/tls": true, "derp/interop/900a/udp": true,
		"derp/interop/900a/900a/mesh": true, "derp/interop/900a/900a/bw": true,
	}
	for name, info := range p.ProbeInfo() {
		// The map's IPv6 "none" is probed too and cannot work.
		if strings.HasSuffix(name, "/udp6") {
			continue
		}
		if info.Status != prober.ProbeStatusSucceeded {
			t.Errorf("%s: %v", name, info.Error)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("the probe %s did not run", name)
	}
}
