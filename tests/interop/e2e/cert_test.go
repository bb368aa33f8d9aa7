package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// privateCA is a root with one intermediate, as a company runs its own.
type privateCA struct {
	rootFile     string // PEM, for SSL_CERT_FILE
	intermediate *issuer
}

type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newPrivateCA(t testing.TB) *privateCA {
	t.Helper()
	root := issue(t, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Interop Test Root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	})
	intermediate := issue(t, root, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Interop Test Intermediate"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	})
	file := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(file, certPEM(root), 0o600); err != nil {
		t.Fatal(err)
	}
	return &privateCA{rootFile: file, intermediate: intermediate}
}

// serverCert makes a certificate for name. The chain is the leaf and its intermediate, PEM.
func (ca *privateCA) serverCert(t testing.TB, name string) (chain, key string) {
	t.Helper()
	leaf := issue(t, ca.intermediate, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(append(certPEM(leaf), certPEM(ca.intermediate)...)),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// issue signs template with parent, or with its own key when parent is nil.
func issue(t testing.TB, parent *issuer, template *x509.Certificate) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	template.BasicConstraintsValid = true
	signer := &issuer{cert: template, key: key}
	if parent != nil {
		signer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, &key.PublicKey, signer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{cert: cert, key: key}
}

func certPEM(i *issuer) []byte {
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
	return b.Bytes()
}
