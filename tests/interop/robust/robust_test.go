// Package robust_test does to a relay what attackers, broken networks and small machines do.
package robust_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// tcp opens a connection without TLS.
func tcp(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, wire.IOTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends a packet there and back and gives the time that took.
func exchange(a, b *wire.Conn) (time.Duration, error) {
	start := time.Now()
	for _, leg := range [][2]*wire.Conn{{a, b}, {b, a}} {
		p := make([]byte, 100)
		binary.BigEndian.PutUint64(p, rand.Uint64())
		p[0] = 4
		if _, err := leg[0].Write(wire.Encode(wire.SendPacket, wire.Raw(leg[1].Pub), p)); err != nil {
			return 0, err
		}
		f, err := leg[1].TryFrame(wire.IOTimeout)
		if err != nil {
			return 0, err
		}
		if f.Type == wire.KeepAlive {
			f, err = leg[1].TryFrame(wire.IOTimeout)
		}
		if err != nil || f.Type != wire.RecvPacket || !bytes.Equal(f.Payload, append(wire.Raw(leg[0].Pub), p...)) {
			return 0, fmt.Errorf("got %v (%v), want the packet", f, err)
		}
	}
	return time.Since(start), nil
}

// watched is a pair of clients that exchange packets all the time until stopped.
type watched struct {
	rounds atomic.Int64
	stop   func() (rounds int, worst time.Duration, err error)
}

func watch(t *testing.T, r *relay.Relay) *watched {
	t.Helper()
	a, b := wire.Login(t, r), wire.Login(t, r)
	quit := make(chan struct{})
	type result struct {
		rounds int
		worst  time.Duration
		err    error
	}
	done := make(chan result, 1)
	w := &watched{}
	go func() {
		var res result
		for {
			select {
			case <-quit:
				done <- res
				return
			case <-time.After(2 * time.Millisecond):
			}
			d, err := exchange(a, b)
			if err != nil {
				res.err = fmt.Errorf("after %d rounds: %w", res.rounds, err)
				done <- res
				return
			}
			res.rounds++
			res.worst = max(res.worst, d)
			w.rounds.Store(int64(res.rounds))
		}
	}()
	stop := sync.OnceValue(func() result { close(quit); return <-done })
	t.Cleanup(func() { stop() })
	w.stop = func() (int, time.Duration, error) { r := stop(); return r.rounds, r.worst, r.err }
	return w
}

// check stops the pair and fails the test when it was disturbed.
func (w *watched) check(t *testing.T) {
	t.Helper()
	relay.Poll(30*time.Second, func() bool { return w.rounds.Load() >= 10 })
	rounds, worst, err := w.stop()
	if err != nil {
		t.Errorf("the pair that relays meanwhile: %v", err)
	}
	if rounds < 10 {
		t.Errorf("the pair that relays meanwhile did %d rounds, want at least 10", rounds)
	}
	// Much is allowed: the tests share two cores with others.
	if worst > 3*time.Second+relay.Slack {
		t.Errorf("the pair that relays meanwhile once waited %v for a packet there and back", worst)
	}
}

// closedWithin reads until the peer closes and fails when that takes too long. It gives what came.
func closedWithin(t *testing.T, c io.Reader, deadline func(time.Time) error, d time.Duration) []byte {
	t.Helper()
	deadline(time.Now().Add(d))
	all, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("still open after %v; got %q", d, all[:min(len(all), 200)])
	}
	return all
}

// dribble writes b one byte every interval until the peer closes or b is through.
func dribble(c net.Conn, b []byte, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := range b {
		c.SetWriteDeadline(time.Now().Add(wire.IOTimeout))
		if _, err := c.Write(b[i : i+1]); err != nil {
			return
		}
		<-tick.C
	}
}

// A peer that never finishes its handshake is cut off, however busily it dribbles.
func TestHandshakesThatNeverEndAreCut(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	limit := 33*time.Second + relay.Slack
	if relay.DetourOnly(t, "the whole handshake ends within 10 s") {
		limit = 12*time.Second + relay.Slack
	}
	headers := bytes.Repeat([]byte("X-Padding: 0123456789\r\n"), 100)
	hello := func() []byte {
		// What a TLS client says first.
		client, server := net.Pipe()
		go tls.Client(client, r.TLSConfig()).Handshake()
		defer client.Close()
		b := make([]byte, 4096)
		server.SetReadDeadline(time.Now().Add(wire.IOTimeout))
		n, _ := server.Read(b)
		return b[:n]
	}()
	if len(hello) < 100 {
		t.Fatalf("test error: a ClientHello of %d bytes", len(hello))
	}
	cases := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"TCP and silence", func(t *testing.T) {
			c := tcp(t, r.Addr)
			closedWithin(t, c, c.SetReadDeadline, limit)
		}},
		{"half a ClientHello", func(t *testing.T) {
			c := tcp(t, r.Addr)
			c.Write(hello[:len(hello)/2])
			closedWithin(t, c, c.SetReadDeadline, limit)
		}},
		{"a dribbled ClientHello", func(t *testing.T) {
			c := tcp(t, r.Addr)
			go dribble(c, hello, 150*time.Millisecond)
			closedWithin(t, c, c.SetReadDeadline, limit)
		}},
		{"TLS and silence", func(t *testing.T) {
			c := wire.Dial(t, r)
			closedWithin(t, c.R, c.SetReadDeadline, limit)
		}},
		{"a head that does not end", func(t *testing.T) {
			c := wire.Dial(t, r)
			go dribble(c.Conn, append([]byte("GET /derp HTTP/1.1\r\nHost: x\r\n"), headers...), 50*time.Millisecond)
			closedWithin(t, c.R, c.SetReadDeadline, limit)
		}},
		{"the upgrade and silence", func(t *testing.T) {
			c := wire.Dial(t, r)
			c.Put(wire.FastHead())
			closedWithin(t, c.R, c.SetReadDeadline, limit)
		}},
		{"a dribbled ClientInfo", func(t *testing.T) {
			c := wire.Dial(t, r)
			c.Put(wire.FastHead())
			go dribble(c.Conn, wire.Encode(wire.ClientInfo, wire.InfoPayload(c.Priv, r.PublicKey, strings.Repeat(" ", 300)+"{}")), 50*time.Millisecond)
			closedWithin(t, c.R, c.SetReadDeadline, limit)
		}},
		{"head and ClientInfo dribbled, each in its time", func(t *testing.T) {
			// 150 bytes of head in 7.5 s, then 370 bytes of login: more than 10 s in total.
			c := wire.Dial(t, r)
			all := append(wire.FastHead(), c.Info(strings.Repeat(" ", 300)+"{}")...)
			go dribble(c.Conn, all, 50*time.Millisecond)
			closedWithin(t, c.R, c.SetReadDeadline, limit)
		}},
		{"a dribbled head on the HTTP port", func(t *testing.T) {
			c := tcp(t, r.HTTPAddr)
			go dribble(c, append([]byte("GET / HTTP/1.1\r\nHost: x\r\n"), headers...), 50*time.Millisecond)
			closedWithin(t, c, c.SetReadDeadline, limit)
		}},
		{"silence on the HTTP port", func(t *testing.T) {
			c := tcp(t, r.HTTPAddr)
			closedWithin(t, c, c.SetReadDeadline, limit)
		}},
	}
	w := watch(t, r)
	var wg sync.WaitGroup
	for _, c := range cases {
		wg.Add(1)
		go func() {
			defer wg.Done()
			t.Run(c.name, c.run)
		}()
	}
	wg.Wait()
	w.check(t)
}

// Slow is not hostile: somebody on a bad line who needs some seconds comes in.
func TestASlowButHonestLoginComesIn(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	c := wire.Dial(t, r)
	all := append(wire.FastHead(), c.Info("{}")...)
	start := time.Now()
	dribble(c.Conn, all, 5*time.Second/time.Duration(len(all)))
	if err := c.ReadLogin(); err != nil {
		t.Fatalf("a login that took %v: %v", time.Since(start), err)
	}
	c.WantAlive()
}

func TestFiveHundredSilentConnections(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	w := watch(t, r)
	before := r.OpenFiles(t)
	var conns []net.Conn
	for i := range 500 {
		if i%5 == 0 {
			conns = append(conns, wire.Dial(t, r).Conn) // TLS and silence
		} else {
			conns = append(conns, tcp(t, r.Addr))
		}
	}
	// Others still come in.
	for range 20 {
		c := wire.Login(t, r)
		c.WantAlive()
		c.Close()
	}
	w.check(t)
	for _, c := range conns {
		c.Close()
	}
	n := 0
	if !relay.Poll(30*time.Second, func() bool { n = r.OpenFiles(t); return n <= before+5 }) {
		t.Errorf("%d descriptors are open after they left, %d before they came", n, before)
	}
}

func TestRandomBytesInsteadOfTLS(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	w := watch(t, r)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	for i := range 300 {
		b := make([]byte, 1+rng.IntN(5000))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		switch i % 4 {
		case 1: // a handshake record of any length
			copy(b, []byte{22, 3, 1})
		case 2: // one that fits
			if len(b) > 9 {
				copy(b, []byte{22, 3, 1, byte((len(b) - 5) >> 8), byte(len(b) - 5), 1, 0, byte((len(b) - 9) >> 8), byte(len(b) - 9)})
			}
		case 3: // an encrypted record before there are keys
			copy(b, []byte{23, 3, 3})
		}
		c, err := net.Dial("tcp", r.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(wire.IOTimeout))
		c.Write(b)
		if i%3 == 0 {
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		}
		c.Close()
	}
	w.check(t)
	wire.Login(t, r).WantAlive()
}

func TestRandomBytesInsteadOfHTTPAndDERP(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	w := watch(t, r)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 2))
	t.Logf("seed %d", seed)
	for i := range 300 {
		b := make([]byte, 1+rng.IntN(20000))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		c := wire.Dial(t, r)
		switch i % 4 {
		case 0: // instead of a head
		case 1: // instead of ClientInfo
			c.Put(wire.FastHead())
		case 2: // instead of frames
			c.Login(wire.DefaultInfo)
		case 3: // frames of known types with random lengths and contents
			c.Login(wire.DefaultInfo)
			types := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 18, 19, 20, 21}
			for at := 0; at+5 < len(b); {
				n := rng.IntN(200)
				copy(b[at:], wire.Header(types[rng.IntN(len(types))], uint32(n)))
				at += 5 + n
			}
		}
		c.Write(b)
		c.Close()
	}
	w.check(t)
	wire.Login(t, r).WantAlive()
}

func TestHugeHeads(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	refused := func(t *testing.T, head []byte) {
		t.Helper()
		for _, c := range []*wire.Conn{wire.Dial(t, r), wire.DialTCP(t, r, r.HTTPAddr)} {
			done := make(chan struct{})
			go func() { defer close(done); c.Write(head) }()
			all := closedWithin(t, c.R, c.SetReadDeadline, wire.IOTimeout)
			if len(all) > 0 && !bytes.HasPrefix(all, []byte("HTTP/1.1 431 ")) && !bytes.HasPrefix(all, []byte("HTTP/1.1 400 ")) {
				t.Errorf("a head of %d bytes: got %q, want 431 or the end", len(head), all[:min(len(all), 100)])
			}
			c.Close()
			<-done
		}
	}
	t.Run("two MiB in one header", func(t *testing.T) {
		t.Parallel()
		refused(t, wire.Head("DERP", "X-Padding: "+strings.Repeat("p", 2<<20)))
	})
	t.Run("two MiB in many headers", func(t *testing.T) {
		t.Parallel()
		refused(t, wire.Head("DERP", strings.Repeat("X-Padding: 0123456789\r\n", 100000)+"X: y"))
	})
	t.Run("two MiB of path", func(t *testing.T) {
		t.Parallel()
		refused(t, []byte("GET /"+strings.Repeat("p", 2<<20)+" HTTP/1.1\r\nHost: x\r\n\r\n"))
	})
	t.Run("two MiB without a line end", func(t *testing.T) {
		t.Parallel()
		refused(t, bytes.Repeat([]byte("p"), 2<<20))
	})
	t.Run("a little over 16 KiB", func(t *testing.T) {
		t.Parallel()
		if relay.DetourOnly(t, "request heads end at 16 KiB") {
			refused(t, wire.Head("DERP", "X-Padding: "+strings.Repeat("p", 16<<10)))
			refused(t, wire.Head("", strings.Repeat("X-Padding: 0123456789\r\n", 800)+"X: y"))
		}
	})
	t.Run("15 KiB is fine", func(t *testing.T) {
		t.Parallel()
		c := wire.Dial(t, r)
		c.Put(wire.Head("DERP", "Derp-Fast-Start: 1", "X-Padding: "+strings.Repeat("p", 15<<10)), c.Info(wire.DefaultInfo))
		if err := c.ReadLogin(); err != nil {
			t.Fatal(err)
		}
	})
}

// Announcing much and sending nothing must not cost memory for long, nor anybody else anything.
func TestFramesThatAreAnnouncedAndNeverSent(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	w := watch(t, r)
	before := r.RSS(t)
	var conns []*wire.Conn
	for i := range 150 {
		c := wire.Dial(t, r)
		if i%2 == 0 {
			c.Put(wire.FastHead(), wire.Header(wire.ClientInfo, 262144), []byte{1})
		} else {
			c.Login(wire.DefaultInfo)
			c.Put(wire.Header(wire.SendPacket, 32+65536), make([]byte, 40))
		}
		conns = append(conns, c)
	}
	if grown := r.RSS(t) - before; grown > 100<<20 {
		t.Errorf("150 such connections cost %d MiB", grown>>20)
	}
	w.check(t)
	for _, c := range conns {
		c.Close()
	}
	if got := r.WantVar(t, "derp.gauge_current_connections", 2); got > 2 {
		t.Errorf("current_connections is %v after they left, want at most the 2 of the pair", got)
	}
}

// With no descriptors left the relay goes on for those it has, does not spin, and takes new clients
// as soon as it can.
func TestRunningOutOfDescriptors(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, HTTPPort: -1, Wrap: []string{"sh", "-c", `ulimit -n 64; exec "$0" "$@"`}})
	a, b := wire.Login(t, r), wire.Login(t, r)
	if _, err := exchange(a, b); err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for range 120 {
		c, err := net.DialTimeout("tcp", r.Addr, 2*time.Second)
		if err != nil {
			break // the backlog is full, too
		}
		defer c.Close()
		conns = append(conns, c)
	}
	if len(conns) < 64 {
		t.Fatalf("only %d connections were opened", len(conns))
	}
	// It takes connections up to its limit, less what it keeps in reserve, and stays there.
	last, same := 0, 0
	if !relay.Poll(30*time.Second, func() bool {
		if n := r.OpenFiles(t); n == last {
			same++
		} else {
			last, same = n, 0
		}
		return same >= 30
	}) || last < 40 {
		t.Fatalf("the relay has %d descriptors open, want it to run into its limit of 64", last)
	}
	cpu, start := r.CPU(t), time.Now()
	rounds := 0
	relay.Poll(1500*time.Millisecond, func() bool {
		if _, err := exchange(a, b); err != nil {
			t.Fatalf("the pair is disturbed: %v", err)
		}
		rounds++
		return false
	})
	used, wall := r.CPU(t)-cpu, time.Since(start)
	if used > wall/2 {
		t.Errorf("%v of CPU in %v without descriptors (%d exchanges meanwhile): it spins", used, wall, rounds)
	}
	for _, c := range conns {
		c.Close()
	}
	var err error
	if !relay.Poll(30*time.Second, func() bool {
		var c *wire.Conn
		if c, err = wire.DialError(t, r, r.TLSConfig()); err != nil {
			return false
		}
		defer c.Close()
		err = c.LoginError(wire.DefaultInfo)
		return err == nil
	}) {
		t.Fatalf("nobody comes in after the others left: %v", err)
	}
	if _, err := exchange(a, b); err != nil {
		t.Fatalf("the pair is disturbed: %v", err)
	}
	if !r.Running() {
		t.Fatal("the relay has ended")
	}
}

// 2,000 logins, many at once: all succeed, and descriptors, gauges and memory come back.
func TestTwoThousandLogins(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	w := watch(t, r)
	logins := func(n int) {
		const parallel = 24
		var wg sync.WaitGroup
		work := make(chan struct{}, n)
		for range n {
			work <- struct{}{}
		}
		close(work)
		for range parallel {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range work {
					c, err := wire.DialError(t, r, r.TLSConfig())
					if err == nil {
						err = c.LoginError(wire.DefaultInfo)
					}
					if err != nil {
						t.Errorf("login: %v", err)
						return
					}
					p := []byte("hello")
					c.Write(wire.Encode(wire.SendPacket, wire.Raw(c.Pub), p))
					if f, err := c.TryFrame(wire.IOTimeout); err != nil || f.Type != wire.RecvPacket {
						t.Errorf("packet to oneself: %v %v", f, err)
					}
					c.Close()
				}
			}()
		}
		wg.Wait()
	}
	const warm, churn = 400, 2000
	settled := func() {
		if got := r.WantVar(t, "derp.gauge_current_connections", 2); got != 2 {
			t.Errorf("current_connections is %v, want the 2 of the pair", got)
		}
	}
	logins(warm)
	settled()
	files, rss := r.OpenFiles(t), r.RSS(t)
	logins(churn)
	settled()
	more := 96 << 20
	if relay.DetourOnly(t, "memory comes back at once") {
		more = 12 << 20
	}
	now := 0
	if !relay.Poll(30*time.Second, func() bool { now = r.RSS(t); return now <= rss+more }) {
		t.Errorf("RSS is %d KiB after %d more logins, %d KiB before", now>>10, churn, rss>>10)
	}
	t.Logf("RSS %d KiB after %d logins, %d KiB after %d more", rss>>10, warm, now>>10, churn)
	if got := r.OpenFiles(t); got > files+5 {
		t.Errorf("%d descriptors are open, %d before", got, files)
	}
	if got, want := r.Var(t, "derp.accepts"), float64(warm+churn+2); got != want {
		t.Errorf("accepts is %v, want %v", got, want)
	}
	for _, name := range []string{"derp.gauge_clients_local", "derp.gauge_clients_total"} {
		if got := r.WantVar(t, name, 2); got != 2 {
			t.Errorf("%s is %v, want 2", name, got)
		}
	}
	w.check(t)
}

// Idle clients that leave give their memory back.
func TestMemoryComesBackFromIdleClients(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	round := func() {
		var conns []*wire.Conn
		for range 300 {
			conns = append(conns, wire.Login(t, r))
		}
		for _, c := range conns {
			c.WantAlive()
			c.Close()
		}
		if got := r.WantVar(t, "derp.gauge_current_connections", 0); got != 0 {
			t.Errorf("current_connections is %v, want 0", got)
		}
	}
	round()
	first := r.RSS(t)
	for range 3 {
		round()
	}
	more := 96 << 20
	if relay.DetourOnly(t, "memory comes back at once") {
		more = 12 << 20
	}
	now := 0
	if !relay.Poll(30*time.Second, func() bool { now = r.RSS(t); return now <= first+more }) {
		t.Errorf("RSS is %d KiB after 4 rounds of 300 clients, %d KiB after the first", now>>10, first>>10)
	}
	t.Logf("RSS %d KiB after the first round, %d KiB after the fourth", first>>10, now>>10)
}

// Many clients at once, each in the middle of a large frame, need memory. When they have left, it is given
// back.
func TestMemoryComesBackFromBusyClients(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "memory comes back at once") {
		return
	}
	r := relay.Start(t, relay.Options{NoSTUN: true})
	stays := wire.Login(t, r)
	before := r.RSS(t)
	const clients, kept = 500, 60_000
	var conns []*wire.Conn
	for range clients {
		c := wire.Login(t, r)
		c.Put(wire.Encode(wire.SendPacket, wire.Raw(stays.Pub), make([]byte, 65536))[:kept])
		conns = append(conns, c)
	}
	during := 0
	if !relay.Poll(30*time.Second, func() bool { during = r.RSS(t); return during >= before+clients*kept*9/10 }) {
		t.Errorf("RSS is %d KiB with %d clients in the middle of a frame, %d KiB before", during>>10, clients, before>>10)
	}
	for _, c := range conns {
		c.Close()
	}
	after := 0
	if !relay.Poll(60*time.Second, func() bool { after = r.RSS(t); return after <= before*6/5 }) {
		t.Errorf("RSS is %d KiB after the clients left, %d KiB with them, %d KiB before: want a fifth more at most", after>>10, during>>10, before>>10)
	}
	stays.WantAlive()
	t.Logf("RSS %d KiB before, %d KiB with %d busy clients, %d KiB after", before>>10, during>>10, clients, after>>10)
}

// Clients vanish without a word (RST) in the middle of what they send and receive.
func TestConnectionsThatBreakUnderTraffic(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	w := watch(t, r)
	victim := key.NewNode()
	sender := wire.Login(t, r)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		frame := wire.Encode(wire.SendPacket, wire.Raw(victim.Public()), make([]byte, 1400))
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := sender.Write(frame); err != nil {
					t.Errorf("the sender was cut off: %v", err)
					return
				}
			}
		}
	}()
	for i := range 100 {
		c := wire.LoginAs(t, r, victim)
		if _, err := c.TryFrame(wire.IOTimeout); err != nil {
			t.Fatal(err)
		}
		c.Write(wire.Encode(wire.SendPacket, wire.Raw(sender.Pub), make([]byte, 3000))[:1+i*30])
		raw := c.Conn.(*tls.Conn).NetConn().(*net.TCPConn)
		raw.SetLinger(0)
		raw.Close()
	}
	close(stop)
	<-done
	w.check(t)
	if got := r.WantVar(t, "derp.gauge_current_connections", 3); got > 3 {
		t.Errorf("current_connections is %v, want at most the sender and the pair", got)
	}
}

// A client that shuts its sending side down has left.
func TestHalfClosedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	for _, how := range []string{"close_notify", "FIN alone"} {
		t.Run(how, func(t *testing.T) {
			c := wire.Login(t, r)
			if how == "close_notify" {
				c.Conn.(*tls.Conn).CloseWrite()
			} else {
				c.Conn.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite()
			}
			c.WantClosed()
			if got := r.WantVar(t, "derp.gauge_current_connections", 0); got != 0 {
				t.Errorf("current_connections is %v, want 0", got)
			}
		})
	}
}
