// Package elsewhere_test asks `detour doctor` about machines and networks that are made for it: without
// IPv6, with other kernel settings, with a line that loses packets.
package elsewhere_test

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"detour.example/interop/world"
)

const (
	relayIP  = "10.77.0.1" // where the line leads to
	behindIP = "10.77.0.2" // what its users dial
)

// lossOneIn: of the large packets one in so many is lost; 0: none.
var lossOneIn, large atomic.Uint64

func TestMain(m *testing.M) {
	world.Main(m, func() error {
		return world.Line("line0", relayIP, behindIP, func(packet []byte) bool {
			n := lossOneIn.Load()
			return n != 0 && len(packet) > 1000 && large.Add(1)%n == 0
		})
	})
}

type finding struct{ State, Code, Fault, Cause string }

func (f finding) id() string { return f.State + " " + f.Code + " " + f.Fault }

// doctor gives the findings that are no plain success.
func doctor(t *testing.T, args ...string) (found []finding) {
	t.Helper()
	cmd := exec.Command(relay.DetourBinary(t), append([]string{"doctor", "--json"}, args...)...)
	cmd.Env = relay.CleanEnv()
	out, _ := cmd.Output()
	var report struct {
		Sections []struct{ Findings []finding }
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("detour doctor %q: %v\n%s", args, err, out)
	}
	for _, s := range report.Sections {
		for _, f := range s.Findings {
			if f.State != "PASS" {
				found = append(found, f)
			}
		}
	}
	return found
}

func has(found []finding, id string) bool {
	return slices.ContainsFunc(found, func(f finding) bool { return f.id() == id })
}

// of gives those with that code.
func of(found []finding, code string) []finding {
	return slices.DeleteFunc(slices.Clone(found), func(f finding) bool { return f.Code != code })
}

func forDetourOnly(t *testing.T) {
	t.Helper()
	if relay.IsDerper() {
		t.Skip("not for derper: it has no doctor")
	}
}

// relayed sends packets of a kilobyte and more by the relay, from a client next to it to one behind the
// line, until the receiver has got so many bytes.
func relayed(t *testing.T, r *relay.Relay, bytes int) {
	t.Helper()
	nc, err := tls.Dial("tcp", behindIP+":"+strconv.Itoa(r.Port), r.TLSConfig())
	if err != nil {
		t.Fatalf("through the line: %v", err)
	}
	behind, beside := wire.New(t, r, nc), wire.Login(t, r)
	behind.Login(wire.DefaultInfo)
	packet := make([]byte, 8000)
	for got := 0; got < bytes; got += len(packet) {
		beside.Send(behind.Pub, packet)
		if f := behind.Frame(); f.Type != wire.RecvPacket {
			t.Fatalf("got %v, want the packet", f)
		}
	}
}

func TestALineThatLoses(t *testing.T) {
	forDetourOnly(t)
	socketDir, err := os.MkdirTemp("", "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(socketDir) })
	r := relay.Start(t, relay.Options{Serve: true, NoSTUN: true, AnyIP: true,
		Args: []string{"--control-socket", filepath.Join(socketDir, "control"), "--tcp-write-timeout", "5m"}})
	pid := strconv.Itoa(r.Pid)

	lossOneIn.Store(0)
	relayed(t, r, 4<<20)
	if found := of(doctor(t, "--pid", pid), "D27"); len(found) != 0 {
		t.Errorf("a line that loses nothing: %v", found)
	}

	lossOneIn.Store(10)
	relayed(t, r, 2<<20)
	found := of(doctor(t, "--pid", pid), "D27")
	if len(found) != 1 || found[0].id() != "WARN D27 loss" || !strings.Contains(found[0].Cause, "1 of ") {
		t.Errorf("a line that loses every tenth packet: %v", found)
	}
}

func TestNoWayToTheRelay(t *testing.T) {
	forDetourOnly(t)
	for _, c := range []struct {
		url  string
		want []string // of D13
	}{
		{"https://[2001:db8::1]:8443", []string{"INFO D13 no-ipv6", "FAIL D13 no-route"}},
		{"https://10.88.0.1:8443", []string{"FAIL D13 unreachable"}},
	} {
		found := doctor(t, c.url)
		if !has(found, "INFO D22 no-route") {
			t.Errorf("%s: no D22 no-route in %v", c.url, found)
		}
		if got := of(found, "D13"); !slices.EqualFunc(got, c.want, func(f finding, id string) bool { return f.id() == id }) {
			t.Errorf("%s: got %v, want %q", c.url, got, c.want)
		}
		if others := slices.DeleteFunc(found, func(f finding) bool { return f.Code == "D13" || f.State == "INFO" }); len(others) != 0 {
			t.Errorf("%s: more than one fault: %v", c.url, others)
		}
	}
}

// planned asks about a relay that does not run here yet.
func planned(t *testing.T, hostname string) []finding {
	t.Helper()
	dir := t.TempDir()
	return doctor(t, "--local", "--", "--hostname", hostname, "--listen", ":8443", "--http-port", "off",
		"--key-file", dir+"/key", "--cert-dir", dir)
}

func TestAHostNameThatIsAnotherMachine(t *testing.T) {
	forDetourOnly(t)
	const elsewhere, public = "198.51.100.9", "203.0.113.7"
	if found := planned(t, elsewhere); !has(found, "INFO D30 behind-nat") || has(found, "WARN D12 not-this-machine") {
		t.Errorf("with private addresses only: %v", found)
	}
	if err := world.Address("lo:1", public); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { world.Address("lo:1", "0.0.0.0") }) // takes the alias away
	if found := planned(t, elsewhere); !has(found, "WARN D12 not-this-machine") || has(found, "INFO D30 behind-nat") {
		t.Errorf("with the public address %s: %v", public, found)
	}
	if found := planned(t, public); len(of(found, "D12")) != 0 || len(of(found, "D30")) != 0 {
		t.Errorf("the host name is the public address: %v", found)
	}
}

// An address of the link alone is none without the link's name.
func TestAnAddressThatCannotBeListenedOn(t *testing.T) {
	forDetourOnly(t)
	dir := t.TempDir()
	found := doctor(t, "--local", "--", "--hostname", "127.0.0.1", "--listen", "[fe80::1]:8443", "--http-port", "off",
		"--no-stun", "--key-file", dir+"/key", "--cert-dir", dir)
	if !has(found, "FAIL D03 bind") {
		t.Errorf("listening on a link-local address: %v", found)
	}
}

func TestSettingsOfTheKernel(t *testing.T) {
	forDetourOnly(t)
	const backlog = "/proc/sys/net/core/somaxconn"
	for value, want := range map[string]bool{"1023": true, "1024": false} {
		if err := os.WriteFile(backlog, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
		if found := planned(t, "127.0.0.1"); has(found, "WARN D26 somaxconn") != want {
			t.Errorf("%s is %s: %v", backlog, value, found)
		}
	}
	control, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(string(control)) != "bbr"
	if found := planned(t, "127.0.0.1"); has(found, "INFO D26 congestion") != want {
		t.Errorf("congestion control %s: %v", control, found)
	}
}

func TestLittleMemory(t *testing.T) {
	forDetourOnly(t)
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, group, ok := strings.Cut(string(groups), "0::")
	if !ok {
		t.Fatalf("this test needs a kernel with control groups of version 2; /proc/self/cgroup:\n%s", groups)
	}
	group, _, _ = strings.Cut(group, "\n")
	if err := syscall.Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join("/sys/fs/cgroup", group)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[string]bool{"134217727": true, "134217728": false, "max": false} {
		if err := os.WriteFile(filepath.Join(folder, "memory.max"), []byte(limit+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if found := planned(t, "127.0.0.1"); has(found, "WARN D26 memory") != want {
			t.Errorf("memory.max %s: %v", limit, found)
		}
	}
}

// Its own kernel tracks nothing: the two numbers stand where a kernel that does has them.
func TestATableOfConnectionsThatFillsUp(t *testing.T) {
	forDetourOnly(t)
	const folder = "/proc/sys/net"
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(folder, 0) })
	if err := os.Mkdir(folder+"/netfilter", 0o755); err != nil {
		t.Fatal(err)
	}
	for count, want := range map[string]bool{"800": false, "801": true} {
		for name, value := range map[string]string{"nf_conntrack_count": count, "nf_conntrack_max": "1000"} {
			if err := os.WriteFile(folder+"/netfilter/"+name, []byte(value+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if found := planned(t, "127.0.0.1"); has(found, "WARN D26 conntrack") != want {
			t.Errorf("%s of 1000 connections: %v", count, found)
		}
	}
}
