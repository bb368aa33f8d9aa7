package admission_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// answer is what a fake source says about a key.
type answer struct {
	status int
	body   string
	wait   <-chan struct{} // answer only then
	header http.Header
}

// source is a fake tailscaled or a fake admission controller: it keeps what it was asked.
type source struct {
	mu      sync.Mutex
	answer  func(k string) answer // by "nodekey:..."
	asked   []request
	socket  string // of a fake tailscaled
	server  *httptest.Server
	changed chan struct{}
}

type request struct {
	Method, Target, Host, Body string
	Header                     http.Header
}

const (
	whoisYes   = `{"Node":{"ID":1,"Name":"a.example."},"UserProfile":{"ID":2},"CapMap":null}`
	allowYes   = `{"Allow":true}`
	allowNo    = `{"Allow":false}`
	notInMap   = "no match for IP:port\n"
	askTimeout = 5 * time.Second // of admission controllers
)

func always(status int, body string) func(string) answer {
	return func(string) answer { return answer{status: status, body: body} }
}

func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	k := r.FormValue("addr")
	if k == "" {
		var req struct{ NodePublic string }
		json.Unmarshal(body, &req)
		k = req.NodePublic
	}
	s.mu.Lock()
	s.asked = append(s.asked, request{r.Method, r.RequestURI, r.Host, string(body), r.Header.Clone()})
	f := s.answer
	s.mu.Unlock()
	a := f(k)
	if a.wait != nil {
		select {
		case <-a.wait:
		case <-r.Context().Done():
			return
		}
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	io.WriteString(w, a.body)
}

// set changes what the source says.
func (s *source) set(f func(string) answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *source) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request{}, s.asked...)
}

// newController starts an admission controller.
func newController(t testing.TB, f func(string) answer) *source {
	t.Helper()
	s := &source{answer: f}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.stop)
	return s
}

// newTailscaled starts a LocalAPI on a socket in a new directory.
func newTailscaled(t testing.TB, f func(string) answer) *source {
	t.Helper()
	// Not t.TempDir(): with the test's name in it the path of the socket would be too long.
	dir, err := os.MkdirTemp("", "adm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &source{answer: f, socket: filepath.Join(dir, "tailscaled.sock")}
	t.Cleanup(s.stop)
	s.listen(t)
	return s
}

func (s *source) listen(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewUnstartedServer(s)
	s.server.Listener.Close()
	s.server.Listener = l
	s.server.Start()
}

func (s *source) stop() {
	if s.server == nil {
		return
	}
	s.server.CloseClientConnections()
	s.server.Close()
	s.server = nil
}

// dial makes a connection that has sent everything up to ClientInfo and read ServerKey.
func dial(t testing.TB, r *relay.Relay, priv key.NodePrivate, info string) *wire.Conn {
	t.Helper()
	c := wire.Dial(t, r)
	c.Priv, c.Pub = priv, priv.Public()
	c.Put(wire.FastHead(), c.Info(info))
	c.Want(wire.ServerKey, wire.Magic, wire.Raw(c.Server))
	return c
}

// wantAdmitted waits until a connection is let in.
func wantAdmitted(t testing.TB, c *wire.Conn) {
	t.Helper()
	if err := c.ReadServerInfo(); err != nil {
		t.Fatalf("want the client let in: %v", err)
	}
	c.WantAlive()
}

// wantRefused waits until a connection is closed without ServerInfo. Detour says why before, in a
// Health frame.
func wantRefused(t testing.TB, c *wire.Conn) {
	t.Helper()
	if relay.DetourOnly(t, "a refused client is told why") {
		f := c.Frame()
		if f.Type != wire.Health || !strings.Contains(string(f.Payload), "this relay") {
			t.Fatalf("want a Health frame, got %v", f)
		}
	}
	c.WantClosed()
}

// start starts a relay that checks its clients.
func start(t testing.TB, args ...string) *relay.Relay {
	t.Helper()
	return relay.Start(t, relay.Options{NoSTUN: true, Args: args})
}

func wantLog(t testing.TB, r *relay.Relay, text string) {
	t.Helper()
	if !relay.Poll(30*time.Second, func() bool { return strings.Contains(r.Log(), text) }) {
		t.Errorf("the log does not say %q", text)
	}
}

// tryLogin is one attempt to log in with a key.
func tryLogin(t testing.TB, r *relay.Relay, priv key.NodePrivate) bool {
	t.Helper()
	c := dial(t, r, priv, wire.DefaultInfo)
	defer c.Close()
	return c.ReadServerInfo() == nil
}

// exchange sends a packet from a to b.
func exchange(t testing.TB, a, b *wire.Conn) {
	t.Helper()
	packet := append([]byte{4}, bytes.Repeat([]byte("x"), 99)...)
	a.Send(b.Pub, packet)
	b.Want(wire.RecvPacket, wire.Raw(a.Pub), packet)
}

func keyText(k key.NodePublic) string { return fmt.Sprint(k.String()) }
