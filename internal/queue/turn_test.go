// SPDX-License-Identifier: Apache-2.0

package queue_test

// Producers that write themselves: when they are asked to, how long they go on, and who writes after them.

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// turnFrame is the size of most frames below. A turn begins with turnFrames of them.
const (
	turnFrame  = 16 << 10
	turnFrames = queue.TurnBytes / turnFrame
	turnWaits  = queue.TurnWaits // How many are queued when turns are offered: their producers have waited.
)

// A turnQueue is a queue whose producers write at once and whole, unless fail is set.
type turnQueue struct {
	testQueue
	turns   int
	batches []int // Bytes of each.
	fail    bool
	pause   time.Duration // How long a batch takes.
}

// offers returns a queue that has offered turns, with turnWaits messages. It must be called in a bubble.
func offers(t *testing.T, limits queue.Limits) *turnQueue {
	t.Helper()
	q := &turnQueue{testQueue: queueOf(t, limits)}
	q.OnTurn(func(<-chan struct{}) { q.write() })
	q.push(sized(10))
	q.sends(1)
	q.fillsUp(turnFrame)
	q.sends(queue.PacedBytes / turnFrame)
	synctest.Wait()
	if !q.OfferTurns() {
		t.Fatal("there is no offer")
	}
	return q
}

// fillsUp has producers of frames of size bytes wait for the connection.
func (q *turnQueue) fillsUp(size int) {
	for range queue.PacedBytes / turnFrame {
		q.push(sized(turnFrame))
	}
	for range turnWaits {
		go func() { _ = q.EnqueueWaitAndWake(context.Background(), []byte(sized(size))) }() // Ends when there is room.
	}
	synctest.Wait()
}

// write is what producers call.
func (q *turnQueue) write() {
	q.turns++
	for again := true; again; again = q.EndBatch(q.fail) {
		if q.fail {
			continue
		}
		n := len(bytes.Join(q.take(queue.TurnBytes, 64), nil))
		time.Sleep(q.pause)
		if _, err := q.MarkWritten(n); err != nil {
			q.Error(err)
		}
		q.batches = append(q.batches, n)
	}
}

// produce has a producer write frames of size bytes.
func (q *turnQueue) produce(frames, size int) {
	q.Helper()
	message := []byte(sized(size))
	for range frames {
		if err := q.EnqueueWaitAndWake(context.Background(), message); err != nil {
			q.Error(err)
		}
	}
}

// wantTurns wants so many turns and batches since the last call.
func (q *turnQueue) wantTurns(turns, batches int) {
	q.Helper()
	if q.turns != turns || len(q.batches) != batches {
		q.Errorf("%d turns, batches of %d bytes; want %d turns, %d batches", q.turns, q.batches, turns, batches)
	}
	q.turns, q.batches = 0, nil
	if err := q.Check(); err != nil {
		q.Error(err)
	}
}

func TestQueue_Turn_BeginsWithFullBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := offers(t, queue.Limits{})
		q.produce(turnFrames-turnWaits-1, turnFrame)
		q.wantTurns(0, 0)
		q.produce(1, turnFrame)
		q.wantTurns(1, 1)
		q.produce(3*turnFrames, turnFrame)
		q.wantTurns(3, 3)
		if q.wakes() {
			t.Error("the send loop was woken")
		}
	})
}

// TestQueue_TurnLentMessage_IsWrittenAtOnce, whole, by the producer that lends it.
func TestQueue_TurnLentMessage_IsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := offers(t, queue.Limits{})
		q.StartLoans(func() {})
		q.sends(turnWaits)
		const size = 10 * queue.TurnBytes
		q.produce(1, size)
		q.wantTurns(1, 10)
		if n := q.ReadCounts().Queued; n != 0 {
			t.Errorf("%d are queued", n)
		}
		q.pause = 6 * time.Millisecond // The connection is slow: the loop writes the rest.
		m := q.writes(size, 'a')
		time.Sleep(7 * time.Millisecond)
		synctest.Wait()
		q.wantTurns(1, 1)
		if !q.wakes() || q.OfferTurns() {
			t.Error("the send loop does not write")
		}
		q.sends(1)
		<-m.done
	})
}

// TestQueue_TurnOfferNotOfUse_IsNotMade: nobody has waited, frames are small, or the only producer waits.
func TestQueue_TurnOfferNotOfUse_IsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct {
			frame   int
			waits   bool // A producer has waited.
			stays   bool // It waits still.
			closed  bool
			offered bool
		}{
			{turnFrame, true, false, false, true},
			{turnFrame, false, false, false, false},
			{turnFrame, true, true, false, false},
			{turnFrame, true, false, true, false},
			{queue.TurnFrameSize - 1, true, false, false, false},
			{queue.TurnFrameSize, true, false, false, true},
		} {
			q := &turnQueue{testQueue: queueOf(t, queue.Limits{Messages: 10_000})}
			q.OnTurn(func(<-chan struct{}) { q.write() })
			q.push(sized(10))
			q.sends(1)
			if row.waits {
				q.fillsUp(row.frame)
				q.sends(queue.PacedBytes / turnFrame)
				synctest.Wait()
			}
			if row.stays {
				q.fillsUp(row.frame)
			}
			for range 10 {
				if !row.stays {
					q.push(sized(row.frame))
				}
			}
			if row.closed {
				q.Close()
			}
			if got := q.OfferTurns(); got != row.offered {
				t.Errorf("%+v: offered %v", row, got)
			}
			q.Close()
			synctest.Wait()
		}
	})
}

// TestQueue_ProducerThatMayNotWait_TakesNoTurn; its messages are written in the turns of others.
func TestQueue_ProducerThatMayNotWait_TakesNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := offers(t, queue.Limits{})
		for range 2 * turnFrames {
			q.push(sized(turnFrame))
		}
		q.wantTurns(0, 0)
		q.produce(1, turnFrame)
		q.wantTurns(1, 2)
	})
}

// TestQueue_TurnOffer_EndsWithItsUse, or when the messages get small.
func TestQueue_TurnOffer_EndsWithItsUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size, keeps := range map[int]bool{turnFrame: true, queue.TurnFrameSize / 2: false} {
			q := offers(t, queue.Limits{Messages: 10_000})
			q.produce(queue.TurnBytes/size+1, size)
			if got := q.KeepOffer(); got != keeps {
				t.Errorf("frames of %d bytes: %v", size, got)
			}
			if q.KeepOffer() {
				t.Errorf("frames of %d bytes: the offer stays although nobody writes", size)
			}
			q.turns = 0
			q.produce(2*turnFrames, turnFrame)
			q.wantTurns(0, len(q.batches))
		}
		q := offers(t, queue.Limits{})
		q.pause = time.Millisecond
		go q.produce(turnFrames, turnFrame) // Ends with the batch.
		synctest.Wait()
		if !q.KeepOffer() {
			t.Error("the offer ends in the middle of a batch")
		}
		time.Sleep(time.Second)
		q.WithdrawOffer()
		q.produce(2*turnFrames, turnFrame)
		q.wantTurns(1, 1)
	})
}

// TestQueue_TurnFails_WakesLoop: a producer that waits for room stands in line then.
func TestQueue_TurnFails_WakesLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := offers(t, queue.Limits{})
		q.fail = true
		q.produce(turnFrames, turnFrame)
		q.wantTurns(1, 0)
		if !q.wakes() {
			t.Error("the send loop was not woken")
		}
		q = offers(t, queue.Limits{Bytes: queue.PacedBytes + turnFrame})
		q.fail = true
		for range queue.PacedBytes/turnFrame - turnWaits {
			q.push(sized(turnFrame))
		}
		go q.produce(2, turnFrame) // Ends when there is room.
		synctest.Wait()
		if waiting, _ := q.Waiting(); waiting != 1 || !q.wakes() || q.turns != 1 {
			t.Errorf("%d wait after %d turns", waiting, q.turns)
		}
		q.sends(queue.PacedBytes / turnFrame)
		synctest.Wait()
	})
}

// TestQueue_FullQueue_IsWrittenInTurn by the producer that would have to wait.
func TestQueue_FullQueue_IsWrittenInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := offers(t, queue.Limits{})
		for range queue.PacedBytes / turnFrame {
			q.push(sized(turnFrame))
		}
		q.produce(1, turnFrame)
		q.wantTurns(1, 4)
	})
}

// TestQueue_FlushWithTurns_WakesLoop: the rest may be too little for a turn.
func TestQueue_FlushWithTurns_WakesLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := offers(t, queue.Limits{})
		flushed := q.Flushed()
		if !q.wakes() {
			t.Error("the send loop was not woken")
		}
		q.WithdrawOffer()
		q.sends(turnWaits)
		<-flushed
	})
}

// TestQueue_RefusedDuringOffer_WakesLoop: nobody writes for a producer that does not wait.
func TestQueue_RefusedDuringOffer_WakesLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := offers(t, queue.Limits{Messages: queue.PacedBytes/turnFrame + 1})
		for q.ReadCounts().Queued <= queue.PacedBytes/turnFrame {
			q.push(sized(10))
		}
		if !q.wakes() {
			t.Error("a message that was accepted has not woken the send loop")
		}
		q.refused(sized(10), errdefs.ErrBufferFull)
		if !q.wakes() {
			t.Error("a message that was refused has not woken the send loop")
		}
	})
}
