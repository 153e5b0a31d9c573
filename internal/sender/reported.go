// SPDX-License-Identifier: Apache-2.0

package sender

// This file reports messages that are not delivered, each once.

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// reported counts the undelivered messages that were already reported.
type reported struct {
	mu           sync.Mutex // Guards what follows; taken before the mutex of the queue.
	dropped      uint64     // To the error callback.
	expired      uint64     // To the error callback.
	undelivered  uint64     // By Flush and Stop; includes dropped and expired messages.
	possiblyLost uint64     // By Flush and Stop.
}

// drops returns how many messages the queue has dropped and how many have expired since the last
// call.
func (r *reported) drops(q *queue.Queue) (dropped, expired uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := q.ReadCounts()
	dropped, r.dropped = now.Dropped-r.dropped, now.Dropped
	expired, r.expired = now.Expired-r.expired, now.Expired
	return dropped, expired
}

// hasDropped reports whether the queue has dropped messages since the last call of drops.
func (r *reported) hasDropped(q *queue.Queue) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return q.ReadCounts().Dropped != r.dropped
}

// losses returns how many messages were not delivered and how many may be lost since the last call.
func (r *reported) losses(q *queue.Queue, possiblyLost *atomic.Uint64) (undelivered, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lossesLocked(q, possiblyLost)
}

func (r *reported) lossesLocked(q *queue.Queue, possiblyLost *atomic.Uint64) (undelivered, lost uint64) {
	now := q.ReadCounts()
	sum, possibly := now.Undelivered+now.Dropped+now.Expired, possiblyLost.Load()
	undelivered, r.undelivered = sum-r.undelivered, sum
	lost, r.possiblyLost = possibly-r.possiblyLost, possibly
	return undelivered, lost
}

// takeRemaining removes the remaining messages from the queue. It returns them, their number, and
// the other losses.
func (r *reported) takeRemaining(q *queue.Queue, possiblyLost *atomic.Uint64) (
	left, undelivered, lost uint64, rest queue.Undelivered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, rest = q.TakeUndelivered()
	undelivered, lost = r.lossesLocked(q, possiblyLost)
	return left, undelivered - left, lost, rest
}

// returnUndelivered reports why a message is given up, and returns the message to the program.
func (l *Loop) returnUndelivered(data []byte, cause error) {
	l.events.Report(errdefs.OpWrite, &errdefs.Note{Kind: errdefs.NoteSetAside, Messages: 1, Err: cause})
	if l.events.Undelivered != nil {
		l.events.Undelivered(data)
	}
}

// reportDropped reports the messages that the queue has dropped since the last report.
func (l *Loop) reportDropped() {
	if !l.cfg.DropOldest && l.cfg.MaxAge == 0 {
		return
	}
	dropped, expired := l.reported.drops(l.queue)
	if dropped > 0 {
		l.events.Report(errdefs.OpQueue, &errdefs.Note{
			Kind: errdefs.NoteDropped, Messages: dropped,
			Err: fmt.Errorf("%w: the oldest %s dropped", l.queue.DropErr(), errdefs.CountIs(dropped, "was", "were")),
		})
	}
	if expired > 0 {
		l.events.Report(errdefs.OpQueue, &errdefs.Note{
			Kind: errdefs.NoteExpired, Messages: expired,
			Err: fmt.Errorf("%s older than %v (WithMaxAge), and dropped", errdefs.CountIs(expired, "was", "were"), l.cfg.MaxAge),
		})
	}
}

// hasDropped reports whether there is something for reportDropped. The queue wakes the goroutine itself
// when messages expire.
func (l *Loop) hasDropped() bool { return l.cfg.DropOldest && l.reported.hasDropped(l.queue) }
