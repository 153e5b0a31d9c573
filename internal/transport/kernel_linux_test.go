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

// TestGrowSendBuffer_NeverShrinks what the system or the program has chosen.
func TestGrowSendBuffer_NeverShrinks(t *testing.T) {
	near, _ := ipctest.SocketPair(t)
	for _, step := range []struct{ set, grow, want int64 }{
		{20 << 10, 20 << 10, 40 << 10}, // It has 40 KiB, doubled.
		{20 << 10, 30 << 10, 60 << 10},
		{20 << 10, 60 << 10, 120 << 10},
		{90 << 10, 60 << 10, 180 << 10},
	} {
		if err := near.SetWriteBuffer(int(step.set)); err != nil {
			t.Fatal(err)
		}
		transport.GrowSendBuffer(near, int(step.grow))
		if got := transport.NewOut(near, time.Second).MaxUnread() / 3 * 2; got != step.want {
			t.Errorf("%+v: %d bytes", step, got)
		}
	}
	pipe, _ := net.Pipe()
	transport.GrowSendBuffer(pipe, 1<<20)
	client, _ := tcpPair(t)
	transport.GrowSendBuffer(client, 1<<20)
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
	if o.Probe(time.Now()); o.Confirmed() != 0 {
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

// TestOut_PeerGone_HasReadNothing for certain: what it had not read is thrown away.
func TestOut_PeerGone_HasReadNothing(t *testing.T) {
	for _, read := range []int{0, 2} {
		near, far := ipctest.SocketPair(t)
		o := transport.NewOut(near, time.Second)
		if _, err := o.Write(bufs("\x01a")); err != nil {
			t.Fatal(err)
		}
		o.Completed(1)
		if _, err := io.ReadFull(far, make([]byte, read)); err != nil {
			t.Fatal(err)
		}
		far.Close()
		if o.PeerHasRead(2) || o.AllRead() || o.ConfirmAllRead() || o.Confirmed() != 0 {
			t.Errorf("%d bytes were read, %d messages are confirmed", read, o.Confirmed())
		}
	}
}

// TestTCP_ResetPeer_HasRefused what lies in the send buffer.
func TestTCP_ResetPeer_HasRefused(t *testing.T) {
	client, server := tcpPair(t)
	tuned := server.(*net.TCPConn)
	if err := errors.Join(client.(*net.TCPConn).SetWriteBuffer(4<<20), tuned.SetReadBuffer(4<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(make([]byte, 512<<10)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tuned.SetLinger(0), tuned.Close()); err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "the reset has come", func() bool {
		ok, err := transport.AcknowledgedByTCP(client)
		if ok || err != nil && (!errors.Is(err, udsipc.ErrConnectionClosed) || !errors.Is(err, syscall.ECONNRESET)) {
			t.Fatal(ok, err)
		}
		return err != nil
	})
}
