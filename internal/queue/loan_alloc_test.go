// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_ManyProducers_AllocateNothing: as many as are queued at once are kept for use again, and so
// are the places of producers that wait.
func TestQueue_ManyProducers_AllocateNothing(t *testing.T) {
	if ipctest.RaceEnabled {
		t.Skip("with the race detector, the pools drop what they get")
	}
	for _, size := range []int{1000, queue.ChunkSize + 1} {
		const producers, messages = 64, 300
		q := queueOf(t, queue.Limits{})
		q.StartLoans(func() {})
		stop := make(chan struct{})
		var sender sync.WaitGroup
		sender.Go(func() {
			bufs := make([][]byte, 0, 64)
			for {
				n := 0
				for _, b := range q.NextBatch(bufs, 256<<10) {
					n += len(b)
				}
				if n > 0 {
					runtime.Gosched()
					_, _ = q.MarkWritten(n)
					continue
				}
				select {
				case <-q.Ready():
				case <-stop:
					return
				}
			}
		})
		run := func() float64 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var all sync.WaitGroup
			for range producers {
				all.Go(func() {
					data := make([]byte, size)
					for range messages {
						_ = q.EnqueueWaitAndWake(context.Background(), data)
					}
				})
			}
			all.Wait()
			runtime.ReadMemStats(&after)
			return (float64(after.Mallocs-before.Mallocs) - 5*producers) / (producers * messages)
		}
		run()
		if n := run(); n > 0.05 {
			t.Errorf("%d bytes: %.3f allocations for each message", size, n)
		}
		close(stop)
		sender.Wait()
	}
}
