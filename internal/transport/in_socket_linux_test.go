// SPDX-License-Identifier: Apache-2.0

package transport_test

// A receiving connection over a Unix socket.

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestIn_Socket_WaitsWithoutBuffer without a buffer while it waits.
func TestIn_Socket_WaitsWithoutBuffer(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	memory := &testMemory{Left: 1 << 30}
	in := transport.NewIn(near,
		transport.Limits{MaxMessageSize: 100, ReadSize: 64 << 10, IdleTimeout: 50 * time.Millisecond},
		memory)
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

// TestIn_CloseSocket_RefusesNewBytesAndReadsOld: the kernel refuses what the peer writes from then
// on, and gives what it wrote before.
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
	want := "\x00" + string(wire.CloseReport{FirstUnread: 2, Limit: 100}.Append(nil))
	if string(said) != want || err != nil {
		t.Errorf("it says % x, %v, want % x", said, err, want)
	}
}

// TestIn_LargeReads_GrowBuffer: the second read has room for as much as one may bring.
func TestIn_LargeReads_GrowBuffer(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 100, ReadSize: 64 << 10}, &testMemory{Left: 1 << 20})
	if _, err := far.Write(make([]byte, 60<<10)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []transport.Buffered{
		{Size: 16 << 10, To: 16 << 10}, {Size: 64 << 10, To: 44 << 10, Loan: 64 << 10},
	} {
		if err := in.Fill(); err != nil {
			t.Fatal(err)
		}
		if got := in.Buffered(); got != want {
			t.Errorf("the buffer is %+v, want %+v", got, want)
		}
		for ok := true; ok; {
			_, ok, _ = in.Next()
		}
	}
	if in.Received() != 60<<10 || in.Counted().Reads != 2 {
		t.Errorf("%d messages in %d reads", in.Received(), in.Counted().Reads)
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
	if testing.Short() {
		t.Skip("waits for a second")
	}
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

// TestIn_SocketMemory_IsKeptForItsMessage: what it has waited for stays while others wait.
func TestIn_SocketMemory_IsKeptForItsMessage(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	memory := &testMemory{Granted: make(chan struct{})}
	close(memory.Granted)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 1 << 20, ReadSize: 64 << 10}, memory)
	message := strings.Repeat("x", 40<<10)
	for range 2 {
		rest := framed(message)
		for _, piece := range []string{rest[:20<<10], rest[20<<10 : 21<<10], rest[21<<10:]} {
			if _, err := io.WriteString(far, piece); err != nil {
				t.Fatal(err)
			}
			for want := in.PartialBytes() + len(piece); in.PartialBytes() < want; {
				memory.Left = 0
				if err := in.Fill(); err != nil {
					t.Fatal(err)
				}
				if in.PartialBytes() < len(rest) {
					if _, ok, err := in.Next(); ok || err != nil {
						t.Fatal(ok, err)
					}
				}
			}
			if b := in.Buffered(); b.Loan != 64<<10 {
				t.Errorf("%d bytes have come: %+v", in.PartialBytes(), b)
			}
			memory.Waits.Store(true)
		}
		if data, ok, err := in.Next(); !ok || err != nil || string(data) != message {
			t.Errorf("%d bytes, %v, %v", len(data), ok, err)
		}
		memory.Waits.Store(false)
	}
	if want := []uint64{0, 0}; !slices.Equal(memory.Tickets, want) {
		t.Errorf("tickets %d, want %d", memory.Tickets, want)
	}
	in.Close()
}
