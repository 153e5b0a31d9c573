// SPDX-License-Identifier: Apache-2.0

package transport_test

// What the kernel tells of a Unix socket.

import (
	"errors"
	"io"
	"testing"
	"time"

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

// TestIn_Socket_WaitsWithoutBuffer without a buffer while it waits.
func TestIn_Socket_WaitsWithoutBuffer(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	memory := &testMemory{Left: 1 << 30}
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 100, ReadSize: 64 << 10, IdleTimeout: 50 * time.Millisecond}, memory)
	began := time.Now()
	if err := in.Fill(); !isTimeoutError(err) || time.Since(began) < 50*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if b := in.Buffered(); b != (transport.Buffered{}) {
		t.Errorf("it waits with %+v", b)
	}
	if _, err := far.Write([]byte(framed("a") + "\x05b")); err != nil {
		t.Fatal(err)
	}
	if err := in.Fill(); err != nil {
		t.Fatal(err)
	}
	if data, ok, err := in.Next(); !ok || err != nil || string(data) != "a" {
		t.Errorf("%q, %v, %v", data, ok, err)
	}
	if _, ok, err := in.Next(); ok || err != nil || in.PartialBytes() != 2 {
		t.Errorf("%v, %v, %d bytes are left", ok, err, in.PartialBytes())
	}
	if err := in.Fill(); !isTimeoutError(err) {
		t.Error(err)
	}
	if b := in.Buffered(); b.Size != 512 || b.To-b.From != 2 {
		t.Errorf("it waits with %+v", b)
	}
	// After a hand-over was requested it reads to the end of the message, and no byte further.
	in.RequestHandOver()
	if _, err := far.Write([]byte("cdef" + framed("g"))); err != nil {
		t.Fatal(err)
	}
	for in.PartialBytes() < 6 {
		if err := in.Fill(); err != nil {
			t.Fatal(err)
		}
	}
	if data, ok, err := in.Next(); !ok || err != nil || string(data) != "bcdef" {
		t.Errorf("%q, %v, %v", data, ok, err)
	}
	if err := in.Fill(); err != transport.ErrHandOver || in.HandOverError() != nil {
		t.Errorf("%v, %v", err, in.HandOverError())
	}
	if rest, err := io.ReadAll(io.LimitReader(near, 2)); string(rest) != framed("g") && !isTimeoutError(err) {
		t.Errorf("the next process gets %q, %v", rest, err)
	}
}

// TestIn_CloseSocket_RefusesNewBytesAndReadsOld: the kernel refuses what the peer writes from then on, and gives what it wrote before.
func TestIn_CloseSocket_RefusesNewBytesAndReadsOld(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 100, ReadSize: 64 << 10}, &testMemory{Left: 1 << 30})
	if _, err := far.Write([]byte(framed("a"))); err != nil {
		t.Fatal(err)
	}
	in.RequestClose(0)
	if _, err := far.Write([]byte("x")); err == nil {
		t.Error("a write behind the end is accepted")
	}
	if err := in.Fill(); err != nil {
		t.Fatal(err)
	}
	if data, ok, err := in.Next(); !ok || err != nil || string(data) != "a" {
		t.Errorf("%q, %v, %v", data, ok, err)
	}
	if err := in.Fill(); err != io.EOF {
		t.Error(err)
	}
	in.Close()
	said, err := io.ReadAll(far)
	if want := "\x00" + string(wire.CloseReport{FirstUnread: 2, Limit: 100}.Append(nil)); string(said) != want || err != nil {
		t.Errorf("it says % x, %v, want % x", said, err, want)
	}
}
