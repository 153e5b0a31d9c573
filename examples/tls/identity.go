// SPDX-License-Identifier: Apache-2.0

package main

// This file is the recipe: one certificate that signs itself, which both sides present and which
// alone both sides accept. Copy it.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"time"
)

// name is the name in the certificate. It need not be the name of a host.
const name = "app.internal"

// createIdentity writes a new certificate and its private key to a file that only this user can
// read. Whoever has the file can connect and listen: copy it to the other side over a safe channel.
func createIdentity(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Hour), // For a clock that is behind.
		NotAfter:     time.Now().AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(file, text, 0o600)
}

// pinnedConfig returns the configuration of both sides: it presents the certificate of the file,
// and accepts a peer with that certificate and no other.
func pinnedConfig(file string) (*tls.Config, error) {
	identity, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return nil, err
	}
	pinned := x509.NewCertPool()
	pinned.AddCert(identity.Leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{identity},
		ServerName:   name,   // The writer checks that the reader's certificate has it.
		RootCAs:      pinned, // The writer accepts this certificate alone.
		ClientCAs:    pinned, // So does the reader,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}
