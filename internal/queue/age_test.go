// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// ages wants the oldest message to be queued for so long.
func (q testQueue) ages(want time.Duration) {
	q.Helper()
	if got, _ := q.Snapshot(); got.OldestAge != want {
		q.Errorf("the oldest message is queued for %v, want %v", got.OldestAge, want)
	}
}

// TestQueue_OldestAge_IsThatOfTheFirstMessage: it waits to be taken, then for its acknowledgement, over connections.
func TestQueue_OldestAge_IsThatOfTheFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Acks: true})
		time.Sleep(time.Hour)
		q.ages(0)
		q.push("a")
		time.Sleep(time.Second)
		q.ages(time.Second)
		q.push(sized(70_000), "c")
		time.Sleep(time.Second)
		q.sends(3)
		q.ages(2 * time.Second)
		q.rewinds(0, 0)
		time.Sleep(time.Second)
		q.ages(3 * time.Second)
		q.sends(3)
		q.acknowledges(1)
		q.ages(2 * time.Second)
		q.acknowledges(3)
		q.ages(0)
		q.push("d")
		q.DiscardAll(nil)
		time.Sleep(time.Second)
		q.ages(0)
	})
}

// TestQueue_OldestAge_WithoutAcknowledgements is that of the messages that the kernel has not taken.
func TestQueue_OldestAge_WithoutAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{})
		q.push("a")
		time.Sleep(time.Second)
		q.sends(1)
		q.ages(0)
		q.push("b")
		time.Sleep(time.Minute)
		q.ages(time.Minute)
	})
}

// TestQueue_OldestAge_OfSmallMessages_IsAtMostASegmentTooMuch: of small messages that share a segment only the first
// has a time. After a Snapshot the next message begins another one, if the segment has grown for more than a second.
func TestQueue_OldestAge_OfSmallMessages_IsAtMostASegmentTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Acks: true})
		for range 10 {
			q.push("a", "b")
			time.Sleep(time.Second + 1)
			_, _ = q.Snapshot()
		}
		q.sends(20)
		q.acknowledges(1) // The rest of a segment has the time of its first message.
		q.ages(10 * (time.Second + 1))
		q.acknowledges(4)
		q.ages(8 * (time.Second + 1))
		q.acknowledges(18)
		q.ages(time.Second + 1)
	})
}

// TestQueue_OldestAge_OfBatchesAndLoans_IsKnown.
func TestQueue_OldestAge_OfBatchesAndLoans_IsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{})
		time.Sleep(time.Hour)
		if err := q.EnqueueBatchAndWake(batchForms["messages"]("a", sized(70_000))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		q.ages(time.Second)
		lender := lends(t, func() {})
		time.Sleep(time.Hour)
		m := lender.writes(loanSize, 'a')
		time.Sleep(time.Millisecond)
		lender.ages(time.Millisecond)
		lender.sends(1)
		<-m.done
		lender.ages(0)
	})
}

// TestQueue_OldestAge_OfManyHistories_IsNeverTooLittle, and too much by a second and the time between two looks at
// most.
func TestQueue_OldestAge_OfManyHistories_IsNeverTooLittle(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			q := queueOf(t, queue.Limits{
				Messages: 30, Acks: seed%2 == 0, DropOldest: seed%3 == 0,
				MaxAge: []time.Duration{0, 20 * time.Second}[seed%4/2],
			})
			began, queued, looked, gap := time.Now(), []time.Duration{0}, time.Duration(0), time.Duration(0)
			for range 400 {
				time.Sleep(time.Duration(random.Int64N(int64(2 * time.Second))))
				ageStep(q, random)
				now := time.Since(began)
				counts := q.ReadCounts()
				for uint64(len(queued)) <= counts.Accepted {
					queued = append(queued, now)
				}
				if random.IntN(3) > 0 {
					continue
				}
				gap = max(gap, now-looked)
				looked = now
				counts, _ = q.Snapshot()
				want := time.Duration(0)
				if counts.Queued > 0 {
					want = now - queued[q.RemovedThrough()+1]
				}
				if got := counts.OldestAge; got < want || got > want+time.Second+gap {
					t.Fatalf("seed %d: the oldest message is queued for %v, not %v", seed, got, want)
				}
			}
		})
	}
}

// ageStep lets one thing happen to a queue.
func ageStep(q testQueue, random *rand.Rand) {
	switch random.IntN(6) {
	case 0, 1:
		_ = q.EnqueueAndWake(make([]byte, random.IntN(100))) // It may be full.
	case 2:
		messages := make([][]byte, 1+random.IntN(5))
		messages[0] = make([]byte, random.IntN(3)*40_000)
		_ = q.EnqueueBatchAndWake(queue.BatchOfMessages(messages))
	case 3, 4:
		n := 0
		for _, buf := range q.take(1+random.IntN(90_000), 1+random.IntN(5)) {
			n += len(buf)
		}
		if n > 0 {
			_, _ = q.MarkWritten(random.IntN(n + 1))
		}
	case 5:
		s := q.Sequence()
		if acked := s.Acked + uint64(random.IntN(4)); random.IntN(3) == 0 {
			_, _ = q.Rewind()
		} else if q.Unacknowledged() >= acked-s.Acked && acked > s.Acked {
			_, _ = q.Acknowledge(acked)
		}
	}
}
