// SPDX-License-Identifier: Apache-2.0

package transport_test

// A sending connection over a Unix socket: what the kernel tells about its peer.

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestOut_UnixSocket_KnowsWhatIsRead of a Unix socket, and concludes it at the end.
func TestOut_UnixSocket_KnowsWhatIsRead(t *testing.T) {
	for _, test := range []struct {
		reads int
		want  uint64
	}{{0, 3}, {3, 3}, {6, 0}} {
		near, far := ipctest.SocketPair(t)
		o := transport.NewOut(near, time.Second)
		woken := make(chan struct{}, 1)
		go o.ReadLoop(func() { woken <- struct{}{} })
		if n, err := o.Write(bufs("\x01a\x01b\x01c")); n != 6 || err != nil {
			t.Fatal(n, err)
		}
		o.Completed(3)
		if o.ConfirmAllRead() || o.Confirmed() != 0 || o.AllArrived() || o.AllRead() || o.PeerHasRead(1) {
			t.Error("it was read before it was")
		}
		if _, err := io.ReadFull(far, make([]byte, test.reads)); err != nil {
			t.Fatal(err)
		}
		all := test.reads == 6
		if test.reads > 0 && !o.PeerHasRead(1) && all {
			t.Error("the first byte was read")
		}
		if o.AllArrived() != all {
			t.Errorf("%d bytes were read: arrived %v", test.reads, !all)
		}
		far.Close()
		<-woken
		o.WaitReadLoop()
		end := o.CloseAndAccount(nil, nil)
		if end.Lost != test.want || end.Cause == nil || all && !errors.Is(end.Cause, io.EOF) {
			t.Errorf("%d bytes were read: %+v", test.reads, end)
		}
		if o.AllArrived() || o.AllRead() {
			t.Error("it is known of a connection that has ended")
		}
	}
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	if _, err := o.Write(bufs("\x01a")); err != nil {
		t.Fatal(err)
	}
	o.Completed(1)
	if _, err := io.ReadFull(far, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if !o.AllRead() || o.Confirmed() != 1 || !o.ConfirmAllRead() || !o.PeerHasRead(2) || o.FailuresAfter(3) != 1 {
		t.Errorf("all was read, %d settled", o.Confirmed())
	}
}

// TestOut_RejectedBeforeHello_ReportsReason: the hello cannot be sent, but what the peer has said is there.
func TestOut_RejectedBeforeHello_ReportsReason(t *testing.T) {
	for _, says := range []string{"\x00" + string(wire.CloseReport{Reason: 1}.Append(nil)), ""} {
		near, far := ipctest.SocketPair(t)
		if _, err := far.Write([]byte(says)); err != nil {
			t.Fatal(err)
		}
		if err := far.CloseRead(); err != nil {
			t.Fatal(err)
		}
		o := transport.NewOut(near, time.Second)
		_, err := o.SessionHandshake(someHello, transport.HandshakeHooks{
			SlowAfter: 20 * time.Millisecond, Cancelled: func() bool { return false }, OnSlow: func() {},
		})
		if want := udsipc.ErrTooManyConnections; says != "" && !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if want := udsipc.ErrConnectionClosed; says == "" && (!errors.Is(err, want) ||
			errors.Is(err, transport.ErrNoWelcome)) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

// TestOut_ClosedBeforeHello_IsNoAnswer: a peer that has not read the hello cannot have answered it.
func TestOut_ClosedBeforeHello_IsNoAnswer(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	far.Close()
	o := transport.NewOut(near, time.Second)
	hooks := transport.HandshakeHooks{SlowAfter: time.Hour, Cancelled: func() bool { return false }}
	_, err := o.SessionHandshake(someHello, hooks)
	if !errors.Is(err, udsipc.ErrConnectionClosed) || errors.Is(err, transport.ErrNoWelcome) {
		t.Error(err)
	}
}

// TestOut_TCPReset_ReportsLoss of a TCP peer that has not read everything.
func TestOut_TCPReset_ReportsLoss(t *testing.T) {
	client, server := tcpPair(t)
	o := transport.NewOut(client, time.Second)
	go o.ReadLoop(func() {})
	if _, err := o.Write(bufs("\x01a")); err != nil {
		t.Fatal(err)
	}
	o.Completed(1)
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if end := o.CloseAndAccount(nil, nil); end.Lost != 1 || errors.Is(end.Cause, io.EOF) {
		t.Errorf("%+v", end)
	}
	client, server = tcpPair(t)
	o = transport.NewOut(client, time.Second)
	go o.ReadLoop(func() {})
	if _, err := o.Write(bufs("\x01a")); err != nil {
		t.Fatal(err)
	}
	o.Completed(1)
	if _, err := io.ReadFull(server, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if end := o.CloseAndAccount(nil, nil); end.Lost != 0 || !errors.Is(end.Cause, io.EOF) {
		t.Errorf("%+v", end)
	}
}

// TestOut_CloseGracefullySilentPeer_IsBounded that has read everything: a handler may hold it up.
func TestOut_CloseGracefullySilentPeer_IsBounded(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	go o.ReadLoop(func() {})
	if _, err := o.Write(bufs("\x01a")); err != nil {
		t.Fatal(err)
	}
	o.Completed(1)
	if _, err := io.ReadFull(far, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if end := o.CloseGracefully(nil); end != (transport.Outcome{}) {
		t.Errorf("%+v", end)
	}
	o.Close()
}

// TestOut_SkippedAndUnread_CountAsLost of a connection that is reset, and told of both.
func TestOut_SkippedAndUnread_CountAsLost(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	write := func() {
		t.Helper()
		if _, err := o.Write(bufs("\x01a")); err != nil {
			t.Fatal(err)
		}
		o.Completed(1)
	}
	write()
	write()
	if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "the kernel knows that it is read", o.AllRead)
	write()
	if _, err := far.Write(append([]byte{0}, wire.CloseReport{Skipped: 1, Limit: 9}.Append(nil)...)); err != nil {
		t.Fatal(err)
	}
	far.Close()
	go o.ReadLoop(func() {})
	if end := o.CloseAndAccount(nil, nil); end.Lost != 2 || !end.Reported || end.ReaderLimit != 9 {
		t.Errorf("%+v", end)
	}
}
