// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/errdefs"
)

// StartWriter returns a started Writer. At the end of the test it must stop gracefully.
func StartWriter(tb testing.TB, address string, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	w, err := udsipc.NewWriter(address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { Stop(tb, w) })
	return w
}

// NewWriter returns a Writer that is not started. It is stopped at the end, without a wait for its
// messages.
func NewWriter(tb testing.TB, address string, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	w, err := udsipc.NewWriter(address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.Stop(ctx) // Remaining messages are the test's concern.
		CheckInvariant(tb, w.Metrics())
	})
	return w
}

// MustStart starts a Writer, and fails the test on an error.
func MustStart(tb testing.TB, w *udsipc.Writer) {
	tb.Helper()
	if err := w.Start(); err != nil {
		tb.Fatal(err)
	}
}

// MustWriteMessage writes a message, and fails the test on an error.
func MustWriteMessage(tb testing.TB, w *udsipc.Writer, text string) {
	tb.Helper()
	if err := w.WriteMessage([]byte(text)); err != nil {
		tb.Fatal(err)
	}
}

// StartedWriter is NewWriter, started.
func StartedWriter(t *testing.T, address string, opts ...udsipc.WriterOption) *udsipc.Writer {
	w := NewWriter(t, address, opts...)
	MustStart(t, w)
	return w
}

// CheckInvariant fails the test unless each accepted message is in exactly one counter.
func CheckInvariant(tb testing.TB, m udsipc.WriterMetrics) {
	tb.Helper()
	if sum := m.Sent + m.Dropped + m.Expired + m.Undelivered + m.Queued; m.Accepted != sum {
		tb.Errorf("accepted %d, but sent + dropped + expired + undelivered + queued is %d: %+v", m.Accepted, sum, m)
	}
	if (m.Queued == 0) != (m.QueuedBytes == 0) {
		tb.Errorf("%d messages queued of %d bytes", m.Queued, m.QueuedBytes)
	}
}

// StopAndTell stops a Writer without an earlier Flush. The error must count the lost messages, if
// there are any.
func StopAndTell(tb testing.TB, w *udsipc.Writer) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := w.Stop(ctx)
	m := w.Metrics()
	undelivered := m.Undelivered + m.Dropped + m.Expired
	gone := fmt.Sprintf("%s not delivered, up to %d more may be lost", errdefs.CountIs(undelivered, "was", "were"),
		m.PossiblyLost)
	switch {
	case m.PossiblyLost == 0:
		gone = errdefs.CountIs(undelivered, "was", "were") + " not delivered"
	case undelivered == 0:
		gone = fmt.Sprintf("up to %s may be lost", errdefs.Count(m.PossiblyLost))
	}
	switch {
	case undelivered+m.PossiblyLost == 0:
		if err != nil {
			tb.Errorf("Stop: %v", err)
		}
	case !errors.Is(err, udsipc.ErrStopped) || !strings.Contains(err.Error(), ": "+gone):
		tb.Errorf("Stop: %v, want %q", err, gone)
	}
}

// CheckAccounting fails the test if a message was lost without a report: each message that w
// accepted was handled, or is in a counter of undelivered or lost messages. Call it when the reader
// handles nothing more. A message that the reader refused with a report counts as handled.
func CheckAccounting(tb testing.TB, w *udsipc.Writer, handled uint64) {
	tb.Helper()
	m := w.Metrics()
	CheckInvariant(tb, m)
	if sum := handled + m.PossiblyLost + m.Queued + m.Undelivered + m.Dropped + m.Expired; sum < m.Accepted {
		tb.Errorf("%d messages were lost in silence: %d accepted, %d handled, %d possibly lost, "+
			"%d queued, %d undelivered, %d dropped, %d expired",
			m.Accepted-sum, m.Accepted, handled, m.PossiblyLost, m.Queued, m.Undelivered, m.Dropped, m.Expired)
	}
}

// CheckGracefulStop fails the test unless, after a graceful stop of the reader, each message of w
// was handled once or is still queued.
func CheckGracefulStop(tb testing.TB, w *udsipc.Writer, handled uint64) {
	tb.Helper()
	m := w.Metrics()
	CheckInvariant(tb, m)
	if handled+m.Queued != m.Accepted {
		tb.Errorf("%d messages handled and %d queued of %d accepted: %+v", handled, m.Queued, m.Accepted, m)
	}
}
