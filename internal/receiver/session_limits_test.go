// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"errors"
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
