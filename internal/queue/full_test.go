// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_Full_NamesLimit that was met, also to a producer that has waited, and for messages that were dropped.
func TestQueue_Full_NamesLimit(t *testing.T) {
	const messages, bytes = "udsipc: queue is full: 3 messages (WithMaxBufferedWrites)",
		"udsipc: queue is full: 100 bytes (WithMaxBufferedBytes)"
	for _, test := range []struct {
		sizes []int // Of messages; the last one is refused.
		want  string
	}{
		{[]int{1, 1, 1, 1}, messages}, {[]int{40, 40, 40}, bytes}, {[]int{90, 9}, bytes}, {[]int{30, 30, 30, 90}, messages},
	} {
		synctest.Test(t, func(t *testing.T) {
			for _, drop := range []bool{false, true} {
				q := queue.New(queue.Limits{Messages: 3, Bytes: 100, DropOldest: drop})
				if err := q.DropErr(); err != errdefs.ErrBufferFull {
					t.Error(err)
				}
				last := len(test.sizes) - 1
				for _, size := range test.sizes[:last] {
					if err := q.EnqueueAndWake(make([]byte, size)); err != nil {
						t.Fatal(err)
					}
				}
				err := q.EnqueueAndWake(make([]byte, test.sizes[last]))
				if drop {
					if err != nil {
						t.Fatal(err)
					}
					err = q.DropErr()
				}
				if !errors.Is(err, errdefs.ErrBufferFull) || err.Error() != test.want {
					t.Errorf("%v, drop %v: %v, want %s", test.sizes, drop, err, test.want)
				}
				if drop {
					continue
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				err = q.EnqueueWaitAndWake(ctx, make([]byte, test.sizes[last]))
				if !errors.Is(err, errdefs.ErrBufferFull) || err.Error() != test.want+": context canceled" {
					t.Errorf("%v, waiting: %v, want %s", test.sizes, err, test.want)
				}
			}
		})
	}
}

// TestQueue_FullOfOthers_NamesSharedLimit, and one that would overtake the limit of the producer that waits.
func TestQueue_FullOfOthers_NamesSharedLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(queue.SharedLimit)
		shared.SetLimit(100_000)
		q := queue.New(queue.Limits{Messages: 100, Bytes: 1 << 20, Shared: shared})
		var err error
		for range 100 {
			if err = q.EnqueueAndWake(make([]byte, 10_000)); err != nil {
				break
			}
		}
		if err == nil || !strings.HasSuffix(err.Error(), "100000 bytes of all connections (WithMaxSendMemory)") {
			t.Error(err)
		}
		q = queue.New(queue.Limits{Messages: 100, Bytes: 100})
		if err := q.EnqueueAndWake(make([]byte, 50)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.EnqueueWaitAndWake(ctx, make([]byte, 90)) }()
		synctest.Wait()
		if err := q.EnqueueAndWake(nil); err == nil || !strings.Contains(err.Error(), "WithMaxBufferedBytes") {
			t.Errorf("it overtakes: %v", err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestQueue_Refused_CostsNoMemory for each message.
func TestQueue_Refused_CostsNoMemory(t *testing.T) {
	q := queue.New(queue.Limits{Messages: 1, Bytes: 100})
	data := make([]byte, 50)
	if err := q.EnqueueAndWake(data); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if q.EnqueueAndWake(data) == nil {
			t.Fatal("it is not full")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
