// SPDX-License-Identifier: Apache-2.0

package queue_test

// Producers that are paced, and a connection that stalls, a reader that acknowledges late, a
// context that ends, and callers that do not wait: pacing alone never keeps a message out.

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_StallAfterFullQueue_PacesNoLonger: producers wait at the limit, a connection takes a
// part quickly, and then nothing. They use the room soon.
func TestQueue_StallAfterFullQueue_PacesNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, taken = 10 << 20, 2 << 20
		q := queueOf(t, queue.Limits{Bytes: limit})
		p := &pacedQueue{testQueue: q, results: make(chan error, 10_000)}
		defer q.Close()
		if n := p.produces(1000); n != limit/pieceSize {
			t.Fatalf("%d messages before a connection", n)
		}
		q.take(taken, 64)
		q.written(taken, taken/pieceSize)
		q.take(1, 64) // Stuck.
		time.Sleep(5 * time.Millisecond)
		if n := p.settled(); n != taken/pieceSize {
			t.Errorf("%d messages were accepted behind the stall, want %d", n, taken/pieceSize)
		}
		p.cancel()
	})
}

// TestQueue_SlowWriteInSession_ServesProducers although no acknowledgement comes.
func TestQueue_SlowWriteInSession_ServesProducers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{Acks: true, Messages: 2000})
		defer q.Close()
		n := q.produces(1000)
		q.take(1, 64)
		time.Sleep(time.Millisecond)
		q.written(1, 0)
		q.take(1, 64)
		time.Sleep(6 * time.Millisecond)
		q.written(1, 0)
		if n += q.settled(); n != 1000 {
			t.Errorf("%d messages", n)
		}
	})
}

// TestQueue_LateAcknowledgements_PaceBriefly: the connection has taken everything, so a producer
// that waits leaves it idle. That ends after 5 ms, and happens a few times only.
func TestQueue_LateAcknowledgements_PaceBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{Acks: true, Messages: 2000})
		defer q.Close()
		began := time.Now()
		total := q.produces(1000)
		for written := 0; written < 1000; {
			n := 0
			for _, b := range q.take(1<<20, 64) {
				n += len(b)
			}
			if n == 0 {
				time.Sleep(5 * time.Millisecond)
				total += q.settled()
				continue
			}
			q.written(n, n/pieceSize)
			written += n / pieceSize
			total += q.settled()
			if left := q.ReadCounts().QueuedBytes - uint64(written*pieceSize); left > 5<<20 {
				t.Fatalf("%d bytes are not written", left)
			}
		}
		if took := time.Since(began); total != 1000 || took > 50*time.Millisecond {
			t.Errorf("%d messages in %v", total, took)
		}
	})
}

// TestQueue_UnsentInSession_IsBounded: producers go on up to a megabyte that is not written.
func TestQueue_UnsentInSession_IsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{Acks: true})
		defer q.Close()
		q.acknowledges(1)
		n := q.produces(500)
		q.sends(n)
		if more := q.settled(); n != queue.PacedBytes/pieceSize || more != n {
			t.Errorf("%d messages, then %d", n, more)
		}
		q.acknowledges(uint64(n + 1))
		for _, step := range []struct{ write, want int }{{2, 0}, {4, 0}, {2, 8}} {
			q.take(queue.PacedBytes, 64)
			q.written(step.write*pieceSize, step.write)
			if more := q.settled(); more != step.want {
				t.Errorf("%d messages after %d were written, want %d", more, step.write, step.want)
			}
		}
	})
}

// TestQueue_WriteTakesNothing_StopsPacing however soon it returns.
func TestQueue_WriteTakesNothing_StopsPacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{})
		n := q.produces(900)
		q.take(1, 64)
		q.written(0, 0)
		if n += q.settled(); n != 900 {
			t.Errorf("%d messages", n)
		}
	})
}

// TestQueue_LargeMessagesInSession_ArePacedByWhatIsUnsent: each one is larger than the pace allows.
func TestQueue_LargeMessagesInSession_ArePacedByWhatIsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{Acks: true})
		began := time.Now()
		for n := range 4 {
			if err := q.EnqueueWaitAndWake(t.Context(), make([]byte, 5<<20)); err != nil || time.Since(began) > 0 {
				t.Errorf("message %d: %v after %v", n, err, time.Since(began))
			}
			q.sends(1)
		}
	})
}

// TestQueue_ManyProducersAtStall_WaitNoLonger than one: those that come later do not put off the
// look at the connection.
func TestQueue_ManyProducersAtStall_WaitNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{})
		defer q.Close()
		q.produces(queue.PacedBytes/pieceSize + 1)
		for range 5 {
			time.Sleep(time.Millisecond)
			go func() { _ = q.EnqueueWaitAndWake(t.Context(), []byte(sized(pieceSize))) }() // Ends when served.
		}
		synctest.Wait()
		if n := q.ReadCounts().Queued; n < queue.PacedBytes/pieceSize+6 {
			t.Errorf("%d messages are queued after the stall", n)
		}
	})
}

// TestQueue_ContextEndsWhilePaced_Accepts: the queue is not full.
func TestQueue_ContextEndsWhilePaced_Accepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, size := range []int{pieceSize, queue.ChunkSize + 1} {
			q := paced(t, queue.Limits{})
			defer q.Close()
			q.produces(queue.PacedBytes/pieceSize + 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			began := time.Now()
			if err := q.EnqueueWaitAndWake(ctx, []byte(sized(size))); err != nil || time.Since(began) != time.Millisecond {
				t.Errorf("%d bytes: %v after %v", size, err, time.Since(began))
			}
			cancel()
			if q.settled() != 1 {
				t.Error("the producer before it still waits")
			}
			if counts := q.ReadCounts(); counts.Refused != 0 {
				t.Errorf("counted are %+v", counts)
			}
		}
	})
}

// TestQueue_NotifySpace_IsNotPaced: who does not wait itself has room up to the limits.
func TestQueue_NotifySpace_IsNotPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := paced(t, queue.Limits{})
		defer q.Close()
		q.produces(queue.PacedBytes/pieceSize + 1)
		if q.NotifySpace() != nil {
			t.Error("there is no room behind a producer that is paced")
		}
		full := paced(t, queue.Limits{Bytes: 5 << 20})
		defer full.Close()
		full.Rewind()
		full.produces(5<<20/pieceSize + 1)
		room := full.NotifySpace()
		full.take(1, 64)
		full.written(2*pieceSize, 2)
		full.settled()
		select {
		case <-room:
		default:
			t.Error("nobody is told of the room that there is")
		}
	})
}

// TestQueue_NothingAcknowledged_Rests: producers use the whole queue of a session whose reader
// acknowledges nothing. Then no timer looks at them any more.
func TestQueue_NothingAcknowledged_Rests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 10 << 20
		q := paced(t, queue.Limits{Acks: true, Bytes: limit})
		defer q.Close()
		q.produces(limit/pieceSize + 1)
		for range 100 {
			if n := len(bytes.Join(q.take(1<<20, 64), nil)); n > 0 {
				_, _ = q.MarkWritten(n)
			}
			time.Sleep(time.Millisecond)
			q.settled()
		}
		if held := q.HeldBytes(); held+pieceSize <= limit || q.WatchesPace() {
			t.Errorf("%d bytes are held, a timer runs: %v", held, q.WatchesPace())
		}
		q.cancel()
	})
}
