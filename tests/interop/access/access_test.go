// Package access_test checks who may read a relay's debug pages, by clients that really come from the
// addresses in question: loopback has them all in a world of its own.
package access_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/world"
)

// addresses are where clients come from besides 127.0.0.1 and ::1.
var addresses = []string{
	"100.63.255.254", "100.64.0.1", "100.115.91.255", "100.115.92.0", "100.115.93.255", "100.115.94.0", "100.127.255.254", "100.128.0.1",
	"192.0.2.1", "192.0.2.2", "192.0.2.200", "198.51.100.7", "10.0.0.1",
	"fd7a:115c:a1e0::1", "fd7a:115c:a1e0:ffff::1", "fd7a:115c:a1e1::1", "2001:db8::1", "2001:db8::2", "2001:db8:1::1",
}

func TestMain(m *testing.M) {
	world.Main(m, func() error {
		for i, ip := range addresses {
			if err := world.Address(fmt.Sprintf("lo:%d", i+1), ip); err != nil {
				return fmt.Errorf("%s: %w", ip, err)
			}
		}
		for ip := range rollout {
			if err := world.Address("lo:r"+ip[len("1.2.3."):], ip); err != nil {
				return fmt.Errorf("%s: %w", ip, err)
			}
		}
		return world.File("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
	})
}

// get asks from an address, which is also where the relay is reached.
func get(t *testing.T, ip string, port int, scheme, path string, headers http.Header) (*http.Response, string) {
	t.Helper()
	return ask(t, ip, port, scheme+"://relay.example"+path, headers)
}

// getNamed asks a listener without TLS as `host`.
func getNamed(t *testing.T, ip, host string, port int, path string, headers http.Header) (*http.Response, string) {
	t.Helper()
	return ask(t, ip, port, "http://"+host+path, headers)
}

func ask(t *testing.T, ip string, port int, url string, headers http.Header) (*http.Response, string) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, net.JoinHostPort(ip, fmt.Sprint(port)))
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if headers != nil {
		req.Header = headers
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("from %s: %v", ip, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestWhoMayReadDebugPages(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("open-sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	always := []string{"127.0.0.1", "::1", "100.64.0.1", "100.115.91.255", "100.115.94.0", "100.127.255.254", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0:ffff::1"}
	for _, c := range []struct {
		name  string
		env   []string
		allow []string // besides those that always may
	}{
		{"nothing set", nil, nil},
		{"one address", []string{"TS_ALLOW_DEBUG_IP=192.0.2.1"}, []string{"192.0.2.1"}},
		{"one IPv6 address", []string{"TS_ALLOW_DEBUG_IP=2001:db8::1"}, []string{"2001:db8::1"}},
		{"an address written otherwise", []string{"TS_ALLOW_DEBUG_IP=2001:0db8::1"}, nil},
		{"one address and its neighbour", []string{"TS_ALLOW_DEBUG_IP=192.0.2.1,192.0.2.2"}, nil},
		{"ranges", []string{"TS_DEBUG_TRUSTED_CIDRS=192.0.2.0/25,2001:db8::/64"}, []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"}},
		{"a range with bits behind it", []string{"TS_DEBUG_TRUSTED_CIDRS=192.0.2.77/25"}, []string{"192.0.2.1", "192.0.2.2"}},
		{"a range of one address", []string{"TS_DEBUG_TRUSTED_CIDRS=198.51.100.7/32"}, []string{"198.51.100.7"}},
		{"everybody", []string{"TS_DEBUG_TRUSTED_CIDRS=0.0.0.0/0,::/0"}, addresses},
		{"both", []string{"TS_ALLOW_DEBUG_IP=10.0.0.1", "TS_DEBUG_TRUSTED_CIDRS=192.0.2.2/32"}, []string{"10.0.0.1", "192.0.2.2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := relay.Start(t, relay.Options{NoSTUN: true, AnyIP: true, Env: append(c.env, "TS_DEBUG_KEY_PATH="+secret)})
			may := map[string]bool{}
			for _, ip := range append(append([]string{}, always...), c.allow...) {
				may[ip] = true
			}
			for _, ip := range append([]string{"127.0.0.1", "::1"}, addresses...) {
				status, body, link, root := 403, "debug access denied\n", false, "https://relay.example/"
				if may[ip] {
					status, link, root = 200, true, "https://relay.example/debug/"
				}
				res, got := get(t, ip, r.Port, "https", "/debug/check", nil)
				if res.StatusCode != status || !may[ip] && got != body {
					t.Errorf("from %s: %d %q, want %d", ip, res.StatusCode, got, status)
				}
				if res, _ := get(t, ip, r.HTTPPort, "http", "/debug/check", nil); res.StatusCode != status {
					t.Errorf("from %s on the HTTP port: %d, want %d", ip, res.StatusCode, status)
				}
				if _, got := get(t, ip, r.Port, "https", "/", nil); strings.Contains(got, "/debug/") != link {
					t.Errorf("from %s: the home page points to the debug pages: %v, want %v", ip, !link, link)
				}
				if res, _ := get(t, ip, r.HTTPPort, "http", "/", nil); res.Header.Get("Location") != root {
					t.Errorf("from %s: the HTTP port redirects to %s, want %s", ip, res.Header.Get("Location"), root)
				}
				// Nobody is who a header says; and the key opens from everywhere.
				forwarded := http.Header{"X-Forwarded-For": {"127.0.0.1"}}
				if res, _ := get(t, ip, r.Port, "https", "/debug/check", forwarded); res.StatusCode != 403 {
					t.Errorf("from %s with X-Forwarded-For: %d, want 403", ip, res.StatusCode)
				}
				if res, _ := get(t, ip, r.Port, "https", "/debug/check?debugkey=open-sesame", forwarded); res.StatusCode != 200 {
					t.Errorf("from %s with the key: %d, want 200", ip, res.StatusCode)
				}
			}
		})
	}
}

// The status page without a token is for this machine; with one it is for who has it, from anywhere.
func TestWhoMayOpenTheStatusPage(t *testing.T) {
	t.Parallel()
	if relay.IsDerper() {
		return // It has none.
	}
	const token = "open-sesame"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(args ...string) int {
		port := relay.FreePort(t, "127.0.0.1")
		relay.Start(t, relay.Options{Serve: true, NoSTUN: true, Args: append([]string{"--metrics-listen", fmt.Sprintf("[::]:%d", port)}, args...)})
		return port
	}
	open, guarded := start(), start("--metrics-token-file", file)
	for _, ip := range append([]string{"127.0.0.1", "::1"}, addresses...) {
		named := http.Header{} // Under its address, since a name is refused from everywhere.
		host := net.JoinHostPort(ip, fmt.Sprint(open))
		local := ip == "127.0.0.1" || ip == "::1"
		for _, path := range []string{"/", "/status.json"} {
			res, body := getNamed(t, ip, host, open, path, named)
			if local && res.StatusCode != 200 || !local && (res.StatusCode != 403 || !strings.Contains(body, "you come from "+ip) || !strings.Contains(body, "--metrics-token-file")) {
				t.Errorf("from %s, without a token, %s: %d %.200s", ip, path, res.StatusCode, body)
			}
		}
		if res, _ := getNamed(t, ip, host, open, "/metrics", named); res.StatusCode != 200 {
			t.Errorf("from %s: /metrics is %d", ip, res.StatusCode)
		}
		bearer := http.Header{"Authorization": {"Bearer " + token}}
		if res, _ := getNamed(t, ip, "relay.example", guarded, "/", named); res.StatusCode != 200 {
			t.Errorf("from %s: the page that asks for a token is %d", ip, res.StatusCode)
		}
		if res, _ := getNamed(t, ip, "relay.example", guarded, "/status.json", named); res.StatusCode != 401 {
			t.Errorf("from %s without the token: %d", ip, res.StatusCode)
		}
		if res, _ := getNamed(t, ip, "relay.example", guarded, "/status.json", bearer); res.StatusCode != 200 {
			t.Errorf("from %s with the token: %d", ip, res.StatusCode)
		}
	}
}
