// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

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

// NewWriter returns a Writer that is not started, and stopped without patience at the end.
func NewWriter(tb testing.TB, address string, opts ...udsipc.WriterOption) *udsipc.Writer {
	tb.Helper()
	w, err := udsipc.NewWriter(address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.Stop(ctx) // Whatever is left is the test's concern.
		CheckInvariant(tb, w.Metrics())
	})
	return w
}

func MustStart(tb testing.TB, w *udsipc.Writer) {
	tb.Helper()
	if err := w.Start(); err != nil {
		tb.Fatal(err)
	}
}

func MustWriteMessage(tb testing.TB, w *udsipc.Writer, text string) {
	tb.Helper()
	if err := w.WriteMessage([]byte(text)); err != nil {
		tb.Fatal(err)
	}
}

// StartedWriter is newWriter, started.
func StartedWriter(t *testing.T, address string, opts ...udsipc.WriterOption) *udsipc.Writer {
	w := NewWriter(t, address, opts...)
	MustStart(t, w)
	return w
}

// CheckInvariant fails unless each accepted message is in exactly one counter.
func CheckInvariant(tb testing.TB, m udsipc.WriterMetrics) {
	tb.Helper()
	if sum := m.Sent + m.Dropped + m.Expired + m.Undelivered + m.Queued; m.Accepted != sum {
		tb.Errorf("accepted %d, but sent + dropped + expired + undelivered + queued is %d: %+v", m.Accepted, sum, m)
	}
	if (m.Queued == 0) != (m.QueuedBytes == 0) {
		tb.Errorf("%d messages queued of %d bytes", m.Queued, m.QueuedBytes)
	}
}

// StopAndTell stops a Writer of which nobody has flushed: the error tells of what was lost, if anything was.
func StopAndTell(tb testing.TB, w *udsipc.Writer) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := w.Stop(ctx)
	m := w.Metrics()
	gone := fmt.Sprintf("%d messages were not delivered, up to %d more may be lost",
		m.Undelivered+m.Dropped+m.Expired, m.PossiblyLost)
	switch {
	case strings.HasPrefix(gone, "0 ") && strings.Contains(gone, "to 0 "):
		if err != nil {
			tb.Errorf("Stop: %v", err)
		}
	case !errors.Is(err, udsipc.ErrStopped) || !strings.Contains(err.Error(), ": "+gone):
		tb.Errorf("Stop: %v, want %q", err, gone)
	}
}

// CheckAccounting fails if a message was lost in silence: each message that w accepted was handled, or
// is in a counter that says that it was not. It holds whatever happened to the connections, once the
// reader handles nothing any more. A message that the reader refused with a report counts as handled.
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

// CheckGracefulStop fails unless a graceful stop of the reader has split the messages of w exactly: each
// one was handled once, or is still in the queue.
func CheckGracefulStop(tb testing.TB, w *udsipc.Writer, handled uint64) {
	tb.Helper()
	m := w.Metrics()
	CheckInvariant(tb, m)
	if handled+m.Queued != m.Accepted {
		tb.Errorf("%d messages handled and %d queued of %d accepted: %+v", handled, m.Queued, m.Accepted, m)
	}
}
