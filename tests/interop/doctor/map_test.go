package doctor_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"github.com/tailscale/hujson"
	"go.yaml.in/yaml/v2"
	"tailscale.com/tailcfg"
)

func decodeJSON(r *http.Request, v any) error { return json.NewDecoder(r.Body).Decode(v) }

// readMap reads a map as those who get it do: Tailscale's policy files, Headscale's two kinds.
func readMap(t testing.TB, format, text string) *tailcfg.DERPMap {
	t.Helper()
	m := new(tailcfg.DERPMap)
	var err error
	switch format {
	case "policy":
		standard, e := hujson.Standardize([]byte(text))
		if e != nil {
			t.Fatalf("no HuJSON: %v\n%s", e, text)
		}
		var policy struct {
			DERPMap *tailcfg.DERPMap `json:"derpMap"`
		}
		err = json.Unmarshal(standard, &policy)
		m = policy.DERPMap
	case "headscale":
		err = yaml.UnmarshalStrict([]byte(text), m)
	case "json":
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		err = d.Decode(m)
	}
	if err != nil || m == nil {
		t.Fatalf("%s: %v\n%s", format, err, text)
	}
	return m
}

var formats = []string{"policy", "headscale", "json"}

func TestMapsOfARunningRelay(t *testing.T) {
	t.Parallel()
	if relay.IsDerper() {
		t.Skip("not for derper: the map comes from the configuration of Detour")
	}
	r := relay.Start(t, relay.Options{})
	for _, format := range formats {
		out, errOut, exit := runCommand(t, nil, "map", "--pid", strconv.Itoa(r.Pid), "--format", format)
		if exit != 0 {
			t.Fatalf("exit status %d: %s", exit, errOut)
		}
		m := readMap(t, format, out)
		want := &tailcfg.DERPNode{Name: "900a", RegionID: 900, HostName: "127.0.0.1", CertName: r.Pin, IPv4: "127.0.0.1",
			DERPPort: r.Port, STUNPort: r.STUNPort}
		if got := m.Regions[900].Nodes[0]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", format, got, want)
		}
		if m.OmitDefaultRegions || m.Regions[900].RegionID != 900 || m.Regions[900].RegionCode == "" {
			t.Errorf("%s: %+v", format, m.Regions[900])
		}
		// It leads to the relay.
		doctor(t, "--map", write(t, "map", out)).want(t, expect{pass: append([]string{"D25", "D10"}, everyLayer...)})
	}
}

func TestMapsByHand(t *testing.T) {
	t.Parallel()
	pin := "sha256-raw:" + strings.Repeat("ab", 32)
	strange := "Zürich: \"quotes\" \\ # no comment, 日本 // { }"
	for _, format := range formats {
		out, errOut, exit := runCommand(t, nil, "map", "--hostname", "derp.example.test", "--port", "8443", "--stun-port", "off",
			"--pin", pin, "--ipv4", "203.0.113.7", "--ipv6", "none", "--can-port80", "--region", "999", "--region-code", "zrh",
			"--region-name", strange, "--node-name", "zrh-1", "--omit-default-regions", "--format", format)
		if exit != 1 || !strings.Contains(errOut, "D25") {
			t.Errorf("exit status %d, %s; want 1 and the warning about a single node", exit, errOut)
		}
		want := &tailcfg.DERPMap{OmitDefaultRegions: true, Regions: map[int]*tailcfg.DERPRegion{999: {
			RegionID: 999, RegionCode: "zrh", RegionName: strange,
			Nodes: []*tailcfg.DERPNode{{Name: "zrh-1", RegionID: 999, HostName: "derp.example.test", CertName: pin,
				IPv4: "203.0.113.7", IPv6: "none", DERPPort: 8443, STUNPort: -1, CanPort80: true}},
		}}}
		if got := readMap(t, format, out); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %s", format, out)
		}
	}
	// The usual ports are left out.
	out, _, exit := runCommand(t, nil, "map", "--hostname", "derp.example.test", "--port", "443", "--stun-port", "3478", "--format", "json")
	if exit != 0 || strings.Contains(out, "Port") {
		t.Errorf("exit status %d:\n%s", exit, out)
	}
	// An address is its own IPv4 or IPv6.
	out, _, _ = runCommand(t, nil, "map", "--hostname", "2001:db8::7", "--format", "json")
	if n := readMap(t, "json", out).Regions[900].Nodes[0]; n.IPv6 != "2001:db8::7" || n.IPv4 != "" {
		t.Errorf("%+v", n)
	}
}

func TestMapsOfAConfiguration(t *testing.T) {
	t.Parallel()
	config := write(t, "detour.toml", "hostname = \"derp.example.test\"\nlisten = \":8443\"\nstun-port = 3479\n")
	out, errOut, exit := runCommand(t, nil, "map", "--format", "json", "--", "--config", config)
	if exit != 0 {
		t.Fatalf("exit status %d: %s", exit, errOut)
	}
	n := readMap(t, "json", out).Regions[900].Nodes[0]
	if n.HostName != "derp.example.test" || n.DERPPort != 8443 || n.STUNPort != 3479 {
		t.Errorf("%+v", n)
	}
}

func TestMapsAreMerged(t *testing.T) {
	t.Parallel()
	node := func(region int, name string) *tailcfg.DERPNode {
		return &tailcfg.DERPNode{Name: name, RegionID: region, HostName: name + ".example.test"}
	}
	a := mapFile(t, mapOf(node(900, "900a"), node(901, "901a")))
	b := write(t, "b.yaml", "regions:\n  900:\n    regionid: 900\n    regioncode: r900\n    regionname: Test\n    nodes:\n      - {name: 900b, regionid: 900, hostname: 900b.example.test}\n")
	for _, format := range formats {
		out, errOut, exit := runCommand(t, nil, "map", a, b, "--format", format)
		if exit != 0 {
			t.Fatalf("exit status %d: %s", exit, errOut)
		}
		want := mapOf(node(900, "900a"), node(900, "900b"), node(901, "901a"))
		if got := readMap(t, format, out); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%s", format, out)
		}
	}
	other := node(900, "900a")
	other.DERPPort = 8443
	_, errOut, exit := runCommand(t, nil, "map", a, mapFile(t, mapOf(other)))
	if exit != 2 || !strings.Contains(errOut, "900a") {
		t.Errorf("two nodes of one name that differ: exit status %d, %s", exit, errOut)
	}
	out, _, exit := runCommand(t, nil, "map", "--check", "--json", a, mapFile(t, mapOf(other)))
	r := &report{exit: exit, text: out}
	if err := json.Unmarshal([]byte(out), r); err != nil {
		t.Fatal(err)
	}
	r.want(t, expect{fail: []string{"D25 conflict"}, pass: []string{"D25"}})
}

// TestMapLint has one fault in each map. Where it can be mended the corrected map has to be one that
// Tailscale reads and the doctor finds nothing wrong with.
func TestMapLint(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("ab", 32)
	region := func(id, nodes string) string {
		return fmt.Sprintf(`{"Regions": {"%s": {"RegionID": %s, "RegionCode": "x", "RegionName": "X", "Nodes": [%s]}}}`, id, id, nodes)
	}
	node := func(extra string) string {
		return region("900", `{"Name": "900a", "RegionID": 900, "HostName": "derp.example.test"`+extra+`}`)
	}
	for _, c := range []struct {
		name, text string
		want       expect
		mended     bool
	}{
		{"nothing", node(""), expect{pass: []string{"D25"}}, false},
		{"everything that is allowed", node(`, "CertName": "sha256-raw:` + hex + `", "IPv4": "none", "IPv6": "2001:db8::1", "DERPPort": 65535, "STUNPort": -1, "CanPort80": true, "STUNTestIP": ""`), expect{pass: []string{"D25"}}, false},
		{"comments and trailing commas", "// mine\n{\"derpMap\": " + strings.ReplaceAll(node(""), "}]", "},]") + ", /* end */ }", expect{pass: []string{"D25"}}, false},
		{"not JSON", "{\"Regions\": ", expect{fail: []string{"D25 syntax"}}, false},
		{"no map", "{\"acls\": []}", expect{fail: []string{"D25 syntax"}}, false},
		{"no region", `{"Regions": {}}`, expect{fail: []string{"D25 empty"}}, false},
		{"a region without nodes", region("900", ""), expect{fail: []string{"D25 no-nodes"}}, false},
		{"only STUN", node(`, "STUNOnly": true`), expect{fail: []string{"D25 stun-only"}}, false},
		{"a number below the reserved ones", strings.ReplaceAll(node(""), "900", "899"), expect{warn: []string{"D25 region-number"}}, false},
		{"the first reserved number", strings.ReplaceAll(node(""), "900", "900"), expect{pass: []string{"D25"}}, false},
		{"the last reserved number", strings.ReplaceAll(node(""), "900", "999"), expect{pass: []string{"D25"}}, false},
		{"a number above the reserved ones", strings.ReplaceAll(node(""), "900", "1000"), expect{warn: []string{"D25 region-number"}}, false},
		{"no region number", strings.ReplaceAll(node(""), "900", "0"), expect{fail: []string{"D25 region-number"}}, false},
		{"a key that is no number", strings.Replace(node(""), `"900":`, `"mine":`, 1), expect{fail: []string{"D25 empty", "D25 region-key"}}, false},
		{"the region's number differs from its key", strings.Replace(node(""), `"RegionID": 900, "RegionCode"`, `"RegionID": 901, "RegionCode"`, 1), expect{fail: []string{"D25 region-mismatch"}}, true},
		{"the node's number differs", strings.Replace(node(""), `"RegionID": 900, "HostName"`, `"RegionID": 1, "HostName"`, 1), expect{fail: []string{"D25 region-mismatch"}}, true},
		{"the node has no number", strings.Replace(node(""), `"RegionID": 900, "HostName"`, `"HostName"`, 1), expect{fail: []string{"D25 region-mismatch"}}, true},
		{"no names for the region", strings.Replace(node(""), `"RegionCode": "x", "RegionName": "X", `, "", 1), expect{warn: []string{"D25 region-name"}}, true},
		{"no node name", strings.Replace(node(""), `"Name": "900a", `, "", 1), expect{fail: []string{"D25 node-name"}}, true},
		{"two nodes of one name", region("900", `{"Name": "a", "RegionID": 900, "HostName": "a.example"}, {"Name": "a", "RegionID": 900, "HostName": "b.example"}`), expect{fail: []string{"D25 node-name"}}, true},
		{"no host name", strings.Replace(node(""), `"derp.example.test"`, `""`, 1), expect{fail: []string{"D25 hostname"}}, false},
		{"https in the host name", strings.Replace(node(""), `derp.example.test`, `https://derp.example.test:8443`, 1), expect{fail: []string{"D25 hostname"}}, true},
		{"a port in the host name", strings.Replace(node(""), `derp.example.test`, `derp.example.test:8443`, 1), expect{fail: []string{"D25 hostname"}}, true},
		{"a port in quotes", node(`, "DERPPort": "8443"`), expect{fail: []string{"D25 wrong-type"}}, true},
		{"a port too large", node(`, "DERPPort": 65536`), expect{fail: []string{"D25 port"}}, true},
		{"a negative port", node(`, "DERPPort": -1`), expect{fail: []string{"D25 port"}}, true},
		{"a STUN port of -2", node(`, "STUNPort": -2`), expect{fail: []string{"D25 port"}}, true},
		{"a STUN port too large", node(`, "STUNPort": 65536`), expect{fail: []string{"D25 port"}}, true},
		{"a pin in upper case", node(`, "CertName": "sha256-raw:` + strings.ToUpper(hex) + `"`), expect{fail: []string{"D25 pin"}}, true},
		{"a pin as openssl prints it", node(`, "CertName": "` + strings.TrimSuffix(strings.Repeat("AB:", 32), ":") + `"`), expect{fail: []string{"D25 pin"}}, true},
		{"a pin without its prefix", node(`, "CertName": "` + hex + `"`), expect{fail: []string{"D25 pin"}}, true},
		{"a pin that is too short", node(`, "CertName": "sha256-raw:ab"`), expect{fail: []string{"D25 pin"}}, false},
		{"both families off", node(`, "IPv4": "none", "IPv6": "none"`), expect{fail: []string{"D25 no-address"}}, false},
		{"an IPv4 address that is none", node(`, "IPv4": "203.0.113.256"`), expect{fail: []string{"D25 address"}}, true},
		{"an IPv6 address in place of IPv4", node(`, "IPv4": "2001:db8::1"`), expect{fail: []string{"D25 address"}}, true},
		{"two addresses", strings.Replace(node(`, "IPv4": "203.0.113.8"`), "derp.example.test", "203.0.113.7", 1), expect{warn: []string{"D25 address-differs"}}, false},
		{"no check of the certificate", node(`, "InsecureForTests": true`), expect{warn: []string{"D25 insecure"}}, false},
		{"a pin and no check", node(`, "InsecureForTests": true, "CertName": "sha256-raw:` + hex + `"`), expect{warn: []string{"D25 insecure"}}, true},
		{"a field that is misspelt", node(`, "StunPort2": 1`), expect{warn: []string{"D25 unknown-field"}}, false},
		{"one node alone", strings.Replace(node(""), `{"Regions"`, `{"OmitDefaultRegions": true, "Regions"`, 1), expect{warn: []string{"D25 single-node"}}, false},
		{"a flag in quotes", strings.Replace(node(""), `{"Regions"`, `{"OmitDefaultRegions": "false", "Regions"`, 1), expect{fail: []string{"D25 wrong-type"}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := write(t, "map", c.text)
			for _, format := range formats {
				out, errOut, exit := runCommand(t, nil, "map", "--check", "--json", "--format", format, file)
				r := &report{exit: exit, text: out}
				if err := json.Unmarshal([]byte(out), r); err != nil {
					t.Fatalf("exit status %d, %v: %s%s", exit, err, out, errOut)
				}
				r.want(t, c.want)
				attachments := r.Sections[0].Attachments
				if got := len(attachments) == 1; got != c.mended {
					t.Fatalf("corrected %v, want %v", got, c.mended)
				}
				if !c.mended {
					continue
				}
				readMap(t, format, attachments[0].Text)
				_, errOut, exit = runCommand(t, nil, "map", "--check", write(t, "mended", attachments[0].Text))
				if exit != 0 {
					t.Errorf("the corrected map is not correct: %s\n%s", errOut, attachments[0].Text)
				}
			}
		})
	}
	if _, err := os.Stat("/nonexistent"); err == nil {
		t.Skip("/nonexistent exists")
	}
	if _, _, exit := runCommand(t, nil, "map", "--check", "/nonexistent/map"); exit != 2 {
		t.Errorf("a file that is not there: exit status %d, want 2", exit)
	}
}

func TestNetcheck(t *testing.T) {
	t.Parallel()
	a, b := relay.Start(t, relay.Options{}), relay.Start(t, relay.Options{NoSTUN: true})
	m := a.DERPMap(900)
	m.OmitDefaultRegions = false
	alone := mapFile(t, m)
	m.Regions[901] = b.Region(901)
	dead := listen(t)
	dead.Close()
	m.Regions[902] = &tailcfg.DERPRegion{RegionID: 902, RegionCode: "dead", RegionName: "Dead", Nodes: []*tailcfg.DERPNode{{
		Name: "902a", RegionID: 902, HostName: "127.0.0.1", IPv4: "127.0.0.1", DERPPort: dead.Addr().(*net.TCPAddr).Port, STUNPort: -1}}}
	file := mapFile(t, m)
	type region struct {
		Region       int
		STUN         *float64 `json:"stun_v4_ms"`
		HTTPS        *float64 `json:"https_ms"`
		HTTPSProblem string   `json:"https_problem"`
	}
	var got struct {
		OK      bool
		Nearest *int
		Regions []region
	}
	run := func(args ...string) int {
		t.Helper()
		out, errOut, exit := runCommand(t, nil, append([]string{"netcheck", "--json"}, args...)...)
		got.Regions, got.Nearest = nil, nil
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("exit status %d, %v: %s%s", exit, err, out, errOut)
		}
		return exit
	}
	if exit := run(file); exit != 1 || got.OK || len(got.Regions) != 3 || got.Nearest == nil || *got.Nearest != 900 {
		t.Fatalf("exit status %d, %+v", exit, got)
	}
	for i, want := range []struct{ stun, https bool }{{true, true}, {false, true}, {false, false}} {
		r := got.Regions[i]
		if r.Region != 900+i || (r.STUN != nil) != want.stun || (r.HTTPS != nil) != want.https || (r.HTTPSProblem == "") != want.https {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
	if exit := run("--map", alone); exit != 0 || !got.OK {
		t.Errorf("a healthy region: exit status %d", exit)
	}
	if exit := run(file, "--region", "902"); exit != 2 || got.Nearest != nil {
		t.Errorf("a dead region: exit status %d", exit)
	}
	// A wrong pin is what clients refuse.
	m.Regions[900].Nodes[0].CertName = "sha256-raw:" + strings.Repeat("ab", 32)
	if exit := run(mapFile(t, m), "--region", "900"); exit != 1 || !strings.Contains(got.Regions[0].HTTPSProblem, "D10 wrong-pin") {
		t.Errorf("a wrong pin: exit status %d, %+v", exit, got.Regions[0])
	}
	out, _, exit := runCommand(t, nil, "netcheck", file)
	if exit != 1 || !strings.Contains(out, "choose region 900") || !strings.Contains(out, "1 of 3 regions") {
		t.Errorf("exit status %d:\n%s", exit, out)
	}
	if _, errOut, exit := runCommand(t, nil, "netcheck", file, "--region", "903"); exit != 2 || errOut == "" {
		t.Errorf("an unknown region: exit status %d, %q", exit, errOut)
	}
}

func TestPingAcrossTwoRelays(t *testing.T) {
	t.Parallel()
	a := relay.Start(t, relay.Options{})
	m := a.DERPMap(900)
	type result struct {
		OK         bool
		Intact     int
		OtherRelay *struct{ Address string } `json:"other_relay"`
	}
	run := func(args ...string) (result, int) {
		t.Helper()
		var r result
		out, errOut, exit := runCommand(t, nil, append([]string{"ping", "--json", "--count", "3"}, args...)...)
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("exit status %d, %v: %s%s", exit, err, out, errOut)
		}
		return r, exit
	}
	if r, exit := run("--map", mapFile(t, m)); exit != 0 || !r.OK || r.Intact != 3 || r.OtherRelay != nil {
		t.Errorf("one relay of a map: exit status %d, %+v", exit, r)
	}
	// The same relay by two ways: its own address and a forwarder.
	if r, exit := run("https://"+a.Addr, "https://"+a.Addr, "--pin", a.Pin); exit != 0 || r.Intact != 3 || r.OtherRelay == nil {
		t.Errorf("twice the same relay: exit status %d, %+v", exit, r)
	}
	// Two relays that are not meshed do not forward.
	b := relay.Start(t, relay.Options{})
	if r, exit := run("https://"+a.Addr, "https://"+b.Addr, "--insecure", "--timeout", "0.3"); exit != 2 || r.OK || r.Intact != 0 {
		t.Errorf("two relays without a mesh: exit status %d, %+v", exit, r)
	}
	// Two that are meshed do.
	ca := relay.NewCA()
	chain, privateKey := ca.For("127.0.0.1")
	psk := write(t, "psk", strings.Repeat("0123456789abcdef", 4))
	// Each needs a link to the other, so the ports are chosen beforehand.
	ports := [2]int{relay.FreePort(t, "127.0.0.1"), relay.FreePort(t, "127.0.0.1")}
	var meshed [2]*relay.Relay
	for i := range meshed {
		meshed[i] = relay.Start(t, relay.Options{CertFile: chain, KeyFile: privateKey, Roots: ca.PEM, Port: ports[i],
			Args: []string{"-mesh-psk-file", psk, "-mesh-with", fmt.Sprintf("127.0.0.1:%d", ports[1-i])}})
	}
	m = meshed[0].DERPMap(900)
	m.Regions[900].Nodes = append(m.Regions[900].Nodes, meshed[1].Region(900).Nodes[0])
	m.Regions[900].Nodes[1].Name = "900b"
	file := mapFile(t, m)
	var last result
	if !relay.Poll(30*time.Second, func() bool {
		var exit int
		last, exit = run("--map", file, "--timeout", "0.5")
		return exit == 0
	}) || last.Intact != 3 || last.OtherRelay == nil {
		t.Errorf("two relays with a mesh: %+v", last)
	}
}

// A relay that serves its map needs `detour serve`, which derper's command line cannot ask for.
func TestTheRelayServesItsMap(t *testing.T) {
	t.Parallel()
	if relay.IsDerper() {
		t.Skip("not for derper: it serves no map")
	}
	start := func(t *testing.T, args ...string) (base, pin string) {
		t.Helper()
		dir := t.TempDir()
		p := relay.FreePort(t, "127.0.0.1")
		cmd := exec.Command(relay.DetourBinary(t), append([]string{"serve", "--hostname", "127.0.0.1", "--no-stun",
			"--listen", fmt.Sprintf("127.0.0.1:%d", p), "--http-port", "off", "--key-file", filepath.Join(dir, "key"),
			"--cert-dir", filepath.Join(dir, "certs")}, args...)...)
		cmd.Env = relay.CleanEnv()
		relay.Background(t, cmd)
		base = fmt.Sprintf("https://127.0.0.1:%d", p)
		if !relay.Poll(30*time.Second, func() bool { status, _ := get(t, base+"/derp/probe", ""); return status == 200 }) {
			t.Fatal("the relay does not serve")
		}
		b, err := os.ReadFile(filepath.Join(dir, "certs", "127.0.0.1.crt"))
		if err != nil {
			t.Fatal(err)
		}
		return base, pinOf(string(b))
	}
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		base, pin := start(t, "--serve-map", "/derpmap.json")
		status, body := get(t, base+"/derpmap.json", "")
		if status != 200 {
			t.Fatalf("status %d: %s", status, body)
		}
		n := readMap(t, "json", body).Regions[900].Nodes[0]
		if n.CertName != pin || n.STUNPort != -1 || fmt.Sprintf("https://%s:%d", n.HostName, n.DERPPort) != base {
			t.Errorf("%+v", n)
		}
		doctor(t, "--map", write(t, "map", body)).want(t, expect{pass: []string{"D10", "D19", "D25"}, info: []string{"D22 off"}})
		if status, body := get(t, base+"/derpmap.jso", ""); status != 200 || strings.Contains(body, "Regions") {
			t.Errorf("another path: %d %s", status, body)
		}
	})
	t.Run("with a token", func(t *testing.T) {
		t.Parallel()
		base, _ := start(t, "--serve-map", "/maps/derp", "--serve-map-token-file", write(t, "token", "s3cret-token\n"))
		for _, c := range []struct {
			query, header string
			status        int
		}{
			{"", "", 403}, {"?token=", "", 403}, {"?token=s3cret-toke", "", 403}, {"?token=s3cret-token", "", 200},
			{"?a=b&token=s3cret-token", "", 200}, {"", "Bearer s3cret-token", 200}, {"", "Bearer s3cret-tokenx", 403}, {"", "s3cret-token", 403},
		} {
			if status, _ := get(t, base+"/maps/derp"+c.query, c.header); status != c.status {
				t.Errorf("%q, %q: status %d, want %d", c.query, c.header, status, c.status)
			}
		}
	})
	for _, args := range [][]string{
		{"--serve-map", "derpmap.json"}, {"--serve-map", "/"}, {"--serve-map", "/derp"}, {"--serve-map", "/derp/map"},
		{"--serve-map", "/debug/map"}, {"--serve-map", "/a//b"}, {"--serve-map", "/a/../b"}, {"--serve-map", "/a?b"},
	} {
		_, errOut, exit := runCommand(t, nil, append([]string{"serve", "--check", "--hostname", "127.0.0.1"}, args...)...)
		if exit == 0 || !strings.Contains(errOut, "/derpmap.json") {
			t.Errorf("%q: exit status %d, %s", args, exit, errOut)
		}
	}
	_, errOut, exit := runCommand(t, nil, "serve", "--hostname", "127.0.0.1", "--listen", "127.0.0.1:0", "--no-stun", "--http-port", "off",
		"--key-file", filepath.Join(t.TempDir(), "k"), "--cert-dir", t.TempDir(), "--serve-map", "/m", "--serve-map-token-file", write(t, "token", "no good\n"))
	if exit != 1 || !strings.Contains(errOut, "openssl rand") {
		t.Errorf("a token with a blank: exit status %d, %s", exit, errOut)
	}
}

func get(t testing.TB, url, authorization string) (int, string) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}
