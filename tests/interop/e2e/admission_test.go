package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// TestATailscaledLetsItsTailnetIn has a relay that asks a real tailscaled, which is itself a node that
// uses the relay.
func TestATailscaledLetsItsTailnetIn(t *testing.T) {
	t.Parallel()
	guard, member := newNode(t, "guard"), newNode(t, "member")
	r := relay.Start(t, relay.Options{Args: []string{"-verify-clients", "-socket", guard.socket}})
	control := newControl(t, r.DERPMap(regionID))
	for _, n := range []*node{guard, member} {
		control.join(t, n)
	}
	for _, n := range []*node{guard, member} {
		n.awaitLog(t, 0, connectedLine, nodeTimeout)
	}
	tn := &tailnet{relay: r, derpMap: r.DERPMap(regionID), control: control, a: guard, b: member}
	tn.awaitReady(t, nil)
	tn.awaitPing(t, recoverTimeout)
	tn.requireRelayed(t)

	stranger := wire.Dial(t, r)
	stranger.Priv = key.NewNode()
	stranger.Pub = stranger.Priv.Public()
	if err := stranger.LoginError(wire.DefaultInfo); err == nil {
		t.Error("a key that tailscaled does not know was let in")
	}
	if !relay.Poll(nodeTimeout, func() bool { return strings.Contains(r.Log(), stranger.Pub.String()) }) {
		t.Error("the log does not name the key that was refused")
	}
}

// TestARefusedNodeIsToldWhy has a controller that does not let a node in, and changes its mind.
func TestARefusedNodeIsToldWhy(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "a refused client is told why") {
		return
	}
	var allow atomic.Bool
	controller := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"Allow":%v}`, allow.Load())
	}))
	t.Cleanup(controller.Close)
	r := relay.Start(t, relay.Options{Args: []string{"-verify-client-url", controller.URL}})
	n := newNode(t, "alpha")
	newControl(t, r.DERPMap(regionID)).join(t, n)

	const reason = "this relay does not let this node in"
	says := func() bool {
		st := n.quickStatus(t)
		return st != nil && strings.Contains(strings.Join(st.Health, "\n"), reason)
	}
	if !relay.Poll(nodeTimeout, says) {
		t.Fatalf("the node's status does not say %q: %q", reason, n.status(t).Health)
	}
	if out := n.mustCLI(t, "status"); !strings.Contains(out, reason) {
		t.Errorf("tailscale status does not say %q:\n%s", reason, out)
	}
	mark := n.log.mark()
	allow.Store(true)
	n.awaitLog(t, mark, connectedLine, nodeTimeout)
	if !relay.Poll(nodeTimeout, func() bool { return !says() }) {
		t.Errorf("the node still complains: %q", n.status(t).Health)
	}
}
