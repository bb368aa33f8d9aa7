package relay_test

import (
	"testing"

	"detour.example/interop/relay"
)

func TestARelayStartsServesAndEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	if r.Pin == "" || r.PublicKey.IsZero() {
		t.Errorf("pin %q, public key %v: want both", r.Pin, r.PublicKey)
	}
	r.Restart()
	r.Kill()
	r.Restart()
}
