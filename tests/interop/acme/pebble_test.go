// Package acme_test has a relay get its certificates from a real ACME server, Let's Encrypt's
// pebble, and pick up certificate files that change on disk.
package acme_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
)

const (
	host = "relay.interop.test"
	// patience is how long a test waits for what has to come.
	patience = 120 * time.Second
)

// eventually looks again and again until f gives no error.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %v: %v", what, patience, err)
}

// pebbleOptions say what the authority is like.
type pebbleOptions struct {
	httpPort, tlsPort int  // where it looks for the relay
	eab               bool // it wants accounts that it knows
	// validity is how many seconds certificates last, by profile: default and, for addresses,
	// shortlived. An order that names none gets one of them by chance.
	validity  map[string]int
	blocked   []string // names that it gives none for
	badNonces int      // percent of nonces that it refuses
}

// authority is a running pebble with a DNS server that says 127.0.0.1 for all names.
type authority struct {
	t         testing.TB
	directory string
	caFile    string // root of its own HTTPS certificate
	https     *http.Client
	base      string
	admin     string
	dnsAdmin  string
	output    func() string
}

const (
	eabID  = "kid-1"
	eabKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
)

func startPebble(t testing.TB, o pebbleOptions) *authority {
	t.Helper()
	dir := t.TempDir()
	ca := relay.NewCA()
	certificate, key := ca.For("127.0.0.1")
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	port := func() int { return relay.FreePort(t, "127.0.0.1") }
	address := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	profiles := map[string]any{}
	if o.validity == nil {
		o.validity = map[string]int{"default": 90 * 86400}
	}
	for name, seconds := range o.validity {
		profiles[name] = map[string]any{"description": name, "validityPeriod": seconds}
	}
	listen, admin, dns, dnsAdmin := address(port()), address(port()), address(port()), address(port())
	closed := port() // nobody listens there
	if o.httpPort == 0 {
		o.httpPort = closed
	}
	if o.tlsPort == 0 {
		o.tlsPort = closed
	}
	config := map[string]any{
		"listenAddress": listen, "managementListenAddress": admin,
		"certificate": write("cert.pem", certificate), "privateKey": write("key.pem", key),
		"httpPort": o.httpPort, "tlsPort": o.tlsPort,
		"externalAccountBindingRequired": o.eab,
		"externalAccountMACKeys":         map[string]string{eabID: eabKey},
		"domainBlocklist":                o.blocked,
		"retryAfter":                     map[string]int{"authz": 1, "order": 1},
		"keyAlgorithm":                   "ecdsa",
		"profiles":                       profiles,
	}
	text, err := json.Marshal(map[string]any{"pebble": config})
	if err != nil {
		t.Fatal(err)
	}

	relay.Background(t, exec.Command(relay.Tool(t, "pebble-challtestsrv"), "-http01", "", "-https01", "", "-doh", "",
		"-tlsalpn01", "", "-dnsserver", dns, "-management", dnsAdmin, "-defaultIPv6", ""))
	cmd := exec.Command(relay.Tool(t, "pebble"), "-config", write("pebble.json", string(text)), "-dnsserver", dns)
	cmd.Env = append(relay.CleanEnv(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0",
		fmt.Sprintf("PEBBLE_WFE_NONCEREJECT=%d", o.badNonces))
	a := &authority{
		t:         t,
		directory: "https://" + listen + "/dir",
		caFile:    write("ca.pem", ca.PEM),
		https:     &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}},
		base:      "https://" + listen,
		admin:     "https://" + admin,
		dnsAdmin:  "http://" + dnsAdmin,
		output:    relay.Background(t, cmd),
	}
	t.Cleanup(a.https.CloseIdleConnections)
	eventually(t, "pebble serves", func() error {
		res, err := a.https.Get(a.directory)
		if err != nil {
			return err
		}
		res.Body.Close()
		if !relay.Accepts(dnsAdmin) {
			return errors.New("nobody listens at " + dnsAdmin)
		}
		return nil
	})
	return a
}

// roots holds the root of the certificates that it issues.
func (a *authority) roots() *x509.CertPool {
	a.t.Helper()
	res, err := a.https.Get(a.admin + "/roots/0")
	text := relay.Body(a.t, res, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(text)) {
		a.t.Fatalf("no root in %q", text)
	}
	return pool
}

// tell posts to the DNS server's management interface.
func (a *authority) tell(path string, body any) {
	a.t.Helper()
	text, _ := json.Marshal(body)
	res, err := http.Post(a.dnsAdmin+path, "application/json", bytes.NewReader(text))
	if err != nil {
		a.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		a.t.Fatalf("%s: status %d", path, res.StatusCode)
	}
}

// orders is how many certificates it has issued.
func (a *authority) orders() int {
	return strings.Count(a.output(), "Issued certificate serial")
}

// The authorities that are built into both servers.
const (
	letsEncrypt = "acme-v02.api.letsencrypt.org"
	google      = "dv.acme-v02.api.pki.goog"
)

// as puts something in front of the authority that a relay takes for one of those: a proxy to set as
// HTTPS_PROXY, and the root to trust. Derper knows no other address.
func (a *authority) as(name string) (env []string) {
	a.t.Helper()
	ca := relay.NewCA()
	chain, key := ca.For(name)
	certificate, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	target, _ := url.Parse(a.base)
	front := &httputil.ReverseProxy{
		Transport: a.https.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // pebble makes its URLs of it
			if r.In.URL.Path == "/directory" {
				r.Out.URL.Path = "/dir"
			}
		},
		// Let's Encrypt says where the order is when it is finalized; Go's client relies on that.
		ModifyResponse: func(r *http.Response) error {
			if id, ok := strings.CutPrefix(r.Request.URL.Path, "/finalize-order/"); ok && r.Header.Get("Location") == "" {
				r.Header.Set("Location", "https://"+name+"/my-order/"+id)
			}
			return nil
		},
	}
	served, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		a.t.Fatal(err)
	}
	frontServer := &http.Server{Handler: front}
	go frontServer.Serve(served)
	a.t.Cleanup(func() { frontServer.Close() })

	tunnel, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	tunnelServer := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "CONNECT" || r.Host != name+":443" {
			http.Error(w, "only CONNECT to "+name, http.StatusForbidden)
			return
		}
		out, err := net.Dial("tcp", served.Addr().String())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		in, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			out.Close()
			return
		}
		io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(out, buffered); out.Close() }()
		io.Copy(in, out)
		in.Close()
	})}
	go tunnelServer.Serve(tunnel)
	a.t.Cleanup(func() { tunnelServer.Close() })

	roots := filepath.Join(a.t.TempDir(), "letsencrypt.pem")
	if err := os.WriteFile(roots, []byte(ca.PEM), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return []string{"HTTPS_PROXY=http://" + tunnel.Addr().String(), "SSL_CERT_FILE=" + roots}
}

// handshake gives the chain that addr shows, without a look at it.
func handshake(addr, name string) ([]*x509.Certificate, error) {
	d := &net.Dialer{Timeout: 10 * time.Second}
	c, err := tls.DialWithDialer(d, "tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates, nil
}

// verified is the leaf that addr shows, checked as clients check it: chain, name, dates, and the meta
// certificate at the end. sni is sent; name, which may be an address, is what it has to be for.
func verified(addr, sni, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	chain, err := handshake(addr, sni)
	if err != nil {
		return nil, err
	}
	if len(chain) < 2 || !strings.HasPrefix(chain[len(chain)-1].Subject.CommonName, "derpkey") {
		return nil, errors.New("there is no meta certificate at the end of the chain")
	}
	o := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1 : len(chain)-1] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return nil, err
	}
	return chain[0], nil
}

// pemBlocks are the types of the blocks in a file.
func pemBlocks(t testing.TB, path string) (types []string) {
	t.Helper()
	rest, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return types
		}
		types = append(types, b.Type)
	}
}
