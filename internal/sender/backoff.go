// SPDX-License-Identifier: Apache-2.0

package sender

// This file is how long to wait before the next attempt to connect.

import (
	"math/rand/v2"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// minBackoff bounds the first delay.
const minBackoff = 10 * time.Millisecond

// maxBriefFailures bounds the backoff after connections that were brief, but useful: 80 ms on average. A server that
// sends a reason and closes is not called all the time, and one that serves a little each time still gets calls.
const maxBriefFailures = 5

// A backoff counts the failures in a row, for a delay that grows with them.
type backoff struct {
	limit    time.Duration // Of one delay.
	failures int
}

// delay is 0 without a failure, then exponential with full jitter.
func (b *backoff) delay() time.Duration {
	if b.failures == 0 {
		return 0
	}
	limit := b.limit
	if shift := b.failures - 1; shift < 30 {
		limit = min(limit, minBackoff<<shift)
	}
	return rand.N(limit)
}

// AttemptFailed counts an attempt to connect that failed.
func (b *backoff) AttemptFailed() { b.failures++ }

// ConnectionEnded counts a connection that has lived for so long. It was useful if a message came.
func (b *backoff) ConnectionEnded(useful bool, lived time.Duration) {
	b.failures++
	switch {
	case lived >= transport.ResetBackoffAfter:
		b.failures = 0
	case useful:
		b.failures = min(b.failures, maxBriefFailures)
	}
}
