package admission_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

const (
	accepted = "tls_listener_accepted_connections"
	rejected = "tls_listener_rejected_connections"
	waited   = "derp_rate_limit_per_client_waited"
	rate     = "derp_rate_limit_per_client_bytes_per_second"
	burst    = "derp_rate_limit_per_client_burst_bytes"
)

// The accept limiter closes what comes too fast and lets the rest through.
func TestAcceptLimit(t *testing.T) {
	t.Parallel()
	// The harness takes one connection to see that the relay serves, and each look at the metrics one.
	const tokens = 30
	r := start(t, "-accept-connection-limit=0.001", fmt.Sprintf("-accept-connection-burst=%d", tokens))
	var open []*wire.Conn
	for i := 0; ; i++ {
		if i > tokens {
			t.Fatalf("%d connections were let in, %d tokens were there", i, tokens)
		}
		c, err := wire.DialError(t, r, r.TLSConfig())
		if err != nil {
			break
		}
		if err := c.LoginError(wire.DefaultInfo); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		open = append(open, c)
	}
	if len(open) < tokens-5 {
		t.Errorf("%d connections were let in, want nearly all of %d", len(open), tokens)
	}
	if !relay.DetourOnly(t, "the accept limit leaves the relay alive") {
		select {
		case <-r.Exited():
		case <-time.After(5 * time.Second):
			t.Error("the reference ends here, it is said")
		}
		r.Kill()
		return
	}
	for _, c := range open {
		c.WantAlive()
	}
	// The plain HTTP port is not limited, and shows the metrics.
	varz := httpVarz(t, r)
	if varz[accepted] != tokens || varz[rejected] < 1 {
		t.Errorf("%v accepted and %v rejected, want %d and at least 1", varz[accepted], varz[rejected], tokens)
	}
	wantLog(t, r, "-accept-connection-limit")
}

func TestAcceptLimitThatIsNotReached(t *testing.T) {
	t.Parallel()
	r := start(t, "-accept-connection-limit=1000", "-accept-connection-burst=50")
	for range 20 {
		wire.Login(t, r).WantAlive()
	}
	if got := r.Varz(t); got[rejected] != 0 || got[accepted] < 21 {
		t.Errorf("%v accepted and %v rejected, want at least 21 and none", got[accepted], got[rejected])
	}
}

// Connections have a bound in total and for each address; those beyond it are closed at once, the others
// stay, and who leaves makes room. SIGHUP changes the bounds.
func TestConnectionCaps(t *testing.T) {
	t.Parallel()
	if !ours(t) {
		return
	}
	file := filepath.Join(t.TempDir(), "relay.toml")
	caps := func(total, address int) {
		t.Helper()
		writeFile(t, file, fmt.Sprintf("connections-max = %d\nconnections-per-address-max = %d\n", total, address))
	}
	caps(4, 2)
	r := serve(t, nil, "--config", file)
	from := func(ip string) (*wire.Conn, error) {
		d := tls.Dialer{Config: r.TLSConfig(), NetDialer: &net.Dialer{Timeout: wire.IOTimeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}}
		nc, err := d.Dial("tcp", r.Addr)
		if err != nil {
			return nil, err
		}
		c := wire.New(t, r, nc)
		return c, c.LoginError(wire.DefaultInfo)
	}
	comesIn := func(ip string) *wire.Conn {
		t.Helper()
		var c *wire.Conn
		var err error
		// A connection that was just closed may still count.
		if !relay.Poll(20*time.Second, func() bool { c, err = from(ip); return err == nil }) {
			t.Fatalf("from %s: %v", ip, err)
		}
		return c
	}
	staysOut := func(ip string) {
		t.Helper()
		if _, err := from(ip); err == nil {
			t.Errorf("one connection too many from %s", ip)
		}
	}
	in := []*wire.Conn{comesIn("127.0.0.2"), comesIn("127.0.0.2"), comesIn("127.0.0.3")}
	staysOut("127.0.0.2")
	wantLog(t, r, "127.0.0.2 has all 2 connections that --connections-per-address-max")
	in = append(in, comesIn("127.0.0.3"))
	staysOut("127.0.0.4")
	wantLog(t, r, "all 4 connections that --connections-max allows")
	in[0].Close()
	in[0] = comesIn("127.0.0.4")
	staysOut("127.0.0.4")

	caps(6, 3)
	r.Signal(syscall.SIGHUP)
	wantLog(t, r, `connections-max was "4" and is "6"`)
	in = append(in, comesIn("127.0.0.3"))
	staysOut("127.0.0.3")
	for _, c := range in {
		c.WantAlive()
	}
}

func httpVarz(t testing.TB, r *relay.Relay) map[string]float64 {
	t.Helper()
	c := wire.DialTCP(t, r, r.HTTPAddr)
	c.Put([]byte("GET /debug/varz HTTP/1.0\r\nHost: x\r\n\r\n"))
	head := c.ReadHead()
	if !strings.Contains(head, " 200 ") {
		t.Fatalf("metrics on the HTTP port: %s", head)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(c.R); err != nil {
		t.Fatal(err)
	}
	return relay.ParseVarz(t, b.String())
}

func rateConfig(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rate.json")
	writeFile(t, path, content)
	return path
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startDeep starts a relay with queues deep enough for derper to lose nothing of what comes at once.
func startDeep(t testing.TB, args ...string) *relay.Relay {
	t.Helper()
	return relay.Start(t, relay.Options{
		NoSTUN: true, Args: args, Env: []string{"TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH=1024"},
	})
}

// packetsTo gives n packets that weigh size each for the rate limit.
func packetsTo(to *wire.Conn, n, size int) []byte {
	packet := append([]byte{4}, make([]byte, size-32-1)...)
	return bytes.Repeat(wire.Encode(wire.SendPacket, wire.Raw(to.Pub), packet), n)
}

// A client that sends more than its rate is slowed down by TCP; it loses nothing, and nobody else
// waits.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	path := rateConfig(t, `{"PerClientRateLimitBytesPerSec": 200000, "PerClientRateBurstBytes": 100000}`)
	r := startDeep(t, "-rate-config", path)
	if v := r.Varz(t); v[rate] != 200000 || v[burst] != 100000 || v[waited] != 0 {
		t.Errorf("rate %v, burst %v, waited %v", v[rate], v[burst], v[waited])
	}
	fast, other := wire.Login(t, r), wire.Login(t, r)
	slow, to := wire.Login(t, r), wire.Login(t, r)
	// 300,000 bytes: 100,000 at once, the rest takes a second.
	begin := time.Now()
	go slow.Write(packetsTo(to, 300, 1000))
	var times []time.Duration
	for i := range 300 {
		if f := to.Frame(); f.Type != wire.RecvPacket || len(f.Payload) != 1000 {
			t.Fatalf("packet %d: %v", i, f)
		}
		if i%50 == 49 {
			at := time.Now()
			exchange(t, fast, other)
			times = append(times, time.Since(at))
		}
	}
	if slices.Sort(times); times[len(times)/2] > 500*time.Millisecond {
		t.Errorf("another client took %v for a packet each", times)
	}
	took := time.Since(begin)
	if took < 900*time.Millisecond || took > 3*time.Second+relay.Slack {
		t.Errorf("300,000 bytes took %v, want about 1 s", took)
	}
	if got := r.Varz(t)[waited]; got < 1 {
		t.Errorf("waited %v times, want at least once", got)
	}
	slow.WantAlive()
}

func TestRateLimitIsReloadedOnSIGHUP(t *testing.T) {
	t.Parallel()
	path := rateConfig(t, `{"PerClientRateLimitBytesPerSec": 5000, "PerClientRateBurstBytes": 1}`)
	r := startDeep(t, "-rate-config", path)
	if v := r.Varz(t); v[burst] != 65568 {
		t.Errorf("a burst of %v, want the smallest: 65568", v[burst])
	}
	a, b := wire.Login(t, r), wire.Login(t, r)
	a.Put(packetsTo(b, 60, 1000))
	for range 60 {
		b.Frame()
	}
	if got := r.Varz(t)[waited]; got != 0 {
		t.Errorf("waited %v times within the burst", got)
	}

	// What cannot be used changes nothing.
	writeFile(t, path, `{"PerClientRateLimitBytesPerSec": "fast"}`)
	r.Signal(syscall.SIGHUP)
	wantLog(t, r, "PerClientRateLimitBytesPerSec")
	if v := r.Varz(t)[rate]; v != 5000 {
		t.Errorf("a rate of %v after a bad file, want 5000 as before", v)
	}

	if err := os.Rename(path, path+".gone"); err != nil {
		t.Fatal(err)
	}
	logged := len(r.Log())
	r.Signal(syscall.SIGHUP)
	if !relay.Poll(30*time.Second, func() bool {
		return strings.Contains(r.Log()[logged:], path) && (strings.Contains(r.Log()[logged:], "no such file") || strings.Contains(r.Log()[logged:], "does not exist"))
	}) {
		t.Errorf("that the file is gone is not said:\n%s", r.Log()[logged:])
	}
	if v := r.Varz(t)[rate]; v != 5000 {
		t.Errorf("a rate of %v without the file, want 5000 as before", v)
	}

	writeFile(t, path, `{"PerClientRateLimitBytesPerSec": 3000000, "PerClientRateBurstBytes": 4000000}`)
	r.Signal(syscall.SIGHUP)
	if !relay.Poll(30*time.Second, func() bool { return r.Varz(t)[rate] == 3000000 }) {
		t.Fatal("the new rate does not hold")
	}
	if v := r.Varz(t)[burst]; v != 4000000 {
		t.Errorf("a burst of %v, want 4000000", v)
	}
	// Who is there has the new rate, with a full bucket.
	begin := time.Now()
	go a.Write(packetsTo(b, 300, 10000))
	for range 300 {
		b.Frame()
	}
	if took := time.Since(begin); took > 5*time.Second+relay.Slack {
		t.Errorf("3 MB took %v after the limit was raised", took)
	}

	writeFile(t, path, `{}`)
	r.Signal(syscall.SIGHUP)
	if !relay.Poll(30*time.Second, func() bool { return r.Varz(t)[rate] == 0 }) {
		t.Error("the limit is not lifted")
	}
	if v := r.Varz(t)[burst]; v != 0 {
		t.Errorf("a burst of %v without a rate, want 0", v)
	}
	a.WantAlive()
}

func TestRateLimitLeavesMeshPeersAlone(t *testing.T) {
	t.Parallel()
	meshKey := strings.Repeat("ab", 32)
	keyFile := filepath.Join(t.TempDir(), "mesh.key")
	writeFile(t, keyFile, meshKey)
	path := rateConfig(t, `{"PerClientRateLimitBytesPerSec": 1000}`)
	r := startDeep(t, "-rate-config", path, "-mesh-psk-file", keyFile)
	peer := dial(t, r, key.NewNode(), `{"version":2,"meshKey":"`+meshKey+`"}`)
	wantAdmitted(t, peer)
	to := wire.Login(t, r)
	go peer.Write(packetsTo(to, 30, 10000))
	for range 30 {
		to.Frame()
	}
	if got := r.Varz(t)[waited]; got != 0 {
		t.Errorf("a mesh peer waited %v times", got)
	}
}

func TestRateConfigThatIsWrongIsFatal(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"not JSON": "x", "a list": "[]", "negative": `{"PerClientRateBurstBytes":-1}`,
		"a fraction": `{"PerClientRateBurstBytes":1.5}`, "missing": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := rateConfig(t, content)
			if content == "" {
				os.Remove(path)
			}
			r := relay.Start(t, relay.Options{NoSTUN: true, NoWait: true, Args: []string{"-rate-config", path}})
			select {
			case <-r.Exited():
			case <-time.After(10 * time.Second):
				t.Fatal("it runs")
			}
			if err := r.ExitError(); err == nil || err.Error() != "exit status 1" {
				t.Errorf("it ended with %v, want status 1", err)
			}
			if relay.DetourOnly(t, "messages name the file and the mending") {
				wantLog(t, r, path)
			}
		})
	}
}

func TestRateMetricsOnlyWithARateConfig(t *testing.T) {
	t.Parallel()
	v := start(t).Varz(t)
	for _, name := range []string{rate, burst, waited} {
		if _, ok := v[name]; ok {
			t.Errorf("%s is there without a rate config", name)
		}
	}
}
