// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestReader_StopDuringRedelivery_DoesNotAcknowledge ends with its context, and the message is not acknowledged.
func TestReader_StopDuringRedelivery_DoesNotAcknowledge(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		failed := make(chan struct{}, 100)
		r := on.StartReader(t, func([]byte) error { failed <- struct{}{}; return errors.New("no") },
			udsipc.WithMaxRedeliveries(1000))
		w := on.StartedWriter(t, udsipc.WithAcknowledgements())
		ipctest.MustWriteMessage(t, w, "never")
		ipctest.Await(t, "a failure", failed)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if err := r.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		if m := w.Metrics(); m.Acknowledged != 0 || m.Queued != 1 {
			t.Errorf("%+v, want the message queued", m)
		}
	})
}

// TestSession_UnreadAcks_CloseConnection: a writer that does not read them is left, and costs nobody else
// anything.
func TestSession_UnreadAcks_CloseConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(ipctest.SimNet)
		errs := ipctest.Collect()
		r := ipctest.StartReader(t, ipctest.Ignore, "x", udsipc.WithListener(n.Listen()),
			udsipc.WithReaderErrorCallback(errs.Callback))
		conn, err := n.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ipctest.MustWrite(t, conn, wire.Hello{Epoch: 1, FirstSeq: 1}.Append(nil))
		n.Live()[0].Room(1, 10)
		time.Sleep(time.Second)
		for range 20 {
			if _, err := conn.Write(ipctest.Frames("message")); err != nil {
				break
			}
			synctest.Wait()
		}
		errs.Want(t, udsipc.ErrBackpressure)
		synctest.Wait()
		if m := r.Metrics(); m.Connections != 0 {
			t.Errorf("%d connections, want none", m.Connections)
		}
		conn.Close()
		ipctest.Stop(t, r)
	})
}

// TestSession_StopContextEnds_Returns: whatever the other end is stuck in.
func TestSession_StopContextEnds_Returns(t *testing.T) {
	t.Parallel()
	prompt := func(t *testing.T, s interface{ Stop(context.Context) error }) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v, want the context's error", err)
		}
		if took := time.Since(began); took > 5*time.Second { // Generous: what is tested is that it returns.
			t.Errorf("Stop took %v", took)
		}
	}
	t.Run("writer, no welcome", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := ipctest.StartedWriter(t, path, udsipc.WithAcknowledgements())
		ipctest.MustWriteMessage(t, w, "stays")
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		prompt(t, w)
	})
	t.Run("both, stuck handler", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		entered, leave := make(chan struct{}, 10), make(chan struct{})
		defer close(leave)
		r, err := udsipc.NewReader(func([]byte) error { entered <- struct{}{}; <-leave; return nil }, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		w := ipctest.StartedWriter(t, path, udsipc.WithAcknowledgements())
		ipctest.MustWriteMessage(t, w, "stays")
		ipctest.Await(t, "the handler", entered)
		prompt(t, w)
		prompt(t, r)
	})
	t.Run("reader, three connections of one writer", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		entered, leave := make(chan struct{}, 10), make(chan struct{})
		r, err := udsipc.NewReader(func([]byte) error { entered <- struct{}{}; <-leave; return nil }, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		ipctest.OpenSession(t, path, wire.Hello{Epoch: 1, FirstSeq: 1}, "stuck", "not handled")
		ipctest.Await(t, "the handler", entered)
		for attempt := uint64(2); attempt <= 3; attempt++ {
			waitInLine(t, path, wire.Hello{Epoch: attempt, FirstSeq: 1})
		}
		prompt(t, r)
		close(leave)
		ipctest.Until(t, "they are gone", func() bool { return r.Metrics().Connections == 0 })
		if m := r.Metrics(); m.Received != 1 {
			t.Errorf("%d messages were handled, want 1", m.Received)
		}
	})
}
