// Package packaging_test runs what is shipped beside the program as its users do.
package packaging_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

func unitFile() string {
	return filepath.Join(relay.ModuleDir(), "..", "..", "packaging", "systemd", "detour.service")
}

// settings are the assignments of the unit, by section and name: "Service.ExecStart".
func settings(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(unitFile())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		default:
			name, value, ok := strings.Cut(line, "=")
			if !ok {
				t.Fatalf("%q is no assignment", line)
			}
			if found[section+"."+name] != "" {
				t.Errorf("%s is set twice", name)
			}
			found[section+"."+name] = value
		}
	}
	return found
}

// installed is a copy of the unit whose program is the one under test.
func installed(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(unitFile())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "detour.service")
	text = bytes.ReplaceAll(text, []byte("/usr/bin/detour"), []byte(relay.DetourBinary(t)))
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSystemdUnderstandsTheUnit(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "a systemd unit comes with the program") {
		return
	}
	// What it does not know, or does not find, is on standard error; not all of that is a failure to it.
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", installed(t)).CombinedOutput()
	if err != nil || strings.Contains(string(out), "detour.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err = exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", installed(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no exposure level in\n%s", out)
	}
	if level, _ := strconv.ParseFloat(string(m[1]), 64); level > 2.5 {
		t.Errorf("exposure level %v, want at most 2.5\n%s", level, out)
	}
}

// The unit's command line, with the folders that systemd would give, makes a relay that serves, keeps its
// key in the state folder and its control socket in the runtime folder, and reloads.
func TestTheUnitsCommandRuns(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "a systemd unit comes with the program") {
		return
	}
	unit := settings(t)
	for name, want := range map[string]string{
		"Service.StateDirectory":      "detour",
		"Service.RuntimeDirectory":    "detour",
		"Service.AmbientCapabilities": "CAP_NET_BIND_SERVICE",
		"Service.ExecReload":          "/bin/kill -HUP $MAINPID",
		"Service.Restart":             "on-failure",
		"Install.WantedBy":            "multi-user.target",
	} {
		if unit[name] != want {
			t.Errorf("%s is %q, want %q", name, unit[name], want)
		}
	}
	if n, _ := strconv.Atoi(unit["Service.LimitNOFILE"]); n < 100_000 {
		t.Errorf("LimitNOFILE is %q", unit["Service.LimitNOFILE"])
	}
	args := strings.Fields(unit["Service.ExecStart"])
	if len(args) < 2 || args[0] != "/usr/bin/detour" || args[1] != "serve" {
		t.Fatalf("ExecStart is %q", args)
	}
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "detour.toml")
	for i, arg := range args {
		if arg == "/etc/detour/detour.toml" {
			args[i] = config
		}
	}
	if args[len(args)-1] != config {
		t.Fatalf("ExecStart does not name /etc/detour/detour.toml: %q", args)
	}
	port := relay.FreePort(t, "127.0.0.1")
	write := func(most int) {
		t.Helper()
		text := fmt.Sprintf("hostname = \"127.0.0.1\"\nlisten = \"127.0.0.1:%d\"\nhttp-port = \"off\"\nstun = false\ncontrol-socket = %q\nconnections-max = %d\n",
			port, filepath.Join(dir, "detour.sock"), most)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(100)
	command := func(more ...string) *exec.Cmd {
		cmd := exec.Command(relay.DetourBinary(t), append(args[1:], more...)...)
		cmd.Env = append(relay.CleanEnv(), "STATE_DIRECTORY="+state)
		cmd.Dir = "/"
		return cmd
	}
	if out, err := command("--check").CombinedOutput(); err != nil {
		t.Fatalf("--check: %v\n%s", err, out)
	}

	r := relay.Start(t, relay.Options{
		Dir: dir, Port: port, HTTPPort: -1, NoSTUN: true, NoWait: true, Binary: relay.DetourBinary(t),
		Wrap: []string{"sh", "-c", `program=$0; shift $#; exec "$program" ` + strings.Join(args[1:], " ")},
		Env:  []string{"STATE_DIRECTORY=" + state},
	})
	says := func(text string) {
		t.Helper()
		if !relay.Poll(30*time.Second, func() bool { return strings.Contains(r.Log(), text) }) {
			t.Fatalf("the log does not say %q:\n%s", text, r.Log())
		}
	}
	says("serving on")
	if key, err := relay.PublicKeyOfFile(filepath.Join(state, "relay.key")); err != nil {
		t.Error(err)
	} else {
		r.PublicKey = key
	}
	c := wire.Login(t, r)
	if out, err := exec.Command(relay.DetourBinary(t), "status", "--socket", filepath.Join(dir, "detour.sock")).CombinedOutput(); err != nil {
		t.Errorf("detour status: %v\n%s", err, out)
	}
	write(90)
	r.Signal(syscall.SIGHUP)
	says(`connections-max was "100" and is "90"`)
	c.WantAlive()
}
