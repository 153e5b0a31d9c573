// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestReader_GracefulRestart_LosesNothing stops and starts the reader while a writer runs at full speed.
func TestReader_GracefulRestart_LosesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	const restarts = 10
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		s := ipctest.NewSequence(t, 1<<63)
		tick := make(chan struct{}, 1)
		handler := func(data []byte) error {
			select {
			case tick <- struct{}{}:
			default:
			}
			return s.Handle(data)
		}
		errs := ipctest.Collect()
		w := on.StartWriter(t, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithWriterErrorCallback(errs.Callback))
		ctx, cancel := context.WithCancel(t.Context())
		written := make(chan uint64)
		go func() {
			var n uint64
			defer func() { written <- n }()
			for ; ctx.Err() == nil; n++ {
				if err := w.WriteMessageContext(ctx, ipctest.Number(n, int(n%3000))); err != nil {
					return
				}
			}
		}()
		var total uint64
		for range restarts {
			r := on.StartReader(t, handler, udsipc.WithReaderErrorCallback(errs.Callback))
			for range 20 {
				ipctest.Await(t, "messages", tick)
			}
			ipctest.Stop(t, r)
			total += r.Metrics().Received
		}
		cancel()
		n := <-written
		r := on.StartReader(t, handler)
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		ipctest.Stop(t, w)
		ipctest.Stop(t, r)
		s.Mu.Lock()
		defer s.Mu.Unlock()
		if total += r.Metrics().Received; total != n || s.Next != n {
			t.Errorf("%d messages were handled, the last was %d; %d were written", total, s.Next, n)
		}
		ipctest.CheckGracefulStop(t, w, total)
		m := w.Metrics()
		if m.Sent != n || m.PossiblyLost != 0 {
			t.Errorf("writer: %+v, want %d sent and none possibly lost", m, n)
		}
		errs.None(t, udsipc.ErrConnectionClosed, udsipc.ErrMessageTooLarge)
	})
}

func TestReader_StartStopAnyOrder_IsIdempotent(t *testing.T) {
	path := ipctest.SocketPath(t)
	r, err := udsipc.NewReader(func([]byte) error { return nil }, path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Addr() != nil {
		t.Error("an address before Start")
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := r.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := r.Addr().String(); got != path {
		t.Errorf("Addr is %q, want %q", got, path)
	}
	for range 10 {
		wg.Go(func() { ipctest.Stop(t, r) })
	}
	wg.Wait()
	ipctest.Stop(t, r)
	ipctest.Await(t, "Done", r.Done())
	if err := r.Err(); err != nil {
		t.Errorf("Err is %v after Stop", err)
	}
	if err := r.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("Start after Stop: %v, want ErrStopped", err)
	}

	never, err := udsipc.NewReader(func([]byte) error { return nil }, path)
	if err != nil {
		t.Fatal(err)
	}
	ipctest.Stop(t, never)
	ipctest.Await(t, "Done", never.Done())
	if err := never.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("Start after Stop: %v, want ErrStopped", err)
	}
}

// TestReader_StopContextEnds_Returns has each Stop meet something that will not end.
func TestReader_StopContextEnds_Returns(t *testing.T) {
	t.Parallel()
	const patience = 30 * time.Millisecond
	check := func(t *testing.T, r *udsipc.Reader, wantErr bool) {
		t.Helper()
		within := patience
		if !wantErr {
			within = 30 * time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		returned := make(chan error, 1)
		go func() { returned <- r.Stop(ctx) }()
		err := ipctest.Await(t, "Stop", returned)
		if (err != nil) != wantErr || wantErr && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		ipctest.Await(t, "Done", r.Done())
	}
	t.Run("stuck handler", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		stuck, release := make(chan struct{}), make(chan struct{})
		defer close(release)
		var handled atomic.Bool
		r, err := udsipc.NewDeliveryReader(func(ctx context.Context, _ *udsipc.Delivery) error {
			stuck <- struct{}{}
			<-ctx.Done()
			handled.Store(true)
			<-release
			return nil
		}, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("x"))
		<-stuck
		check(t, r, true)
		ipctest.Until(t, "the handler's context ends", handled.Load)
	})
	t.Run("idle client", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		r := ipctest.StartReader(t, func([]byte) error { return nil }, path)
		ipctest.MustDial(t, path)
		check(t, r, false)
	})
	t.Run("removed path", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		r := ipctest.StartReader(t, func([]byte) error { return nil }, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		check(t, r, false)
	})
	t.Run("removed directory", func(t *testing.T) {
		dir := t.TempDir() + "/sub"
		r := ipctest.StartReader(t, func([]byte) error { return nil }, dir+"/s")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		check(t, r, false)
	})
	t.Run("from inside a handler", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		returned := make(chan error, 1)
		var r *udsipc.Reader
		r = ipctest.StartReader(t, func([]byte) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			returned <- r.Stop(ctx)
			return nil
		}, path)
		ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("x"))
		if err := ipctest.Await(t, "Stop", returned); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
	})
	t.Run("tcp writer that goes on", func(t *testing.T) {
		address := ipctest.TcpAddress(t)
		r := ipctest.StartReader(t, func([]byte) error { return nil }, address)
		conn := ipctest.MustDial(t, address)
		go io.Copy(conn, forever{})
		ipctest.Until(t, "messages come", func() bool { return r.Metrics().Received > 0 })
		check(t, r, true)
	})
}

// forever is an endless stream of empty messages.
type forever struct{}

func (forever) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestReader_Stop_ServesBacklog: who has connected and written before Stop is served.
func TestReader_Stop_ServesBacklog(t *testing.T) {
	path := ipctest.SocketPath(t)
	var received atomic.Int64
	gate := make(chan struct{})
	r := ipctest.StartReader(t, func([]byte) error { received.Add(1); <-gate; return nil }, path)
	const n = 100
	for range n {
		ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("x", "y"))
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(t.Context()) }()
	ipctest.Until(t, "connections are refused", func() bool {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(gate)
	if err := ipctest.Await(t, "Stop", stopped); err != nil {
		t.Error(err)
	}
	if got := received.Load(); got != 2*n {
		t.Errorf("%d messages were handled, want %d", got, 2*n)
	}
}

// A lateListener gives nothing out before its gate is open, and cannot be woken but by Close.
type lateListener struct {
	net.Listener
	gate chan struct{}
}

func (l lateListener) Accept() (net.Conn, error) {
	<-l.gate
	return l.Listener.Accept()
}

// TestReader_StopCustomListener_ServesBacklog: Close would drop who has connected and written.
func TestReader_StopCustomListener_ServesBacklog(t *testing.T) {
	ipctest.OverMemory(t, func(t *testing.T, on *ipctest.Route) {
		if on.Secure {
			t.Skip("TLS needs the Reader before anything is sent")
		}
		l := lateListener{on.Net.Listen(), make(chan struct{})}
		var handled uint64
		r := ipctest.StartReader(t, func([]byte) error { handled++; return nil }, on.Address, udsipc.WithListener(l))
		w := on.StartWriter(t)
		for range 10 {
			ipctest.MustWriteMessage(t, w, "before Stop")
		}
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- r.Stop(t.Context()) }()
		synctest.Wait()
		close(l.gate)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		ipctest.CheckGracefulStop(t, w, handled)
		if m := w.Metrics(); handled != 10 || m.PossiblyLost > 0 {
			t.Errorf("%d messages handled, want 10: %+v", handled, m)
		}
	})
}
