// Package control_test checks the control socket of a running relay and the subcommands that use it:
// status, top, kick, drain.
package control_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"golang.org/x/sys/unix"
	"tailscale.com/types/key"
)

const patience = 10*time.Second + relay.Slack

// start starts a relay with a control socket, and gives its path. The path is short: sockets cannot
// have long ones.
func start(t *testing.T, args ...string) (*relay.Relay, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	return relay.Start(t, relay.Options{
		Serve: true, NoSTUN: true, Args: append([]string{"--control-socket", socket}, args...),
	}), socket
}

// run runs a subcommand and gives its exit status and what it said on both outputs.
func run(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	cmd := exec.Command(relay.DetourBinary(t), args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

type status struct {
	State   string
	Totals  struct{ Clients, Connections int }
	Clients []struct {
		Key, Name, Address, TLS  string
		ReceivedBytes, SentBytes int
		ReceivedPerSecond        *float64
		Flags                    []string
	}
	Pairs []struct {
		A, B                   string
		BytesFromA, BytesFromB int
	}
	Certificates []struct {
		Name     string
		DaysLeft float64
	}
}

func readStatus(t *testing.T, socket string) (s status) {
	t.Helper()
	code, out, errs := run(t, "status", "--json", "--socket", socket)
	if code != 0 {
		t.Fatalf("status ended with %d: %s%s", code, out, errs)
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return s
}

func TestStatus(t *testing.T) {
	t.Parallel()
	r, socket := start(t)
	a, b := wire.Login(t, r), wire.Login(t, r)
	a.Put(wire.Encode(wire.NotePreferred, []byte{1}))
	a.Send(b.Pub, make([]byte, 1000))
	b.Want(wire.RecvPacket, wire.Raw(a.Pub), make([]byte, 1000))

	s := readStatus(t, socket)
	if s.State != "serving" || s.Totals.Clients != 2 || s.Totals.Connections != 2 || len(s.Clients) != 2 {
		t.Fatalf("status %+v", s)
	}
	for _, c := range s.Clients {
		if !strings.HasPrefix(c.Address, "127.0.0.1:") || c.TLS != "1.3" || c.ReceivedPerSecond == nil {
			t.Errorf("client %+v", c)
		}
		if c.Key == a.Pub.String() && (c.ReceivedBytes != 1000 || len(c.Flags) != 1 || c.Flags[0] != "home") {
			t.Errorf("the sender is %+v", c)
		}
		if c.Key == b.Pub.String() && c.SentBytes != 1000 {
			t.Errorf("the receiver is %+v", c)
		}
	}
	if len(s.Pairs) != 1 || s.Pairs[0].BytesFromA+s.Pairs[0].BytesFromB != 1000 {
		t.Errorf("pairs %+v", s.Pairs)
	}
	if len(s.Certificates) != 1 || s.Certificates[0].DaysLeft < 3600 {
		t.Errorf("certificates %+v", s.Certificates)
	}

	code, out, errs := run(t, "status", "--socket", socket)
	if code != 0 || errs != "" {
		t.Errorf("exit status %d: %s", code, errs)
	}
	for _, want := range []string{"serving", "Clients 2 (1 at home here)", a.Pub.ShortString(), "days left", "everybody may log in"} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("colours in a pipe: %q", out)
	}
	if code, out, _ := run(t, "status", "--socket", socket, "--clients", "1"); code != 0 || !strings.Contains(out, "and 1 more") {
		t.Errorf("one client of two: %d, %s", code, out)
	}
	if code, out, _ := run(t, "top", "--once", "--socket", socket, "--sort", "received"); code != 0 || !strings.Contains(out, "Clients by received") || !strings.Contains(out, a.Pub.ShortString()) {
		t.Errorf("top says, with %d:\n%s", code, out)
	}
	// Every column is there, and every order that the help names.
	header := regexp.MustCompile(`CLIENT +ADDRESS +SINCE +RECEIVED +/s +SENT +/s +RTT +DROPS +WAITS +FLAGS`)
	t.Run("orders", func(t *testing.T) {
		for order := range strings.SplitSeq("rate received sent drops waiting rtt connected name key address", " ") {
			t.Run(order, func(t *testing.T) {
				t.Parallel()
				code, out, errs := run(t, "top", "--once", "--socket", socket, "--sort", order)
				if code != 0 || !strings.Contains(out, "Clients by "+order) || !header.MatchString(out) {
					t.Errorf("ended with %d: %s%s", code, errs, out)
				}
			})
		}
	})
	// A program gets the same.
	code, out, _ = run(t, "top", "--json", "--socket", socket, "--sort", "received")
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 || len(s.Clients) != 2 || s.Clients[0].Key != a.Pub.String() {
		t.Errorf("top --json ended with %d, %v:\n%s", code, err, out)
	}
}

// A relay that works and has something wrong with it is told by the exit status.
func TestStatusOfATroubledRelay(t *testing.T) {
	t.Parallel()
	_, socket := start(t, "--mesh-psk-file", secret(t), "--mesh-with", "127.0.0.1:1")
	deadline := time.Now().Add(patience)
	for {
		code, out, _ := run(t, "status", "--socket", socket)
		if code == 1 && strings.Contains(out, "Not as it should be:\nmesh peer 127.0.0.1:1: ") && strings.Contains(out, "refused") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %d:\n%s", code, out)
		}
	}
}

func secret(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "psk")
	if err := os.WriteFile(path, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKick(t *testing.T) {
	t.Parallel()
	r, socket := start(t)
	priv := key.NewNode()
	first, second, other := wire.LoginAs(t, r, priv), wire.LoginAs(t, r, priv), wire.Login(t, r)
	code, out, errs := run(t, "kick", "--socket", socket, priv.Public().String())
	if code != 0 || !strings.Contains(out, priv.Public().String()+": 2 connections closed") {
		t.Fatalf("kick ended with %d: %s%s", code, out, errs)
	}
	first.WantClosed()
	second.WantClosed()
	other.WantAlive()
	// It is no ban, and each way to name it works.
	for _, name := range []string{priv.Public().ShortString(), priv.Public().UntypedHexString()[:12], strings.ToUpper(priv.Public().UntypedHexString())} {
		again := wire.LoginAs(t, r, priv)
		if code, out, errs := run(t, "kick", "--socket", socket, name); code != 0 || !strings.Contains(out, ": 1 connection closed") {
			t.Errorf("kick %s ended with %d: %s%s", name, code, out, errs)
		}
		again.WantClosed()
	}
	for name, want := range map[string]string{
		priv.Public().String(): "no client is meant by",
		"nodekey:":             "no client is meant by",
		"abc":                  "no client is meant by",
	} {
		if code, _, errs := run(t, "kick", "--socket", socket, name); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("kick %s ended with %d: %s", name, code, errs)
		}
	}
	// For programs.
	var told struct {
		OK          bool
		Key, Error  string
		Connections int
	}
	again := wire.LoginAs(t, r, priv)
	code, out, _ = run(t, "kick", "--json", "--socket", socket, priv.Public().String())
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != 0 || !told.OK || told.Key != priv.Public().String() || told.Connections != 1 {
		t.Errorf("kick --json ended with %d, %v: %s", code, err, out)
	}
	again.WantClosed()
	code, out, errs = run(t, "kick", "--json", "--socket", socket, priv.Public().String())
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != 1 || told.OK || !strings.Contains(told.Error, "no client is meant by") || errs != "" {
		t.Errorf("kick --json of nobody ended with %d, %v: %s%s", code, err, out, errs)
	}
	other.WantAlive()
}

// A word that fits several clients closes none of them.
func TestKickAmbiguous(t *testing.T) {
	t.Parallel()
	allow := filepath.Join(t.TempDir(), "allow")
	a, b := key.NewNode(), key.NewNode()
	text := fmt.Sprintf("%v laptop\n%v laptop\n", a.Public(), b.Public())
	if err := os.WriteFile(allow, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, socket := start(t, "--allow-file", allow)
	ca, cb := wire.LoginAs(t, r, a), wire.LoginAs(t, r, b)
	code, _, errs := run(t, "kick", "--socket", socket, "laptop")
	if code != 1 || !strings.Contains(errs, "may mean 2 clients") || !strings.Contains(errs, a.Public().String()) {
		t.Errorf("kick ended with %d: %s", code, errs)
	}
	ca.WantAlive()
	cb.WantAlive()
	if s := readStatus(t, socket); s.Clients[0].Name != "laptop" {
		t.Errorf("the allow file's name is not told: %+v", s.Clients)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	metrics := fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1"))
	r, socket := start(t, "--metrics-listen", metrics)
	var clients []*wire.Conn
	for range 10 {
		clients = append(clients, wire.Login(t, r))
	}
	r.ExpectEnd()
	begin := time.Now()
	if code, _, errs := run(t, "drain", "--socket", socket, "--over", "2", "--no-wait"); code != 0 {
		t.Fatalf("drain ended with %d: %s", code, errs)
	}
	res, err := http.Get("http://" + metrics + "/readyz")
	body := relay.Body(t, res, err)
	if res.StatusCode != 503 || !strings.Contains(body, "draining") {
		t.Errorf("/readyz says %d, %s", res.StatusCode, body)
	}
	if code, _, errs := run(t, "drain", "--socket", socket); code != 1 || !strings.Contains(errs, "ending already") {
		t.Errorf("a second drain ended with %d: %s", code, errs)
	}
	if code, out, _ := run(t, "drain", "--json", "--socket", socket); code != 1 || !strings.Contains(out, `"ok": false`) || !strings.Contains(out, "ending already") {
		t.Errorf("a second drain --json ended with %d: %s", code, out)
	}
	// Nobody comes in any more.
	deadline := time.Now().Add(patience)
	for {
		c, err := net.Dial("tcp", r.Addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			c.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("connecting still gives %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Each is told, then closed: one after another, which takes the time that was given.
	gone := make(chan error, len(clients))
	for _, c := range clients {
		go func() {
			f, err := c.TryFrame(patience)
			for err == nil && f.Type == wire.KeepAlive {
				f, err = c.TryFrame(patience)
			}
			if err == nil && (f.Type != 0x15 || len(f.Payload) != 8) {
				err = fmt.Errorf("got %v, want Restarting", f)
			}
			if err == nil {
				if _, err = c.TryFrame(patience); errors.Is(err, io.EOF) {
					err = nil
				}
			}
			c.Close()
			gone <- err
		}()
	}
	for range clients {
		if err := <-gone; err != nil {
			t.Error(err)
		}
	}
	if d := time.Since(begin); d < time.Second {
		t.Errorf("all were let go within %v", d)
	}
	select {
	case <-r.Exited():
		if err := r.ExitError(); err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the relay has not ended")
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestDrainWaitsForTheEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		options []string
		want    string
	}{
		{nil, "the relay has ended\n"},
		{[]string{"--json"}, "{\n  \"ok\": true,\n  \"ended\": true\n}\n"},
	} {
		r, socket := start(t)
		r.ExpectEnd()
		code, out, errs := run(t, append([]string{"drain", "--socket", socket, "--over", "0"}, c.options...)...)
		if code != 0 || out != c.want {
			t.Errorf("drain %q ended with %d: %s%s", c.options, code, out, errs)
		}
		<-r.Exited()
	}
}

// What cannot be asked is said with its cause and what mends it, and ends with 2.
func TestCannotAsk(t *testing.T) {
	t.Parallel()
	_, socket := start(t)
	dir := filepath.Dir(socket)
	stale := filepath.Join(dir, "stale")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for _, c := range []struct{ args, want string }{
		{"status --socket " + filepath.Join(dir, "none"), "there is no such socket; start the relay"},
		{"top --once --socket " + stale, "no relay listens there any more"},
		{"kick x --socket " + filepath.Join(dir, "none"), "there is no such socket"},
		{"drain --socket " + stale, "no relay listens there any more"},
		{"top --socket " + socket, "needs a terminal"},
		{"status --socket " + socket + " --sort size", "use one of rate,"},
		{"status --socket " + strings.Repeat("x", 200), "a socket's path has at most 107 bytes"},
		{"drain --socket " + socket + " --over -1", "--over"},
	} {
		code, out, errs := run(t, strings.Fields(c.args)...)
		if code != 2 || !strings.Contains(errs+out, c.want) {
			t.Errorf("%s: ended with %d: %s%s, want %q", c.args, code, out, errs, c.want)
		}
	}
}

// The socket is the service user's and root's alone.
func TestSocketOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("this test has to run as root, to ask as another user")
	}
	_, socket := start(t)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
	const nobody = 65534
	program := filepath.Join(filepath.Dir(socket), "detour")
	binary, err := os.ReadFile(relay.DetourBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	ask := func() (string, error) {
		cmd := exec.Command(program, "status", "--socket", socket)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if err := os.Chmod(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := ask(); err == nil || !strings.Contains(out, "the relay belongs to user 0") {
		t.Errorf("asked as nobody: %v, %s", err, out)
	}
	// Not even when somebody has opened the file to all.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := ask(); err == nil || !strings.Contains(out, "user 65534 may not ask it") {
		t.Errorf("asked as nobody through an open file: %v, %s", err, out)
	}
}

func TestSocketInTheWay(t *testing.T) {
	t.Parallel()
	_, socket := start(t)
	dir := filepath.Dir(socket)
	refused := func(path, want string) {
		t.Helper()
		r := relay.Start(t, relay.Options{Serve: true, NoSTUN: true, NoWait: true, Args: []string{"--control-socket", path}})
		select {
		case <-r.Exited():
		case <-time.After(patience):
			t.Fatalf("%s: the relay runs", path)
		}
		if r.ExitError() == nil || !strings.Contains(r.Log(), want) {
			t.Errorf("%s: the relay ended with %v, want %q in:\n%s", path, r.ExitError(), want, r.Log())
		}
	}
	refused(socket, "another relay that runs has it")
	if s := readStatus(t, socket); s.State != "serving" {
		t.Errorf("the first relay has lost its socket: %+v", s)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(file, "there is a file of another kind")
	refused(filepath.Join(dir, "none", "s"), "make its folder")
	refused(filepath.Join(dir, strings.Repeat("x", 120)), "the path is longer than 107 bytes")

	// What a relay left that was killed is replaced.
	stale := filepath.Join(dir, "stale")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	relay.Start(t, relay.Options{Serve: true, NoSTUN: true, Args: []string{"--control-socket", stale}})
	readStatus(t, stale)
}

// openTerminal gives both ends of a pseudo terminal.
func openTerminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	var unlock int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, ours.Fd(), unix.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlock))); errno != 0 {
		t.Fatal(errno)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	if err := unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 120}); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func TestTopOnATerminal(t *testing.T) {
	t.Parallel()
	r, socket := start(t)
	client := wire.Login(t, r)
	for _, end := range []string{"q", "SIGTERM"} {
		t.Run(end, func(t *testing.T) {
			ours, theirs := openTerminal(t)
			before, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(relay.DetourBinary(t), "top", "--socket", socket, "--period", "0.2")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
			if err := relay.StartBound(cmd); err != nil {
				t.Fatal(err)
			}
			said := make(chan []byte)
			go func() {
				defer close(said)
				for buf := make([]byte, 65536); ; {
					n, err := ours.Read(buf)
					if err != nil {
						return
					}
					said <- bytes.Clone(buf[:n])
				}
			}()
			var all string
			await := func(want string) {
				t.Helper()
				for after := time.After(patience); !strings.Contains(all, want); {
					select {
					case piece := <-said:
						all += string(piece)
					case <-after:
						t.Fatalf("%q does not come:\n%q", want, all)
					}
				}
			}
			await("\x1b[?1049h")
			await("Clients by rate")
			await(client.Pub.ShortString())
			ours.WriteString("d")
			await("Clients by drops")
			if end == "q" {
				ours.WriteString("q")
			} else {
				cmd.Process.Signal(syscall.SIGTERM)
			}
			await("\x1b[?1049l")
			go func() {
				for range said {
				}
			}()
			if err := cmd.Wait(); err != nil {
				t.Errorf("top ended with %v", err)
			}
			after, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal was %+v and is %+v, %v", before, after, err)
			}
		})
	}
}
