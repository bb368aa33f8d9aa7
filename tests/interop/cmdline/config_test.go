package cmdline_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

// detour runs a subcommand of Detour under its own name.
func detour(t *testing.T, env []string, args ...string) result {
	t.Helper()
	return runBinary(t, relay.DetourBinary(t), t.TempDir(), env, args...)
}

// ownSettings are settings for `detour serve` in dir, as relay.Start expects them, with the ports.
func ownSettings(t *testing.T, dir string) (map[string]string, relay.Options) {
	t.Helper()
	o := relay.Options{Dir: dir, Port: relay.FreePort(t, "127.0.0.1"), HTTPPort: relay.FreePort(t, "127.0.0.1"), STUNPort: relay.FreePort(t, "127.0.0.1")}
	return map[string]string{
		"addr":      fmt.Sprintf("127.0.0.1:%d", o.Port),
		"http-port": fmt.Sprint(o.HTTPPort),
		"stun-port": fmt.Sprint(o.STUNPort),
		"key-file":  filepath.Join(dir, "derper.key"),
		"cert-dir":  filepath.Join(dir, "certs"),
	}, o
}

// asServe makes relay.Start run `detour serve` with these options alone.
func asServe(t *testing.T, o relay.Options, options string, env ...string) relay.Options {
	o.Binary = relay.DetourBinary(t)
	o.Wrap = []string{"sh", "-c", `exec "$0" serve ` + options}
	o.Env = env
	return o
}

// The variables of the container images of derper start the same relay as the flags do.
func TestServeFromTheEnvironmentOfAContainer(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "settings come from the environment and from a file") {
		return
	}
	dir := t.TempDir()
	s, o := ownSettings(t, dir)
	for _, env := range [][]string{
		{"DERP_DOMAIN=127.0.0.1", "DERP_CERT_MODE=manual", "DERP_CERT_DIR=" + s["cert-dir"], "DERP_ADDR=" + s["addr"],
			"DERP_HTTP_PORT=" + s["http-port"], "DERP_STUN=true", "DERP_STUN_PORT=" + s["stun-port"], "DERP_VERIFY_CLIENTS=false",
			"DERP_VERIFY_CLIENT_URL=", "DETOUR_KEY_FILE=" + s["key-file"]},
		{"DERP_HOST=127.0.0.1", "DERP_CERTMODE=manual", "DERP_CERTS=" + s["cert-dir"], "DERP_ADDR=" + s["addr"],
			"DERP_PORT_HTTP=" + s["http-port"], "DERP_ENABLE_STUN=1", "DERP_PORT_STUN=" + s["stun-port"], "DERP_KEY_FILE=" + s["key-file"]},
	} {
		r := relay.Start(t, asServe(t, o, "", env...))
		wire.Login(t, r).WantAlive()
		r.Stop()
	}
}

// A file starts a relay; SIGHUP takes over what can change, says what cannot, and ends nobody.
func TestServeFromAFileAndReloadIt(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "settings come from the environment and from a file") {
		return
	}
	dir := t.TempDir()
	s, o := ownSettings(t, dir)
	file := filepath.Join(dir, "relay.toml")
	write := func(more string) {
		t.Helper()
		text := fmt.Sprintf("listen = %q\nhttp-port = %s\nstun-port = %s\nkey-file = %q\ncert-dir = %q\n", s["addr"], s["http-port"], s["stun-port"], s["key-file"], s["cert-dir"])
		if err := os.WriteFile(file, []byte(text+more), 0600); err != nil {
			t.Fatal(err)
		}
	}
	write("connections-max = 100\nworkers = 1\n")
	r := relay.Start(t, asServe(t, o, "--config relay.toml"))
	c := wire.Login(t, r)
	reload := func(want ...string) {
		t.Helper()
		r.Signal(syscall.SIGHUP)
		if !relay.Poll(30*time.Second, func() bool {
			return !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(r.Log(), s) })
		}) {
			t.Fatalf("the log does not say all of %q", want)
		}
		c.WantAlive()
	}
	write("connections-max = 90\nworkers = 2\n")
	reload(`connections-max was "100" and is "90"`, `workers was "1" and is "2" now: that needs a restart`)
	write("conections-max = 80\n")
	reload("relay.toml line 6: unknown key conections-max: did you mean connections-max?", "nothing was changed")
	write("connections-max = 70\nworkers = 1\n")
	reload(`connections-max was "90" and is "70"`)
	wire.Login(t, r).WantAlive()
}

// The listener for monitoring serves what Prometheus and an orchestrator need, and nothing else.
func TestMetricsListener(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "settings come from the environment and from a file") {
		return
	}
	dir := t.TempDir()
	s, o := ownSettings(t, dir)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("opensesame\n"), 0600); err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1"))
	r := relay.Start(t, asServe(t, o, "", "DERP_DOMAIN=127.0.0.1", "DERP_ADDR="+s["addr"], "DERP_HTTP_PORT="+s["http-port"],
		"DERP_STUN_PORT="+s["stun-port"], "DERP_CERT_DIR="+s["cert-dir"], "DETOUR_KEY_FILE="+s["key-file"],
		"DETOUR_METRICS_LISTEN="+listen, "DETOUR_METRICS_TOKEN_FILE="+token))
	wire.Login(t, r).WantAlive()
	get := func(path, authorization string) (int, string, http.Header) {
		t.Helper()
		req, _ := http.NewRequest("GET", "http://"+listen+path, nil)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		res, err := http.DefaultClient.Do(req)
		body := relay.Body(t, res, err)
		return res.StatusCode, body, res.Header
	}
	for _, c := range []struct {
		path, authorization string
		status              int
		says                string
	}{
		{"/metrics", "", 401, "bearer token"},
		{"/metrics", "Bearer wrong", 401, "bearer token"},
		{"/metrics", "Bearer opensesame", 200, "derp_current_connections 1\n"},
		{"/healthz", "", 200, "ok\n"},
		{"/readyz", "", 200, "ok\n"},
		{"/debug/varz", "Bearer opensesame", 404, ""},
		{"/derp", "", 404, ""},
	} {
		if status, body, _ := get(c.path, c.authorization); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s with %q: status %d, want %d and %q in:\n%s", c.path, c.authorization, status, c.status, c.says, body)
		}
	}
	_, body, header := get("/metrics", "Bearer opensesame")
	if got := header.Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	if samples := relay.ParseVarz(t, body); len(samples) < 100 {
		t.Errorf("/metrics has %d samples", len(samples))
	}
}

func TestConfigPrintsEveryValueAndItsSource(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "settings come from the environment and from a file") {
		return
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "relay.toml")
	if err := os.WriteFile(file, []byte("stun-port = 5\n"), 0600); err != nil {
		t.Fatal(err)
	}
	secret := strings.Repeat("ab", 32)
	env := []string{"DERP_HTTP_PORT=8080", "DETOUR_MESH_KEY=" + secret, "DETOUR_CONFIG=" + file}
	r := detour(t, env, "config", "--json", "--hostname", "relay.interop.test")
	var all map[string]struct {
		Value  any
		From   string
		Source string
		Secret bool
		Set    bool
	}
	if err := json.Unmarshal([]byte(r.out), &all); err != nil || r.status != 0 {
		t.Fatalf("status %d, %v, stderr %q, stdout:\n%s", r.status, err, r.errOut, r.out)
	}
	for name, want := range map[string]struct {
		value  any
		from   string
		source string
	}{
		"hostname":  {"relay.interop.test", "flag", "option --hostname"},
		"http-port": {8080.0, "environment", "environment variable DERP_HTTP_PORT"},
		"stun-port": {5.0, "file", file + " line 1"},
		"stun":      {true, "default", "default"},
		"mesh-with": {[]any{}, "default", "default"},
	} {
		if got := all[name]; fmt.Sprint(got.Value) != fmt.Sprint(want.value) || got.From != want.from || got.Source != want.source {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	if key := all["mesh-key"]; !key.Secret || !key.Set || key.Value != nil {
		t.Errorf("mesh-key is %+v, want a secret that is set", key)
	}

	toml := detour(t, env, "config", "--hostname", "relay.interop.test")
	if strings.Contains(r.out+r.errOut+toml.out+toml.errOut, secret) {
		t.Error("the mesh key was printed")
	}
	// What it prints is a file that means the same.
	if err := os.WriteFile(file, []byte(toml.out), 0600); err != nil {
		t.Fatal(err)
	}
	var again map[string]struct{ Value any }
	r = detour(t, nil, "config", "--json", "--config", file)
	if err := json.Unmarshal([]byte(r.out), &again); err != nil {
		t.Fatalf("%v, stderr %q", err, r.errOut)
	}
	for name, v := range all {
		if fmt.Sprint(again[name].Value) != fmt.Sprint(v.Value) {
			t.Errorf("read back, %s is %v, want %v", name, again[name].Value, v.Value)
		}
	}
}

func TestServeCheckSaysWhetherItCouldRun(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "settings come from the environment and from a file") {
		return
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	state := []string{"--key-file", filepath.Join(dir, "k"), "--cert-dir", filepath.Join(dir, "c")}
	cases := []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"nothing is there yet", []string{"--hostname", "127.0.0.1"}, 0, "will be made"},
		{"no certificate for a name", []string{"--hostname", "relay.interop.test"}, 1, "relay.interop.test.crt"},
		{"a key file without a key", []string{"--hostname", "127.0.0.1", "--key-file", write("bad", "{}")}, 1, "bad"},
		{"a certificate that is none", []string{"--hostname", "127.0.0.1", "--cert", write("no.pem", "hello")}, 1, "no.pem"},
		{"a file that is not there", []string{"--hostname", "127.0.0.1", "--allow-file", filepath.Join(dir, "nobody")}, 1, "nobody"},
		{"a mesh key that is none", []string{"--hostname", "127.0.0.1", "--mesh-psk-file", write("psk", "abc")}, 1, "psk"},
		{"a rate config that is none", []string{"--hostname", "127.0.0.1", "--rate-config", write("rate.json", "{")}, 1, "rate.json"},
		{"settings that do not go together", []string{"--hostname", "127.0.0.1", "--proxy-protocol"}, 1, "--trusted-proxies"},
		{"a key in a folder that cannot be made", []string{"--hostname", "127.0.0.1", "--key-file", filepath.Join(write("file", ""), "k")}, 1, "relay key"},
	}
	for _, c := range cases {
		r := detour(t, nil, append(append([]string{"serve", "--check"}, state...), c.args...)...)
		if r.status != c.status || !strings.Contains(r.out+r.errOut, c.says) {
			t.Errorf("%s: status %d, want %d and %q in:\n%s%s", c.name, r.status, c.status, c.says, r.out, r.errOut)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "[kc]")); len(left) != 0 {
		t.Errorf("--check made %q", left)
	}
}

// -rate-config is read again on SIGHUP; a bad file is reported and the old limits stay.
func TestSIGHUPReloadsTheRateConfig(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rate.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"PerClientRateLimitBytesPerSec": 1000000, "PerClientRateBurstBytes": 200000}`)
	r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-rate-config", file}})
	c := wire.Login(t, r)
	const rate = "derp.rate_limit_per_client_bytes_per_second"
	if got := r.WantVar(t, rate, 1000000); got != 1000000 {
		t.Fatalf("%s is %v at start", rate, got)
	}
	write(`{"PerClientRateLimitBytesPerSec": 2000000}`)
	r.Signal(syscall.SIGHUP)
	if got := r.WantVar(t, rate, 2000000); got != 2000000 {
		t.Errorf("%s is %v after SIGHUP", rate, got)
	}
	write(`{"PerClientRateLimitBytesPerSec": -1}`)
	logged := len(r.Log())
	r.Signal(syscall.SIGHUP)
	if !relay.Poll(30*time.Second, func() bool {
		return strings.Count(r.Log()[logged:], "rate") >= 2 || strings.Contains(r.Log()[logged:], "rate.json")
	}) {
		t.Errorf("the bad file is not reported:\n%s", r.Log()[logged:])
	}
	if got := r.Var(t, rate); got != 2000000 {
		t.Errorf("%s is %v after a bad file, want the old limit", rate, got)
	}
	c.WantAlive()
}
