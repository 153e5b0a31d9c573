// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestLoop_StopForced_ReturnsMessages to the program, once.
func TestLoop_StopForced_ReturnsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{MaxBackoff: time.Hour}, queue.Limits{})
		l.refuse(errors.New("no"))
		l.push("a", "b")
		l.started()
		l.noted("connecting", "dial: no")
		l.stops(within(t, 2*time.Millisecond), 2*time.Millisecond,
			"2 messages were not delivered: no; context deadline exceeded")
		l.stops(t.Context(), 0, "<nil>")
		synctest.Wait()
		got := l.seen()
		if !slices.Contains(got, `undelivered "a"`) || !slices.Contains(got, `undelivered "b"`) ||
			!slices.Contains(got, "stopped") {
			t.Errorf("%q", l.seen())
		}
		if err := l.queue.EnqueueAndWake(nil); !errors.Is(err, errdefs.ErrStopped) {
			t.Error(err)
		}
		if err := l.WaitConnected(t.Context()); err != errdefs.ErrStopped {
			t.Error(err)
		}
	})
}

func TestLoop_StopBeforeStart_ReturnsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{})
		l.push("a")
		l.stops(t.Context(), 0, "1 message was not delivered: udsipc: not started: call Start")
		l.noted("stopped", `undelivered "a"`)
	})
}

// TestLoop_StopForcedInWrite_ReportsUnread: what the peer took may be read yet, the rest is returned.
func TestLoop_StopForcedInWrite_ReportsUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{})
		l.half = true
		l.started()
		p := l.peer()
		l.push("a", "b")
		p.reads("\x01a\x01b")
		l.push("c")
		synctest.Wait()
		l.stops(within(t, 500*time.Millisecond), 500*time.Millisecond,
			"1 message was not delivered: context deadline exceeded; up to 2 messages are with "+
				"the kernel, but not read by the peer yet: context deadline exceeded")
		l.noted("connecting", "connected", "stopped", `undelivered "c"`)
		l.stops(t.Context(), 0, "<nil>")
		if counts := l.Snapshot(); counts.LostConnections != 0 || counts.PossiblyLost != 0 {
			t.Errorf("%+v", counts)
		}
	})
}

// TestLoop_StopSlowReader_WaitsForReport and for everything that was accepted.
func TestLoop_StopSlowReader_WaitsForReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{}).started()
		p := l.peer()
		l.push("a", "b")
		go func() { // Ends with its steps.
			time.Sleep(300 * time.Millisecond)
			p.reads("\x01a\x01b")
			time.Sleep(150 * time.Millisecond)
			p.ends(wire.CloseReport{FirstUnread: 2, Limit: 9})
		}()
		l.stops(t.Context(), 450*time.Millisecond, "udsipc: stopped: up to 1 message may be lost")
		l.noted("connecting", "connected",
			"write: possible loss of up to 1 message: "+
				"the reader closed the connection and has not handled them: EOF", "stopped")
		l.counted(loopCounts{Connections: 1, Writes: 1, WrittenBytes: 4, PossiblyLost: 1})
	})
}
