// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
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
		lone := 1.0
		for tries := 0; lone > 0 && tries < 10; tries++ { // The runtime allocates now and then, too.
			lone = testing.AllocsPerRun(50, func() {
				time.Sleep(200 * time.Microsecond) // It is a lone message then.
				if err := w.WriteMessage(data); err != nil {
					t.Fatal(err)
				}
			})
		}
		if lone > 0 && !ipctest.RaceEnabled {
			t.Errorf("%v allocations for a lone message of %d bytes, both ends together", lone, size)
		}
	}
}

// TestWriter_ShortestWriteTimeout_Delivers: a deadline must not pass before the write begins.
func TestWriter_ShortestWriteTimeout_Delivers(t *testing.T) {
	t.Parallel()
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		const messages = 100
		received := ipctest.NewSequence(t, messages)
		r := on.StartReader(t, received.Handle)
		w := on.StartWriter(t, udsipc.WithWriteTimeout(1), udsipc.WithOverflow(udsipc.OverflowBlock))
		for n := range uint64(messages) {
			if err := w.WriteMessage(ipctest.Number(n, 20_000)); err != nil {
				t.Fatal(err)
			}
		}
		ipctest.StopAndTell(t, w)
		ipctest.Stop(t, r)
		if m := w.Metrics(); m.Sent != messages || m.PossiblyLost != 0 || m.LostConnections != 0 {
			t.Errorf("%+v", m)
		}
	})
}
