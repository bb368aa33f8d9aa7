// Package e2e holds the end-to-end tests: two unmodified tailscaled, brought together by Tailscale's
// test control server, whose only way to each other is the relay under test.
//
//	go test ./e2e                        # against Detour
//	INTEROP_RELAY=derper go test ./e2e   # against the reference, to find wrong expectations
//
// Environment, besides that of the relay package:
//
//	TAILSCALE_BIN, TAILSCALED_BIN   the client's programs; default: built from the version of
//	                                tailscale.com in go.mod and kept in Go's build cache
//
// How the nodes are forced onto the relay: TS_DEBUG_NEVER_DIRECT_UDP leaves them UDP and STUN but no
// direct path, as a hard NAT does. Every node runs in userspace, with its own state directory and
// socket, and everything stays on the loopback interface.
//
// What the client shows of itself and what proves something:
//   - `magicsock: derp-900 connected` in its log is the only sign that the relay let it in. netcheck,
//     the home relay and the latency rest on STUN alone.
//   - An empty CurAddr in its status, the relay's own byte counters and the silence while the relay is
//     dead prove together that no other path exists.
package e2e
