// Package prometheus_test checks the alert rules and the dashboard that come with Detour against a
// real Prometheus that scrapes a live relay.
package prometheus_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

const patience = 60*time.Second + relay.Slack

// detourPrefix begins the names of metrics that derper has not.
const detourPrefix = "detour_"

func packaging(t *testing.T, path ...string) string {
	t.Helper()
	return filepath.Join(append([]string{relay.ModuleDir(), "..", "..", "packaging"}, path...)...)
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("no %s found; ./dev test installs it (Debian's package prometheus)", name)
	}
	return path
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "rules", "detour.rules.yml"},
		{"test", "rules", "detour.test.yml"},
	} {
		cmd := exec.Command(tool(t, "promtool"), args...)
		cmd.Dir = packaging(t, "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// Every alert has a test that sees it raised.
func TestEveryRuleIsTested(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(packaging(t, "prometheus", "detour.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(packaging(t, "prometheus", "detour.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, line := range strings.Split(string(rules), "\n") {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "- alert: ")
		if !ok {
			continue
		}
		alerts++
		if !strings.Contains(string(tests), "alertname: "+name+"\n        exp_alerts:") {
			t.Errorf("%s: no test sees it raised", name)
		}
	}
	if alerts == 0 {
		t.Error("there are no alerts")
	}
}

type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

// scrape starts a Prometheus that reads the relay's metrics every second, and gives its address.
func scrape(t *testing.T, target string) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: derp
    metrics_path: /debug/varz
    static_configs: [{targets: [%q]}]
`, packaging(t, "prometheus", "detour.rules.yml"), target)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1"))
	cmd := exec.Command(tool(t, "prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	relay.Background(t, cmd)
	return address
}

// query gives how many series a query has; an error while Prometheus is not there yet.
func query(address, expr string) (int, error) {
	res, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("%v: %s", err, body)
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return len(answer.Data.Result), nil
}

// Each query of each panel has data for a relay that has clients, is asked about them, and has a peer.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(packaging(t, "grafana", "detour.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board dashboard
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	allow, psk := filepath.Join(t.TempDir(), "allow"), filepath.Join(t.TempDir(), "psk")
	a, b := key.NewNode(), key.NewNode()
	keys := fmt.Sprintf("%v\n%v\n", a.Public(), b.Public())
	if err := os.WriteFile(allow, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(psk, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	o := relay.Options{Args: []string{"-mesh-psk-file", psk}}
	if !relay.IsDerper() {
		// No tailscaled is there: its part of the metrics shows failures.
		o = relay.Options{Serve: true, Args: []string{
			"--mesh-psk-file", psk, "--mesh-with", "127.0.0.1:1", "--allow-file", allow,
			"--verify-clients", "--socket", filepath.Join(t.TempDir(), "none"),
		}}
	}
	r := relay.Start(t, o)
	ca, cb := wire.LoginAs(t, r, a), wire.LoginAs(t, r, b)
	address := scrape(t, r.HTTPAddr)

	expand := strings.NewReplacer("$__rate_interval", "30s", "$job", ".*", "$instance", ".*")
	deadline := time.Now().Add(patience)
	queries := 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			if relay.IsDerper() && strings.Contains(target.Expr, detourPrefix) {
				continue
			}
			queries++
			for {
				// Something has to happen for rates, and for the samples of round-trip times.
				ca.Send(b.Public(), []byte("hello"))
				cb.Want(wire.RecvPacket, wire.Raw(a.Public()), []byte("hello"))
				n, err := query(address, expand.Replace(target.Expr))
				if err == nil && n > 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Errorf("%s: %s: %d series, %v", panel.Title, target.Expr, n, err)
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	if queries < 20 {
		t.Errorf("only %d queries were tried", queries)
	}
	// The rules have been loaded and work on these metrics, too.
	if !relay.IsDerper() {
		n, err := query(address, `ALERTS{alertname="DerpMeshLinkDown",alertstate="pending"}`)
		for ; (err != nil || n != 1) && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			n, err = query(address, `ALERTS{alertname="DerpMeshLinkDown",alertstate="pending"}`)
		}
		if err != nil || n != 1 {
			t.Errorf("the link that is down raises %d alerts, %v", n, err)
		}
	}
}
