// SPDX-License-Identifier: Apache-2.0

package queue_test

// Who waits for messages to leave a queue, or for room in it.

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_Flush_WaitsForRemoval waits for what was accepted before, and for nothing else.
func TestQueue_Flush_WaitsForRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Acks: true})
		if err := q.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		<-q.Flushed()
		q.push("a")
		first, same := q.Flushed(), q.Flushed()
		done := make(chan error, 1)
		go func() { done <- q.Flush(t.Context()) }()
		synctest.Wait()
		q.push("b")
		second := q.Flushed()
		if _, flushes := q.Waiting(); flushes != 2 || first != same || first == second {
			t.Errorf("%d flushes", flushes)
		}
		q.sends(2)
		select {
		case <-first:
			t.Error("flushed before it was acknowledged")
		default:
		}
		q.acknowledges(1)
		<-first
		if err := <-done; err != nil {
			t.Error(err)
		}
		select {
		case <-second:
			t.Error("flushed before it was acknowledged")
		default:
		}
		q.acknowledges(2)
		<-second
		if _, flushes := q.Waiting(); flushes != 0 {
			t.Errorf("%d flushes are left", flushes)
		}
	})
}

// TestQueue_FlushContextEnds_Returns with the cause of its context, and leaves those that share its place.
func TestQueue_FlushContextEnds_Returns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{})
		q.push("a")
		cause := errors.New("the cause")
		flush := func(ctx context.Context) chan error {
			done := make(chan error, 1)
			go func() { done <- q.Flush(ctx) }()
			synctest.Wait()
			return done
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		short, long := flush(ctx), flush(t.Context())
		q.push("b")
		alone := flush(ctx)
		q.push("c")
		last := flush(t.Context())
		if _, flushes := q.Waiting(); flushes != 3 {
			t.Errorf("%d flushes", flushes)
		}
		cancel(cause)
		for _, done := range []chan error{short, alone} {
			if err := <-done; !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if _, flushes := q.Waiting(); flushes != 2 {
			t.Errorf("%d flushes are left", flushes)
		}
		q.take(1<<20, 64)
		q.written(2, 1)
		if err := <-long; err != nil {
			t.Error(err)
		}
		q.sends(2)
		if err := <-last; err != nil {
			t.Error(err)
		}
	})
}

// TestQueue_Close_EndsFlush: one that ends together with its context has flushed, or says why not;
// it leaves nothing behind.
func TestQueue_Close_EndsFlush(t *testing.T) {
	q := queueOf(t, queue.Limits{})
	for range 300 {
		q.push("a")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- q.Flush(ctx) }()
		for flushes := 0; flushes == 0; _, flushes = q.Waiting() {
		}
		q.take(1<<20, 64)
		cancel()
		q.written(2, 1)
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, flushes := q.Waiting(); flushes != 0 {
			t.Fatalf("%d flushes are left", flushes)
		}
	}
}

// TestQueue_NotifySpace_ClosesChannel is nil while there is room for one byte, and is offered when there is again.
func TestQueue_NotifySpace_ClosesChannel(t *testing.T) {
	for _, c := range []queue.Limits{{Messages: 1}, {Bytes: 2}} {
		q := queueOf(t, c)
		if q.NotifySpace() != nil {
			t.Error("no room in an empty queue")
		}
		q.push("a")
		room := q.NotifySpace()
		if room == nil {
			t.Fatal("room in a full queue")
		}
		if q.NotifySpace() != room {
			t.Error("each who asks is told apart")
		}
		select {
		case <-room:
			t.Error("room in a full queue")
		default:
		}
		q.sends(1)
		<-room
		if q.NotifySpace() != nil {
			t.Error("no room in an empty queue")
		}
	}
	q := queueOf(t, queue.Limits{Bytes: 3})
	q.push("a")
	if q.NotifySpace() != nil {
		t.Error("no room for an empty message")
	}
}

// TestQueue_Empty_MarksSenderIdle: if it says so, the next message wakes.
func TestQueue_Empty_MarksSenderIdle(t *testing.T) {
	q := queueOf(t, queue.Limits{})
	q.push("a")
	if q.Empty() {
		t.Error("a queue with a message is empty")
	}
	q.push("b")
	if q.wakes() {
		t.Error("somebody was woken who did not wait")
	}
	q.sends(2)
	if !q.Empty() {
		t.Error("a queue without a message is not empty")
	}
	q.push("c")
	if !q.wakes() {
		t.Error("nobody was woken")
	}
}
