package relay

import "testing"

// detourOnly lists what the reference (derper v1.102.5) does not do and Detour does, with the reason.
// Nothing else may differ between the two runs.
var detourOnly = map[string]string{
	"unknown frames end at 65,568 bytes":                          "since v1.104 a longer frame of an unknown type closes the connection; v1.102 discards any length",
	"STUN answers from the address that was asked":                "since v1.104; v1.102 lets the kernel choose the source address",
	"the whole handshake ends within 10 s":                        "v1.102 gives 30 s to TLS and the request, then 10 s to the login",
	"request heads end at 16 KiB":                                 "v1.102 takes about 1 MiB",
	"SIGTERM flushes what is queued":                              "v1.102 ends without writing what waits",
	"memory comes back at once":                                   "the garbage collector of derper keeps memory for minutes",
	"addresses are understood as people write them":               "quotes, blanks and bare ports are errors to v1.102",
	"messages name the file and the mending":                      "the messages of v1.102 are those of Go's library",
	"state is exchanged with derper":                              "it takes both servers, so once is enough",
	"certificates are checked for their dates":                    "v1.102 serves expired certificates",
	"certificates are checked for their chain":                    "v1.102 serves a leaf without its intermediate",
	"one missing file of two is no reason to overwrite the other": "v1.102 makes new ones without a word",
	"self-signed certificates last ten years":                     "those of v1.102 last one year",
	"a full mesh link does not hold the sender up":                "v1.102 waits in the sender's reader; packets queue in Detour, and the oldest make way",
	"PeerPresent carries the app name":                            "since v1.104 a length and the app name stand behind the flags; v1.102 ends with the flags",
	"the log says why there is no mesh link":                      "v1.102 logs that the connection ended, and no more",
	"clients behind a proxy are known by their own address":       "v1.102 knows neither the PROXY protocol nor trusted proxies",
	"WebSocket messages end at 32,768 bytes":                      "v1.102 puts a large packet into one larger message, which its own client refuses",
	"a flood of WebSocket pings is bounded":                       "v1.102 answers each ping and waits up to 5 s for the peer to read",
	"settings come from the environment and from a file":          "v1.102 has flags alone, and no `config`, `--check` or reload but for -rate-config",
	"a refused client is told why":                                "v1.102 closes the connection without a word",
	"answers of admission are remembered":                         "v1.102 asks for each login",
	"clients are checked again while connected":                   "v1.102 never asks again about who is connected",
	"the accept limit leaves the relay alive":                     "v1.102 ends at the first connection that comes too fast",
	"a new mesh key is fetched although an old one is kept":       "v1.102 uses what it has kept without asking, and never hears of another one",
	"a setec server without the mesh key is an error":             "v1.102 asks again for ever",
	"CONNECT leads to names alone":                                "v1.102 takes whatever ends in .tailscale.com: of an IPv6 address with such a zone it connects to the address",
	"one direction of a tunnel may end alone":                     "v1.102 closes both as soon as one ends",
	"the number of tunnels is bounded":                            "v1.102 has no bound",
	"clients are listed":                                          "/debug/clients/ came with v1.104",
	"streams of traffic are bounded":                              "v1.102 starts a process every two seconds for each reader, however many there are",
	"a systemd unit comes with the program":                       "v1.102 has none",
	"app names are checked":                                       "since v1.104 AppName is at most 32 bytes of printable ASCII, or the login is refused; v1.102 takes anything",
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
