// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// numbered wants these numbers for the next hello.
func (q testQueue) numbered(acked, highestSent uint64) {
	q.Helper()
	if s := q.Sequence(); s.Acked != acked || s.HighestSent != highestSent {
		q.Errorf("%+v, want %d acknowledged and %d sent", s, acked, highestSent)
	}
}

// TestQueue_Resumes_WhereTheReaderSays, if nothing was queued before; once.
func TestQueue_Resumes_WhereTheReaderSays(t *testing.T) {
	for _, test := range []struct{ handled, sentAfter uint64 }{{9, 20}, {15, 20}, {20, 20}, {21, 21}, {500, 500}} {
		q := queueOf(t, queue.Limits{Acks: true, First: 10, Sent: 20})
		q.numbered(9, 20)
		if n, known := q.Handled(); n != 9 || known {
			t.Errorf("handled is %d, %v before the welcome", n, known)
		}
		q.resumes(test.handled, 100, 0)
		q.numbered(test.handled, test.sentAfter)
		if n, known := q.Handled(); n != test.handled || !known {
			t.Errorf("handled is %d, %v; want %d", n, known, test.handled)
		}
		if _, err := q.ApplyWelcome(test.handled+1, 100); !errors.Is(err, errdefs.ErrInvalidSession) {
			t.Errorf("the next reader moves it on as well: %v", err)
		}
		q.resumes(test.handled, 100, 0)
		q.push("a", "b")
		q.sends(2)
		q.acknowledges(test.handled + 1)
		q.numbered(test.handled+1, max(test.handled+2, test.sentAfter))
		q.rewinds(0, 0)
		q.resumes(test.handled+2, 100, 1)
		if err := q.Check(); err != nil {
			t.Error(err)
		}
	}
}

// TestQueue_ResumesWithMessages: then the reader must not have handled more than is there.
func TestQueue_ResumesWithMessages(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true, First: 10, Sent: 20})
	q.push("10", "11")
	for handled, want := range map[uint64]string{
		12: "has handled message 12, but this queue has only those up to 11 yet", 21: "only 20 were sent",
	} {
		if _, err := q.ApplyWelcome(handled, 100); !errors.Is(err, errdefs.ErrInvalidSession) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	q.push("12", "13")
	q.resumes(12, 100, 3)
	q.takes(frame("13"))
	if c := q.ReadCounts(); c.Retransmitted != 1 || c.Sent != 3 || c.Queued != 1 {
		t.Errorf("%+v", c)
	}
	if err := q.Check(); err != nil {
		t.Error(err)
	}
}

// TestQueue_SentBefore_IsNotDropped: neither for a new message nor because of its age.
func TestQueue_SentBefore_IsNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, batchOf := range batchForms {
			q := queueOf(t, queue.Limits{Acks: true, First: 10, Sent: 12, Messages: 4, DropOldest: true, MaxAge: time.Second})
			q.push("10")
			if err := q.EnqueueBatchAndWake(batchOf("11", "12")); err != nil {
				t.Fatal(err)
			}
			q.push("dropped", "expires")
			q.tallies(tally(5, 0, 0, 1, 0, 0, 4, 17, 0))
			time.Sleep(2 * time.Second)
			q.tallies(tally(5, 0, 0, 1, 1, 0, 3, 9, 0))
			q.push("13")
			q.refusesBatch(batchOf("14", "15"), errdefs.ErrBufferFull)
			q.takes(framesOf("10", "11", "12", "13"))
			q.written(12, 4)
			q.acknowledges(13)
			q.numbered(13, 13)
			if err := q.Check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// refusesBatch has a batch refused.
func (q testQueue) refusesBatch(b queue.Batch, want error) {
	q.Helper()
	if err := q.EnqueueBatchAndWake(b); !errors.Is(err, want) {
		q.Errorf("%v, want %v", err, want)
	}
}

// TestQueue_OversizedInResumed_KeepsItsNumber, also if it was never sent.
func TestQueue_OversizedInResumed_KeepsItsNumber(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true, First: 10, Sent: 9})
	q.resumes(9, 5, 0)
	q.push("too large", "11")
	q.takes()
	if data, burnt := q.RemoveOversized(); string(data) != "too large" || !burnt {
		t.Errorf("%q, %v", data, burnt)
	}
	q.numbered(10, 10)
	q.rewinds(0, 0)
	q.resumes(10, 5, 0)
	q.sends(1)
	q.acknowledges(11)
	if n, _ := q.Handled(); n != 11 {
		t.Errorf("handled is %d", n)
	}
}
