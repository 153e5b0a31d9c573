// SPDX-License-Identifier: Apache-2.0

package sender

// This file reports a stop that waits, and may wait for ever.

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// A StopWaits reports that a stop waits, and that its context has no deadline.
type StopWaits struct {
	Messages uint64
	Waited   time.Duration
	Why      error // Why there is no connection; nil if there is one.
}

func (s *StopWaits) Error() string {
	what := fmt.Sprintf("%d messages wait", s.Messages)
	if s.Messages == 0 {
		what = "the peer has not read everything, or a callback has not returned"
	}
	if s.Why != nil {
		what += ": " + s.Why.Error()
	}
	return fmt.Sprintf("%s; after %v it still waits, because its context has no deadline",
		what, s.Waited.Round(time.Second))
}

// Unwrap returns Why.
func (s *StopWaits) Unwrap() error { return s.Why }

// WatchStop reports in growing steps, on a goroutine of its own, that a stop waits for the messages of
// q, until ended is called. It does nothing if ctx has a deadline.
func (l *Lifecycle) WatchStop(ctx context.Context, q *queue.Queue, report func(err error)) (ended func()) {
	if _, bounded := ctx.Deadline(); bounded {
		return func() {}
	}
	began, reports, over := time.Now(), 0, false
	var mu sync.Mutex // Guards over and timer.
	var timer *time.Timer
	tell := func() {
		mu.Lock()
		late := over
		mu.Unlock()
		if late {
			return
		}
		report(&StopWaits{Messages: q.ReadCounts().Queued, Waited: time.Since(began), Why: l.Why()})
		reports++
		mu.Lock()
		defer mu.Unlock()
		if !over {
			timer.Reset(reportTime(reports) - reportTime(reports-1))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(reportTime(0), tell) // Ended by the function that is returned.
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}
