// SPDX-License-Identifier: Apache-2.0

package sender_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/seam"
	"github.com/udsipc/udsipc/internal/transport"
)

// TestLink_StopSlowPeer_ReturnsWithContext: a peer that does not read holds up Stop no longer than its context lasts.
func TestLink_StopSlowPeer_ReturnsWithContext(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		l := ipctest.ListenOn(t, on, udsipc.WithWriteTimeout(10*time.Millisecond))
		link := ipctest.StartLink(t, on.Address, func([]byte) {}, on.WriterOptions(t)...)
		ipctest.Accept(t, l) // And reads nothing.
		for range 20 {
			if err := link.WriteMessage(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		stopped := make(chan error, 1)
		go func() { stopped <- link.Stop(ctx) }() // Ends with ctx.
		if err := ipctest.Await(t, "Stop", stopped); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// TestLink_BriefConnections_BackOff: connections that bring a message and end at once are made ever
// more slowly, up to a bound; those that bring nothing, up to WithMaxBackoff; and one that lives
// for a second makes up for all.
func TestLink_BriefConnections_BackOff(t *testing.T) {
	for name, test := range map[string]struct {
		says     string
		lives    time.Duration
		min, max int
	}{
		"a word and the end":    {"denied", 0, 60 * 1000 / 160, 3000},
		"the end":               {"", 0, 5, 200},
		"a word after a second": {"bye", time.Second, 58, 61}, // One at each end of the minute.
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(ipctest.SimNet)
				l := ipctest.Listen(t, "x", udsipc.WithListener(n.Listen()))
				connections := 0
				done := make(chan struct{})
				go func() { // Ends with the Listener.
					defer close(done)
					for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
						connections++
						time.Sleep(test.lives)
						if test.says != "" {
							_ = conn.WriteMessage([]byte(test.says))
						}
						conn.Close()
					}
				}()
				link, err := udsipc.NewLink("x", func([]byte) {}, udsipc.WithDialer(n.Dial))
				if err != nil {
					t.Fatal(err)
				}
				if err := link.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				ipctest.Stop(t, link)
				l.Close()
				<-done
				if connections < test.min || connections > test.max {
					t.Errorf("%d connections in a minute, want %d to %d", connections, test.min, test.max)
				}
			})
		})
	}
}

// TestLink_WriteFailed_StillReads: what the peer had sent is handled, although writing to it has failed by then.
func TestLink_WriteFailed_StillReads(t *testing.T) {
	const messages = 20
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		if runtime.GOOS != "linux" {
			t.Skip("elsewhere a reset takes what was not read")
		}
		if !on.Bare() {
			t.Skip("the kernel is that of a bare socket")
		}
		l := on.Listen(t)
		handled, release := make(chan int, messages), make(chan struct{})
		link := ipctest.StartLink(t, on.Address, func(data []byte) {
			<-release
			handled <- int(data[0])
		}, on.WriterOptions(t)...)
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if err := link.WriteMessage([]byte("nobody reads this")); err != nil {
			t.Fatal(err)
		}
		if err := link.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n := range messages {
			ipctest.MustWrite(t, conn, ipctest.Frames(string(append([]byte{byte(n)}, make([]byte, 1000)...))))
		}
		if on.Tcp() {
			ipctest.Until(t, "the system has taken everything", func() bool {
				taken, err := transport.AcknowledgedByTCP(conn)
				return taken && err == nil
			})
		}
		conn.Close() // It resets the connection, because of what nobody has read.
		for range 3 {
			_ = link.WriteMessage([]byte("nobody takes this"))
		}
		close(release)
		for n := range messages {
			if got := ipctest.Await(t, fmt.Sprintf("message %d", n), handled); got != n {
				t.Fatalf("message %d, want %d", got, n)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = link.Stop(ctx) // Nobody is there for the rest.
	})
}

// TestLink_StopHungHandler_ReportsIt that has not returned when the context ends.
func TestLink_StopHungHandler_ReportsIt(t *testing.T) {
	path := ipctest.SocketPath(t)
	l := ipctest.Listen(t, path)
	entered, release := make(chan struct{}), make(chan struct{})
	link := ipctest.StartLink(t, path, func([]byte) { close(entered); <-release })
	if err := ipctest.Accept(t, l).WriteMessage([]byte("work")); err != nil {
		t.Fatal(err)
	}
	ipctest.Await(t, "the handler", entered)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := link.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(release)
	if err := link.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLink_FlushAfterStop_ReportsUnsent says that what was given up was not sent.
func TestLink_FlushAfterStop_ReportsUnsent(t *testing.T) {
	link, err := udsipc.NewLink(ipctest.SocketPath(t), func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := link.WriteMessage([]byte("never")); err != nil {
		t.Fatal(err)
	}
	if err := link.Stop(t.Context()); err == nil {
		t.Error("Stop has lost a message without an error")
	}
	if err := link.Flush(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("Flush: %v", err)
	}
}

// TestLink_DropOldest_CountsDropped: each message that was accepted arrives, or is one of those.
func TestLink_DropOldest_CountsDropped(t *testing.T) {
	const messages = 1000
	path := ipctest.SocketPath(t)
	l := ipctest.Listen(t, path)
	opts := []udsipc.WriterOption{udsipc.WithOverflow(udsipc.OverflowDropOldest), udsipc.WithMaxBufferedWrites(3)}
	dialled, accepted := ipctest.Converse(t, l, path, opts...)
	link, err := udsipc.NewLink(path, func([]byte) {}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	accepts := 0
	for range messages {
		if err := dialled.WriteMessage(make([]byte, 10_000)); err == nil {
			accepts++
		} else if !errors.Is(err, udsipc.ErrBufferFull) { // What is being written is not dropped.
			t.Fatal(err)
		}
		if _, err := seam.OfLink(link).Send([]byte("away")); err != nil {
			t.Fatal(err)
		}
	}
	if n := link.Dropped(); n != messages-3 || seam.OfLink(link).SentSeq() != n {
		t.Errorf("%d of the Link are dropped, and up to %d sent", n, seam.OfLink(link).SentSeq())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = link.Stop(ctx) // Nobody gets the rest.
	if number, err := seam.OfLink(link).Send(nil); number != 0 || !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("message %d, %v", number, err)
	}
	closed := make(chan error, 1)
	go func() { closed <- dialled.Close() }() // Ends with the messages.
	arrived := 0
	for _, err := range accepted.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		arrived++
	}
	if err := ipctest.Await(t, "Close", closed); err != nil {
		t.Error(err)
	}
	// If the reader got no processor, nearly all were refused: none may be dropped of those being written.
	dropped := dialled.Dropped()
	if dropped == 0 && accepts > messages/2 || uint64(arrived)+dropped != uint64(accepts) {
		t.Errorf("%d messages arrived, %d are dropped, of %d", arrived, dropped, accepts)
	}
}

// TestLink_HandlerGoexit_EndsLink: the connection ends with it, and Stop says what is left.
func TestLink_HandlerGoexit_EndsLink(t *testing.T) {
	path := ipctest.SocketPath(t)
	l := ipctest.Listen(t, path)
	link := ipctest.StartLink(t, path, func([]byte) { runtime.Goexit() })
	conn := ipctest.Accept(t, l)
	if err := conn.WriteMessage([]byte("the last")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ReadMessage(); err != io.EOF {
		t.Error(err)
	}
	ipctest.Until(t, "the Link has stopped", func() bool { return link.State() == udsipc.StateStopped })
	if err := link.WaitConnected(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
	for range 2 { // The first finds the queue idle.
		if err := link.WriteMessage([]byte("nobody sends this")); !errors.Is(err, udsipc.ErrStopped) {
			t.Errorf("WriteMessage: %v", err)
		}
	}
	if err := link.Stop(t.Context()); err != nil {
		t.Errorf("Stop: %v", err)
	}
}
