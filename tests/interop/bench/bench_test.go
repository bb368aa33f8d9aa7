// Package bench_test runs `detour bench`, which loads any DERP server, against the relay under test.
package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// numbers are medians or ratios by name: "relay.latency_us.p50".
type numbers map[string]float64

type result struct {
	OK       bool
	Warnings []string
	Error    string
	Layer    string
	Advice   string
	Servers  []struct {
		Name    string
		Medians numbers
		Rounds  []struct {
			Relay struct {
				Delivered float64 `json:"delivered_packets"`
				Corrupt   float64 `json:"corrupt_packets"`
				Stopped   bool    `json:"stopped"`
				TLS       string  `json:"tls"`
			}
			STUN  *struct{ Answers, Wrong float64 } `json:"stun"`
			Login *struct{ Logins float64 }         `json:"login"`
		}
	}
	Ratios numbers

	exit   int
	stderr string
}

// bench runs `detour bench ARGS --json` and looks whether its exit status and its JSON agree.
func bench(t *testing.T, args ...string) *result {
	t.Helper()
	out, errOut, exit := run(t, append([]string{"bench", "--json"}, args...)...)
	r := &result{exit: exit, stderr: errOut}
	if err := json.Unmarshal([]byte(out), r); err != nil {
		t.Fatalf("bench %q: exit status %d, no JSON: %v\n%s\n%s", args, exit, err, out, errOut)
	}
	want := 0
	switch {
	case r.Error != "":
		want = 2
	case len(r.Warnings) > 0:
		want = 1
	}
	if exit != want || r.OK != (exit == 0) {
		t.Errorf("exit status %d, want %d by the JSON: %s", exit, want, out)
	}
	return r
}

func run(t *testing.T, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, relay.DetourBinary(t), args...)
	cmd.Env = relay.CleanEnv()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exitErr *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exitErr) {
		t.Fatalf("detour %q: %v", args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("detour %q took more than two minutes:\n%s%s", args, out.String(), errOut.String())
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func url(r *relay.Relay) string { return "https://" + r.Addr }

func (n numbers) wantPositive(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if n[name] <= 0 {
			t.Errorf("%s is %v, want more than 0, among %v", name, n[name], n)
		}
	}
}

func TestBenchMeasuresARelay(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	before := r.Varz(t)["derp_packets_received"]
	got := bench(t, url(r), "--pin", r.Pin, "--pairs", "3", "--rate", "4mbit", "--seconds", "1",
		"--stun-port", fmt.Sprint(r.STUNPort), "--logins", "12")
	if got.Error != "" || len(got.Servers) != 1 || len(got.Servers[0].Rounds) != 1 {
		t.Fatalf("want one round of one server, have %+v\n%s", got, got.stderr)
	}
	// 4 Mbit/s of 1,400 bytes are 357 packets in a second. A busy machine may fall behind, and says so.
	round := got.Servers[0].Rounds[0]
	if d := round.Relay.Delivered; d > 358 || d < 300 && len(got.Warnings) == 0 || round.Relay.Corrupt != 0 {
		t.Errorf("delivered %v packets of 357, %v damaged, warnings %q", d, round.Relay.Corrupt, got.Warnings)
	}
	if after := r.Varz(t)["derp_packets_received"]; after-before < round.Relay.Delivered {
		t.Errorf("the relay counted %v packets, bench %v", after-before, round.Relay.Delivered)
	}
	if !strings.HasPrefix(round.Relay.TLS, "TLSv1.3 ") {
		t.Errorf("transport %q, want TLS 1.3", round.Relay.TLS)
	}
	if round.STUN == nil || round.STUN.Answers < 1 || round.STUN.Wrong != 0 {
		t.Errorf("STUN: %+v, want answers", round.STUN)
	}
	if round.Login == nil || round.Login.Logins != 12 {
		t.Errorf("logins: %+v, want 12", round.Login)
	}
	got.Servers[0].Medians.wantPositive(t, "relay.gbit_per_s", "relay.latency_us.p50", "relay.latency_us.p90",
		"relay.latency_us.p99", "stun.round_trip_us.p50", "login.logins_per_s", "login.login_us.p99")
	if !strings.Contains(got.stderr, "3 pairs of throw-away clients send packets of 1400 bytes, 4 Mbit/s in all") {
		t.Errorf("what is sent was not said: %q", got.stderr)
	}
}

func TestBenchComparesTwoRelays(t *testing.T) {
	t.Parallel()
	one := relay.Start(t, relay.Options{})
	other := relay.Start(t, relay.Options{Binary: relay.DerperBinary(t)})
	args := []string{url(one), "--against", url(other), "--pin", one.Pin, "--against-pin", other.Pin,
		"--pairs", "2", "--rate", "2mbit", "--seconds", "0.5", "--rounds", "2"}
	got := bench(t, args...)
	if got.Error != "" || len(got.Servers) != 2 {
		t.Fatalf("want two servers, have %+v\n%s", got, got.stderr)
	}
	for i, r := range []*relay.Relay{one, other} {
		s := got.Servers[i]
		if s.Name != url(r) || len(s.Rounds) != 2 {
			t.Errorf("server %d is %s with %d rounds, want %s with 2", i, s.Name, len(s.Rounds), url(r))
		}
		if n := r.Varz(t)["derp_packets_received"]; n < s.Rounds[0].Relay.Delivered+s.Rounds[1].Relay.Delivered {
			t.Errorf("%s counted %v packets in all, bench more in two rounds", s.Name, n)
		}
	}
	got.Ratios.wantPositive(t, "relay.gbit_per_s", "relay.latency_us.p50", "relay.latency_us.p99")

	out, errOut, exit := run(t, append([]string{"bench"}, args...)...)
	if exit == 2 || !strings.Contains(out, "one way p99, ms") || !strings.Contains(out, "   ratio\n") {
		t.Errorf("exit status %d, no table with ratios:\n%s\n%s", exit, out, errOut)
	}
}

func TestBenchEndsOnCtrlCWithWhatItHas(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	cmd := exec.Command(relay.DetourBinary(t), "bench", url(r), "--pin", r.Pin, "--pairs", "1", "--rate", "1mbit",
		"--seconds", "60", "--json")
	cmd.Env = relay.CleanEnv()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	// The warm-up has some 90 packets.
	if !relay.Poll(time.Minute, func() bool { return r.Varz(t)["derp_packets_received"] > 150 }) {
		t.Fatal("no traffic came")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(relay.Slack):
		t.Fatal("Ctrl-C did not end it")
	}
	var got result
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s%s", err, out.String(), errOut.String())
	}
	if cmd.ProcessState.ExitCode() != 1 || len(got.Servers) != 1 || len(got.Servers[0].Rounds) != 1 ||
		!got.Servers[0].Rounds[0].Relay.Stopped || got.Servers[0].Rounds[0].Relay.Delivered <= 0 {
		t.Errorf("exit status %d, %+v: want 1 and the numbers so far", cmd.ProcessState.ExitCode(), got)
	}
	if !relay.Poll(relay.Slack, func() bool { return r.Var(t, "derp.gauge_current_connections") == 0 }) {
		t.Error("its clients are still connected")
	}
}

func TestBenchSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	wrongPin := "sha256-raw:" + strings.Repeat("0", 64)
	nobody := fmt.Sprintf("https://127.0.0.1:%d", relay.FreePort(t, "127.0.0.1"))
	for _, c := range []struct {
		name string
		args []string
		want string // in the error, or in what is printed when the arguments are wrong
	}{
		{"wrong pin", []string{url(r), "--pin", wrongPin}, "TLS"},
		{"no trust", []string{url(r)}, "TLS"},
		{"nobody there", []string{nobody, "--insecure"}, "TCP"},
		{"the second is not there", []string{url(r), "--insecure", "--against", nobody}, "TCP"},
		{"too fast", []string{url(r), "--rate", "1gbit"}, "add --heavy"},
		{"without a rate", []string{url(r), "--rate", "max"}, "add --heavy"},
		{"no unit", []string{url(r), "--rate", "50"}, "50mbit"},
		{"bad pin", []string{url(r), "--pin", "12"}, "--pin takes"},
		{"stray option", []string{url(r), "--against-pin", wrongPin}, "--against URL"},
		{"no address", []string{"ftp://x"}, "https://"},
	} {
		out, errOut, exit := run(t, append([]string{"bench"}, c.args...)...)
		if exit != 2 || !strings.Contains(errOut, c.want) {
			t.Errorf("%s: exit status %d, %q: want 2 and %q", c.name, exit, errOut, c.want)
		}
		if strings.Contains(out, "one way") {
			t.Errorf("%s: a load ran:\n%s", c.name, out)
		}
	}
	if got := bench(t, nobody, "--insecure"); got.exit != 2 || got.Layer != "TCP" || got.Error == "" {
		t.Errorf("nobody there as JSON: %+v", got)
	}
	if n := r.Varz(t)["derp_packets_received"]; n != 0 {
		t.Errorf("%v packets were sent", n)
	}
}

func TestBenchFailsWhenTheRelayGoesAway(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	go func() {
		relay.Poll(time.Minute, func() bool { return r.Varz(t)["derp_packets_received"] > 20 })
		r.Kill()
	}()
	got := bench(t, url(r), "--pin", r.Pin, "--pairs", "1", "--rate", "1mbit", "--seconds", "60")
	if got.exit != 2 || got.Layer != "relay" {
		t.Errorf("exit status %d, %+v: want 2, and that the relay went away", got.exit, got)
	}
}
