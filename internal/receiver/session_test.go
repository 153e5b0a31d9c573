// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestSession_HandledMessages_AreAcknowledged: with acknowledgements a message is sent when it is handled.
func TestSession_HandledMessages_AreAcknowledged(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const n = 20_000
		s := ipctest.NewSequence(t, n)
		r := on.StartReader(t, s.Handle)
		w := on.StartWriter(t, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock))
		for i := range uint64(n) {
			if err := w.WriteMessage(ipctest.Number(i, int(i%3000))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		ipctest.Await(t, "the last message", s.Done)
		m := w.Metrics()
		if m.Sent != n || m.Acknowledged != n || m.Unacknowledged != 0 || m.Queued != 0 ||
			m.Retransmitted != 0 || m.AckTime.Count != n {
			t.Errorf("writer: %+v, want %d acknowledged", m, n)
		}
		if m.AckTime.P50 > m.AckTime.P99 || m.AckTime.P99 > m.AckTime.Max || m.AckTime.P50 <= 0 {
			t.Errorf("times to acknowledgement: %+v", m.AckTime)
		}
		if m := r.Metrics(); m.Received != n || m.Acknowledged != n || m.WriterStates != 1 ||
			m.Sessions != 1 || m.Errors != 0 {
			t.Errorf("reader: %+v, want %d acknowledged", m, n)
		}
	})
}

// TestReader_PlainAndSession_ShareOneReader: plain writers go on beside acknowledged ones.
func TestReader_PlainAndSession_ShareOneReader(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const n = 100
		var mu sync.Mutex
		got := map[string]int{}
		writers := map[udsipc.WriterID]bool{}
		r := on.StartDeliveryReader(t, func(_ context.Context, d *udsipc.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			got[string(d.Data)]++
			writers[d.Writer] = true
			return nil
		})
		ends := []*udsipc.Writer{
			on.StartWriter(t), on.StartWriter(t, udsipc.WithAcknowledgements()),
			on.StartWriter(t, udsipc.WithAcknowledgements()),
		}
		for i := range n {
			for j, w := range ends {
				ipctest.MustWriteMessage(t, w, fmt.Sprint(j, i))
			}
		}
		for _, w := range ends {
			ipctest.Stop(t, w)
		}
		ipctest.Until(t, "all is handled", func() bool { return r.Metrics().Received == 3*n })
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 3*n || len(writers) != 3 || !writers[udsipc.WriterID{}] {
			t.Errorf("%d different messages of %d writers, want %d of 3, one without a name", len(got), len(writers), 3*n)
		}
	})
}

// TestRedelivery_HandlerFails_MarksAndWaits: a message whose handler fails comes again, marked, and
// those behind it wait.
func TestRedelivery_HandlerFails_MarksAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type call struct {
			data        string
			seq         uint64
			redelivered bool
			at          time.Duration
		}
		var calls []call
		var dead []call
		began := time.Now()
		note := func(d *udsipc.Delivery) call {
			return call{string(d.Data), d.Seq, d.Redelivered, time.Since(began)}
		}
		fail := errors.New("database is locked")
		failures := map[string]int{"twice": 2, "never": 100, "panics": 1}
		handler := func(_ context.Context, d *udsipc.Delivery) error {
			calls = append(calls, note(d))
			if failures[string(d.Data)]--; failures[string(d.Data)] >= 0 {
				if string(d.Data) == "panics" {
					panic(fail)
				}
				return fail
			}
			return nil
		}
		l := ipctest.ListenInMemory()
		errs := ipctest.Collect()
		r, err := udsipc.NewDeliveryReader(handler, "x", udsipc.WithListener(l),
			udsipc.WithReaderErrorCallback(errs.Callback),
			udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
				if !errors.Is(err, fail) {
					t.Errorf("dead letter because of %v", err)
				}
				dead = append(dead, note(d))
			}))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		w := ipctest.StartWriter(t, "x", udsipc.WithDialer(l.Dial), udsipc.WithAcknowledgements())
		for _, message := range []string{"a", "twice", "b", "never", "panics", "c"} {
			ipctest.MustWriteMessage(t, w, message)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		const ms = time.Millisecond
		want := []call{
			{"a", 1, false, 0}, {"twice", 2, false, 0}, {"twice", 2, true, 10 * ms},
			{"twice", 2, true, 50 * ms}, {"b", 3, false, 50 * ms},
			{"never", 4, false, 50 * ms}, {"never", 4, true, 60 * ms}, {"never", 4, true, 100 * ms},
			{"never", 4, true, 260 * ms},
			{"panics", 5, false, 260 * ms}, {"panics", 5, true, 270 * ms}, {"c", 6, false, 270 * ms},
		}
		if !slices.Equal(calls, want) {
			t.Errorf("handler calls:\n%v, want\n%v", calls, want)
		}
		if want := []call{{"never", 4, true, 260 * ms}}; !slices.Equal(dead, want) {
			t.Errorf("dead letters: %v, want %v", dead, want)
		}
		m := r.Metrics()
		if m.DeadLetters != 1 || m.Redelivered != 6 || m.HandlerErrors != 2 || m.Panics != 1 ||
			m.Received != 6 || m.Acknowledged != 6 {
			t.Errorf("%+v", m)
		}
		if m := w.Metrics(); m.Acknowledged != 6 {
			t.Errorf("%+v, want 6 acknowledged", m)
		}
		err = errs.Want(t, udsipc.ErrHandlerFailed)
		for !strings.Contains(err.Error(), "dead letter after 3 redeliveries") {
			err = errs.Want(t, udsipc.ErrHandlerFailed)
		}
		ipctest.Stop(t, w)
		ipctest.Stop(t, r)
	})
}

// TestSession_SlowHandler_AcknowledgesByTimer: what is handled leaves the queue although the batch is not at its end.
func TestSession_SlowHandler_AcknowledgesByTimer(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		step := make(chan struct{})
		on.StartReader(t, func([]byte) error { <-step; return nil })
		w := on.StartWriter(t, udsipc.WithAcknowledgements())
		const n = 10
		for range n {
			ipctest.MustWriteMessage(t, w, "one of a batch")
		}
		for i := range uint64(n) {
			ipctest.Until(t, "the messages before are acknowledged",
				func() bool { m := w.Metrics(); return m.Acknowledged == i && m.Unacknowledged == n-i })
			step <- struct{}{}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSession_UnderLoad_BatchesAcks: under load one of them is for many messages.
func TestSession_UnderLoad_BatchesAcks(t *testing.T) {
	const n = 100_000
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, ipctest.Ignore, path)
	var count countingConn
	w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock),
		udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			count.Conn = conn
			return &count, err
		}))
	for i := range uint64(n) {
		if err := w.WriteMessage(ipctest.Number(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bytes := count.read.Load(); bytes > n/10 {
		t.Errorf("%d bytes came back for %d messages", bytes, n)
	}
}

// countingConn counts what is read.
type countingConn struct {
	net.Conn
	read atomic.Int64
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// TestWriter_StopInSession_ReturnsUnacked: exactly that.
func TestWriter_StopInSession_ReturnsUnacked(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const n, handled = 100, 37
		var calls atomic.Int64
		leave := make(chan struct{})
		defer close(leave)
		on.StartReader(t, func([]byte) error {
			if calls.Add(1) == handled+1 {
				<-leave
			}
			return nil
		})
		var back []uint64
		w := on.StartWriter(t, udsipc.WithAcknowledgements(), udsipc.WithUndelivered(func(data []byte) {
			back = append(back, binary.BigEndian.Uint64(data))
		}))
		for i := range uint64(n) {
			if err := w.WriteMessage(ipctest.Number(i, 50)); err != nil {
				t.Fatal(err)
			}
		}
		ipctest.Until(t, "the first messages are acknowledged", func() bool { return w.Metrics().Acknowledged == handled })
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := w.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush: %v, want the context's error", err)
		}
		if err := w.Stop(short); !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), fmt.Sprint(n-handled)) {
			t.Errorf("Stop: %v, want %d messages left", err, n-handled)
		}
		if len(back) != n-handled || back[0] != handled || back[len(back)-1] != n-1 {
			t.Errorf("%d messages came back: %v", len(back), back)
		}
		if m := w.Metrics(); m.Acknowledged != handled || m.Undelivered != n-handled || m.Queued != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// TestWriter_StopWithoutWelcome_Returns: a Writer with nothing to send ends at once, though its reader has not
// welcomed it.
func TestWriter_StopWithoutWelcome_Returns(t *testing.T) {
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	errs := ipctest.Collect()
	w := ipctest.StartedWriter(t, path, udsipc.WithAcknowledgements(),
		udsipc.WithWriteTimeout(10*time.Millisecond),
		udsipc.WithWriterErrorCallback(errs.Callback))
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	errs.Want(t, udsipc.ErrBackpressure)
	ipctest.Stop(t, w)
}

// TestSession_GracefulRestart_RepeatsNothing is TestReader_GracefulRestart_LosesNothing with acknowledgements: a reader
// that stops acknowledges all that it has handled.
func TestSession_GracefulRestart_RepeatsNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	const restarts = 8
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		s := ipctest.NewSequence(t, 1<<63)
		tick := make(chan struct{}, 1)
		handler := func(_ context.Context, d *udsipc.Delivery) error {
			select {
			case tick <- struct{}{}:
			default:
			}
			if n := binary.BigEndian.Uint64(d.Data); d.Seq != n+1 || d.Redelivered {
				t.Errorf("message %d has the number %d, redelivered %v", n, d.Seq, d.Redelivered)
			}
			return s.Handle(d.Data)
		}
		w := on.StartWriter(t, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		written := make(chan uint64)
		go func() {
			var n uint64
			defer func() { written <- n }()
			for ; w.WriteMessageContext(ctx, ipctest.Number(n, int(n%3000))) == nil; n++ {
			}
		}()
		var acknowledged uint64
		for i := range restarts + 1 {
			r := on.StartDeliveryReader(t, handler)
			for range 20 {
				ipctest.Await(t, "messages", tick)
			}
			if i == restarts {
				cancel()
				n := <-written
				ipctest.Stop(t, w)
				s.Mu.Lock()
				if s.Next != n {
					t.Errorf("%d messages were handled, %d written", s.Next, n)
				}
				s.Mu.Unlock()
			}
			ipctest.Stop(t, r)
			m := r.Metrics()
			if m.Acknowledged != m.Received {
				t.Errorf("%d messages were handled, %d acknowledged", m.Received, m.Acknowledged)
			}
			acknowledged += m.Acknowledged
		}
		if m := w.Metrics(); m.Acknowledged != acknowledged || m.PossiblyLost != 0 || m.Undelivered != 0 {
			t.Errorf("%+v, want %d acknowledged", m, acknowledged)
		}
	})
}
