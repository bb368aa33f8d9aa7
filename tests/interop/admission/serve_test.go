package admission_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// serve starts `detour serve`, which takes derper's flags with two dashes, and these settings of its own.
func serve(t testing.TB, env []string, args ...string) *relay.Relay {
	t.Helper()
	const script = `for a; do shift; case $a in -[a-z]*) a=-$a;; esac; set -- "$@" "$a"; done; exec "$0" serve "$@"`
	return relay.Start(t, relay.Options{
		NoSTUN: true, Binary: relay.DetourBinary(t), Wrap: []string{"sh", "-c", script}, Args: args, Env: env,
	})
}

// ours reports whether the settings of `detour serve` can be tested.
func ours(t testing.TB) bool {
	t.Helper()
	return relay.DetourOnly(t, "settings come from the environment and from a file")
}

func TestAllowFile(t *testing.T) {
	t.Parallel()
	if !ours(t) {
		return
	}
	first, second := key.NewNode(), key.NewNode()
	path := filepath.Join(t.TempDir(), "allow")
	writeFile(t, path, "# our nodes\n"+keyText(first.Public())+"  first\n")
	r := serve(t, []string{"DETOUR_ALLOW_FILE=" + path})
	a := dial(t, r, first, wire.DefaultInfo)
	wantAdmitted(t, a)
	wantRefused(t, dial(t, r, second, wire.DefaultInfo))
	wantLog(t, r, "client "+keyText(second.Public())+" from 127.0.0.1 refused: its key is not in the allow file")

	writeFile(t, path, keyText(second.Public())+"\n")
	a.WantClosed()
	wantAdmitted(t, dial(t, r, second, wire.DefaultInfo))

	writeFile(t, path, "garbage\n")
	wantLog(t, r, "line 1 does not begin with a node key")
	wantAdmitted(t, dial(t, r, second, wire.DefaultInfo))
}

func TestAllowFileThatIsWrongIsFatal(t *testing.T) {
	t.Parallel()
	if !ours(t) {
		return
	}
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	writeFile(t, bad, "nodekey:12\n")
	for _, path := range []string{bad, filepath.Join(dir, "missing")} {
		r := relay.Start(t, relay.Options{
			NoSTUN: true, NoWait: true, Binary: relay.DetourBinary(t), Env: []string{"DETOUR_ALLOW_FILE=" + path},
			Wrap: []string{"sh", "-c", `exec "$0" serve --hostname 127.0.0.1 --listen 127.0.0.1:0 --http-port off --no-stun --cert-dir ` +
				dir + ` --key-file ` + dir + `/key`},
		})
		<-r.Exited()
		if err := r.ExitError(); err == nil || err.Error() != "exit status 1" {
			t.Errorf("with %s it ended with %v, want status 1", path, err)
		}
		wantLog(t, r, "allow file "+path)
	}
}

// One yes of several sources is enough, and a source that is dead keeps nobody out whom another lets in.
func TestOneYesIsEnough(t *testing.T) {
	t.Parallel()
	if !ours(t) {
		return
	}
	listed, known, verified := key.NewNode(), key.NewNode(), key.NewNode()
	knows := func(priv key.NodePrivate, yes, no answer) func(string) answer {
		return func(k string) answer {
			if k == keyText(priv.Public()) {
				return yes
			}
			return no
		}
	}
	path := filepath.Join(t.TempDir(), "allow")
	writeFile(t, path, keyText(listed.Public())+"\n")
	ts := newTailscaled(t, knows(known, answer{status: 200, body: whoisYes}, answer{status: 404, body: notInMap}))
	dead := filepath.Join(filepath.Dir(ts.socket), "dead.sock")
	no := newController(t, always(200, allowNo))
	yes := newController(t, knows(verified, answer{status: 200, body: allowYes}, answer{status: 200, body: allowNo}))
	r := serve(t, nil, "--allow-file", path, "--verify-clients", "--socket", dead, "--socket", ts.socket,
		"--verify-client-url", no.server.URL, "--verify-client-url", yes.server.URL)
	for _, priv := range []key.NodePrivate{listed, known, verified} {
		wantAdmitted(t, dial(t, r, priv, wire.DefaultInfo))
	}
	wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	wantLog(t, r, "there is no socket "+dead)
}

// Under its own name the relay is closed while a source fails, unless told otherwise; the log names the
// switch.
func TestServeIsClosedWhileNobodyAnswers(t *testing.T) {
	t.Parallel()
	if !ours(t) {
		return
	}
	closed := fmt.Sprintf("http://127.0.0.1:%d/", relay.FreePort(t, "127.0.0.1"))
	r := serve(t, nil, "--verify-client-url", closed)
	priv := key.NewNode()
	wantRefused(t, dial(t, r, priv, wire.DefaultInfo))
	wantLog(t, r, keyText(priv.Public()))
	wantLog(t, r, closed)
	wantAdmitted(t, dial(t, serve(t, nil, "--verify-client-url", closed, "--verify-client-url-fail-open"), priv, wire.DefaultInfo))
}

// The Authorization header comes from a file, which is read again when it changes.
func TestControllersGetAnAuthorizationHeader(t *testing.T) {
	t.Parallel()
	if !ours(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "auth")
	writeFile(t, path, "Bearer first\n")
	c := newController(t, nil)
	token := atomic.Value{}
	token.Store("Bearer first")
	c.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != token.Load() {
			w.WriteHeader(401)
			return
		}
		fmt.Fprint(w, allowYes)
	})
	r := serve(t, nil, "--verify-client-url", c.server.URL, "--verify-client-url-auth-file", path)
	wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))

	token.Store("Bearer second")
	wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	wantLog(t, r, "--verify-client-url-auth-file")
	writeFile(t, path, "Bearer second\n")
	wantLog(t, r, path+": read again")
	wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	if strings.Contains(r.Log(), "Bearer") {
		t.Error("the log has the header in it")
	}
}

// Proxies of the environment are used as Go uses them: for other hosts, never for this machine.
func TestControllersBehindAProxy(t *testing.T) {
	t.Parallel()
	var through atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through.Add(1)
		if r.URL.Host != "controller.invalid" || r.Method != "POST" {
			w.WriteHeader(502)
			return
		}
		fmt.Fprint(w, allowYes)
	}))
	t.Cleanup(proxy.Close)
	start := func(env []string, url string) *relay.Relay {
		return relay.Start(t, relay.Options{
			NoSTUN: true, Env: env, Args: []string{"-verify-client-url", url, "-verify-client-url-fail-open=false"},
		})
	}
	for _, name := range []string{"HTTP_PROXY", "http_proxy"} {
		r := start([]string{name + "=" + proxy.URL}, "http://controller.invalid/verify")
		wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	}
	if n := through.Load(); n != 2 {
		t.Errorf("%d requests came through the proxy, want 2", n)
	}
	c := newController(t, always(200, allowYes))
	r := start([]string{"HTTP_PROXY=" + proxy.URL, "HTTPS_PROXY=" + proxy.URL}, c.server.URL)
	wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	r = start([]string{"HTTP_PROXY=" + proxy.URL, "NO_PROXY=.invalid"}, "http://controller.invalid/verify")
	wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	if n := through.Load(); n != 2 {
		t.Errorf("%d requests came through the proxy, want still 2", n)
	}
}

// Controllers with certificates of a private authority, which SSL_CERT_FILE names.
func TestControllersOverTLS(t *testing.T) {
	t.Parallel()
	c := &source{answer: always(200, allowYes)}
	c.server = httptest.NewTLSServer(c)
	t.Cleanup(c.stop)
	ca := relay.NewCA()
	start := func(args ...string) *relay.Relay {
		return relay.Start(t, relay.Options{NoSTUN: true, Args: append(args, "-verify-client-url-fail-open=false")})
	}
	r := start("-verify-client-url", c.server.URL)
	wantRefused(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
	if relay.DetourOnly(t, "messages name the file and the mending") {
		wantLog(t, r, "SSL_CERT_FILE")
	}

	chain, private := ca.For("127.0.0.1")
	trusted := &source{answer: always(200, allowYes)}
	trusted.server = httptest.NewUnstartedServer(trusted)
	trusted.server.TLS = tlsConfig(t, chain, private)
	trusted.server.StartTLS()
	t.Cleanup(trusted.stop)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, []byte(ca.PEM), 0o600); err != nil {
		t.Fatal(err)
	}
	r = relay.Start(t, relay.Options{
		NoSTUN: true, Env: []string{"SSL_CERT_FILE=" + roots},
		Args: []string{"-verify-client-url", trusted.server.URL, "-verify-client-url-fail-open=false"},
	})
	wantAdmitted(t, dial(t, r, key.NewNode(), wire.DefaultInfo))
}

func tlsConfig(t testing.TB, chain, private string) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(chain), []byte(private))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}
