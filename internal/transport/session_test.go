// SPDX-License-Identifier: Apache-2.0

package transport_test

// A receiving connection as a session: its brief replies.

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestIn_BriefReplies_AreBounded: a rejected hello, and a heartbeat before the welcome.
func TestIn_BriefReplies_AreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		if got := in.RequiredHeartbeatTimeout(5); got != 5 {
			t.Errorf("%v", got)
		}
		if got := in.UnreadBytes(); got != 0 {
			t.Errorf("%d", got)
		}
		said := in.heard()
		in.SendHeartbeat()
		in.RejectSession(2)
		if got, want := said(), "\x80\x00"+string(wire.Welcome{Status: 2}.Append(nil)); got != want {
			t.Errorf("it says % x, want % x", got, want)
		}
		in = inOf(t, transport.Limits{})
		began := time.Now()
		in.RejectSession(2)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("it waits for %v", took)
		}
	})
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
	if got := in.RequiredHeartbeatTimeout(5); got != 0 {
		t.Errorf("%v", got)
	}
	if _, err := far.Write([]byte(framed("abc"))); err != nil {
		t.Fatal(err)
	}
	if got := in.UnreadBytes(); got != 4 && got != 0 {
		t.Errorf("%d bytes are unread", got)
	}
	if err := in.Fill(); err != nil {
		t.Fatal(err)
	}
	if data, ok, err := in.Next(); !ok || err != nil || string(data) != string(in.LastMessage()) ||
		cap(in.LastMessage()) != 3 || in.Counted().Reads != 1 {
		t.Errorf("%q, %v, %v; the last is %q", data, ok, err, in.LastMessage())
	}
	in.AbandonBuffer()
	if b := in.Buffered(); b != (transport.Buffered{}) {
		t.Errorf("%+v", b)
	}
}

// TestIn_SessionMark_IsRecognized by its first bytes, and by those alone.
func TestIn_SessionMark_IsRecognized(t *testing.T) {
	hello := wire.Hello{Writer: [16]byte{1, 2, 3}, Epoch: 1, FirstSeq: 1, HeartbeatTimeout: time.Second}
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		b := string(hello.Append(nil))
		in.comes(b[:5])
		in.gives()
		in.comes(b[5:20])
		if _, ok, err := in.Next(); ok || err != transport.ErrSessionPreface {
			t.Errorf("%v, %v", ok, err)
		}
		if _, whole, err := in.Hello(); whole || err != nil {
			t.Errorf("%v, %v", whole, err)
		}
		in.looks(512, 0, 20, 0, 21)
		in.comes(b[20:] + framed("a"))
		if h, whole, err := in.Hello(); h != hello || !whole || err != nil {
			t.Errorf("%+v, %v, %v", h, whole, err)
		}
		in.gives("a")
	})
	for _, before := range []string{framed("a"), ""} {
		synctest.Test(t, func(t *testing.T) {
			in := inOf(t, transport.Limits{Inherited: before == ""})
			in.comes(before + string(hello.Append(nil)))
			if before != "" {
				_, _, _ = in.Next()
			}
			if _, ok, err := in.Next(); ok || !errors.Is(err, udsipc.ErrInvalidLengthPrefix) {
				t.Errorf("after %q: %v, %v", before, ok, err)
			}
		})
	}
}

// TestIn_InvalidHello_IsError, and that it is there whole.
func TestIn_InvalidHello_IsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes(string(wire.Hello{}.Append(nil))) // Its attempt is 0.
		if _, whole, err := in.Hello(); !whole || !errors.Is(err, udsipc.ErrInvalidSession) {
			t.Errorf("%v, %v", whole, err)
		}
	})
}

// TestIn_Heartbeats_AreSkippedInSessions in a session. Elsewhere those are empty messages.
func TestIn_Heartbeats_AreSkippedInSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes("\x80\x00" + framed("a"))
		in.gives("", "a")
		go io.Copy(io.Discard, in.peer) // Ends with the connection.
		session := in.BeginSession(0, 0, 0, 0)
		in.comes("\x80\x00\x00" + framed("b") + "\x80\x00\x80")
		in.gives("", "b")
		in.comes("\x00")
		in.gives()
		if in.Received() != 4 {
			t.Errorf("%d messages", in.Received())
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	})
}
