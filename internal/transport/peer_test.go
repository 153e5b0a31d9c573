// SPDX-License-Identifier: Apache-2.0

package transport_test

// Who is at the other end of a connection, TLS, and what a side that ends a connection may ask of it.

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
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/peercred"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

func newPeer(number uint64, addr net.Addr, credentials bool, state *tls.ConnectionState) *transport.Peer {
	p := &transport.Peer{ID: number, Addr: addr, TLS: state}
	if credentials {
		p.Credentials = &peercred.Credentials{UID: 1, GID: 2, PID: 3}
	}
	return p
}

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

func TestPeer_String_HasWhatIsKnown(t *testing.T) {
	for _, test := range []struct {
		addr        net.Addr
		credentials bool
		want        string
	}{
		{nil, false, "connection 70"}, {&net.UnixAddr{}, false, "connection 70"},
		{&net.UnixAddr{Name: "@"}, false, "connection 70"},
		{&net.UnixAddr{Name: "/a"}, false, "connection 70 from /a"},
		{&net.UnixAddr{Name: "/a"}, true, "connection 70 from /a (uid 1, gid 2, pid 3)"},
		{nil, true, "connection 70 (uid 1, gid 2, pid 3)"},
	} {
		if got := newPeer(70, test.addr, test.credentials, nil).String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// TestPeer_Identity_IsKeyOrUser is the key of a certificate, or else the user.
func TestPeer_Identity_IsKeyOrUser(t *testing.T) {
	identity := func(credentials bool, state *tls.ConnectionState) string {
		return newPeer(1, nil, credentials, state).Identity()
	}
	key := func(text string) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{RawSubjectPublicKeyInfo: []byte(text)}, {}}}
	}
	if got := identity(false, nil); got != "" {
		t.Errorf("%q", got)
	}
	if got := identity(true, nil); got != "uid 1" {
		t.Errorf("%q", got)
	}
	if got := identity(true, &tls.ConnectionState{}); got != "uid 1" {
		t.Errorf("%q", got)
	}
	a, b := identity(true, key("a")), identity(false, key("b"))
	if len(a) != 4+32 || !strings.HasPrefix(a, "key ") || a == b || a != identity(false, key("a")) {
		t.Errorf("%q and %q", a, b)
	}
}

func TestAuthorize_RefusalOrPanic_IsUnauthorized(t *testing.T) {
	if err := transport.Authorize(nil, nil); err != nil {
		t.Error(err)
	}
	if err := transport.Authorize(func(*transport.Peer) error { return nil }, nil); err != nil {
		t.Error(err)
	}
	no := errors.New("no")
	rejects := func(*transport.Peer) error { return no }
	if err := transport.Authorize(rejects, nil); !errors.Is(err, no) || !errors.Is(err, udsipc.ErrUnauthorized) {
		t.Error(err)
	}
	panics := func(*transport.Peer) error { panic("oh") }
	if err := transport.Authorize(panics, nil); !errors.Is(err, udsipc.ErrUnauthorized) ||
		!strings.HasSuffix(err.Error(), "the authorizer panicked: oh") {
		t.Error(err)
	}
}

func TestReadCredentials_UnixSocket_IsThisProcess(t *testing.T) {
	near, _ := ipctest.SocketPair(t)
	if c, err := transport.ReadCredentials(near); err != nil ||
		c != nil && (c.UID != os.Getuid() || c.PID != os.Getpid()) {
		t.Errorf("%v, %v", c, err)
	}
	pipe, _ := net.Pipe()
	if c, err := transport.ReadCredentials(pipe); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
}

// TestTryWriter_FullSocket_ReportsFull writes what there is room for, and says when that is all.
func TestTryWriter_FullSocket_ReportsFull(t *testing.T) {
	pipe, _ := net.Pipe()
	if transport.NewTryWriter(pipe) != nil {
		t.Error("a pipe can be tried")
	}
	near, far := ipctest.SocketPair(t)
	w := transport.NewTryWriter(near)
	if w == nil {
		t.Fatal("a socket cannot be tried")
	}
	if n, full, err := w.Write([][]byte{[]byte("abc"), nil, []byte("de")}); n != 5 || full || err != nil {
		t.Errorf("%d bytes, full %v, %v", n, full, err)
	}
	written := 5
	for full := false; !full; {
		n, isFull, err := w.Write([][]byte{make([]byte, 10_000), make([]byte, 10_000)})
		if written, full = written+n, isFull; full != (err != nil) ||
			full && !errors.Is(err, syscall.EAGAIN) || !full && n != 20_000 {
			t.Fatalf("%d bytes, full %v, %v", n, full, err)
		}
	}
	b := make([]byte, written+1)
	_ = far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := io.ReadFull(far, b); n != written || string(b[:6]) != "abcde\x00" {
		t.Errorf("%d bytes of %d arrive, %v", n, written, err)
	}
	near.Close()
	if n, full, err := w.Write([][]byte{[]byte("abc")}); n != 0 || full || err == nil {
		t.Errorf("%d bytes, full %v, %v", n, full, err)
	}
}

// TestHalfClose_EachKind_BehavesAsItsKind: what is asked of a connection of each kind.
func TestHalfClose_EachKind_BehavesAsItsKind(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	pipe, _ := net.Pipe()
	client, server := tcpPair(t)
	if !transport.IsTCP(client) || transport.IsTCP(near) || transport.IsTCP(pipe) || transport.IsTLS(near) {
		t.Error("the kinds are mixed up")
	}
	for _, test := range []struct {
		conn net.Conn
		err  error
		want bool
	}{
		{near, syscall.EPIPE, true}, {near, syscall.ECONNRESET, true}, {near, io.EOF, false},
		{pipe, syscall.EPIPE, false}, {client, syscall.EPIPE, true},
	} {
		if got := transport.ReadableAfter(test.conn, test.err); got != test.want {
			t.Errorf("readable after %v: %v", test.err, got)
		}
	}
	if ok, err := transport.AcknowledgedByTCP(near); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := transport.AcknowledgedByTCP(client); !ok || err != nil {
		t.Error(ok, err)
	}
	scratch := make([]byte, 10)
	if transport.DiscardUnread(near, scratch) || transport.DiscardUnread(pipe, scratch) {
		t.Error("something was there")
	}
	if _, err := far.Write(make([]byte, 25)); err != nil {
		t.Fatal(err)
	}
	if !transport.DiscardUnread(near, scratch) || transport.DiscardUnread(near, scratch) {
		t.Error("not all was discarded")
	}
	if _, err := far.Write(make([]byte, 650)); err != nil {
		t.Fatal(err)
	}
	first, second, third := transport.DiscardUnread(near, scratch),
		transport.DiscardUnread(near, scratch), transport.DiscardUnread(near, scratch)
	if !first || !second || third {
		t.Error("the reads in a row are not bounded by 64")
	}
	if err := transport.CloseWriteWithin(near, time.Second); err != nil {
		t.Error(err)
	}
	if n, err := far.Read(scratch); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := transport.CloseWriteWithin(pipe, time.Second); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if !transport.EndedByNotify(near) || transport.WroteTLS(near) {
		t.Error("a plain connection is taken for TLS")
	}
	transport.EndSending(client)
	if n, err := server.Read(scratch); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	transport.EndSending(far)
	if _, err := far.Write([]byte("x")); err != nil {
		t.Errorf("the sending side of a Unix socket was ended: %v", err)
	}
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestIn_BriefReplies_AreBounded: a rejected hello, and a heartbeat before the welcome.
func TestIn_BriefReplies_AreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		if got := in.RequiredHeartbeatTimeout(5); got != 5 {
			t.Errorf("%v", got)
		}
		if got := in.UnreadBytes(); got != 0 {
			t.Errorf("%d", got)
		}
		said := in.heard()
		in.SendHeartbeat()
		in.RejectSession(2)
		if got, want := said(), "\x80\x00"+string(wire.Welcome{Status: 2}.Append(nil)); got != want {
			t.Errorf("it says % x, want % x", got, want)
		}
		in = inOf(t, transport.Limits{})
		began := time.Now()
		in.RejectSession(2)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("it waits for %v", took)
		}
	})
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
	if got := in.RequiredHeartbeatTimeout(5); got != 0 {
		t.Errorf("%v", got)
	}
	if _, err := far.Write([]byte(framed("abc"))); err != nil {
		t.Fatal(err)
	}
	if got := in.UnreadBytes(); got != 4 && got != 0 {
		t.Errorf("%d bytes are unread", got)
	}
	if err := in.Fill(); err != nil {
		t.Fatal(err)
	}
	if data, ok, err := in.Next(); !ok || err != nil || string(data) != string(in.LastMessage()) ||
		cap(in.LastMessage()) != 3 || in.Counted().Reads != 1 {
		t.Errorf("%q, %v, %v; the last is %q", data, ok, err, in.LastMessage())
	}
	in.AbandonBuffer()
	if b := in.Buffered(); b != (transport.Buffered{}) {
		t.Errorf("%+v", b)
	}
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
		known, err := inHandshake(t.Context(), in, 50*time.Millisecond)
		if known || !errors.Is(err, udsipc.ErrHandshake) ||
			errors.Is(err, transport.ErrNotTLS) != (says != "") ||
			says == "" && time.Since(began) < 50*time.Millisecond {
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
