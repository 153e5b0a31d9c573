// SPDX-License-Identifier: Apache-2.0

package sender

// A loop in plain mode, step by step. The test plays its peers, over connections in memory, with a fake clock.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A testLoop is a loop whose peers a test plays. It notes what the loop reports.
type testLoop struct {
	*Loop
	*testing.T
	dials chan net.Conn // The peers of the connections, in their order.

	mu      sync.Mutex // Guards what follows.
	half    bool       // Connections can be asked for their end.
	refused error      // What the next attempts to connect fail with.
	events  []string
	hold    chan struct{} // The loop's goroutine waits for it before it ends, unless it is nil.
}

// loopOf must be called in a bubble. The loop has not started.
func loopOf(t *testing.T, cfg Config, limits queue.Limits) *testLoop {
	t.Helper()
	l := &testLoop{T: t, dials: make(chan net.Conn, 100)}
	if limits.Messages == 0 {
		limits.Messages, limits.Bytes = 100, 1<<20
	}
	limits.MaxAge, limits.DropOldest, limits.Acks = cfg.MaxAge, cfg.DropOldest, cfg.Acks
	cfg.Queue, cfg.Dial = queue.New(limits), l.dial
	if cfg.MessageLimit == 0 {
		cfg.MessageLimit = 1000
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = time.Second
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 10 * time.Second
	}
	l.Loop = New(cfg, Events{
		State: func(state State, cause error) {
			name := [...]string{"new", "connecting", "connected", "disconnected", "stopped"}[state]
			if cause != nil {
				name += ": " + cause.Error()
			}
			l.note(name)
			if state == StateStopped && l.hold != nil {
				<-l.hold
			}
		},
		Report:      func(op string, err error) { l.note(op + ": " + err.Error()) },
		Undelivered: func(data []byte) { l.note(fmt.Sprintf("undelivered %q", data)) },
	})
	t.Cleanup(func() {
		l.life.Stop()
		l.life.Force()
		_ = l.queue.DiscardAll(nil)
		l.queue.Close()
		l.queue.Signal()
	})
	return l
}

func (l *testLoop) note(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, event)
}

func (l *testLoop) dial(context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return nil, l.refused
	}
	near, far := net.Pipe()
	l.Cleanup(func() { near.Close(); far.Close() })
	l.dials <- far
	if l.half {
		return halfConn{near}, nil
	}
	return near, nil
}

// A halfConn can be asked for its end, but does not tell of it. Nobody knows what its peer has read.
type halfConn struct{ net.Conn }

func (halfConn) CloseWrite() error { return errors.ErrUnsupported }

// refuse has the attempts to connect fail, or succeed again.
func (l *testLoop) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = err
}

func (l *testLoop) started() *testLoop {
	l.Helper()
	if err := l.Start(); err != nil {
		l.Fatal(err)
	}
	return l
}

// push queues messages. An idle loop gets all of them in one batch.
func (l *testLoop) push(messages ...string) {
	l.Helper()
	wake := false
	for _, message := range messages {
		_, idle, err := l.queue.Enqueue([]byte(message))
		if err != nil {
			l.Fatal(err)
		}
		wake = wake || idle
	}
	if wake {
		l.queue.Signal()
	}
}

// noted wants these events since the last call.
func (l *testLoop) noted(want ...string) {
	l.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.events, want) {
		l.Errorf("noted are\n%q, want\n%q", l.events, want)
	}
	l.events = nil
}

// seen returns the events since noted was called last.
func (l *testLoop) seen() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// conns returns the present connection, and the one that is in its session handshake.
func (l *testLoop) conns() (current, handshaking *transport.Out) {
	synctest.Wait()
	l.Loop.mu.Lock()
	defer l.Loop.mu.Unlock()
	return l.current, l.handshaking
}

// counted wants these counters.
func (l *testLoop) counted(want loopCounts) {
	l.Helper()
	synctest.Wait()
	if got := l.Snapshot(); got != want {
		l.Errorf("counted are %+v, want %+v", got, want)
	}
}

// peer waits for the next connection.
func (l *testLoop) peer() testPeer {
	l.Helper()
	synctest.Wait()
	select {
	case conn := <-l.dials:
		return testPeer{conn, l}
	case <-time.After(time.Hour):
		l.Fatal("there is no connection")
		return testPeer{}
	}
}

// noPeer wants no connection to have been made.
func (l *testLoop) noPeer() {
	l.Helper()
	synctest.Wait()
	if len(l.dials) > 0 {
		l.Error("it connects")
	}
}

// A testPeer is the other end of a connection.
type testPeer struct {
	net.Conn
	*testLoop
}

// reads wants the loop to send this.
func (p testPeer) reads(want string) {
	p.testLoop.Helper()
	_ = p.SetReadDeadline(time.Now().Add(time.Hour))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(p.Conn, got); err != nil || string(got) != want {
		p.Fatalf("sent are %q and %v, want %q", got[:n], err, want)
	}
}

// says sends b to the loop.
func (p testPeer) says(b ...byte) {
	p.testLoop.Helper()
	_ = p.SetWriteDeadline(time.Now().Add(time.Hour))
	if _, err := p.Write(b); err != nil {
		p.Fatal(err)
	}
}

// ends is a graceful end with this report.
func (p testPeer) ends(r wire.CloseReport) {
	p.testLoop.Helper()
	p.says(r.Append([]byte{0})...)
	p.Conn.Close()
}

// stops wants Stop to return this text, after so long.
func (l *testLoop) stops(ctx context.Context, after time.Duration, want string) {
	l.Helper()
	began := time.Now()
	err := l.Stop(ctx)
	if got := fmt.Sprint(err); got != want || time.Since(began) != after {
		l.Errorf("stop returns %q after %v, want %q after %v", got, time.Since(began), want, after)
	}
}

// within is a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

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
			"write: possible loss of up to 2 messages that the peer had not read: EOF",
			"disconnected: udsipc: connection closed: EOF")
		if err := l.Flush(t.Context()); !errors.Is(err, errdefs.ErrConnectionClosed) ||
			err.Error() != "udsipc: connection closed: 0 messages were not delivered, up to 2 more may be lost" {
			t.Error(err)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		lose(3, &wire.CloseReport{FirstUnread: 3, Limit: 9})
		l.noted("connecting", "connected",
			"write: possible loss of up to 1 messages that the peer had not read: EOF",
			"disconnected: udsipc: connection closed: EOF")
		if got := l.Snapshot(); got.PossiblyLost != 3 || got.LostConnections != 2 {
			t.Errorf("%+v", got)
		}
		lose(1, &wire.CloseReport{Reason: wire.CloseUnauthorized, FirstUnread: 2, Limit: 9})
		l.noted("connecting", "connected",
			"dial: udsipc: peer is not authorized: the reader's authorizer rejects this process",
			"disconnected: udsipc: connection closed: udsipc: peer is not authorized: the "+
				"reader's authorizer rejects this process")
		l.stops(t.Context(), 0, "udsipc: stopped: 0 messages were not delivered, up to 1 more may be lost")
		if err := l.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLoop_DialFails_BacksOff, reports each failure, and goes on once it can connect.
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
		if events := l.seen(); events[len(events)-1] != "connected" || len(events) < 1000 {
			t.Errorf("%d events, the last is %s", len(events), events[len(events)-1])
		}
	})
}

// TestLoop_StopForced_ReturnsMessages to the program, once.
func TestLoop_StopForced_ReturnsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{MaxBackoff: time.Hour}, queue.Limits{})
		l.refuse(errors.New("no"))
		l.push("a", "b")
		l.started()
		l.noted("connecting", "dial: no")
		l.stops(within(t, 2*time.Millisecond), 2*time.Millisecond, "2 messages were not delivered: context deadline exceeded")
		l.stops(t.Context(), 0, "<nil>")
		synctest.Wait()
		got := l.seen()
		if !slices.Contains(got, `undelivered "a"`) || !slices.Contains(got, `undelivered "b"`) ||
			!slices.Contains(got, "stopped") {
			t.Errorf("%q", l.seen())
		}
		if err := l.queue.EnqueueAndWake(nil); !errors.Is(err, errdefs.ErrStopped) {
			t.Error(err)
		}
		if err := l.WaitConnected(t.Context()); err != errdefs.ErrStopped {
			t.Error(err)
		}
	})
}

func TestLoop_StopBeforeStart_ReturnsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{})
		l.push("a")
		l.stops(t.Context(), 0, "1 messages were not delivered: udsipc: stopped before Start, or "+
			"by another call whose context ended")
		l.noted("stopped", `undelivered "a"`)
	})
}

// TestLoop_StopForcedInWrite_ReportsUnread: what the peer took may be read yet, the rest is returned.
func TestLoop_StopForcedInWrite_ReportsUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{})
		l.half = true
		l.started()
		p := l.peer()
		l.push("a", "b")
		p.reads("\x01a\x01b")
		l.push("c")
		synctest.Wait()
		l.stops(within(t, 500*time.Millisecond), 500*time.Millisecond,
			"1 messages were not delivered: context deadline exceeded; up to 2 messages are with "+
				"the kernel, but not read by the peer yet: context deadline exceeded")
		l.noted("connecting", "connected", "stopped", `undelivered "c"`)
		l.stops(t.Context(), 0, "<nil>")
		if counts := l.Snapshot(); counts.LostConnections != 0 || counts.PossiblyLost != 0 {
			t.Errorf("%+v", counts)
		}
	})
}

// TestLoop_StopSlowReader_WaitsForReport and for everything that was accepted.
func TestLoop_StopSlowReader_WaitsForReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loopOf(t, Config{}, queue.Limits{}).started()
		p := l.peer()
		l.push("a", "b")
		go func() { // Ends with its steps.
			time.Sleep(300 * time.Millisecond)
			p.reads("\x01a\x01b")
			time.Sleep(150 * time.Millisecond)
			p.ends(wire.CloseReport{FirstUnread: 2, Limit: 9})
		}()
		l.stops(t.Context(), 450*time.Millisecond, "udsipc: stopped: 0 messages were not delivered, up to 1 more may be lost")
		l.noted("connecting", "connected",
			"write: possible loss of up to 1 messages that the peer had not read: EOF", "stopped")
		l.counted(loopCounts{Connections: 1, Writes: 1, WrittenBytes: 4, PossiblyLost: 1})
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
	if want := "; udsipc: stopped: 1 messages were not delivered, up to 1 more may be lost"; err == nil ||
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
			return fmt.Sprintf("queue: udsipc: queue is full: the oldest %d messages were dropped", n)
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
		if !slices.Contains(l.seen(), "queue: 2 messages were older than 1m0s (WithMaxAge) and were dropped") {
			t.Errorf("%q", l.seen())
		}
		if err := l.Flush(t.Context()); err == nil ||
			!strings.Contains(err.Error(), "6 messages were not delivered, up to 0 more") {
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
