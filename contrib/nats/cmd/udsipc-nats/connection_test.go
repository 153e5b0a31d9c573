// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// TestDaemon_CredentialsRefused_GoesOnWhenMended: nats.go gives up after the same server has refused it twice,
// unless it is told not to.
func TestDaemon_CredentialsRefused_GoesOnWhenMended(t *testing.T) {
	s := supervise(t, "UDSIPC_NATS_PREFIX=events")
	_, stream := s.stream(jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}, AllowAtomicPublish: true})
	s.refuse.Store(true)
	s.start()
	s.hears("READY=1")
	s.until("refused thrice", func() bool { return s.refused.Load() >= 3 })
	s.refuse.Store(false)
	w, err := udsipc.NewWriter(s.address(), udsipc.WithAcknowledgements())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.WriteMessage([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.Flush(ctx); err != nil {
		t.Error(err)
	}
	if info, err := stream.Info(ctx); err != nil || info.State.Msgs != 1 {
		t.Errorf("%+v, %v: want 1 message", info, err)
	}
	s.ends(syscall.SIGTERM)
	if text := s.log.String(); strings.Count(text, "not connected to the cluster") != 1 ||
		!strings.Contains(strings.ToLower(text), "authorization violation") {
		t.Errorf("the log has not one line with the cause: %s", text)
	}
}

// TestConnect_TLS_NeedsAuthority of the server, and tells why it does not connect without.
func TestConnect_TLS_NeedsAuthority(t *testing.T) {
	web := httptest.NewTLSServer(nil) // It has a certificate for 127.0.0.1.
	defer web.Close()
	dir := t.TempDir()
	c, err := cluster.Start(1, dir, func(_ int, o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: web.TLS.Certificates}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	authority := filepath.Join(dir, "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := os.WriteFile(authority, text, 0o600); err != nil {
		t.Fatal(err)
	}
	test := &supervised{T: t}
	for _, file := range []string{authority, ""} {
		var last lastCause
		js, err := (&settings{urls: c.URL(0), tlsCA: file}).connect(make(chan error, 1), &last)
		if err != nil {
			t.Fatal(err)
		}
		defer js.Conn().Close()
		if file == "" {
			test.until("why", func() bool { return strings.Contains(last.String(), "certificate") })
		} else {
			test.until("connected", js.Conn().IsConnected)
		}
	}
	if _, err := (&settings{urls: c.URL(0), tlsCA: filepath.Join(dir, "none")}).connect(nil, nil); err == nil {
		t.Error("no error for a file that is missing")
	}
}
