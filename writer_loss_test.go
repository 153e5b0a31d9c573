// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestWriter_PoisonMessage_IsReturnedUndelivered: the reader refuses one message for ever; the rest flows.
func TestWriter_PoisonMessage_IsReturnedUndelivered(t *testing.T) {
	t.Parallel()
	ipctest.OverAddresses(t, func(t *testing.T, address string) {
		const limit, size = 1 << 10, 4 << 20
		errs := ipctest.Collect()
		got := make(chan string, 10)
		ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, address,
			udsipc.WithMaxMessageSize(limit))
		var aside atomic.Int64
		w := ipctest.NewWriter(t, address, udsipc.WithWriterErrorCallback(errs.Callback),
			udsipc.WithUndelivered(func(data []byte) {
				if len(data) != size || data[0] != 'p' {
					t.Errorf("%d bytes were handed back", len(data))
				}
				aside.Add(1)
			}))
		ipctest.MustWriteMessage(t, w, "before")
		ipctest.MustWriteMessage(t, w, strings.Repeat("p", size))
		ipctest.MustWriteMessage(t, w, "behind")
		ipctest.MustStart(t, w)
		for _, want := range []string{"before", "behind"} {
			if data := ipctest.Await(t, want, got); data != want {
				t.Errorf("got %q, want %q", data, want)
			}
		}
		if strings.HasPrefix(address, "tcp://") {
			return // The kernels hold the whole message there, so that it counts as sent: the reader reports it.
		}
		errs.Want(t, udsipc.ErrMessageTooLarge)
		ipctest.StopAndTell(t, w)
		if m := w.Metrics(); m.Undelivered != 1 || m.Sent != 2 || m.Connections > 5 || aside.Load() != 1 {
			t.Errorf("%+v, %d handed back; want 1 undelivered, 2 sent over at most 5 connections", m, aside.Load())
		}
	})
}

// TestWriter_UnreadBytes_ReportPossibleLoss: a reader that dies with bytes unread may have cost messages; one that
// had read everything has not.
func TestWriter_UnreadBytes_ReportPossibleLoss(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, reads := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s reads %v", network, reads), func(t *testing.T) {
				address := ipctest.SocketPath(t)
				name := address
				if network == "tcp" {
					address = ipctest.TcpAddress(t)
					name = strings.TrimPrefix(address, "tcp://")
				}
				l, err := net.Listen(network, name)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				errs := ipctest.Collect()
				lost := make(chan struct{}, 10)
				w := ipctest.NewWriter(t, address, udsipc.WithWriterErrorCallback(errs.Callback),
					udsipc.WithStateCallback(func(s udsipc.State, _ error) {
						if s == udsipc.StateDisconnected {
							lost <- struct{}{}
						}
					}))
				ipctest.MustStart(t, w)
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				const n = 100
				for range n {
					ipctest.MustWriteMessage(t, w, "message")
				}
				ipctest.Until(t, "all is sent", func() bool { return w.Metrics().Sent == n })
				if reads {
					if _, err := io.ReadFull(conn, make([]byte, n*8)); err != nil {
						t.Fatal(err)
					}
				} else if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				conn.Close()
				ipctest.Await(t, "the loss of the connection", lost)
				m := w.Metrics()
				if reads {
					errs.None(t, udsipc.ErrConnectionClosed)
					if m.PossiblyLost != 0 {
						t.Errorf("%d possibly lost, want 0", m.PossiblyLost)
					}
					return
				}
				var loss *udsipc.PossibleLossError
				if err := errs.Want(t, udsipc.ErrConnectionClosed); !errors.As(err, &loss) ||
					loss.Messages != n || !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("reported %v, want up to %d messages because of ECONNRESET", err, n)
				}
				if m.PossiblyLost != n {
					t.Errorf("%d possibly lost, want %d", m.PossiblyLost, n)
				}
			})
		}
	}
}

// TestWriter_PossibleLoss_IsBoundedBySocket: of a long stream only what the socket can hold may be lost.
func TestWriter_PossibleLoss_IsBoundedBySocket(t *testing.T) {
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	errs := ipctest.Collect()
	w := ipctest.NewWriter(t, path, udsipc.WithWriterErrorCallback(errs.Callback),
		udsipc.WithOverflow(udsipc.OverflowBlock))
	ipctest.MustStart(t, w)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	const n, size, read = 50_000, 1000, 30_000
	go func() {
		for range n {
			if w.WriteMessage(make([]byte, size)) != nil {
				return
			}
		}
	}()
	if _, err := io.ReadFull(conn, make([]byte, read*(size+2))); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	err = errs.Want(t, udsipc.ErrConnectionClosed)
	var loss *udsipc.PossibleLossError
	if !errors.As(err, &loss) {
		t.Fatal(err)
	}
	sent := w.Metrics().Sent
	if truly := sent - read; loss.Messages < truly || loss.Messages > truly+1000 {
		t.Errorf("up to %d messages are said to be lost; %d are", loss.Messages, truly)
	}
}

// TestWriter_ReaderKilled_ReportsPossibleLoss has readers die in the middle of a writer's writes.
// The kernel tells of unread bytes once, and a write that it cuts short takes the error with it;
// the Writer must not conclude from the end of file behind it that all was read.
func TestWriter_ReaderKilled_ReportsPossibleLoss(t *testing.T) {
	t.Parallel()
	const size = 1000
	rounds := ipctest.InShort(1000, 200)
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lost := make(chan udsipc.WriterMetrics, 1)
	var w *udsipc.Writer
	w = ipctest.NewWriter(t, path, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBackoff(100*time.Microsecond),
		udsipc.WithWriteBufferSize(2<<20), // So that the writer is nearly always in a write.
		udsipc.WithStateCallback(func(s udsipc.State, _ error) {
			if s == udsipc.StateDisconnected {
				lost <- w.Metrics()
			}
		}))
	ipctest.MustStart(t, w)
	go func() {
		for w.WriteMessage(make([]byte, size)) == nil {
		}
	}()
	var before udsipc.WriterMetrics
	for round := range rounds {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyN(io.Discard, conn, int64(1+round%100*3000))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		now := ipctest.Await(t, "the loss of the connection", lost)
		read := uint64(n) / (size + 2)
		if truly, said := now.Sent-before.Sent-read, now.PossiblyLost-before.PossiblyLost; said < truly {
			t.Fatalf("round %d: up to %d messages are said to be lost; %d are", round, said, truly)
		}
		before = now
	}
}

func TestWriter_MaxAge_DropsOldMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipctest.ListenInMemory()
		errs := ipctest.Collect()
		w := ipctest.NewWriter(t, "x", udsipc.WithMaxAge(10*time.Second), udsipc.WithDialer(l.Dial),
			udsipc.WithMaxBufferedWrites(3), udsipc.WithWriterErrorCallback(errs.Callback))
		ipctest.MustWriteMessage(t, w, "old")
		time.Sleep(6 * time.Second)
		ipctest.MustWriteMessage(t, w, "young")
		ipctest.MustWriteMessage(t, w, "twin")
		if err := w.WriteMessage([]byte("too many")); !errors.Is(err, udsipc.ErrBufferFull) {
			t.Errorf("%v, want ErrBufferFull", err)
		}
		time.Sleep(4*time.Second + time.Nanosecond)
		ipctest.MustWriteMessage(t, w, "in the place of the stale one")
		if m := w.Metrics(); m.Expired != 1 || m.Queued != 3 {
			t.Errorf("%+v, want 1 expired, 3 queued", m)
		}
		time.Sleep(6 * time.Second)
		if m := w.Metrics(); m.Expired != 3 || m.Queued != 1 {
			t.Errorf("%+v, want 3 expired, 1 queued", m)
		}
		got := make(chan string, 10)
		ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, "x", udsipc.WithListener(l))
		ipctest.MustStart(t, w)
		if data := <-got; data != "in the place of the stale one" {
			t.Errorf("got %q", data)
		}
		synctest.Wait()
		if err := <-errs.Events; !strings.Contains(err.Error(), "3 messages") {
			t.Errorf("reported %v", err)
		}
		ipctest.StopAndTell(t, w)
	})
}

// cutConn is a connection that breaks when so many bytes were written to it.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(b []byte) (int, error) {
	if len(b) <= c.left {
		c.left -= len(b)
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(b[:c.left])
	c.left = 0
	c.Conn.Close()
	if err == nil {
		err = syscall.EPIPE
	}
	return n, err
}

// TestWriter_CutAtEveryByte_ResendsFromFrameBoundary cuts the connection after each byte of a
// stream in turn: the next one begins with the first message that was not taken whole, on a frame
// boundary.
func TestWriter_CutAtEveryByte_ResendsFromFrameBoundary(t *testing.T) {
	sizes := []int{0, 1, 127, 128, 0, 300, 2, 0, 0, 5}
	var stream []byte
	var messages []string
	for i, size := range sizes {
		message := strings.Repeat(string(rune('a'+i)), size)
		messages = append(messages, message)
		stream = append(stream, ipctest.Frames(message)...)
	}
	for offset := range len(stream) {
		synctest.Test(t, func(t *testing.T) {
			l := ipctest.ListenInMemory()
			cuts := 0
			w := ipctest.NewWriter(t, "x", udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
				conn, err := l.Dial(ctx)
				if cuts++; cuts == 1 && err == nil {
					conn = &cutConn{Conn: conn, left: offset}
				}
				return conn, err
			}))
			var got []string
			r := ipctest.StartReader(t,
				func(data []byte) error { got = append(got, string(data)); return nil }, "x",
				udsipc.WithListener(l))
			for _, message := range messages {
				ipctest.MustWriteMessage(t, w, message)
			}
			ipctest.MustStart(t, w)
			ipctest.StopAndTell(t, w)
			ipctest.Stop(t, r)
			if !slices.Equal(got, messages) {
				t.Errorf("cut after %d bytes: got %q", offset, got)
			}
			if m := w.Metrics(); m.Sent != uint64(len(messages)) || m.Connections != 2 {
				t.Errorf("cut after %d bytes: %+v", offset, m)
			}
		})
	}
}

// TestWriter_Metrics_KeepInvariant holds at every moment, whatever happens.
func TestWriter_Metrics_KeepInvariant(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		t.Parallel()
		var r *udsipc.Reader
		for _, policy := range []udsipc.OverflowPolicy{
			udsipc.OverflowRefuse, udsipc.OverflowBlock, udsipc.OverflowDropOldest,
		} {
			t.Run(policy.String(), func(t *testing.T) {
				w := on.NewWriter(t, udsipc.WithOverflow(policy), udsipc.WithMaxBufferedWrites(50),
					udsipc.WithMaxAge(time.Millisecond))
				ipctest.MustStart(t, w)
				var accepted, refused atomic.Uint64
				var wg sync.WaitGroup
				ctx, cancel := context.WithCancel(t.Context())
				for range 4 {
					wg.Go(func() {
						for i := 0; ctx.Err() == nil; i++ {
							if err := w.WriteMessage(make([]byte, i%2000)); err == nil {
								accepted.Add(1)
							} else if errors.Is(err, udsipc.ErrBufferFull) {
								refused.Add(1)
							}
						}
					})
				}
				var handled uint64
				for range ipctest.InShort(5, 2) {
					r = on.StartReader(t, func([]byte) error { return nil })
					for range 200 {
						ipctest.CheckInvariant(t, w.Metrics())
					}
					ipctest.Stop(t, r)
					handled += r.Metrics().Received
				}
				r = on.StartReader(t, func([]byte) error { return nil })
				cancel()
				wg.Wait()
				ipctest.StopAndTell(t, w)
				ipctest.Stop(t, r)
				handled += r.Metrics().Received
				m := w.Metrics()
				ipctest.CheckInvariant(t, m)
				if m.PossiblyLost > 0 && on.Bare() { // Elsewhere a process that does not run for a while may miss the report.
					t.Errorf("%d messages are possibly lost", m.PossiblyLost)
				}
				if m.Accepted != accepted.Load() || m.Refused != refused.Load() || m.Queued != 0 ||
					m.Sent < handled || m.Sent > handled+m.PossiblyLost {
					t.Errorf("%+v; the program counted %d accepted, %d refused, %d handled", m,
						accepted.Load(), refused.Load(), handled)
				}
			})
		}
	})
}
