package robust_test

import (
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// A key that TS_DEBUG_VERBOSE_DROPS names: the log tells of packets to it that are dropped, with reason,
// source and destination, and of nobody else's; a flood does not flood the log.
func TestDropsOfAKeyAreLogged(t *testing.T) {
	t.Parallel()
	watched, other := key.NewNode(), key.NewNode()
	hex := strings.TrimPrefix(watched.Public().String(), "nodekey:")
	r := relay.Start(t, relay.Options{
		NoSTUN: true, Args: []string{"-tcp-write-timeout=0"},
		Env: []string{"TS_DEBUG_VERBOSE_DROPS=nonsense," + hex},
	})
	if !strings.Contains(r.Log(), "nonsense") {
		t.Errorf("the log does not say that a key cannot be read")
	}
	name := func(k key.NodePublic) string {
		if relay.IsDerper() {
			return k.ShortString()
		}
		return k.String()
	}
	lines := func(reason string, from, to key.NodePublic) (n int) {
		for line := range strings.Lines(r.Log()) {
			if !strings.Contains(line, "drop") || !strings.Contains(line, reason) {
				continue
			}
			source, destination := strings.Index(line, name(from)), strings.LastIndex(line, name(to))
			if source >= 0 && destination > source {
				n++
			}
		}
		return n
	}
	want := func(reason string, from, to key.NodePublic) {
		t.Helper()
		if !relay.Poll(20*time.Second, func() bool { return lines(reason, from, to) > 0 }) {
			t.Errorf("no line about %s from %s to %s:\n%s", reason, name(from), name(to), r.Log())
		}
	}

	a := wire.Login(t, r)
	a.Send(other.Public(), make([]byte, 100))
	a.Send(watched.Public(), make([]byte, 100))
	want("unknown_dest", a.Pub, watched.Public())
	if n := lines("unknown_dest", a.Pub, other.Public()); n != 0 {
		t.Errorf("%d lines about a key that nobody asked for", n)
	}

	b := smallBuffersAs(t, r, watched)
	flood(t, a, b, 8000, func() bool { return r.Varz(t)[queueHead] >= 500 })
	want("queue_head", a.Pub, watched.Public())
	if n := lines("queue_head", a.Pub, watched.Public()); n > 100 {
		t.Errorf("%d lines about %v packets", n, r.Varz(t)[queueHead])
	}
	b.Close()
	want("gone_disconnected", a.Pub, watched.Public())
	a.WantAlive()
}
