// Package cmdline_test runs the program as an operator does: flags, exit codes, key files and
// certificates. Detour is started under the name derper.
package cmdline_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

type result struct {
	status      int // -1: still running after the time limit (and ended by us)
	out, errOut string
}

// run runs the program under test to its end. One that serves is ended after a while: status -1.
func run(t *testing.T, dir string, args ...string) result {
	t.Helper()
	return runBinary(t, relay.Binary(t), dir, nil, args...)
}

func runBinary(t *testing.T, bin, dir string, env []string, args ...string) result {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	cmd.Env = append(append(relay.CleanEnv(), "HOME="+dir), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := relay.StartBound(cmd); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	status := 0
	select {
	case err = <-done:
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		<-done
		status = -1
	}
	var exit *exec.ExitError
	switch {
	case status == -1:
	case errors.As(err, &exit) && exit.Exited():
		status = exit.ExitCode()
	case err != nil:
		t.Fatalf("%q: %v\n%s", args, err, errOut.String())
	}
	return result{status, out.String(), errOut.String()}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"-version", "--version", "-version=true", "-version=1"} {
		r := run(t, t.TempDir(), flag)
		if r.status != 0 || r.errOut != "" || len(strings.TrimSpace(r.out)) == 0 || strings.Count(r.out, "\n") != 1 || !strings.HasSuffix(r.out, "\n") {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want status 0 and one line on stdout", flag, r.status, r.out, r.errOut)
		}
	}
}

// What the program is called decides who it is: a name in the file system, or the zeroth argument that
// `exec -a` and service managers choose.
func TestTheZerothArgumentIsTheName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"derper", "/usr/local/bin/derper"} {
		cmd := exec.Command(relay.Binary(t), "-h")
		if !relay.IsDerper() {
			cmd.Path = relay.DetourBinary(t)
		}
		cmd.Args[0] = name
		cmd.Env = relay.CleanEnv()
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "Usage of "+name+":") {
			t.Errorf("as %s: %v\n%s", name, err, out)
		}
	}
}

// derperFlags are all flags of derper v1.102.5.
var derperFlags = []string{"a", "accept-connection-burst", "accept-connection-limit", "ace", "acme-eab-key", "acme-eab-kid",
	"acme-email", "acme-ip-certs", "bootstrap-dns-names", "c", "certdir", "certmode", "derp", "dev", "home", "hostname",
	"http-port", "mesh-psk-file", "mesh-with", "rate-config", "secrets-cache-dir", "secrets-path-prefix", "secrets-url",
	"socket", "stun", "stun-port", "tcp-keepalive-time", "tcp-user-timeout", "tcp-write-timeout",
	"unpublished-bootstrap-dns-names", "verify-client-url", "verify-client-url-fail-open", "verify-clients", "version"}

// Nothing that derper has may be missing from the list above, nor anything that v1.104 added.
func TestDerperHasNoOtherFlags(t *testing.T) {
	t.Parallel()
	r := runBinary(t, relay.DerperBinary(t), t.TempDir(), nil, "-h")
	var have []string
	for line := range strings.Lines(r.errOut) {
		if name, ok := strings.CutPrefix(line, "  -"); ok {
			have = append(have, strings.Fields(name)[0])
		}
	}
	if slices.Sort(have); !slices.Equal(have, derperFlags) {
		t.Errorf("derper's flags are %q, the list has %q", have, derperFlags)
	}
	ours := runBinary(t, relay.Binary(t), t.TempDir(), nil, "-disallow-app-names=x", "-version")
	if want := 0; !relay.IsDerper() && ours.status != want {
		t.Errorf("-disallow-app-names of v1.104: status %d, want %d", ours.status, want)
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"-h", "-help", "--help", "--h"} {
		r := run(t, t.TempDir(), flag)
		if r.status != 0 {
			t.Errorf("%s: status %d, want 0", flag, r.status)
		}
		if !strings.HasPrefix(r.errOut, "Usage of ") || r.out != "" {
			t.Errorf("%s: stdout %q, stderr %q; want the usage on stderr", flag, r.out, r.errOut)
		}
		for _, name := range derperFlags {
			if !strings.Contains(r.errOut, "\n  -"+name+" ") && !strings.Contains(r.errOut, "\n  -"+name+"\n") {
				t.Errorf("%s: the usage does not name -%s", flag, name)
			}
		}
	}
}

// Values are read in order, so that -version behind them shows that they were taken.
func TestFlagSyntaxIsGos(t *testing.T) {
	t.Parallel()
	cases := []struct {
		args   string // separated by blanks
		status int
		stderr string // the first line, when the status is not 0
	}{
		{"-http-port 80 -version", 0, ""},
		{"--http-port 80 -version", 0, ""},
		{"-http-port=80 --version", 0, ""},
		{"--http-port=-1 -version", 0, ""},
		{"-http-port -1 -version", 0, ""},
		{"-http-port 0x50 -version", 0, ""},
		{"-http-port 0b101 -version", 0, ""},
		{"-http-port 0o17 -version", 0, ""},
		{"-http-port 017 -version", 0, ""},
		{"-http-port 8_0 -version", 0, ""},
		{"-http-port +80 -version", 0, ""},
		{"-stun-port 1 -stun-port 2 -version", 0, ""},
		{"-stun -version", 0, ""},
		{"-stun=true -derp=false -version", 0, ""},
		{"-stun=1 -version", 0, ""},
		{"-stun=0 -version", 0, ""},
		{"-stun=t -version", 0, ""},
		{"-stun=F -version", 0, ""},
		{"-stun=TRUE -version", 0, ""},
		{"-stun=False -version", 0, ""},
		{"-a= -version", 0, ""},
		{"-a=x=y -version", 0, ""},
		{"-tcp-write-timeout 0 -version", 0, ""},
		{"-tcp-write-timeout 2s -version", 0, ""},
		{"-tcp-write-timeout 1h30m -version", 0, ""},
		{"-tcp-write-timeout 1.5s -version", 0, ""},
		{"-tcp-write-timeout .5s -version", 0, ""},
		{"-tcp-write-timeout 300ms -version", 0, ""},
		{"-tcp-write-timeout 7us -version", 0, ""},
		{"-tcp-write-timeout 7\u00b5s -version", 0, ""},
		{"-tcp-user-timeout 15s -tcp-keepalive-time 10m0s -version", 0, ""},
		{"-home blank -certmode manual -certdir x -hostname y -c z -version", 0, ""},
		{"-accept-connection-limit 2.5e3 -accept-connection-burst 5 -version", 0, ""},
		{"-accept-connection-limit inf -version", 0, ""},
		{"-accept-connection-limit 0x1p-2 -version", 0, ""},
		{"-ace -acme-ip-certs -dev -verify-clients -verify-client-url-fail-open=false -version", 0, ""},
		{"-acme-eab-key x -acme-eab-kid x -acme-email x -mesh-psk-file x -mesh-with x -rate-config x -socket x -version", 0, ""},
		{"-bootstrap-dns-names x -unpublished-bootstrap-dns-names x -verify-client-url x -version", 0, ""},
		{"-secrets-url x -secrets-path-prefix x -secrets-cache-dir x -version", 0, ""},
		{"-version -nope", 2, "flag provided but not defined: -nope"},
		{"-version ignored -nope", 0, ""},
		{"-version -- -nope", 0, ""},
		{"-version=false -version", 0, ""},

		{"-nope", 2, "flag provided but not defined: -nope"},
		{"--nope", 2, "flag provided but not defined: -nope"},
		{"-nope=1", 2, "flag provided but not defined: -nope"},
		{"-A", 2, "flag provided but not defined: -A"},
		{"---a", 2, "bad flag syntax: ---a"},
		{"-=x", 2, "bad flag syntax: -=x"},
		{"-a", 2, "flag needs an argument: -a"},
		{"-stun-port", 2, "flag needs an argument: -stun-port"},
		{"-http-port x", 2, `invalid value "x" for flag -http-port: parse error`},
		{"-http-port= -version", 2, `invalid value "" for flag -http-port: parse error`},
		{"-http-port 8.0 -version", 2, `invalid value "8.0" for flag -http-port: parse error`},
		{"-http-port 08 -version", 2, `invalid value "08" for flag -http-port: parse error`},
		{"-http-port 99999999999999999999 -version", 2, `invalid value "99999999999999999999" for flag -http-port: value out of range`},
		{"-stun-port 3478x -version", 2, `invalid value "3478x" for flag -stun-port: parse error`},
		{"-stun=maybe -version", 2, `invalid boolean value "maybe" for -stun: parse error`},
		{"-stun=yes -version", 2, `invalid boolean value "yes" for -stun: parse error`},
		{"-derp=2 -version", 2, `invalid boolean value "2" for -derp: parse error`},
		{"-version=maybe", 2, `invalid boolean value "maybe" for -version: parse error`},
		{"-accept-connection-limit x -version", 2, `invalid value "x" for flag -accept-connection-limit: parse error`},
		{"-accept-connection-limit 1e999 -version", 2, `invalid value "1e999" for flag -accept-connection-limit: value out of range`},
		{"-accept-connection-burst 1.5 -version", 2, `invalid value "1.5" for flag -accept-connection-burst: parse error`},
		{"-verify-clients=x -version", 2, `invalid boolean value "x" for -verify-clients: parse error`},
		{"-tcp-write-timeout 5 -version", 2, `invalid value "5" for flag -tcp-write-timeout: parse error`},
		{"-tcp-write-timeout 2sec -version", 2, `invalid value "2sec" for flag -tcp-write-timeout: parse error`},
		{"-tcp-user-timeout= -version", 2, `invalid value "" for flag -tcp-user-timeout: parse error`},
		{"-tcp-keepalive-time 1d -version", 2, `invalid value "1d" for flag -tcp-keepalive-time: parse error`},
	}
	for _, c := range cases {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			r := run(t, t.TempDir(), strings.Split(c.args, " ")...)
			if r.status != c.status {
				t.Fatalf("status %d, want %d; stderr:\n%s", r.status, c.status, r.errOut)
			}
			if c.status == 0 {
				if r.errOut != "" || strings.Count(r.out, "\n") != 1 {
					t.Errorf("stdout %q, stderr %q; want the version alone", r.out, r.errOut)
				}
				return
			}
			first, rest, _ := strings.Cut(r.errOut, "\n")
			if first != c.stderr {
				t.Errorf("the first line on stderr is %q, want %q", first, c.stderr)
			}
			if !strings.Contains(rest, "Usage of ") {
				t.Errorf("no usage follows:\n%s", r.errOut)
			}
		})
	}
}

// served says what a command line of flags needs to serve on loopback, except -a and -hostname.
func served(t *testing.T, dir string) []string {
	return []string{"-c", filepath.Join(dir, "k"), "-certmode", "manual", "-certdir", filepath.Join(dir, "certs"), "-http-port", "-1", "-stun=false"}
}

func TestStartUpErrorsEndWithStatus1(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	busyPort := fmt.Sprint(busy.Addr().(*net.TCPAddr).Port)
	free := fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1"))
	psk := filepath.Join(t.TempDir(), "psk")
	if err := os.WriteFile(psk, []byte(strings.Repeat("a", 64)), 0600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		args []string
		says []string // all of it, in any case
	}{
		{"an address without a port", []string{"-hostname", "127.0.0.1", "-a", "nonsense"}, []string{"nonsense"}},
		{"an address of an open bracket", []string{"-hostname", "127.0.0.1", "-a", "[::1"}, []string{"[::1"}},
		{"an address with two ports", []string{"-hostname", "127.0.0.1", "-a", "127.0.0.1:1:2"}, []string{"127.0.0.1:1:2"}},
		{"a port above 65535", []string{"-hostname", "127.0.0.1", "-a", "127.0.0.1:99999"}, []string{"99999"}},
		{"a port that is taken", []string{"-hostname", "127.0.0.1", "-a", "127.0.0.1:" + busyPort}, []string{busyPort, "in use"}},
		{"an address that is not ours", []string{"-hostname", "127.0.0.1", "-a", "192.0.2.1:4443"}, []string{"192.0.2.1"}},
		{"an HTTP port that is taken", []string{"-hostname", "127.0.0.1", "-a", free, "-http-port", busyPort}, []string{busyPort, "in use"}},
		{"an unknown certificate mode", []string{"-hostname", "127.0.0.1", "-a", "127.0.0.1:443", "-certmode", "nope"}, []string{"nope"}},
		{"meshing without the mesh key", []string{"-hostname", "127.0.0.1", "-a", free, "-mesh-with", "relay.interop.test"}, []string{"mesh-with", "mesh-psk-file"}},
		{"meshing with three parts", []string{"-hostname", "127.0.0.1", "-a", free, "-mesh-psk-file", psk, "-mesh-with", "a/b/c"}, []string{"a/b/c"}},
		{"certificates for IP addresses by hand", []string{"-hostname", "127.0.0.1", "-a", free, "-acme-ip-certs"}, []string{"acme-ip-certs", "letsencrypt"}},
		{"an IP address and letsencrypt", []string{"-hostname", "127.0.0.1", "-a", "127.0.0.1:443", "-certmode", "letsencrypt"}, []string{"certmode", "manual", "acme-ip-certs"}},
		{"an IP address and gcp", []string{"-hostname", "127.0.0.1", "-a", "127.0.0.1:443", "-certmode", "gcp"}, []string{"certmode", "gcp", "dns name"}},
		{"gcp without its account", []string{"-hostname", "relay.interop.test", "-a", "127.0.0.1:443", "-certmode", "gcp"}, []string{"acme-eab-kid", "acme-eab-key"}},
		{"gcp without an address", []string{"-hostname", "relay.interop.test", "-a", "127.0.0.1:443", "-certmode", "gcp", "-acme-eab-kid", "x", "-acme-eab-key", "eA"}, []string{"acme-email"}},
		{"an unknown home page", []string{"-hostname", "127.0.0.1", "-a", free, "-home", "ftp://x"}, []string{"home", "ftp://x"}},
		{"a host without a certificate", []string{"-hostname", "relay.interop.test", "-a", free}, []string{"relay.interop.test.crt"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := run(t, dir, append(served(t, dir), c.args...)...)
			if r.status != 1 {
				t.Errorf("status %d, want 1; stderr:\n%s", r.status, r.errOut)
			}
			if r.out != "" {
				t.Errorf("stdout %q, want nothing there", r.out)
			}
			for _, s := range c.says {
				if !strings.Contains(strings.ToLower(r.errOut), s) {
					t.Errorf("stderr does not say %q:\n%s", s, r.errOut)
				}
			}
		})
	}
}

func TestAddressForms(t *testing.T) {
	t.Parallel()
	const more = "addresses are understood as people write them"
	cases := []struct {
		form       string // PORT stands for the port
		reach      []string
		detourOnly string
	}{
		{":PORT", []string{"127.0.0.1", "::1"}, ""},
		{"127.0.0.1:PORT", []string{"127.0.0.1"}, ""},
		{"0.0.0.0:PORT", []string{"127.0.0.1"}, ""}, // derper is reachable by IPv6, too: Go's way
		{"[::1]:PORT", []string{"::1"}, ""},
		{"[::]:PORT", []string{"127.0.0.1", "::1"}, ""},
		{"PORT", []string{"127.0.0.1", "::1"}, more},
		{`":PORT"`, []string{"127.0.0.1", "::1"}, more},
		{`'127.0.0.1:PORT'`, []string{"127.0.0.1"}, more},
		{`"[::1]:PORT"`, []string{"::1"}, more},
		{" :PORT ", []string{"127.0.0.1", "::1"}, more},
	}
	for _, c := range cases {
		t.Run(c.form, func(t *testing.T) {
			t.Parallel()
			if c.detourOnly != "" && !relay.DetourOnly(t, c.detourOnly) {
				return
			}
			ip := c.reach[0]
			port := relay.FreePort(t, ip)
			r := relay.Start(t, relay.Options{
				NoSTUN: true, HTTPPort: -1, Port: port, ListenIP: ip,
				Args: []string{"-a", strings.ReplaceAll(c.form, "PORT", fmt.Sprint(port))},
			})
			for _, ip := range []string{"127.0.0.1", "::1"} {
				conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, fmt.Sprint(port)), 5*time.Second)
				if err == nil {
					conn.Close()
				}
				if want := slices.Contains(c.reach, ip); (err == nil) != want && !(c.form == "0.0.0.0:PORT" && ip == "::1") {
					t.Errorf("reachable by %s: %v, want %v (%v)", ip, err == nil, want, err)
				}
			}
			wire.Login(t, r).WantAlive()
		})
	}
}

// Positional arguments are ignored, and everything behind the first one.
func TestPositionalArgumentsAreIgnored(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"serve", "-nope"}})
	wire.Login(t, r).WantAlive()
}

// Without TLS (a port that is not 443, no manual certificates) the relay speaks plain HTTP, as
// derper does behind a proxy; there is no HTTP port then.
func TestPlainHTTPWhenThereIsNoCertificateMode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := relay.FreePort(t, "127.0.0.1")
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	r := relay.Start(t, relay.Options{
		NoSTUN: true, Dir: dir, Port: port, NoWait: true,
		Args: []string{"-certmode=letsencrypt"},
	})
	if !relay.Poll(30*time.Second, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil || !r.Running()
	}) || !r.Running() {
		t.Fatalf("nothing listens on %s:\n%s", addr, r.Log())
	}
	pub, err := relay.PublicKeyOfFile(r.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	r.PublicKey = pub
	c := wire.DialTCP(t, r, addr)
	c.Login(wire.DefaultInfo)
	c.WantAlive()
	if got := r.ListenPorts(t); !slices.Equal(got, []int{port}) {
		t.Errorf("it listens on %v, want %d alone", got, port)
	}
}

func TestMain(m *testing.M) {
	// What the machine has set must not reach the programs.
	for _, name := range []string{"XDG_CACHE_HOME"} {
		os.Unsetenv(name)
	}
	os.Exit(m.Run())
}
