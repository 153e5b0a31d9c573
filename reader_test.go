// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
)

// await waits for an event that must come.
func await[T any](tb testing.TB, what string, events <-chan T) T {
	tb.Helper()
	select {
	case event := <-events:
		return event
	case <-time.After(30 * time.Second):
		tb.Fatalf("waited 30 s for %s", what)
		panic("not reached")
	}
}

// reported collects what an error callback gets.
type reported struct {
	mu     sync.Mutex
	errs   []error
	events chan error
}

func collect() *reported { return &reported{events: make(chan error, 10_000)} }

func (r *reported) callback(err error, context string) {
	var op *udsipc.OpError
	if !errors.As(err, &op) || context == "" {
		err = fmt.Errorf("not an OpError with a context: %w (%q)", err, context)
	}
	r.mu.Lock()
	r.errs = append(r.errs, err)
	r.mu.Unlock()
	select {
	case r.events <- err:
	default:
	}
}

// want waits until an error that matches target was reported.
func (r *reported) want(tb testing.TB, target error) error {
	tb.Helper()
	for {
		if err := await(tb, "a report of "+target.Error(), r.events); errors.Is(err, target) {
			return err
		}
	}
}

// none fails if anything was reported that matches one of the targets.
func (r *reported) none(tb testing.TB, targets ...error) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.errs {
		for _, target := range targets {
			if errors.Is(err, target) {
				tb.Errorf("reported: %v", err)
			}
		}
	}
}

func frames(messages ...string) []byte {
	var b []byte
	for _, message := range messages {
		b = binary.AppendUvarint(b, uint64(len(message)))
		b = append(b, message...)
	}
	return b
}

func mustWrite(tb testing.TB, conn net.Conn, b []byte) {
	tb.Helper()
	if _, err := conn.Write(b); err != nil {
		tb.Fatal(err)
	}
}

func TestEverySizeArrivesOnceAndInOrder(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, 2, 127, 128, 129, 511, 512, 513, 4 << 10, 16383, 16384, 64<<10 - 4, 64<<10 - 3, 64 << 10,
		64<<10 + 1, 256<<10 - 4, 256<<10 - 3, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 1, 3 << 20, 10 << 20}
	overTransports(t, func(t *testing.T, on *route) {
		got := make(chan int, 1000)
		r := on.startReader(t, func(data []byte) error {
			for i, c := range data {
				if c != byte(len(data)+i) {
					t.Errorf("byte %d of %d is %d, want %d", i, len(data), c, byte(len(data)+i))
					break
				}
			}
			got <- len(data)
			return nil
		})
		w := on.startWriter(t)
		for _, bufferSize := range []string{"forward", "backward"} {
			for i := range sizes {
				size := sizes[i]
				if bufferSize == "backward" {
					size = sizes[len(sizes)-1-i]
				}
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(size + i)
				}
				if err := w.WriteMessageContext(t.Context(), data); err != nil {
					t.Fatal(err)
				}
				clear(data) // The caller may reuse it at once.
			}
			for i := range sizes {
				want := sizes[i]
				if bufferSize == "backward" {
					want = sizes[len(sizes)-1-i]
				}
				if size := await(t, "a message", got); size != want {
					t.Fatalf("message %d has %d bytes, want %d", i, size, want)
				}
			}
		}
		if m := r.Metrics(); m.Received != uint64(2*len(sizes)) || m.HandlerErrors != 0 || m.Errors != 0 {
			t.Errorf("reader: %+v", m)
		}
	})
}

// sequence checks that numbers come once and in order.
type sequence struct {
	tb   testing.TB
	mu   sync.Mutex
	next uint64
	bad  int
	goal uint64
	done chan struct{}
}

func newSequence(tb testing.TB, goal uint64) *sequence {
	return &sequence{tb: tb, goal: goal, done: make(chan struct{})}
}

func (s *sequence) handle(data []byte) error {
	number := binary.BigEndian.Uint64(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if number != s.next && s.bad < 5 {
		s.bad++
		s.tb.Errorf("got message %d, want %d", number, s.next)
	}
	s.next = number + 1
	if s.next == s.goal {
		close(s.done)
	}
	return nil
}

func numberOf(data []byte) uint64 { return binary.BigEndian.Uint64(data) }

// number is a message of size bytes, 8 at least, that begins with its number.
func number(n uint64, size int) []byte {
	data := make([]byte, max(8, size))
	binary.BigEndian.PutUint64(data, n)
	return data
}

// TestGracefulRestartLosesNothing stops and starts the reader while a writer runs at full speed.
func TestGracefulRestartLosesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	const restarts = 10
	overTransports(t, func(t *testing.T, on *route) {
		s := newSequence(t, 1<<63)
		tick := make(chan struct{}, 1)
		handler := func(data []byte) error {
			select {
			case tick <- struct{}{}:
			default:
			}
			return s.handle(data)
		}
		errs := collect()
		w := on.startWriter(t, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithWriterErrorCallback(errs.callback))
		ctx, cancel := context.WithCancel(t.Context())
		written := make(chan uint64)
		go func() {
			var n uint64
			defer func() { written <- n }()
			for ; ctx.Err() == nil; n++ {
				if err := w.WriteMessageContext(ctx, number(n, int(n%3000))); err != nil {
					return
				}
			}
		}()
		var total uint64
		for range restarts {
			r := on.startReader(t, handler, udsipc.WithReaderErrorCallback(errs.callback))
			for range 20 {
				await(t, "messages", tick)
			}
			stop(t, r)
			total += r.Metrics().Received
		}
		cancel()
		n := <-written
		r := on.startReader(t, handler)
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop(t, w)
		stop(t, r)
		s.mu.Lock()
		defer s.mu.Unlock()
		if total += r.Metrics().Received; total != n || s.next != n {
			t.Errorf("%d messages were handled, the last was %d; %d were written", total, s.next, n)
		}
		checkGracefulStop(t, w, total)
		m := w.Metrics()
		if m.Sent != n || m.PossiblyLost != 0 {
			t.Errorf("writer: %+v, want %d sent and none possibly lost", m, n)
		}
		errs.none(t, udsipc.ErrConnectionClosed, udsipc.ErrMessageTooLarge)
	})
}

// TestIdleCloseLosesNothing has a writer send at the very moment at which its connection is idle for
// too long.
func TestIdleCloseLosesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	const idle, messages = time.Millisecond, 200
	overTransports(t, func(t *testing.T, on *route) {
		s := newSequence(t, messages)
		r := on.startReader(t, s.handle, udsipc.WithInactivityTimeout(idle))
		w := on.startWriter(t, udsipc.WithMaxBackoff(time.Millisecond))
		ticker := time.NewTicker(idle)
		defer ticker.Stop()
		for n := range uint64(messages) {
			<-ticker.C
			if err := w.WriteMessage(number(n, 8)); err != nil {
				t.Fatal(err)
			}
		}
		await(t, "all messages", s.done)
		if r.Metrics().IdleClosed == 0 {
			t.Error("no connection was idle, so nothing was tested")
		}
		if m := w.Metrics(); m.PossiblyLost != 0 {
			t.Errorf("writer: %+v", m)
		}
	})
}

// TestIdleCloseAtEachMoment writes so long after the last message that the connection is about to be
// idle for too long, is, or has just been, with everything that may lie between these.
func TestIdleCloseAtEachMoment(t *testing.T) {
	const idle = 10 * time.Second
	overMemory(t, func(t *testing.T, on *route) {
		var handled uint64
		r := on.startReader(t, func([]byte) error { handled++; return nil }, udsipc.WithInactivityTimeout(idle))
		w := on.startWriter(t)
		var written uint64
		for _, after := range []time.Duration{0, 1, -1, time.Millisecond, -time.Millisecond, time.Second, -time.Second, time.Hour} {
			for range 3 {
				mustWriteMessage(t, w, "message")
				written++
				time.Sleep(idle + after)
			}
		}
		stop(t, w)
		if r.Metrics().IdleClosed == 0 {
			t.Error("no connection was idle, so nothing was tested")
		}
		stop(t, r)
		checkGracefulStop(t, w, handled)
		if m := w.Metrics(); m.PossiblyLost != 0 || handled != written {
			t.Errorf("%d messages handled, %d written: %+v", handled, written, m)
		}
	})
}

func TestHandlerErrorsAndPanicsCostTheirMessageAlone(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		errs := collect()
		errBad := errors.New("bad message")
		good := make(chan string, 10)
		r := on.startReader(t, func(data []byte) error {
			switch string(data) {
			case "error":
				return errBad
			case "panic":
				panic("at the handler")
			case "nil":
				var p *udsipc.Peer
				_ = p.ID
			}
			good <- string(data)
			return nil
		}, udsipc.WithReaderErrorCallback(errs.callback))
		conn := on.dial(t)
		mustWrite(t, conn, frames("a", "error", "b", "panic", "c", "nil", "d"))
		for _, want := range []string{"a", "b", "c", "d"} {
			if got := await(t, "message "+want, good); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		errs.want(t, errBad)
		if err := errs.want(t, udsipc.ErrHandlerFailed); !strings.Contains(err.Error(), "reader_test.go") {
			t.Errorf("the report of a panic has no stack: %v", err)
		}
		if m := r.Metrics(); m.Received != 7 || m.HandlerErrors != 1 || m.Panics != 2 || m.Connections != 1 {
			t.Errorf("%+v, want 7 received, 1 error, 2 panics, 1 connection", m)
		}
		if received, connections, failed := r.GetMetrics(); received != 7 || connections != 1 || failed != 3 {
			t.Errorf("GetMetrics: %d, %d, %d, want 7, 1, 3", received, connections, failed)
		}
	})
}

func TestHandlersGetSlicesOfTheirOwn(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		got := make(chan string, 3)
		on.startReader(t, func(data []byte) error {
			got <- string(data)
			if cap(data) != len(data) {
				t.Errorf("capacity %d of %d bytes shows the neighbour", cap(data), len(data))
			}
			_ = append(data, "overwritten"...)
			return nil
		})
		mustWrite(t, on.dial(t), frames("first", "second", "third"))
		for _, want := range []string{"first", "second", "third"} {
			if data := await(t, want, got); data != want {
				t.Errorf("got %q, want %q", data, want)
			}
		}
	})
}

func TestDeliveryTellsWhereAMessageComesFrom(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		got := make(chan udsipc.Delivery, 10)
		on.startDeliveryReader(t, func(ctx context.Context, d *udsipc.Delivery) error {
			if ctx.Err() != nil {
				t.Error(ctx.Err())
			}
			copied := *d
			copied.Data = bytes.Clone(d.Data)
			got <- copied
			return nil
		})
		for id := uint64(1); id <= 2; id++ {
			mustWrite(t, on.dial(t), frames("x", "y"))
			for seq := uint64(1); seq <= 2; seq++ {
				d := await(t, "a delivery", got)
				if d.Peer.ID != id || d.Seq != seq || d.Writer != (udsipc.WriterID{}) || d.Redelivered || d.Peer.Addr == nil {
					t.Errorf("got %+v, want connection %d, message %d", d, id, seq)
				}
			}
		}
	})
}

// TestTooLargeMessageIsRefused: the connection ends, but nothing that was sent behind the message is
// lost with it.
func TestTooLargeMessageIsRefused(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		errs := collect()
		got := make(chan string, 10)
		r := on.startReader(t, func(data []byte) error { got <- string(data); return nil },
			udsipc.WithMaxMessageSize(5), udsipc.WithReaderErrorCallback(errs.callback))
		conn := on.dial(t)
		mustWrite(t, conn, frames("small", "too large", "next", strings.Repeat("x", 100_000), "last"))
		for _, want := range []string{"small", "next", "last"} {
			if data := await(t, want, got); data != want {
				t.Errorf("got %q, want %q", data, want)
			}
		}
		err := errs.want(t, udsipc.ErrMessageTooLarge)
		if !strings.Contains(err.Error(), "9 bytes") || !strings.Contains(err.Error(), "limit is 5") {
			t.Errorf("the report names neither size nor limit: %v", err)
		}
		readToEnd(t, conn)
		if m := r.Metrics(); m.TooLarge != 2 || m.Received != 3 {
			t.Errorf("%+v, want 2 too large, 3 received", m)
		}
	})
}

func TestHostileLengths(t *testing.T) {
	for name, test := range map[string]struct {
		bytes []byte
		want  error
	}{
		"overflow":          {bytes.Repeat([]byte{0xff}, 11), udsipc.ErrInvalidLengthPrefix},
		"opening":           {append(bytes.Repeat([]byte{0x80}, 20), 1), udsipc.ErrInvalidLengthPrefix},
		"2^64-1":            {binary.AppendUvarint(nil, 1<<64-1), udsipc.ErrMessageTooLarge},
		"2^63":              {binary.AppendUvarint(nil, 1<<63), udsipc.ErrMessageTooLarge},
		"just above the 4G": {binary.AppendUvarint(nil, 1<<32+1), udsipc.ErrMessageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			errs := collect()
			// No limit at all must not mean that any length is believed.
			startReader(t, func([]byte) error { t.Error("a message"); return nil }, path,
				udsipc.WithMaxMessageSize(1<<64-1), udsipc.WithReaderErrorCallback(errs.callback))
			conn := mustDial(t, path)
			mustWrite(t, conn, test.bytes)
			errs.want(t, test.want)
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection does not end: %v", err)
			}
		})
	}
}

// TestAnnouncedBytesCostNothing: 200 connections announce 10 MiB each, send 1 KiB of it and stall.
func TestAnnouncedBytesCostNothing(t *testing.T) {
	const n = 200
	path := socketPath(t)
	r := startReader(t, func([]byte) error { return nil }, path)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		mustWrite(t, mustDial(t, path), append(binary.AppendUvarint(nil, 10<<20), make([]byte, 1<<10)...))
	}
	until(t, "all is read", func() bool { return r.Metrics().ReceivedBytes == n*(4+1<<10) })
	runtime.GC()
	runtime.GC() // What is only pooled goes with the second.
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > n*16<<10 {
		t.Errorf("%d stalled connections cost %d bytes, %d each", n, grown, grown/n)
	}
}

// until asks for a fact that has no event, for 10 s at most.
func until(tb testing.TB, what string, fact func() bool) {
	tb.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); !fact(); <-ticker.C {
		if time.Now().After(deadline) {
			tb.Fatalf("waited 30 s until %s", what)
		}
	}
}

func TestTooManyConnections(t *testing.T) {
	path := socketPath(t)
	errs := collect()
	got := make(chan string, 10)
	r := startReader(t, func(data []byte) error { got <- string(data); return nil }, path,
		udsipc.WithMaxConnections(2), udsipc.WithReaderErrorCallback(errs.callback))
	first, second := mustDial(t, path), mustDial(t, path)
	mustWrite(t, first, frames("1"))
	mustWrite(t, second, frames("2"))
	await(t, "message", got)
	await(t, "message", got)

	third := mustDial(t, path)
	if _, err := third.Write(frames("3")); err == nil {
		if data := await(t, "the message of the refused connection", got); data != "3" {
			t.Errorf("got %q", data)
		}
	}
	errs.want(t, udsipc.ErrTooManyConnections)
	if _, err := io.Copy(io.Discard, third); err != nil {
		t.Errorf("the refused connection: %v", err)
	}
	first.Close()
	until(t, "there is room", func() bool { return r.Metrics().Connections == 1 })
	mustWrite(t, mustDial(t, path), frames("4"))
	if data := await(t, "a message", got); data != "4" {
		t.Errorf("got %q", data)
	}
	if m := r.Metrics(); m.Refused != 1 || m.Accepted != 4 {
		t.Errorf("%+v, want 1 refused, 4 accepted", m)
	}
}

func TestReaderStartAndStopInAnyOrder(t *testing.T) {
	path := socketPath(t)
	r, err := udsipc.NewReader(func([]byte) error { return nil }, path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Addr() != nil {
		t.Error("an address before Start")
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := r.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := r.Addr().String(); got != path {
		t.Errorf("Addr is %q, want %q", got, path)
	}
	for range 10 {
		wg.Go(func() { stop(t, r) })
	}
	wg.Wait()
	stop(t, r)
	await(t, "Done", r.Done())
	if err := r.Err(); err != nil {
		t.Errorf("Err is %v after Stop", err)
	}
	if err := r.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("Start after Stop: %v, want ErrStopped", err)
	}

	never, err := udsipc.NewReader(func([]byte) error { return nil }, path)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, never)
	await(t, "Done", never.Done())
	if err := never.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("Start after Stop: %v, want ErrStopped", err)
	}
}

// TestReaderStopReturnsWithItsContext has each Stop meet something that will not end.
func TestReaderStopReturnsWithItsContext(t *testing.T) {
	t.Parallel()
	const patience = 30 * time.Millisecond
	check := func(t *testing.T, r *udsipc.Reader, wantErr bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		returned := make(chan error, 1)
		go func() { returned <- r.Stop(ctx) }()
		err := await(t, "Stop", returned)
		if (err != nil) != wantErr || wantErr && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		await(t, "Done", r.Done())
	}
	t.Run("stuck handler", func(t *testing.T) {
		path := socketPath(t)
		stuck, release := make(chan struct{}), make(chan struct{})
		defer close(release)
		var handled atomic.Bool
		r, err := udsipc.NewDeliveryReader(func(ctx context.Context, _ *udsipc.Delivery) error {
			stuck <- struct{}{}
			<-ctx.Done()
			handled.Store(true)
			<-release
			return nil
		}, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, mustDial(t, path), frames("x"))
		<-stuck
		check(t, r, true)
		until(t, "the handler's context ends", handled.Load)
	})
	t.Run("idle client", func(t *testing.T) {
		path := socketPath(t)
		r := startReader(t, func([]byte) error { return nil }, path)
		mustDial(t, path)
		check(t, r, false)
	})
	t.Run("removed path", func(t *testing.T) {
		path := socketPath(t)
		r := startReader(t, func([]byte) error { return nil }, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		check(t, r, false)
	})
	t.Run("removed folder", func(t *testing.T) {
		folder := t.TempDir() + "/sub"
		r := startReader(t, func([]byte) error { return nil }, folder+"/s")
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		check(t, r, false)
	})
	t.Run("from inside a handler", func(t *testing.T) {
		path := socketPath(t)
		returned := make(chan error, 1)
		var r *udsipc.Reader
		r = startReader(t, func([]byte) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			returned <- r.Stop(ctx)
			return nil
		}, path)
		mustWrite(t, mustDial(t, path), frames("x"))
		if err := await(t, "Stop", returned); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
	})
	t.Run("tcp writer that goes on", func(t *testing.T) {
		address := tcpAddress(t)
		r := startReader(t, func([]byte) error { return nil }, address)
		conn := mustDial(t, address)
		go io.Copy(conn, forever{})
		until(t, "messages come", func() bool { return r.Metrics().Received > 0 })
		check(t, r, true)
	})
}

// forever is an endless stream of empty messages.
type forever struct{}

func (forever) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestStopServesTheBacklog: who has connected and written before Stop is served.
func TestStopServesTheBacklog(t *testing.T) {
	path := socketPath(t)
	var received atomic.Int64
	gate := make(chan struct{})
	r := startReader(t, func([]byte) error { received.Add(1); <-gate; return nil }, path)
	const n = 100
	for range n {
		mustWrite(t, mustDial(t, path), frames("x", "y"))
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(t.Context()) }()
	until(t, "connections are refused", func() bool {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(gate)
	if err := await(t, "Stop", stopped); err != nil {
		t.Error(err)
	}
	if got := received.Load(); got != 2*n {
		t.Errorf("%d messages were handled, want %d", got, 2*n)
	}
}

// A lateListener gives nothing out before its gate is open, and cannot be woken but by Close.
type lateListener struct {
	net.Listener
	gate chan struct{}
}

func (l lateListener) Accept() (net.Conn, error) {
	<-l.gate
	return l.Listener.Accept()
}

// TestStopServesTheBacklogOfAnyListener: Close would drop who has connected and written.
func TestStopServesTheBacklogOfAnyListener(t *testing.T) {
	overMemory(t, func(t *testing.T, on *route) {
		if on.secure {
			t.Skip("TLS needs the Reader before anything is sent")
		}
		l := lateListener{on.net.listen(), make(chan struct{})}
		var handled uint64
		r := startReader(t, func([]byte) error { handled++; return nil }, on.address, udsipc.WithListener(l))
		w := on.startWriter(t)
		for range 10 {
			mustWriteMessage(t, w, "before Stop")
		}
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- r.Stop(t.Context()) }()
		synctest.Wait()
		close(l.gate)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		checkGracefulStop(t, w, handled)
		if m := w.Metrics(); handled != 10 || m.PossiblyLost > 0 {
			t.Errorf("%d messages handled, want 10: %+v", handled, m)
		}
	})
}

// A failingListener fails so many times, then hands out connections.
type failingListener struct {
	net.Listener
	errs chan error
}

func (l *failingListener) Accept() (net.Conn, error) {
	select {
	case err := <-l.errs:
		return nil, err
	default:
		return l.Listener.Accept()
	}
}

func TestAcceptingGoesOn(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("unix", socketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	l := &failingListener{Listener: inner, errs: make(chan error, 100)}
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EMFILE, syscall.ENOBUFS, syscall.EPERM} {
		l.errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}
	}
	errs := collect()
	got := make(chan string, 1)
	r := startReader(t, func(data []byte) error { got <- string(data); return nil }, "named.sock",
		udsipc.WithListener(l), udsipc.WithMaxAcceptErrors(1), udsipc.WithReaderErrorCallback(errs.callback))
	mustWrite(t, mustDial(t, inner.Addr().String()), frames("after all"))
	await(t, "the message", got)
	errs.want(t, syscall.EMFILE)
	if m := r.Metrics(); m.AcceptErrors != 5 {
		t.Errorf("%d accept errors, want 5", m.AcceptErrors)
	}
}

func TestAcceptingGivesUp(t *testing.T) {
	inner, err := net.Listen("unix", socketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	l := &failingListener{Listener: inner, errs: make(chan error, 100)}
	got := make(chan struct{}, 1)
	errs := collect()
	r := startReader(t, func([]byte) error { got <- struct{}{}; return nil }, "named.sock",
		udsipc.WithListener(l), udsipc.WithMaxAcceptErrors(2), udsipc.WithReaderErrorCallback(errs.callback))
	conn := mustDial(t, inner.Addr().String())
	mustWrite(t, conn, frames("x"))
	await(t, "the message", got)
	for range 10 {
		l.errs <- syscall.EPERM
	}
	mustDial(t, inner.Addr().String()) // Wakes Accept.
	await(t, "Done", r.Done())
	if err := r.Err(); !errors.Is(err, syscall.EPERM) {
		t.Errorf("Err is %v, want EPERM", err)
	}
	if err := errs.want(t, syscall.EPERM); err == nil {
		t.Error("not reported")
	}
}

// memoryListener hands out the far ends of pipes: no descriptor, so the clock can be a fake one.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func listenInMemory() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestInactivityTimeoutIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listenInMemory()
		r := startReader(t, func([]byte) error { return nil }, "x", udsipc.WithListener(l), udsipc.WithInactivityTimeout(7*time.Second))
		conn, err := l.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		time.Sleep(6 * time.Second)
		mustWrite(t, conn, frames("still here"))
		began := time.Now()
		if n, err := conn.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("read %d bytes, %v; want the goodbye", n, err)
		}
		if got := time.Since(began); got != 7*time.Second {
			t.Errorf("said goodbye after %v, want 7s", got)
		}
		mustWrite(t, conn, frames("one more"))
		if report, err := io.ReadAll(conn); len(report) < 2 || err != nil {
			t.Errorf("read % x, %v; want the report and EOF", report, err)
		}
		if got := time.Since(began); got != 12*time.Second { // Five seconds behind the last byte.
			t.Errorf("cut off after %v, want 12s", got)
		}
		if m := r.Metrics(); m.IdleClosed != 1 || m.Received != 2 || m.Errors != 0 {
			t.Errorf("%+v, want 1 idle, 2 received, no error", m)
		}
	})
}

func TestInactivityTimeoutCountsFromTheLastWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listenInMemory()
		r := startReader(t, func([]byte) error { time.Sleep(time.Minute); return nil }, "x",
			udsipc.WithListener(l), udsipc.WithInactivityTimeout(5*time.Second))
		conn, err := l.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 3 { // The handler takes longer than the timeout each time.
			mustWrite(t, conn, frames("x"))
		}
		time.Sleep(4*time.Minute + time.Second)
		if m := r.Metrics(); m.Received != 3 || m.IdleClosed != 1 {
			t.Errorf("%+v, want 3 received, then idle", m)
		}
	})
}
