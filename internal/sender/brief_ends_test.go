// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestBriefEnds_Sequence_CountsAndReports the ends of connections: each step is one end, or a pause.
func TestBriefEnds_Sequence_CountsAndReports(t *testing.T) {
	const ms = time.Millisecond
	read := func(messages uint64) transport.Outcome {
		return transport.Outcome{Silent: true, Messages: messages + 100, Recent: messages, Lived: 3 * ms, Cause: io.EOF}
	}
	lost := func(messages uint64) transport.Outcome {
		end := read(messages)
		end.Lost = messages
		return end
	}
	rejected := transport.Outcome{Reason: wire.CloseUnauthorized, Messages: 1, Lived: ms, Cause: errdefs.ErrUnauthorized}
	later := transport.Outcome{Reason: 99, Lived: ms, Cause: io.EOF}
	large := transport.Outcome{Reason: wire.CloseTooLarge, Lived: ms}
	healthy := transport.Outcome{Messages: 5, Lived: ms}
	long := read(7)
	long.Lived = 2 * time.Second
	type step struct {
		end   transport.Outcome
		pause time.Duration
		own   bool
		lost  uint64 // Sum so far.
		says  string // Of the report, "" for none.
	}
	for name, steps := range map[string][]step{
		"read twice": {
			{end: read(2)},
			{end: read(3), lost: 5, says: "write: possible loss of up to 5 messages: the peer ended 2 connections in a row " +
				"without a goodbye, the last one 3ms after it began; 205 messages had been sent on them; " +
				"is it no Reader, or killed again and again? EOF"},
			{end: read(1), lost: 6},
			{end: read(1), lost: 7},
			{pause: time.Second, lost: 7, says: "up to 2 messages: the peer ended 4 connections"},
			{end: read(0), lost: 7},
			{pause: 4 * time.Second, lost: 7, says: "dial: the peer ended 5 connections"},
			{end: read(9), own: true, lost: 16, says: "up to 9 messages: the peer ended 6 connections"},
		},
		"read once": {{end: read(2)}, {pause: time.Hour}},
		"read once, then stopped": {
			{end: read(2)}, {end: read(3), own: true, lost: 5, says: "up to 5 messages: the peer ended 2 connections"},
		},
		"stopped":                     {{end: read(3), own: true}},
		"good, then stopped":          {{end: healthy}, {end: read(3), own: true}},
		"long, then stopped":          {{end: long}, {end: read(3), own: true}},
		"read before a good one":      {{end: read(2)}, {end: healthy}, {end: read(2)}},
		"read in two long ones":       {{end: long}, {end: long}, {end: long}},
		"read, a long one between":    {{end: read(2)}, {end: long}, {end: read(2)}},
		"nothing was sent":            {{end: read(0)}, {end: read(0), says: "dial: the peer ended 2 connections"}},
		"a reason of a later version": {{end: later}, {end: later, says: "dial: EOF; 2 connections in a row"}, {end: later}},
		"a message after the other":   {{end: large}, {end: large}, {end: large}}, // Each is reported by itself.
		"lost": {{
			end: lost(2), lost: 2, says: "the peer ended the connection 3ms after it began, without a goodbye; 102 messages",
		}},
		"lost again and again": {
			{end: lost(2), lost: 2, says: "up to 2 messages"}, {end: lost(1), lost: 3}, {end: lost(1), lost: 4},
			{end: healthy, lost: 4, says: "up to 2 messages: the peer ended 3 connections"},
		},
		"rejected": {
			{end: rejected, says: "dial: udsipc: peer is not authorized"}, {end: rejected}, {end: rejected},
			{pause: time.Second, says: "authorized; 3 connections in a row, the last one for 1ms; 3 messages"},
			{end: lost(1), lost: 1, says: "the peer ended the connection"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := loopOf(t, Config{}, queue.Limits{})
				for i, s := range steps {
					if s.pause > 0 {
						time.Sleep(s.pause)
						l.reportBriefEnds(false)
					} else {
						l.noteEnd(s.end, s.own)
					}
					if got := l.Snapshot().PossiblyLost; got != s.lost {
						t.Errorf("step %d: %d messages are possibly lost, want %d", i, got, s.lost)
					}
					l.reportsOnce(fmt.Sprintf("step %d", i), s.says)
				}
			})
		})
	}
}

// reportsOnce checks that text was reported since the last call, or nothing for an empty text.
func (l *testLoop) reportsOnce(where, text string) {
	l.Helper()
	got := l.takeNotes()
	if text == "" && len(got) > 0 || text != "" && (len(got) != 1 || !strings.Contains(got[0], text)) {
		l.Errorf("%s: reported %q, want %q", where, got, text)
	}
}

// takeNotes returns what was noted since the last call.
func (l *testLoop) takeNotes() (notes []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	notes, l.events = l.events, nil
	return notes
}

// TestLoop_SilentPeer_IsReportedInTime: a summary that is not due yet comes while the loop waits.
func TestLoop_SilentPeer_IsReportedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{}).started()
		for range 5 {
			l.push("a")
			p := l.peer()
			p.reads("\x01a")
			p.Conn.Close()
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		var reports []string
		for _, note := range l.takeNotes() {
			if strings.HasPrefix(note, "write: ") {
				reports = append(reports, note)
			}
		}
		want := "possible loss of up to 4 messages: the peer ended 5 connections"
		if len(reports) != 2 || !strings.Contains(reports[1], want) {
			t.Errorf("%q", reports)
		}
		if err := l.Flush(t.Context()); !errors.Is(err, errdefs.ErrConnectionClosed) ||
			!strings.Contains(err.Error(), "up to 5 messages may be lost") {
			t.Error(err)
		}
	})
}

// TestLoop_IdleConnections_ProveNothing: those that WaitConnected makes are no reason to trust a peer, or to accuse it.
func TestLoop_IdleConnections_ProveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{}).started()
		hangUp := func(messages string) {
			p := l.peer()
			p.reads(messages)
			p.Conn.Close()
			synctest.Wait()
		}
		l.push("a")
		hangUp("\x01a")
		if err := l.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		hangUp("")
		l.takeNotes()
		l.push("b")
		hangUp("\x01b")
		time.Sleep(firstReportInterval)
		if notes := strings.Join(l.takeNotes(), "\n"); !strings.Contains(notes, "the peer ended 2 connections in a row") {
			t.Errorf("%q", notes)
		}
	})
}

// TestLoop_CallbackGoexit_LosesNoCount: the report of earlier ends may be the last that the goroutine does.
func TestLoop_CallbackGoexit_LosesNoCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{})
		silent := transport.Outcome{Silent: true, Messages: 2, Lost: 2, Cause: io.EOF}
		l.noteEnd(silent, false)
		l.noteEnd(silent, false)
		l.Loop.events.Report = func(string, error) { runtime.Goexit() }
		done := make(chan struct{})
		go func() { // Ends within noteEnd.
			defer close(done)
			l.noteEnd(transport.Outcome{Reason: wire.CloseUnauthorized, Messages: 3, Lost: 3, Cause: io.EOF}, false)
		}()
		<-done
		if got := l.Snapshot().PossiblyLost; got != 7 {
			t.Errorf("%d messages are possibly lost, want 7", got)
		}
	})
}

// TestLoop_BusyQueue_ReportsInTime: a summary comes also while the queue is never empty.
func TestLoop_BusyQueue_ReportsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{}).started()
		for range 3 {
			l.push("a")
			p := l.peer()
			p.reads("\x01a")
			p.Conn.Close()
			synctest.Wait()
		}
		l.takeNotes()
		l.push("b")
		p := l.peer()
		for range 20 {
			l.push("b")
			time.Sleep(100 * time.Millisecond)
			p.reads("\x01b")
		}
		if notes := l.takeNotes(); !strings.Contains(strings.Join(notes, "\n"), "possible loss of up to 2 messages") {
			t.Errorf("%q", notes)
		}
	})
}

// TestBriefEnds_Taken_StopsTimer: a timer of ten minutes would keep the queue of a stopped loop in memory.
func TestBriefEnds_Taken_StopsTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{})
		for range 3 {
			l.noteEnd(transport.Outcome{Silent: true, Lost: 1, Cause: io.EOF}, false)
		}
		timer := l.brief.timer
		if timer == nil {
			t.Fatal("no timer is set")
		}
		l.reportBriefEnds(true)
		if timer.Stop() || l.brief.timer != nil {
			t.Error("the timer runs on")
		}
	})
}

// TestLoop_EndingPeerStays_IsReported: nothing is sent until the peer has closed, which may take for ever.
func TestLoop_EndingPeerStays_IsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{})
		l.half = true
		l.started()
		l.push("a")
		p := l.peer()
		p.reads("\x01a")
		p.says(0)
		time.Sleep(time.Hour)
		l.noted("connecting", "connected", "write: "+errdefs.ErrBackpressure.Error()+
			": it ends the connection, and has not closed it for 1s, waiting")
		p.Conn.Close()
		l.push("b")
		l.peer().reads("\x01b")
	})
}
