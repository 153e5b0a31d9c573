// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func ignoreBatch(context.Context, []udsipc.Delivery) error { return nil }

func TestNewBatchReader_InvalidOption_IsNamed(t *testing.T) {
	t.Parallel()
	for want, option := range map[string]udsipc.ReaderOption{
		"WithMaxBatch(0): want 1":     udsipc.WithMaxBatch(0),
		"WithMaxBatch(-3): want 1":    udsipc.WithMaxBatch(-3),
		"WithMaxBatchWait(-1s): want": udsipc.WithMaxBatchWait(-time.Second),
		"WithBatchWaitFrom(-1): want": udsipc.WithBatchWaitFrom(-1),
	} {
		if _, err := udsipc.NewBatchReader(ignoreBatch, "x", option); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := udsipc.NewBatchReader(nil, "x"); !errors.Is(err, udsipc.ErrHandlerNil) {
		t.Error(err)
	}
	for name, option := range map[string]udsipc.ReaderOption{
		"WithMaxBatch(7)":      udsipc.WithMaxBatch(7),
		"WithMaxBatchWait(1s)": udsipc.WithMaxBatchWait(time.Second),
		"WithBatchWaitFrom(9)": udsipc.WithBatchWaitFrom(9),
		"WithSharedBatches":    udsipc.WithSharedBatches(),
	} {
		_, first := udsipc.NewReader(ipctest.Ignore, "x", option)
		_, second := udsipc.NewDeliveryReader(func(context.Context, *udsipc.Delivery) error { return nil }, "x", option)
		_, third := udsipc.NewListener("x", option)
		for _, err := range []error{first, second, third} {
			if err == nil || !strings.Contains(err.Error(), name+" is for") || !strings.Contains(err.Error(), "NewBatchReader") {
				t.Errorf("%v, want one that names %s", err, name)
			}
		}
	}
}

// A batchLog is a BatchHandler that checks that the messages of Number come once and in order.
type batchLog struct {
	tb      testing.TB
	max     int
	mu      sync.Mutex // Guards what follows.
	next    map[uint64]uint64
	total   int
	calls   int
	running int
	several bool // Two calls ran at once.
	mixed   bool // A batch had messages of several connections.
}

func newBatchLog(tb testing.TB, max int) *batchLog {
	return &batchLog{tb: tb, max: max, next: map[uint64]uint64{}}
}

func (l *batchLog) handle(_ context.Context, batch []udsipc.Delivery) error {
	l.mu.Lock()
	l.running++
	l.several = l.several || l.running > 1
	l.calls++
	if len(batch) == 0 || len(batch) > l.max || cap(batch) > len(batch) {
		l.tb.Errorf("%d messages of %d", len(batch), cap(batch))
	}
	for i := range batch {
		d := &batch[i]
		if want := l.next[d.Peer.ID]; ipctest.NumberOf(d.Data) != want || d.Seq != want+1 || d.Redelivered {
			l.tb.Errorf("message %d with number %d, want %d", ipctest.NumberOf(d.Data), d.Seq, want)
		}
		l.next[d.Peer.ID]++
		l.mixed = l.mixed || d.Peer.ID != batch[0].Peer.ID
	}
	l.total += len(batch)
	l.mu.Unlock()
	time.Sleep(20 * time.Microsecond)
	l.mu.Lock()
	l.running--
	l.mu.Unlock()
	return nil
}

// TestBatchReader_Messages_ComeOnceInOrder: over every transport, of several writers, with and without
// a wait, shared and not, small messages and those that are larger than the read buffer.
func TestBatchReader_Messages_ComeOnceInOrder(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]udsipc.ReaderOption{
		"own":             nil,
		"own, waiting":    {udsipc.WithMaxBatchWait(time.Millisecond)},
		"shared":          {udsipc.WithSharedBatches()},
		"shared, waiting": {udsipc.WithSharedBatches(), udsipc.WithMaxBatchWait(time.Millisecond)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
				for _, max := range []int{1, 10, 1 << 30} {
					l := newBatchLog(t, max)
					r := on.StartBatchReader(t, l.handle, append(opts, udsipc.WithMaxBatch(max), udsipc.WithReadBufferSize(16<<10))...)
					const writers, messages = 3, 200
					var wg sync.WaitGroup
					for range writers {
						wg.Go(func() {
							w := on.StartWriter(t, udsipc.WithOverflow(udsipc.OverflowBlock))
							for n := range uint64(messages) {
								size := 8 + int(n*n%300)
								if n%50 == 49 {
									size = 40_000
								}
								if err := w.WriteMessage(ipctest.Number(n, size)); err != nil {
									t.Error(err)
								}
							}
							if err := w.Flush(t.Context()); err != nil {
								t.Error(err)
							}
							ipctest.Stop(t, w)
						})
					}
					wg.Wait()
					ipctest.Stop(t, r)
					m := r.Metrics()
					if l.total != writers*messages || m.Received != writers*messages || m.Batches != uint64(l.calls) ||
						m.HandlerErrors+m.Panics+m.Redelivered+m.Discarded > 0 {
						t.Errorf("%d messages in %d calls: %+v", l.total, l.calls, m)
					}
					if shared := strings.HasPrefix(name, "shared"); shared && l.several || !shared && l.mixed {
						t.Errorf("calls at once: %v, mixed: %v", l.several, l.mixed)
					}
					if on.Acknowledged && m.Acknowledged != writers*messages {
						t.Errorf("%d acknowledged", m.Acknowledged)
					}
				}
			})
		})
	}
}

// TestBatchReader_PoisonedMessages_AreFound: whichever messages the handler fails for, and however, all
// others are handled once and in order, and those become dead letters in their place. In plain mode a
// batch fails whole.
func TestBatchReader_PoisonedMessages_AreFound(t *testing.T) {
	t.Parallel()
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		const messages = 100
		poison := []uint64{0, 41, 42, 64, messages - 1}
		var handled, letters []uint64
		var failed, panicked int
		errs := ipctest.Collect()
		r := on.StartBatchReader(t, func(_ context.Context, batch []udsipc.Delivery) error {
			var numbers []uint64
			for _, d := range batch {
				numbers = append(numbers, ipctest.NumberOf(d.Data))
			}
			for i, n := range numbers {
				if slices.Contains(poison, n) {
					if fresh := !batch[i].Redelivered; fresh && n == 42 {
						panicked += len(batch)
						panic("poison")
					} else if fresh {
						failed += len(batch)
					}
					return fmt.Errorf("poison %d", n)
				}
			}
			handled = append(handled, numbers...)
			return nil
		}, udsipc.WithMaxBatch(30), udsipc.WithMaxRedeliveries(1), udsipc.WithReaderErrorCallback(errs.Callback),
			udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
				letters = append(letters, ipctest.NumberOf(d.Data))
				handled = append(handled, ipctest.NumberOf(d.Data))
				if !strings.Contains(err.Error(), "poison") || d.Seq != ipctest.NumberOf(d.Data)+1 || !d.Redelivered {
					t.Errorf("%+v: %v", d, err)
				}
			}))
		w := on.StartWriter(t)
		for n := range uint64(messages) {
			if err := w.WriteMessage(ipctest.Number(n, 8)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		ipctest.Stop(t, w)
		ipctest.Stop(t, r)
		m := r.Metrics()
		if m.HandlerErrors != uint64(failed) || m.Panics != uint64(panicked) || m.Received != messages {
			t.Errorf("%d failed, %d panicked: %+v", failed, panicked, m)
		}
		errs.Want(t, udsipc.ErrHandlerFailed)
		if !on.Acknowledged {
			if len(letters) > 0 || m.Redelivered > 0 || len(handled)+failed+panicked != messages {
				t.Errorf("%d handled, %d failed, %d panicked: %+v", len(handled), failed, panicked, m)
			}
			return
		}
		if !slices.Equal(letters, poison) || m.DeadLetters != uint64(len(poison)) || m.Acknowledged != messages {
			t.Errorf("dead letters are %d: %+v", letters, m)
		}
		for n := range uint64(messages) {
			if len(handled) != messages || handled[n] != n {
				t.Fatalf("handled are %d", handled)
			}
		}
	})
}

// TestBatchReader_Message_DoesNotAllocate: neither small nor large ones, at both ends together.
func TestBatchReader_Message_DoesNotAllocate(t *testing.T) {
	for _, opts := range [][]udsipc.ReaderOption{
		nil, {udsipc.WithSharedBatches(), udsipc.WithMaxBatchWait(time.Millisecond)},
	} {
		path := ipctest.SocketPath(t)
		ipctest.StartBatchReader(t, ignoreBatch, path, opts...)
		w := ipctest.StartWriter(t, path, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithAcknowledgements())
		for _, size := range []int{16, 1 << 10, 100 << 10} {
			data := bytes.Repeat([]byte{1}, size)
			// The race detector makes pools forget on purpose.
			if got := testing.AllocsPerRun(3000, func() {
				if err := w.WriteMessage(data); err != nil {
					t.Fatal(err)
				}
			}); got > 0 && !ipctest.RaceEnabled {
				t.Errorf("%v allocations for a message of %d bytes, both ends together", got, size)
			}
		}
	}
}

// TestBatchReader_LargeBatches_AreReused: their memory is not allocated for each of them.
func TestBatchReader_LargeBatches_AreReused(t *testing.T) {
	path := ipctest.SocketPath(t)
	const batch, batches = 12_000, 30
	r := ipctest.StartBatchReader(t, ignoreBatch, path, udsipc.WithMaxBatch(batch), udsipc.WithMaxBatchWait(time.Minute))
	w := ipctest.StartWriter(t, path, udsipc.WithOverflow(udsipc.OverflowBlock))
	write := func(batches int) (allocated uint64) {
		before := ipctest.MemoryAllocated()
		for range batches * batch {
			if err := w.WriteMessage([]byte("0123456789abcdef")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		return ipctest.MemoryAllocated() - before
	}
	write(2)
	// The race detector makes pools forget on purpose.
	if got := write(batches) / (batches * batch); got > 250 && !ipctest.RaceEnabled {
		t.Errorf("%d bytes were allocated for each message in %d batches", got, r.Metrics().Batches)
	}
}
