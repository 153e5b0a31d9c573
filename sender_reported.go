// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file reports what is not delivered, and remembers what it has reported, so that it does so once.

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// reported is how many of the messages that were not delivered were reported already.
type reported struct {
	mu           sync.Mutex // Guards what follows; taken before queue.mu.
	dropped      uint64     // To the error callback.
	expired      uint64     // To the error callback.
	undelivered  uint64     // By flush and stop, those that were dropped or had expired included.
	possiblyLost uint64     // By flush and stop.
}

// drops returns how many messages the queue has dropped since the last call, to make room and for their age.
func (r *reported) drops(q *queue) (dropped, expired uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := q.readCounts()
	dropped, r.dropped = now.dropped-r.dropped, now.dropped
	expired, r.expired = now.expired-r.expired, now.expired
	return dropped, expired
}

// losses returns how many messages were not delivered, and how many may be lost, since the last call.
func (r *reported) losses(q *queue, possiblyLost *atomic.Uint64) (undelivered, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lossesLocked(q, possiblyLost)
}

func (r *reported) lossesLocked(q *queue, possiblyLost *atomic.Uint64) (undelivered, lost uint64) {
	now := q.readCounts()
	sum, possibly := now.undelivered+now.dropped+now.expired, possiblyLost.Load()
	undelivered, r.undelivered = sum-r.undelivered, sum
	lost, r.possiblyLost = possibly-r.possiblyLost, possibly
	return undelivered, lost
}

// takeRemaining takes what is left out of the queue, and returns how many messages that are, and the losses without them.
func (r *reported) takeRemaining(q *queue, possiblyLost *atomic.Uint64) (left, undelivered, lost uint64, rest undelivered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, rest = q.takeUndelivered()
	undelivered, lost = r.lossesLocked(q, possiblyLost)
	return left, undelivered - left, lost, rest
}

// returnUndelivered reports why a message cannot be delivered, and returns it to the program.
func (l *loop) returnUndelivered(data []byte, why error) {
	l.events.report(opWrite, why)
	if l.events.undelivered != nil {
		l.events.undelivered(data)
	}
}

// reportDropped reports what the queue has dropped since the last time.
func (l *loop) reportDropped() {
	if !l.cfg.dropOldest && l.cfg.maxAge == 0 {
		return
	}
	dropped, expired := l.reported.drops(l.queue)
	if dropped > 0 {
		l.events.report(opQueue, fmt.Errorf("%w: the oldest %d messages were dropped", errBufferFull, dropped))
	}
	if expired > 0 {
		l.events.report(opQueue, fmt.Errorf("%d messages were older than %v (WithMaxAge) and were dropped", expired, l.cfg.maxAge))
	}
}
