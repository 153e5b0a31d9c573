// SPDX-License-Identifier: Apache-2.0

package transport_test

// The timers of a session's reader.

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/transport"
)

// TestAckSender_MayRepeat_UpToSeq knows whether there is anything to ask.
func TestAckSender_MayRepeat_UpToSeq(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, through := range []uint64{0, 1, 2} {
			s := inOf(t, transport.Limits{}).BeginSession(0, through, 0, 0)
			if s.MayRepeat() != (through > 0) {
				t.Errorf("up to %d: %v", through, s.MayRepeat())
			}
		}
	})
}

// TestAckSender_ManyBatches_AreAcknowledgedInTime: the time begins with the first batch, not with each.
func TestAckSender_ManyBatches_AreAcknowledgedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		s := in.BeginSession(0, 0, 0, 0)
		in.comes(framed("a") + framed("b"))
		s.BeforeBatch()
		in.Next()
		s.AfterBatch()
		time.Sleep(6 * time.Millisecond)
		s.BeforeBatch()
		in.Next()
		b := make([]byte, 9)
		began := time.Now()
		_ = in.peer.SetReadDeadline(began.Add(time.Hour))
		if n, err := in.peer.Read(b); string(b[:n]) != "\x01" || time.Since(began) != 4*time.Millisecond {
			t.Errorf("it says % x, %v after %v", b[:n], err, time.Since(began))
		}
		s.AfterBatch()
		if n, err := in.peer.Read(b); n > 0 {
			t.Errorf("it says % x, %v while nothing is handled", b[:n], err)
		}
	})
}

// TestAckSender_TimersWhileItWrites wait for the next time.
func TestAckSender_TimersWhileItWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		s := in.BeginSession(0, 0, 30*time.Millisecond, 0)
		in.comes(framed("a") + framed("b") + framed("c"))
		s.BeforeBatch()
		in.Next()
		go in.SendAck() // Ends when it is read.
		time.Sleep(100*time.Millisecond - 1)
		said := make(chan string, 1)
		go func() { // Ends with the connection.
			b, _ := io.ReadAll(in.peer)
			said <- string(b)
		}()
		synctest.Wait()
		in.Next()
		in.Next()
		time.Sleep(2 * time.Nanosecond) // The timer of acknowledgements.
		synctest.Wait()
		if got := in.Counted().Acknowledged; got != 2 {
			t.Errorf("%d are acknowledged", got)
		}
		time.Sleep(20 * time.Millisecond) // That of heartbeats.
		synctest.Wait()
		in.Close()
		if got, want := <-said, "\x01\x02\x80\x00"; got != want {
			t.Errorf("it says % x, want % x", got, want)
		}
		if err := s.Close(); err == nil {
			t.Error("the last acknowledgement was sent")
		}
	})
}

// TestAckSender_Closed_StopsTimers, also one that fires at that moment.
func TestAckSender_Closed_StopsTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.heard()
		s := in.BeginSession(0, 0, time.Second, 0)
		in.comes(framed("a"))
		s.BeforeBatch()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if ack, heartbeat := s.StopTimers(); ack || heartbeat {
			t.Errorf("set after the end: acknowledgements %v, heartbeats %v", ack, heartbeat)
		}
		if ack, heartbeat := s.LateTimers(); ack || heartbeat {
			t.Errorf("set after they fired late: acknowledgements %v, heartbeats %v", ack, heartbeat)
		}
	})
}

// TestAckSender_WriteFails_SendsNoMore: the error stays, and later acknowledgements are not counted.
func TestAckSender_WriteFails_SendsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		s := in.BeginSession(0, 0, 0, 0)
		in.comes(framed("a") + framed("b"))
		in.Next()
		began := time.Now()
		in.SendAck() // Nobody reads it.
		in.Next()
		if err := s.Close(); !errors.Is(err, udsipc.ErrBackpressure) ||
			!strings.HasSuffix(err.Error(), "writing an acknowledgement timed out after 1s") {
			t.Error(err)
		}
		if took, acked := time.Since(began), in.Counted().Acknowledged; took != time.Second || acked != 1 {
			t.Errorf("%d are acknowledged after %v", acked, took)
		}
		in = inOf(t, transport.Limits{})
		s = in.BeginSession(0, 0, 0, 0)
		in.peer.Close()
		s.SendWelcome()
		if err := s.Close(); !errors.Is(err, io.ErrClosedPipe) || in.IsHalted() {
			t.Errorf("%v, halted %v", err, in.IsHalted())
		}
	})
}

// TestAckSender_MaxWriteTime_IsOneSecond from each write on, not from the beginning.
func TestAckSender_MaxWriteTime_IsOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		s := in.BeginSession(0, 0, 0, 0)
		for range 3 {
			in.comes(framed("a"))
			in.Next()
			time.AfterFunc(time.Second-1, func() { _, _ = in.peer.Read(make([]byte, 9)) })
			in.SendAck()
		}
		if err := s.Close(); err != nil || in.Counted().Acknowledged != 3 {
			t.Errorf("%v, %d are acknowledged", err, in.Counted().Acknowledged)
		}
	})
}

// TestIn_EndWhileItAcknowledges_IsNotMissed: the wait after that has the deadline of the end.
func TestIn_EndWhileItAcknowledges_IsNotMissed(t *testing.T) {
	for what, test := range map[string]struct {
		end   func(in testIn)
		after time.Duration
		want  error
	}{
		"the peer reads nothing": {func(testIn) {}, time.Second, transport.ErrGracefulEnd},
		"halted":                 {func(in testIn) { in.Halt() }, 800 * time.Millisecond, transport.ErrGracefulEnd},
		"paused":                 {func(in testIn) { in.Pause() }, 800 * time.Millisecond, transport.ErrHandOver},
		"closed":                 {func(in testIn) { in.RequestClose(0) }, 1800 * time.Millisecond, transport.ErrGracefulEnd},
	} {
		synctest.Test(t, func(t *testing.T) {
			in := inOf(t, transport.Limits{})
			s := in.BeginSession(0, 0, 0, 0)
			in.comes(framed("a"))
			in.Next()
			time.AfterFunc(500*time.Millisecond, func() { test.end(in) })
			if what != "the peer reads nothing" {
				time.AfterFunc(800*time.Millisecond, func() { _, _ = io.Copy(io.Discard, in.peer) })
			}
			began := time.Now()
			if err := in.Fill(); err != test.want || time.Since(began) != test.after {
				t.Errorf("%s: %v after %v, want %v after %v", what, err, time.Since(began), test.want, test.after)
			}
			_ = s.Close()
			in.Close()
		})
	}
}
