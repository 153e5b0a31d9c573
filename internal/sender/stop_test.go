// SPDX-License-Identifier: Apache-2.0

package sender_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestWriter_Stop_ReportsReaderRefusals: a Writer that stops as soon as everything is written still
// hears that its reader did not handle it.
func TestWriter_Stop_ReportsReaderRefusals(t *testing.T) {
	t.Parallel()
	const messages = 100
	for _, test := range []struct {
		name   string
		refuse func(gate chan struct{}) udsipc.ReaderOption // When gate is closed.
		size   int
	}{
		{"the writer", func(gate chan struct{}) udsipc.ReaderOption {
			return udsipc.WithAuthorizer(func(udsipc.Peer) error { <-gate; return ipctest.ErrNotAllowed })
		}, 1},
		{"the messages", func(gate chan struct{}) udsipc.ReaderOption {
			close(gate)
			return udsipc.WithMaxMessageSize(10)
		}, 11},
	} {
		t.Run(test.name, func(t *testing.T) {
			ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
				gate := make(chan struct{})
				r := on.StartReader(t, ipctest.Ignore, test.refuse(gate))
				w := on.StartedWriter(t)
				for range messages {
					ipctest.MustWriteMessage(t, w, strings.Repeat("x", test.size))
				}
				ipctest.Until(t, "they are sent", func() bool { return w.Metrics().Sent == messages })
				stopped := make(chan error, 1)
				go func() { stopped <- w.Stop(t.Context()) }()
				ipctest.Until(t, "Stop has begun", func() bool { return errors.Is(w.Start(), udsipc.ErrStopped) })
				if test.size == 1 {
					close(gate)
				}
				want := fmt.Sprintf("up to %s may be lost", errdefs.Count(uint64(messages)))
				if err := ipctest.Await(t, "Stop", stopped); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Stop: %v, want %q: %+v", err, want, w.Metrics())
				}
				ipctest.Stop(t, r)
				ipctest.CheckAccounting(t, w, r.Metrics().Received)
			})
		})
	}
}

// TestWriter_StopContextEnds_ReportsUnread: when its context ends, Stop says that not everything
// was read yet, whatever the connection is waiting for.
func TestWriter_StopContextEnds_ReportsUnread(t *testing.T) {
	t.Parallel()
	const messages = 100
	for _, test := range []struct {
		name string
		ends bool // The reader is about to end the connection.
	}{{"a reader that is busy", false}, {"a reader that stops", true}} {
		t.Run(test.name, func(t *testing.T) {
			ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
				if on.Tcp() {
					t.Skip("all is with the peer's kernel")
				}
				gate := make(chan struct{})
				r := on.StartReader(t, func([]byte) error { <-gate; return nil })
				w := on.StartedWriter(t)
				ipctest.MustWriteMessage(t, w, "handled for long")
				ipctest.Until(t, "it is", func() bool { return r.Metrics().Received == 1 })
				for range messages {
					ipctest.MustWriteMessage(t, w, "unread")
				}
				ipctest.Until(t, "they are sent", func() bool { return w.Metrics().Sent == 1+messages })
				if test.ends {
					go r.Stop(context.Background())
					ipctest.Until(t, "Stop has begun", func() bool { return errors.Is(r.Start(), udsipc.ErrStopped) })
				}
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				// The first returns at once, even if it has not heard yet what the connection says; the second waits for that.
				err := errors.Join(w.Stop(ctx), w.Stop(t.Context()))
				close(gate)
				// On a busy machine the connection may have ended before the context.
				text := fmt.Sprint(err)
				if !strings.Contains(text, "not read by the peer yet: ") && !strings.Contains(text, "may be lost") {
					t.Errorf("Stop: %v, want it to tell of unread messages", err)
				}
			})
		})
	}
}

// TestWriter_StopDuringCallback_SendsAccepted: Stop sends all that was accepted before it, whatever
// the Writer was doing then.
func TestWriter_StopDuringCallback_SendsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &ipctest.Route{Transport: ipctest.Memories[0], Address: "memory", Net: new(ipctest.SimNet)}
		var handled atomic.Uint64
		on.StartReader(t, func([]byte) error { handled.Add(1); return nil })
		var w *udsipc.Writer
		stopped := make(chan error, 1)
		w = on.NewWriter(t, udsipc.WithMaxAge(time.Second), udsipc.WithWriterErrorCallback(func(error, string) {
			ipctest.MustWriteMessage(t, w, "accepted while the Writer looks whether there is anything")
			go func() { stopped <- w.Stop(context.Background()) }()
			synctest.Wait()
		}))
		ipctest.MustWriteMessage(t, w, "too old")
		time.Sleep(2 * time.Second)
		ipctest.MustStart(t, w)
		if err := <-stopped; handled.Load() != 1 {
			t.Errorf("Stop: %v, %d messages handled, want 1", err, handled.Load())
		}
	})
}

// TestWriter_StopTLSBlocked_StillGetsReport: where the end of TLS cannot be announced for minutes,
// the Writer ends what lies beneath, and still hears what was read.
func TestWriter_StopTLSBlocked_StillGetsReport(t *testing.T) {
	t.Parallel()
	const takes = 30 * time.Second
	if testing.Short() {
		t.Skip("takes long")
	}
	// With one of them the connection is full to the last byte.
	for size := ipctest.SimCapacity - 100; size < ipctest.SimCapacity; size++ {
		synctest.Test(t, func(t *testing.T) {
			on := &ipctest.Route{Transport: ipctest.Memories[2], Address: "memory", Net: new(ipctest.SimNet)}
			r := on.StartReader(t, func([]byte) error { time.Sleep(takes); return nil }, udsipc.WithInactivityTimeout(0))
			w := on.StartedWriter(t)
			ipctest.MustWriteMessage(t, w, "handled for long")
			synctest.Wait()
			ipctest.MustWriteMessage(t, w, strings.Repeat("x", size))
			ctx, cancel := context.WithTimeout(t.Context(), 10*takes)
			defer cancel()
			if err := w.Stop(ctx); err != nil || r.Metrics().Received != 2 {
				t.Errorf("%d bytes: Stop: %v, %d messages handled, want 2", size, err, r.Metrics().Received)
			}
			if err := r.Stop(ctx); err != nil {
				t.Errorf("%d bytes: Stop of the Reader: %v", size, err)
			}
		})
	}
}

// TestWriter_BrokenWrappedTLS_Reconnects: TLS within a type that the library does not know is of no
// use after a write that timed out. The Writer makes another connection instead of trying for ever.
func TestWriter_BrokenWrappedTLS_Reconnects(t *testing.T) {
	t.Parallel()
	for _, tr := range ipctest.Transports {
		if !tr.Secure {
			continue
		}
		t.Run(tr.Name, func(t *testing.T) {
			t.Parallel()
			on := &ipctest.Route{Transport: tr, Address: tr.Address(t)}
			connect := on.ConnectSecurely(t)
			gate := make(chan struct{})
			var handled atomic.Uint64
			on.StartReader(t, func([]byte) error { <-gate; handled.Add(1); return nil })
			w := ipctest.NewWriter(t, on.Address, udsipc.WithWriteTimeout(20*time.Millisecond),
				udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
					conn, err := connect(ctx)
					if err != nil {
						return nil, err
					}
					return ipctest.WrappedConn{Conn: conn}, nil
				}))
			ipctest.MustStart(t, w)
			for range 8 {
				ipctest.MustWriteMessage(t, w, strings.Repeat("x", ipctest.Large))
			}
			ipctest.Until(t, "it has left the connection", func() bool { return w.Metrics().LostConnections > 0 })
			if m := w.Metrics(); m.Backpressure > 2*m.Connections {
				t.Errorf("%d writes failed on %d connections", m.Backpressure, m.Connections)
			}
			close(gate)
		})
	}
}
