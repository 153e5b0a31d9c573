// SPDX-License-Identifier: Apache-2.0

package queue_test

// Producers that may wait, and a connection that is fast or slow: how much of the queue they use.

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// pieceSize is the size of the frames below: a message that shares its chunk with another one.
const pieceSize = 32 << 10

// A pacedQueue is a queue whose connection has taken something quickly, with a producer.
type pacedQueue struct {
	testQueue
	results chan error
	cancel  context.CancelFunc
}

// paced must be called in a bubble. The queue is empty.
func paced(t *testing.T, limits queue.Limits) *pacedQueue {
	q := &pacedQueue{testQueue: queueOf(t, limits), results: make(chan error, 10_000)}
	q.push(sized(10))
	q.sends(1)
	return q
}

// produces has a producer write n frames of pieceSize bytes, and returns how many the queue has
// accepted when all rests.
func (q *pacedQueue) produces(n int) (accepted int) {
	var ctx context.Context
	ctx, q.cancel = context.WithCancel(context.Background())
	go func() { // Ends with its last message, or with the context.
		message := []byte(sized(pieceSize))
		for range n {
			q.results <- q.EnqueueWaitAndWake(ctx, message)
		}
	}()
	return q.settled()
}

// settled returns how many messages the producer has written when all rests.
func (q *pacedQueue) settled() (accepted int) {
	synctest.Wait()
	for len(q.results) > 0 {
		if err := <-q.results; err != nil {
			q.Errorf("EnqueueWait: %v", err)
		}
		accepted++
	}
	return accepted
}

func TestQueue_FastConnection_PacesProducers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{})
		defer q.Close()
		const most = queue.PacedBytes / pieceSize
		if n := q.produces(10 * most); n != most {
			t.Errorf("%d messages before the producer waits, want %d", n, most)
		}
		for served := 0; served == 0; {
			left := q.ReadCounts().QueuedBytes - 2*pieceSize
			q.written(2*pieceSize, len(q.take(1, 64))*2)
			served = q.settled()
			want := 0
			if left <= queue.PacedBytes/4*3 {
				want = most / 4
			}
			if served != want {
				t.Fatalf("%d messages are served at %d bytes, want %d", served, left, want)
			}
		}
		q.cancel()
	})
}

// TestQueue_StuckConnection_PacesNoLonger: producers go on to the limits of the queue, soon.
func TestQueue_StuckConnection_PacesNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 10 << 20
		q := paced(t, queue.Limits{Bytes: limit})
		defer q.Close()
		q.take(1, 64)
		n := q.produces(1000)
		time.Sleep(5*time.Millisecond - 1)
		if more := q.settled(); more > 0 {
			t.Errorf("%d messages more before the connection is slow", more)
		}
		time.Sleep(time.Nanosecond)
		if n += q.settled(); n != limit/pieceSize {
			t.Errorf("%d messages, want %d", n, limit/pieceSize)
		}
		q.cancel()
	})
}

// TestQueue_ProgressingConnection_PacesOn although each look of the timer finds a producer waiting.
func TestQueue_ProgressingConnection_PacesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{})
		defer q.Close()
		q.produces(1000)
		for range 10 {
			q.take(1, 64)
			time.Sleep(4 * time.Millisecond)
			q.written(1, 0)
			if q.settled(); q.ReadCounts().QueuedBytes > 4<<20 {
				t.Fatalf("%d bytes are queued", q.ReadCounts().QueuedBytes)
			}
		}
		q.cancel()
	})
}

// TestQueue_SlowWrite_StopsPacing: the connection has taken the batch, but not quickly.
func TestQueue_SlowWrite_StopsPacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{})
		defer q.Close()
		q.push(sized(10))
		bufs := q.take(1, 64)
		time.Sleep(5 * time.Millisecond)
		q.written(len(bufs[0]), 1)
		if n := q.produces(1000); n != 1000 {
			t.Errorf("%d messages", n)
		}
	})
}

func TestQueue_ConnectionEnds_StopsPacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{})
		defer q.Close()
		n := q.produces(1000)
		q.Rewind()
		if n += q.settled(); n != 1000 {
			t.Errorf("%d messages", n)
		}
	})
}

// TestQueue_Pacing_IsForThoseWhoWait: a message that does not wait is accepted up to the limit of
// the queue, also behind producers that are paced, and a queue that drops its oldest messages paces
// nobody.
func TestQueue_Pacing_IsForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{})
		n := q.produces(200)
		q.push("does not wait")
		if n += q.settled(); n != 200 {
			t.Errorf("%d messages before one that does not wait", n)
		}
		dropping := paced(t, queue.Limits{DropOldest: true, Bytes: 64 << 20})
		if n := dropping.produces(1000); n != 1000 {
			t.Errorf("%d messages in a queue that drops", n)
		}
	})
}

func TestQueue_PacedProducer_ErrorsAreThoseOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{Bytes: 64 << 20, Messages: 5000})
		const most = queue.PacedBytes / pieceSize
		if n := q.produces(1000); n != most {
			t.Errorf("%d messages", n)
		}
		if err := q.EnqueueWaitAndWake(t.Context(), make([]byte, 64<<20)); !errors.Is(err, errdefs.ErrMessageTooLarge) {
			t.Errorf("too large: %v", err)
		}
		q.cancel()
		if n := q.settled(); n != 1000-most {
			t.Errorf("%d messages more when the context has ended", n)
		}
		q.produces(64<<20/pieceSize - 1000 + 1)
		q.cancel()
		synctest.Wait()
		for len(q.results) > 1 {
			<-q.results
		}
		if err := <-q.results; !errors.Is(err, errdefs.ErrBufferFull) || !errors.Is(err, context.Canceled) {
			t.Errorf("context: %v", err)
		}
		q.produces(1)
		q.Close()
		synctest.Wait()
		if err := <-q.results; !errors.Is(err, errdefs.ErrStopped) {
			t.Errorf("closed: %v", err)
		}
	})
}

// TestQueue_BytesAlone_LimitsPacedProducersByBytes: more messages than the limit, as long as the
// connection is fast. One that does not wait meets the limit.
func TestQueue_BytesAlone_LimitsPacedProducersByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{Messages: 10, BytesAlone: true})
		defer q.Close()
		if n := q.produces(1000); n != queue.PacedBytes/pieceSize {
			t.Errorf("%d messages are queued", n)
		}
		q.refused("does not wait", errdefs.ErrBufferFull)
		for q.ReadCounts().Queued > 0 { // The producer's others as well.
			q.written(2*pieceSize, len(q.take(1, 64))*2)
			synctest.Wait()
		}
		q.settled()
		q.Rewind()
		if n := q.produces(100); n != 10 {
			t.Errorf("%d messages are queued without a connection", n)
		}
		q.cancel()
	})
}
