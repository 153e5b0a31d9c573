// SPDX-License-Identifier: Apache-2.0

package transport_test

// TLS of a connection: the handshake, and the end of the stream.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// tlsHandshake returns whether the peer is known by it.
func tlsHandshake(ctx context.Context, conn net.Conn) (known bool, err error) {
	peer := transport.Peer{}
	err = transport.TLSHandshake(ctx, conn, time.Minute, &peer)
	return peer.TLS != nil, err
}

// inHandshake is the server's end of that.
func inHandshake(ctx context.Context, in *transport.In, timeout time.Duration) (known bool, err error) {
	peer := transport.Peer{}
	err = in.TLSHandshake(ctx, timeout, &peer)
	return peer.TLS != nil, err
}

// tlsConfig is that of a server which a client need not know.
func tlsConfig(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		InsecureSkipVerify: true,
	}
}

// TestTLS_PeerEnds_NoticeIsKnown: the handshake, what is known by it, and whether the peer has announced the end.
func TestTLS_PeerEnds_NoticeIsKnown(t *testing.T) {
	config := tlsConfig(t)
	for _, announced := range []bool{true, false} {
		near, far := ipctest.SocketPair(t)
		server, client := transport.NewTLSServer(near, config), transport.NewTLSClient(far, config)
		in := transport.NewIn(server,
			transport.Limits{MaxMessageSize: 100, ReadSize: 1000, IdleTimeout: time.Minute},
			&testMemory{Left: 1 << 20})
		done := make(chan error, 1)
		go func() {
			known, err := tlsHandshake(t.Context(), client)
			if err == nil && !known {
				err = errors.New("the peer is not known")
			}
			done <- err
		}()
		if transport.WroteTLS(server) {
			t.Error("it has spoken before it has")
		}
		if known, err := inHandshake(t.Context(), in, time.Minute); !known || err != nil {
			t.Fatal(known, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !transport.WroteTLS(server) || !transport.IsTLS(server) || transport.IsTCP(server) ||
			!transport.EndedByNotify(server) {
			t.Error("it is not TLS that goes on")
		}
		if _, err := client.Write([]byte(framed("abc"))); err != nil {
			t.Fatal(err)
		}
		if err := in.Fill(); err != nil {
			t.Fatal(err)
		}
		if data, ok, err := in.Next(); !ok || err != nil || string(data) != "abc" {
			t.Errorf("%q, %v, %v", data, ok, err)
		}
		if announced {
			if err := transport.CloseWriteWithin(client, time.Minute); err != nil {
				t.Error(err)
			}
		} else {
			far.Close()
		}
		if err := in.Fill(); err != io.EOF || transport.EndedByNotify(server) != announced {
			t.Errorf("%v, in order %v; announced %v", err, transport.EndedByNotify(server), announced)
		}
		in.Close()
		_ = client.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := client.Read(make([]byte, 1)); announced &&
			(n != 0 || err != io.EOF || !transport.EndedByNotify(client)) {
			t.Errorf("the end was not announced: %v", err)
		}
		_ = far.SetReadDeadline(time.Now().Add(time.Minute)) // It may be closed.
		if _, err := io.Copy(io.Discard, far); announced && err != nil {
			t.Errorf("the connection is open: %v", err)
		}
	}
}

// TestAwaitTLSRecord_FirstByte_StaysUnread: the first byte tells whether a client speaks it, and stays where it is.
func TestAwaitTLSRecord_FirstByte_StaysUnread(t *testing.T) {
	for _, test := range []struct {
		first string
		match error
	}{{"\x16abc", nil}, {"abc", transport.ErrNotTLS}} {
		near, far := ipctest.SocketPair(t)
		if _, err := far.Write([]byte(test.first)); err != nil {
			t.Fatal(err)
		}
		if err := transport.AwaitTLSRecord(t.Context(), near); !errors.Is(err, test.match) ||
			err != nil && !strings.HasSuffix(err.Error(), "its first byte is 0x61") {
			t.Error(err)
		}
		b := make([]byte, len(test.first))
		if _, err := io.ReadFull(near, b); err != nil || string(b) != test.first {
			t.Errorf("%q is left, %v", b, err)
		}
		far.Close()
		if err := transport.AwaitTLSRecord(t.Context(), near); err != nil {
			t.Errorf("at the end: %v", err)
		}
	}
	near, _ := ipctest.SocketPair(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
	if err := transport.AwaitTLSRecord(ctx, near); err != cause {
		t.Error(err)
	}
	pipe, _ := net.Pipe()
	if err := transport.AwaitTLSRecord(ctx, pipe); err != nil {
		t.Error(err)
	}
	if known, err := tlsHandshake(ctx, near); known || err != nil {
		t.Error("a plain connection speaks TLS", err)
	}
}

// TestTLSHandshake_NoTLS_FailsInTime in time, with a peer that does not speak it, or says nothing.
func TestTLSHandshake_NoTLS_FailsInTime(t *testing.T) {
	config := tlsConfig(t)
	for _, says := range []string{"", "GET /"} {
		near, far := ipctest.SocketPair(t)
		if _, err := far.Write([]byte(says)); err != nil {
			t.Fatal(err)
		}
		in := transport.NewIn(transport.NewTLSServer(near, config),
			transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
		began := time.Now()
		timeout := time.Minute
		if says == "" {
			timeout = 50 * time.Millisecond
		}
		known, err := inHandshake(t.Context(), in, timeout)
		if known || !errors.Is(err, udsipc.ErrHandshake) ||
			errors.Is(err, transport.ErrNotTLS) != (says != "") ||
			says == "" && time.Since(began) < timeout {
			t.Errorf("%q: %v, %v after %v", says, known, err, time.Since(began))
		}
		if !in.MayBePlain(err) {
			t.Errorf("%q: it cannot be told in plain words", says)
		}
		in.Reject(6)
		in.Close()
		said, err := io.ReadAll(far)
		want := "\x00" + string(wire.CloseReport{Reason: 6, FirstUnread: 1, Limit: 100}.Append(nil))
		if string(said) != want {
			t.Errorf("%q: it says % x, %v, want % x", says, said, err, want)
		}
	}
}

// TestTLSHandshake_CloseMeanwhile_WaitsForMessages: its peer may have sent messages behind the
// handshake, which are waited for.
func TestTLSHandshake_CloseMeanwhile_WaitsForMessages(t *testing.T) {
	config := tlsConfig(t)
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(transport.NewTLSServer(near, config),
		transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
	client := transport.NewTLSClient(far, config)
	done := make(chan error, 1)
	go func() { // Ends with its steps.
		_, err := tlsHandshake(t.Context(), client)
		if err == nil {
			_, err = client.Write([]byte(framed("a")))
		}
		done <- err
	}()
	in.RequestClose(0)
	if known, err := inHandshake(t.Context(), in, time.Minute); !known || err != nil {
		t.Fatal(known, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := in.Fill(); err != nil {
		t.Fatal(err)
	}
	if data, ok, err := in.Next(); !ok || err != nil || string(data) != "a" {
		t.Errorf("%q, %v, %v", data, ok, err)
	}
	said := make([]byte, 1)
	if _, err := client.Read(said); err != nil || said[0] != 0 {
		t.Errorf("it says % x, %v", said, err)
	}
	in.Close()
}

// TestTLSHandshake_TimesOutInTheMiddle_LeavesConnectionOpen: the peer can be told the reason.
func TestTLSHandshake_TimesOutInTheMiddle_LeavesConnectionOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		server := transport.NewTLSServer(near, tlsConfig(t))
		in := transport.NewIn(server, transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
		said := make(chan string, 1)
		go func() { // Ends with the connection.
			_, _ = far.Write([]byte("\x16\x03\x01"))
			b, _ := io.ReadAll(far)
			said <- string(b)
		}()
		began := time.Now()
		known, err := inHandshake(t.Context(), in, time.Second)
		if known || !errors.Is(err, udsipc.ErrHandshake) || !in.MayBePlain(err) || time.Since(began) != time.Second {
			t.Errorf("%v, %v after %v", known, err, time.Since(began))
		}
		in.Reject(wire.CloseNotTLS)
		in.Close()
		if got, want := <-said, "\x00"+string(wire.CloseReport{
			Reason: wire.CloseNotTLS, FirstUnread: 1, Limit: 100,
		}.Append(nil)); got != want {
			t.Errorf("it says % x, want % x", got, want)
		}
	})
}

// TestTLS_CloseAfterHandshake_SaysGoodbyeAtOnce, in the middle of a wait.
func TestTLS_CloseAfterHandshake_SaysGoodbyeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		config := tlsConfig(t)
		client := transport.NewTLSClient(far, config)
		in := transport.NewIn(transport.NewTLSServer(near, config),
			transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
		said := make(chan time.Time, 1)
		go func() { // Ends with the connection.
			_, _ = tlsHandshake(t.Context(), client)
			if n, err := client.Read(make([]byte, 1)); n != 1 {
				t.Error(err)
			}
			said <- time.Now()
			_, _ = io.Copy(io.Discard, client)
		}()
		if known, err := inHandshake(t.Context(), in, time.Minute); !known || err != nil {
			t.Fatal(known, err)
		}
		asked := time.Now().Add(time.Second)
		time.AfterFunc(time.Second, func() { in.RequestClose(0) })
		if err := in.Fill(); err != transport.ErrGracefulEnd || time.Since(asked) != transport.CloseGrace {
			t.Errorf("%v, %v after it was asked", err, time.Since(asked))
		}
		if at := <-said; !at.Equal(asked) {
			t.Errorf("the goodbye came %v after it was asked", at.Sub(asked))
		}
		in.Close()
	})
}
