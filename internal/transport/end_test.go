// SPDX-License-Identifier: Apache-2.0

package transport_test

// How a connection that is read from comes to its end, and what it says then.

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// heard collects what the connection says to its peer, until that is asked for.
func (in testIn) heard() func() string {
	said := make(chan string, 1)
	go func() { // Ends with the connection.
		b, _ := io.ReadAll(in.peer)
		said <- string(b)
	}()
	return func() string {
		in.Helper()
		in.Close()
		return <-said
	}
}

// wantEnd wants a Fill to end with an error, after so long.
func (in testIn) wantEnd(after time.Duration, want error) {
	in.Helper()
	began := time.Now()
	err := in.Fill()
	if took := time.Since(began); !errors.Is(err, want) || took != after {
		in.Errorf("ended with %v after %v, want %v after %v", err, took, want, after)
	}
}

func (in testIn) wantTimeout(after time.Duration) {
	in.Helper()
	began := time.Now()
	if err := in.Fill(); !isTimeoutError(err) || time.Since(began) != after {
		in.Errorf("ended with %v after %v, want a timeout after %v", err, time.Since(began), after)
	}
}

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

// TestIn_NotASocket_CannotBeHandedOver if it is no socket.
func TestIn_NotASocket_CannotBeHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		if err := in.HandOverError(); err != nil {
			t.Error(err)
		}
		in.RequestHandOver()
		if err := in.HandOverError(); err == nil || err.Error() != "not a plain Unix or TCP socket (TLS or in-memory)" {
			t.Error(err)
		}
		if !in.IsClosing() {
			t.Error("it stays open")
		}
	})
}

// mayBeRepeated says whether an earlier reader may have handled the last message.
func mayBeRepeated(s *transport.AckSender) bool { return s.MayRepeat() && s.IsRedelivered() }

// TestAckSender_HandledMessages_AreAcknowledged what is handled: when it waits, after so many
// messages or bytes, or so long, and at the end.
func TestAckSender_HandledMessages_AreAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 1000})
		heard := make(chan string, 100)
		go func() { // Ends with the connection.
			for b := make([]byte, 100); ; {
				n, err := in.peer.Read(b)
				if err != nil {
					return
				}
				heard <- string(b[:n])
			}
		}()
		hears := func(want ...string) {
			t.Helper()
			synctest.Wait()
			for _, want := range want {
				select {
				case got := <-heard:
					if got != want {
						t.Errorf("it says % x, want % x", got, want)
					}
				default:
					t.Errorf("it does not say % x", want)
				}
			}
			select {
			case got := <-heard:
				t.Errorf("it says % x", got)
			default:
			}
		}
		s := in.BeginSession(10, 12, 0, 3*time.Second)
		if !in.IsAcknowledged() || s.Seq() != 10 {
			t.Error("no session")
		}
		s.SendWelcome()
		hears(string(wire.Welcome{Handled: 10, Limit: 1000, HeartbeatTimeout: 3 * time.Second}.Append(nil)))
		in.SendAck()
		hears()
		in.comes(framed("a") + framed("b") + framed("c") + framed("d"))
		hears()
		s.BeforeBatch()
		in.Next()
		if s.Seq() != 11 || !mayBeRepeated(s) {
			t.Errorf("message %d", s.Seq())
		}
		s.BeforeMessage()
		time.Sleep(10 * time.Millisecond)
		hears() // The first one is being handled.
		in.Next()
		if s.Seq() != 12 || !mayBeRepeated(s) {
			t.Errorf("message %d", s.Seq())
		}
		time.Sleep(10 * time.Millisecond)
		hears("\x0b")
		time.Sleep(10 * time.Millisecond)
		hears()
		in.Next()
		if first, second := mayBeRepeated(s), mayBeRepeated(s); first || second {
			t.Errorf("message %d may be repeated", s.Seq())
		}
		s.MarkFailed()
		s.AfterBatch()
		hears()
		in.SendAck()
		hears("\x0c")
		s.MarkHandled()
		in.SendAck()
		hears("\x0d")
		time.Sleep(time.Second)
		hears()
		in.Next()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		hears("\x0e")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		hears()
		if c := in.Counted().Acknowledged; c != 4 {
			t.Errorf("%d acknowledged", c)
		}
	})
}

// TestAckSender_Acknowledges_EveryCount: after 2,048 messages, all but the one that is about to be handled.
func TestAckSender_Acknowledges_EveryCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{ReadSize: 1 << 20})
		in.heard()
		s := in.BeginSession(0, 0, 0, 0)
		in.sends(string(make([]byte, 20_000))) // Empty messages.
		counted, hits := 0, 0
		for in.Received() < 20_000 {
			if err := in.Fill(); err != nil {
				t.Fatal(err)
			}
			for {
				if _, ok, _ := in.Next(); !ok {
					break
				}
				want := in.Counted().Acknowledged
				if counted++; counted%2048 == 0 {
					want = max(want, in.Received()-1)
					hits++
				}
				s.BeforeMessage()
				if got := in.Counted().Acknowledged; got != want {
					t.Fatalf("%d are acknowledged at message %d, want %d", got, counted, want)
				}
			}
		}
		if hits != 9 {
			t.Errorf("%d times", hits)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestAckSender_Acknowledges_AfterLargeReads: at once after a read of 256 KiB, and otherwise before the next wait.
func TestAckSender_Acknowledges_AfterLargeReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{ReadSize: 1 << 20})
		in.heard()
		s := in.BeginSession(0, 0, 0, 0)
		message := framed(string(make([]byte, 1022))) // 1 KiB.
		in.sends(strings.Repeat(message, 4<<10))
		small, large := 0, 0
		for read := 0; read < 4<<20; {
			if err := in.Fill(); err != nil {
				t.Fatal(err)
			}
			before, bytes := in.Counted().Acknowledged, int(in.Counted().ReceivedBytes)-read
			read += bytes
			s.BeforeBatch()
			for ok := true; ok; {
				_, ok, _ = in.Next()
			}
			s.AfterBatch()
			want := before
			if bytes >= 256<<10 {
				want = in.Received()
				large++
			} else {
				small++
			}
			if got := in.Counted().Acknowledged; got != want {
				t.Errorf("%d are acknowledged after a read of %d bytes, want %d", got, bytes, want)
			}
		}
		if small == 0 || large == 0 {
			t.Errorf("%d small reads and %d large ones", small, large)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestAckSender_Heartbeats_KeepWriterInterval as often as the writer wants to hear something.
func TestAckSender_Heartbeats_KeepWriterInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		said := in.heard()
		s := in.BeginSession(0, 0, time.Second, 0)
		time.Sleep(3500 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		if got := said(); got != "\x80\x00\x80\x00\x80\x00" {
			t.Errorf("it says % x", got)
		}
	})
}

// TestAckSender_UnreadAcks_TimeOut ends after a second.
func TestAckSender_UnreadAcks_TimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		s := in.BeginSession(0, 0, 0, 0)
		in.comes(framed("a"))
		began := time.Now()
		in.Next()
		err := s.Close()
		if !errors.Is(err, udsipc.ErrBackpressure) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if !in.IsHalted() {
			t.Error("the connection goes on")
		}
	})
}

// TestAckSender_NothingNew_SendsNothing between what it handles, and after its end, whatever comes.
func TestAckSender_NothingNew_SendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		said := in.heard()
		s := in.BeginSession(0, 0, 25*time.Millisecond, 0)
		in.comes(framed("a") + framed("b") + framed("c"))
		s.BeforeBatch()
		in.Next()
		in.Next()
		s.AfterBatch()
		time.Sleep(20 * time.Millisecond) // Nobody handles anything: the timer says nothing of it.
		if got := in.Counted().Acknowledged; got != 0 {
			t.Errorf("%d are acknowledged", got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		in.Next()
		s.BeforeBatch()
		in.SendAck()
		time.Sleep(time.Second)
		if got := said(); got != "\x02" {
			t.Errorf("it says % x", got)
		}
	})
}

// TestReadCounts_Add_SumsEach each to its own.
func TestReadCounts_Add_SumsEach(t *testing.T) {
	got := transport.ReadCounts{Received: 1, ReceivedBytes: 2, Reads: 3, Acknowledged: 4}
	got.Add(transport.ReadCounts{Received: 10, ReceivedBytes: 20, Reads: 30, Acknowledged: 40})
	if want := (transport.ReadCounts{Received: 11, ReceivedBytes: 22, Reads: 33, Acknowledged: 44}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
