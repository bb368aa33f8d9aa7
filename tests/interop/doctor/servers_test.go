package doctor_test

import (
	"bufio"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"detour.example/interop/relay"
	"golang.org/x/net/dns/dnsmessage"
	"tailscale.com/net/stun"
	"tailscale.com/types/key"
)

// namedRelay is a healthy relay with the name derp.example.test and a full chain.
func namedRelay(t testing.TB) (*relay.CA, *relay.Relay) {
	t.Helper()
	ca := relay.NewCA()
	chain, privateKey := ca.Intermediate().For("derp.example.test")
	return ca, relay.Start(t, relay.Options{
		Host: "derp.example.test", CertFile: chain, KeyFile: privateKey, Roots: ca.PEM,
	})
}

// plainRelay is a healthy relay that speaks plain HTTP, for what stands in front of it.
func plainRelay(t testing.TB, args ...string) *relay.Relay {
	t.Helper()
	// On any port but 443 derper speaks TLS in manual mode only.
	r := relay.Start(t, relay.Options{NoWait: true, Args: append([]string{"-certmode", "letsencrypt"}, args...)})
	if !relay.Poll(30*time.Second, func() bool {
		res, err := http.Get("http://" + r.Addr + "/derp/probe")
		if err != nil {
			return false
		}
		res.Body.Close()
		_, err = relay.STUNRequest(r.STUNAddr, time.Second)
		return err == nil
	}) {
		t.Fatalf("the relay without TLS does not serve:\n%s", r.Log())
	}
	k, err := relay.PublicKeyOfFile(r.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	r.PublicKey = k
	return r
}

// listen gives a listener on loopback that ends with the test.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve handles each connection until the test ends.
func serve(t testing.TB, l net.Listener, handle func(net.Conn)) string {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer func() {
					c.Close()
					mu.Lock()
					delete(open, c)
					mu.Unlock()
				}()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// join copies both ways until one side ends.
func join(a, b net.Conn) {
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	<-done
	a.Close()
	b.Close()
	<-done
}

// front ends TLS before a relay without TLS, with whatever certificates the test wants.
type front struct {
	chain   string // PEM, what is sent
	key     string // PEM, of the first
	meta    *relay.Relay
	config  *tls.Config
	backend string
	// filter changes what the relay answers; nil leaves it.
	filter func([]byte) []byte
}

func (f front) start(t testing.TB) string {
	t.Helper()
	certificate := tls.Certificate{Certificate: ders(f.chain), PrivateKey: parseKey(t, f.key)}
	if f.meta != nil {
		certificate.Certificate = append(certificate.Certificate, metaCertificate(t, f.meta.PublicKey))
	}
	config := &tls.Config{}
	if f.config != nil {
		config = f.config.Clone()
	}
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }
	return serve(t, listen(t), func(raw net.Conn) {
		c := tls.Server(raw, config)
		if c.Handshake() != nil {
			return
		}
		b, err := net.Dial("tcp", f.backend)
		if err != nil {
			return
		}
		if f.filter == nil {
			join(c, b)
			return
		}
		go func() { io.Copy(b, c); b.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := b.Read(buf)
			if n > 0 {
				if _, err := c.Write(f.filter(buf[:n])); err != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		c.Close()
		b.Close()
	})
}

func ders(chain string) [][]byte {
	var all [][]byte
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		all = append(all, block.Bytes)
	}
}

func parseKey(t testing.TB, text string) crypto.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// metaCertificate is what a relay sends behind its chain: its key in the common name.
func metaCertificate(t testing.TB, pub key.NodePublic) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		Subject:               pkix.Name{CommonName: "derpkey" + pub.UntypedHexString()},
		NotBefore:             time.Now().Add(-30 * 24 * time.Hour),
		NotAfter:              time.Now().Add(30 * 24 * time.Hour),
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// records are the addresses of names. A name that is not there does not exist.
type records map[string][]string

// serveDNS answers A and AAAA queries and gives its address. With nil it stays silent.
func serveDNS(t testing.TB, r records) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { c.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := answerDNS(buf[:n], r); answer != nil && r != nil {
				c.WriteTo(answer, from)
			}
		}
	})
	return c.LocalAddr().String()
}

func answerDNS(query []byte, r records) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header.Response = true
	addresses, known := r[strings.TrimSuffix(q.Name.String(), ".")]
	if !known {
		m.Header.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		ip := netip.MustParseAddr(a)
		head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
		if ip.Is4() && q.Type == dnsmessage.TypeA {
			head.Type = dnsmessage.TypeA
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: ip.As4()}})
		} else if ip.Is6() && q.Type == dnsmessage.TypeAAAA {
			head.Type = dnsmessage.TypeAAAA
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
		}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// serveUDP answers each datagram with what the function gives, from `from` if that is another socket.
func serveUDP(t testing.TB, answer func(datagram []byte, from netip.AddrPort) []byte, elsewhere bool) string {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	sender := c
	if elsewhere {
		if sender, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { c.Close(); sender.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if b := answer(buf[:n], from); b != nil {
				sender.WriteToUDPAddrPort(b, from)
			}
		}
	})
	return c.LocalAddr().String()
}

// stunAnswer says that the request came from that address.
func stunAnswer(request []byte, mapped netip.AddrPort) []byte {
	tx, err := stun.ParseBindingRequest(request)
	if err != nil {
		return nil
	}
	return stun.Response(tx, mapped)
}

// nginx runs nginx with that server block on a free port, which %d in it stands for.
func nginx(t testing.TB, server string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Fatalf("nginx is needed: %v", err)
		}
	}
	dir := t.TempDir()
	p := relay.FreePort(t, "127.0.0.1")
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	config := fmt.Sprintf(`%spid %s/pid; error_log stderr; worker_processes 1;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f;
  uwsgi_temp_path %s/u; scgi_temp_path %s/s;
  server { listen 127.0.0.1:%d ssl; %s }
}
`, user, dir, dir, dir, dir, dir, dir, p, server)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	relay.Background(t, exec.Command(program, "-c", file, "-g", "daemon off; master_process off;"))
	addr := fmt.Sprintf("127.0.0.1:%d", p)
	if !relay.Poll(30*time.Second, func() bool { return relay.Accepts(addr) }) {
		t.Fatal("nginx does not serve")
	}
	return addr
}

// serveHTTP answers requests over TLS by hand: the function gets the request and the connection.
func serveHTTP(t testing.TB, ca *relay.CA, handle func(*http.Request, net.Conn)) string {
	t.Helper()
	chain, privateKey := ca.For("127.0.0.1")
	certificate := tls.Certificate{Certificate: ders(chain), PrivateKey: parseKey(t, privateKey)}
	return serve(t, listen(t), func(raw net.Conn) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}})
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		handle(req, c)
		c.Close()
	})
}

// hold keeps a connection open until the other side leaves.
func hold(c net.Conn) { io.Copy(io.Discard, c) }
