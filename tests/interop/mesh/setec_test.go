package mesh_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"github.com/tailscale/setec/setectest"
)

const secretName = "prod/derp/meshkey"

// secrets is a real setec server.
type secrets struct {
	*httptest.Server
	db    *setectest.DB
	asked atomic.Int64
	away  atomic.Bool // it answers with 503 then
}

func startSetec(t *testing.T) *secrets {
	t.Helper()
	s := &secrets{db: setectest.NewDB(t, nil)}
	real := setectest.NewServer(t, s.db, nil)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.away.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		real.Mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// put makes a value the active one.
func (s *secrets) put(t *testing.T, value string) {
	t.Helper()
	version := s.db.MustPut(s.db.Superuser, secretName, value)
	s.db.MustActivate(s.db.Superuser, secretName, version)
}

// hasMeshKey says whether a connection with this key may watch.
func hasMeshKey(t *testing.T, r *relay.Relay, meshKey string) bool {
	t.Helper()
	c := wire.Dial(t, r)
	c.Login(meshInfo(meshKey))
	c.Put(wire.Encode(wire.WatchConns))
	_, err := c.TryFrame(timeout)
	return err == nil
}

func TestMeshKeyFromSetec(t *testing.T) {
	t.Parallel()
	s := startSetec(t)
	first, second := newMeshKey(), newMeshKey()
	s.put(t, first)
	dir := t.TempDir()
	cache := filepath.Join(dir, "below", "secrets")
	args := func(more ...string) []string {
		return append([]string{"-secrets-url", s.URL + "/", "-secrets-cache-dir", cache}, more...)
	}
	// It goes before the file.
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: args("-mesh-psk-file", writeKey(t, newMeshKey()), "-mesh-with", "127.0.0.1:1")})
	if !hasMeshKey(t, r, first) {
		t.Error("the key of the server is not that of the relay")
	}
	if hasMeshKey(t, r, second) {
		t.Error("another key is taken for it")
	}
	r.Stop()
	if st, err := os.Stat(cache); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the cache: %v, %v", st, err)
	}
	if st, err := os.Stat(filepath.Dir(cache)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("its folder: %v, %v", st, err)
	}
	var kept map[string]struct {
		Secret struct {
			Value   []byte
			Version int
		} `json:"secret"`
		LastAccess int64 `json:"lastAccess,string"`
	}
	b, err := os.ReadFile(cache)
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if e := kept[secretName]; err != nil || string(e.Secret.Value) != first || e.Secret.Version != 1 || e.LastAccess < time.Now().Add(-time.Hour).Unix() {
		t.Errorf("the cache holds %s, %v", b, err)
	}

	// While the server is away, each server goes on with what the other one kept.
	s.away.Store(true)
	for _, binary := range []string{relay.DerperBinary(t), relay.DetourAsDerper(t)} {
		other := relay.Start(t, relay.Options{NoSTUN: true, Binary: binary, Args: args()})
		if !hasMeshKey(t, other, first) {
			t.Error("the key in the cache is not used")
		}
		other.Stop()
	}
	s.away.Store(false)
	if !relay.DetourOnly(t, "a new mesh key is fetched although an old one is kept") {
		return
	}
	// With the version that it has, the server is asked for a change.
	before := s.asked.Load()
	same := relay.Start(t, relay.Options{NoSTUN: true, Args: args()})
	if !hasMeshKey(t, same, first) || s.asked.Load() != before+1 {
		t.Errorf("the server was asked %d times, want once", s.asked.Load()-before)
	}
	s.put(t, second)
	next := relay.Start(t, relay.Options{NoSTUN: true, Args: args()})
	if !hasMeshKey(t, next, second) {
		t.Error("the new key is not used")
	}
}

func TestSetecThatComesLater(t *testing.T) {
	t.Parallel()
	s := startSetec(t)
	meshKey := newMeshKey()
	s.put(t, meshKey)
	s.away.Store(true)
	r := relay.Start(t, relay.Options{NoSTUN: true, NoWait: true, Args: []string{"-secrets-url", s.URL, "-secrets-cache-dir", filepath.Join(t.TempDir(), "secrets")}})
	if !relay.Poll(timeout+relay.Slack, func() bool { return s.asked.Load() >= 2 }) {
		t.Fatal("the server is not asked again")
	}
	s.away.Store(false)
	r.WaitForKey(t)
	if !relay.Poll(timeout+relay.Slack, func() bool { _, _, err := r.Get("/derp/probe"); return err == nil }) {
		t.Fatal("the relay does not come up")
	}
	if !hasMeshKey(t, r, meshKey) {
		t.Error("the key of the server is not that of the relay")
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "a setec server without the mesh key is an error") {
		return
	}
	s := startSetec(t)
	for name, c := range map[string]struct {
		value, want string
		args        []string
	}{
		"no such secret":  {"", "has no secret other/meshkey: put it there (setec put other/meshkey), or set -secrets-path-prefix", []string{"-secrets-path-prefix", "other"}},
		"no mesh key":     {"short", "the secret prod/derp/meshkey of " + s.URL + ": has 5 characters", nil},
		"no setec server": {"", "its answer is not that of a setec server", []string{"-secrets-url", jsonServer(t)}},
	} {
		if c.value != "" {
			s.put(t, c.value)
		}
		r := relay.Start(t, relay.Options{NoSTUN: true, NoWait: true, Args: append([]string{"-secrets-url", s.URL, "-secrets-cache-dir", filepath.Join(t.TempDir(), "secrets")}, c.args...)})
		select {
		case <-r.Exited():
		case <-time.After(timeout + relay.Slack):
			t.Errorf("%s: it runs on", name)
		}
		if !strings.Contains(r.Log(), c.want) {
			t.Errorf("%s: the log lacks %q:\n%s", name, c.want, r.Log())
		}
	}
}

// jsonServer answers everything with some JSON.
func jsonServer(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(`{"hello":1}`)) }))
	t.Cleanup(s.Close)
	return s.URL
}
