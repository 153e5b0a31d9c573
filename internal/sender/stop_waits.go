// SPDX-License-Identifier: Apache-2.0

package sender

// This file reports a stop that waits, and may wait for ever.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// A StopWaits reports that a stop waits, and that its context has no deadline.
type StopWaits struct {
	Messages uint64
	Waited   time.Duration
	Why      error  // Why there is no connection; nil if there is one.
	What     string // It waits for, if not for messages.
}

func (s *StopWaits) Error() string {
	return fmt.Sprintf("%v; after %v it still waits, because its context has no deadline",
		s.Reason(), s.Waited.Round(time.Second))
}

// Reason returns for what it waits, and why.
func (s *StopWaits) Reason() error {
	what := errdefs.CountIs(s.Messages, "waits", "wait")
	switch {
	case s.What != "":
		what = s.What
	case s.Messages == 0:
		what = "the peer has not read everything, or a callback has not returned"
	}
	if s.Why != nil {
		return fmt.Errorf("%s: %w", what, s.Why)
	}
	return errors.New(what)
}

// Unwrap returns Why.
func (s *StopWaits) Unwrap() error { return s.Why }

// WatchStop is the function WatchStop for a stop that waits for the messages of q.
func (l *Lifecycle) WatchStop(ctx context.Context, q *queue.Queue, report func(err error)) (ended func()) {
	return WatchStop(ctx, report, func() *StopWaits {
		return &StopWaits{Messages: q.ReadCounts().Queued, Why: l.Why()}
	})
}

// WatchStop reports in growing steps, on a goroutine of its own, that a stop waits, and for what,
// until ended is called. It does nothing if ctx has a deadline.
func WatchStop(ctx context.Context, report func(err error), what func() *StopWaits) (ended func()) {
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
		waits := what()
		waits.Waited = time.Since(began)
		report(waits)
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
