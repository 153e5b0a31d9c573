// SPDX-License-Identifier: Apache-2.0

package sender

// What the write of a lone message leaves to the loop: its error, and reports.

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// tcpLoop is a loop with a message, which its peer has in its kernel, over TCP.
func tcpLoop(t *testing.T, cfg Config, limits queue.Limits) (*testLoop, *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	l := loopOf(t, cfg, limits)
	l.cfg.Dial = func(context.Context) (net.Conn, error) { return near, nil }
	l.push("a")
	l.started()
	if err := l.Flush(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	return l, far.(*net.TCPConn)
}

// TestLoop_LoneMessageReset_IsAccountedFor: the kernel reports an error once. Whoever gets it, the
// producer or the loop, the message before is possibly lost.
func TestLoop_LoneMessageReset_IsAccountedFor(t *testing.T) {
	losesToReset(t, func(l *testLoop, far net.Conn) {
		far.Close() // With unread bytes: a reset.
		if err := l.queue.EnqueueAndWake([]byte("b")); err != nil {
			t.Fatal(err)
		}
	})
}

// losesToReset wants the first message to be possibly lost, and the second one to be kept: write has a producer write
// that one after the peer has reset the connection of an idle loop.
func losesToReset(t *testing.T, write func(l *testLoop, far net.Conn)) {
	t.Helper()
	for range 5 { // The loop's reader may be faster than the producer.
		l, far := tcpLoop(t, Config{}, queue.Limits{})
		l.idles()
		write(l, far)
		pollUntil(within(t, time.Minute), func() bool { return l.Snapshot().Connections > 1 })
		if counts := l.Snapshot(); counts.PossiblyLost != 1 {
			t.Errorf("%+v", counts)
		}
		_ = l.Stop(within(t, time.Millisecond))
		if counts := l.queue.ReadCounts(); counts.Sent != 1 || counts.Undelivered != 1 {
			t.Errorf("%+v", counts)
		}
	}
}

// TestLoop_LoneMessageDropsAnother_IsReported: it has taken the place of one that another producer
// was about to write.
func TestLoop_LoneMessageDropsAnother_IsReported(t *testing.T) {
	l, _ := tcpLoop(t, Config{DropOldest: true}, queue.Limits{Messages: 1, Bytes: 1 << 20})
	l.idles()
	l.mu.Lock()
	l.events = nil
	l.mu.Unlock()
	if _, idle, err := l.queue.Enqueue([]byte("b")); !idle || err != nil {
		t.Fatal(idle, err)
	}
	if err := l.queue.EnqueueAndWake([]byte("c")); err != nil {
		t.Fatal(err)
	}
	l.wake() // For the first one.
	reported := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.events) > 0
	}
	if counts := l.queue.ReadCounts(); counts.Dropped != 1 {
		t.Fatalf("%+v", counts)
	}
	if !pollUntil(within(t, 10*time.Second), reported) {
		t.Error("the drop is not reported")
	}
}
