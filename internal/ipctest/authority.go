// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	Pool *x509.CertPool
}

func (a *authority) sign(tb testing.TB, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(0, 1, 0),
		IsCA:                  a.cert == nil,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert, key
}

// Certificate returns a certificate for name, signed by the authority.
func (a *authority) Certificate(tb testing.TB, name string) tls.Certificate {
	tb.Helper()
	cert, key := a.sign(tb, name)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// Configs returns the TLS configurations of a reader that requires a certificate, and of a writer.
func (a *authority) Configs(tb testing.TB) (reader, writer *tls.Config) {
	tb.Helper()
	reader = &tls.Config{
		Certificates: []tls.Certificate{a.Certificate(tb, "collector")}, MinVersion: tls.VersionTLS13,
		ClientCAs: a.Pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	writer = &tls.Config{
		Certificates: []tls.Certificate{a.Certificate(tb, "agent")}, MinVersion: tls.VersionTLS13,
		RootCAs: a.Pool, ServerName: "collector",
	}
	return reader, writer
}

// NewAuthority returns a certificate authority with a new key.
func NewAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{Pool: x509.NewCertPool()}
	a.cert, a.key = a.sign(tb, "authority")
	a.Pool.AddCert(a.cert)
	return a
}

// PEM returns the certificate of the authority as a file has it.
func (a *authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// TellsCredentials reports whether the system has the credentials of a peer.
var TellsCredentials = slices.Contains([]string{"linux", "darwin", "freebsd"}, runtime.GOOS)
