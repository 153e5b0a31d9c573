// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"testing"
	"time"
)

// Await returns the next event. It fails the test if none comes in time.
func Await[T any](tb testing.TB, what string, events <-chan T) T {
	tb.Helper()
	select {
	case event := <-events:
		return event
	case <-time.After(30 * time.Second):
		tb.Fatalf("waited 30 s for %s", what)
		panic("not reached")
	}
}

// Until waits until fact returns true, for 10 s at most. It is for facts without an event.
func Until(tb testing.TB, what string, fact func() bool) {
	tb.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); !fact(); <-ticker.C {
		if time.Now().After(deadline) {
			tb.Fatalf("waited 30 s until %s", what)
		}
	}
}
