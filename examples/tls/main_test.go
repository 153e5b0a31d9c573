// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(&out); err != nil {
		t.Fatal(err)
	}
	if want := "received: hello\nanother certificate was rejected\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// The reader rejects a writer that trusts it but has another certificate.
func TestPinnedConfig_OtherCertificate_IsRejectedByReader(t *testing.T) {
	ours, err := newConfig(filepath.Join(t.TempDir(), "ours.pem"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := newConfig(filepath.Join(t.TempDir(), "other.pem"))
	if err != nil {
		t.Fatal(err)
	}
	stranger.RootCAs = ours.RootCAs
	rejected := make(chan error, 100)
	listener, err := udsipc.Listen("tcp://127.0.0.1:0", udsipc.WithTLS(ours),
		udsipc.WithReaderErrorCallback(func(err error, _ string) { rejected <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := udsipc.Dial(t.Context(), "tcp://"+listener.Addr().String(), udsipc.WithTLS(stranger))
	if err == nil { // With TLS 1.3 a client learns it when it reads.
		_, err = conn.ReadMessage()
		conn.Close()
	}
	if err == nil {
		t.Error("the stranger may read")
	}
	if err := <-rejected; !errors.Is(err, udsipc.ErrHandshake) {
		t.Errorf("reported: %v", err)
	}
}

func TestCreateIdentity_File_IsPrivate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "identity.pem")
	if err := createIdentity(file); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("the file's mode is %v", info.Mode())
	}
}
