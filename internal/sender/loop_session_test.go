// SPDX-License-Identifier: Apache-2.0

package sender

// A loop in acknowledged mode, step by step.

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
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

var testWriter = wire.WriterID{1, 2, 3}

// ackedOf is a loop with acknowledgements.
func ackedOf(t *testing.T) *testLoop {
	t.Helper()
	return loopOf(t, Config{Acks: true, Writer: testWriter}, queue.Limits{})
}

// greets reads a hello, which it wants to be this one, and answers it.
func (p testPeer) greets(epoch, first, sent uint64, answer wire.Welcome) {
	p.testLoop.Helper()
	p.reads(string(wire.Hello{Writer: testWriter, Epoch: epoch, FirstSeq: first, LastSentSeq: sent}.Append(nil)))
	p.says(answer.Append(nil)...)
}

func TestLoop_Session_DeliversOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		l.push("a", "b", "c")
		p := l.peer()
		p.greets(1, 1, 0, wire.Welcome{Limit: 500})
		p.reads("\x01a\x01b\x01c")
		l.noted("connecting", "connected")
		if got := l.MessageLimit(); got != 500 {
			t.Errorf("a limit of %d", got)
		}
		p.says(1)
		synctest.Wait()
		if got := l.queue.Unacknowledged(); got != 2 {
			t.Errorf("%d are not acknowledged", got)
		}
		p.Conn.Close()
		l.noted("disconnected: udsipc: connection closed: EOF", "connecting")
		if got := l.MessageLimit(); got != 1000 {
			t.Errorf("a limit of %d without a connection", got)
		}
		p = l.peer() // At once, or after 10 ms: it has two messages to send.
		p.greets(2, 2, 3, wire.Welcome{Handled: 2, Limit: 5000})
		p.reads("\x01c")
		synctest.Wait()
		if got := l.MessageLimit(); got != 1000 {
			t.Errorf("a limit of %d", got)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- l.Stop(t.Context()) }()
		time.Sleep(15 * time.Minute)
		want := []string{"connected"}
		for _, after := range []string{"1s", "10s", "1m0s", "5m0s", "15m0s"} {
			want = append(want, "stop: 1 message waits; after "+after+" it still waits, because its context has no deadline")
		}
		l.noted(want...)
		if len(stopped) > 0 {
			t.Error("it stops before everything is acknowledged")
		}
		p.says(3)
		synctest.Wait()
		if len(stopped) == 0 || <-stopped != nil {
			t.Error("it does not stop")
		}
		l.noted("stopped")
		l.counted(loopCounts{Connections: 2, LostConnections: 1, Writes: 2, WrittenBytes: 8})
	})
}

// TestLoop_FlushInSession_WaitsForAcks, not for what the kernel tells.
func TestLoop_FlushInSession_WaitsForAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		l.push("a")
		p := l.peer()
		p.greets(1, 1, 0, wire.Welcome{Limit: 500})
		p.reads("\x01a")
		if err := l.Flush(within(t, time.Second)); err == nil {
			t.Error("it is flushed")
		}
		time.AfterFunc(time.Second, func() { p.says(1) })
		began := time.Now()
		if err := l.Flush(t.Context()); err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestLoop_BadAnswers_AreReported, and the loop tries again.
func TestLoop_BadAnswers_AreReported(t *testing.T) {
	for _, test := range []struct {
		answer []byte
		want   string
	}{
		{wire.Welcome{Handled: 7, Limit: 9}.Append(nil),
			"udsipc: invalid session: the reader has handled message 7, but only 0 were sent"},
		{wire.Welcome{Status: wire.StatusOldEpoch}.Append(nil),
			"udsipc: connection closed: the reader refuses the session: " + wire.StatusOldEpoch.String()},
		{nil, "udsipc: connection closed: the peer has not answered the hello: EOF"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := ackedOf(t).started()
			p := l.peer()
			p.reads(string(wire.Hello{Writer: testWriter, Epoch: 1, FirstSeq: 1}.Append(nil)))
			if test.answer != nil {
				p.says(test.answer...)
				if n, err := p.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("it stays: %v", err)
				}
			}
			p.Conn.Close()
			synctest.Wait()
			if got := l.seen(); len(got) < 2 || got[0] != "connecting" ||
				!strings.HasPrefix(got[1], "open session: ") ||
				!strings.HasSuffix(got[1], test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
			l.counted(loopCounts{DialErrors: 1})
			if _, handshaking := l.conns(); handshaking != nil {
				t.Error("the session handshake has no end")
			}
			p = l.peer()
			p.greets(2, 1, 0, wire.Welcome{Limit: 9})
			l.counted(loopCounts{DialErrors: 1, Connections: 1})
		})
	}
}

// TestLoop_SlowWelcome_IsReported once, and Stop of an empty queue does not wait for it.
func TestLoop_SlowWelcome_IsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		p := l.peer()
		go io.Copy(io.Discard, p.Conn) // Ends with the connection.
		time.Sleep(time.Second - 1)
		l.noted("connecting")
		time.Sleep(time.Hour)
		l.noted(fmt.Sprintf("open session: %v: no welcome within 1s, waiting", errdefs.ErrBackpressure))
		l.counted(loopCounts{Backpressure: 1})
		if _, handshaking := l.conns(); handshaking == nil {
			t.Error("it does not wait")
		}
		l.stops(t.Context(), 0, "<nil>")
		l.noted("stopped")
		l.counted(loopCounts{Backpressure: 1})
	})
}

func TestLoop_StopForcedInHandshake_EndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		l.push("a")
		p := l.peer()
		go io.Copy(io.Discard, p.Conn) // Ends with the connection.
		l.stops(within(t, 100*time.Millisecond), 100*time.Millisecond,
			"1 message was not delivered: udsipc: peer does not read: no welcome yet; context deadline exceeded")
		l.noted("connecting", "stopped", `undelivered "a"`)
	})
}

// TestLoop_OverReadersLimit_IsGivenUp: a message that was accepted before the reader's limit was known.
func TestLoop_OverReadersLimit_IsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		l.push("a", "large", "b")
		p := l.peer()
		p.greets(1, 1, 0, wire.Welcome{Limit: 4})
		p.reads("\x01a")
		p.says(1)
		p.reads("\x01b")
		l.noted("connecting", "connected", "write: udsipc: message too large for the reader: a "+
			"message of 5 bytes, its limit is 4; it is set aside", `undelivered "large"`)
		p.says(2)
		l.stops(t.Context(), 0, "udsipc: stopped: 1 message was not delivered")
	})
}

// TestLoop_Heartbeats_AreSentWhenIdle, as often as the reader wants them.
func TestLoop_Heartbeats_AreSentWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		p := l.peer()
		p.greets(1, 1, 0, wire.Welcome{Limit: 9, HeartbeatTimeout: wire.HeartbeatsPerTimeout * time.Second})
		began := time.Now()
		for i := range 3 {
			p.reads(string(wire.Heartbeat))
			if after := time.Since(began); after != time.Duration(i+1)*time.Second {
				t.Errorf("heartbeat %d after %v", i, after)
			}
		}
		l.push("a")
		p.reads("\x01a")
		_ = p.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := p.Read(make([]byte, 1)); n != 0 || !transport.IsTimeout(err) {
			t.Error("it sends a heartbeat although a message is not acknowledged")
		}
		p.says(1)
		p.reads(string(wire.Heartbeat))
		time.Sleep(2500 * time.Millisecond) // The next one is not read.
		synctest.Wait()
		if !slices.ContainsFunc(l.seen(), func(event string) bool { return strings.HasPrefix(event, "disconnected: ") }) {
			t.Errorf("%q", l.seen())
		}
	})
}

// TestLoop_SilentReader_IsReported when it has a heartbeat timeout.
func TestLoop_SilentReader_IsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{Acks: true, Writer: testWriter, HeartbeatTimeout: 3 * time.Second}, queue.Limits{}).started()
		p := l.peer()
		p.reads(string(wire.Hello{Writer: testWriter, Epoch: 1, FirstSeq: 1, HeartbeatTimeout: 3 * time.Second}.Append(nil)))
		p.says(wire.Welcome{Limit: 9}.Append(nil)...)
		time.Sleep(3*time.Second - 1)
		l.noted("connecting", "connected")
		time.Sleep(time.Nanosecond)
		silent := errdefs.ErrHeartbeatTimeout.Error() + ": nothing came for 3s (WithHeartbeatTimeout)"
		l.noted("open session: "+silent, "disconnected: udsipc: connection closed: "+silent)
	})
}

// TestLoop_WelcomeReleases_CountsAsProgress: the failures before do not delay the next attempt for ever.
func TestLoop_WelcomeReleases_CountsAsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t)
		l.life.failures = 7
		l.push("a", "b")
		l.started()
		for epoch, handled := range []uint64{0, 0, 1} {
			p := l.peer()
			p.greets(uint64(epoch)+1, 1, uint64(min(epoch*2, 2)), wire.Welcome{Handled: handled, Limit: 9})
			p.reads("\x01a\x01b"[2*handled:])
			p.Conn.Close()
			synctest.Wait()
			if want := []int{8, 9, 1}[epoch]; l.life.failures != want { // It waits.
				t.Errorf("%d failures after connection %d, want %d", l.life.failures, epoch+1, want)
			}
		}
	})
}

// TestLoop_EarlyAcknowledgement_EndsWrite: a write that waits returns, and that is nothing to report.
func TestLoop_EarlyAcknowledgement_EndsWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		l.push("a", "bc")
		p := l.peer()
		p.greets(1, 1, 0, wire.Welcome{Limit: 9})
		p.reads("\x01a")
		time.Sleep(20 * time.Millisecond)
		p.says(1) // The write of both is under way.
		time.Sleep(20 * time.Millisecond)
		p.reads("\x02bc")
		l.noted("connecting", "connected")
		l.counted(loopCounts{Connections: 1, Writes: 2, WrittenBytes: 5})
		p.says(2)
		l.stops(t.Context(), 0, "<nil>")
	})
}

// TestLoop_AcknowledgementOfUnwritten_EndsSession: a write that is interrupted for it has not written
// the message.
func TestLoop_AcknowledgementOfUnwritten_EndsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		l.push("a", "bc")
		p := l.peer()
		p.greets(1, 1, 0, wire.Welcome{Limit: 9})
		p.reads("\x01")
		time.Sleep(20 * time.Millisecond)
		p.says(1) // The write of both is under way.
		time.Sleep(20 * time.Millisecond)
		malformed := "udsipc: invalid session: malformed acknowledgement: message 1, want one of 1 to 0"
		l.noted("connecting", "connected", "open session: "+malformed,
			"disconnected: udsipc: connection closed: "+malformed, "connecting")
	})
}

// TestLoop_NoWelcome_AccusesFromSecondInARow: a reader that was killed looks once like one without acknowledgements.
func TestLoop_NoWelcome_AccusesFromSecondInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ackedOf(t).started()
		hangUp := func(answer ...byte) {
			p := l.peer()
			_, _ = p.Read(make([]byte, 1000))
			if len(answer) > 0 {
				p.says(answer...)
			}
			synctest.Wait() // The loop waits for the welcome: only then is the end a clean one.
			p.Conn.Close()
			synctest.Wait()
		}
		accused := func(when string, want bool) {
			t.Helper()
			synctest.Wait()
			if why := l.life.Why(); errors.Is(why, errdefs.ErrAcksUnsupported) != want {
				t.Errorf("%s: %v", when, why)
			}
		}
		hangUp()
		accused("first", false)
		hangUp()
		accused("second", true)
		hangUp()
		accused("third", true)
		hangUp(wire.Goodbye...)
		accused("a goodbye", false)
		hangUp()
		accused("first after a goodbye", false)
		setRefused := func(err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.refused = err
		}
		setRefused(errdefs.ErrNoConsumer)
		time.Sleep(time.Second)
		setRefused(nil)
		hangUp()
		accused("first after nobody listened", false)
		l.peer().greets(7, 1, 0, wire.Welcome{Limit: 9})
	})
}
