// SPDX-License-Identifier: Apache-2.0

package sender

// The world of the loop tests: a loop, its peers in memory, and what it reports.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
