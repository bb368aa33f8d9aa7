package relay

import "testing"

// detourOnly lists what the reference (derper v1.102.5) does not do and Detour does, with the reason.
// Nothing else may differ between the two runs.
var detourOnly = map[string]string{
	"unknown frames end at 65,568 bytes":           "since v1.104 a longer frame of an unknown type closes the connection; v1.102 discards any length",
	"STUN answers from the address that was asked": "since v1.104; v1.102 lets the kernel choose the source address",
	"app names are checked":                        "since v1.104 AppName is at most 32 bytes of printable ASCII, or the login is refused; v1.102 takes anything",
}

// DetourOnly reports whether the check called name runs: always against Detour, never against derper.
// The name has to be in the table above.
func DetourOnly(t testing.TB, name string) bool {
	t.Helper()
	reason, ok := detourOnly[name]
	if !ok {
		t.Fatalf("%q is not in the table of differences", name)
	}
	if IsDerper() {
		t.Logf("not checked with derper: %s (%s)", name, reason)
		return false
	}
	return true
}
