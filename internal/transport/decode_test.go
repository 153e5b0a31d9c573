// SPDX-License-Identifier: Apache-2.0

package transport_test

// What a connection reads, how its buffer grows, and how messages are found in it. The connection is one in memory,
// which gives what is written to it a piece at a time.

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A testIn is an In of which a test plays the peer.
type testIn struct {
	*transport.In
	*testing.T
	peer   net.Conn
	memory *testMemory
}

// inOf must be called in a bubble. What the limits do not say is large.
func inOf(t *testing.T, l transport.Limits) testIn {
	near, far := net.Pipe()
	if l.MaxMessageSize == 0 {
		l.MaxMessageSize = 1 << 30
	}
	if l.ReadSize == 0 {
		l.ReadSize = 64 << 10
	}
	memory := &testMemory{Left: 1 << 30}
	t.Cleanup(func() { near.Close(); far.Close() })
	return testIn{transport.NewIn(near, l, memory), t, far, memory}
}

// comes has the connection read this piece.
func (in testIn) comes(piece string) {
	in.Helper()
	in.sends(piece)
	if err := in.Fill(); err != nil {
		in.Fatalf("%.20q: %v", piece, err)
	}
}

// sends writes a piece in the background.
func (in testIn) sends(piece string) {
	go func() { _, _ = in.peer.Write([]byte(piece)) }() // Ends with the connection.
}

// gives wants these messages to be next, and then none.
func (in testIn) gives(want ...string) {
	in.Helper()
	for _, message := range want {
		data, ok, err := in.Next()
		if !ok || err != nil || string(data) != message || cap(data) != len(data) {
			in.Errorf("got %.40q of %d, %v, %v; want %.40q", data, cap(data), ok, err, message)
		}
	}
	if data, ok, err := in.Next(); ok || err != nil || data != nil {
		in.Errorf("got %.40q, %v, %v; want nothing", data, ok, err)
	}
}

// looks wants the buffer to look like this.
func (in testIn) looks(size, from, to int, loan int64, need int) {
	in.Helper()
	want := transport.Buffered{Size: size, From: from, To: to, Loan: loan, Need: need}
	if got := in.Buffered(); got != want {
		in.Errorf("the buffer is %+v, want %+v", got, want)
	}
}

func TestIn_Messages_AreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 200})
		in.comes(framed("a") + framed("") + framed("bcd") + "\x05ef")
		in.gives("a", "", "bcd")
		if in.Received() != 3 || in.PartialBytes() != 3 || in.WholeMessages() != 0 {
			t.Errorf("%d messages, %d bytes of the next, %d whole", in.Received(), in.PartialBytes(), in.WholeMessages())
		}
		in.looks(512, 7, 10, 0, 6)
		in.comes("ghi" + framed("j") + "\x80")
		if whole := in.WholeMessages(); whole != 2 {
			t.Errorf("%d messages are whole", whole)
		}
		in.gives("efghi", "j")
		in.looks(512, 3+3+2, 3+3+3, 0, 0)
		in.comes("\x01" + strings.Repeat("k", 128))
		in.gives(strings.Repeat("k", 128))
		in.looks(512, 130, 130, 0, 0)
		if in.PartialBytes() != 0 {
			t.Errorf("%d bytes are left", in.PartialBytes())
		}
	})
}

// TestIn_OversizedMessage_IsSkipped, whole or as it comes, and goes on behind it.
func TestIn_OversizedMessage_IsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 5})
		refused := func() {
			t.Helper()
			data, ok, err := in.Next()
			if ok || data != nil || !errors.Is(err, udsipc.ErrMessageTooLarge) ||
				!strings.Contains(err.Error(), "6 bytes, the limit is 5") {
				t.Errorf("%q, %v, %v", data, ok, err)
			}
		}
		in.comes(framed("12345") + framed("123456") + framed("a"))
		if whole := in.WholeMessages(); whole != 3 {
			t.Errorf("%d are whole", whole)
		}
		if data, ok, err := in.Next(); !ok || err != nil || string(data) != "12345" {
			t.Errorf("%q, %v, %v", data, ok, err)
		}
		refused()
		if in.Skipping() != 7 || in.WholeMessages() != 0 {
			t.Errorf("%d bytes to pass over, %d whole", in.Skipping(), in.WholeMessages())
		}
		in.gives("a")
		in.comes("\x06123")
		refused()
		in.gives()
		if in.Skipping() != 3 || in.PartialBytes() != 0 {
			t.Errorf("%d bytes to pass over, %d at hand", in.Skipping(), in.PartialBytes())
		}
		in.comes("45")
		in.gives()
		in.comes("6" + framed("b"))
		in.gives("b")
		if in.Received() != 3 {
			t.Errorf("%d messages", in.Received())
		}
		in.comes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x")
		if _, _, err := in.Next(); !errors.Is(err, udsipc.ErrMessageTooLarge) || in.Skipping() != 1<<64-1 {
			t.Errorf("%d bytes to pass over, %v", in.Skipping(), err)
		}
	})
}

// TestIn_OversizedMessage_ReportsItsHead: a Conn's errors have the beginning of a message that is too large.
func TestIn_OversizedMessage_ReportsItsHead(t *testing.T) {
	for _, size := range []int{6, 31, 32, 33, 100} {
		synctest.Test(t, func(t *testing.T) {
			in := inOf(t, transport.Limits{MaxMessageSize: 5})
			in.KeepOpenIf(nil)
			message := strings.Repeat("0123456789", 10)[:size]
			in.comes(framed(message)[:3])
			in.gives()
			in.looks(512, 0, 3, 0, 1+min(size, 32))
			in.comes(framed(message)[3:])
			_, ok, err := in.Next()
			large := (*errdefs.TooLarge)(nil)
			if ok || !errors.Is(err, udsipc.ErrMessageTooLarge) || !errors.As(err, &large) ||
				large.Size != uint64(size) || large.Limit != 5 ||
				string(large.Head) != message[:min(size, 32)] {
				t.Errorf("%d bytes: %v, %+v", size, err, large)
			}
			in.gives()
			in.comes(framed("12345"))
			in.gives("12345")
		})
	}
}

// TestIn_SessionMark_IsRecognized by its first bytes, and by those alone.
func TestIn_SessionMark_IsRecognized(t *testing.T) {
	hello := wire.Hello{Writer: [16]byte{1, 2, 3}, Epoch: 1, FirstSeq: 1, HeartbeatTimeout: time.Second}
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		b := string(hello.Append(nil))
		in.comes(b[:5])
		in.gives()
		in.comes(b[5:20])
		if _, ok, err := in.Next(); ok || err != transport.ErrSessionPreface {
			t.Errorf("%v, %v", ok, err)
		}
		if _, whole, err := in.Hello(); whole || err != nil {
			t.Errorf("%v, %v", whole, err)
		}
		in.looks(512, 0, 20, 0, 21)
		in.comes(b[20:] + framed("a"))
		if h, whole, err := in.Hello(); h != hello || !whole || err != nil {
			t.Errorf("%+v, %v, %v", h, whole, err)
		}
		in.gives("a")
	})
	for _, before := range []string{framed("a"), ""} {
		synctest.Test(t, func(t *testing.T) {
			in := inOf(t, transport.Limits{Inherited: before == ""})
			in.comes(before + string(hello.Append(nil)))
			if before != "" {
				_, _, _ = in.Next()
			}
			if _, ok, err := in.Next(); ok || !errors.Is(err, udsipc.ErrInvalidLengthPrefix) {
				t.Errorf("after %q: %v, %v", before, ok, err)
			}
		})
	}
}

// TestIn_InvalidHello_IsError, and that it is there whole.
func TestIn_InvalidHello_IsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes(string(wire.Hello{}.Append(nil))) // Its attempt is 0.
		if _, whole, err := in.Hello(); !whole || !errors.Is(err, udsipc.ErrInvalidSession) {
			t.Errorf("%v, %v", whole, err)
		}
	})
}

// TestIn_Heartbeats_AreSkippedInSessions in a session. Elsewhere those are empty messages.
func TestIn_Heartbeats_AreSkippedInSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes("\x80\x00" + framed("a"))
		in.gives("", "a")
		go io.Copy(io.Discard, in.peer) // Ends with the connection.
		session := in.BeginSession(0, 0, 0, 0)
		in.comes("\x80\x00\x00" + framed("b") + "\x80\x00\x80")
		in.gives("", "b")
		in.comes("\x00")
		in.gives()
		if in.Received() != 4 {
			t.Errorf("%d messages", in.Received())
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestIn_Halted_ReturnsNothing gives nothing more, though it has come.
func TestIn_Halted_ReturnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes(framed("a") + framed("b"))
		if _, ok, _ := in.Next(); !ok {
			t.Error("no message")
		}
		in.Halt()
		in.gives()
		if err := in.Fill(); err != transport.ErrGracefulEnd {
			t.Error(err)
		}
		if !in.IsHalted() {
			t.Error("not halted")
		}
	})
}

// TestIn_Buffer_GrowsAndShrinks with what has come, four times at most, up to the frame, and gets
// small again for a wait.
func TestIn_Buffer_GrowsAndShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		large := strings.Repeat("x", 100_000)
		bytes := framed(large)
		in.comes(bytes[:512])
		in.gives()
		in.looks(512, 0, 512, 0, 100_003)
		in.comes(bytes[512:2048])
		in.looks(16<<10, 0, 2048, 0, 100_003)
		in.comes(bytes[2048 : 16<<10])
		in.looks(16<<10, 0, 16<<10, 0, 100_003)
		in.comes(bytes[16<<10 : 60_000])
		in.looks(64<<10, 0, 60_000, 64<<10, 100_003)
		in.comes(bytes[60_000 : 64<<10])
		in.comes(bytes[64<<10:])
		in.looks(13<<13, 0, 100_003, 128<<10, 100_003)
		in.gives(large)
		in.ReleaseBuffer()
		in.looks(0, 0, 0, 0, 0)
		if in.memory.Left != 1<<30 {
			t.Errorf("%d are lost", 1<<30-in.memory.Left)
		}
	})
}

// TestIn_FullBuffer_WaitsForMemory when it is full, and nothing is left.
func TestIn_FullBuffer_WaitsForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.memory.Left = 0
		large := strings.Repeat("x", 40_000)
		bytes := framed(large)
		in.comes(bytes[:512])
		in.gives()
		in.comes(bytes[512 : 16<<10])
		in.gives()
		done := make(chan error, 1)
		in.sends(bytes[16<<10:])
		in.memory.Granted = make(chan struct{})
		go func() { done <- in.Fill() }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		close(in.memory.Granted)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		in.gives(large)
		// The end of the connection ends such a wait, and its deadline does.
		for _, end := range []string{"halt", "limit"} {
			in := inOf(t, transport.Limits{})
			in.memory.Left = 0
			in.comes(bytes[:512])
			in.gives()
			in.comes(bytes[512 : 16<<10])
			in.gives()
			go func() { done <- in.Fill() }()
			synctest.Wait()
			if end == "halt" {
				in.Halt()
				if err := <-done; err != transport.ErrGracefulEnd {
					t.Error(err)
				}
			} else {
				if err := in.SetUserDeadline(time.Now().Add(time.Second)); err != nil {
					t.Error(err)
				}
				began := time.Now()
				if err := <-done; !isTimeoutError(err) || time.Since(began) != time.Second {
					t.Error(err, time.Since(began))
				}
			}
			if in.memory.Cancels != 1 {
				t.Errorf("%s: %d cancels", end, in.memory.Cancels)
			}
		}
	})
}

// isTimeoutError says whether a deadline has passed.
func isTimeoutError(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TestIn_Suspended_HoldsNoMemory holds no memory while the peer decides how long a wait is.
func TestIn_Suspended_HoldsNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes(framed(strings.Repeat("x", 300))[:100])
		if kept := in.ReleaseForPause(); kept != 100 {
			t.Errorf("%d bytes are kept", kept)
		}
		in.looks(512, 0, 100, 0, 0)
		in.comes(strings.Repeat("x", 202))
		in.gives(strings.Repeat("x", 300))
		if kept := in.ReleaseForPause(); kept != 0 {
			t.Errorf("%d bytes are kept", kept)
		}
		in.looks(0, 0, 0, 0, 0)
	})
}

// framed is a message as it is written.
func framed(message string) string { return string(wire.AppendFrame(nil, []byte(message))) }
