// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// TestStopOfAReaderThatNeverListened: again, from several goroutines, with a context that has ended.
func TestStopOfAReaderThatNeverListened(t *testing.T) {
	taken := socketPath(t)
	startReader(t, ignore, taken)
	for name, path := range map[string]string{"not started": socketPath(t), "the start has failed": taken} {
		t.Run(name, func(t *testing.T) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			for range 50 {
				r, err := udsipc.NewReader(ignore, path)
				if err != nil {
					t.Fatal(err)
				}
				if path == taken && r.Start() == nil {
					t.Fatal("two Readers listen at one path")
				}
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						if err := r.Stop(ended); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				await(t, "Done", r.Done())
			}
		})
	}
}

// TestStopAgainWithAnEndedContext finds everything done.
func TestStopAgainWithAnEndedContext(t *testing.T) {
	r := startReader(t, ignore, socketPath(t))
	stop(t, r)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		if err := r.Stop(ended); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStopServesTheBacklogWhenBusy: the goroutine that accepts may run long after Stop was called.
func TestStopServesTheBacklogWhenBusy(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for round := range 20 {
		path := socketPath(t)
		var handled atomic.Int64
		r := startReader(t, func([]byte) error { handled.Add(1); return nil }, path)
		time.Sleep(time.Millisecond) // It waits in Accept now, most likely.
		var quit atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for !quit.Load() {
				}
			})
		}
		conn := mustDial(t, path)
		mustWrite(t, conn, frames("a message"))
		stop(t, r)
		quit.Store(true)
		wg.Wait()
		conn.Close()
		if handled.Load() != 1 {
			t.Fatalf("round %d: a message that the kernel had taken before Stop was not handled", round)
		}
	}
}
