// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestLink_Reconnects_LosesNothing over connections that the other end ends gracefully, one after
// the other: nothing is lost, repeated or reordered, in either direction.
func TestLink_Reconnects_LosesNothing(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	const each = 200
	connections := ipctest.InShort(20, 5)
	var echoed atomic.Uint64
	failed := make(chan string, 1)
	link := ipctest.StartLink(t, path, func(data []byte) {
		if n := echoed.Add(1); string(data[:strings.IndexByte(string(data), ' ')]) != fmt.Sprint(n) {
			select {
			case failed <- fmt.Sprintf("%.20q is number %d", data, n):
			default:
			}
		}
	}, udsipc.WithOverflow(udsipc.OverflowBlock))
	go func() { // Ends with the Link.
		for n := 1; link.WriteMessage(fmt.Appendf(nil, "%d %s", n, strings.Repeat("x", n%5000))) == nil; n++ {
		}
	}()
	next := 1
	for range connections {
		l := ipctest.Listen(t, path, udsipc.WithWriteTimeout(30*time.Second)) // Close takes what a busy machine needs.
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		for received := 0; ; received++ {
			if received == each {
				if err := conn.CloseRead(); err != nil {
					t.Fatal(err)
				}
			}
			data, err := conn.ReadMessage()
			if received >= each && err != nil {
				break
			}
			if err != nil || !strings.HasPrefix(string(data), fmt.Sprint(next, " ")) {
				t.Fatalf("%.20q, %v, want %d", data, err, next)
			}
			next++
			if err := conn.WriteMessage(data); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ipctest.Until(t, "all is echoed", func() bool { return echoed.Load() == uint64(next-1) })
	select {
	case what := <-failed:
		t.Error(what)
	default:
	}
}

func TestLink_Stop_SendsQueued(t *testing.T) {
	l, err := udsipc.NewLink(ipctest.SocketPath(t), func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.WriteMessage([]byte("never")); err != nil {
		t.Fatal(err)
	}
	if err := l.Stop(t.Context()); !errors.Is(err, udsipc.ErrNotStarted) || !strings.Contains(err.Error(), "1 message ") {
		t.Error(err)
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
	away := ipctest.StartLink(t, ipctest.SocketPath(t), func([]byte) {}, udsipc.WithMaxBufferedWrites(1))
	if err := away.WriteMessage(nil); err != nil {
		t.Error(err)
	}
	if err := away.WriteMessage(nil); !errors.Is(err, udsipc.ErrBufferFull) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := away.WaitConnected(ctx); !errors.Is(err, udsipc.ErrNotConnected) {
		t.Error(err)
	}
	if err := away.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
