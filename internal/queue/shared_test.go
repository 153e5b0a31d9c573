// SPDX-License-Identifier: Apache-2.0

package queue_test

// What the queues of a Listener hold together.

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// TestSharedLimit_Fits_ReturnsShare at each limit of what one queue may have beside others.
func TestSharedLimit_Fits_ReturnsShare(t *testing.T) {
	const free, limit = queue.ChunkSize, 1 << 20
	for _, test := range []struct {
		what                  string
		used, queues, before  int64
		held, size            uint64
		wants, wantsOneLarger bool
	}{
		{"what every queue may have", 10 * limit, 1, 0, 0, free, true, false},
		{"the same, of which a part is held", 10 * limit, 1, 0, free - 10, 10, true, false},
		{"half of the limit", 0, 1, 0, free, limit / 2, true, true}, // More than half of it is for one in 16.
		{"half of the limit, of many", 0, 17, 0, free + 1, limit/2 - 1, true, false},
		{"all of the limit, together", limit - 1000, 2000, 0, free, 1000, true, false},
		{"the same, of which a part is its own", limit - 1000, 100, 500, free + 500, 1000, true, true},
		{"a sixteenth of it, beyond", limit, 1, 0, free, limit / 16, true, false},
		{"the same with 16 queues", limit, 16, 0, free, limit / 16, true, false},
		{"less, with more queues", limit, 32, 0, free, limit / 32, true, false},
		{"up to twice the limit", 2*limit - 1000, 1, 0, free, 1000, true, false},
		{"beyond twice the limit", 2 * limit, 1, 0, free, 1, false, false},
		{"one message into an empty queue", limit, 1000, 0, 0, free + limit, true, false},
		{"one message of any size, if nobody else has anything", 0, 1, 0, 0, 9 * limit, true, true},
		{"the same, if the queue has something", 1, 1, 1, 1, 9 * limit, false, false},
		{"the same, if another has", 1, 1, 0, 0, 9 * limit, false, false},
	} {
		for more, want := range []bool{test.wants, test.wantsOneLarger} {
			if test.what == "half of the limit" && more == 1 {
				continue // It goes by sixteenths then.
			}
			if got := queue.FitsShared(limit, test.used, test.queues, test.before, test.held, int(test.size)+more); got != want {
				t.Errorf("%s, %d bytes more: %v", test.what, more, got)
			}
		}
	}
}

// newShared returns what several queues hold together.
func newShared(limit int64) *queue.SharedLimit {
	shared := &queue.SharedLimit{}
	shared.SetLimit(limit)
	return shared
}

// sharing returns two queues of a room of their own, which are entered.
func sharing(t *testing.T, limit int64, c queue.Limits) (room *queue.SharedLimit, a, b testQueue) {
	room = newShared(limit)
	c.Shared = room
	for _, q := range []*testQueue{&a, &b} {
		room.AddQueue()
		*q = queueOf(t, c)
	}
	return room, a, b
}

func wantUsed(t *testing.T, room *queue.SharedLimit, bytes int64, waiting int) {
	t.Helper()
	synctest.Wait()
	if got, line := room.Used(); got != bytes || line != waiting {
		t.Errorf("%d bytes are held and %d wait, want %d and %d", got, line, bytes, waiting)
	}
}

const freeBytes = queue.ChunkSize // What each queue has for itself.

// TestSharedLimit_Queues_AreCounted what is queued beyond the first chunk, on each way in and out.
func TestSharedLimit_Queues_AreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, a, b := sharing(t, 1<<20, queue.Limits{})
		a.push(sized(freeBytes))
		wantUsed(t, room, 0, 0)
		a.push("a")
		wantUsed(t, room, 2, 0)
		b.push(sized(freeBytes + 5))
		wantUsed(t, room, 7, 0)
		a.sends(2)
		wantUsed(t, room, 5, 0)
		b.sends(1)
		wantUsed(t, room, 0, 0)
		a.ReserveRoom(freeBytes + 9)
		wantUsed(t, room, 9, 0)
		if _, _, err := a.EnqueueReserved([]byte(sized(freeBytes + 9))); err != nil {
			t.Error(err)
		}
		wantUsed(t, room, 9, 0)
		a.takes(frame(sized(freeBytes + 9)))
		a.rewinds(0, 0)
		if _, ok := a.RemoveHead(1); ok {
			t.Error("the first message was set aside twice")
		}
		if _, ok := a.RemoveHead(3); !ok {
			t.Error("the third message was not set aside")
		}
		wantUsed(t, room, 0, 0)
		a.ReserveRoom(freeBytes + 9)
		a.Close()
		if _, _, err := a.EnqueueReserved([]byte(sized(freeBytes + 9))); !errors.Is(err, errdefs.ErrStopped) {
			t.Error(err)
		}
		wantUsed(t, room, 0, 0)
		b.push(sized(freeBytes), "c")
		b.DiscardAll(nil)
		wantUsed(t, room, 0, 0)
	})
}

// TestSharedLimit_SpaceFreed_ServesNextQueue: who waits for what another queue holds gets it when that gets smaller.
func TestSharedLimit_SpaceFreed_ServesNextQueue(t *testing.T) {
	for _, size := range []int{freeBytes, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			room, a, b := sharing(t, 200_000, queue.Limits{})
			a.push(sized(300_000)) // As nobody else has any.
			b.push(sized(50_000))
			message := sized(size)
			done := make(chan error, 1)
			go func() { done <- b.EnqueueWaitAndWake(t.Context(), []byte(message)) }()
			wantUsed(t, room, 300_000-freeBytes, 1)
			b.refused("", errdefs.ErrBufferFull) // It would overtake.
			a.sends(1)
			if err := <-done; err != nil {
				t.Error(err)
			}
			wantUsed(t, room, int64(50_000+size-freeBytes), 0)
			b.takes(frame(sized(50_000)), frame(message))
			b.written(50_000+size, 2)
			wantUsed(t, room, 0, 0)
		})
	}
}

// TestSharedLimit_ContextEnds_StopsWaiting: who does not wait any longer is not told any more.
func TestSharedLimit_ContextEnds_StopsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, a, b := sharing(t, 100_000, queue.Limits{})
		a.push(sized(150_000))
		b.push(sized(freeBytes))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.EnqueueWaitAndWake(ctx, []byte(sized(60_000))) }()
		wantUsed(t, room, 150_000-freeBytes, 1)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		wantUsed(t, room, 150_000-freeBytes, 0)
		b.tallies(tally(1, 1, 0, 0, 0, 0, 1, freeBytes, 0))
		a.sends(1)
		wantUsed(t, room, 0, 0)
	})
}

// TestSharedLimit_SpaceFreed_NotifiesQueue: the channel of NotifySpace is closed when another queue
// leaves some, and not before.
func TestSharedLimit_SpaceFreed_NotifiesQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, a, b := sharing(t, 100_000, queue.Limits{})
		if b.NotifySpace() != nil {
			t.Error("an empty queue has no room")
		}
		wantUsed(t, room, 0, 0)
		a.push(sized(freeBytes + 200_000)) // Twice the limit.
		b.push(sized(freeBytes))
		offered := b.NotifySpace()
		again := b.NotifySpace()
		wantUsed(t, room, 200_000, 1)
		select {
		case <-offered:
			t.Fatal("room is offered that there is not")
		default:
		}
		a.sends(1)
		wantUsed(t, room, 0, 0)
		<-offered
		<-again
		if b.NotifySpace() != nil {
			t.Error("there is no room")
		}
		b.push("a")
		wantUsed(t, room, 2, 0)
	})
}

// TestSharedLimit_FullQueue_GetsNoSpace: a queue that is full by its own bounds is not told of others.
func TestSharedLimit_FullQueue_GetsNoSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, _, b := sharing(t, 100_000, queue.Limits{Messages: 1})
		b.push("a")
		offered := b.NotifySpace()
		done := make(chan error, 1)
		go func() { done <- b.EnqueueWaitAndWake(t.Context(), []byte("b")) }()
		wantUsed(t, room, 0, 0)
		b.sends(1)
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		select {
		case <-offered:
			t.Error("room is offered that somebody in line has taken")
		default:
		}
		b.sends(1)
		<-offered
	})
}

// TestSharedLimit_DropOldest_CountsDropped: a queue drops its own messages for the room that it
// shares, as long as that helps, and counts them.
func TestSharedLimit_DropOldest_CountsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, a, b := sharing(t, 100_000, queue.Limits{DropOldest: true})
		a.push(sized(freeBytes + 199_000)) // 1,000 bytes are left for all.
		wantUsed(t, room, 199_000, 0)
		b.push(sized(freeBytes), "b", sized(900))
		wantUsed(t, room, 199_902, 0)
		b.push(sized(200))
		b.tallies(tally(4, 0, 0, 1, 0, 0, 3, 1102, 0))
		wantUsed(t, room, 199_000, 0)
		b.refused(sized(200_000), errdefs.ErrBufferFull) // Nothing that b has would help.
		b.tallies(tally(4, 1, 0, 1, 0, 0, 3, 1102, 0))
		b.push(sized(freeBytes))
		b.tallies(tally(5, 1, 0, 3, 0, 0, 2, freeBytes+200, 0))
		if dropped := room.DroppedMessages(); dropped != 3 {
			t.Errorf("%d were dropped", dropped)
		}
	})
}

// TestSharedLimit_OverLimit_SplitsEqually among the queues that are entered, beyond the limit: each
// has a part, but no more than a sixteenth.
func TestSharedLimit_OverLimit_SplitsEqually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 320_000
		room, a, b := sharing(t, limit, queue.Limits{})
		for range 30 {
			room.AddQueue()
		}
		a.push(sized(freeBytes + limit))
		b.push(sized(freeBytes), sized(limit/32))
		b.refused("", errdefs.ErrBufferFull)
		for range 16 {
			room.RemoveQueue()
		}
		b.push(sized(limit/16 - limit/32))
		b.refused("", errdefs.ErrBufferFull)
		for range 10 {
			room.RemoveQueue()
		}
		b.refused("", errdefs.ErrBufferFull)
	})
}

// TestSharedLimit_OneByte_AcceptsOneMessage: the least that another queue can leave is told.
func TestSharedLimit_OneByte_AcceptsOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, a, b := sharing(t, 100_000, queue.Limits{})
		a.push(sized(freeBytes + 195_000))
		a.take(1, 1)
		b.push(sized(freeBytes), "")
		wantUsed(t, room, 195_001, 0)
		done := make(chan error, 1)
		c := queueOf(t, queue.Limits{Shared: room})
		c.push(sized(freeBytes))
		go func() { done <- c.EnqueueWaitAndWake(t.Context(), []byte(sized(5000))) }()
		wantUsed(t, room, 195_001, 1)
		b.take(1, 1)
		b.written(freeBytes, 1)
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantUsed(t, room, 200_000, 0)
	})
}

// TestSharedLimit_FullQueue_DoesNotWait: a queue that has no byte left by its own bound does not wait for others.
func TestSharedLimit_FullQueue_DoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, _, b := sharing(t, 100_000, queue.Limits{Bytes: 100})
		b.push(sized(100))
		offered := b.NotifySpace()
		b.refused("", errdefs.ErrBufferFull)
		wantUsed(t, room, 0, 0)
		b.sends(1)
		<-offered
	})
}

// TestSharedLimit_OneByteLeft_Waits: by its own bound the queue has one byte left, and it waits for others.
func TestSharedLimit_OneByteLeft_Waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, a, b := sharing(t, 100_000, queue.Limits{Bytes: 300_000})
		a.push(sized(freeBytes + 200_000))
		c := queueOf(t, queue.Limits{Bytes: freeBytes + 1, Shared: room})
		c.push(sized(freeBytes))
		offered := c.NotifySpace()
		wantUsed(t, room, 200_000, 1)
		a.sends(1)
		<-offered
		wantUsed(t, room, 0, 0)
		// The same, when its own bound is what held it up at first.
		c.sends(1)
		c.push(sized(freeBytes), "")
		offered = c.NotifySpace()
		wantUsed(t, room, 1, 0)
		b.push(sized(freeBytes + 199_999))
		a.push(sized(freeBytes))
		c.take(1, 1)
		c.written(freeBytes, 1)
		<-offered
	})
}

// TestSharedLimit_ManyQueues_ShrinkShares: whatever they do at once, all get through, and nothing
// is counted in the end.
func TestSharedLimit_ManyQueues_ShrinkShares(t *testing.T) {
	const queues, messages = 8, 60
	room := newShared(100_000)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range queues {
		room.AddQueue()
		q := queueOf(t, queue.Limits{Shared: room})
		all.Go(func() {
			for range messages {
				if err := q.EnqueueWaitAndWake(ctx, []byte(sized(30_000))); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for sent := 0; sent < messages && ctx.Err() == nil; {
				n := 0
				for _, b := range q.take(1<<20, 64) {
					n += len(b)
				}
				count, err := q.MarkWritten(n)
				if sent += count; err != nil {
					t.Error(err)
				}
				if n == 0 {
					select {
					case <-q.Ready():
					case <-ctx.Done():
					}
				}
			}
			room.RemoveQueue()
		})
	}
	all.Wait()
	if bytes, waiting := room.Used(); bytes != 0 || waiting != 0 {
		t.Errorf("%d bytes are held and %d wait", bytes, waiting)
	}
}
