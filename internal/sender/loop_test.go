// SPDX-License-Identifier: Apache-2.0

package sender

// A loop in plain mode, step by step. The test plays its peers, over connections in memory, with a fake clock.

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

func TestLoop_Messages_AreSentAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{})
		l.push("a", "b")
		l.noPeer()
		l.started()
		p := l.peer()
		l.noted("connecting", "connected")
		p.reads("\x01a\x01b")
		l.push("c")
		p.reads("\x01c")
		l.counted(loopCounts{Connections: 1, Writes: 2, WrittenBytes: 6})
		if current, _ := l.conns(); !l.Connected() || l.MessageLimit() != 1000 || !l.isCurrent(current) || current == nil {
			t.Error("it is not connected")
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		p.ends(wire.CloseReport{FirstUnread: 4, Limit: 9})
		l.noted("disconnected: udsipc: connection closed: EOF")
		if current, _ := l.conns(); l.Connected() || current != nil {
			t.Error("it is connected")
		}
		l.noPeer() // There is nothing to send.
		l.counted(loopCounts{Connections: 1, LostConnections: 1, Writes: 2, WrittenBytes: 6})
		go l.WaitConnected(t.Context()) // Ends with the connection.
		p = l.peer()
		l.noted("connecting", "connected")
		l.counted(loopCounts{Connections: 2, LostConnections: 1, Writes: 2, WrittenBytes: 6})
		p.ends(wire.CloseReport{FirstUnread: 1, Limit: 9})
		l.noted("disconnected: udsipc: connection closed: EOF")
		l.noPeer() // The request is over.
		l.stops(t.Context(), 0, "<nil>")
		l.noted("stopped")
		if err := l.Start(); err != errdefs.ErrStopped {
			t.Error(err)
		}
	})
}

func TestLoop_FirstConnection_NeedsNoMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{}).started()
		p := l.peer()
		l.noted("connecting", "connected")
		l.counted(loopCounts{Connections: 1})
		go io.Copy(io.Discard, p.Conn)                      // Ends with the connection.
		l.stops(t.Context(), 200*time.Millisecond, "<nil>") // The peer may have something to say.
		l.noted("stopped")
		l.counted(loopCounts{Connections: 1})
	})
}

// TestLoop_PeerCloses_ReportsLoss: what is not reported as read may be lost, and Flush and Stop say so once.
func TestLoop_PeerCloses_ReportsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{}).started()
		lose := func(messages int, report *wire.CloseReport) {
			t.Helper()
			for range messages {
				l.push("a")
			}
			p := l.peer()
			p.reads(strings.Repeat("\x01a", messages))
			if report != nil {
				p.ends(*report)
			} else {
				p.Conn.Close()
			}
			synctest.Wait()
		}
		lose(2, nil)
		l.noted("connecting", "connected",
			"write: possible loss of up to 2 messages: the peer ended the connection 0s after it began, without a goodbye; "+
				"2 messages had been sent on it: EOF",
			"disconnected: udsipc: connection closed: EOF")
		if err := l.Flush(t.Context()); !errors.Is(err, errdefs.ErrConnectionClosed) ||
			err.Error() != "udsipc: connection closed: up to 2 messages may be lost" {
			t.Error(err)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		lose(3, &wire.CloseReport{FirstUnread: 3, Limit: 9})
		l.noted("connecting", "connected",
			"write: possible loss of up to 1 message: the reader closed the connection and has not handled them: EOF",
			"disconnected: udsipc: connection closed: EOF")
		if got := l.Snapshot(); got.PossiblyLost != 3 || got.LostConnections != 2 {
			t.Errorf("%+v", got)
		}
		lose(1, &wire.CloseReport{Reason: wire.CloseUnauthorized, FirstUnread: 2, Limit: 9})
		l.noted("connecting", "connected",
			"dial: udsipc: peer is not authorized: the reader's authorizer rejects this process (its WithAuthorizer)",
			"disconnected: udsipc: connection closed: udsipc: peer is not authorized: the "+
				"reader's authorizer rejects this process (its WithAuthorizer)")
		l.stops(t.Context(), 0, "udsipc: stopped: up to 1 message may be lost")
		if err := l.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLoop_DialFails_BacksOff, reports it in growing steps, and goes on once it can connect.
func TestLoop_DialFails_BacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{MaxBackoff: time.Millisecond}, queue.Limits{})
		l.refuse(errors.New("no"))
		l.push("a")
		l.started()
		l.noted("connecting", "dial: no")
		time.Sleep(time.Second)
		synctest.Wait()
		attempts := l.Snapshot().DialErrors
		if attempts < 1000 || attempts != uint64(l.life.failures) {
			t.Errorf("%d attempts, %d failures in a row", attempts, l.life.failures)
		}
		l.refuse(nil)
		l.peer().reads("\x01a")
		synctest.Wait()
		l.noted("connected")
	})
}

// TestLoop_PeerTakesNothing_ReportsBackpressure, and goes on with the rest of the write.
func TestLoop_PeerTakesNothing_ReportsBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{}).started()
		p := l.peer()
		l.push("abc")
		time.Sleep(2500 * time.Millisecond)
		slow := func(n int) string {
			return fmt.Sprintf("write: %v: %d bytes were taken within 1s, waiting with the rest", errdefs.ErrBackpressure, n)
		}
		l.noted("connecting", "connected", slow(0), slow(0))
		p.reads("\x03a")
		time.Sleep(time.Second)
		l.noted(slow(2))
		p.reads("bc")
		l.noted()
		l.counted(loopCounts{Connections: 1, Writes: 4, WrittenBytes: 4, Backpressure: 3})
		l.reportSlowWrite()
		l.noted("write: " + errdefs.ErrBackpressure.Error() + ": a write has waited for 1s, waiting on")
		l.counted(loopCounts{Connections: 1, Writes: 4, WrittenBytes: 4, Backpressure: 4})
	})
}

// TestLoop_CutMessage_IsSentAgain from its first byte, and is given up after three connections and 5 s.
func TestLoop_CutMessage_IsSentAgain(t *testing.T) {
	for lived, conns := range map[time.Duration]int{2500 * time.Millisecond: 3, 2499 * time.Millisecond: 4} {
		synctest.Test(t, func(t *testing.T) {
			l := loopOf(t, Config{}, queue.Limits{}).started()
			l.push("poison", "b")
			for range conns {
				p := l.peer()
				p.reads("\x06po")
				time.Sleep(lived)
				p.Conn.Close()
				synctest.Wait()
			}
			l.peer().reads("\x01b")
			given := slices.Index(l.seen(), `undelivered "poison"`)
			want := fmt.Sprintf("write: udsipc: message too large for the reader: gave up a "+
				"message of 6 bytes: %d connections failed", conns)
			if given < 1 || !strings.HasPrefix(l.seen()[given-1], want) {
				t.Errorf("%q", l.seen())
			}
			if counts := l.queue.ReadCounts(); counts.Undelivered != 1 {
				t.Errorf("%+v", counts)
			}
		})
	}
}

// TestLoop_DroppedAndLost_AreReportedTogether by Stop, also if they are as many.
func TestLoop_DroppedAndLost_AreReportedTogether(t *testing.T) {
	l := loopOf(t, Config{DropOldest: true}, queue.Limits{Messages: 1, Bytes: 1 << 20})
	l.push("a", "b")
	l.counts.possiblyLost.Add(1)
	err := l.Stop(t.Context())
	if want := "; udsipc: stopped: 1 message was not delivered, up to 1 more may be lost"; err == nil ||
		!strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestLoop_Overflow_ReportsDropped, and what has become too old.
func TestLoop_Overflow_ReportsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{DropOldest: true, MaxAge: time.Minute, MaxBackoff: time.Hour},
			queue.Limits{Messages: 2, Bytes: 1 << 20})
		l.refuse(errors.New("no"))
		l.push("a", "b", "c", "d", "e")
		l.started()
		dropped := func(n int) string {
			return fmt.Sprintf("queue: udsipc: queue is full: 2 messages (WithMaxBufferedWrites): "+
				"the oldest %s dropped", errdefs.CountIs(uint64(n), "was", "were"))
		}
		l.noted(dropped(3), "connecting", "dial: no")
		l.push("f")
		time.Sleep(10 * time.Millisecond) // Until the next attempt at the latest.
		synctest.Wait()
		if !slices.Contains(l.seen(), dropped(1)) {
			t.Errorf("%q", l.seen())
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !slices.Contains(l.seen(), "queue: 2 messages were older than 1m0s (WithMaxAge), and dropped") {
			t.Errorf("%q", l.seen())
		}
		if err := l.Flush(t.Context()); err == nil ||
			!strings.Contains(err.Error(), "6 messages were not delivered") {
			t.Error(err)
		}
	})
}

// TestPollUntil_Condition_IsAskedLessAndLess often, up to every 5 ms.
func TestPollUntil_Condition_IsAskedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var times []time.Duration
		if !pollUntil(t.Context(), func() bool { times = append(times, time.Since(began)); return len(times) == 12 }) {
			t.Error("it gives up")
		}
		us := time.Microsecond
		if want := []time.Duration{
			0, 20 * us, 60 * us, 140 * us, 300 * us, 620 * us, 1260 * us, 2540 * us, 5100 * us,
			10100 * us, 15100 * us, 20100 * us,
		}; !slices.Equal(times, want) {
			t.Errorf("asked at %v, want %v", times, want)
		}
		for _, answer := range []bool{true, false} {
			ctx, asked := within(t, 15*us), 0
			if got := pollUntil(ctx, func() bool { asked++; return answer && asked == 2 }); got != answer || asked != 2 {
				t.Errorf("%v after %d questions", got, asked)
			}
		}
	})
}
