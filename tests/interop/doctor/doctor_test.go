// Package doctor_test builds the failing situations of docs/troubleshooting.md on the loopback
// interface and looks whether `detour doctor` names each of them, and nothing else.
package doctor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// finding is one line of a report.
type finding struct {
	State, Code, Fault, Check, Cause, Fix string
}

func (f finding) String() string {
	return fmt.Sprintf("%s %s %s: %s", f.State, f.Code, f.Fault, f.Cause)
}

// id is what tests compare: code and fault.
func (f finding) id() string { return f.Code + " " + f.Fault }

type report struct {
	OK       bool
	Status   int
	Failed   int
	Warnings int
	Sections []struct {
		Title       string
		Findings    []finding
		Attachments []struct{ Name, Text string }
	}

	exit int
	text string
}

func (r *report) all() []finding {
	var all []finding
	for _, s := range r.Sections {
		all = append(all, s.Findings...)
	}
	return all
}

// ids gives code and fault of all findings of that state, sorted.
func (r *report) ids(state string) []string {
	ids := []string{}
	for _, f := range r.all() {
		if f.State == state {
			ids = append(ids, f.id())
		}
	}
	slices.Sort(ids)
	return ids
}

func (r *report) has(state, id string) bool { return slices.Contains(r.ids(state), id) }

// runCommand runs a subcommand of Detour with a bound on its time and gives both outputs and the
// exit status.
func runCommand(t testing.TB, env []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, relay.DetourBinary(t), args...)
	cmd.Env = append(relay.CleanEnv(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exitErr *exec.ExitError
	if err != nil && !errors.As(err, &exitErr) {
		t.Fatalf("detour %q: %v", args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("detour %q took more than a minute:\n%s%s", args, out.String(), errOut.String())
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// doctor runs `detour doctor ARGS --json`.
func doctor(t testing.TB, args ...string) *report {
	t.Helper()
	return doctorWithEnv(t, nil, args...)
}

func doctorWithEnv(t testing.TB, env []string, args ...string) *report {
	t.Helper()
	out, errOut, exit := runCommand(t, env, append([]string{"doctor", "--json"}, args...)...)
	r := &report{exit: exit, text: out}
	if err := json.Unmarshal([]byte(out), r); err != nil {
		t.Fatalf("detour doctor %q: exit status %d, no JSON: %v\n%s\n%s", args, exit, err, out, errOut)
	}
	if r.Status != exit || r.OK != (exit == 0) {
		t.Errorf("exit status %d, but status %d and ok %v in the JSON", exit, r.Status, r.OK)
	}
	for _, f := range r.all() {
		if (f.State == "FAIL" || f.State == "WARN") && f.Cause == "" {
			t.Errorf("%v: no cause", f)
		}
	}
	return r
}

// expect are the findings that a situation has to bring. Every failure and warning has to be listed;
// what is informative may come along.
type expect struct {
	fail, warn []string // "D06 leaf-only"
	info       []string // at least these
	pass       []string // codes that have to pass
}

// openRelay is the warning that any relay without admission brings.
const openRelay = "D21 open-and-indexable"

func (r *report) want(t testing.TB, e expect) {
	t.Helper()
	warn := slices.DeleteFunc(r.ids("WARN"), func(id string) bool { return id == openRelay })
	check := func(state string, got, want []string) {
		t.Helper()
		want = slices.Sorted(slices.Values(want))
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", state, got, want)
		}
	}
	check("FAIL", r.ids("FAIL"), e.fail)
	check("WARN", warn, e.warn)
	for _, id := range e.info {
		if !r.has("INFO", id) {
			t.Errorf("no INFO %s", id)
		}
	}
	for _, code := range e.pass {
		if !r.has("PASS", code+" ") {
			t.Errorf("no PASS %s", code)
		}
	}
	wantExit := 0
	if len(r.ids("WARN")) > 0 {
		wantExit = 1
	}
	if len(e.fail) > 0 {
		wantExit = 2
	}
	if r.exit != wantExit {
		t.Errorf("exit status %d, want %d", r.exit, wantExit)
	}
	if t.Failed() {
		for _, f := range r.all() {
			t.Log(f)
		}
	}
}

// everyLayer are the codes that a healthy relay passes from outside.
var everyLayer = []string{"D04", "D08", "D09", "D13", "D15", "D16", "D18", "D19", "D22"}

func TestAHealthyRelayHasNoFault(t *testing.T) {
	t.Parallel()
	t.Run("with a pin", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{})
		doctor(t, target(r.Addr), "--stun-port", port(r.STUNAddr), "--pin", r.Pin, "--http-port",
			port(r.HTTPAddr)).want(t, expect{
			pass: append([]string{"D10", "D24"}, everyLayer...),
			info: []string{"D11 pin"},
		})
	})
	t.Run("with a name and an authority", func(t *testing.T) {
		t.Parallel()
		ca, r := namedRelay(t)
		dns := serveDNS(t, records{"derp.example.test": {"127.0.0.1"}})
		doctor(t, "https://derp.example.test:"+port(r.Addr), "--stun-port", port(r.STUNAddr),
			"--authorities", write(t, "ca.pem", ca.PEM), "--resolver", dns).want(t, expect{
			pass: append([]string{"D06", "D07", "D12"}, everyLayer...),
		})
	})
	t.Run("out of a map", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{})
		b, err := json.Marshal(r.DERPMap(901))
		if err != nil {
			t.Fatal(err)
		}
		file := write(t, "map.json", string(b))
		alone := expect{pass: append([]string{"D10"}, everyLayer...), warn: []string{"D25 single-node"}}
		doctor(t, "--map", file).want(t, alone)
		doctor(t, "--map", file, "--region", "901").want(t, alone)
		// The map knows the pin and the STUN port.
		doctor(t, target(r.Addr), "--map", file).want(t, alone)
	})
	t.Run("all nodes of a map", func(t *testing.T) {
		t.Parallel()
		a, b := relay.Start(t, relay.Options{}), relay.Start(t, relay.Options{})
		m := a.DERPMap(900)
		m.OmitDefaultRegions = false
		m.Regions[901] = b.Region(901)
		m.Regions[901].RegionCode, m.Regions[901].RegionName = "other", "Other"
		file := mapFile(t, m)
		r := doctor(t, "--map", file)
		r.want(t, expect{pass: append([]string{"D10"}, everyLayer...)})
		if n := len(r.Sections); n != 3 {
			t.Errorf("%d sections, want the map and each of its nodes", n)
		}
		// One fault in one of them, and what the command line says wins over the map.
		m.Regions[901].Nodes[0].CertName = a.Pin
		file = mapFile(t, m)
		r = doctor(t, "--map", file)
		r.want(t, expect{fail: []string{"D10 wrong-pin"}, pass: append([]string{"D10"}, everyLayer...)})
		doctor(t, "--map", file, "--region", "900").want(t, expect{pass: append([]string{"D10"}, everyLayer...)})
		doctor(t, target(b.Addr), "--map", file, "--pin", b.Pin).want(t, expect{pass: append([]string{"D10"}, everyLayer...)})
	})
	t.Run("IPv4 and IPv6", func(t *testing.T) {
		t.Parallel()
		ca := relay.NewCA()
		chain, privateKey := ca.Intermediate().For("derp.example.test")
		r := relay.Start(t, relay.Options{Host: "derp.example.test", CertFile: chain, KeyFile: privateKey, Roots: ca.PEM, AnyIP: true})
		args := []string{"https://derp.example.test:" + port(r.Addr), "--authorities", write(t, "ca.pem", ca.PEM),
			"--stun-port", port(r.STUNAddr), "--resolver"}
		both := doctor(t, append(args, serveDNS(t, records{"derp.example.test": {"127.0.0.1", "::1"}}))...)
		both.want(t, expect{pass: everyLayer})
		for _, address := range []string{"127.0.0.1:", "[::1]:"} {
			for _, want := range []string{address + port(r.Addr) + " answered", "STUN at " + address + port(r.STUNAddr) + " answered"} {
				if !strings.Contains(both.text, want) {
					t.Errorf("not said: %s\n%s", want, both.text)
				}
			}
		}
		doctor(t, append(args, serveDNS(t, records{"derp.example.test": {"::1"}}))...).want(t, expect{pass: everyLayer})
	})
	t.Run("without TLS", func(t *testing.T) {
		t.Parallel()
		r := plainRelay(t)
		doctor(t, "http://"+r.Addr, "--stun-port", port(r.STUNAddr)).want(t, expect{
			pass: []string{"D13", "D16", "D18", "D19", "D22"},
		})
	})
}

func TestReportsForPeople(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	args := []string{"doctor", target(r.Addr), "--stun-port", port(r.STUNAddr), "--pin", r.Pin}
	out, errOut, exit := runCommand(t, nil, args...)
	if exit != 1 {
		t.Errorf("exit status %d, want 1 for the open relay", exit)
	}
	if errOut != "" {
		t.Errorf("standard error is no terminal and yet has %q", errOut)
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("colours in a pipe:\n%s", out)
	}
	for _, want := range []string{"\nPASS D19  relay proof: ", "\nWARN D21  ", " checks: 0 failed, 1 with a warning\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if line != "" && !strings.HasPrefix(line, " ") && len(line) > 5 && line[4] == ' ' &&
			!slices.Contains([]string{"PASS", "WARN", "FAIL", "INFO"}, line[:4]) &&
			!strings.HasPrefix(line, "https://") && !strings.Contains(line, "checks:") {
			t.Errorf("unexpected line %q", line)
		}
	}
	// On a terminal, which script(1) gives it.
	if _, err := exec.LookPath("script"); err != nil {
		t.Fatalf("script(1) is needed: %v", err)
	}
	cmd := exec.Command("script", "-qec", relay.DetourBinary(t)+" "+strings.Join(args, " "), "/dev/null")
	cmd.Env = append(relay.CleanEnv(), "TERM=xterm")
	onTerminal, _ := cmd.Output()
	for _, want := range []string{"\x1b[32mPASS\x1b[0m D19", "... relay proof"} {
		if !strings.Contains(string(onTerminal), want) {
			t.Errorf("no %q on a terminal:\n%q", want, onTerminal)
		}
	}
	cmd = exec.Command("script", "-qec", relay.DetourBinary(t)+" "+strings.Join(args, " "), "/dev/null")
	cmd.Env = append(relay.CleanEnv(), "TERM=xterm", "NO_COLOR=1")
	if onTerminal, _ = cmd.Output(); strings.Contains(string(onTerminal), "\x1b[32m") {
		t.Errorf("colours although NO_COLOR is set")
	}
}

func TestThroughputOnRequest(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("left out with -short: takes five seconds")
	}
	r := relay.Start(t, relay.Options{})
	doctor(t, target(r.Addr), "--stun-port", port(r.STUNAddr), "--pin", r.Pin, "--throughput").want(t, expect{
		info: []string{"D27 throughput"},
	})
}

func TestAddressesAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		`"https://derp.example.test:8443"`,
		"https://derp.example.test:8443 ",
		"https://derp.example.test：8443",
		"“derp.example.test”",
		"https://https://derp.example.test",
		"ftp://derp.example.test",
		"https://derp.example.test/derp/probe",
		"https://derp.example.test:99999",
		"https://derp.example.test:",
		"https://",
		"https://[::1",
		"https://*.example.test",
	} {
		r := doctor(t, address)
		r.want(t, expect{fail: []string{"D01 address"}})
		if cause := r.all()[0].Cause; !strings.Contains(r.text, "rite ") {
			t.Errorf("%s: %q does not say what to write", address, cause)
		}
	}
}

func TestWrongArgumentsAreNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"https://127.0.0.1:1", "--pin", "sha256-raw:12"},
		{"https://127.0.0.1:1", "--stun-port", "0"},
		{"https://127.0.0.1:1", "--stun-port", "65536"},
		{"https://127.0.0.1:1", "--resolver", "dns.example"},
		{"https://127.0.0.1:1", "--timeout", "0.09"},
		{"https://127.0.0.1:1", "--unknown"},
		{"https://127.0.0.1:1", "--pin", "sha256-raw:12", "--insecure"},
	} {
		out, errOut, exit := runCommand(t, nil, append([]string{"doctor"}, args...)...)
		if exit != 2 || errOut == "" {
			t.Errorf("%q: exit status %d, %q, %q; want 2 and a message", args, exit, out, errOut)
		}
	}
}

// target is a relay's address as a URL.
func target(addr string) string { return "https://" + addr }

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// write puts a file into a folder of the test and gives its path.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
