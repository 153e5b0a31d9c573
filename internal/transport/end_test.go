// SPDX-License-Identifier: Apache-2.0

package transport_test

// The waits of a receiving connection, and its graceful close.

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

func TestIn_Waits_EndConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inOf(t, transport.Limits{IdleTimeout: 3 * time.Second}).wantTimeout(3 * time.Second)
		inOf(t, transport.Limits{
			IdleTimeout: 9 * time.Second, FirstMessageTimeout: 2 * time.Second,
		}).wantTimeout(2 * time.Second)
		in := inOf(t, transport.Limits{IdleTimeout: 9 * time.Second, MessageTimeout: 4 * time.Second})
		in.comes("\x05a")
		in.gives()
		time.Sleep(time.Second)
		in.comes("b")
		in.gives()
		in.wantEnd(4*time.Second, udsipc.ErrTooSlow)
		in = inOf(t, transport.Limits{})
		in.BeginSession(0, 0, 0, 2*time.Second)
		in.wantEnd(2*time.Second, udsipc.ErrHeartbeatTimeout)
	})
}

// TestIn_BusyForPeer_StaysOpen while this side is busy for the peer.
func TestIn_BusyForPeer_StaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{IdleTimeout: time.Second})
		asked := 0
		in.KeepOpenIf(func() bool { asked++; return asked < 4 })
		in.wantTimeout(4 * time.Second)
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestIn_ReadDeadline_EndsWait: that of its reader, set before a wait or in it, and taken back.
func TestIn_ReadDeadline_EndsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{IdleTimeout: 10 * time.Second})
		limit := func(after time.Duration) {
			t.Helper()
			if err := in.SetUserDeadline(time.Now().Add(after)); err != nil {
				t.Error(err)
			}
		}
		limit(2 * time.Second)
		in.wantTimeout(2 * time.Second)
		in.wantTimeout(0)
		limit(time.Second)
		time.AfterFunc(500*time.Millisecond, func() { limit(3 * time.Second) })
		in.wantTimeout(3500 * time.Millisecond)
		time.AfterFunc(500*time.Millisecond, func() { limit(time.Second) })
		limit(5 * time.Second)
		in.wantTimeout(1500 * time.Millisecond)
		if err := in.SetUserDeadline(time.Time{}); err != nil {
			t.Error(err)
		}
		in.wantTimeout(10 * time.Second)
	})
}

// TestIn_GracefulClose_ReadsTheRest: a goodbye, all that comes within a second of it, or five once
// something has come, and the report at the end.
func TestIn_GracefulClose_ReadsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 9})
		said := in.heard()
		in.comes(framed("a"))
		in.gives("a")
		time.AfterFunc(time.Second, func() { in.RequestClose(3); in.RequestClose(5) })
		in.wantEnd(2*time.Second, transport.ErrGracefulEnd)
		if !in.IsClosing() || in.IsHalted() {
			t.Error("it does not say that it is closing")
		}
		in.SendReport()
		in.SendReport()
		want := "\x00" + string(wire.CloseReport{Reason: 3, FirstUnread: 2, Limit: 9}.Append(nil))
		if got := said(); got != want {
			t.Errorf("it says % x, want % x", got, want)
		}

		in = inOf(t, transport.Limits{MaxMessageSize: 9})
		in.heard()
		in.RequestClose(0)
		go func() { // Ends with its steps.
			time.Sleep(900 * time.Millisecond)
			_, _ = in.peer.Write([]byte(framed("b")))
		}()
		if err := in.Fill(); err != nil {
			t.Error(err)
		}
		in.gives("b")
		time.Sleep(time.Hour) // The handler's time does not count.
		in.wantEnd(5*time.Second, transport.ErrGracefulEnd)

		in = inOf(t, transport.Limits{MaxMessageSize: 9})
		in.heard()
		in.RequestClose(0)
		go func() { // Ends with the connection.
			for {
				time.Sleep(900 * time.Millisecond)
				if _, err := in.peer.Write([]byte(framed("b"))); err != nil {
					return
				}
			}
		}()
		began := time.Now()
		for in.Fill() == nil {
			in.gives("b")
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it waits for %v in all", took)
		}
		in.Close()
		time.Sleep(time.Second)
	})
}

// TestIn_GracefulClose_BoundsBytes: what comes after the goodbye is bounded in bytes, too.
func TestIn_GracefulClose_BoundsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound, limit = 16 << 20, 1000
		in := inOf(t, transport.Limits{MaxMessageSize: limit, ReadSize: 1 << 20})
		in.heard()
		in.RequestClose(0)
		message := []byte(framed(string(make([]byte, limit))))
		piece := bytes.Repeat(message, 1000)
		go func() { // Ends with the connection.
			for {
				if _, err := in.peer.Write(piece); err != nil {
					return
				}
			}
		}()
		var err error
		for err == nil {
			if err = in.Fill(); err == nil {
				for ok := true; ok; {
					_, ok, _ = in.Next()
				}
			}
		}
		if got := int(in.Received())*len(message) + in.PartialBytes(); err != transport.ErrGracefulEnd ||
			got <= bound+limit || got > bound+limit+1<<20 {
			t.Errorf("%d bytes came before %v", got, err)
		}
	})
}

// TestIn_EveryEnd_ReportsReadOnce what it has read, once, in each way to end.
func TestIn_EveryEnd_ReportsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			what   string
			l      transport.Limits
			act    func(in testIn)
			report wire.CloseReport
		}{
			{"nothing came", transport.Limits{}, func(in testIn) { in.ReplyToEnd() }, wire.CloseReport{FirstUnread: 1}},
			{"rejected", transport.Limits{}, func(in testIn) { in.Reject(2) }, wire.CloseReport{Reason: 2, FirstUnread: 1}},
			{"rejected, then closed", transport.Limits{},
				func(in testIn) { in.Reject(2); in.RequestClose(1); in.Reject(1) },
				wire.CloseReport{Reason: 2, FirstUnread: 1}},
			{"two messages, and a third", transport.Limits{}, func(in testIn) {
				in.comes(framed("a") + framed("b") + framed("c"))
				in.Next()
				in.Next()
				in.ReplyToEnd()
				in.ReplyToEnd()
			}, wire.CloseReport{FirstUnread: 3}},
			{"one passed over", transport.Limits{MaxMessageSize: 3}, func(in testIn) {
				in.comes(framed("a") + framed("1234") + framed("c"))
				for range 4 {
					in.Next()
				}
				in.ReplyToEnd()
			}, wire.CloseReport{FirstUnread: 4, Skipped: 1, Limit: 3}},
			{"one passed over in part", transport.Limits{MaxMessageSize: 3}, func(in testIn) {
				in.comes(framed("a") + "\x04ab")
				for range 4 {
					in.Next()
				}
				in.ReplyToEnd()
			}, wire.CloseReport{FirstUnread: 2, Limit: 3}},
			{"inherited", transport.Limits{Inherited: true}, func(in testIn) {
				in.comes(framed("a") + framed("b") + framed("c") + "\x05")
				in.Next()
				in.ReplyToEnd()
			}, wire.CloseReport{Skipped: 2}},
		} {
			in := inOf(t, test.l)
			said := in.heard()
			test.act(in)
			if test.report.Limit == 0 {
				test.report.Limit = 1 << 30
			}
			if got, want := said(), "\x00"+string(test.report.Append(nil)); got != want {
				t.Errorf("%s: it says % x, want % x", test.what, got, want)
			}
		}
		in := inOf(t, transport.Limits{})
		said := in.heard()
		session := in.BeginSession(0, 0, 0, 0)
		in.ReplyToEnd()
		in.SendReport()
		in.SendReport()
		if err := session.Close(); err != nil {
			t.Error(err)
		}
		if got := said(); got != "\x00" {
			t.Errorf("in a session it says % x", got)
		}
	})
}

// TestIn_ReportUnread_TimesOut: the last words wait for a tenth of a second.
func TestIn_ReportUnread_TimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		began := time.Now()
		in.Reject(1)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("it waits for %v", took)
		}
	})
}

// TestIn_OversizedFirstMessage_IsWaitedForAsAny: the time for the first message bounds it, too.
func TestIn_OversizedFirstMessage_IsWaitedForAsAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 5, FirstMessageTimeout: 2 * time.Second, IdleTimeout: time.Minute})
		in.comes("\x06a")
		if _, ok, err := in.Next(); ok || !errors.Is(err, udsipc.ErrMessageTooLarge) {
			t.Errorf("%v, %v", ok, err)
		}
		in.gives()
		in.wantEnd(2*time.Second, udsipc.ErrTooSlow)
	})
}
