// SPDX-License-Identifier: Apache-2.0

package queue_test

// How a message gets into a queue: its number, who has to drain, what is refused.

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_Enqueue_ReportsIdleSender: the first message into an idle queue says so, whichever way
// it comes in, and no other.
func TestQueue_Enqueue_ReportsIdleSender(t *testing.T) {
	for _, large := range []bool{false, true} {
		message := []byte("m")
		if large {
			message = []byte(sized(queue.ChunkSize + 1))
		}
		for name, put := range map[string]func(*queue.Queue) (uint64, bool, error){
			"Put":        func(q *queue.Queue) (uint64, bool, error) { return q.Enqueue(message) },
			"PutWait":    func(q *queue.Queue) (uint64, bool, error) { return q.EnqueueWait(t.Context(), message) },
			"PutControl": func(q *queue.Queue) (uint64, bool, error) { return q.EnqueueControl(message) },
			"PutAlways":  func(q *queue.Queue) (uint64, bool, error) { return q.EnqueueUnbounded(message) },
		} {
			q := queueOf(t, queue.Limits{Undrained: true})
			for number := uint64(1); number <= 6; number++ {
				got, idle, err := put(q.Queue)
				if got != number || idle != (number%3 == 1) || err != nil {
					t.Errorf("%s: message %d, idle %v, %v; want %d", name, got, idle, err, number)
				}
				if number == 3 {
					q.sends(3)
					q.takes()
				}
			}
			if q.wakes() {
				t.Errorf("%s wakes somebody", name)
			}
			q.Close()
			if got, idle, err := put(q.Queue); got != 0 || idle || !errors.Is(err, errdefs.ErrStopped) {
				t.Errorf("%s of a closed queue: message %d, idle %v, %v", name, got, idle, err)
			}
			if s := q.State(); s.Queued != 3 {
				t.Errorf("%s of a closed queue: %+v", name, s)
			}
		}
	}
}

// TestQueue_Enqueue_WakesSender: the goroutine that drains is woken by the first message after it has found nothing.
func TestQueue_Enqueue_WakesSender(t *testing.T) {
	for name, push := range map[string]func(*queue.Queue) error{
		"Push":     func(q *queue.Queue) error { return q.EnqueueAndWake([]byte("m")) },
		"PushWait": func(q *queue.Queue) error { return q.EnqueueWaitAndWake(t.Context(), []byte("m")) },
	} {
		q := queueOf(t, queue.Limits{})
		for round := range 3 {
			q.sends(min(round, 1) * 2)
			q.takes()
			for n, want := range []bool{true, false} {
				if err := push(q.Queue); err != nil {
					t.Fatal(err)
				}
				if got := q.wakes(); got != want {
					t.Errorf("%s %d of round %d wakes: %v", name, n, round, got)
				}
			}
		}
	}
}

// TestQueue_Limits_RejectMessages: each bound may be reached and not passed, and what is refused is counted once.
func TestQueue_Limits_RejectMessages(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 2, Bytes: 10})
	q.push("a", "b")
	if number, idle, err := q.Enqueue(nil); number != 0 || idle || !errors.Is(err, errdefs.ErrBufferFull) {
		t.Errorf("message %d, idle %v, %v", number, idle, err)
	}
	q.tallies(tally(2, 1, 0, 0, 0, 0, 2, 4, 0))
	q.sends(2)
	q.push("1234567", "8"[1:]) // 8 bytes and 1.
	q.refused("", errdefs.ErrBufferFull)
	q.sends(2)
	q.push("1234567")
	q.refused("89", errdefs.ErrBufferFull)
	q.push("9")
	q.tallies(tally(6, 3, 4, 0, 0, 0, 2, 10, 0))
	q.sends(2)
	q.push("123456789")
	q.sends(1)
	err := q.EnqueueAndWake([]byte("1234567890"))
	want := "udsipc: message too large: 11 bytes in a queue of 10 (WithMaxBufferedBytes)"
	if !errors.Is(err, errdefs.ErrMessageTooLarge) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if number, idle, err := q.EnqueueWait(t.Context(), make([]byte, 10)); number != 0 || idle ||
		!errors.Is(err, errdefs.ErrMessageTooLarge) {
		t.Errorf("message %d, idle %v, %v", number, idle, err)
	}
	q.tallies(tally(7, 3, 7, 0, 0, 0, 0, 0, 0))
}

// TestQueue_LargeMessage_ReservesSpace: room that is promised is taken, by messages and by bytes,
// until the message is there.
func TestQueue_LargeMessage_ReservesSpace(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 2, Bytes: 100_000, Undrained: true})
	message := sized(70_000)
	q.ReserveRoom(70_000)
	if held := q.HeldBytes(); held != 70_000 {
		t.Errorf("%d bytes are held", held)
	}
	q.refused(sized(30_001), errdefs.ErrBufferFull)
	q.push(sized(30_000))
	q.refused("", errdefs.ErrBufferFull)
	if number, idle, err := q.EnqueueReserved([]byte(message)); number != 2 || idle || err != nil {
		t.Errorf("message %d, idle %v, %v", number, idle, err)
	}
	if held := q.HeldBytes(); held != 100_000 {
		t.Errorf("%d bytes are held", held)
	}
	q.takes(frame(sized(30_000)), frame(message))
	q.written(100_000, 2)
	q.ReserveRoom(70_000)
	q.Close()
	if number, idle, err := q.EnqueueReserved([]byte(message)); number != 0 || idle ||
		!errors.Is(err, errdefs.ErrStopped) {
		t.Errorf("message %d, idle %v, %v", number, idle, err)
	}
	if held := q.HeldBytes(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
	if err := q.Check(); err != nil {
		t.Error(err)
	}
}

// TestQueue_UnboundedMessages_PassLimits: control messages and those that have their bounds elsewhere come in always.
func TestQueue_UnboundedMessages_PassLimits(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 1, Bytes: 5})
	q.push("a")
	for number, message := range []string{"control", sized(queue.ChunkSize), sized(queue.ChunkSize + 1)} {
		if got, idle, err := q.EnqueueControl([]byte(message)); got != uint64(2+2*number) || idle || err != nil {
			t.Errorf("control message %d, idle %v, %v", got, idle, err)
		}
		if got, idle, err := q.EnqueueUnbounded([]byte(message)); got != uint64(3+2*number) || idle || err != nil {
			t.Errorf("message %d, idle %v, %v", got, idle, err)
		}
	}
	q.sends(7)
}

// TestQueue_EnqueueWait_IsServed: who waits for room gets its number, hears whether it has to
// drain, and its message is copied.
func TestQueue_EnqueueWait_IsServed(t *testing.T) {
	for _, size := range []int{5, queue.ChunkSize, queue.ChunkSize + 1} {
		for _, idle := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				q := queueOf(t, queue.Limits{Messages: 1, Acks: true})
				for round := range uint64(3) { // The place in line is used again.
					q.push("first")
					done := make(chan struct{})
					message := sized(size)
					go func() {
						defer close(done)
						number, idleNow, err := q.EnqueueWait(t.Context(), []byte(message))
						if number != 2*round+2 || idleNow != idle || err != nil {
							t.Errorf("message %d, idle %v, %v; want %d, %v", number, idleNow, err, 2*round+2, idle)
						}
					}()
					synctest.Wait()
					q.sends(1)
					if idle {
						q.takes()
					}
					q.acknowledges(2*round + 1)
					<-done
					q.takes(frame(message))
					q.written(size, 1)
					q.acknowledges(2*round + 2)
				}
				if err := q.Check(); err != nil {
					t.Error(err)
				}
				if n := q.Spare(); n != 1 {
					t.Errorf("%d places in line are kept", n)
				}
			})
		}
	}
}

// TestQueue_Places_AreReused in line to use them again, and no more.
func TestQueue_Places_AreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Messages: 1})
		q.push("a")
		ctx, cancel := context.WithCancel(t.Context())
		for range 20 {
			go func() { _ = q.EnqueueWaitAndWake(ctx, nil) }() // Ends with ctx.
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if n := q.Spare(); n != 16 {
			t.Errorf("%d places in line are kept", n)
		}
		q.tallies(tally(1, 20, 0, 0, 0, 0, 1, 2, 0))
	})
}

// TestQueue_EnqueueWait_WakesSender: the one who was served wakes the goroutine that drains, if that has found nothing.
func TestQueue_EnqueueWait_WakesSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Messages: 1, Acks: true})
		q.push("first")
		done := make(chan error, 1)
		go func() { done <- q.EnqueueWaitAndWake(t.Context(), []byte("second")) }()
		synctest.Wait()
		q.sends(1)
		q.takes()
		q.acknowledges(1)
		if err := <-done; err != nil || !q.wakes() {
			t.Errorf("nobody was woken: %v", err)
		}
	})
}

// TestQueue_EnqueueWaitContextEnds_Returns: the error is the context's cause, it is counted, and
// the next in line may need less room.
func TestQueue_EnqueueWaitContextEnds_Returns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Bytes: 10})
		q.push("1234") // 5 bytes.
		cause := errors.New("the cause")
		ctx, cancel := context.WithCancelCause(t.Context())
		large, small := make(chan error, 1), make(chan error, 1)
		go func() {
			number, idle, err := q.EnqueueWait(ctx, []byte("123456"))
			if number != 0 || idle {
				t.Errorf("message %d, idle %v", number, idle)
			}
			large <- err
		}()
		synctest.Wait()
		go func() { small <- q.EnqueueWaitAndWake(t.Context(), []byte("1234")) }()
		synctest.Wait()
		if producers, _ := q.Waiting(); producers != 2 {
			t.Fatalf("%d wait", producers)
		}
		q.refused("", errdefs.ErrBufferFull) // There is room, and nobody overtakes.
		cancel(cause)
		if err := <-large; !errors.Is(err, errdefs.ErrBufferFull) || !errors.Is(err, cause) {
			t.Error(err)
		}
		if err := <-small; err != nil {
			t.Error(err)
		}
		q.tallies(tally(2, 2, 0, 0, 0, 0, 2, 10, 0))
	})
}

// TestQueue_Close_EndsEnqueueWait: one that is served in the moment in which its context ends is
// accepted or refused, and counted so.
func TestQueue_Close_EndsEnqueueWait(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 1})
	var accepted, refused uint64
	for range 300 {
		q.push("first")
		accepted++
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			number, _, err := q.EnqueueWait(ctx, []byte("second"))
			if (number == 0) != (err != nil) {
				t.Errorf("message %d, %v", number, err)
			}
			done <- err
		}()
		for producers := 0; producers == 0; producers, _ = q.Waiting() {
		}
		bufs := q.take(1<<20, 64)
		cancel()
		q.written(len(bufs[0]), 1)
		if err := <-done; err == nil {
			accepted++
			q.sends(1)
		} else if refused++; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	q.tallies(tally(accepted, refused, accepted, 0, 0, 0, 0, 0, 0))
}

// TestQueue_ManyProducers_KeepTheirOrder: none gets in the way of another.
func TestQueue_ManyProducers_KeepTheirOrder(t *testing.T) {
	const producers, each = 8, 2000
	q := queueOf(t, queue.Limits{Messages: producers * each})
	var all sync.WaitGroup
	for range producers {
		all.Go(func() {
			for range each {
				if err := q.EnqueueAndWake([]byte("message")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	q.tallies(tally(producers*each, 0, 0, 0, 0, 0, producers*each, 8*producers*each, 0))
	if got, want := strings.Join(drained(q), ""), strings.Repeat(frame("message"), producers*each); got != want {
		t.Errorf("%d bytes are not those that were put", len(got))
	}
}

// drained takes all that is queued.
func drained(q testQueue) (all []string) {
	for {
		n := 0
		for _, b := range q.take(1<<20, 64) {
			all = append(all, string(b))
			n += len(b)
		}
		if n == 0 {
			return all
		}
		if _, err := q.MarkWritten(n); err != nil {
			q.Fatal(err)
		}
	}
}

// TestQueue_Chunks_HoldManyMessages: small messages share a chunk to its last byte; one that leaves
// too little of it has memory of its own, and the next small one goes on in the chunk.
func TestQueue_Chunks_HoldManyMessages(t *testing.T) {
	half := queue.ChunkSize / 2
	for _, test := range []struct {
		sizes    []int
		segments int
	}{
		{[]int{queue.ChunkSize}, 1},
		{[]int{half, half, 1}, 2},
		{[]int{half, half + 1}, 2},
		{[]int{half, half + 1, half}, 3}, // The third follows the first in memory, not in order.
		{[]int{half + 1, half - 1}, 1},
		{[]int{half + 1, half}, 2},
		{[]int{half + 1, half, half}, 2},
		{[]int{queue.ChunkSize - 1, 1, 1}, 2},
		{[]int{queue.ChunkSize - 1, 2, queue.ChunkSize - 2}, 2},
		{[]int{queue.ChunkSize + 1, 1, queue.ChunkSize + 1, 1}, 4},
	} {
		q := queueOf(t, queue.Limits{})
		var want string
		for _, size := range test.sizes {
			q.push(sized(size))
			want += frame(sized(size))
		}
		if n, _ := q.Segments(); n != test.segments {
			t.Errorf("messages of %d lie in %d pieces, want %d", test.sizes, n, test.segments)
		}
		if err := q.Check(); err != nil {
			t.Error(err)
		}
		if got := strings.Join(drained(q), ""); got != want {
			t.Errorf("messages of %d are damaged", test.sizes)
		}
	}
}

// TestQueue_Memory_IsReused: what goes through a queue costs no memory, and an empty queue keeps no chunk.
func TestQueue_Memory_IsReused(t *testing.T) {
	for _, acks := range []bool{false, true} {
		for _, size := range []int{100, 40_000, 70_000} {
			q := queueOf(t, queue.Limits{Acks: acks})
			message := []byte(sized(size))
			bufs := make([][]byte, 0, 64)
			number := uint64(0)
			round := func() {
				for range 20 {
					_ = q.EnqueueAndWake(message) // It fits.
					number++
				}
				bufs = q.NextBatch(bufs[:0], 1<<30)
				_, _ = q.MarkWritten(20 * size)
				if acks {
					_, _ = q.Acknowledge(number)
				}
				bufs = q.NextBatch(bufs[:0], 1<<30)
			}
			round()
			if got := testing.AllocsPerRun(100, round); got > 0.5 && !ipctest.RaceEnabled {
				t.Errorf("acks %v, messages of %d bytes: %v allocations", acks, size, got)
			}
			if n, chunk := q.Segments(); n != 0 || chunk {
				t.Errorf("an empty queue has %d segments, and a chunk: %v", n, chunk)
			}
		}
	}
}
