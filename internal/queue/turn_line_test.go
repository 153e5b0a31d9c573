// SPDX-License-Identifier: Apache-2.0

package queue_test

// Producers that write: when they may, and whom that concerns.

import (
	"bytes"
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// fast returns a queue in a bubble whose producer has waited often enough to write itself. It holds at most a message
// more than three quarters of what a paced queue does. inTurn is called for each batch of a turn, after it was written.
func fast(t *testing.T, inTurn func()) *pacedQueue {
	t.Helper()
	q := paced(t, queue.Limits{})
	q.OnTurn(func(<-chan struct{}) {
		for again := true; again; {
			n := q.writes(256 << 10)
			inTurn()
			again = q.EndBatch(n == 0)
		}
	})
	const most = queue.PacedBytes / pieceSize
	const n = most + (queue.TurnWaits-1)*most/4 + 1 // The last one waits.
	for served := q.produces(n); ; {
		q.writes(1)
		if served += q.settled(); served == n {
			return q
		}
		if q.OfferTurns() {
			t.Fatalf("a turn is offered after %d messages", served)
		}
	}
}

// offersInLine is fast, with turns offered.
func offersInLine(t *testing.T, inTurn func()) *pacedQueue {
	t.Helper()
	q := fast(t, inTurn)
	if !q.OfferTurns() {
		t.Fatal("no turn is offered")
	}
	return q
}

// writes writes about limit bytes, and returns their number.
func (q *pacedQueue) writes(limit int) (n int) {
	q.Helper()
	if n = len(bytes.Join(q.take(limit, 64), nil)); n > 0 {
		if _, err := q.MarkWritten(n); err != nil {
			q.Error(err)
		}
	}
	return n
}

// TestQueue_EmptyQueue_OffersNothing: the burst is over, and what follows must not wait for a producer.
func TestQueue_EmptyQueue_OffersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fast(t, func() {})
		defer q.Close()
		for q.writes(1<<20) > 0 {
		}
		q.push(sized(pieceSize))
		q.writes(1 << 20)
		if q.OfferTurns() {
			t.Error("a turn is offered")
		}
	})
}

// TestQueue_SilentProducers_LoseOffer: whatever they have written since the last look, which may have
// come late.
func TestQueue_SilentProducers_LoseOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for silence, want := range map[time.Duration]bool{
			0: true, 399 * time.Microsecond: true, 400 * time.Microsecond: false,
		} {
			q := offersInLine(t, func() {})
			q.writes(1)
			time.Sleep(silence)
			if kept := q.KeepOffer(); kept != want {
				t.Errorf("the offer is kept after %v: %v", silence, kept)
			}
			if q.KeepOffer() {
				t.Errorf("the offer is kept although nothing is written")
			}
			q.Close()
		}
	})
}

// fill has a producer that may wait do so.
func (q *pacedQueue) fill() {
	q.Helper()
	for q.ReadCounts().QueuedBytes+pieceSize <= queue.PacedBytes {
		q.push(sized(pieceSize))
	}
}

// TestQueue_ProducerInTurn_KeepsItsPlace: a producer that has to wait stands in the line while it
// writes. Otherwise it would write for the others as long as they fill the line.
func TestQueue_ProducerInTurn_KeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *pacedQueue
		others, message := 0, []byte(sized(pieceSize))
		other := func() {
			if others++; others < 100 {
				go func() { _ = q.EnqueueWaitAndWake(t.Context(), message) }() // Ends when the queue is closed.
			}
		}
		q = offersInLine(t, func() {
			for range 20 {
				other()
			}
			synctest.Wait()
		})
		defer q.Close()
		q.fill()
		if err := q.EnqueueWaitAndWake(t.Context(), message); err != nil || others > 20*4 {
			t.Errorf("%v behind %d others", err, others)
		}
	})
}

// TestQueue_MessageWithoutTurn_WakesLoop: its producer does not wait, and would be refused while nobody writes.
func TestQueue_MessageWithoutTurn_WakesLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := offersInLine(t, func() {})
		defer q.Close()
		for _, size := range []int{10, queue.ChunkSize + 1} {
			if q.wakes() {
				t.Error("a message that waits for the end of a turn wakes the loop")
			}
			q.push(sized(size))
			if !q.wakes() {
				t.Errorf("%d bytes of a producer that does not wait are left", size)
			}
		}
	})
}

// TestQueue_Flush_GetsNoOffer: the producer waits in Flush, and writes nothing.
func TestQueue_Flush_GetsNoOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fast(t, func() {})
		defer q.Close()
		ctx, cancel := context.WithCancel(t.Context())
		flushed := make(chan error, 1)
		go func() { flushed <- q.Flush(ctx) }()
		synctest.Wait()
		if q.OfferTurns() {
			t.Error("a turn is offered while Flush waits")
		}
		cancel()
		if <-flushed; !q.OfferTurns() {
			t.Error("no turn is offered after it")
		}
	})
}

// A curiousContext looks at the queue whenever it is asked.
type curiousContext struct {
	context.Context
	look func()
}

func (c curiousContext) Done() <-chan struct{} { c.look(); return c.Context.Done() }

func (c curiousContext) Err() error { c.look(); return c.Context.Err() }

// TestQueue_ContextOfProgram_IsAskedOutsideLocks: a program's own context may look at the queue, and
// may panic. So no turn asks it either.
func TestQueue_ContextOfProgram_IsAskedOutsideLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *pacedQueue
		turns := 0
		q = offersInLine(t, func() { turns++ })
		defer q.Close()
		ctx := curiousContext{t.Context(), func() {
			var looked atomic.Bool
			go func() { q.ReadCounts(); looked.Store(true) }()
			for range 100_000 {
				if looked.Load() {
					return
				}
				runtime.Gosched()
			}
			t.Error("the context of the program is asked with the queue locked")
		}}
		q.fill()
		if err := q.EnqueueWaitAndWake(ctx, []byte(sized(pieceSize))); err != nil {
			t.Error(err)
		}
		if turns == 0 {
			t.Error("no turn was taken")
		}
	})
}
