package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tailscale.com/client/local"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/net/netmon"
	"tailscale.com/types/key"

	"detour.example/interop/relay"
)

const (
	// cliTimeout bounds every call of the tailscale command.
	cliTimeout = 30 * time.Second
	// nodeTimeout bounds each step of a node's start.
	nodeTimeout = 30 * time.Second
	// socketPathMax is what fits into sockaddr_un on every system, with its closing zero.
	socketPathMax = 103
	// logTail is how much of a log is shown when a test has failed.
	logTail = 16 << 10
)

// node is one tailscaled with its own state directory, socket and log.
type node struct {
	name   string
	dir    string
	socket string
	env    []string // added to the clean environment

	tailscale, tailscaled string

	local local.Client // to poll; what a test asserts about the CLI goes through cli()
	log   logBuffer    // of all runs of the process

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	ending bool // the test wants the process to end
}

// newNode makes a node that has never run. Its process, if any, is gone at the end of the test, and
// its log is shown when the test has failed.
func newNode(t testing.TB, name string, env ...string) *node {
	t.Helper()
	// Not t.TempDir(): with the test's name in it the path of the socket would be too long.
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &node{
		name:       name,
		dir:        dir,
		socket:     filepath.Join(dir, "s"),
		env:        env,
		tailscale:  relay.Tool(t, "tailscale"),
		tailscaled: relay.Tool(t, "tailscaled"),
	}
	if len(n.socket) > socketPathMax {
		t.Fatalf("the socket's path %q is longer than %d characters: set TMPDIR to a shorter directory", n.socket, socketPathMax)
	}
	if !netmon.NewStatic().InterfaceState().AnyInterfaceUp() {
		t.Fatal("tailscaled stays offline on a machine that has only the loopback interface: give it another one " +
			"(`ip link add dummy0 type dummy; ip addr add 192.0.2.1/24 dev dummy0; ip link set dummy0 up`)")
	}
	n.local = local.Client{Socket: n.socket, UseSocketOnly: true}
	t.Cleanup(func() { n.cleanup(t) })
	return n
}

// environment is all that tailscaled and tailscale get to see: nothing of this machine's settings, no
// proxy, and no way to Tailscale's own servers.
func (n *node) environment() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + n.dir,
		"TMPDIR=" + n.dir,
		"TS_NO_LOGS_NO_SUPPORT=1",
		"TS_PANIC_IF_HIT_MAIN_CONTROL=1",
		"TS_DISABLE_PORTMAPPER=1",
		"TS_DEBUG_NEVER_DIRECT_UDP=1",
		"TS_DEBUG_LOG_RATE=all", // the tests read the log: no line may fall to its rate limit
		"TS_LOGS_DIR=" + n.dir,  // or root's would go to the system's
	}
	return append(env, n.env...)
}

// start runs tailscaled on the node's state directory and waits until it answers on its socket.
func (n *node) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(n.tailscaled,
		"--tun=userspace-networking",
		"--statedir="+n.dir,
		"--socket="+n.socket,
		"--port=0",
	)
	cmd.Dir = n.dir
	cmd.Env = n.environment()
	cmd.Stdout, cmd.Stderr = &n.log, &n.log
	cmd.WaitDelay = time.Second
	if err := relay.StartBound(cmd); err != nil {
		t.Fatalf("starting tailscaled %s: %v", n.name, err)
	}
	exited := make(chan struct{})
	n.mu.Lock()
	n.cmd, n.exited, n.ending = cmd, exited, false
	n.mu.Unlock()
	go func() {
		cmd.Wait()
		close(exited)
	}()
	ok := relay.Poll(nodeTimeout, func() bool {
		if !n.running() {
			t.Fatalf("tailscaled %s ended at once: %v", n.name, cmd.ProcessState)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := n.local.StatusWithoutPeers(ctx)
		return err == nil
	})
	if !ok {
		t.Fatalf("tailscaled %s does not answer on its socket after %v", n.name, nodeTimeout)
	}
}

// kill ends tailscaled with SIGKILL and waits for the end. It does nothing when there is none.
func (n *node) kill() {
	n.mu.Lock()
	cmd, exited := n.cmd, n.exited
	n.ending = true
	n.mu.Unlock()
	if cmd == nil {
		return
	}
	cmd.Process.Kill()
	<-exited
}

func (n *node) running() bool {
	n.mu.Lock()
	exited := n.exited
	n.mu.Unlock()
	if exited == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
		return true
	}
}

func (n *node) cleanup(t testing.TB) {
	n.mu.Lock()
	unexpected := n.cmd != nil && !n.ending
	n.mu.Unlock()
	if unexpected && !n.running() {
		t.Errorf("tailscaled %s ended by itself: %v", n.name, n.cmd.ProcessState)
	}
	n.kill()
	if t.Failed() {
		t.Logf("end of the log of tailscaled %s:\n%s", n.name, n.log.tail(logTail))
	}
}

// up logs the node in at the control server. testcontrol lets everybody in.
func (n *node) up(t testing.TB, controlURL string) {
	t.Helper()
	n.mustCLI(t, "up",
		"--login-server="+controlURL,
		"--hostname="+n.name,
		"--accept-dns=false",
		"--timeout="+nodeTimeout.String(),
	)
}

// cli runs one tailscale command against this node. It gives stdout; the error carries everything
// that was printed.
func (n *node) cli(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cliTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.tailscale, append([]string{"--socket=" + n.socket}, args...)...)
	cmd.Dir = n.dir
	cmd.Env = n.environment()
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("tailscale %s on %s: %w\n%s%s",
			strings.Join(args, " "), n.name, err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// mustCLI is cli for commands that have to succeed.
func (n *node) mustCLI(t testing.TB, args ...string) string {
	t.Helper()
	out, err := n.cli(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// status is `tailscale status --json`.
func (n *node) status(t testing.TB) *ipnstate.Status {
	t.Helper()
	st := new(ipnstate.Status)
	if err := json.Unmarshal([]byte(n.mustCLI(t, "status", "--json")), st); err != nil {
		t.Fatalf("status of %s: %v", n.name, err)
	}
	return st
}

// quickStatus asks the daemon itself, for polling; nil if it does not answer.
func (n *node) quickStatus(t testing.TB) *ipnstate.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	st, err := n.local.Status(ctx)
	if err != nil {
		return nil
	}
	return st
}

// self gives the node's key and its first tailnet address.
func (n *node) self(t testing.TB) (key.NodePublic, netip.Addr) {
	t.Helper()
	st := n.quickStatus(t)
	if st == nil || st.Self == nil || len(st.TailscaleIPs) == 0 {
		t.Fatalf("%s does not know its own address", n.name)
	}
	return st.Self.PublicKey, st.TailscaleIPs[0]
}

// peer is what n knows about other, nil if it does not know it.
func (n *node) peer(t testing.TB, other *node) *ipnstate.PeerStatus {
	t.Helper()
	st := n.quickStatus(t)
	if st == nil {
		return nil
	}
	for _, p := range st.Peer {
		if p.HostName == other.name {
			return p
		}
	}
	return nil
}

// mustPeer is peer for a node that has to be known.
func (n *node) mustPeer(t testing.TB, other *node) *ipnstate.PeerStatus {
	t.Helper()
	p := n.peer(t, other)
	if p == nil {
		t.Fatalf("%s does not know %s", n.name, other.name)
	}
	return p
}

// awaitLog waits until the node has logged text after mark.
func (n *node) awaitLog(t testing.TB, mark int, text string, timeout time.Duration) {
	t.Helper()
	if !relay.Poll(timeout, func() bool { return strings.Contains(n.log.since(mark), text) }) {
		t.Fatalf("%s has not logged %q within %v", n.name, text, timeout)
	}
}

// logBuffer collects the output of a process.
type logBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	return len(p), nil
}

// Logf is Write for those who want a logger.
func (l *logBuffer) Logf(format string, args ...any) {
	fmt.Fprintf(l, format+"\n", args...)
}

// mark is a place for since.
func (l *logBuffer) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.b)
}

// since is what has been written after mark.
func (l *logBuffer) since(mark int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b[mark:])
}

// tail is at most the last n bytes.
func (l *logBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b[max(0, len(l.b)-n):])
}
