// Package parity_test holds the list of what derper has: every flag, frame and endpoint, each as a case of
// its own. A case names the packages whose tests use it, and fails where they do not, or where the program
// under test does not have it. What the metrics are is asked of derper itself: httpstun's parity tests.
package parity_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/world"
)

// In a world of its own all ports are free: -dev has a fixed one.
func TestMain(m *testing.M) { world.Main(m, func() error { return nil }) }

// source is the text of a package's tests.
func source(t *testing.T, pkg string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(relay.ModuleDir(), pkg, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", pkg, err)
	}
	var all strings.Builder
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// uses says whether the tests of a package have the pattern, or the relay that they start does.
func uses(t *testing.T, pkg string, pattern *regexp.Regexp) bool {
	t.Helper()
	if pkg == "relay" {
		b, err := os.ReadFile(filepath.Join(relay.ModuleDir(), "relay", "relay.go"))
		if err != nil {
			t.Fatal(err)
		}
		return pattern.Match(b)
	}
	return pattern.MatchString(source(t, pkg))
}

// flags are all flags of derper v1.102.5 and 1.104, with the packages whose tests set them. "relay" is the
// package that starts the relay for all others.
var flags = map[string][]string{
	"a":                               {"cmdline", "relay"},
	"accept-connection-burst":         {"admission"},
	"accept-connection-limit":         {"admission"},
	"ace":                             {"connect"},
	"acme-eab-key":                    {"acme", "cmdline"},
	"acme-eab-kid":                    {"acme", "cmdline"},
	"acme-email":                      {"acme"},
	"acme-ip-certs":                   {"acme", "cmdline"},
	"bootstrap-dns-names":             {"httpstun"},
	"c":                               {"cmdline", "relay"},
	"certdir":                         {"cmdline", "relay"},
	"certmode":                        {"acme", "cmdline", "httpstun"},
	"derp":                            {"httpstun", "protocol"},
	"dev":                             {"parity"},
	"home":                            {"cmdline", "httpstun"},
	"hostname":                        {"cmdline", "relay"},
	"http-port":                       {"cmdline", "relay"},
	"mesh-psk-file":                   {"cmdline", "mesh", "e2e"},
	"mesh-with":                       {"cmdline", "mesh", "e2e"},
	"rate-config":                     {"admission", "cmdline"},
	"secrets-cache-dir":               {"mesh"},
	"secrets-path-prefix":             {"mesh"},
	"secrets-url":                     {"mesh"},
	"socket":                          {"admission", "e2e"},
	"stun":                            {"cmdline", "httpstun", "relay"},
	"stun-port":                       {"cmdline", "relay"},
	"tcp-keepalive-time":              {"robust"},
	"tcp-user-timeout":                {"cmdline", "robust"},
	"tcp-write-timeout":               {"mesh", "robust"},
	"unpublished-bootstrap-dns-names": {"httpstun"},
	"verify-client-url":               {"admission", "e2e"},
	"verify-client-url-fail-open":     {"admission", "cmdline"},
	"verify-clients":                  {"admission", "cmdline", "e2e"},
	"version":                         {"cmdline"},
}

// helpNames are the flags that the program's own help lists.
func helpNames(t *testing.T, binary string) []string {
	t.Helper()
	cmd := exec.Command(binary, "-h")
	cmd.Env = relay.CleanEnv()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Run()
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(out.String(), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

func TestFlags(t *testing.T) {
	t.Parallel()
	of := map[string][]string{"derper": helpNames(t, relay.DerperBinary(t)), "the program under test": helpNames(t, relay.Binary(t))}
	for program, names := range of {
		if len(names) < 30 {
			t.Fatalf("%s lists only %q", program, names)
		}
	}
	for name, packages := range flags {
		t.Run(name, func(t *testing.T) {
			for program, names := range of {
				if !slices.Contains(names, name) {
					t.Errorf("%s has no -%s", program, name)
				}
			}
			pattern := regexp.MustCompile(`"-{1,2}` + name + `["=]|-` + name + `=`)
			for _, pkg := range packages {
				if !uses(t, pkg, pattern) {
					t.Errorf("no test of %s sets -%s", pkg, name)
				}
			}
		})
	}
	for _, name := range of["derper"] {
		if flags[name] == nil {
			t.Errorf("derper's -%s is not in this list", name)
		}
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	for name, packages := range map[string][]string{
		"ServerKey":     {"protocol"},
		"ClientInfo":    {"protocol"},
		"ServerInfo":    {"protocol"},
		"SendPacket":    {"protocol", "robust"},
		"RecvPacket":    {"protocol", "robust"},
		"KeepAlive":     {"protocol"},
		"NotePreferred": {"protocol"},
		"PeerGone":      {"protocol", "mesh"},
		"PeerPresent":   {"mesh"},
		"ForwardPacket": {"mesh"},
		"WatchConns":    {"mesh"},
		"ClosePeer":     {"mesh"},
		"Ping":          {"protocol"},
		"Pong":          {"protocol"},
		"Health":        {"protocol", "admission"},
		"Restarting":    {"protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pkg := range packages {
				if !uses(t, pkg, regexp.MustCompile(`wire\.`+name+`\b`)) {
					t.Errorf("no test of %s has the frame", pkg)
				}
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for path, packages := range map[string][]string{
		"/":                            {"httpstun"},
		"/robots.txt":                  {"httpstun"},
		"/generate_204":                {"httpstun", "derpclient"},
		"/derp":                        {"protocol", "httpstun"},
		"/derp/probe":                  {"httpstun", "protocol"},
		"/derp/latency-check":          {"httpstun"},
		"/bootstrap-dns":               {"httpstun"},
		"/debug/":                      {"httpstun", "access"},
		"/debug/vars":                  {"httpstun"},
		"/debug/varz":                  {"httpstun"},
		"/debug/check":                 {"httpstun"},
		"/debug/traffic":               {"httpstun"},
		"/debug/clients/":              {"httpstun"},
		"/.well-known/acme-challenge/": {"httpstun"},
		"CONNECT":                      {"connect", "httpstun"},
	} {
		t.Run(path, func(t *testing.T) {
			for _, pkg := range packages {
				if !strings.Contains(source(t, pkg), path) {
					t.Errorf("no test of %s asks for it", pkg)
				}
			}
		})
	}
}

// variables are what the widespread container images of derper read, and the setting that each means.
var variables = map[string]struct{ setting, text, value string }{
	"DERP_DOMAIN":            {"hostname", "derp.interop.test", "derp.interop.test"},
	"DERP_HOSTNAME":          {"hostname", "derp.interop.test", "derp.interop.test"},
	"DERP_HOST":              {"hostname", "derp.interop.test", "derp.interop.test"},
	"DERP_CERT_MODE":         {"cert-mode", "letsencrypt", "letsencrypt"},
	"DERP_CERTMODE":          {"cert-mode", "letsencrypt", "letsencrypt"},
	"DERP_CERT_DIR":          {"cert-dir", "/app/certs", "/app/certs"},
	"DERP_CERTS":             {"cert-dir", "/app/certs", "/app/certs"},
	"DERP_ADDR":              {"listen", ":8443", ":8443"},
	"DERP_PORT_HTTPS":        {"listen", "8443", ":8443"},
	"DERP_HTTP_PORT":         {"http-port", "8080", "8080"},
	"DERP_PORT_HTTP":         {"http-port", "8080", "8080"},
	"DERP_STUN":              {"stun", "false", "false"},
	"DERP_ENABLE_STUN":       {"stun", "false", "false"},
	"DERP_STUN_PORT":         {"stun-port", "3479", "3479"},
	"DERP_PORT_STUN":         {"stun-port", "3479", "3479"},
	"DERP_VERIFY_CLIENTS":    {"verify-clients", "true", "true"},
	"DERP_VERIFY_CLIENT_URL": {"verify-client-url", "https://a.interop.test/verify", "[https://a.interop.test/verify]"},
}

// Each of them counts more than the file and less than the option.
func TestVariablesOfTheContainerImages(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "settings come from the environment and from a file") {
		return
	}
	type setting struct {
		Value  any
		From   string
		Source string
	}
	config := func(t *testing.T, env []string, args ...string) map[string]setting {
		t.Helper()
		cmd := exec.Command(relay.DetourBinary(t), append([]string{"config", "--json"}, args...)...)
		cmd.Env = append(append(relay.CleanEnv(), "HOME=/nonexistent"), env...)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, errOut.String())
		}
		all := map[string]setting{}
		if err := json.Unmarshal(out, &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	// Other values of all of them.
	other := map[string][2]string{ // in the file, as an option
		"hostname": {`"file.interop.test"`, "option.interop.test"}, "cert-mode": {`"gcp"`, "manual"}, "cert-dir": {`"/file"`, "/option"},
		"listen": {`":1"`, ":2"}, "http-port": {"1", "2"}, "stun": {"true", "true"}, "stun-port": {"1", "2"}, "verify-clients": {"false", "false"},
		"verify-client-url": {`"https://file.interop.test"`, "https://option.interop.test"},
	}
	for name, v := range variables {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := []string{"--acme-email=x@interop.test", "--acme-eab-kid=x", "--acme-eab-key=eA"}
			if v.setting != "hostname" {
				base = append(base, "--hostname=base.interop.test")
			}
			file := filepath.Join(t.TempDir(), "relay.toml")
			if err := os.WriteFile(file, []byte(v.setting+" = "+other[v.setting][0]+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			base = append(base, "--config", file)
			if got := config(t, nil, base...)[v.setting]; got.From != "file" {
				t.Errorf("without the variable: %+v", got)
			}
			if got := config(t, []string{name + "=" + v.text}, base...)[v.setting]; fmt.Sprint(got.Value) != v.value || got.From != "environment" || got.Source != "environment variable "+name {
				t.Errorf("%s=%s: %+v, want %s", name, v.text, got, v.value)
			}
			got := config(t, []string{name + "=" + v.text}, append(base, "--"+v.setting+"="+other[v.setting][1])...)[v.setting]
			if got.From != "flag" || fmt.Sprint(got.Value) == v.value {
				t.Errorf("with the option: %+v", got)
			}
		})
	}
}

// In development the address is fixed, TLS is off, and no key is kept.
func TestDevelopmentMode(t *testing.T) {
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "derper.key")
	cmd := exec.Command(relay.Binary(t), "-dev", "-c", keyFile, "-hostname", "127.0.0.1", "-a", "127.0.0.1:1", "-stun=false", "-http-port", "-1")
	cmd.Env = append(relay.CleanEnv(), "HOME="+dir)
	cmd.Dir = dir
	relay.Background(t, cmd)
	c := &http.Client{Timeout: 10 * time.Second}
	var status int
	if !relay.Poll(30*time.Second, func() bool {
		res, err := c.Get("http://127.0.0.1:3340/derp/probe")
		if err != nil {
			return false
		}
		res.Body.Close()
		status = res.StatusCode
		return true
	}) || status != 200 {
		t.Fatalf("status %d from port 3340, want 200", status)
	}
	if _, err := os.Stat(keyFile); err == nil {
		t.Errorf("a key was written to %s", keyFile)
	}
	cmd.Process.Signal(syscall.SIGTERM)
}
