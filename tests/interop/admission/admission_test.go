// Package admission_test proves who is let in: by a local tailscaled, by an admission controller, and
// what happens when those do not answer.
package admission_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

func TestTailscaledIsAskedForTheNodeKey(t *testing.T) {
	t.Parallel()
	known, stranger := key.NewNode(), key.NewNode()
	ts := newTailscaled(t, func(k string) answer {
		if k == keyText(known.Public()) {
			return answer{status: 200, body: whoisYes}
		}
		return answer{status: 404, body: notInMap}
	})
	r := start(t, "-verify-clients", "-socket", ts.socket)

	wantAdmitted(t, dial(t, r, known, wire.DefaultInfo))
	wantRefused(t, dial(t, r, stranger, wire.DefaultInfo))

	want := "/localapi/v0/whois?addr=nodekey%3A" + known.Public().UntypedHexString()
	first := ts.requests()[0]
	if first.Method != "GET" || first.Target != want || first.Host != "local-tailscaled.sock" {
		t.Errorf("tailscaled was asked %s %s of %s, want GET %s of local-tailscaled.sock", first.Method, first.Target, first.Host, want)
	}
	if v := first.Header.Get("Tailscale-Cap"); v != "" && v < "100" {
		t.Errorf("Tailscale-Cap: %q", v)
	}
	for _, name := range []string{"Origin", "Referer"} {
		if first.Header.Get(name) != "" {
			t.Errorf("%s: tailscaled refuses requests of browsers", name)
		}
	}
	wantLog(t, r, keyText(stranger.Public()))
	if got := r.Var(t, "derp.gauge_current_connections"); got > 1 {
		t.Errorf("%v connections, want at most the one that was let in", got)
	}
}

func TestTailscaledThatDoesNotSayYesLetsNobodyIn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		a    answer
		log  string // Detour's
	}{
		{"access denied", answer{status: 403, body: "whois access denied\n"}, "--operator="},
		{"too old", answer{status: 400, body: "invalid 'addr' parameter\n"}, "too old"},
		{"broken", answer{status: 500, body: "no netmap\n"}, "status 500"},
		{"no JSON", answer{status: 200, body: "<html>"}, "no JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ts := newTailscaled(t, func(string) answer { return tt.a })
			r := start(t, "-verify-clients", "-socket", ts.socket)
			wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
			if relay.DetourOnly(t, "messages name the file and the mending") {
				wantLog(t, r, tt.log)
				wantLog(t, r, ts.socket)
			}
		})
	}
}

func TestTailscaledMayComeLaterAndBeRestarted(t *testing.T) {
	t.Parallel()
	ts := newTailscaled(t, always(200, whoisYes))
	ts.stop()
	os.Remove(ts.socket)
	r := start(t, "-verify-clients", "-socket", ts.socket)
	wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	if relay.DetourOnly(t, "messages name the file and the mending") {
		wantLog(t, r, "there is no socket "+ts.socket)
	}
	ts.listen(t)
	wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	ts.stop()
	os.Remove(ts.socket)
	ts.listen(t)
	wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))

	// A stale socket, as a container that mounted the file has it.
	ts.stop()
	os.Remove(ts.socket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
}

func TestControllerIsAskedWithKeyAndAddress(t *testing.T) {
	t.Parallel()
	known := key.NewNode()
	c := newController(t, func(k string) answer {
		if k == keyText(known.Public()) {
			return answer{status: 200, body: allowYes}
		}
		return answer{status: 200, body: allowNo}
	})
	r := start(t, "-verify-client-url", c.server.URL+"/verify?x=1")
	wantAdmitted(t, dial(t, r, known, wire.DefaultInfo))
	wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))

	first := c.requests()[0]
	want := fmt.Sprintf(`{"NodePublic":"%s","Source":"127.0.0.1"}`, keyText(known.Public()))
	if first.Method != "POST" || first.Target != "/verify?x=1" || first.Body != want {
		t.Errorf("asked %s %s with %s\nwant POST /verify?x=1 with %s", first.Method, first.Target, first.Body, want)
	}
	if got := first.Header.Values("Content-Type"); got != nil {
		t.Errorf("Content-Type %q, want none", got)
	}
	if got := first.Header.Get("Expect"); got != "" {
		t.Errorf("Expect: %q", got)
	}
}

// What a controller answers is read as Go's JSON decoder reads it, and anything but a yes is a no.
func TestControllerAnswers(t *testing.T) {
	t.Parallel()
	pad := func(n int) string { return strings.Repeat(" ", n-len(allowYes)) + allowYes }
	for _, tt := range []struct {
		name     string
		a        answer
		admitted bool
	}{
		{"lower case", answer{status: 200, body: `{"allow":true}`}, true},
		{"other fields", answer{status: 200, body: `{"a":[{"Allow":false}],"Allow":true}`}, true},
		{"garbage behind it", answer{status: 200, body: allowYes + "garbage"}, true},
		{"4096 bytes", answer{status: 200, body: pad(4096)}, true},
		{"4097 bytes", answer{status: 200, body: pad(4097)}, false},
		{"a long tail", answer{status: 200, body: allowYes + strings.Repeat(" ", 1<<20)}, true},
		{"empty object", answer{status: 200, body: `{}`}, false},
		{"null", answer{status: 200, body: `null`}, false},
		{"text", answer{status: 200, body: `{"Allow":"true"}`}, false},
		{"no JSON", answer{status: 200, body: `yes`}, false},
		{"nothing", answer{status: 200}, false},
		{"201", answer{status: 201, body: allowYes}, false},
		{"403", answer{status: 403, body: allowYes}, false},
		{"500", answer{status: 500, body: allowYes}, false},
		{"a redirect to nowhere", answer{status: 302, body: allowYes}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newController(t, func(string) answer { return tt.a })
			r := start(t, "-verify-client-url", c.server.URL) // fails open, but this is an answer
			conn := dial(t, r, key.NewNode(), wire.DefaultInfo)
			if tt.admitted {
				wantAdmitted(t, conn)
			} else {
				wantRefused(t, conn)
			}
		})
	}
}

func TestControllerRedirects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		method string // of the second request
		again  bool   // with the body
	}{{301, "GET", false}, {302, "GET", false}, {303, "GET", false}, {307, "POST", true}, {308, "POST", true}} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			t.Parallel()
			target := newController(t, always(200, allowYes))
			c := newController(t, func(string) answer {
				return answer{status: tt.status, header: http.Header{"Location": {target.server.URL + "/there"}}}
			})
			r := start(t, "-verify-client-url", c.server.URL, "-verify-client-url-fail-open=false")
			wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
			got := target.requests()[0]
			if got.Method != tt.method || got.Target != "/there" || (got.Body != "") != tt.again {
				t.Errorf("the target got %s %s with %q, want %s /there, with the body: %v", got.Method, got.Target, got.Body, tt.method, tt.again)
			}
		})
	}
	t.Run("in a circle", func(t *testing.T) {
		t.Parallel()
		c := newController(t, nil)
		c.set(func(string) answer { return answer{status: 307, header: http.Header{"Location": {"/"}}} })
		r := start(t, "-verify-client-url", c.server.URL, "-verify-client-url-fail-open=false")
		wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
		if n := len(c.requests()); n != 10 {
			t.Errorf("%d requests, want 10", n)
		}
	})
}

// A controller that nobody reaches lets everybody in or nobody, as the flag says.
func TestControllerOutOfReach(t *testing.T) {
	t.Parallel()
	closed := fmt.Sprintf("http://127.0.0.1:%d/", relay.FreePort(t, "127.0.0.1"))
	for _, tt := range []struct {
		name     string
		args     []string
		admitted bool
	}{
		{"open by default", nil, true},
		{"open", []string{"-verify-client-url-fail-open=true"}, true},
		{"closed", []string{"-verify-client-url-fail-open=false"}, false},
	} {
		for _, hangs := range []bool{false, true} {
			name := tt.name + ", refuses connections"
			if hangs {
				name = tt.name + ", never answers"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				url, least := closed, time.Duration(0)
				if hangs {
					url = newController(t, func(string) answer { return answer{wait: make(chan struct{})} }).server.URL
					least = askTimeout - 200*time.Millisecond
				}
				r := start(t, append([]string{"-verify-client-url", url}, tt.args...)...)
				begin := time.Now()
				c := dial(t, r, key.NewNode(), wire.DefaultInfo)
				if tt.admitted {
					wantAdmitted(t, c)
				} else {
					wantRefused(t, c)
				}
				if took := time.Since(begin); took < least || took > least+4*time.Second+relay.Slack {
					t.Errorf("decided after %v, want about %v", took, least)
				}
			})
		}
	}
}

// With both, both have to agree.
func TestTailscaledAndController(t *testing.T) {
	t.Parallel()
	for _, ts := range []bool{false, true} {
		for _, url := range []bool{false, true} {
			t.Run(fmt.Sprintf("tailscaled %v controller %v", ts, url), func(t *testing.T) {
				t.Parallel()
				whois, verify := always(404, notInMap), always(200, allowNo)
				if ts {
					whois = always(200, whoisYes)
				}
				if url {
					verify = always(200, allowYes)
				}
				daemon, controller := newTailscaled(t, whois), newController(t, verify)
				r := start(t, "-verify-clients", "-socket", daemon.socket, "-verify-client-url", controller.server.URL)
				c := dial(t, r, key.NewNode(), wire.DefaultInfo)
				if ts && url {
					wantAdmitted(t, c)
				} else {
					wantRefused(t, c)
				}
				if asked := len(controller.requests()) != 0; asked != ts {
					t.Errorf("the controller was asked: %v; want that only if tailscaled said yes", asked)
				}
			})
		}
	}
}

func TestMeshPeersAreNotCheckedButProbersAre(t *testing.T) {
	t.Parallel()
	b := make([]byte, 32)
	rand.Read(b)
	meshKey := hex.EncodeToString(b)
	path := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(path, []byte(meshKey), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newController(t, always(200, allowNo))
	r := start(t, "-verify-client-url", c.server.URL, "-mesh-psk-file", path)
	wantAdmitted(t, dial(t, r, key.NewNode(), fmt.Sprintf(`{"version":2,"meshKey":"%s"}`, meshKey)))
	if n := len(c.requests()); n != 0 {
		t.Errorf("%d questions about a mesh peer", n)
	}
	other := strings.Repeat("01", 32)
	wantRefused(t, dial(t, r, key.NewNode(), fmt.Sprintf(`{"version":2,"meshKey":"%s"}`, other)))
	wantRefused(t, dial(t, r, key.NewNode(), `{"version":2,"IsProber":true}`))
}

// Whoever waits for an answer waits alone: packets flow, others log in, and what the waiting client
// has sent is not lost.
func TestSlowAnswersHoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	slow := key.NewNode()
	release := make(chan struct{})
	c := newController(t, func(k string) answer {
		a := answer{status: 200, body: allowYes}
		if k == keyText(slow.Public()) {
			a.wait = release
		}
		return a
	})
	r := start(t, "-verify-client-url", c.server.URL, "-verify-client-url-fail-open=false")
	a, b := wire.Login(t, r), wire.Login(t, r)

	// Packets behind ClientInfo, in the same write and in later ones.
	var frames [][]byte
	const packets = 20 // fits into derper's queue
	for i := range packets {
		frames = append(frames, wire.Encode(wire.SendPacket, wire.Raw(b.Pub), append([]byte{4, byte(i)}, make([]byte, 1000)...)))
	}
	waiting := wire.Dial(t, r)
	waiting.Priv, waiting.Pub = slow, slow.Public()
	waiting.Put(wire.FastHead(), waiting.Info(wire.DefaultInfo), frames[0], frames[1][:300])
	waiting.Want(wire.ServerKey, wire.Magic, wire.Raw(waiting.Server))
	waiting.Put(frames[1][300:])
	for _, f := range frames[2:] {
		waiting.Put(f)
	}

	for range 50 {
		exchange(t, a, b)
		exchange(t, b, a)
	}
	wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	close(release)
	if err := waiting.ReadServerInfo(); err != nil {
		t.Fatalf("after the answer: %v", err)
	}
	for i := range packets {
		b.Want(wire.RecvPacket, wire.Raw(slow.Public()), append([]byte{4, byte(i)}, make([]byte, 1000)...))
	}
	waiting.WantAlive()
}

// A client that gives up while it waits is forgotten, and the relay goes on.
func TestClientsThatGiveUpWhileTheyWait(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := newController(t, func(string) answer { return answer{status: 200, body: allowYes, wait: release} })
	r := start(t, "-verify-client-url", c.server.URL)
	for range 20 {
		dial(t, r, key.NewNode(), wire.DefaultInfo).Close()
	}
	close(release)
	if !relay.Poll(30*time.Second, func() bool { return tryLogin(t, r, key.NewNode()) }) {
		t.Error("nobody is let in any more")
	}
	if got := r.WantVar(t, "derp.gauge_current_connections", 0); got != 0 {
		t.Errorf("%v connections are left, want none", got)
	}
}

// What nobody but Detour does: answers are remembered, refusals cost little, who is removed is cut off.

func TestAnswersAreRemembered(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "answers of admission are remembered") {
		return
	}
	c := newController(t, always(200, allowYes))
	r := start(t, "-verify-client-url", c.server.URL)
	priv := key.NewNode()
	for range 5 {
		wantAdmitted(t, dial(t, r, priv, wire.DefaultInfo))
	}
	if n := len(c.requests()); n != 1 {
		t.Errorf("%d questions about one client, want 1", n)
	}
	if got := r.Varz(t)["detour_admission_cache_hits_total"]; got != 4 {
		t.Errorf("%v answers from memory, want 4", got)
	}
}

// A refused client comes back as soon as it is closed. It must not cost much.
func TestRefusedClientsAreHeldUp(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "a refused client is told why") {
		return
	}
	c := newController(t, always(200, allowNo))
	r := start(t, "-verify-client-url", c.server.URL)
	priv := key.NewNode()
	begin, logins := time.Now(), 0
	for time.Since(begin) < 4*time.Second {
		wantRefused(t, dial(t, r, priv, wire.DefaultInfo))
		logins++
	}
	if logins > 6 {
		t.Errorf("%d logins in 4 s, want at most 6", logins)
	}
	if n := strings.Count(r.Log(), keyText(priv.Public())); n != 1 {
		t.Errorf("%d lines about it in the log, want 1", n)
	}
}

func TestAppNamesThatAreNotLetIn(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "app names are checked") {
		return
	}
	r := start(t, "-disallow-app-names", "bad,worse")
	wantAdmitted(t, dial(t, r, key.NewNode(), `{"version":2,"AppName":"good"}`))
	wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	wantRefused(t, dial(t, r, key.NewNode(), `{"version":2,"AppName":"worse"}`))
	wantLog(t, r, "-disallow-app-names")
}

// Within a minute after a client was removed it is cut off; an unreachable source cuts nobody off.
func TestRemovedClientsAreCutOff(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("left out with -short: takes up to a minute and a half")
	}
	if !relay.DetourOnly(t, "clients are checked again while connected") {
		return
	}
	removed, stays := key.NewNode(), key.NewNode()
	yes := always(200, whoisYes)
	ts := newTailscaled(t, yes)
	r := start(t, "-verify-clients", "-socket", ts.socket)
	a := dial(t, r, removed, wire.DefaultInfo)
	wantAdmitted(t, a)
	b := dial(t, r, stays, wire.DefaultInfo)
	wantAdmitted(t, b)

	ts.set(func(k string) answer {
		if k == keyText(removed.Public()) {
			return answer{status: 404, body: notInMap}
		}
		return answer{status: 500, body: "restarting\n"}
	})
	begin := time.Now()
	a.WantClosedWithin(time.Minute)
	t.Logf("cut off after %v", time.Since(begin).Round(time.Second))
	wantLog(t, r, keyText(removed.Public())+" from 127.0.0.1 cut off")
	// The other one was asked about and nobody knew: it stays.
	asked := func() (n int) {
		for _, q := range ts.requests() {
			if strings.Contains(q.Target, stays.Public().UntypedHexString()) {
				n++
			}
		}
		return
	}
	if !relay.Poll(time.Minute, func() bool { return asked() >= 3 }) {
		t.Errorf("asked %d times about the other client, want at least 3", asked())
	}
	b.WantAlive()
}
