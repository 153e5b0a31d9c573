// SPDX-License-Identifier: Apache-2.0

package receiver

// The parts of a server, each by itself.

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

func TestConnTable_Limits_AreChecked(t *testing.T) {
	table := newConnTable(3, 2)
	add := func(user, full string) *connection {
		t.Helper()
		c := &connection{user: user}
		err := table.addLocked(c)
		if (err != nil) != (full != "") || err != nil && (!errors.Is(err, errdefs.ErrTooManyConnections) ||
			!strings.HasSuffix(err.Error(), full)) || c.rejected != (full != "") {
			t.Errorf("%v, rejected %v, want %q", err, c.rejected, full)
		}
		return c
	}
	a := add("uid 1", "")
	b := add("uid 1", "")
	over := add("uid 1", ": 2 of uid 1 are open (WithMaxConnectionsPerUser)")
	c := add("", "")
	last := add("uid 2", ": 3 are open (WithMaxConnections)")
	if a.peer.ID != 1 || last.peer.ID != 5 || len(table.all) != 5 || table.rejecting != 2 {
		t.Errorf("%d, %d, %+v", a.peer.ID, last.peer.ID, table)
	}
	for _, conn := range []*connection{over, last, a, b, c} {
		table.removeLocked(conn)
	}
	if len(table.all) != 0 || table.rejecting != 0 || len(table.users) != 0 {
		t.Errorf("%+v", table)
	}
	for range 3 { // Without a user, only the limit of all counts.
		add("", "")
	}
	add("", ": 3 are open (WithMaxConnections)")
	table.signalConnEnded()
	table.signalConnEnded()
	if len(table.connEnded) != 1 {
		t.Error("the end of a connection is not told once")
	}
}

func TestRedeliveryPause_Failures_Grow(t *testing.T) {
	var pauses []time.Duration
	for failures := 1; failures < 8; failures++ {
		pauses = append(pauses, redeliveryPause(failures)/time.Millisecond)
	}
	if want := []time.Duration{10, 40, 160, 640, 1000, 1000, 1000}; !slices.Equal(pauses, want) {
		t.Errorf("%d ms, want %d", pauses, want)
	}
	a := attempts{seq: 3, count: 2}
	if a.countFor(3) != 2 || a.countFor(2) != 0 {
		t.Error("attempts at one message count for another")
	}
}

// A deadlineListener notes the deadlines that are set.
type deadlineListener struct {
	net.Listener // nil; what is not below is not called.
	deadlines    []time.Time
	err          error
}

func (l *deadlineListener) SetDeadline(deadline time.Time) error {
	l.deadlines = append(l.deadlines, deadline)
	return l.err
}

func TestHealthCheck_Loop_MustReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealthCheck()
		stopping := make(chan struct{})
		responds := func(want bool, after time.Duration) {
			t.Helper()
			began := time.Now()
			if got := h.responds(time.Second, stopping); got != want || time.Since(began) != after {
				t.Errorf("%v after %v, want %v after %v", got, time.Since(began), want, after)
			}
		}
		responds(true, 0) // Before it begins.
		h.begin(struct{ net.Listener }{})
		responds(true, 0) // A listener that cannot be woken.
		l := &deadlineListener{}
		h.begin(l)
		if h.reply() {
			t.Error("it replies to nothing")
		}
		responds(false, time.Second)
		responds(false, time.Second)
		if want := []time.Time{
			transport.PastDeadline, transport.PastDeadline,
		}; !slices.Equal(l.deadlines, want) || len(h.asked) != 1 {
			t.Errorf("deadlines are %v", l.deadlines)
		}
		if !h.reply() || h.reply() || !l.deadlines[2].IsZero() || len(l.deadlines) != 3 {
			t.Errorf("deadlines are %v", l.deadlines)
		}
		responds(false, time.Second) // That reply was to an earlier one.
		time.AfterFunc(300*time.Millisecond, func() { h.reply() })
		responds(true, 300*time.Millisecond)
		time.AfterFunc(300*time.Millisecond, func() { close(stopping) })
		responds(true, 300*time.Millisecond)
		l.err = errors.New("closed")
		responds(true, 0)
		l.err = nil
		h.end()
		count := len(l.deadlines)
		if !h.reply() || len(l.deadlines) != count { // That of the last one but one.
			t.Error("a deadline is set after the end")
		}
		responds(true, 0)
	})
}
