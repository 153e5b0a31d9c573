// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"testing"

	"github.com/udsipc/udsipc"
)

// checkAccounting fails if a message was lost in silence: each message that w accepted was handled, or
// is in a counter that says that it was not. It holds whatever happened to the connections, once the
// reader handles nothing any more. A message that the reader refused with a report counts as handled.
func checkAccounting(tb testing.TB, w *udsipc.Writer, handled uint64) {
	tb.Helper()
	m := w.Metrics()
	checkInvariant(tb, m)
	if sum := handled + m.PossiblyLost + m.Queued + m.Undelivered + m.Dropped + m.Expired; sum < m.Accepted {
		tb.Errorf("%d messages were lost in silence: %d accepted, %d handled, %d possibly lost, %d queued, %d undelivered, %d dropped, %d expired",
			m.Accepted-sum, m.Accepted, handled, m.PossiblyLost, m.Queued, m.Undelivered, m.Dropped, m.Expired)
	}
}

// checkGracefulStop fails unless a graceful stop of the reader has split the messages of w exactly: each
// one was handled once, or is still in the queue.
func checkGracefulStop(tb testing.TB, w *udsipc.Writer, handled uint64) {
	tb.Helper()
	m := w.Metrics()
	checkInvariant(tb, m)
	if handled+m.Queued != m.Accepted {
		tb.Errorf("%d messages handled and %d queued of %d accepted: %+v", handled, m.Queued, m.Accepted, m)
	}
}
