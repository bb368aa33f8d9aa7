package access_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// rollout are addresses and the share of the clients from which on they belong to it.
var rollout = map[string]float64{
	"1.2.3.4": 0.068658, "1.2.3.5": 0.017460, "1.2.3.6": 0.858255, "1.2.3.7": 0.406545, "1.2.3.8": 0.846759, "1.2.3.9": 0.011211, "1.2.3.10": 0.294129,
}

// startDNS starts a DNS server on port 53, where the machine of these tests looks, and says how its
// records are set.
func startDNS(t *testing.T) (set func(path string, body any)) {
	t.Helper()
	const admin = "127.0.0.1:8055"
	cmd := exec.Command(relay.Tool(t, "pebble-challtestsrv"), "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "",
		"-dnsserver", "127.0.0.1:53", "-management", admin, "-defaultIPv4", "", "-defaultIPv6", "")
	relay.Background(t, cmd)
	if !relay.Poll(30*time.Second, func() bool { return relay.Accepts(admin) }) {
		t.Fatal("the DNS server does not come up")
	}
	return func(path string, body any) {
		t.Helper()
		text, _ := json.Marshal(body)
		res, err := http.Post("http://"+admin+path, "application/json", bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatalf("%s: status %d", path, res.StatusCode)
		}
	}
}

// An unpublished name is given to as many percent of the clients as its TXT record says, and always to the
// same ones; the others see what is published.
func TestBootstrapDNSIsRolledOutByPercent(t *testing.T) {
	t.Parallel()
	set := startDNS(t)
	txt := func(name, value string) { set("/set-txt", map[string]string{"host": name + ".", "value": value}) }
	for _, name := range []string{"some.rollout.test", "all.rollout.test", "none.rollout.test", "odd.rollout.test", "published.rollout.test"} {
		set("/add-a", map[string]any{"host": name, "addresses": []string{"192.0.2.53"}})
		set("/add-aaaa", map[string]any{"host": name, "addresses": []string{"2001:db8::53"}})
	}
	txt("percent.rollout.test", "30")
	txt("hundred.rollout.test", "100")
	txt("zero.rollout.test", "0")
	txt("words.rollout.test", "many")
	r := relay.Start(t, relay.Options{NoSTUN: true, AnyIP: true, Args: []string{
		"-bootstrap-dns-names", "published.rollout.test",
		"-unpublished-bootstrap-dns-names", "some.rollout.test/percent.rollout.test,all.rollout.test/hundred.rollout.test," +
			"none.rollout.test/zero.rollout.test,odd.rollout.test/words.rollout.test"}})
	asked := func(ip, name string) (names []string) {
		t.Helper()
		_, body := get(t, ip, r.Port, "https", "/bootstrap-dns?q="+name, nil)
		var found map[string][]string
		if body != "" {
			if err := json.Unmarshal([]byte(body), &found); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
		}
		for name, ips := range found {
			if !strings.Contains(strings.Join(ips, " "), "192.0.2.53") || !strings.Contains(strings.Join(ips, " "), "2001:db8::53") {
				t.Errorf("%s has the addresses %q", name, ips)
			}
			names = append(names, name)
		}
		return names
	}
	// Both lists are looked up at start, one after the other.
	ready := func() bool {
		all, published := asked("1.2.3.4", "all.rollout.test"), asked("1.2.3.4", "")
		return len(all) == 1 && all[0] == "all.rollout.test" && len(published) == 1
	}
	if !relay.Poll(60*time.Second, ready) {
		t.Fatalf("the names stay unknown:\n%s", r.Log())
	}
	for ip, share := range rollout {
		for name, percent := range map[string]float64{"some": 30, "all": 100, "none": 0, "odd": 0} {
			want := "published.rollout.test"
			if share < percent/100 {
				want = name + ".rollout.test"
			}
			if got := asked(ip, name+".rollout.test"); len(got) != 1 || got[0] != want {
				t.Errorf("%s is told %q about %s (%v percent), want %s", ip, got, name, percent, want)
			}
		}
	}
	if got := r.Varz(t)["bootstrap_dns_unpublished_percent_misses"]; got < float64(3*len(rollout)-4) {
		t.Errorf("bootstrap_dns_unpublished_percent_misses is %v", got)
	}
}
