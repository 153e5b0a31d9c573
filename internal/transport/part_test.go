// SPDX-License-Identifier: Apache-2.0

package transport_test

// How a connection that is written to comes to its end.

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// written is an Out of a pipe that has written five messages.
func writtenOut(t *testing.T) testOut {
	t.Helper()
	o := outOf(t)
	go o.ReadLoop(func() {})
	if n, err := o.Write(bufs("\x01a\x01b\x01c\x01d\x01e")); n != 10 || err != nil {
		t.Fatal(n, err)
	}
	if o.WroteMessages() || o.Written() != 10 {
		t.Errorf("%d bytes are written, messages %v", o.Written(), o.WroteMessages())
	}
	o.Completed(5)
	if !o.WroteMessages() || o.IsSession() || o.IsTLS() || !o.IsResumable() {
		t.Error("it is not what it is")
	}
	return o
}

// ends wants a connection to have ended like this, after so long.
func ends(t *testing.T, end func() transport.Outcome, after time.Duration, lost, unread uint64, cause error) {
	t.Helper()
	began := time.Now()
	got := end()
	if took := time.Since(began); got.Lost != lost || got.Unread != unread ||
		!errors.Is(got.Cause, cause) || took != after {
		t.Errorf("%+v after %v, want %d lost, %d unread, %v after %v", got, took, lost, unread, cause, after)
	}
}

// TestOut_CloseAndAccount_WaitsForGoodbye: the cause that it names, and how long it waits for the peer.
func TestOut_CloseAndAccount_WaitsForGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const never = -1
		broken := errors.New("broken")
		aborted := make(chan struct{})
		close(aborted)
		for _, test := range []struct {
			writeErr error
			abort    chan struct{}
			peerEnds time.Duration
			after    time.Duration
			lost     uint64
			cause    error
		}{
			{broken, nil, never, 200 * time.Millisecond, 5, broken},
			{broken, nil, 0, 0, 5, broken},
			{nil, nil, 0, 0, 5, io.EOF},
			{nil, nil, time.Second, time.Second, 5, io.EOF},
			{syscall.EPIPE, nil, 0, 0, 5, io.EOF},
			{syscall.EPIPE, nil, time.Second, time.Second, 5, io.EOF},
			{os.ErrDeadlineExceeded, nil, 0, 0, 5, io.EOF},
			{os.ErrDeadlineExceeded, nil, time.Second, 200 * time.Millisecond, 5, os.ErrDeadlineExceeded},
			{transport.ErrGracefulEnd, nil, 0, 0, 5, io.EOF},
			{transport.ErrGracefulEnd, nil, time.Second, time.Second, 5, io.EOF},
			{io.ErrUnexpectedEOF, nil, 0, 0, 5, io.ErrUnexpectedEOF},
			{io.ErrUnexpectedEOF, nil, time.Second, time.Second, 5, io.ErrUnexpectedEOF},
			{nil, aborted, never, 0, 0, transport.ErrGracefulEnd}, // Nothing but what was written is known of a pipe.
			{udsipc.ErrInvalidSession, nil, never, 0, 5, udsipc.ErrInvalidSession},
			{transport.ErrRestartSequence, nil, never, 0, 5, transport.ErrRestartSequence},
		} {
			o := writtenOut(t)
			if test.peerEnds >= 0 {
				time.AfterFunc(test.peerEnds, func() { o.peer.Close() })
				synctest.Wait()
			}
			ends(t,
				func() transport.Outcome { return o.CloseAndAccount(test.writeErr, test.abort) },
				test.after, test.lost, 0, test.cause)
			for range o.heard { // Until the connection is closed.
			}
			o.peer.Close()
			o.WaitReadLoop()
			if _, err := o.Write(bufs("x")); err == nil {
				t.Error("the connection is open")
			}
		}
	})
}

// TestOut_CloseGracefully_WaitsForPeer: it waits a moment for the last words of a peer that it cannot ask for its end.
func TestOut_CloseGracefully_WaitsForPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := writtenOut(t)
		ends(t, func() transport.Outcome { return o.CloseGracefully(nil) }, 200*time.Millisecond, 0, 0, nil)
		o.peer.Close()
		ends(t, func() transport.Outcome { return o.CloseGracefully(nil) }, 0, 5, 0, io.EOF)
		o = writtenOut(t)
		time.AfterFunc(100*time.Millisecond, func() {
			_, _ = o.peer.Write(append([]byte{0}, wire.CloseReport{Reason: 2, FirstUnread: 3, Limit: 9}.Append(nil)...))
			o.peer.Close()
		})
		ends(t, func() transport.Outcome { return o.CloseGracefully(nil) }, 100*time.Millisecond, 3,
			0, udsipc.ErrUnauthorized)
		o = writtenOut(t)
		abort := make(chan struct{})
		time.AfterFunc(50*time.Millisecond, func() { close(abort) })
		ends(t, func() transport.Outcome { return o.CloseGracefully(abort) }, 50*time.Millisecond,
			0, 0, transport.ErrGracefulEnd)
		ends(t, func() transport.Outcome { return o.CloseGracefully(abort) }, 0, 0, 0, transport.ErrGracefulEnd)
	})
}

// TestOut_ForceClose_EndsWaits: what had not arrived is not known to be read, and nothing more is written.
func TestOut_ForceClose_EndsWaits(t *testing.T) {
	for _, reads := range []bool{false, true} {
		near, far := ipctest.SocketPair(t)
		o := transport.NewOut(near, time.Second)
		go o.ReadLoop(func() {})
		if _, err := o.Write(bufs("\x01a\x01b")); err != nil {
			t.Fatal(err)
		}
		o.Completed(2)
		if reads {
			if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
		}
		o.ForceClose()
		if _, err := o.Write(bufs("x")); !errors.Is(err, transport.ErrGracefulEnd) || !o.IsWriteStopped() || o.IsResumable() {
			t.Errorf("it writes after its end: %v", err)
		}
		abort := make(chan struct{})
		close(abort)
		o.WaitReadLoop()
		for _, end := range []transport.Outcome{o.CloseGracefully(abort)} {
			if !errors.Is(end.Cause, transport.ErrGracefulEnd) ||
				(end.Unread == 2) == (reads && transport.CanTellUnread) ||
				end.Unread != 0 && end.Unread != 2 {
				t.Errorf("all read %v: %+v", reads, end)
			}
		}
	}
}

// TestOut_CloseGracefully_HalfCloses of a socket, and hears what the peer says to that.
func TestOut_CloseGracefully_HalfCloses(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	go o.ReadLoop(func() {})
	if _, err := o.Write(bufs("\x01a")); err != nil {
		t.Fatal(err)
	}
	o.Completed(1)
	go func() { // Ends with its steps.
		_, _ = io.Copy(io.Discard, far)
		_, _ = far.Write(append([]byte{0}, wire.CloseReport{FirstUnread: 2, Limit: 9}.Append(nil)...))
		far.Close()
	}()
	if end := o.CloseGracefully(nil); !end.Reported || end.Lost != 0 || end.ReaderLimit != 9 ||
		!errors.Is(end.Cause, io.EOF) {
		t.Errorf("%+v", end)
	}
}

// TestOut_Goodbye_IsAnsweredByHalfClose by ending its side, and waits for the peer's end.
func TestOut_Goodbye_IsAnsweredByHalfClose(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	go o.ReadLoop(func() {})
	if _, err := far.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	go io.Copy(far, far) // Ends when this side does.
	time.AfterFunc(20*time.Millisecond, func() { far.CloseWrite() })
	if end := o.CloseAndAccount(nil, nil); end.Reported || end.Lost != 0 || !errors.Is(end.Cause, io.EOF) {
		t.Errorf("%+v", end)
	}
}

// TestOut_Heartbeat_IsWrittenWhole: a heartbeat is written whole, or the connection ends.
func TestOut_Heartbeat_IsWrittenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outOf(t)
		if err := o.SendHeartbeat(); err != nil {
			t.Error(err)
		}
		if got := <-o.heard; got != "\x80\x00" {
			t.Errorf("it says % x", got)
		}
		near, far := net.Pipe()
		stalled := transport.NewOut(near, time.Second)
		began := time.Now()
		if err := stalled.SendHeartbeat(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection is open: %v", err)
		}
		far.Close()
		o.peer.Close()
		go o.ReadLoop(func() {})
		o.WaitReadLoop()
		if err := o.SendHeartbeat(); !errors.Is(err, transport.ErrGracefulEnd) {
			t.Error(err)
		}
	})
}

// TestOut_BusyConnection_AsksWhatIsRead: a busy connection asks every 10 ms whether everything was read.
func TestOut_BusyConnection_AsksWhatIsRead(t *testing.T) {
	if !transport.CanTellUnread {
		t.Skip("the kernel does not tell")
	}
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	now := time.Now().Add(time.Hour) // Writes ask too, at their own time.
	o.Probe(now)                     // There is nothing to ask about yet.
	want := uint64(0)
	for _, step := range []struct {
		after time.Duration
		asks  bool
	}{{0, true}, {10*time.Millisecond - 1, false}, {1, true}, {10 * time.Millisecond, true}} {
		if _, err := o.Write(bufs("\x01a")); err != nil {
			t.Fatal(err)
		}
		o.Completed(1)
		if _, err := io.ReadFull(far, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		ipctest.Until(t, "the kernel knows that it is read", func() bool { return o.PeerHasRead(o.Written()) })
		now = now.Add(step.after)
		o.Probe(now)
		if step.asks {
			want = uint64(o.Written()) / 2
		}
		if got := o.Confirmed(); got != want {
			t.Errorf("%v after the last time: %d are confirmed, want %d", step.after, got, want)
		}
	}
}
