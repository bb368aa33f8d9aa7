package doctor_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// onServer runs the doctor on the configuration of a relay that does not run.
func onServer(t testing.TB, options []string, serve ...string) *report {
	t.Helper()
	return onServerWithEnv(t, nil, options, serve...)
}

func onServerWithEnv(t testing.TB, env, options []string, serve ...string) *report {
	t.Helper()
	dir := t.TempDir()
	args := append(append([]string{}, options...), "--local", "--", "--key-file", filepath.Join(dir, "relay.key"), "--http-port", "off")
	if !slices.Contains(serve, "--cert") {
		args = append(args, "--cert-dir", filepath.Join(dir, "certs"))
	}
	return doctorWithEnv(t, env, append(args, serve...)...)
}

// quiet are settings that no check objects to.
func quiet(t testing.TB) []string {
	p := relay.FreePort(t, "127.0.0.1")
	return []string{"--hostname", "127.0.0.1", "--listen", fmt.Sprintf("127.0.0.1:%d", p),
		"--stun-port", strconv.Itoa(relay.FreePort(t, "127.0.0.1"))}
}

const openServer = "D21 open"

func allowFile(t testing.TB) string {
	return write(t, "allow", key.NewNode().Public().String()+" laptop\n")
}

func TestTheServerBeforeItsStart(t *testing.T) {
	t.Parallel()
	ca := relay.NewCA()
	middle := ca.Intermediate()
	files := func(t testing.TB, chain, privateKey string) []string {
		return []string{"--hostname", "127.0.0.1", "--cert", write(t, "a.crt", chain), "--key", write(t, "a.key", privateKey)}
	}
	roots := []string{"SSL_CERT_FILE=" + write(t, "roots.pem", ca.PEM)}
	good, goodKey := middle.For("127.0.0.1")
	_, otherKey := middle.For("127.0.0.1")
	leaf, leafKey := middle.Issue(relay.Leaf{Names: []string{"127.0.0.1"}})
	old, oldKey := middle.Issue(relay.Leaf{Names: []string{"127.0.0.1"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	strange, strangeKey := middle.For("192.0.2.1")
	closed := listen(t)
	closed.Close()
	silent := serve(t, listen(t), hold)
	taken := listen(t)
	takenUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { takenUDP.Close() })

	for _, c := range []struct {
		name  string
		env   []string
		serve []string
		want  expect
	}{
		{"nothing is wrong", nil, nil, expect{warn: []string{openServer}, pass: []string{"D01", "D03", "D05", "D12"}, info: []string{"D02 sources", "D05 will-be-made"}}},
		{"a certificate from files", roots, files(t, good, goodKey), expect{warn: []string{openServer}, pass: []string{"D05", "D06", "D07", "D08"}}},
		{"an address that is none", nil, []string{"--listen", "127.0.0.1:99999"}, expect{fail: []string{"D01 refused"}, info: []string{"D00 left-out"}}},
		{"an address in quotes", nil, []string{"--listen", `":` + port(closed.Addr().String()) + `"`}, expect{warn: []string{openServer}, info: []string{"D01 notice"}}},
		{"https in the host name", nil, []string{"--hostname", "https://derp.example.test"}, expect{fail: []string{"D01 refused"}}},
		{"a variable that is misspelt", []string{"DETOUR_STUN_PROT=3479"}, nil, expect{warn: []string{"D01 warning", openServer}}},
		{"an unknown setting", nil, []string{"--listne", ":443"}, expect{fail: []string{"D01 refused"}}},
		{"a port that is taken", nil, []string{"--listen", taken.Addr().String()}, expect{fail: []string{"D03 taken"}, warn: []string{openServer}}},
		{"a STUN port that is taken", nil, []string{"--stun-port", port(takenUDP.LocalAddr().String())}, expect{fail: []string{"D03 taken"}, warn: []string{openServer}}},
		{"an address of another machine", nil, []string{"--listen", "203.0.113.9:8443", "--no-stun"}, expect{fail: []string{"D03 no-such-address"}, warn: []string{openServer}}},
		{"no certificate in the file", nil, files(t, "hello", goodKey), expect{fail: []string{"D05 no-certificate"}, warn: []string{openServer}}},
		{"the key of another certificate", roots, files(t, good, otherKey), expect{fail: []string{"D05 key-mismatch"}, warn: []string{openServer}}},
		{"a file that is not there", nil, []string{"--cert", "/nonexistent/a.crt", "--key", "/nonexistent/a.key"}, expect{fail: []string{"D05 unreadable"}, warn: []string{openServer}}},
		{"the leaf alone", roots, files(t, leaf, leafKey), expect{fail: []string{"D06 leaf-only"}, warn: []string{openServer}}},
		{"another name", roots, files(t, strange, strangeKey), expect{fail: []string{"D07 wrong-name"}, warn: []string{openServer}}},
		{"an expired certificate", roots, files(t, old+middle.Chain, oldKey), expect{fail: []string{"D08 expired"}, warn: []string{openServer}}},
		{"an allow file", nil, []string{"--allow-file", allowFile(t)}, expect{pass: []string{"D20", "D21"}}},
		{"an allow file with something else", nil, []string{"--allow-file", write(t, "allow", "# mine\nnodekey:12\n")}, expect{fail: []string{"D20 allow-file"}}},
		{"an empty allow file", nil, []string{"--allow-file", write(t, "allow", "# nobody\n\n")}, expect{warn: []string{"D20 allow-file-empty"}}},
		{"a socket that is not there", nil, []string{"--verify-clients", "--socket", "/nonexistent/tailscaled.sock"}, expect{fail: []string{"D20 no-socket"}}},
		{"a dead socket", nil, []string{"--verify-clients", "--socket", deadSocket(t)}, expect{fail: []string{"D20 dead-socket"}, info: []string{"D28 neighbour"}}},
		{"a socket of something else", nil, []string{"--verify-clients", "--socket", unixSocket(t, 404)}, expect{fail: []string{"D20 strange-socket"}}},
		{"a socket that answers", nil, []string{"--verify-clients", "--socket", unixSocket(t, 200)}, expect{pass: []string{"D20", "D21"}, info: []string{"D28 neighbour"}}},
		{"a verify URL that refuses strangers", nil, verifyURL(t, 200, `{"Allow":false}`), expect{pass: []string{"D20", "D21"}}},
		{"a verify URL that lets everybody in", nil, verifyURL(t, 200, `{"Allow":true}`), expect{warn: []string{"D20 url-admits-anyone"}}},
		{"a verify URL of something else", nil, verifyURL(t, 200, `<html>`), expect{fail: []string{"D20 url-shape"}}},
		{"a verify URL that asks for a password", nil, verifyURL(t, 401, ``), expect{fail: []string{"D20 url-status"}}},
		{"a verify URL that hangs", nil, []string{"--verify-client-url", "http://" + silent + "/verify", "--no-verify-client-url-fail-open"}, expect{fail: []string{"D20 url-silent"}}},
		{"a verify URL where nothing listens", nil, []string{"--verify-client-url", "http://" + closed.Addr().String() + "/verify", "--no-verify-client-url-fail-open"}, expect{fail: []string{"D20 url-unreachable"}}},
		{"a verify URL with an unknown certificate", nil, verifyTLS(t), expect{fail: []string{"D20 url-tls"}}},
		{"a verify URL that fails open", nil, append(verifyURL(t, 200, `{"Allow":false}`)[:2:2], "--verify-client-url-fail-open"), expect{warn: []string{"D21 fail-open"}, pass: []string{"D20"}}},
		{"a proxy for the verify URL", []string{"HTTP_PROXY=http://127.0.0.1:1"}, verifyURL(t, 200, `{"Allow":false}`), expect{warn: []string{"D31 proxy"}, pass: []string{"D20"}}},
		{"a proxy that nothing uses", []string{"https_proxy=http://127.0.0.1:1"}, nil, expect{warn: []string{openServer}, info: []string{"D31 proxy"}}},
		{"a mesh key that is none", nil, []string{"--mesh-with", "127.0.0.1:1", "--mesh-psk-file", write(t, "psk", "abc")}, expect{fail: []string{"D29 mesh-key"}, warn: []string{openServer}}},
		{"a mesh peer that is not there", nil, []string{"--mesh-with", closed.Addr().String(), "--mesh-psk-file", write(t, "psk", strings.Repeat("ab", 32))}, expect{fail: []string{"D29 peer-unreachable"}, warn: []string{openServer}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onServerWithEnv(t, c.env, nil, append(quiet(t), c.serve...)...).want(t, c.want)
		})
	}
	t.Run("who holds the port is named", func(t *testing.T) {
		t.Parallel()
		r := onServer(t, nil, append(quiet(t), "--listen", taken.Addr().String())...)
		if !strings.Contains(r.text, fmt.Sprintf("pid %d", os.Getpid())) {
			t.Errorf("our pid %d is not named:\n%s", os.Getpid(), r.text)
		}
	})
	t.Run("where each setting came from", func(t *testing.T) {
		t.Parallel()
		r := onServerWithEnv(t, []string{"DERP_STUN_PORT=3479"}, nil, "--hostname", "127.0.0.1", "--listen", "127.0.0.1:8443")
		for _, want := range []string{"stun-port = 3479 (environment variable DERP_STUN_PORT)", "listen = 127.0.0.1:8443 (option --listen)"} {
			if !strings.Contains(r.text, want) {
				t.Errorf("no %q in\n%s", want, r.text)
			}
		}
	})
	t.Run("a host name without an address", func(t *testing.T) {
		t.Parallel()
		onServer(t, []string{"--resolver", serveDNS(t, records{})}, append(quiet(t), "--no-tls", "--hostname", "derp.example.test")...).want(t, expect{
			fail: []string{"D12 no-address"}, warn: []string{openServer},
		})
	})
	t.Run("a host name that leads elsewhere", func(t *testing.T) {
		t.Parallel()
		r := onServer(t, []string{"--resolver", serveDNS(t, records{"derp.example.test": {"203.0.113.9"}})},
			append(quiet(t), "--no-tls", "--hostname", "derp.example.test")...)
		// What is wrong depends on whether this machine has a public address.
		if !r.has("WARN", "D12 not-this-machine") && !r.has("INFO", "D30 behind-nat") {
			t.Errorf("neither D12 not-this-machine nor D30 behind-nat:\n%s", r.text)
		}
	})
}

func deadSocket(t testing.TB) string {
	t.Helper()
	path := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	return path
}

// socketPath is short enough for a socket, whatever the test is called.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "tailscaled.sock")
}

// unixSocket answers as tailscaled does, or with another status.
func unixSocket(t testing.TB, status int) string {
	t.Helper()
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "local-tailscaled.sock" || !strings.HasPrefix(r.URL.Path, "/localapi/v0/status") {
			w.WriteHeader(403)
			return
		}
		w.WriteHeader(status)
		io.WriteString(w, "{}")
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return path
}

func verifyURL(t testing.TB, status int, body string) []string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req tailcfg.DERPAdmitClientRequest
		if err := decodeJSON(r, &req); err != nil || req.NodePublic.IsZero() || r.Method != "POST" {
			t.Errorf("%s with %v: %v", r.Method, req, err)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return []string{"--verify-client-url", s.URL + "/verify", "--no-verify-client-url-fail-open"}
}

func verifyTLS(t testing.TB) []string {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	return []string{"--verify-client-url", s.URL, "--no-verify-client-url-fail-open"}
}

func TestFilesOfTheService(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can look for another user")
	}
	ca := relay.NewCA()
	roots := []string{"SSL_CERT_FILE=" + write(t, "roots.pem", ca.PEM)}
	chain, privateKey := ca.For("127.0.0.1")
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate := put("a.crt", chain, 0o644)
	for _, c := range []struct {
		name, key string
		want      expect
	}{
		{"a key that only root may read", put("root.key", privateKey, 0o600), expect{fail: []string{"D05 unreadable"}, warn: []string{openServer}}},
		{"a key that everybody may read", put("open.key", privateKey, 0o644), expect{warn: []string{"D05 secret-open", openServer}, pass: []string{"D05", "D06"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onServerWithEnv(t, roots, []string{"--user", "nobody"}, append(quiet(t), "--cert", certificate, "--key", c.key)...).want(t, c.want)
		})
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Run("a folder that only root may enter", func(t *testing.T) {
		r := onServerWithEnv(t, roots, []string{"--user", "nobody"}, append(quiet(t), "--cert", certificate, "--key", filepath.Join(dir, "root.key"))...)
		r.want(t, expect{fail: []string{"D05 unreadable"}, warn: []string{openServer}})
		if !strings.Contains(r.text, "may not enter "+dir) {
			t.Errorf("the folder %s is not named:\n%s", dir, r.text)
		}
	})
}

// asNobody is the command for another user, from a copy of the program that this user can reach.
func asNobody(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	b, err := os.ReadFile(relay.DetourBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "detour")
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = relay.CleanEnv()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

func TestAPrivilegedPort(t *testing.T) {
	t.Parallel()
	first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(first)) == "0" {
		t.Skip("this machine has no privileged ports")
	}
	args := []string{"doctor", "--json", "--local", "--", "--hostname", "127.0.0.1", "--listen", "127.0.0.1:443", "--no-stun",
		"--http-port", "off", "--key-file", "/tmp/none/k", "--cert-dir", "/tmp/none"}
	cmd := exec.Command(relay.DetourBinary(t), args...)
	cmd.Env = relay.CleanEnv()
	if os.Geteuid() == 0 {
		cmd = asNobody(t, args...)
	}
	out, _ := cmd.Output()
	if !strings.Contains(string(out), `"fault": "privileged"`) {
		t.Errorf("no D03 privileged:\n%s", out)
	}
}

func TestFewOpenFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit int
		warns bool
	}{{4095, true}, {4096, false}} {
		cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, c.limit), relay.DetourBinary(t),
			"doctor", "--json", "--local", "--", "--hostname", "127.0.0.1", "--key-file", t.TempDir()+"/k", "--cert-dir", t.TempDir())
		cmd.Env = relay.CleanEnv()
		out, _ := cmd.Output()
		if got := strings.Contains(string(out), `"fault": "open-files"`); got != c.warns {
			t.Errorf("limit %d: D26 open-files %v, want %v:\n%s", c.limit, got, c.warns, out)
		}
	}
}

// pid is the option that chooses a relay among those that run here.
func pid(r *relay.Relay) []string { return []string{"--pid", strconv.Itoa(r.Pid)} }

func TestTheRunningRelay(t *testing.T) {
	t.Parallel()
	if relay.IsDerper() {
		t.Skip("not for derper: the doctor reads the configuration of Detour only; from outside it checks any server")
	}
	t.Run("healthy", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{})
		doctor(t, pid(r)...).want(t, expect{
			pass: append([]string{"D01", "D03", "D05", "D10", "D12", "D24", "D26"}, everyLayer...),
			info: []string{"D02 sources", "D13 from-outside", "D21 open"},
		})
	})
	t.Run("healthy with a name", func(t *testing.T) {
		t.Parallel()
		_, r := namedRelay(t)
		dns := serveDNS(t, records{"derp.example.test": {"127.0.0.1"}})
		doctor(t, append(pid(r), "--resolver", dns)...).want(t, expect{
			pass: append([]string{"D06", "D07", "D24"}, everyLayer...),
		})
	})
	t.Run("the file is newer than what is served", func(t *testing.T) {
		t.Parallel()
		ca := relay.NewCA()
		chain, privateKey := ca.For("127.0.0.1")
		r := relay.Start(t, relay.Options{CertFile: chain, KeyFile: privateKey, Roots: ca.PEM})
		// An expired one is not taken up.
		old, oldKey := ca.Issue(relay.Leaf{Names: []string{"127.0.0.1"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
		for ext, content := range map[string]string{".crt": old + ca.Chain, ".key": oldKey} {
			if err := os.WriteFile(filepath.Join(r.CertDir, "127.0.0.1"+ext), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		doctor(t, pid(r)...).want(t, expect{fail: []string{"D08 not-reloaded"}, pass: []string{"D19"}})
	})
	t.Run("STUN could not be bound", func(t *testing.T) {
		t.Parallel()
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// As derper it goes on without.
		r := relay.Start(t, relay.Options{NoWait: true, STUNPort: c.LocalAddr().(*net.UDPAddr).Port})
		waitForTLS(t, r)
		doctor(t, pid(r)...).want(t, expect{fail: []string{"D03 taken"}, pass: []string{"D19"}})
		c.Close()
		doctor(t, pid(r)...).want(t, expect{fail: []string{"D03 not-listening"}, pass: []string{"D19"}})
	})
	t.Run("against a map", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{})
		m := r.DERPMap(900)
		m.OmitDefaultRegions = false
		n := m.Regions[900].Nodes[0]
		n.DERPPort, n.STUNPort = 443, 3478
		doctor(t, append(pid(r), "--local", "--map", mapFile(t, m))...).want(t, expect{
			info: []string{"D30 other-port", "D30 other-stun-port"}, pass: []string{"D19"},
		})
		n.HostName, n.IPv4 = "192.0.2.1", ""
		doctor(t, append(pid(r), "--local", "--map", mapFile(t, m))...).want(t, expect{
			fail: []string{"D25 not-in-map"}, pass: []string{"D19"},
		})
		quietRelay := relay.Start(t, relay.Options{NoSTUN: true})
		m = quietRelay.DERPMap(900)
		m.OmitDefaultRegions = false
		m.Regions[900].Nodes[0].STUNPort = 3478
		doctor(t, append(pid(quietRelay), "--local", "--map", mapFile(t, m))...).want(t, expect{
			fail: []string{"D22 off"}, pass: []string{"D19"},
		})
	})
	t.Run("what its clients' paths are like", func(t *testing.T) {
		t.Parallel()
		socket := socketPath(t)
		r := relay.Start(t, relay.Options{Serve: true, NoSTUN: true,
			Args: []string{"--control-socket", socket, "--tcp-write-timeout", "5m"}})
		a, b := wire.Login(t, r), wire.Login(t, r)
		packet := make([]byte, 10_000)
		for range 1000 {
			a.Send(b.Pub, packet)
			if f := b.Frame(); f.Type != wire.RecvPacket {
				t.Fatalf("got %v, want the packet", f)
			}
		}
		rep := doctor(t, pid(r)...)
		if !rep.has("INFO", "D33 heavy-pair") || rep.has("WARN", "D27 slow-clients") {
			t.Errorf("10 MB at once from one key to another:\n%s", rep.text)
		}
		// b does not read any more.
		const evicted = `derp_packets_dropped{reason="queue_head",kind="other"}`
		if !relay.Poll(30*time.Second, func() bool {
			for range 100 {
				a.Send(b.Pub, packet)
			}
			return r.Varz(t)[evicted] >= 200
		}) {
			t.Fatal("nothing was dropped")
		}
		if rep := doctor(t, pid(r)...); !rep.has("WARN", "D27 slow-clients") {
			t.Errorf("a client that does not read:\n%s", rep.text)
		}
	})
	t.Run("looked at by another user", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Fatal("this test has to run as root, to ask as another user")
		}
		// Under derper's name it might be derper, as far as another user can see.
		r := relay.Start(t, relay.Options{Serve: true})
		cmd := asNobody(t, append([]string{"doctor", "--json"}, pid(r)...)...)
		var errOut strings.Builder
		cmd.Stderr = &errOut
		out, _ := cmd.Output()
		rep := &report{exit: cmd.ProcessState.ExitCode(), text: string(out)}
		if err := json.Unmarshal(out, rep); err != nil {
			t.Fatalf("%v\n%s%s", err, out, errOut.String())
		}
		rep.want(t, expect{
			warn: []string{"D02 no-environment"}, info: []string{"D03 holder-unknown", "D05 unseen"}, pass: []string{"D16", "D18", "D19"},
		})
	})
	t.Run("its control socket is gone", func(t *testing.T) {
		t.Parallel()
		socket := socketPath(t)
		r := relay.Start(t, relay.Options{Serve: true, NoSTUN: true, Args: []string{"--control-socket", socket}})
		if rep := doctor(t, pid(r)...); rep.has("INFO", "D27 no-status") {
			t.Errorf("the socket is there:\n%s", rep.text)
		}
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
		doctor(t, pid(r)...).want(t, expect{info: []string{"D27 no-status"}, pass: []string{"D19"}})
	})
	t.Run("a proxy in its environment", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct{ set, said string }{
			{"http://user:secret@127.0.0.1:1", "HTTPS_PROXY=http://***@127.0.0.1:1:"},
			{"user:secret@127.0.0.1:1", "HTTPS_PROXY=***@127.0.0.1:1:"},
			{"http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1:"},
		} {
			r := relay.Start(t, relay.Options{Env: []string{"HTTPS_PROXY=" + c.set}})
			rep := doctor(t, pid(r)...)
			if !rep.has("INFO", "D31 proxy") || !strings.Contains(rep.text, c.said) || strings.Contains(rep.text, "secret") {
				t.Errorf("%q is not said:\n%s", c.said, rep.text)
			}
		}
	})
	t.Run("no such process", func(t *testing.T) {
		t.Parallel()
		out, errOut, exit := runCommand(t, nil, "doctor", "--pid", strconv.Itoa(os.Getpid()))
		if exit != 2 || !strings.Contains(errOut, "--pid") {
			t.Errorf("exit status %d, %q, %q", exit, out, errOut)
		}
	})
}

func waitForTLS(t testing.TB, r *relay.Relay) {
	t.Helper()
	if !relay.Poll(30*time.Second, func() bool { _, _, err := r.Get("/derp/probe"); return err == nil }) {
		t.Fatalf("the relay does not serve:\n%s", r.Log())
	}
}

func TestMeshPeers(t *testing.T) {
	t.Parallel()
	ca := relay.NewCA()
	chain, privateKey := ca.For("127.0.0.1")
	psk := strings.Repeat("0123456789abcdef", 4)
	peer := relay.Start(t, relay.Options{CertFile: chain, KeyFile: privateKey, Roots: ca.PEM,
		Args: []string{"-mesh-psk-file", write(t, "psk", psk)}})
	env := []string{"SSL_CERT_FILE=" + write(t, "ca.pem", ca.PEM)}
	onServerWithEnv(t, env, nil, append(quiet(t), "--mesh-with", peer.Addr, "--mesh-psk-file", write(t, "psk", psk+"\n"))...).want(t, expect{
		pass: []string{"D29"}, warn: []string{openServer},
	})
	onServerWithEnv(t, env, nil, append(quiet(t), "--mesh-with", peer.Addr, "--mesh-psk-file", write(t, "psk", strings.Repeat("ab", 32)))...).want(t, expect{
		fail: []string{"D29 key-refused"}, warn: []string{openServer},
	})
}
