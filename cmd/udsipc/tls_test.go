// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// certificateFiles returns the files of an authority, and of a certificate for 127.0.0.1 that it has signed.
func certificateFiles(t *testing.T) (ca, cert, key string) {
	t.Helper()
	authority := ipctest.NewAuthority(t)
	pair := authority.Certificate(t, "tool")
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return write("ca.pem", authority.PEM()), write("cert.pem", block("CERTIFICATE", pair.Certificate[0])),
		write("key.pem", block("PRIVATE KEY", private))
}
