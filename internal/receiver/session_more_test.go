// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// A blackHole passes connections on over TCP until it is told to swallow: then nothing arrives any
// more in either direction, and nobody is told.
type blackHole struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	conns    []net.Conn
	hole     chan struct{} // Closed: what comes is swallowed.
}

func newBlackHole(tb testing.TB, target string) *blackHole {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h := &blackHole{listener: l, target: target, hole: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			h.mu.Lock()
			h.conns = append(h.conns, near, far)
			hole := h.hole
			h.mu.Unlock()
			wg.Go(func() { pass(far, near, hole) })
			wg.Go(func() { pass(near, far, hole) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		h.mu.Lock()
		for _, conn := range h.conns {
			conn.Close()
		}
		h.mu.Unlock()
		wg.Wait()
	})
	return h
}

// swallow makes a hole of all connections that there are.
func (h *blackHole) swallow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.hole)
	h.hole = make(chan struct{})
}

func pass(to, from net.Conn, hole <-chan struct{}) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		select {
		case <-hole:
			io.Copy(io.Discard, from)
			return
		default:
		}
		if err != nil {
			to.Close()
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			from.Close()
			return
		}
	}
}

// TestSession_ReaderVanishes_TimesOut: over TCP a peer that vanishes without a word is given up on in both
// directions, and the messages come again.
func TestSession_ReaderVanishes_TimesOut(t *testing.T) {
	t.Parallel()
	address := ipctest.TcpAddress(t)
	writerErrs := ipctest.Collect()
	got := make(chan string, 100)
	timeout := udsipc.WithHeartbeatTimeout(time.Second)
	r := ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, address,
		timeout, udsipc.WithInactivityTimeout(0))
	hole := newBlackHole(t, strings.TrimPrefix(address, "tcp://"))
	w := ipctest.StartWriter(t, "tcp://"+hole.listener.Addr().String(),
		udsipc.WithAcknowledgements(), timeout,
		udsipc.WithWriterErrorCallback(writerErrs.Callback))
	ipctest.MustWriteMessage(t, w, "before")
	ipctest.Await(t, "the first message", got)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	hole.swallow()
	ipctest.MustWriteMessage(t, w, "into the hole")
	writerErrs.Want(t, udsipc.ErrHeartbeatTimeout)
	if data := ipctest.Await(t, "the second message", got); data != "into the hole" {
		t.Errorf("got %q", data)
	}
	ipctest.Until(t, "the dead connection is gone", func() bool { return r.Metrics().Connections == 1 })
	if m := w.Metrics(); m.Retransmitted < 1 || m.Connections < 2 { // More where the machine is too busy for a heartbeat.
		t.Errorf("%+v, want one message sent again", m)
	}
}

// TestSession_WriterVanishes_TimesOut: one that does not come back either.
func TestSession_WriterVanishes_TimesOut(t *testing.T) {
	t.Parallel()
	address := ipctest.TcpAddress(t)
	errs := ipctest.Collect()
	r := ipctest.StartReader(t, ipctest.Ignore, address,
		udsipc.WithHeartbeatTimeout(time.Second),
		udsipc.WithReaderErrorCallback(errs.Callback), udsipc.WithInactivityTimeout(0))
	conn, w := ipctest.OpenSession(t, address, wire.Hello{Epoch: 1, FirstSeq: 1}, "the last word")
	if w.HeartbeatTimeout != time.Second {
		t.Errorf("the welcome wants a word every %v", w.HeartbeatTimeout)
	}
	ipctest.AwaitAck(t, conn, 1)
	errs.Want(t, udsipc.ErrHeartbeatTimeout)
	ipctest.Until(t, "the connection is gone", func() bool { return r.Metrics().Connections == 0 })
}

// TestSession_Heartbeats_KeepConnection: silence of messages is not silence.
func TestSession_Heartbeats_KeepConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, idle := range []time.Duration{0, time.Minute} {
			l := ipctest.ListenInMemory()
			errs := ipctest.Collect()
			timeout := udsipc.WithHeartbeatTimeout(time.Second)
			r := ipctest.StartReader(t, func(data []byte) error {
				time.Sleep(5 * time.Second) // The reader is busy, not dead.
				return nil
			}, "x", udsipc.WithListener(l), udsipc.WithInactivityTimeout(idle), timeout,
				udsipc.WithReaderErrorCallback(errs.Callback))
			w := ipctest.StartWriter(t, "x", udsipc.WithDialer(l.Dial),
				udsipc.WithAcknowledgements(), timeout,
				udsipc.WithWriterErrorCallback(errs.Callback))
			ipctest.MustWriteMessage(t, w, "slow")
			ipctest.MustWriteMessage(t, w, "slow too")
			time.Sleep(50 * time.Second)
			if m := w.Metrics(); m.Connections != 1 || m.LostConnections != 0 || m.Acknowledged != 2 {
				t.Errorf("inactivity timeout %v: %+v, want one connection", idle, m)
			}
			time.Sleep(50 * time.Second) // Heartbeats do not count as messages.
			want := uint64(0)
			if idle > 0 {
				want = 1
			}
			if m := r.Metrics(); m.IdleClosed != want {
				t.Errorf("inactivity timeout %v: %d connections were ended for it, want %d", idle, m.IdleClosed, want)
			}
			errs.None(t, udsipc.ErrHeartbeatTimeout)
			ipctest.Stop(t, w)
			ipctest.Stop(t, r)
		}
	})
}
