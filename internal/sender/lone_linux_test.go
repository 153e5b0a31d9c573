// SPDX-License-Identifier: Apache-2.0

package sender

// Lone messages: the producer writes them itself while the loop waits for work.

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// idles waits until the loop waits for work, and a message may be a lone one.
func (l *testLoop) idles() {
	l.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if l.turn.mu.TryLock() {
			ready := l.turn.conn != nil
			l.turn.mu.Unlock()
			if ready && l.queue.MarkIdle() {
				break
			}
		}
		if time.Now().After(deadline) {
			l.Fatal("waited 30 s for an idle loop")
		}
	}
	time.Sleep(2 * loneInterval)
}

// arrived returns the bytes that are at the other end now.
func arrived(t *testing.T, far net.Conn) (n int) {
	t.Helper()
	raw, err := far.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Read(func(fd uintptr) bool {
		n, _, err = syscall.Recvfrom(int(fd), make([]byte, 1<<20), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	return max(n, 0)
}

// TestLoop_LoneMessage_IsWrittenByProducer: it is in the socket when the write returns, and
// accounted for.
func TestLoop_LoneMessage_IsWrittenByProducer(t *testing.T) {
	l, far := unixLoop(t)
	for n := 1; n < 20; n++ {
		l.idles()
		if err := l.queue.EnqueueAndWake([]byte("b")); err != nil {
			t.Fatal(err)
		}
		if counts := l.queue.ReadCounts(); counts.Sent != uint64(1+n) || arrived(t, far) != 2*(1+n) {
			t.Fatalf("message %d: %d sent, %d bytes arrived", n, counts.Sent, arrived(t, far))
		}
	}
	if counts := l.Snapshot(); counts.Writes != 20 || counts.WrittenBytes != 40 {
		t.Errorf("%+v", counts)
	}
	if _, err := io.ReadFull(far, make([]byte, 40)); err != nil {
		t.Fatal(err)
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLoop_LoneMessagesFullSocket_GoOnInLoop: what the socket does not take at once is written by
// the loop, in order.
func TestLoop_LoneMessagesFullSocket_GoOnInLoop(t *testing.T) {
	l, far := unixLoop(t)
	want := wire.AppendFrame(nil, []byte("a"))
	for n := range 40 { // More than the socket takes.
		message := bytes.Repeat([]byte{byte(n)}, 12_000)
		want = wire.AppendFrame(want, message)
		if l.queue.ReadCounts().Queued == 0 {
			l.idles()
		}
		if err := l.queue.EnqueueAndWake(message); err != nil {
			t.Fatal(err)
		}
	}
	if l.queue.ReadCounts().Queued == 0 {
		t.Error("the socket has taken everything")
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("not what was written: %v", err)
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLoop_LoneMessageLostPeer_IsAccountedFor: the producer's write fails, and the loop reports
// what the one before has lost.
func TestLoop_LoneMessageLostPeer_IsAccountedFor(t *testing.T) {
	l, far := unixLoop(t)
	l.idles()
	far.Close()
	if err := l.queue.EnqueueAndWake([]byte("b")); err != nil {
		t.Fatal(err)
	}
	if err := l.Stop(within(t, 100*time.Millisecond)); err == nil {
		t.Error("Stop has not reported the loss")
	}
	counts, queued := l.Snapshot(), l.queue.ReadCounts()
	if counts.PossiblyLost != 1 || queued.Undelivered != 1 {
		t.Errorf("%+v, %+v", counts, queued)
	}
}

// TestLoop_Burst_IsNoLoneMessage: messages that follow one another closely are for the loop.
func TestLoop_Burst_IsNoLoneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := loneClock{began: time.Now().Add(-time.Second)}
		for _, step := range []struct {
			after time.Duration
			want  bool
		}{
			{0, true}, {0, false}, {loneInterval - 1, false}, {loneInterval, true}, {loneInterval - 1, false}, {time.Hour, true},
		} {
			time.Sleep(step.after)
			if got := w.isLone(); got != step.want {
				t.Errorf("after %v: %v", step.after, got)
			}
		}
	})
}
