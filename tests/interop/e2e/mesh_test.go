package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tailscale.com/tailcfg"

	"detour.example/interop/relay"
)

// startMesh starts two relays of one region that forward for each other.
func startMesh(t *testing.T) [2]*relay.Relay {
	t.Helper()
	ca := relay.NewCA()
	secret := make([]byte, 32)
	rand.Read(secret)
	keyFile := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(keyFile, []byte(hex.EncodeToString(secret)), 0o600); err != nil {
		t.Fatal(err)
	}
	names := [2]string{"relay0.interop.test", "relay1.interop.test"}
	ports := [2]int{relay.FreePort(t, "127.0.0.1"), relay.FreePort(t, "127.0.0.1")}
	with := fmt.Sprintf("%s:%d/127.0.0.1,%s:%d/127.0.0.1", names[0], ports[0], names[1], ports[1])
	var relays [2]*relay.Relay
	for i, name := range names {
		cert, key := ca.For(name)
		relays[i] = relay.Start(t, relay.Options{Host: name, Port: ports[i], CertFile: cert, KeyFile: key, Roots: ca.PEM,
			Args: []string{"-mesh-psk-file", keyFile, "-mesh-with", with}})
	}
	for i, r := range relays {
		if got := r.WantVar(t, "derp.gauge_watchers", 1); got != 1 {
			// The reference tries again after 5 s only.
			if got = r.WantVar(t, "derp.gauge_watchers", 1); got != 1 {
				t.Fatalf("relay %d has %v watchers, want 1", i, got)
			}
		}
	}
	return relays
}

// TestNodesMeetAcrossAMesh has two nodes at different relays of one region: what they send each other
// goes from relay to relay.
func TestNodesMeetAcrossAMesh(t *testing.T) {
	t.Parallel()
	relays := startMesh(t)
	derpMap := relays[0].DERPMap(regionID)
	region := derpMap.Regions[regionID]
	other := relays[1].Region(regionID).Nodes[0]
	other.Name = "900b"
	region.Nodes = append(region.Nodes, other)
	tn := newTailnet(t, relays[0], derpMap)

	// beta gets the region's nodes in the other order, and so moves to the other relay.
	reversed := region.Clone()
	slices.Reverse(reversed.Nodes)
	key, _ := tn.b.self(t)
	before := countersOf(t, relays[1]).Accepts
	if !tn.control.AddRawMapResponse(key, &tailcfg.MapResponse{DERPMap: &tailcfg.DERPMap{
		OmitDefaultRegions: true,
		Regions:            map[int]*tailcfg.DERPRegion{regionID: reversed},
	}}) {
		t.Fatal("the control server cannot reach beta")
	}
	if !relay.Poll(nodeTimeout, func() bool { return countersOf(t, relays[1]).Accepts > before }) {
		t.Fatal("beta does not go to the other relay")
	}
	tn.awaitPing(t, nodeTimeout)
	tn.requireRelayed(t)

	start := [2]relayCounters{countersOf(t, relays[0]), countersOf(t, relays[1])}
	startTransfer(t, tn.a, tn.b, transferSize).await(t, transferTimeout)
	end := [2]relayCounters{countersOf(t, relays[0]), countersOf(t, relays[1])}
	if got := end[0].BytesReceived - start[0].BytesReceived; got < transferSize {
		t.Errorf("the sender's relay received %d bytes, want at least %d", got, transferSize)
	}
	if got := end[1].BytesSent - start[1].BytesSent; got < transferSize {
		t.Errorf("the receiver's relay sent %d bytes, want at least %d", got, transferSize)
	}
	for i := range relays {
		out, in := end[i].ForwardedOut-start[i].ForwardedOut, end[i].ForwardedIn-start[i].ForwardedIn
		if out == 0 || in == 0 {
			t.Errorf("relay %d forwarded %d packets and got %d forwarded: want some of each", i, out, in)
		}
	}
	tn.requireRelayed(t)
}
