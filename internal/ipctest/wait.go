// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"testing"
	"time"
)

// Await waits for an event that must come.
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

// Until asks for a fact that has no event, for 10 s at most.
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
