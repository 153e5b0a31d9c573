// SPDX-License-Identifier: Apache-2.0

package udsipc_test

// This file has each line that slog.Default gets without options.

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// lineTests are events, each with the parts of its line. cause makes it happen at an address, and stops everything.
var lineTests = []struct {
	name  string
	cause func(t *testing.T, path string)
	want  []string
}{
	{"possible loss", func(t *testing.T, path string) {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := ipctest.StartWriter(t, path)
		ipctest.MustWriteMessage(t, w, "unread")
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ipctest.Until(t, "it is sent", func() bool { return w.Metrics().Sent == 1 })
		conn.Close()
		ipctest.Until(t, "it counts", func() bool { return w.Metrics().PossiblyLost == 1 })
		_ = w.Stop(ended(t))
	}, []string{"WARN udsipc: messages may be lost messages=1 err="}},
	{"dropped", func(t *testing.T, path string) {
		w := ipctest.NewWriter(t, path, udsipc.WithOverflow(udsipc.OverflowDropOldest), udsipc.WithMaxBufferedWrites(1))
		for range 3 {
			ipctest.MustWriteMessage(t, w, "x")
		}
		_ = w.Stop(ended(t))
	}, []string{"WARN udsipc: the queue is full: the oldest messages were dropped messages=2 err=",
		"ERROR udsipc: stopped before everything was delivered messages=1 err="}},
	{"expired", func(t *testing.T, path string) {
		w := ipctest.NewWriter(t, path, udsipc.WithMaxAge(time.Millisecond))
		ipctest.MustWriteMessage(t, w, "x")
		ipctest.Until(t, "it has expired", func() bool { return w.Metrics().Expired == 1 })
		_ = w.Stop(ended(t))
	}, []string{"WARN udsipc: messages have expired messages=1 err="}},
	{"set aside", func(t *testing.T, path string) {
		r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithMaxMessageSize(3))
		w := ipctest.NewWriter(t, path, udsipc.WithAcknowledgements())
		ipctest.MustWriteMessage(t, w, "too large")
		ipctest.MustStart(t, w)
		_ = w.Stop(t.Context())
		ipctest.Stop(t, r)
	}, []string{"ERROR udsipc: gave up messages that the reader refuses messages=1 err="}},
	{"a stop without deadline", func(t *testing.T, path string) {
		w := ipctest.StartWriter(t, path)
		ipctest.MustWriteMessage(t, w, "x")
		ctx, cancel := context.WithTimeout(t.Context(), 1300*time.Millisecond)
		defer cancel()
		go func() { // Ends with the other call.
			_ = w.Stop(context.Background())
		}()
		_ = w.Stop(ctx)
	}, []string{"WARN udsipc: Stop waits, and its context has no deadline waited=1",
		"s waiting=1 err=1 message waits: nobody listens: connect: no such file or directory\n"}},
	{"no answer", func(t *testing.T, path string) {
		defer ipctest.MustListen(t, path).Close()
		w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements(), udsipc.WithWriteTimeout(time.Millisecond))
		ipctest.MustWriteMessage(t, w, "x")
		ipctest.Until(t, "it is reported", func() bool { return w.Metrics().Errors > 0 })
		_ = w.Stop(ended(t))
	}, []string{"WARN udsipc: the peer does not answer yet times=1 waiting=",
		"err=peer does not read: no welcome within 1ms"}},
	{"unauthorized", func(t *testing.T, path string) {
		r := ipctest.StartReader(t, ipctest.Ignore, path,
			udsipc.WithAuthorizer(func(udsipc.Peer) error { return errors.New("not you") }))
		knock(t, path)
		ipctest.Until(t, "it is refused", func() bool { return r.Metrics().Unauthorized == 1 })
		ipctest.Stop(t, r)
	}, []string{"WARN udsipc: refused peers that are not authorized peer=connection 1", "times=1 err=", "not you"}},
	{"TLS", func(t *testing.T, path string) {
		r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithTLS(&tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") },
		}))
		knock(t, path)
		ipctest.Until(t, "it is refused", func() bool { return r.Metrics().HandshakeErrors == 1 })
		ipctest.Stop(t, r)
	}, []string{"WARN udsipc: refused peers: TLS handshake failed peer=connection 1", "times=1 err="}},
	{"input", func(t *testing.T, path string) {
		r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithMaxMessageSize(1))
		knock(t, path)
		ipctest.Until(t, "it is refused", func() bool { return r.Metrics().TooLarge == 1 })
		ipctest.Stop(t, r)
	}, []string{"WARN udsipc: refused input peer=connection 1", "times=1 err=message too large"}},
	{"metrics", func(t *testing.T, path string) {
		t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
		if err := os.WriteFile(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "udsipc"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		ipctest.Stop(t, ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithPublishedMetrics("x")))
	}, []string{"WARN udsipc: cannot publish the metrics ", "times=1 err=invalid socket path"}},
	{"a panic", func(t *testing.T, path string) {
		r := ipctest.StartReader(t, func([]byte) error { panic("oh") }, path)
		w := ipctest.StartWriter(t, path)
		ipctest.MustWriteMessage(t, w, "x")
		_ = w.Stop(t.Context())
		ipctest.Stop(t, r)
	}, []string{"WARN udsipc: handler failed peer=connection 1", "times=1 err=handler failed: panic: oh"}},
	{"a dead letter", func(t *testing.T, path string) {
		r := ipctest.StartReader(t, func([]byte) error { return errors.New("no") }, path, udsipc.WithMaxRedeliveries(0))
		w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements())
		ipctest.MustWriteMessage(t, w, "x")
		_ = w.Stop(t.Context())
		ipctest.Stop(t, r)
	}, []string{"WARN udsipc: gave up messages whose handler fails: dead letters peer=connection 1",
		"messages=1 err=message 1 of"}},
	{"accepts no more", func(t *testing.T, path string) {
		r := ipctest.StartReader(t, ipctest.Ignore, path,
			udsipc.WithListener(brokenListener{}), udsipc.WithMaxAcceptErrors(0))
		<-r.Done()
		ipctest.Stop(t, r)
	}, []string{"ERROR udsipc: accepts no more connections: gave up err=giving up after 1 errors in a row: broken"}},
}

// A brokenListener accepts nothing.
type brokenListener struct{}

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken") }
func (brokenListener) Close() error              { return nil }
func (brokenListener) Addr() net.Addr            { return &net.UnixAddr{Name: "broken", Net: "unix"} }

// knock connects, sends a message of two bytes, and waits for the end.
func knock(t *testing.T, path string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = conn.Write([]byte("\x02ab"))
}

// TestLogger_Default_HasEachLine, with the address, once, and nothing else.
func TestLogger_Default_HasEachLine(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	for _, test := range lineTests {
		t.Run(test.name, func(t *testing.T) {
			lines, path := newLineLog(), ipctest.SocketPath(t)
			slog.SetDefault(slog.New(onlyAddress{lines, path}))
			test.cause(t, path)
			for _, want := range test.want {
				if strings.HasPrefix(want, "WARN") || strings.HasPrefix(want, "ERROR") {
					if got := strings.Count("\n"+lines.all(), "\n"+want); got != 1 {
						t.Errorf("%d lines %q in\n%s", got, want, lines.all())
					}
				} else if !lines.has(want) {
					t.Errorf("no %q in\n%s", want, lines.all())
				}
			}
		})
	}
}

// An onlyAddress is a handler for the lines of one address.
type onlyAddress struct {
	*lineLog
	address string
}

func (h onlyAddress) Handle(ctx context.Context, r slog.Record) error {
	own := false
	r.Attrs(func(a slog.Attr) bool {
		own = own || a.Key == "address" && a.Value.String() == h.address
		return true
	})
	if !own {
		return nil
	}
	return h.lineLog.Handle(ctx, r)
}

// TestLogger_Quiet_WhenNothingIsWrong: connections come, go, are lost and made again.
func TestLogger_Quiet_WhenNothingIsWrong(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	lines, path := newLineLog(), ipctest.SocketPath(t)
	slog.SetDefault(slog.New(onlyAddress{lines, path}))
	w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements())
	for range 3 {
		handled := make(chan struct{}, 10)
		r := ipctest.StartReader(t, func([]byte) error { handled <- struct{}{}; return nil }, path)
		ipctest.MustWriteMessage(t, w, "x")
		ipctest.Await(t, "the message", handled)
		ipctest.Stop(t, r)
	}
	_ = w.Stop(t.Context())
	if lines.all() != "" {
		t.Error(lines.all())
	}
}
