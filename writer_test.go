// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
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

func TestWriter_NoReaderYet_QueuesMessages(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		w := on.NewWriter(t)
		ipctest.MustWriteMessage(t, w, "before start")
		ipctest.MustStart(t, w)
		ipctest.MustWriteMessage(t, w, "before the reader")
		if m := w.Metrics(); m.Queued != 2 || m.QueuedBytes != 13+18 {
			t.Errorf("%+v, want 2 queued of 31 bytes", m)
		}
		got := make(chan string, 10)
		on.StartReader(t, func(data []byte) error { got <- string(data); return nil })
		for _, want := range []string{"before start", "before the reader"} {
			if data := ipctest.Await(t, want, got); data != want {
				t.Errorf("got %q, want %q", data, want)
			}
		}
		ipctest.Until(t, "all is sent", func() bool { return w.Metrics().Sent == 2 })
		if sent, dropped, failed, queued := w.GetMetrics(); sent != 2 || dropped+failed != 0 || queued != 0 {
			t.Errorf("GetMetrics: %d, %d, %d, %d, want 2, 0, 0, 0", sent, dropped, failed, queued)
		}
	})
}

func TestWriter_Overflow_FollowsPolicy(t *testing.T) {
	for _, test := range []struct {
		name string
		opts []udsipc.WriterOption
	}{
		{"messages", []udsipc.WriterOption{udsipc.WithMaxBufferedWrites(3)}},
		{"bytes", []udsipc.WriterOption{udsipc.WithMaxBufferedBytes(3*4 + 1)}},
	} {
		t.Run("refuse by "+test.name, func(t *testing.T) {
			w := ipctest.NewWriter(t, ipctest.SocketPath(t), test.opts...)
			for i := range 5 {
				if err := w.WriteMessage([]byte("abc")); (i >= 3) != errors.Is(err, udsipc.ErrBufferFull) {
					t.Errorf("message %d: %v", i, err)
				}
			}
			if m := w.Metrics(); m.Accepted != 3 || m.Refused != 2 || m.Queued != 3 {
				t.Errorf("%+v, want 3 accepted, 2 refused", m)
			}
		})
		t.Run("drop oldest by "+test.name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			errs := ipctest.Collect()
			w := ipctest.NewWriter(t, path, append(test.opts,
				udsipc.WithOverflow(udsipc.OverflowDropOldest),
				udsipc.WithWriterErrorCallback(errs.Callback))...)
			for i := range 5 {
				ipctest.MustWriteMessage(t, w, fmt.Sprintf("m-%d", i))
			}
			if m := w.Metrics(); m.Accepted != 5 || m.Dropped != 2 || m.Queued != 3 || m.Refused != 0 {
				t.Errorf("%+v, want 5 accepted, 2 dropped", m)
			}
			ipctest.MustStart(t, w)
			errs.Want(t, udsipc.ErrBufferFull)
			got := make(chan string, 10)
			ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, path)
			for _, want := range []string{"m-2", "m-3", "m-4"} {
				if data := ipctest.Await(t, want, got); data != want {
					t.Errorf("got %q, want %q", data, want)
				}
			}
		})
		t.Run("block by "+test.name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			w := ipctest.NewWriter(t, path, append(test.opts, udsipc.WithOverflow(udsipc.OverflowBlock))...)
			s := ipctest.NewSequence(t, 100)
			handler := func(data []byte) error {
				return s.Handle(binary.BigEndian.AppendUint64(nil, uint64(data[0])))
			}
			ipctest.MustStart(t, w)
			ipctest.StartReader(t, handler, path)
			for i := range 100 {
				ipctest.MustWriteMessage(t, w, string([]byte{byte(i), 0, 0}))
			}
			ipctest.Await(t, "all messages", s.Done)
			if m := w.Metrics(); m.Refused+m.Dropped != 0 {
				t.Errorf("%+v", m)
			}
		})
	}
}

func TestWriter_BlockedWrites_EndWithStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ipctest.NewWriter(t, "x", udsipc.WithMaxBufferedWrites(1), udsipc.WithOverflow(udsipc.OverflowBlock))
		ipctest.MustWriteMessage(t, w, "fills it")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		err := w.WriteMessageContext(ctx, []byte("too many"))
		if !errors.Is(err, udsipc.ErrBufferFull) || !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(began) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if m := w.Metrics(); m.Refused != 1 {
			t.Errorf("%+v, want 1 refused", m)
		}
		blocked := make(chan error, 1)
		go func() { blocked <- w.WriteMessage([]byte("blocks")) }()
		synctest.Wait()
		cancel()
		if err := w.Stop(ctx); err == nil {
			t.Error("Stop left a message and said nothing")
		}
		if err := <-blocked; !errors.Is(err, udsipc.ErrStopped) {
			t.Errorf("blocked at Stop: %v, want ErrStopped", err)
		}
	})
}

func TestWriter_OversizedMessage_IsRejected(t *testing.T) {
	w := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithMaxMessageSize(10), udsipc.WithMaxBufferedBytes(8))
	for size, want := range map[int]error{
		7: nil, 8: udsipc.ErrMessageTooLarge, 10: udsipc.ErrMessageTooLarge,
		11: udsipc.ErrMessageTooLarge,
	} {
		if err := w.WriteMessage(make([]byte, size)); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
		if err := w.WriteMessageContext(t.Context(), make([]byte, 11)); !errors.Is(err, udsipc.ErrMessageTooLarge) {
			t.Errorf("11 bytes: %v", err)
		}
	}
	if m := w.Metrics(); m.TooLarge != 7 || m.Accepted != 1 || m.Refused != 0 {
		t.Errorf("%+v, want 7 too large", m)
	}
}

// TestWriter_StateCallback_ReportsInOrder: connecting, connected, lost, stopped, in order and with their causes.
func TestWriter_StateCallback_ReportsInOrder(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		type change struct {
			state udsipc.State
			cause error
		}
		changes := make(chan change, 100)
		w := on.NewWriter(t, udsipc.WithStateCallback(
			func(state udsipc.State, cause error) { changes <- change{state, cause} }))
		r := on.StartReader(t, func([]byte) error { return nil })
		next := func(want udsipc.State) error {
			t.Helper()
			got := ipctest.Await(t, want.String(), changes)
			if got.state != want {
				t.Errorf("state %v (%v), want %v", got.state, got.cause, want)
			}
			return got.cause
		}
		ipctest.MustStart(t, w)
		next(udsipc.StateConnecting)
		next(udsipc.StateConnected)
		if err := w.WaitConnected(t.Context()); err != nil {
			t.Error(err)
		}
		ipctest.Stop(t, r)
		if cause := next(udsipc.StateDisconnected); !errors.Is(cause, udsipc.ErrConnectionClosed) ||
			!errors.Is(cause, io.EOF) {
			t.Errorf("lost because of %v", cause)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.WaitConnected(ctx); !errors.Is(err, udsipc.ErrNotConnected) || !errors.Is(err, context.Canceled) {
			t.Errorf("WaitConnected: %v", err)
		}
		on.StartReader(t, func([]byte) error { return nil })
		if err := w.WaitConnected(t.Context()); err != nil {
			t.Error(err)
		}
		next(udsipc.StateConnecting)
		next(udsipc.StateConnected)
		ipctest.Stop(t, w)
		next(udsipc.StateStopped)
		if err := w.WaitConnected(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
			t.Errorf("WaitConnected after Stop: %v", err)
		}
		if len(changes) > 0 {
			t.Errorf("one more: %+v", <-changes)
		}
	})
}

// TestWriter_Idle_DoesNotReconnect: its connection was closed, and it has nothing to send.
func TestWriter_Idle_DoesNotReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		var far net.Conn
		w := ipctest.NewWriter(t, "x", udsipc.WithDialer(func(context.Context) (net.Conn, error) {
			dials.Add(1)
			var near net.Conn
			near, far = net.Pipe()
			return near, nil
		}))
		ipctest.MustStart(t, w)
		synctest.Wait()
		far.Close()
		time.Sleep(time.Hour)
		if got := dials.Load(); got != 1 {
			t.Errorf("%d connections, want 1", got)
		}
		ipctest.MustWriteMessage(t, w, "now")
		synctest.Wait()
		if got := dials.Load(); got != 2 {
			t.Errorf("%d connections, want 2: the first try is made at once", got)
		}
		if b, err := bufio.NewReader(far).Peek(4); string(b) != "\x03now" {
			t.Errorf("got %q, %v", b, err)
		}
		far.Close()
	})
}

func TestWriter_Backoff_GrowsWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Duration
		began := time.Now()
		w := ipctest.NewWriter(t, "x", udsipc.WithMaxBackoff(time.Second),
			udsipc.WithDialer(func(context.Context) (net.Conn, error) {
				tries = append(tries, time.Since(began))
				return nil, syscall.ECONNREFUSED
			}))
		ipctest.MustStart(t, w)
		time.Sleep(30 * time.Second)
		_ = w.Stop(t.Context()) // Nothing is queued: at once.
		if tries[0] != 0 {
			t.Errorf("the first try came after %v", tries[0])
		}
		limit := 10 * time.Millisecond
		var late int
		for i := 1; i < len(tries); i++ {
			gap := tries[i] - tries[i-1]
			if gap >= limit {
				t.Errorf("try %d came after %v, the limit is %v", i, gap, limit)
			}
			if gap > limit/2 {
				late++
			}
			limit = min(2*limit, time.Second)
		}
		if n := len(tries); n < 35 || n > 120 || late < n/5 || late > 4*n/5 {
			t.Errorf("%d tries in 30 s, %d of them in the later half", n, late)
		}
	})
}

// TestWriter_PeerClosesAtOnce_BacksOff: a peer that accepts and closes is not called all the time.
func TestWriter_PeerClosesAtOnce_BacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		w := ipctest.NewWriter(t, "x", udsipc.WithDialer(func(context.Context) (net.Conn, error) {
			dials.Add(1)
			near, far := net.Pipe()
			far.Close()
			return near, nil
		}))
		ipctest.MustStart(t, w)
		for range 100 {
			ipctest.MustWriteMessage(t, w, "x")
			time.Sleep(100 * time.Millisecond)
		}
		if got := dials.Load(); got > 20 {
			t.Errorf("%d connections in ten seconds, want 20 at most", got)
		}
	})
}

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

// TestWriter_SlowReader_ReportsBackpressure: a consumer that is slower than the write timeout costs
// reports and nothing else.
func TestWriter_SlowReader_ReportsBackpressure(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const n = 3000 // Of 10 kB: more than any socket holds.
		s := ipctest.NewSequence(t, n)
		errs := ipctest.Collect()
		gate := make(chan struct{})
		open := sync.OnceFunc(func() { close(gate) })
		defer open()
		r := on.StartReader(t, func(data []byte) error { <-gate; return s.Handle(data) })
		w := on.NewWriter(t, udsipc.WithWriteTimeout(5*time.Millisecond), udsipc.WithWriterErrorCallback(errs.Callback))
		ipctest.MustStart(t, w)
		for i := range uint64(n) {
			if err := w.WriteMessage(ipctest.Number(i, 10_000)); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			errs.Want(t, udsipc.ErrBackpressure)
		}
		open()
		ipctest.Await(t, "all messages", s.Done)
		if m := w.Metrics(); m.Connections != 1 || m.Backpressure < 3 || m.LostConnections+m.PossiblyLost != 0 {
			t.Errorf("writer: %+v", m)
		}
		if m := r.Metrics(); m.Accepted != 1 || m.Truncated != 0 {
			t.Errorf("reader: %+v", m)
		}
		ipctest.CheckAccounting(t, w, n)
	})
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

func TestWriter_Flush_WaitsForDelivery(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		var handled atomic.Int64
		gate, entered := make(chan struct{}), make(chan struct{})
		open := sync.OnceFunc(func() { close(gate) })
		defer open()
		on.StartReader(t, func([]byte) error {
			if handled.Add(1) == 1 {
				close(entered)
			}
			<-gate
			return nil
		}, udsipc.WithReadBufferSize(512))
		w := on.StartWriter(t, udsipc.WithWriteTimeout(10*time.Millisecond))
		const n = 1000
		for range n {
			ipctest.MustWriteMessage(t, w, strings.Repeat("x", 500))
		}
		ctx, cancel := context.WithCancel(t.Context())
		flushed := make(chan error, 1)
		go func() { flushed <- w.Flush(ctx) }()
		ipctest.Await(t, "the first message", entered)
		cancel()
		if err := ipctest.Await(t, "Flush", flushed); on.FlushMeansRead() && !errors.Is(err, context.Canceled) {
			t.Errorf("Flush before anything was read: %v", err)
		}
		open()
		if err := w.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got := handled.Load(); on.FlushMeansRead() && got < n-2 { // Read, but perhaps not handled yet.
			t.Errorf("flushed, but only %d of %d messages were handled", got, n)
		}
	})
}

func TestWriter_Flush_ReportsLosses(t *testing.T) {
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := ipctest.NewWriter(t, path)
	ipctest.MustStart(t, w)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ipctest.MustWriteMessage(t, w, "lost")
	flushed := make(chan error, 1)
	go func() { flushed <- w.Flush(t.Context()) }()
	ipctest.Until(t, "it is sent", func() bool { return w.Metrics().Sent == 1 })
	conn.Close()
	if err := ipctest.Await(t, "Flush", flushed); !errors.Is(err, udsipc.ErrConnectionClosed) {
		t.Errorf("Flush: %v, want ErrConnectionClosed", err)
	}
}

func TestWriter_StartStopAnyOrder_IsIdempotent(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, func([]byte) error { return nil }, path)
	w := ipctest.NewWriter(t, path)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := w.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ipctest.MustWriteMessage(t, w, "x")
	for range 10 {
		wg.Go(func() { ipctest.Stop(t, w) })
	}
	wg.Wait()
	ipctest.Stop(t, w)
	if err := w.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("Start after Stop: %v", err)
	}
	if err := w.WriteMessage([]byte("x")); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("WriteMessage after Stop: %v", err)
	}
	if err := w.WriteMessageContext(t.Context(), []byte("x")); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("WriteMessageContext after Stop: %v", err)
	}
	if m := w.Metrics(); m.Sent != 1 || m.Connected {
		t.Errorf("%+v, want 1 sent", m)
	}
}

// TestWriter_StopContextEnds_ReturnsUndelivered: before Start, while nobody listens, and while the peer does not read.
func TestWriter_StopContextEnds_ReturnsUndelivered(t *testing.T) {
	const n = 100
	for _, test := range []struct {
		name  string
		start func(t *testing.T, w *udsipc.Writer, path string)
		size  int
	}{
		{"never started", func(*testing.T, *udsipc.Writer, string) {}, 10},
		{"nobody listens", func(t *testing.T, w *udsipc.Writer, _ string) { ipctest.MustStart(t, w) }, 10},
		{"does not read", func(t *testing.T, w *udsipc.Writer, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			ipctest.MustStart(t, w)
			ipctest.Until(t, "the socket is full", func() bool { return w.Metrics().Sent > 0 })
		}, 20_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			var back []byte
			w := ipctest.NewWriter(t, path, udsipc.WithWriteTimeout(10*time.Millisecond),
				udsipc.WithUndelivered(func(data []byte) { back = append(back, data[0]) }))
			for i := range n {
				if err := w.WriteMessage(bytes.Repeat([]byte{byte(i)}, test.size)); err != nil {
					t.Fatal(err)
				}
			}
			test.start(t, w, path)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			err := w.Stop(ctx)
			m := w.Metrics()
			if m.Sent+m.Undelivered != n || uint64(len(back)) != m.Undelivered ||
				!slices.IsSorted(back) || back[len(back)-1] != n-1 {
				t.Errorf("%+v, %d handed back: %v", m, len(back), back)
			}
			if want := fmt.Sprintf(" %d messages", m.Undelivered); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Stop: %v, want %q in it", err, want)
			}
			if err := w.Stop(t.Context()); err != nil {
				t.Errorf("the second Stop: %v", err)
			}
		})
	}
}

// TestWriter_StopWithoutReader_KeepsTrying: there is no reader when Stop is called, but later.
func TestWriter_StopWithoutReader_KeepsTrying(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		w := on.NewWriter(t)
		ipctest.MustStart(t, w)
		ipctest.MustWriteMessage(t, w, "at last")
		stopped := make(chan error, 1)
		go func() { stopped <- w.Stop(t.Context()) }()
		ipctest.Until(t, "a few attempts have failed", func() bool { return w.Metrics().DialErrors > 3 })
		got := make(chan string, 1)
		on.StartReader(t, func(data []byte) error { got <- string(data); return nil })
		if data := ipctest.Await(t, "the message", got); data != "at last" {
			t.Errorf("got %q", data)
		}
		if err := ipctest.Await(t, "Stop", stopped); err != nil {
			t.Error(err)
		}
	})
}

// TestWriter_StopContextEnds_Returns: also from inside a callback, and while a callback is stuck.
func TestWriter_StopContextEnds_Returns(t *testing.T) {
	impatient := func(w *udsipc.Writer) error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		return w.Stop(ctx)
	}
	t.Run("from a callback", func(t *testing.T) {
		returned := make(chan error, 10)
		var w *udsipc.Writer
		ready := make(chan struct{})
		w = ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithWriterErrorCallback(func(error, string) {
			<-ready
			returned <- impatient(w)
		}))
		close(ready)
		ipctest.MustWriteMessage(t, w, "x")
		ipctest.MustStart(t, w)
		if err := ipctest.Await(t, "Stop", returned); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
	})
	t.Run("stuck callback", func(t *testing.T) {
		release := make(chan struct{})
		stuck := make(chan struct{}, 10)
		w := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithStateCallback(func(udsipc.State, error) {
			stuck <- struct{}{}
			<-release
		}))
		ipctest.MustWriteMessage(t, w, "x")
		ipctest.MustStart(t, w)
		<-stuck
		if err := impatient(w); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		close(release)
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

func TestWriter_ManyWriters_KeepOrder(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const writers, messages = 8, 2000
		var mu sync.Mutex
		next := map[uint64]uint64{}
		done := make(chan struct{})
		total := 0
		on.StartReader(t, func(data []byte) error {
			who, n := binary.BigEndian.Uint64(data), binary.BigEndian.Uint64(data[8:])
			mu.Lock()
			defer mu.Unlock()
			if next[who] != n {
				t.Errorf("writer %d: got message %d, want %d", who, n, next[who])
			}
			next[who] = n + 1
			if total++; total == writers*messages {
				close(done)
			}
			return nil
		})
		shared := on.StartWriter(t)
		var wg sync.WaitGroup
		for who := range uint64(writers) {
			w := shared // Half of them share one Writer.
			if who%2 == 0 {
				w = on.StartWriter(t)
			}
			wg.Go(func() {
				for n := range uint64(messages) {
					data := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, who), n)
					if err := w.WriteMessageContext(t.Context(), data); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		ipctest.Await(t, "all messages", done)
	})
}

func TestWriter_WriteMessage_DoesNotAllocate(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, func([]byte) error { return nil }, path)
	w := ipctest.StartWriter(t, path, udsipc.WithOverflow(udsipc.OverflowBlock))
	for _, size := range []int{16, 1 << 10, 100 << 10} {
		data := make([]byte, size)
		// The race detector makes pools forget on purpose, so one is not enough to fail.
		if got := testing.AllocsPerRun(2000, func() {
			if err := w.WriteMessage(data); err != nil {
				t.Fatal(err)
			}
		}); got > 0 && !ipctest.RaceEnabled {
			t.Errorf("%v allocations for a message of %d bytes, both ends together", got, size)
		}
	}
}
