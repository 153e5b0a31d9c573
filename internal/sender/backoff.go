// SPDX-License-Identifier: Apache-2.0

package sender

// This file computes the delay before the next attempt to connect.

import (
	"math/rand/v2"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// minBackoff is the upper bound of the first delay.
const minBackoff = 10 * time.Millisecond

// maxBriefFailures limits the backoff after connections that were brief but useful: the delay is 80
// ms on average. A server that sends a reason and closes gets few connections. A server that serves
// a little on each connection still gets them.
const maxBriefFailures = 5

// A backoff counts consecutive failures. The delay grows with them.
type backoff struct {
	limit    time.Duration // Of one delay.
	failures int
}

// delay returns 0 without a failure, otherwise an exponential delay with full jitter.
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

// attemptFailed counts an attempt to connect that failed.
func (b *backoff) attemptFailed() { b.failures++ }

// ConnectionEnded counts a connection that lasted for lived. It was useful if it brought a message.
func (b *backoff) ConnectionEnded(useful bool, lived time.Duration) {
	b.failures++
	switch {
	case lived >= transport.ResetBackoffAfter:
		b.failures = 0
	case useful:
		b.failures = min(b.failures, maxBriefFailures)
	}
}
