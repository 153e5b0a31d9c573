// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// A blackHole passes connections on over TCP until it is told to swallow: then nothing arrives any
// more in either direction, and nobody is told.
type blackHole struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	conns    []net.Conn
	hole     chan struct{} // Closed: what comes is swallowed.
}

func newBlackHole(tb testing.TB, target string) *blackHole {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h := &blackHole{listener: l, target: target, hole: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			h.mu.Lock()
			h.conns = append(h.conns, near, far)
			hole := h.hole
			h.mu.Unlock()
			wg.Go(func() { pass(far, near, hole) })
			wg.Go(func() { pass(near, far, hole) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		h.mu.Lock()
		for _, conn := range h.conns {
			conn.Close()
		}
		h.mu.Unlock()
		wg.Wait()
	})
	return h
}

// swallow makes a hole of all connections that there are.
func (h *blackHole) swallow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.hole)
	h.hole = make(chan struct{})
}

func pass(to, from net.Conn, hole <-chan struct{}) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		select {
		case <-hole:
			io.Copy(io.Discard, from)
			return
		default:
		}
		if err != nil {
			to.Close()
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			from.Close()
			return
		}
	}
}

// TestSession_ReaderVanishes_TimesOut: over TCP a peer that vanishes without a word is given up on in both
// directions, and the messages come again.
func TestSession_ReaderVanishes_TimesOut(t *testing.T) {
	t.Parallel()
	address := ipctest.TcpAddress(t)
	writerErrs := ipctest.Collect()
	got := make(chan string, 100)
	timeout := udsipc.WithHeartbeatTimeout(300 * time.Millisecond)
	r := ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, address,
		timeout, udsipc.WithInactivityTimeout(0))
	hole := newBlackHole(t, strings.TrimPrefix(address, "tcp://"))
	w := ipctest.StartWriter(t, "tcp://"+hole.listener.Addr().String(),
		udsipc.WithAcknowledgements(), timeout,
		udsipc.WithWriterErrorCallback(writerErrs.Callback))
	ipctest.MustWriteMessage(t, w, "before")
	ipctest.Await(t, "the first message", got)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	hole.swallow()
	ipctest.MustWriteMessage(t, w, "into the hole")
	writerErrs.Want(t, udsipc.ErrHeartbeatTimeout)
	if data := ipctest.Await(t, "the second message", got); data != "into the hole" {
		t.Errorf("got %q", data)
	}
	ipctest.Until(t, "the dead connection is gone", func() bool { return r.Metrics().Connections == 1 })
	if m := w.Metrics(); m.Retransmitted < 1 || m.Connections < 2 { // More where the machine is too busy for a heartbeat.
		t.Errorf("%+v, want one message sent again", m)
	}
}

// TestSession_WriterVanishes_TimesOut: one that does not come back either.
func TestSession_WriterVanishes_TimesOut(t *testing.T) {
	t.Parallel()
	address := ipctest.TcpAddress(t)
	errs := ipctest.Collect()
	r := ipctest.StartReader(t, ipctest.Ignore, address,
		udsipc.WithHeartbeatTimeout(200*time.Millisecond),
		udsipc.WithReaderErrorCallback(errs.Callback), udsipc.WithInactivityTimeout(0))
	conn, w := ipctest.OpenSession(t, address, wire.Hello{Epoch: 1, FirstSeq: 1}, "the last word")
	if w.HeartbeatTimeout != 200*time.Millisecond {
		t.Errorf("the welcome wants a word every %v", w.HeartbeatTimeout)
	}
	ipctest.AwaitAck(t, conn, 1)
	errs.Want(t, udsipc.ErrHeartbeatTimeout)
	ipctest.Until(t, "the connection is gone", func() bool { return r.Metrics().Connections == 0 })
}

// TestSession_Heartbeats_KeepConnection: silence of messages is not silence.
func TestSession_Heartbeats_KeepConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, idle := range []time.Duration{0, time.Minute} {
			l := ipctest.ListenInMemory()
			errs := ipctest.Collect()
			timeout := udsipc.WithHeartbeatTimeout(time.Second)
			r := ipctest.StartReader(t, func(data []byte) error {
				time.Sleep(5 * time.Second) // The reader is busy, not dead.
				return nil
			}, "x", udsipc.WithListener(l), udsipc.WithInactivityTimeout(idle), timeout,
				udsipc.WithReaderErrorCallback(errs.Callback))
			w := ipctest.StartWriter(t, "x", udsipc.WithDialer(l.Dial),
				udsipc.WithAcknowledgements(), timeout,
				udsipc.WithWriterErrorCallback(errs.Callback))
			ipctest.MustWriteMessage(t, w, "slow")
			ipctest.MustWriteMessage(t, w, "slow too")
			time.Sleep(50 * time.Second)
			if m := w.Metrics(); m.Connections != 1 || m.LostConnections != 0 || m.Acknowledged != 2 {
				t.Errorf("inactivity timeout %v: %+v, want one connection", idle, m)
			}
			time.Sleep(50 * time.Second) // Heartbeats do not count as messages.
			want := uint64(0)
			if idle > 0 {
				want = 1
			}
			if m := r.Metrics(); m.IdleClosed != want {
				t.Errorf("inactivity timeout %v: %d connections were ended for it, want %d", idle, m.IdleClosed, want)
			}
			errs.None(t, udsipc.ErrHeartbeatTimeout)
			ipctest.Stop(t, w)
			ipctest.Stop(t, r)
		}
	})
}

// TestSession_WriterStates_AreEvicted is bounded in number and in time, and the oldest idle one goes first.
func TestSession_WriterStates_AreEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(ipctest.SimNet)
		r := ipctest.StartReader(t, ipctest.Ignore, "x", udsipc.WithListener(n.Listen()),
			udsipc.WithMaxWriterStates(3), udsipc.WithWriterRetention(time.Hour),
			udsipc.WithInactivityTimeout(0), udsipc.WithHeartbeatTimeout(0))
		visit := func(writer byte, attempt uint64, messages ...string) (net.Conn, wire.Welcome) {
			conn, err := n.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ipctest.MustWrite(t, conn, wire.Hello{
				Writer: wire.WriterID{writer}, Epoch: attempt, FirstSeq: 1, LastSentSeq: 9,
			}.Append(nil))
			w := ipctest.AwaitWelcome(t, conn)
			ipctest.MustWrite(t, conn, ipctest.Frames(messages...))
			synctest.Wait()
			return conn, w
		}
		knows := func(writer byte, attempt uint64, handled uint64) {
			t.Helper()
			conn, w := visit(writer, attempt)
			conn.Close()
			synctest.Wait()
			if w.Handled != handled {
				t.Errorf("of writer %d, %d messages are said to be handled, want %d", writer, w.Handled, handled)
			}
		}
		stays, _ := visit(1, 1, "a", "b", "c")
		for writer := byte(2); writer <= 4; writer++ {
			conn, _ := visit(writer, 1, "a")
			conn.Close()
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		if m := r.Metrics(); m.WriterStates != 3 {
			t.Errorf("%d writers are remembered, want 3", m.WriterStates)
		}
		knows(3, 2, 1) // Is the newest now.
		knows(2, 2, 0) // Was the oldest, and forgotten; takes the place of 4.
		knows(4, 2, 0)
		knows(1, 2, 3) // Is connected, so never forgotten.
		stays.Close()
		time.Sleep(time.Hour - time.Second)
		knows(1, 3, 3)
		time.Sleep(time.Hour)
		if m := r.Metrics(); m.WriterStates != 0 {
			t.Errorf("%d writers are remembered after an hour", m.WriterStates)
		}
		knows(1, 4, 0)
		ipctest.Stop(t, r)
	})
}

// TestSession_ReaderLimit_RejectsOversized: the welcome tells the reader's limit, and a Writer
// refuses what is larger at once. What was accepted before is set aside, also if an earlier reader
// had taken it.
func TestSession_ReaderLimit_RejectsOversized(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		errs := ipctest.Collect()
		var mu sync.Mutex
		var back []string
		w := on.StartWriter(t, udsipc.WithAcknowledgements(),
			udsipc.WithWriterErrorCallback(errs.Callback),
			udsipc.WithUndelivered(func(data []byte) {
				mu.Lock()
				defer mu.Unlock()
				back = append(back, string(data))
			}))
		large := strings.Repeat("x", 100)
		entered := make(chan struct{}, 1)
		stuck := on.StartDeliveryReader(t, func(ctx context.Context, d *udsipc.Delivery) error {
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
		for _, message := range []string{"one", large + "2", "three"} {
			ipctest.MustWriteMessage(t, w, message)
		}
		ipctest.Await(t, "the first message", entered)
		ipctest.Until(t, "all three are sent", func() bool { return w.Metrics().Unacknowledged == 3 })
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := stuck.Stop(ended); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		ipctest.Until(t, "the Writer has noticed", func() bool { return !w.Metrics().Connected })
		ipctest.MustWriteMessage(t, w, large+"4")
		ipctest.MustWriteMessage(t, w, "five")
		type delivery struct {
			data        string
			seq         uint64
			redelivered bool
		}
		got := make(chan delivery, 10)
		r := on.StartDeliveryReader(t, func(_ context.Context, d *udsipc.Delivery) error {
			got <- delivery{string(d.Data), d.Seq, d.Redelivered}
			return nil
		}, udsipc.WithMaxMessageSize(99))
		for _, want := range []delivery{{"one", 1, true}, {"three", 3, true}, {"five", 4, false}} {
			if d := ipctest.Await(t, want.data, got); d != want {
				t.Errorf("got %+v, want %+v", d, want)
			}
		}
		if err := w.WriteMessage([]byte(large)); !errors.Is(err, udsipc.ErrMessageTooLarge) ||
			!strings.Contains(err.Error(), "reader's limit is 99") {
			t.Errorf("WriteMessage: %v", err)
		}
		errs.Want(t, udsipc.ErrMessageTooLarge)
		_ = w.Flush(t.Context()) // Tells of the two, which is not the point here.
		mu.Lock()
		defer mu.Unlock()
		if want := []string{large + "2", large + "4"}; !slices.Equal(back, want) {
			t.Errorf("%d messages came back: %.20q", len(back), back)
		}
		m := w.Metrics()
		ipctest.CheckInvariant(t, m)
		if m.Undelivered != 2 || m.Acknowledged != 3 || m.Queued != 0 {
			t.Errorf("%+v", m)
		}
		if m := r.Metrics(); m.TooLarge != 0 {
			t.Errorf("the reader was sent %d messages over its limit", m.TooLarge)
		}
	})
}

// TestQueue_UnackedMessages_AreNotDropped: neither age nor a full queue costs a message that a reader may have.
func TestQueue_UnackedMessages_AreNotDropped(t *testing.T) {
	t.Parallel()
	const age = 500 * time.Millisecond // More than it takes to send them.
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		t.Parallel()
		for _, opt := range []udsipc.WriterOption{udsipc.WithOverflow(udsipc.OverflowDropOldest), udsipc.WithMaxAge(age)} {
			step := make(chan struct{})
			var mu sync.Mutex
			var got []string
			r := on.StartReader(t, func(data []byte) error {
				<-step
				mu.Lock()
				defer mu.Unlock()
				got = append(got, string(data))
				return nil
			})
			w := on.StartWriter(t, udsipc.WithAcknowledgements(), udsipc.WithMaxBufferedWrites(3), opt)
			if err := w.WaitConnected(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, message := range []string{"a", "b", "c"} {
				ipctest.MustWriteMessage(t, w, message)
			}
			ipctest.Until(t, "all are sent", func() bool { return w.Metrics().Unacknowledged == 3 })
			time.Sleep(age + 50*time.Millisecond)
			if err := w.WriteMessage([]byte("d")); !errors.Is(err, udsipc.ErrBufferFull) {
				t.Errorf("a fourth message: %v", err)
			}
			close(step)
			ipctest.Stop(t, w)
			ipctest.Stop(t, r)
			mu.Lock()
			if !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("got %q", got)
			}
			mu.Unlock()
			m := w.Metrics()
			ipctest.CheckInvariant(t, m)
			if m.Dropped+m.Expired > 0 {
				t.Errorf("%+v", m)
			}
		}
	})
}

// TestReader_StopDuringRedelivery_DoesNotAcknowledge ends with its context, and the message is not acknowledged.
func TestReader_StopDuringRedelivery_DoesNotAcknowledge(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		failed := make(chan struct{}, 100)
		r := on.StartReader(t, func([]byte) error { failed <- struct{}{}; return errors.New("no") },
			udsipc.WithMaxRedeliveries(1000))
		w := on.StartedWriter(t, udsipc.WithAcknowledgements())
		ipctest.MustWriteMessage(t, w, "never")
		ipctest.Await(t, "a failure", failed)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if err := r.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		if m := w.Metrics(); m.Acknowledged != 0 || m.Queued != 1 {
			t.Errorf("%+v, want the message queued", m)
		}
	})
}

// TestSession_UnreadAcks_CloseConnection: a writer that does not read them is left, and costs nobody else
// anything.
func TestSession_UnreadAcks_CloseConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(ipctest.SimNet)
		errs := ipctest.Collect()
		r := ipctest.StartReader(t, ipctest.Ignore, "x", udsipc.WithListener(n.Listen()),
			udsipc.WithReaderErrorCallback(errs.Callback))
		conn, err := n.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ipctest.MustWrite(t, conn, wire.Hello{Epoch: 1, FirstSeq: 1}.Append(nil))
		n.Live()[0].Room(1, 10)
		time.Sleep(time.Second)
		for range 20 {
			if _, err := conn.Write(ipctest.Frames("message")); err != nil {
				break
			}
			synctest.Wait()
		}
		errs.Want(t, udsipc.ErrBackpressure)
		synctest.Wait()
		if m := r.Metrics(); m.Connections != 0 {
			t.Errorf("%d connections, want none", m.Connections)
		}
		conn.Close()
		ipctest.Stop(t, r)
	})
}

// TestSession_StopContextEnds_Returns: whatever the other end is stuck in.
func TestSession_StopContextEnds_Returns(t *testing.T) {
	t.Parallel()
	prompt := func(t *testing.T, s interface{ Stop(context.Context) error }) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v, want the context's error", err)
		}
		if took := time.Since(began); took > 5*time.Second { // Generous: what is tested is that it returns.
			t.Errorf("Stop took %v", took)
		}
	}
	t.Run("writer, no welcome", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := ipctest.StartedWriter(t, path, udsipc.WithAcknowledgements())
		ipctest.MustWriteMessage(t, w, "stays")
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		prompt(t, w)
	})
	t.Run("both, stuck handler", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		entered, leave := make(chan struct{}, 10), make(chan struct{})
		defer close(leave)
		r, err := udsipc.NewReader(func([]byte) error { entered <- struct{}{}; <-leave; return nil }, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		w := ipctest.StartedWriter(t, path, udsipc.WithAcknowledgements())
		ipctest.MustWriteMessage(t, w, "stays")
		ipctest.Await(t, "the handler", entered)
		prompt(t, w)
		prompt(t, r)
	})
	t.Run("reader, three connections of one writer", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		entered, leave := make(chan struct{}, 10), make(chan struct{})
		r, err := udsipc.NewReader(func([]byte) error { entered <- struct{}{}; <-leave; return nil }, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		ipctest.OpenSession(t, path, wire.Hello{Epoch: 1, FirstSeq: 1}, "stuck", "not handled")
		ipctest.Await(t, "the handler", entered)
		for attempt := uint64(2); attempt <= 3; attempt++ {
			waitInLine(t, path, wire.Hello{Epoch: attempt, FirstSeq: 1})
		}
		prompt(t, r)
		close(leave)
		ipctest.Until(t, "they are gone", func() bool { return r.Metrics().Connections == 0 })
		if m := r.Metrics(); m.Received != 1 {
			t.Errorf("%d messages were handled, want 1", m.Received)
		}
	})
}

// waitInLine says hello and returns when the reader has taken notice: it sends heartbeats while an older
// connection keeps it from answering.
func waitInLine(tb testing.TB, path string, h wire.Hello) net.Conn {
	tb.Helper()
	h.HeartbeatTimeout = 100 * time.Millisecond
	conn := ipctest.MustDial(tb, path)
	ipctest.MustWrite(tb, conn, h.Append(nil))
	b := make([]byte, 2)
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != 0x80 || b[1] != 0 {
		tb.Fatalf("got % x, %v; want a heartbeat", b, err)
	}
	return conn
}

// TestSession_ThreeConnections_NewestWins: of three connections of one writer the newest is welcome, and it alone.
func TestSession_ThreeConnections_NewestWins(t *testing.T) {
	path := ipctest.SocketPath(t)
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	r := ipctest.StartReader(t, func([]byte) error { entered <- struct{}{}; <-leave; return nil }, path)
	ipctest.OpenSession(t, path, wire.Hello{Epoch: 1, FirstSeq: 1}, "slow", "second")
	ipctest.Await(t, "the handler", entered)
	var conns []net.Conn
	for attempt := uint64(2); attempt <= 3; attempt++ {
		conns = append(conns, waitInLine(t, path, wire.Hello{Epoch: attempt, FirstSeq: 1, LastSentSeq: 2}))
	}
	close(leave)
	if w := ipctest.AwaitWelcome(t, conns[1]); w.Status != 0 || w.Handled != 1 {
		t.Errorf("the newest is told %+v", w)
	}
	answer, _ := io.ReadAll(conns[0])
	for len(answer) >= 2 && answer[0] == 0x80 {
		answer = answer[2:]
	}
	if want := []byte{5, 1, 2, 0, 0, 0}; !slices.Equal(answer, want) {
		t.Errorf("the one before is answered % x, want % x", answer, want)
	}
	ipctest.MustWrite(t, conns[1], ipctest.Frames("second"))
	ipctest.AwaitAck(t, conns[1], 2)
	if m := r.Metrics(); m.Received != 2 || m.Sessions != 2 {
		t.Errorf("%+v", m)
	}
}
