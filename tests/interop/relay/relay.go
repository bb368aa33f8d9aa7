// Package relay starts one relay process (Detour or the reference derper) for a test, with the same
// command line for both, and takes it down again.
//
// Environment:
//
//	INTEROP_RELAY  "detour" (default) or "derper": which server the tests run against
//	DETOUR_BIN     the Detour binary; default build/release/detour of this source tree
//	DERPER_BIN     the reference; default: built from the version of tailscale.com in go.mod
//
// Detour is always started through a symlink named "derper", so that it takes derper's flags.
package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tailscale.com/net/stun"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

const (
	// startTimeout is how long a relay may take from exec until it serves.
	startTimeout = 15 * time.Second
	// Slack is what a busy machine may add to any time that a test puts an upper bound on.
	Slack = 20 * time.Second
	// StopTimeout is how long a relay may take to end after SIGTERM.
	StopTimeout = 2*time.Second + Slack
	// startAttempts is how often Start tries other ports when a free one was taken meanwhile.
	startAttempts = 6
)

// Options say how one relay process is started.
type Options struct {
	// Host is the relay's host name, default "127.0.0.1". With an IP address and no CertFile the
	// relay makes a self-signed certificate itself, to be pinned.
	Host string
	// ListenIP is the address listened on, default "127.0.0.1". "" in AnyIP means all addresses.
	ListenIP string
	// AnyIP listens on all addresses ("-a :PORT"), as a relay in the field does.
	AnyIP bool
	// Dir holds the key file and the certificate directory; default t.TempDir(). Give the directory
	// of an earlier relay to start on the same key.
	Dir string
	// Port, STUNPort and HTTPPort: 0 picks a free one; HTTPPort -1 is off.
	Port, STUNPort, HTTPPort int
	// NoSTUN starts the relay with -stun=false.
	NoSTUN bool
	// Args are extra flags, appended last (so they win).
	Args []string
	// Serve starts Detour as `detour serve` with long options instead of derper's flags; Args are long
	// options too. For what derper has no flag for; not for tests that also run against derper.
	Serve bool
	// Env is added to the environment of the process ("NAME=value").
	Env []string
	// CertFile and KeyFile are PEM (the text itself, or the path of a file) placed as
	// certdir/<host>.crt and .key before the start.
	CertFile, KeyFile string
	// Binary is another program than the one under test, for tests that need both.
	Binary string
	// Roots are certificates (PEM) that the relay's machine trusts. A relay may refuse a leaf that
	// comes without its intermediate, and takes one whose issuer is a trusted root.
	Roots string
	// Wrap is a command that gets the relay's command line appended, for example
	// {"sh", "-c", `ulimit -n 64; exec "$0" "$@"`}. It has to exec the relay.
	Wrap []string
	// NoWait returns as soon as the process runs, without waiting until it serves. Such a relay may
	// end by itself.
	NoWait bool
}

// Relay is one relay process under test.
type Relay struct {
	Host      string
	Addr      string // TCP, TLS: "127.0.0.1:port"
	STUNAddr  string // UDP, "" with NoSTUN
	HTTPAddr  string // TCP, plain HTTP; "" when off
	Port      int
	STUNPort  int
	HTTPPort  int
	Dir       string
	CertDir   string
	KeyFile   string
	Pin       string // "sha256-raw:<hex of the leaf>"
	Leaf      *x509.Certificate
	PublicKey key.NodePublic
	Pid       int
	Cmd       *exec.Cmd

	t       testing.TB
	o       Options
	logPath string

	mu       sync.Mutex
	exited   chan struct{} // closed once the process has been waited for
	waitErr  error
	expected bool // somebody asked for the end
}

// IsDerper reports whether the tests run against the reference instead of Detour.
func IsDerper() bool {
	switch v := os.Getenv("INTEROP_RELAY"); v {
	case "", "detour":
		return false
	case "derper":
		return true
	default:
		panic(fmt.Sprintf("INTEROP_RELAY=%q: want detour or derper", v))
	}
}

// Name is "detour" or "derper".
func Name() string {
	if IsDerper() {
		return "derper"
	}
	return "detour"
}

// ModuleDir is the directory of this module (tests/interop).
var ModuleDir = sync.OnceValue(func() string {
	dir, err := os.Getwd()
	for err == nil {
		if b, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil &&
			bytes.HasPrefix(b, []byte("module detour.example/interop")) {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			break
		}
		dir = parent
	}
	panic("the tests have to run inside the module detour.example/interop")
})

// toolPaths are the commands that are not tailscale.com's.
var toolPaths = map[string]string{
	"pebble":              "github.com/letsencrypt/pebble/v2/cmd/pebble",
	"pebble-challtestsrv": "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv",
}

// Tool gives the path of a command of exactly the version in go.mod, building it when it is not in
// Go's build cache yet: tailscale.com's derper, tailscale and tailscaled, and the ACME server pebble.
func Tool(t testing.TB, name string) string {
	t.Helper()
	variable := strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_BIN"
	if v := os.Getenv(variable); v != "" {
		if _, err := os.Stat(v); err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		return v
	}
	path := toolPaths[name]
	if path == "" {
		path = "tailscale.com/cmd/" + name
	}
	toolMu.Lock()
	defer toolMu.Unlock()
	if p, ok := tools[name]; ok {
		return p
	}
	cmd := exec.Command(filepath.Join(runtime.GOROOT(), "bin", "go"), "tool", "-n", path)
	if _, err := os.Stat(cmd.Path); err != nil {
		cmd = exec.Command("go", cmd.Args[1:]...)
	}
	cmd.Dir = ModuleDir()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("building %s: %v\n%s", path, err, stderr.String())
	}
	p := strings.TrimSpace(string(out))
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("go tool -n %s said %q: %v", path, p, err)
	}
	tools[name] = p
	return p
}

var (
	toolMu sync.Mutex
	tools  = map[string]string{}
)

// DerperBinary is the reference server, whatever server the tests run against.
func DerperBinary(t testing.TB) string { return Tool(t, "derper") }

// DetourBinary is the Detour binary, whatever server the tests run against.
func DetourBinary(t testing.TB) string {
	t.Helper()
	p := os.Getenv("DETOUR_BIN")
	if p == "" {
		p = filepath.Join(ModuleDir(), "..", "..", "build", "release", "detour")
	}
	p, err := filepath.Abs(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("Detour's binary: %v (build it, or set DETOUR_BIN)", err)
	}
	return p
}

// Binary is the program under test by a path that ends in "derper".
func Binary(t testing.TB) string {
	t.Helper()
	if IsDerper() {
		return DerperBinary(t)
	}
	return DetourAsDerper(t)
}

// DetourAsDerper is Detour by a path that ends in "derper", whatever server the tests run against.
func DetourAsDerper(t testing.TB) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), "derper")
	if err := os.Symlink(DetourBinary(t), link); err != nil {
		t.Fatal(err)
	}
	return link
}

// Start starts a relay and waits until it serves TLS, HTTP and STUN. At the end of the test it ends
// the relay with SIGTERM and fails the test unless it ends by itself within 2 s with status 0. The
// log is shown when the test has failed.
func Start(t testing.TB, o Options) *Relay {
	t.Helper()
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.ListenIP == "" {
		o.ListenIP = "127.0.0.1"
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	r := &Relay{
		t: t, o: o, Host: o.Host, Dir: o.Dir,
		CertDir: filepath.Join(o.Dir, "certs"),
		KeyFile: filepath.Join(o.Dir, "derper.key"),
		logPath: filepath.Join(o.Dir, "relay.log"),
	}
	if err := os.MkdirAll(r.CertDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for ext, pem := range map[string]string{".crt": o.CertFile, ".key": o.KeyFile} {
		if pem == "" {
			continue
		}
		b := []byte(pem)
		if !strings.Contains(pem, "-----BEGIN") {
			var err error
			if b, err = os.ReadFile(pem); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(r.CertDir, CertBase(o.Host)+ext), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if o.Roots != "" {
		roots := filepath.Join(o.Dir, "roots.pem")
		if err := os.WriteFile(roots, []byte(o.Roots), 0o600); err != nil {
			t.Fatal(err)
		}
		r.o.Env = append([]string{"SSL_CERT_FILE=" + roots}, o.Env...)
	}

	if r.o.Binary == "" && r.o.Serve {
		r.o.Binary = DetourBinary(t)
	}
	if r.o.Binary == "" {
		r.o.Binary = Binary(t)
	}
	t.Cleanup(r.cleanup)
	fixed := o.Port != 0 && (o.STUNPort != 0 || o.NoSTUN) && o.HTTPPort != 0
	for attempt := 1; ; attempt++ {
		r.pickPorts()
		r.launch(r.o.Binary)
		if o.NoWait {
			return r
		}
		err := r.waitUntilServing()
		if err == nil {
			return r
		}
		r.Kill()
		taken := errors.Is(err, errPortTaken) || strings.Contains(r.Log(), "address already in use") ||
			strings.Contains(r.Log(), "Address already in use")
		if fixed || !taken || attempt == startAttempts {
			t.Fatalf("%s did not start to serve on %s: %v", Name(), r.Addr, err)
		}
		os.Remove(r.logPath)
	}
}

// CertBase is the name, without extension, that derper's manual mode gives the certificate files of a
// host: every character outside [A-Za-z0-9-.] goes.
func CertBase(host string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' {
			return c
		}
		return -1
	}, host)
}

// dialIP is the address that clients of this relay use.
func (r *Relay) dialIP() string {
	if r.o.AnyIP {
		return "127.0.0.1"
	}
	return r.o.ListenIP
}

func (r *Relay) pickPorts() {
	ip := r.dialIP()
	r.Port, r.STUNPort, r.HTTPPort = r.o.Port, r.o.STUNPort, r.o.HTTPPort
	if r.Port == 0 {
		r.Port = FreePort(r.t, ip)
	}
	if r.HTTPPort == 0 {
		r.HTTPPort = FreePort(r.t, ip)
	}
	if r.STUNPort == 0 {
		r.STUNPort = FreePort(r.t, ip)
	}
	r.Addr = net.JoinHostPort(ip, strconv.Itoa(r.Port))
	r.HTTPAddr, r.STUNAddr = "", ""
	if r.HTTPPort > 0 {
		r.HTTPAddr = net.JoinHostPort(ip, strconv.Itoa(r.HTTPPort))
	}
	if !r.o.NoSTUN {
		r.STUNAddr = net.JoinHostPort(ip, strconv.Itoa(r.STUNPort))
	}
}

// Flags is the command line the relay is started with.
func (r *Relay) Flags() []string {
	listen := net.JoinHostPort(r.o.ListenIP, strconv.Itoa(r.Port))
	if r.o.AnyIP {
		listen = ":" + strconv.Itoa(r.Port)
	}
	if r.o.Serve {
		args := []string{
			"serve", "--listen", listen, "--key-file", r.KeyFile, "--hostname", r.Host, "--cert-dir", r.CertDir,
			"--http-port", strconv.Itoa(r.HTTPPort), "--stun-port", strconv.Itoa(r.STUNPort),
		}
		if r.o.NoSTUN {
			args = append(args, "--no-stun")
		}
		return append(args, r.o.Args...)
	}
	args := []string{
		"-a", listen,
		"-c", r.KeyFile,
		"-hostname", r.Host,
		"-certmode", "manual",
		"-certdir", r.CertDir,
		"-http-port", strconv.Itoa(r.HTTPPort),
		"-stun=" + strconv.FormatBool(!r.o.NoSTUN),
		"-stun-port", strconv.Itoa(r.STUNPort),
	}
	return append(args, r.o.Args...)
}

func (r *Relay) launch(bin string) {
	r.t.Helper()
	argv := append(append(append([]string{}, r.o.Wrap...), bin), r.Flags()...)
	log, err := os.OpenFile(r.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = r.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(CleanEnv(), r.o.Env...)
	if err := startBound(cmd); err != nil {
		r.t.Fatalf("starting %q: %v", argv, err)
	}
	exited := make(chan struct{})
	r.mu.Lock()
	r.Cmd, r.Pid, r.exited, r.waitErr, r.expected = cmd, cmd.Process.Pid, exited, nil, r.o.NoWait
	r.mu.Unlock()
	go func() {
		err := cmd.Wait()
		r.mu.Lock()
		r.waitErr = err
		r.mu.Unlock()
		close(exited)
	}()
}

// CleanEnv is this process's environment without the variables that change what a relay does.
func CleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		up := strings.ToUpper(name)
		if strings.HasSuffix(up, "_PROXY") || strings.HasPrefix(up, "TS_") || strings.HasPrefix(up, "DERP_") ||
			up == "SSL_CERT_FILE" || up == "SSL_CERT_DIR" || up == "TAILSCALE_DERPER_MESH_KEY" {
			continue
		}
		env = append(env, kv)
	}
	return env
}

// startBound starts cmd so that it dies with this process, even if the test binary is killed. The
// kernel ties that to the starting thread, hence one thread that lives as long as the process.
func startBound(cmd *exec.Cmd) error {
	startOnce.Do(func() {
		go func() {
			runtime.LockOSThread()
			for f := range startRequests {
				f()
			}
		}()
	})
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error)
	startRequests <- func() { done <- cmd.Start() }
	return <-done
}

var (
	startOnce     sync.Once
	startRequests = make(chan func())
)

// StartBound starts cmd so that it dies with this process.
func StartBound(cmd *exec.Cmd) error { return startBound(cmd) }

// Background starts a command that ends with the test and whose output is shown when the test fails.
func Background(t testing.TB, cmd *exec.Cmd) (output func() string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), filepath.Base(cmd.Path)+".log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := startBound(cmd); err != nil {
		t.Fatal(err)
	}
	output = func() string {
		b, _ := os.ReadFile(log)
		return string(b)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(cmd.Path), output())
		}
	})
	return output
}

// Body reads an HTTP answer to its end. It has to be one: err, which came with it, fails the test.
func Body(t testing.TB, res *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Accepts says whether somebody listens at a TCP address.
func Accepts(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

var errPortTaken = errors.New("a port is in use by another process")

func (r *Relay) waitUntilServing() error {
	deadline := time.Now().Add(startTimeout)
	var err error
	for time.Now().Before(deadline) {
		select {
		case <-r.Exited():
			return fmt.Errorf("it ended at once: %v", r.ExitError())
		default:
		}
		if err = r.check(); err == nil || errors.Is(err, errPortTaken) {
			return err
		}
		time.Sleep(15 * time.Millisecond)
	}
	return err
}

// check is one attempt to see the relay at work. It also fills in what is learned on the way.
func (r *Relay) check() error {
	d := &net.Dialer{Timeout: 2 * time.Second}
	c, err := tls.DialWithDialer(d, "tcp", r.Addr, r.TLSConfig())
	if err != nil {
		return err
	}
	defer c.Close()
	certs := c.ConnectionState().PeerCertificates
	pub, err := PublicKeyOfFile(r.KeyFile)
	if err != nil {
		return err
	}
	if meta := certs[len(certs)-1].Subject.CommonName; !strings.HasPrefix(meta, "derpkey") {
		return fmt.Errorf("%w: no meta certificate at the end of the chain, but %q", errPortTaken, meta)
	} else if meta != "derpkey"+pub.UntypedHexString() {
		return fmt.Errorf("%w: the meta certificate says %s, the key file has %s", errPortTaken, meta, pub.UntypedHexString())
	}
	r.PublicKey = pub
	r.Leaf = certs[0]
	sum := sha256.Sum256(certs[0].Raw)
	r.Pin = "sha256-raw:" + hex.EncodeToString(sum[:])

	if r.HTTPAddr != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+r.HTTPAddr+"/generate_204", nil)
		tr := &http.Transport{DisableKeepAlives: true}
		defer tr.CloseIdleConnections()
		res, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode != 204 {
			return fmt.Errorf("GET /generate_204 on the HTTP port: status %d, want 204", res.StatusCode)
		}
	}
	if r.STUNAddr != "" {
		if _, err := STUNRequest(r.STUNAddr, 500*time.Millisecond); err != nil {
			// derper goes on without a word when its STUN port is taken.
			select {
			case <-r.Exited():
				return err
			default:
			}
			if strings.Contains(r.Log(), "in use") || IsDerper() {
				return fmt.Errorf("%w: STUN: %v", errPortTaken, err)
			}
			return fmt.Errorf("STUN: %w", err)
		}
	}
	return nil
}

// STUNRequest asks addr for the mapped address once.
func STUNRequest(addr string, timeout time.Duration) (netip.AddrPort, error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	tx := stun.NewTxID()
	if _, err := c.Write(stun.Request(tx)); err != nil {
		return netip.AddrPort{}, err
	}
	c.SetReadDeadline(time.Now().Add(timeout))
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		return netip.AddrPort{}, err
	}
	gotTx, ap, err := stun.ParseResponse(buf[:n])
	if err != nil {
		return netip.AddrPort{}, err
	}
	if gotTx != tx {
		return netip.AddrPort{}, errors.New("answer to another transaction")
	}
	return ap, nil
}

// TLSConfig is a client configuration that accepts this relay's certificate unseen. With a host name
// (not an address) it sends SNI.
func (r *Relay) TLSConfig() *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true}
	if _, err := netip.ParseAddr(r.Host); err != nil {
		c.ServerName = r.Host
	}
	return c
}

// PublicKeyOfFile reads a key file in derper's format and gives its public key.
func PublicKeyOfFile(path string) (key.NodePublic, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return key.NodePublic{}, err
	}
	var cfg struct{ PrivateKey key.NodePrivate }
	if err := json.Unmarshal(b, &cfg); err != nil {
		return key.NodePublic{}, fmt.Errorf("%s: %w", path, err)
	}
	if cfg.PrivateKey.IsZero() {
		return key.NodePublic{}, fmt.Errorf("%s holds no key", path)
	}
	return cfg.PrivateKey.Public(), nil
}

// WaitForKey waits until a relay that was started with NoWait listens, which is all that can be seen of
// one that does not take TLS from this process, and learns its public key.
func (r *Relay) WaitForKey(t testing.TB) {
	t.Helper()
	var err error
	up := Poll(startTimeout, func() bool {
		if !r.Running() {
			return false
		}
		var c net.Conn
		if c, err = net.DialTimeout("tcp", r.Addr, time.Second); err != nil {
			return false
		}
		c.Close()
		r.PublicKey, err = PublicKeyOfFile(r.KeyFile)
		return err == nil
	})
	if !up {
		t.Fatalf("%s does not listen on %s: %v", Name(), r.Addr, err)
	}
	r.mu.Lock()
	r.expected = false
	r.mu.Unlock()
}

// Log is everything that the relay has printed so far, over all its restarts.
func (r *Relay) Log() string {
	b, err := os.ReadFile(r.logPath)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return string(b)
}

// Exited is closed when the process has ended.
func (r *Relay) Exited() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exited
}

// Running reports whether the process is there.
func (r *Relay) Running() bool {
	select {
	case <-r.Exited():
		return false
	default:
		return true
	}
}

// ExitError is what exec.Cmd.Wait said; valid once Exited is closed.
func (r *Relay) ExitError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waitErr
}

// ExpectEnd says that the relay may end by itself from now on.
func (r *Relay) ExpectEnd() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected = true
}

// Signal sends a signal. The relay's end is not an error from then on.
func (r *Relay) Signal(s os.Signal) {
	r.mu.Lock()
	r.expected = true
	cmd := r.Cmd
	r.mu.Unlock()
	cmd.Process.Signal(s)
}

// Kill ends the relay with SIGKILL and waits for the end. It does nothing when the relay has ended.
func (r *Relay) Kill() {
	r.t.Helper()
	r.Signal(syscall.SIGKILL)
	<-r.Exited()
}

// Stop ends the relay with SIGTERM and fails the test unless it ends by itself within StopTimeout with
// status 0. It does nothing when the relay has ended.
func (r *Relay) Stop() {
	r.t.Helper()
	if !r.Running() {
		return
	}
	r.Signal(syscall.SIGTERM)
	start := time.Now()
	select {
	case <-r.Exited():
		if err := r.ExitError(); err != nil {
			r.t.Errorf("%s after SIGTERM: %v, want exit status 0", Name(), err)
		}
	case <-time.After(StopTimeout):
		r.t.Errorf("%s still runs %v after SIGTERM", Name(), time.Since(start).Round(time.Millisecond))
		r.Kill()
	}
}

// Restart stops the relay if it runs and starts it again: same ports, key, certificate and flags.
func (r *Relay) Restart() {
	r.t.Helper()
	r.Stop()
	old, oldPin := r.PublicKey, r.Pin
	r.launch(r.o.Binary)
	if err := r.waitUntilServing(); err != nil {
		r.Kill()
		r.t.Fatalf("%s did not come back on %s: %v", Name(), r.Addr, err)
	}
	if r.PublicKey != old || r.Pin != oldPin {
		r.t.Errorf("after the restart: key %v, pin %s; before: key %v, pin %s", r.PublicKey, r.Pin, old, oldPin)
	}
}

func (r *Relay) cleanup() {
	if r.Cmd == nil {
		return
	}
	r.mu.Lock()
	expected := r.expected
	r.mu.Unlock()
	if !r.Running() && !expected {
		r.t.Errorf("%s ended by itself: %v", Name(), r.ExitError())
	}
	r.Stop()
	if r.t.Failed() {
		log := r.Log()
		if max := 32 << 10; len(log) > max {
			log = log[:max/2] + "\n[...]\n" + log[len(log)-max/2:]
		}
		r.t.Logf("log of %s at %s:\n%s", Name(), r.Addr, log)
	}
}

// DERPMap is a map whose only region is this relay. Clients find it at its loopback address, know it
// by its pin when it is self-signed, and skip verification otherwise.
func (r *Relay) DERPMap(regionID int) *tailcfg.DERPMap {
	return &tailcfg.DERPMap{
		OmitDefaultRegions: true,
		Regions:            map[int]*tailcfg.DERPRegion{regionID: r.Region(regionID)},
	}
}

// Region is the region of DERPMap.
func (r *Relay) Region(regionID int) *tailcfg.DERPRegion {
	n := &tailcfg.DERPNode{
		Name:     fmt.Sprintf("%da", regionID),
		RegionID: regionID,
		HostName: r.Host,
		IPv4:     "none",
		IPv6:     "none",
		DERPPort: r.Port,
		STUNPort: r.STUNPort,
	}
	if r.o.NoSTUN {
		n.STUNPort = -1
	}
	if ip := r.dialIP(); strings.Contains(ip, ":") {
		n.IPv6 = ip
	} else {
		n.IPv4 = ip
	}
	if r.o.CertFile == "" {
		n.CertName = r.Pin
	} else {
		n.InsecureForTests = true
	}
	return &tailcfg.DERPRegion{
		RegionID:   regionID,
		RegionCode: "interop",
		RegionName: "Interop",
		Nodes:      []*tailcfg.DERPNode{n},
	}
}

// FreePort gives a port on ip that is free for TCP and UDP. It takes ports below the range the kernel
// gives to outgoing connections: there no client of a parallel test can occupy it (or connect to
// itself on it) while a relay restarts.
func FreePort(t testing.TB, ip string) int {
	t.Helper()
	base := portBase()
	for try := range 400 {
		port := base + int(randUint32()%portSlice)
		if _, given := givenPorts.LoadOrStore(port, true); given && try < 200 {
			continue
		}
		if portIsFree(ip, port) {
			return port
		}
	}
	t.Fatalf("found no free port between %d and %d", base, base+portSlice-1)
	return 0
}

const (
	portFirst  = 15000 // to 31999; Linux starts those that it gives out at 32768
	portSlice  = 1062
	portSlices = 16
)

// portBase is the first of the ports that this test binary has for itself: another one that runs beside
// it would take a port before the relay does. A name of a socket without a file says that they are taken,
// until the binary ends.
var portBase = sync.OnceValue(func() int {
	for i := range portSlices {
		if l, err := net.Listen("unix", fmt.Sprintf("@detour-interop-ports-%d", i)); err == nil {
			portLock = l
			return portFirst + i*portSlice
		}
	}
	return portFirst + os.Getpid()%portSlices*portSlice
})

var portLock net.Listener

// givenPorts are those that FreePort gave out, none of them twice: a parallel test would take it.
var givenPorts sync.Map

func portIsFree(ip string, port int) bool {
	addr := net.JoinHostPort(ip, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	u.Close()
	return true
}

// Poll calls f until it says true, at most for the given time, and reports whether it did.
func Poll(timeout time.Duration, f func() bool) bool {
	deadline := time.Now().Add(timeout)
	for {
		if f() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Get fetches a path from the main port and gives status, headers and body.
func (r *Relay) Get(path string) (*http.Response, []byte, error) {
	tr := &http.Transport{TLSClientConfig: r.TLSConfig(), DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+r.Addr+path, nil)
	if err != nil {
		return nil, nil, err
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

// Vars fetches /debug/vars and gives it as one flat map: nested names are joined with a dot.
func (r *Relay) Vars(t testing.TB) map[string]any {
	t.Helper()
	res, body, err := r.Get("/debug/vars")
	if err != nil {
		t.Fatalf("GET /debug/vars: %v", err)
	}
	if res.StatusCode != 200 {
		t.Fatalf("GET /debug/vars: status %d: %s", res.StatusCode, body)
	}
	var tree map[string]any
	if err := json.Unmarshal(body, &tree); err != nil {
		t.Fatalf("/debug/vars is not JSON: %v\n%s", err, body)
	}
	flat := map[string]any{}
	var walk func(prefix string, v map[string]any)
	walk = func(prefix string, v map[string]any) {
		for k, v := range v {
			if sub, ok := v.(map[string]any); ok {
				walk(prefix+k+".", sub)
				continue
			}
			flat[prefix+k] = v
		}
	}
	walk("", tree)
	return flat
}

// Var is one number of Vars; NaN-like absence is a failure.
func (r *Relay) Var(t testing.TB, name string) float64 {
	t.Helper()
	v, ok := r.Vars(t)[name].(float64)
	if !ok {
		t.Fatalf("/debug/vars has no number %q", name)
	}
	return v
}

// WantVar waits up to 5 s until a number of Vars is want and gives the last value seen.
func (r *Relay) WantVar(t testing.TB, name string, want float64) float64 {
	t.Helper()
	var v float64
	Poll(30*time.Second, func() bool { v = r.Var(t, name); return v == want })
	return v
}

// Varz fetches /debug/varz and gives every sample by its full name with labels.
func (r *Relay) Varz(t testing.TB) map[string]float64 {
	t.Helper()
	res, body, err := r.Get("/debug/varz")
	if err != nil {
		t.Fatalf("GET /debug/varz: %v", err)
	}
	if res.StatusCode != 200 {
		t.Fatalf("GET /debug/varz: status %d: %s", res.StatusCode, body)
	}
	return ParseVarz(t, string(body))
}

// ParseVarz reads Prometheus text.
func ParseVarz(t testing.TB, text string) map[string]float64 {
	t.Helper()
	samples := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			t.Fatalf("metrics line %q: want name and value", line)
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			t.Fatalf("metrics line %q: %v", line, err)
		}
		if _, twice := samples[line[:i]]; twice {
			t.Errorf("metrics: %s comes twice", line[:i])
		}
		samples[line[:i]] = v
	}
	return samples
}
