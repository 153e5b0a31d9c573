// SPDX-License-Identifier: Apache-2.0

package transport_test

// What the kernel tells, and where it is not asked.

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestOut_UnixSocket_KnowsItsBuffer: what lies further back than one and a half buffers was read.
func TestOut_UnixSocket_KnowsItsBuffer(t *testing.T) {
	near, _ := ipctest.SocketPair(t)
	if err := near.SetWriteBuffer(50 << 10); err != nil {
		t.Fatal(err)
	}
	if got := transport.NewOut(near, time.Second).MaxUnread(); got != 150<<10 { // The kernel doubles it (socket(7)).
		t.Errorf("%d bytes", got)
	}
	client, _ := tcpPair(t)
	if got := transport.NewOut(client, time.Second).MaxUnread(); got != 0 {
		t.Errorf("%d bytes over TCP", got)
	}
}

// TestOut_Session_IsNotAskedWhatIsRead: its acknowledgements tell more.
func TestOut_Session_IsNotAskedWhatIsRead(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	if _, err := far.Write(wire.Welcome{Limit: 9}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	hooks := transport.HandshakeHooks{
		Acknowledge: func(uint64) (bool, error) { return false, nil }, SlowAfter: time.Hour,
		Cancelled: func() bool { return false },
	}
	if _, err := o.SessionHandshake(someHello, hooks); err != nil {
		t.Fatal(err)
	}
	read := len(someHello.Append(nil)) + 2
	for range 2 {
		if _, err := o.Write(bufs("\x01a")); err != nil {
			t.Fatal(err)
		}
		o.Completed(1)
		if _, err := io.ReadFull(far, make([]byte, read)); err != nil {
			t.Fatal(err)
		}
		read = 2
		ipctest.Until(t, "the kernel knows that it is read", func() bool { return o.PeerHasRead(o.Written()) })
	}
	if o.Probe(); o.Confirmed() != 0 {
		t.Errorf("%d are confirmed", o.Confirmed())
	}
}

// TestOut_TLSOverSocket_KnowsWhatArrived, as the socket beneath tells.
func TestOut_TLSOverSocket_KnowsWhatArrived(t *testing.T) {
	config := tlsConfig(t)
	near, far := ipctest.SocketPair(t)
	server, client := transport.NewTLSServer(near, config), transport.NewTLSClient(far, config)
	done := make(chan error, 1)
	go func() { // Ends with the handshake.
		_, err := tlsHandshake(t.Context(), client)
		done <- err
	}()
	if _, err := tlsHandshake(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(server, "x"); err != nil { // What else belongs to the handshake is read with it.
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	o := transport.NewOut(server, time.Second)
	ipctest.Until(t, "nothing lies unread", o.AllArrived)
	if _, err := o.Write(bufs("\x01a")); err != nil {
		t.Fatal(err)
	}
	if o.AllArrived() {
		t.Error("all has arrived before it is read")
	}
	if _, err := io.ReadFull(client, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "all is read", o.AllArrived)
}

// TestOut_RefusedWrite_LosesNothing that was read before: it took no byte.
func TestOut_RefusedWrite_LosesNothing(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	if _, err := o.Write(bufs("\x01a")); err != nil {
		t.Fatal(err)
	}
	o.Completed(1)
	if _, err := io.ReadFull(far, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	far.Close()
	n, err := o.Write(bufs("\x01b"))
	if n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Fatal(n, err)
	}
	go o.ReadLoop(func() {})
	if end := o.CloseAndAccount(err, nil); end.Lost != 0 {
		t.Errorf("%+v", end)
	}
}

// TestDiscardUnread_EndOfStream_IsNothing, and a single byte is something.
func TestDiscardUnread_EndOfStream_IsNothing(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	if _, err := far.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	far.Close()
	scratch := make([]byte, 10)
	if !transport.DiscardUnread(near, scratch) || transport.DiscardUnread(near, scratch) {
		t.Error("there is not one byte")
	}
}

// TestIn_DeadlineBeforeAttempt_LeavesTime for one: behind a deadline none is made, and the wait would not end.
func TestIn_DeadlineBeforeAttempt_LeavesTime(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 9, ReadSize: 512, IdleTimeout: 1}, &testMemory{})
	for range 2 {
		if err := near.SetReadDeadline(transport.PastDeadline); err != nil {
			t.Fatal(err)
		}
		if err := in.Fill(); !isTimeoutError(err) {
			t.Error(err)
		}
	}
	if _, err := far.Write([]byte(framed("a"))); err != nil {
		t.Fatal(err)
	}
	if err := in.Fill(); err != nil {
		t.Error(err)
	}
}

// TestIn_HandOverOfAPart_Expires: the rest of a message is waited for, but not for ever.
func TestIn_HandOverOfAPart_Expires(t *testing.T) {
	t.Parallel()
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 9, ReadSize: 512}, &testMemory{})
	if _, err := far.Write([]byte("\x05a")); err != nil {
		t.Fatal(err)
	}
	if err := in.Fill(); err != nil {
		t.Fatal(err)
	}
	in.Next()
	in.RequestHandOver()
	began := time.Now()
	if err := in.Fill(); err != io.EOF || time.Since(began) < transport.CloseGrace {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if err := in.HandOverError(); !errors.Is(err, udsipc.ErrTooSlow) || !in.IsClosing() {
		t.Error(err)
	}
}

// TestIn_SocketSession_AcknowledgesBeforeItWaits.
func TestIn_SocketSession_AcknowledgesBeforeItWaits(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(near,
		transport.Limits{MaxMessageSize: 9, ReadSize: 512, IdleTimeout: 10 * time.Millisecond},
		&testMemory{})
	in.BeginSession(0, 0, 0, 0)
	if _, err := far.Write([]byte(framed("a"))); err != nil {
		t.Fatal(err)
	}
	if err := in.Fill(); err != nil {
		t.Fatal(err)
	}
	in.Next()
	if err := in.Fill(); !isTimeoutError(err) || in.Counted().Acknowledged != 1 {
		t.Errorf("%v, %d are acknowledged", err, in.Counted().Acknowledged)
	}
}

// TestTCP_FullPeer_HasNotAcknowledged what lies in the send buffer.
func TestTCP_FullPeer_HasNotAcknowledged(t *testing.T) {
	client, server := tcpPair(t)
	err := errors.Join(client.(*net.TCPConn).SetWriteBuffer(4<<20), server.(*net.TCPConn).SetReadBuffer(4<<10))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(make([]byte, 512<<10)); err != nil {
		t.Fatal(err)
	}
	if ok, err := transport.AcknowledgedByTCP(client); ok || err != nil {
		t.Error(ok, err)
	}
}

func TestTryWriter_ClosedConn_WritesNothing(t *testing.T) {
	near, _ := ipctest.SocketPair(t)
	w := transport.NewTryWriter(near)
	if n, _, err := w.Write(bufs("abc")); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	near.Close()
	if n, full, err := w.Write(bufs("abc")); n != 0 || full || err == nil {
		t.Errorf("%d bytes, full %v, %v", n, full, err)
	}
}
