// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how long to wait before the next attempt to connect.

import (
	"math/rand/v2"
	"time"
)

// minBackoff bounds the first delay.
const minBackoff = 10 * time.Millisecond

// backoff returns the delay after so many failures in a row: exponential, with full jitter.
func backoff(failures int, limit time.Duration) time.Duration {
	if failures == 0 {
		return 0
	}
	if shift := failures - 1; shift < 30 {
		limit = min(limit, minBackoff<<shift)
	}
	return rand.N(limit)
}

// maxBriefFailures bounds the backoff after connections that were brief, but brought something: 80 ms on average. A server
// that says why and hangs up is not called all the time, and one that serves a little each time is still served by.
const maxBriefFailures = 5

// failuresAfter returns how many connections in a row have failed, for the backoff, when so many had before one that lived
// so long, and that has brought a message or not.
func failuresAfter(before int, useful bool, lived time.Duration) int {
	switch {
	case lived >= trustedAfter:
		return 0
	case useful:
		return min(before+1, maxBriefFailures)
	}
	return before + 1
}
