// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"testing"
	"time"
)

// patience is how long tests wait for what must happen: far longer than a busy machine needs.
const patience = 90 * time.Second

// Await returns the next event. It fails the test if none comes in time.
func Await[T any](tb testing.TB, what string, events <-chan T) T {
	tb.Helper()
	event, _ := AwaitOpen(tb, what, events)
	return event
}

// AwaitOpen is Await for a channel that may be closed instead.
func AwaitOpen[T any](tb testing.TB, what string, events <-chan T) (event T, open bool) {
	tb.Helper()
	select {
	case event, open = <-events:
		return event, open
	case <-time.After(patience):
		tb.Fatalf("waited %v for %s", patience, what)
		panic("not reached")
	}
}

// Until waits until fact returns true. It fails the test if that takes too long. It is for facts without an event.
func Until(tb testing.TB, what string, fact func() bool) {
	tb.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !fact(); <-ticker.C {
		if time.Now().After(deadline) {
			tb.Fatalf("waited %v until %s", patience, what)
		}
	}
}
