package robust_test

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

// SIGTERM and SIGINT end the relay at once with status 0, whoever is connected and whatever they do.
func TestSignalsEndTheRelayUnderTraffic(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := relay.Start(t, relay.Options{})
			var idle []*wire.Conn
			for range 60 {
				idle = append(idle, wire.Login(t, r))
			}
			silent := tcp(t, r.Addr)
			half := wire.Dial(t, r)
			half.Put([]byte("GET /derp HTTP/1.1\r\n"))
			frozen := smallBuffers(t, r)
			sender := wire.Login(t, r)
			go func() {
				frame := wire.Encode(wire.SendPacket, wire.Raw(frozen.Pub), make([]byte, 8000))
				for {
					if _, err := sender.Write(frame); err != nil {
						return
					}
				}
			}()
			relay.Poll(30*time.Second, func() bool { return r.Varz(t)[queueHead] > 0 })
			start := time.Now()
			r.Signal(sig)
			select {
			case <-r.Exited():
			case <-time.After(relay.StopTimeout):
				t.Fatalf("it still runs %v after %s", relay.StopTimeout, name)
			}
			if err := r.ExitError(); err != nil {
				t.Errorf("after %s: %v, want status 0", name, err)
			}
			t.Logf("ended %v after %s", time.Since(start).Round(time.Millisecond), name)
			for _, c := range idle {
				c.WantClosed()
			}
			closedWithin(t, silent, silent.SetReadDeadline, wire.IOTimeout)
		})
	}
}

// What waits in a queue when SIGTERM comes is still written.
func TestSIGTERMFlushesWhatIsQueued(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "SIGTERM flushes what is queued") {
		return
	}
	r := relay.Start(t, relay.Options{NoSTUN: true})
	a, b := wire.Login(t, r), smallBuffers(t, r)
	sent := flood(t, a, b, 8000, func() bool { return r.Varz(t)[queueHead] > 0 })
	a.WantAlive()
	r.Signal(syscall.SIGTERM)
	var got uint64
	for {
		f, err := b.TryFrame(wire.IOTimeout)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, io.EOF) {
				t.Errorf("the connection ended with %v, want a proper end", err)
			}
			break
		}
		if f.Type == wire.RecvPacket {
			got = number(f)
		}
	}
	if got != sent-1 {
		t.Errorf("the last packet that came is %d, want %d, which was queued", got, sent-1)
	}
	select {
	case <-r.Exited():
	case <-time.After(relay.StopTimeout):
		t.Errorf("it still runs %v after SIGTERM", relay.StopTimeout)
	}
	if err := r.ExitError(); err != nil {
		t.Errorf("after SIGTERM: %v, want status 0", err)
	}
}

// After SIGKILL a new relay can take the port at once, with the same key and certificate, although
// connections of the old one linger.
func TestAKilledRelayCanBeStartedAgainAtOnce(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	for range 3 {
		var conns []*wire.Conn
		for range 20 {
			conns = append(conns, wire.Login(t, r))
		}
		r.Kill()
		r.Restart() // compares key and pin
		for _, c := range conns {
			c.WantClosed()
		}
		a, b := wire.Login(t, r), wire.Login(t, r)
		if _, err := exchange(a, b); err != nil {
			t.Fatal(err)
		}
		if _, err := relay.STUNRequest(r.STUNAddr, wire.IOTimeout); err != nil {
			t.Errorf("STUN: %v", err)
		}
	}
}
