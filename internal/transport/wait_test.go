// SPDX-License-Identifier: Apache-2.0

package transport_test

// How long a connection waits for its peer, and what it means that it was too long.

import (
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/transport"
)

// wantWait wants a wait to be too long after so many seconds, for a reason; never after -1.
func wantWait(t *testing.T, w *transport.Waits, at transport.ReadState, seconds float64, match error, text string) {
	t.Helper()
	after, reason := w.TooLong(at)
	want := time.Duration(seconds * float64(time.Second))
	if seconds < 0 {
		want = -1
	}
	if after != want || match == nil && reason != nil ||
		match != nil && (!errors.Is(reason, match) || !strings.Contains(reason.Error(), text)) {
		t.Errorf("%+v: %v, %v; want %v, %v %s", at, after, reason, want, match, text)
	}
}

func TestWaits_Inactivity_TimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wantWait(t, transport.NewWaits(0, 0, 0, 0), transport.ReadState{}, -1, nil, "")
		w := transport.NewWaits(10*time.Second, 0, 0, 0)
		time.Sleep(5 * time.Second)
		wantWait(t, w, transport.ReadState{}, 10, nil, "")
		time.Sleep(time.Second)
		wantWait(t, w, transport.ReadState{}, 9, nil, "") // The same wait goes on.
		wantWait(t, w, transport.ReadState{Partial: 3}, 9, nil, "")
		w.Over()
		wantWait(t, w, transport.ReadState{}, 10, nil, "")
		time.Sleep(time.Second)
		w.Restart()
		wantWait(t, w, transport.ReadState{}, 10, nil, "")
	})
}

// TestWaits_Heartbeats_KeepSession: heartbeats keep it open, and do not count as messages.
func TestWaits_Heartbeats_KeepSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := transport.NewWaits(10*time.Second, 4*time.Second, 0, 0)
		wantWait(t, w, transport.ReadState{Received: 1}, 4, udsipc.ErrHeartbeatTimeout,
			"nothing came for 4s (WithHeartbeatTimeout)")
		time.Sleep(3 * time.Second)
		w.Over()
		wantWait(t, w, transport.ReadState{Received: 1}, 4, udsipc.ErrHeartbeatTimeout, "")
		time.Sleep(4 * time.Second)
		w.Over()
		wantWait(t, w, transport.ReadState{Received: 1}, 3, nil, "") // Ten after the message.
		w.Over()
		wantWait(t, w, transport.ReadState{Received: 2}, 4, udsipc.ErrHeartbeatTimeout, "")
		wantWait(t, transport.NewWaits(0, time.Second, 0, 0), transport.ReadState{}, 1, udsipc.ErrHeartbeatTimeout, "")
	})
}

// TestWaits_FirstMessage_CountsFromAccept from the beginning to its end, whatever comes in between.
func TestWaits_FirstMessage_CountsFromAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := transport.NewWaits(time.Minute, 0, 10*time.Second, 0)
		time.Sleep(time.Second)
		wantWait(t, w, transport.ReadState{Untried: true}, 9, nil, "")
		wantWait(t, w, transport.ReadState{Untried: true, Partial: 1}, 9, udsipc.ErrTooSlow,
			"first message incomplete after 10s (WithFirstMessageTimeout)")
		wantWait(t, w, transport.ReadState{Untried: true, Refused: 1, Skip: 1}, 9,
			udsipc.ErrTooSlow, "first message incomplete")
		w.Over()
		wantWait(t, w, transport.ReadState{Untried: true, Refused: 1}, 60, nil, "")
		wantWait(t, w, transport.ReadState{Untried: true, Received: 1}, 60, nil, "")
		wantWait(t, w, transport.ReadState{Untried: true, Received: 1, Refused: 1, Skip: 1}, 60, nil, "")
		wantWait(t, w, transport.ReadState{}, 60, nil, "")
		time.Sleep(5 * time.Second)
		w.Restart()
		wantWait(t, w, transport.ReadState{Untried: true}, 10, nil, "")
	})
}

// TestWaits_Message_CountsFromFirstByte from its first byte to its last.
func TestWaits_Message_CountsFromFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := transport.NewWaits(0, 0, 0, 3*time.Second)
		wantWait(t, w, transport.ReadState{}, -1, nil, "")
		wantWait(t, w, transport.ReadState{Partial: 5}, 3, udsipc.ErrTooSlow,
			"message incomplete after 3s: 5 bytes received (WithMessageTimeout)")
		time.Sleep(time.Second)
		wantWait(t, w, transport.ReadState{Partial: 9}, 2, udsipc.ErrTooSlow, "9 bytes received")
		wantWait(t, w, transport.ReadState{Received: 1, Partial: 1}, 3, udsipc.ErrTooSlow, "")
		time.Sleep(time.Second)
		wantWait(t, w, transport.ReadState{Received: 1, Refused: 1, Skip: 77}, 2, udsipc.ErrTooSlow,
			"a message over the limit has not come to its end 3s after its first byte, 77 bytes "+
				"are missing (WithMessageTimeout)")
		wantWait(t, w, transport.ReadState{Received: 1, Refused: 1}, -1, nil, "")
		wantWait(t, w, transport.ReadState{Received: 1, Refused: 2, Skip: 7}, 3, udsipc.ErrTooSlow, "")
		time.Sleep(time.Second)
		wantWait(t, w, transport.ReadState{Received: 1, Refused: 2, Partial: 1}, 3, udsipc.ErrTooSlow, "")
		w.Restart()
		time.Sleep(time.Second)
		wantWait(t, w, transport.ReadState{Received: 1, Refused: 2, Partial: 1}, 3, udsipc.ErrTooSlow, "")
		wantWait(t, w, transport.ReadState{Received: 1, Refused: 2}, -1, nil, "")
		time.Sleep(time.Second)
		// A heartbeat was in between, which is no message.
		wantWait(t, w, transport.ReadState{Received: 1, Refused: 2, Partial: 1}, 3, udsipc.ErrTooSlow, "")
		earliest := transport.NewWaits(2*time.Second, 0, time.Second, 3*time.Second)
		wantWait(t, earliest, transport.ReadState{Partial: 1, Untried: true}, 1, udsipc.ErrTooSlow, "first message")
		wantWait(t, earliest, transport.ReadState{Partial: 1}, 2, nil, "")
	})
}

// TestWaits_HeldMemory_IsReleasedForOthers: while others wait for it, nobody keeps it for ever.
func TestWaits_HeldMemory_IsReleasedForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := transport.NewWaits(0, 0, 0, 0)
		at := transport.ReadState{Partial: 1, Holding: true}
		wantWait(t, w, at, 2, transport.ErrHoldsMemory, "")
		time.Sleep(time.Minute)
		wantWait(t, w, at, 2, transport.ErrHoldsMemory, "")
		w.Restart()
		at.Contested = true
		wantWait(t, w, at, 2, transport.ErrHoldsMemory, "")
		time.Sleep(30 * time.Second)
		wantWait(t, w, at, 2, transport.ErrHoldsMemory, "")
		time.Sleep(time.Nanosecond)
		wantWait(t, w, at, 0, transport.ErrHoldsMemory, "")
		bounded := transport.NewWaits(0, 0, 0, time.Hour)
		wantWait(t, bounded, at, 2, transport.ErrHoldsMemory, "")
		time.Sleep(time.Minute)
		wantWait(t, bounded, at, 2, transport.ErrHoldsMemory, "")
		at.Holding = false
		wantWait(t, bounded, at, 3600-60, udsipc.ErrTooSlow, "")
	})
}

// A deadlineConn counts how often its read deadline is set.
type deadlineConn struct {
	net.Conn
	set int
}

func (c *deadlineConn) SetReadDeadline(deadline time.Time) error {
	c.set++
	return c.Conn.SetReadDeadline(deadline)
}

// TestIn_ManyWaits_SetFewDeadlines: a connection whose messages come in time sets a deadline rarely, and
// still waits as long as it should for the next one.
func TestIn_ManyWaits_SetFewDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle, messages = 10 * time.Second, 100
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		conn := &deadlineConn{Conn: near}
		in := transport.NewIn(conn, transport.Limits{MaxMessageSize: 100, ReadSize: 4 << 10, IdleTimeout: idle},
			&testMemory{Left: 1 << 30})
		go func() { // Ends with the last message.
			for range messages {
				time.Sleep(100 * time.Millisecond)
				_, _ = far.Write([]byte(framed("message")))
			}
		}()
		for i := range messages {
			if err := in.Fill(); err != nil {
				t.Fatal(i, err)
			}
			if _, ok, err := in.Next(); !ok || err != nil {
				t.Fatal(i, ok, err)
			}
		}
		if conn.set > messages/10 {
			t.Errorf("%d deadlines for %d messages", conn.set, messages)
		}
		began := time.Now()
		if err := in.Fill(); !isTimeoutError(err) || time.Since(began) != idle {
			t.Errorf("%v after %v, want a timeout after %v", err, time.Since(began), idle)
		}
		// A deadline that is sooner counts at once, and one that is taken back does not.
		if err := in.SetUserDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := in.SetUserDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if err := in.Fill(); !isTimeoutError(err) || time.Since(began) != idle {
			t.Errorf("%v after %v, want a timeout after %v", err, time.Since(began), idle)
		}
	})
}
