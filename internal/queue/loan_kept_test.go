// SPDX-License-Identifier: Apache-2.0

package queue_test

// Messages that are lent in a session: the connection takes them from the producer's memory, and a copy is kept until
// they are acknowledged.

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc/internal/queue"
)

// keptSize is the size of a message that is lent in a session.
const keptSize = queue.MinKeptLoan

// lendsKept returns a queue of a session that takes loans. It must be called in a bubble.
func lendsKept(t *testing.T) testQueue {
	q := paced(t, queue.Limits{Acks: true}).testQueue
	q.acknowledges(1)
	q.StartLoans(func() { t.Error("a write is interrupted for a copy that is not urgent") })
	return q
}

// TestQueue_KeptLoan_EndsWithCopy, whether the message was written before or is written later; it is sent again from
// the copy, and leaves with its acknowledgement.
func TestQueue_KeptLoan_EndsWithCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := frame(strings.Repeat("a", keptSize))
		for name, part := range map[string]int{"before": 0, "in part": 1000, "whole": len(want)} {
			q := lendsKept(t)
			m := q.writes(keptSize, 'a')
			if !m.returned() {
				t.Fatalf("%s: the producer waits although a copy is there, and no write uses its memory", name)
			}
			q.sound()
			q.take(1<<20, 64)
			if part < len(want) {
				q.written(part, 0)
			} else {
				q.written(part, 1)
			}
			q.rewinds(map[bool]uint64{true: 2, false: 0}[part == 1000], map[bool]uint64{true: keptSize, false: 0}[part == 1000])
			q.StartLoans(func() {})
			q.takes(want)
			q.written(len(want), 1)
			q.acknowledges(2)
			q.sound()
			if n := q.ReadCounts(); n.Queued != 0 || n.Sent != 2 {
				t.Errorf("%s: %+v", name, n)
			}
			q.Close()
		}
	})
}

// TestQueue_KeptLoanInWrite_LastsUntilWritten: the copy waits for the write that uses the producer's memory.
func TestQueue_KeptLoanInWrite_LastsUntilWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, part := range []int{0, 1000, len(frame(strings.Repeat("a", keptSize)))} {
			q := lendsKept(t)
			var taken [][]byte
			done := make(chan struct{})
			data := bytes.Repeat([]byte{'a'}, keptSize)
			q.OnTurn(func(<-chan struct{}) { // The first batch of this producer is still in a write when it makes its copy.
				taken = q.take(1<<20, 64)
				q.EndBatch(true)
			})
			q.wantsTurn()
			go func() { // Ends when the write does.
				defer close(done)
				if err := q.EnqueueWaitAndWake(context.Background(), data); err != nil {
					t.Error(err)
				}
				clear(data)
			}()
			synctest.Wait()
			select {
			case <-done:
				t.Fatal("the producer does not wait for the write")
			default:
			}
			if &taken[len(taken)-1][0] != &data[0] {
				t.Error("the message is not written from the producer's memory")
			}
			messages := 0
			if part > keptSize {
				messages = 1
			}
			q.written(part, messages)
			<-done
			q.sound()
			q.Rewind()
			q.takes(frame(strings.Repeat("a", keptSize)))
			q.Close()
		}
	})
}

// wantsTurn has the queue offer turns.
func (q testQueue) wantsTurn() {
	q.Helper()
	for n := uint64(0); !q.OfferTurns(); n++ { // A producer that lends wants one.
		if n == 10 {
			q.Fatal("there is no offer")
		}
		m := q.writes(keptSize, 'w')
		q.sends(1)
		<-m.done
		q.acknowledges(2 + n)
	}
}

// TestQueue_KeptLoanAcknowledged_IsNotCopied if that comes before the copy.
func TestQueue_KeptLoanAcknowledged_IsNotCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := lendsKept(t)
		q.OnTurn(func(<-chan struct{}) {
			n := len(bytes.Join(q.take(1<<20, 64), nil))
			q.written(n, 1)
			q.acknowledges(q.ReadCounts().Accepted)
			if q.EndBatch(false) {
				t.Error("the turn goes on")
			}
		})
		q.wantsTurn()
		for range 10 {
			m := q.writes(keptSize, 'a')
			if !m.returned() {
				t.Fatal("the producer waits")
			}
			q.sound()
		}
		if n := q.ReadCounts(); n.Queued != 0 || n.Sent != n.Accepted {
			t.Errorf("%+v", n)
		}
	})
}

// TestQueue_KeptLoanOverLimit_IsNotSent: the reader would reject it.
func TestQueue_KeptLoanOverLimit_IsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := lendsKept(t)
		q.resumes(1, keptSize-1, 0)
		m := q.writes(keptSize, 'a')
		q.takes()
		if data, _ := q.RemoveOversized(); len(data) != keptSize || data[0] != 'a' {
			t.Errorf("%d bytes are removed", len(data))
		}
		<-m.done
		q.sound()
	})
}
