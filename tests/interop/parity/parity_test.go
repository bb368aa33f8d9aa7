// Package parity_test holds the list of what derper has: every flag, frame and endpoint, each as a case of
// its own. A case names the packages whose tests use it, and fails where they do not, or where the program
// under test does not have it. What the metrics are is asked of derper itself: httpstun's parity tests.
package parity_test

import (
	"bytes"
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

// In development the address is fixed, TLS is off, and no key is kept.
func TestDevelopmentMode(t *testing.T) {
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "derper.key")
	cmd := exec.Command(relay.Binary(t), "-dev", "-c", keyFile, "-hostname", "127.0.0.1", "-a", "127.0.0.1:1", "-stun=false", "-http-port", "-1")
	cmd.Env = append(relay.CleanEnv(), "HOME="+dir)
	cmd.Dir = dir
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := relay.StartBound(cmd); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()
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
