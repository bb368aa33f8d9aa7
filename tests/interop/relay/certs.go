package relay

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// CA is a certificate authority for tests.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	PEM  string // the certificate
	// Chain is what a server sends behind its leaf: empty for a root.
	Chain string
}

// Leaf says what certificate to issue.
type Leaf struct {
	Names               []string // DNS names and addresses
	NotBefore, NotAfter time.Time
	Key                 crypto.Signer // default: a new ECDSA P-256 key
}

// NewCA makes a root.
func NewCA() *CA { return newCA("Interop Test Root", nil) }

// Intermediate makes an authority below ca.
func (ca *CA) Intermediate() *CA {
	name := "Interop Test Intermediate"
	if ca.Chain != "" {
		name = "Lower " + ca.Cert.Subject.CommonName
	}
	return newCA(name, ca)
}

func newCA(name string, parent *CA) *CA {
	priv := newKey()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(365 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	ca := &CA{Key: priv}
	signer, signerKey := template, crypto.Signer(priv)
	if parent != nil {
		signer, signerKey = parent.Cert, parent.Key
	}
	ca.Cert = sign(template, signer, priv, signerKey)
	ca.PEM = certPEM(ca.Cert)
	if parent != nil {
		ca.Chain = ca.PEM + parent.Chain
	}
	return ca
}

// Issue makes a certificate and gives it with its key as PEM. The first is the leaf alone: append
// ca.Chain for the full chain.
func (ca *CA) Issue(l Leaf) (certificate, privateKey string) {
	if l.NotBefore.IsZero() {
		l.NotBefore = time.Now().Add(-time.Hour)
	}
	if l.NotAfter.IsZero() {
		l.NotAfter = time.Now().Add(90 * 24 * time.Hour)
	}
	if l.Key == nil {
		l.Key = newKey()
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: l.Names[0]},
		NotBefore:             l.NotBefore,
		NotAfter:              l.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, n := range l.Names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	cert := sign(template, ca.Cert, l.Key, ca.Key)
	return certPEM(cert), KeyPEM(l.Key)
}

// SelfSigned makes a certificate that vouches for itself and is no authority, as derper makes one for
// an IP address, and gives it with its key as PEM.
func SelfSigned(l Leaf) (certificate, privateKey string) {
	self := &CA{Key: newKey()}
	self.Cert = &x509.Certificate{Subject: pkix.Name{CommonName: l.Names[0]}}
	l.Key = self.Key
	return self.Issue(l)
}

// For issues a certificate for these names with its full chain, and its key.
func (ca *CA) For(names ...string) (chain, privateKey string) {
	c, k := ca.Issue(Leaf{Names: names})
	return c + ca.Chain, k
}

// Pool holds this CA alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

// KeyPEM encodes a private key (PKCS #8).
func KeyPEM(k crypto.Signer) string {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func newKey() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err)
	}
	return n
}

func sign(template, parent *x509.Certificate, k, parentKey crypto.Signer) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, k.Public(), parentKey)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}
