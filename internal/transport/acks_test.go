// SPDX-License-Identifier: Apache-2.0

package transport_test

// The acknowledgements and heartbeats of a session's reader.

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

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
