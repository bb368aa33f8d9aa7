package doctor_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// Every command says how it is used, what its exit status means, and gives examples that work as far as
// their options go.
func TestHelpOfEveryCommand(t *testing.T) {
	t.Parallel()
	option := regexp.MustCompile(`--[a-z][a-z-]*`)
	jargon := regexp.MustCompile(`Excludes|REQUIRED|INT|ENUM|[0-9]x\)|\{\}`)
	for _, command := range []string{"doctor", "map", "ping", "netcheck", "status", "top", "kick", "drain"} {
		out, _, exit := runCommand(t, nil, command, "--help")
		options, examples, found := strings.Cut(out, "\nExamples:\n")
		if exit != 0 || !found || !strings.Contains(options, "Exit status: 0 ") || !strings.Contains(options, "detour "+command+" [OPTIONS]") {
			t.Errorf("%s --help, exit status %d:\n%s", command, exit, out)
		}
		if word := jargon.FindString(out); word != "" {
			t.Errorf("%s --help says %q:\n%s", command, word, out)
		}
		if !strings.Contains(options, "--json") {
			t.Errorf("%s has no --json", command)
		}
		for line := range strings.Lines(examples) {
			if !strings.Contains(line, "detour "+command) {
				t.Errorf("%s: %q is no example of it", command, line)
			}
			own, _, _ := strings.Cut(line, " -- ")
			for _, name := range option.FindAllString(own, -1) {
				if !strings.Contains(options, "  "+name) {
					t.Errorf("%s: the example %q has an option that it does not know", command, line)
				}
			}
		}
	}
}

// What was not understood is answered with what to write instead.
func TestWhatToWriteInstead(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"doctor --thrughput":             "did you mean --throughput?",
		"doctor https://a --regoin=3":    "did you mean --region?",
		"doctor https://a --region x":    "--region = x; write a number",
		"doctor https://a https://b":     `"https://b" is not understood`,
		"map --hostname a --format yaml": "write policy, headscale or json",
		"map --hostname a --region 1000": "not in range 1 to 999",
		"map --check":                    "detour map --check FILE",
		"ping":                           "detour ping https://HOST:PORT",
		"ping https://a --sise 3":        "did you mean --size?",
		"netcheck":                       "--map is required",
		"netcheck /none":                 "netcheck: /none: does not exist",
		"kick":                           "key is required",
		"status --clients x":             "write a number",
		"drain --ovr 3":                  "did you mean --over?",
		"top --perid 3":                  "did you mean --period?",
	} {
		command, _, _ := strings.Cut(line, " ")
		out, said, exit := runCommand(t, nil, strings.Fields(line)...)
		if exit != 2 || out != "" || !strings.Contains(said, "detour "+command+": ") || !strings.Contains(said, want) {
			t.Errorf("%s: exit status %d, %q; want %q", line, exit, said, want)
		}
	}
}

// interrupt starts the command, sends what Ctrl-C does once `ready` says so of a line, and gives the
// lines and the exit status.
func interrupt(t *testing.T, ready func(line string) bool, args ...string) (lines []string, exit int) {
	t.Helper()
	cmd := exec.Command(relay.DetourBinary(t), args...)
	cmd.Env = relay.CleanEnv()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	read.SetReadDeadline(time.Now().Add(time.Minute))
	cmd.Stdout, cmd.Stderr = write, write
	err = relay.StartBound(cmd)
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	sent := false
	for s := bufio.NewScanner(read); s.Scan(); {
		lines = append(lines, s.Text())
		if !sent && ready(s.Text()) {
			cmd.Process.Signal(syscall.SIGINT)
			sent = true
		}
	}
	if !sent {
		cmd.Process.Kill()
		t.Errorf("%q was not ready in a minute:\n%q", args, lines)
	}
	var exitErr *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exitErr) {
		t.Fatal(err)
	}
	return lines, cmd.ProcessState.ExitCode()
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	begins := func(what string) func(string) bool {
		return func(line string) bool { return strings.HasPrefix(line, what) }
	}
	t.Run("ping sums up", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{})
		lines, exit := interrupt(t, begins("packet 3:"), "ping", target(r.Addr), "--pin", r.Pin, "--count", "100000")
		last := lines[len(lines)-1]
		if exit != 0 || !strings.Contains(last, "packets came back intact") || strings.HasPrefix(last, "100000 ") {
			t.Errorf("exit status %d, %q", exit, last)
		}
	})
	// Nothing but silence comes from there.
	silent := serve(t, listen(t), hold)
	_, p, _ := strings.Cut(silent, ":")
	file := write(t, "map.json", `{"Regions":{"900":{"RegionID":900,"RegionCode":"x","RegionName":"X","Nodes":[{"Name":"900a",
"RegionID":900,"HostName":"127.0.0.1","IPv4":"127.0.0.1","DERPPort":`+p+`,"STUNPort":-1}]}}}`)
	for _, c := range []struct {
		begin string
		args  []string
	}{
		{"PASS D13", []string{"doctor", target(silent), "--stun-port", "off", "--timeout", "60"}},
		{"       region", []string{"netcheck", file, "--timeout", "60"}},
	} {
		t.Run(c.args[0], func(t *testing.T) {
			t.Parallel()
			if lines, exit := interrupt(t, begins(c.begin), c.args...); exit != 130 {
				t.Errorf("exit status %d, want 130: %q", exit, lines)
			}
		})
	}
}

// On a terminal there are colours, and what is being done is shown until it is done.
func TestColoursAndProgress(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	m := r.DERPMap(900)
	file := mapFile(t, m)
	dead := listen(t)
	dead.Close()
	for _, c := range []struct {
		args string
		want []string
	}{
		{"ping --count 1 --pin " + r.Pin + " " + target(r.Addr), []string{"... logging in\r\x1b[K", "\x1b[32m1 of 1 packets came back intact\x1b[0m"}},
		{"netcheck " + file, []string{"... 0 of 1 regions measured\r\x1b[K", "\x1b[32m1 of 1 regions answer STUN and HTTPS.\x1b[0m"}},
		{"map --check " + file, []string{"\x1b[33mWARN\x1b[0m D25"}},
	} {
		for _, terminal := range []bool{true, false} {
			cmd := exec.Command("script", "-qec", relay.DetourBinary(t)+" "+c.args, "/dev/null")
			if !terminal {
				cmd = exec.Command(relay.DetourBinary(t), strings.Fields(c.args)...)
			}
			cmd.Env = append(relay.CleanEnv(), "TERM=xterm")
			out, _ := cmd.CombinedOutput()
			for _, want := range c.want {
				if strings.Contains(string(out), want) != terminal {
					t.Errorf("%s, terminal %v: %q", c.args, terminal, out)
				}
			}
			if !terminal && strings.ContainsAny(string(out), "\x1b\r") {
				t.Errorf("%s, in a pipe: %q", c.args, out)
			}
		}
	}
}
