// SPDX-License-Identifier: Apache-2.0

package sender

// A loop that goes on where an earlier process has ended, step by step.

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

// resumedOf is a loop that resumes, and notes what is handled.
func resumedOf(t *testing.T, first, sent, epoch uint64) *testLoop {
	t.Helper()
	var l *testLoop
	l = loopOf(t, Config{
		Acks: true, Writer: testWriter, Epoch: epoch, First: first,
		Handled: func(number uint64) { l.note(fmt.Sprintf("handled %d", number)) },
	}, queue.Limits{Messages: 100, Bytes: 1 << 20, First: first, Sent: sent})
	return l
}

// TestLoop_Resumed_GoesOn behind what the reader has handled, and with the next attempt.
func TestLoop_Resumed_GoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := resumedOf(t, 10, 20, 7<<32).started()
		p := l.peer()
		p.greets(7<<32, 10, 20, wire.Welcome{Handled: 12, Limit: 500})
		if err := l.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, known := l.Handled(); n != 12 || !known {
			t.Errorf("handled is %d, %v", n, known)
		}
		l.push("13", "14", "15")
		p.reads("\x0213\x0214\x0215")
		p.says(13)
		l.noted("connecting", "handled 12", "connected", "handled 13")
		p.Conn.Close()
		p = l.peer()
		p.greets(7<<32+1, 14, 20, wire.Welcome{Handled: 15, Limit: 500})
		l.noted("disconnected: udsipc: connection closed: EOF", "connecting", "handled 15", "connected")
		l.push("16")
		p.reads("\x0216")
		p.says(16)
		l.stops(t.Context(), 0, "<nil>")
		l.noted("handled 16", "stopped")
	})
}

// TestLoop_Resumed_JumpsOverOversized: it has a number.
func TestLoop_Resumed_JumpsOverOversized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := resumedOf(t, 10, 9, 1).started()
		l.push("large", "b")
		p := l.peer()
		p.greets(1, 10, 9, wire.Welcome{Handled: 9, Limit: 4})
		p = l.peer()
		p.greets(2, 11, 10, wire.Welcome{Handled: 10, Limit: 4})
		p.reads("\x01b")
		p.says(11)
		synctest.Wait()
		var handled []string
		for _, event := range l.seen() {
			if event[:4] == "hand" || event[:5] == "undel" {
				handled = append(handled, event)
			}
		}
		if got := fmt.Sprint(handled); got != `[undelivered "large" handled 10 handled 11]` {
			t.Errorf("%s", got)
		}
	})
}

// TestLoop_EarlyAcknowledgement_IsTold when the write has ended.
func TestLoop_EarlyAcknowledgement_IsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := resumedOf(t, 1, 0, 1).started()
		l.push("a", "bc")
		p := l.peer()
		p.greets(1, 1, 0, wire.Welcome{Limit: 9})
		p.reads("\x01a")
		time.Sleep(20 * time.Millisecond)
		p.says(1) // The write of both is under way.
		time.Sleep(20 * time.Millisecond)
		l.noted("connecting", "connected", "handled 1")
		p.reads("\x02bc")
		p.says(2)
		l.stops(t.Context(), 0, "<nil>")
		l.noted("handled 2", "stopped")
	})
}
