// SPDX-License-Identifier: Apache-2.0

package queue_test

// The costs of a queue, in time and in memory.

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_DropOldest_TakesConstantTime: to drop a message costs the same in a long queue and a short one, also behind
// messages that were sent.
func TestQueue_DropOldest_TakesConstantTime(t *testing.T) {
	cost := func(messages uint64) time.Duration {
		q := queueOf(t, queue.Limits{Messages: messages, Bytes: 1 << 30, DropOldest: true, Acks: true, MaxAge: time.Hour})
		push := func() {
			q.Age(2 * time.Millisecond) // So that each has a segment of its own.
			if err := q.EnqueueAndWake([]byte("waits")); err != nil {
				t.Fatal(err)
			}
		}
		for range messages / 2 {
			push()
		}
		for range messages/2/64 + 1 {
			n := len(bytes.Join(q.take(1<<30, 64), nil))
			if _, err := q.MarkWritten(n); err != nil {
				t.Fatal(err)
			}
		}
		for range messages - messages/2 {
			push()
		}
		const rounds, drops = 10, 100
		least := time.Hour // In the others this process may have been kept from running.
		for range rounds {
			began := time.Now()
			for range drops {
				push()
			}
			least = min(least, time.Since(began)/drops)
		}
		if s := q.State(); s.Dropped != rounds*drops {
			t.Fatalf("%+v", s)
		}
		return least
	}
	short, long := cost(1000), cost(200_000)
	if long > 30*max(short, time.Microsecond) {
		t.Errorf("a push that drops one of 1,000 takes %v, of 200,000 %v", short, long)
	}
}

// TestQueue_Bytes_BoundMemory: the bound of the queue in bytes is one of its memory too, to within a half.
func TestQueue_Bytes_BoundMemory(t *testing.T) {
	const bound = 16 << 20
	for _, size := range []int{1000, 16 << 10, 22 << 10, 33 << 10, 63 << 10, 65 << 10, 129 << 10, 1<<20 + 1} {
		q := queueOf(t, queue.Limits{Messages: bound, Bytes: bound})
		data := make([]byte, size)
		before := bytesInUse()
		for q.EnqueueAndWake(data) == nil {
		}
		grown := int64(bytesInUse()) - int64(before)
		if queued := q.State().QueuedBytes; grown > int64(queued)*3/2+200_000 {
			t.Errorf("messages of %d bytes: %d bytes are queued in %d bytes of memory", size, queued, grown)
		}
	}
}

// bytesInUse returns the size of all that is reachable.
func bytesInUse() uint64 {
	runtime.GC()
	runtime.GC() // What lay in a pool.
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestQueue_RemoveHeadOfDropped_RemovesNoOther: the message that is to be set aside was dropped meanwhile.
func TestQueue_RemoveHeadOfDropped_RemovesNoOther(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 2, Bytes: 1 << 20, DropOldest: true})
	push := func(text string) {
		if err := q.EnqueueAndWake([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	push("poison")
	push("innocent")
	q.take(1<<20, 64)
	if _, err := q.MarkWritten(3); err != nil {
		t.Fatal(err)
	}
	partial, _ := q.Rewind()
	push("new")
	if data, ok := q.RemoveHead(partial); ok {
		t.Errorf("message %d is %q, and was set aside", partial, data)
	}
	if data, ok := q.RemoveHead(partial + 1); !ok || string(data) != "innocent" {
		t.Errorf("message %d is %q, %v", partial+1, data, ok)
	}
}
