package httpstun_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
)

// lookupTimeout covers look-ups that fail: a resolver that nobody answers gives up late.
const lookupTimeout = 60 * time.Second

// bootstrap asks for names and gives them with their addresses sorted.
func bootstrap(t *testing.T, r *relay.Relay, query string) (map[string][]string, string) {
	t.Helper()
	res, body, err := r.Get("/bootstrap-dns" + query)
	if err != nil {
		t.Fatal(err)
	}
	want := with(browserHeaders, "Content-Type", "application/json")
	for k, v := range want {
		if got := res.Header.Get(k); got != v {
			t.Errorf("%s is %q, want %q", k, got, v)
		}
	}
	if res.StatusCode != 200 || !res.Close {
		t.Errorf("status %d, end of the connection %v; want 200 and the end", res.StatusCode, res.Close)
	}
	if len(body) == 0 {
		return nil, ""
	}
	var names map[string][]string
	if err := json.Unmarshal(body, &names); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	for _, ips := range names {
		slices.Sort(ips)
	}
	return names, string(body)
}

// counters are those of /bootstrap-dns.
func counters(t *testing.T, r *relay.Relay) map[string]float64 {
	got := map[string]float64{}
	for name, v := range r.Vars(t) {
		if short, ok := strings.CutPrefix(name, "counter_bootstrap_dns_"); ok {
			got[short] = v.(float64)
		}
	}
	return got
}

func wantDeltas(t *testing.T, before, after map[string]float64, want map[string]float64) {
	t.Helper()
	for name := range before {
		if got := after[name] - before[name]; got != want[name] {
			t.Errorf("bootstrap_dns_%s moved by %v, want %v", name, got, want[name])
		}
	}
}

func TestBootstrapDNS(t *testing.T) {
	t.Parallel()
	t.Run("no names", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{NoSTUN: true})
		if _, body := bootstrap(t, r, ""); body != "" {
			t.Errorf("got %q, want nothing", body)
		}
		before := counters(t, r)
		bootstrap(t, r, "?q=one.example")
		bootstrap(t, r, "?q=two.example")
		bootstrap(t, r, "?q=one.example")
		bootstrap(t, r, "?q=")
		wantDeltas(t, before, counters(t, r), map[string]float64{"requests": 4, "unpublished_misses": 3, "queried_domains": 2})
	})
	t.Run("published", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-bootstrap-dns-names", "localhost"}})
		var body string
		if !relay.Poll(lookupTimeout, func() bool { _, body = bootstrap(t, r, ""); return body != "" }) {
			t.Fatal("the names stay empty")
		}
		names, _ := bootstrap(t, r, "")
		if len(names) != 1 || !slices.Contains(names["localhost"], "127.0.0.1") {
			t.Errorf("got %v, want localhost with 127.0.0.1", names)
		}
		if !strings.HasPrefix(body, "{\n\t\"localhost\": [\n\t\t\"") || !strings.HasSuffix(body, "\"\n\t]\n}") {
			t.Errorf("got %q, want it indented by tabs", body)
		}
		before := counters(t, r)
		for _, q := range []string{"?q=localhost", "?q=other.example", "?q=l%6fcalhost"} {
			if _, got := bootstrap(t, r, q); got != body {
				t.Errorf("%s: got %q, want all published names: %q", q, got, body)
			}
		}
		wantDeltas(t, before, counters(t, r), map[string]float64{"requests": 3, "published_hits": 2, "unpublished_misses": 1, "queried_domains": 2})
	})
	t.Run("unpublished", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-unpublished-bootstrap-dns-names", "localhost"}})
		var names map[string][]string
		if !relay.Poll(lookupTimeout, func() bool { names, _ = bootstrap(t, r, "?q=localhost"); return names != nil }) {
			t.Fatal("the name stays unknown")
		}
		if len(names) != 1 || !slices.Contains(names["localhost"], "127.0.0.1") {
			t.Errorf("got %v, want localhost with 127.0.0.1", names)
		}
		before := counters(t, r)
		if _, body := bootstrap(t, r, ""); body != "" {
			t.Errorf("without a query: %q, want nothing", body)
		}
		bootstrap(t, r, "?q=localhost")
		wantDeltas(t, before, counters(t, r), map[string]float64{"requests": 2, "unpublished_hits": 1})
	})
	t.Run("unpublished, without a record that says for whom", func(t *testing.T) {
		t.Parallel()
		r := relay.Start(t, relay.Options{NoSTUN: true, Args: []string{"-unpublished-bootstrap-dns-names", "localhost/percent.interop.invalid"}})
		var delta float64
		known := relay.Poll(lookupTimeout, func() bool {
			before := counters(t, r)
			if _, body := bootstrap(t, r, "?q=localhost"); body != "" {
				t.Errorf("got %q, want nothing", body)
			}
			delta = counters(t, r)["unpublished_percent_misses"] - before["unpublished_percent_misses"]
			return delta == 1
		})
		if !known {
			t.Errorf("unpublished_percent_misses moved by %v, want 1", delta)
		}
	})
}

func TestConsistencyCheck(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	debugHeaders := with(browserHeaders, "Content-Security-Policy", browserHeaders["Content-Security-Policy"]+"; style-src 'self' 'unsafe-inline'")
	fine := row{path: "/debug/check", status: 200, want: with(debugHeaders, "Content-Type", textPlain), body: "derp.Server ConsistencyCheck okay"}
	fine.check(t, "https://"+r.Addr)
	a := wire.Login(t, r)
	a.WantAlive()
	fine.check(t, "https://"+r.Addr)
	// A key with two connections is counted twice and listed once.
	b := wire.LoginAs(t, r, a.Priv)
	b.WantAlive()
	row{path: "/debug/check", status: 500, want: with(debugHeaders, "Content-Type", textPlain), bodyHas: []string{"2", "1"}}.check(t, "https://"+r.Addr)
	row{path: "/debug/check", headers: map[string]string{"X-Forwarded-For": "192.0.2.1"}, status: 403, body: "debug access denied\n"}.check(t, "https://"+r.Addr)
}
