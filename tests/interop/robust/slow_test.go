package robust_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// smallBuffers logs in on a connection whose receive buffer is small, so that a receiver that stops
// reading blocks the relay soon.
func smallBuffers(t *testing.T, r *relay.Relay) *wire.Conn {
	t.Helper()
	return smallBuffersAs(t, r, key.NewNode())
}

func smallBuffersAs(t *testing.T, r *relay.Relay, priv key.NodePrivate) *wire.Conn {
	t.Helper()
	d := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10) })
		return err
	}}
	ctx, cancel := context.WithTimeout(context.Background(), wire.IOTimeout)
	defer cancel()
	td := tls.Dialer{NetDialer: d, Config: r.TLSConfig()}
	nc, err := td.DialContext(ctx, "tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c := wire.New(t, r, nc)
	c.Priv, c.Pub = priv, priv.Public()
	c.Login(wire.DefaultInfo)
	return c
}

const queueHead = `derp_packets_dropped{reason="queue_head",kind="other"}`

// numbered is a packet that says which one it is.
func numbered(i uint64, size int) []byte {
	p := make([]byte, size)
	binary.BigEndian.PutUint64(p[1:], i)
	return p
}

func number(f wire.Frame) uint64 { return binary.BigEndian.Uint64(f.Payload[33:]) }

// flood sends numbered packets from a to b until stop says so, and gives how many there were.
func flood(t *testing.T, a, b *wire.Conn, size int, stop func() bool) uint64 {
	t.Helper()
	deadline := time.Now().Add(20*time.Second + relay.Slack)
	sent := uint64(0)
	for {
		for range 50 {
			a.Send(b.Pub, numbered(sent, size))
			sent++
		}
		if stop() {
			return sent
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d packets of %d bytes were sent and the queue of a receiver that does not read is not full", sent, size)
		}
	}
}

// A receiver that pauses loses the oldest packets and gets the newest: the last one always arrives, in
// order, and every packet is either delivered or counted.
func TestAReceiverThatPausesLosesTheOldestPackets(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-tcp-write-timeout", "20s"}})
	w := watch(t, r)
	a, b := wire.Login(t, r), smallBuffers(t, r)
	sent := flood(t, a, b, 8000, func() bool { return r.Varz(t)[queueHead] >= 100 })
	a.WantAlive() // everything has been read

	var got []uint64
	for {
		f, err := b.TryFrame(3 * time.Second)
		if err != nil {
			t.Fatalf("after %d of %d packets: %v; the last one has to arrive", len(got), sent, err)
		}
		if f.Type != wire.RecvPacket || len(f.Payload) != 32+8000 {
			t.Fatalf("got %v, want a packet", f)
		}
		n := number(f)
		if len(got) > 0 && n <= got[len(got)-1] {
			t.Fatalf("packet %d came after packet %d", n, got[len(got)-1])
		}
		got = append(got, n)
		if n == sent-1 {
			break
		}
	}
	if uint64(len(got)) == sent {
		t.Error("nothing was lost: the test did not fill the queue")
	}
	// The 32 newest were in the queue.
	for i := 1; i <= 32; i++ {
		if want := sent - uint64(i); got[len(got)-i] != want {
			t.Errorf("the packets that came last are %v, want the 32 newest of %d", got[len(got)-32:], sent)
			break
		}
	}
	lost := float64(sent) - float64(len(got))
	if !relay.Poll(30*time.Second, func() bool { return r.Varz(t)[queueHead] == lost }) {
		t.Errorf("%s is %v, want %v: %d sent, %d delivered", queueHead, r.Varz(t)[queueHead], lost, sent, len(got))
	}
	if got := r.Varz(t)[`derp_bytes_dropped{reason="queue_head",kind="other"}`]; got != lost*8000 {
		t.Errorf("bytes dropped at the head: %v, want %v", got, lost*8000)
	}
	if n := r.Var(t, "derp.sclient_write_timeouts"); n != 0 {
		t.Errorf("sclient_write_timeouts is %v, want 0", n)
	}
	b.WantAlive()
	w.check(t)
}

// Disco packets wait in a queue of their own: a flood of data does not push them out.
func TestDiscoSurvivesAFloodOfData(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-tcp-write-timeout", "20s"}})
	a, b := wire.Login(t, r), smallBuffers(t, r)
	full := func() bool { return r.Varz(t)[queueHead] >= 20 }
	flood(t, a, b, 8000, full)
	for i := range 32 {
		p := wire.Disco(100)
		p[99] = byte(i)
		a.Send(b.Pub, p)
	}
	before := r.Varz(t)[queueHead]
	flood(t, a, b, 8000, func() bool { return r.Varz(t)[queueHead] >= before+100 })
	a.Send(b.Pub, []byte("the end"))
	a.WantAlive()
	// No order is promised between the two queues: read until both are through.
	var disco []byte
	for end := false; !end || len(disco) < 32; {
		f, err := b.TryFrame(3 * time.Second)
		if err != nil {
			t.Fatalf("disco packets %v came (the end: %v), want all 32 of them: %v", disco, end, err)
		}
		switch p := f.Payload[32:]; {
		case len(p) == 100:
			disco = append(disco, p[99])
		case string(p) == "the end":
			end = true
		}
	}
	for i, n := range disco {
		if int(n) != i {
			t.Fatalf("disco packets came as %v, want 0 to 31 in order", disco)
		}
	}
	if n := r.Varz(t)[`derp_packets_dropped{reason="queue_head",kind="disco"}`]; n != 0 {
		t.Errorf("%v disco packets were dropped", n)
	}
}

// A receiver that never reads again is cut off after the write timeout. Its sender and everybody else
// go on.
func TestAReceiverThatStopsReadingIsCutOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		args     []string
		min, max time.Duration
	}{
		{"after two seconds by default", nil, 1500 * time.Millisecond, 6*time.Second + relay.Slack},
		{"later when told so", []string{"-tcp-write-timeout=5s"}, 4500 * time.Millisecond, 12*time.Second + relay.Slack},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := relay.Start(t, relay.Options{NoSTUN: true, Args: c.args})
			w := watch(t, r)
			a, frozen, healthy := wire.Login(t, r), smallBuffers(t, r), wire.Login(t, r)
			start := time.Now()
			stalled := time.Time{}
			sent := flood(t, a, frozen, 8000, func() bool {
				// The sender's other destination is not held up.
				p := numbered(7, 100)
				a.Send(healthy.Pub, p)
				healthy.Want(wire.RecvPacket, wire.Raw(a.Pub), p)
				varz := r.Varz(t)
				if stalled.IsZero() && varz[queueHead] > 0 {
					stalled = time.Now()
				}
				return varz["derp_sclient_write_timeouts"] >= 1
			})
			cut := time.Now()
			if stalled.IsZero() {
				t.Fatal("no packet was dropped at the head of the queue before the cut")
			}
			if d := cut.Sub(start); d < c.min {
				t.Errorf("cut off %v after the first packet, want at least %v", d, c.min)
			}
			if d := cut.Sub(stalled); d > c.max {
				t.Errorf("cut off %v after the first drop, want at most %v", d, c.max)
			}
			if n := r.Var(t, "derp.sclient_write_timeouts"); n != 1 {
				t.Errorf("sclient_write_timeouts is %v, want 1", n)
			}
			if got := r.WantVar(t, "derp.gauge_current_connections", 4); got != 4 {
				t.Errorf("current_connections is %v, want 4", got)
			}
			// What the kernels still hold comes, then the end; it was in order.
			last, n := uint64(0), 0
			for {
				f, err := frozen.TryFrame(wire.IOTimeout)
				if err != nil {
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("the frozen receiver is still connected")
					}
					break
				}
				if i := number(f); n > 0 && i <= last {
					t.Fatalf("packet %d came after packet %d", i, last)
				} else {
					last, n = i, n+1
				}
			}
			if uint64(n) >= sent {
				t.Errorf("%d of %d packets were delivered to a receiver that did not read", n, sent)
			}
			a.WantAlive()
			w.check(t)
		})
	}
}

// With -tcp-write-timeout=0 nobody is cut off for not reading.
func TestNoWriteTimeoutWhenSwitchedOff(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-tcp-write-timeout=0"}})
	a, b := wire.Login(t, r), smallBuffers(t, r)
	start := time.Now()
	sent := flood(t, a, b, 8000, func() bool { return r.Varz(t)[queueHead] >= 20 && time.Since(start) > 4*time.Second })
	a.WantAlive()
	for {
		f, err := b.TryFrame(wire.IOTimeout)
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == wire.RecvPacket && number(f) == sent-1 {
			break
		}
	}
	if n := r.Var(t, "derp.sclient_write_timeouts"); n != 0 {
		t.Errorf("sclient_write_timeouts is %v, want 0", n)
	}
	b.WantAlive()
}

func TestManyReceiversThatStopReading(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-tcp-write-timeout=1s"}})
	w := watch(t, r)
	const n = 20
	var wg sync.WaitGroup
	for range n {
		a, frozen := wire.Login(t, r), smallBuffers(t, r)
		wg.Add(1)
		go func() {
			defer wg.Done()
			deadline := time.Now().Add(30 * time.Second)
			for i := uint64(0); time.Now().Before(deadline); i++ {
				if _, err := a.Write(wire.Encode(wire.SendPacket, wire.Raw(frozen.Pub), numbered(i, 16000))); err != nil {
					t.Errorf("a sender was cut off: %v", err)
					return
				}
				if i%100 == 0 && r.Var(t, "derp.sclient_write_timeouts") >= n {
					return
				}
			}
		}()
	}
	wg.Wait()
	if got := r.WantVar(t, "derp.sclient_write_timeouts", n); got != n {
		t.Errorf("sclient_write_timeouts is %v, want %d", got, n)
	}
	w.check(t)
}
