// SPDX-License-Identifier: Apache-2.0

package sender

// An inline step by step, over a connection in memory, whose writes wait, and over sockets, whose
// writes are tried first.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

// A testInline is an inline of which a test plays the peer.
type testInline struct {
	*Inline
	*testing.T
	failed  atomic.Pointer[error]
	failing atomic.Int32 // How often it has failed.
	closing atomic.Bool
}

func inlineOf(t *testing.T, conn net.Conn, stall time.Duration) *testInline {
	s := &testInline{T: t}
	s.Inline = NewInline(InlineConfig{
		Conn: conn, Queue: queue.New(queue.Limits{Messages: 10_000, Bytes: 64 << 20, Undrained: true}),
		StallTimeout: stall, CloseTimeout: 5 * time.Second, Closing: s.closing.Load,
		Failed: func(err error) { s.failed.Store(&err); s.failing.Add(1) },
	})
	t.Cleanup(func() { conn.Close() })
	return s
}

// pipeInline is one over a connection in memory. It must be called in a bubble.
func pipeInline(t *testing.T, stall time.Duration) (*testInline, net.Conn) {
	near, far := net.Pipe()
	t.Cleanup(func() { far.Close() })
	return inlineOf(t, near, stall), far
}

// socketInline is one over a TCP socket.
func socketInline(t *testing.T, stall time.Duration) (*testInline, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return inlineOf(t, near, stall), far.(*net.TCPConn)
}

// write queues a message, and sends if nobody else does.
func (s *testInline) write(message []byte) {
	s.Helper()
	_, idle, err := s.queue.Enqueue(message)
	if err != nil {
		s.Fatal(err)
	}
	if idle {
		s.Send()
	}
}

// readFrames reads so many frames of these bytes.
func readFrames(t *testing.T, conn net.Conn, message []byte, count int) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	want := wire.AppendFrame(nil, message)
	got := make([]byte, len(want))
	for i := range count {
		if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("frame %d is %.40q, %v", i, got[:n], err)
		}
	}
}

func TestInline_Messages_AreSent(t *testing.T) {
	message := []byte("message")
	synctest.Test(t, func(t *testing.T) {
		s, far := pipeInline(t, 0)
		for range 3 {
			s.write(message)
			s.write(message)
			readFrames(t, far, message, 2)
			synctest.Wait()
			if counts := s.queue.ReadCounts(); s.failure() != nil || counts.Accepted != counts.Sent {
				t.Errorf("%v, %+v", s.failure(), counts)
			}
		}
	})
	s, far := socketInline(t, 0)
	for range 3 {
		s.write(message)
		if counts := s.queue.ReadCounts(); counts.Accepted != counts.Sent { // It was sent at once.
			t.Errorf("%+v", counts)
		}
		readFrames(t, far, message, 1)
	}
}

// TestInline_FullSocket_IsWaitedFor by a goroutine of its own, which sends all that comes meanwhile.
func TestInline_FullSocket_IsWaitedFor(t *testing.T) {
	for _, stall := range []time.Duration{0, time.Minute} {
		s, far := socketInline(t, stall)
		message := bytes.Repeat([]byte("0123456789abcde."), 64<<10) // 1 MiB.
		const count = 20
		for range count {
			s.write(message)
		}
		if counts := s.queue.ReadCounts(); counts.Sent == count {
			t.Errorf("the socket holds %d bytes", count*len(message))
		}
		readFrames(t, far, message, count)
		if err := s.Finish(within(t, time.Minute), func([]byte) {}); err != nil {
			t.Error(err)
		}
		if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v behind the end", n, err)
		}
		if counts := s.queue.ReadCounts(); counts.Sent != count || s.failing.Load() != 0 {
			t.Errorf("%+v, failed %d times", counts, s.failing.Load())
		}
	}
}

// TestInline_BrokenConn_FailsOnce for each way of writing.
func TestInline_BrokenConn_FailsOnce(t *testing.T) {
	failed := func(t *testing.T, s *testInline, want error) {
		t.Helper()
		if err := s.failed.Load(); s.failing.Load() != 1 ||
			!errors.Is(*err, errdefs.ErrConnectionClosed) || !errors.Is(*err, want) ||
			s.failure() != *err {
			t.Errorf("failed %d times: %v, %v", s.failing.Load(), *err, s.failure())
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s, far := pipeInline(t, 0)
		far.Close()
		s.write([]byte("a"))
		synctest.Wait()
		failed(t, s, io.ErrClosedPipe)
		_ = s.queue.DiscardAll(nil)
		if err := s.Finish(within(t, time.Second), func([]byte) {}); err == nil ||
			!strings.HasPrefix(err.Error(), "1 message was not sent within 5s (WithWriteTimeout): udsipc: ") ||
			errors.Is(err, errdefs.ErrBackpressure) {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, far := pipeInline(t, time.Second)
		far.Close()
		s.write([]byte("a"))
		synctest.Wait()
		failed(t, s, io.ErrClosedPipe)
		s.conn.Close()
		if n, err := s.writeWaiting(net.Buffers{[]byte("a")}); n != 0 || err == nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	s, _ := socketInline(t, 0)
	s.conn.Close()
	s.write([]byte("a"))
	failed(t, s, net.ErrClosed)
}

// TestInline_StalledPeer_Fails after the stall timeout, unless this side is at its end.
func TestInline_StalledPeer_Fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, closing := range []bool{false, true} {
			s, far := pipeInline(t, time.Second)
			s.closing.Store(closing)
			s.write([]byte("abc"))
			time.Sleep(time.Second - 1)
			synctest.Wait()
			if s.failing.Load() != 0 {
				t.Error("it fails before its time")
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			err := *s.failed.Load()
			if errors.Is(err, errdefs.ErrBackpressure) == closing || errors.Is(err, os.ErrDeadlineExceeded) != closing {
				t.Errorf("closing %v: %v", closing, err)
			}
			if want := "udsipc: connection closed: " + errdefs.ErrBackpressure.Error() +
				": the peer has taken nothing for 1s (WithStallTimeout)"; !closing && err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			far.Close()
		}
	})
}

// TestInline_SlowPeerWithoutTry_TakesPieces: each has the stall timeout for itself, and the
// deadline ends with the write.
func TestInline_SlowPeerWithoutTry_TakesPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, far := pipeInline(t, time.Second)
		message := bytes.Repeat([]byte("x"), 3*stallPiece)
		s.write(message)
		want := wire.AppendFrame(nil, message)
		for len(want) > 0 {
			time.Sleep(900 * time.Millisecond)
			piece := make([]byte, min(stallPiece, len(want)))
			if _, err := io.ReadFull(far, piece); err != nil || !bytes.Equal(piece, want[:len(piece)]) {
				t.Fatal(err)
			}
			want = want[len(piece):]
		}
		synctest.Wait()
		if s.failure() != nil {
			t.Error(s.failure())
		}
		time.Sleep(time.Hour)
		go far.Read(make([]byte, 1)) // Ends with one byte.
		if n, err := s.conn.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("a later write: %v", err)
		}
	})
}

// TestInline_SlowSocket_GoesOn after a write that timed out, if the peer took something.
func TestInline_SlowSocket_GoesOn(t *testing.T) {
	s, far := socketInline(t, 20*time.Millisecond)
	_ = s.conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
	message := make([]byte, 16<<20)
	s.queue.Close() // It is not used.
	var total int64
	vector := net.Buffers{message}
	n, err := s.writeWaiting(vector)
	if total += n; n == 0 || n == int64(len(message)) || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for err == nil { // Until the peer's system is full as well.
		n, err = s.writeWaiting(net.Buffers{message})
		total += n
	}
	if n != 0 || !errors.Is(err, errdefs.ErrBackpressure) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got, err := io.CopyN(io.Discard, far, total); err != nil {
		t.Errorf("%d bytes of %d come, %v", got, total, err)
	}
	if _, err := s.conn.Write([]byte("x")); err == nil {
		t.Error("the deadline of the write that failed is over")
	}
}

// TestInline_FinishWithoutReader_ReportsUnsent messages when its context ends.
func TestInline_FinishWithoutReader_ReportsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := pipeInline(t, 0)
		s.write([]byte("a"))
		s.write([]byte("b"))
		began := time.Now()
		err := s.Finish(within(t, time.Second), func([]byte) { t.Error("there is nothing to discard") })
		if !errors.Is(err, errdefs.ErrBackpressure) || err.Error() != fmt.Sprintf(
			"2 messages were not sent within 5s (WithWriteTimeout): %v",
			errdefs.ErrBackpressure) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, _, err := s.queue.Enqueue(nil); !errors.Is(err, errdefs.ErrStopped) {
			t.Error(err)
		}
	})
}

// TestInline_FinishTCP_DiscardsWhatComes until the peer's system has taken everything, or the context ends.
func TestInline_FinishTCP_DiscardsWhatComes(t *testing.T) {
	s, far := socketInline(t, 0)
	message := make([]byte, 8<<20)
	s.write(message)
	discarded := 0
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Finish(ctx, func(scratch []byte) {
		if discarded++; discarded == 3 {
			cancel()
		}
		if len(scratch) < 4<<10 {
			t.Errorf("%d bytes of room", len(scratch))
		}
	})
	if discarded < 3 || !errors.Is(err, errdefs.ErrBackpressure) ||
		!strings.HasPrefix(err.Error(), "1 message was not sent") {
		t.Errorf("%v after %d calls", err, discarded)
	}
	go io.Copy(io.Discard, far) // Ends with the connection.

	s, far = socketInline(t, 0)
	_ = far.SetLinger(0)
	if err := s.Finish(within(t, time.Minute), func([]byte) {}); err != nil {
		t.Error(err)
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}

	// The peer's system takes no more, or breaks the connection.
	s, far = socketInline(t, 0)
	if err := errors.Join(s.conn.(*net.TCPConn).SetWriteBuffer(4<<20), far.SetReadBuffer(4<<10)); err != nil {
		t.Fatal(err)
	}
	s.write(make([]byte, 512<<10))
	if err := s.finishConn(within(t, 50*time.Millisecond), func([]byte) {}); !errors.Is(err, errdefs.ErrBackpressure) ||
		!strings.HasSuffix(err.Error(), "its system has not taken everything within 5s (WithWriteTimeout)") {
		t.Error(err)
	}
	if err := errors.Join(far.SetLinger(0), far.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.finishConn(within(t, time.Minute), func([]byte) {}); err == nil ||
		errors.Is(err, errdefs.ErrBackpressure) {
		t.Errorf("a connection that was reset: %v", err)
	}
}
