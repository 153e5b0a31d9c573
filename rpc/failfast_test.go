// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// client returns a Client that is not started, and is stopped at the end of the test.
func client(t *testing.T, address string, opts ...udsipc.WriterOption) *ours.Client {
	t.Helper()
	opts = append([]udsipc.WriterOption{udsipc.WithMaxBackoff(10 * time.Millisecond)}, opts...)
	c, err := ours.NewClient(address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Stop(ended) // Some tests leave messages.
	})
	return c
}

// wantUnavailable checks the error of a call that failed fast, because of cause.
func wantUnavailable(t *testing.T, what string, err, cause error) {
	t.Helper()
	if ours.CodeOf(err) != ours.CodeUnavailable || !errors.Is(err, udsipc.ErrNotConnected) || !errors.Is(err, cause) {
		t.Errorf("%s: %v, want %v", what, err, cause)
	}
	for _, other := range []error{os.ErrNotExist, os.ErrPermission, context.DeadlineExceeded, udsipc.ErrConnectionClosed} {
		if errors.Is(err, other) {
			t.Errorf("%s: %v matches %v, which stands for another code", what, err, other)
		}
	}
}

// each makes a call of each kind, and has check look at its error.
func each(ctx context.Context, c *ours.Client, check func(what string, err error)) {
	_, err := c.Call(ctx, "echo", nil)
	check("Call", err)
	_, err = c.CallIdempotent(ctx, "echo", nil)
	check("CallIdempotent", err)
	stream, err := c.OpenStream(ctx, "echo", nil)
	if err == nil {
		stream.Close()
	}
	check("OpenStream", err)
	_, err = ours.NewMethod("echo", codec.None, codec.None).Call(ctx, c, struct{}{})
	check("Method.Call", err)
}

// TestFailFast_Disconnected_ReturnsCause: before Start, while nobody listens, and after the server has gone, no call
// waits, although its context does not end.
func TestFailFast_Disconnected_ReturnsCause(t *testing.T) {
	overTransports(t, func(t *testing.T, p *place) {
		opts := []udsipc.WriterOption(nil)
		if p.client != nil {
			opts = append(opts, udsipc.WithTLS(p.client))
		}
		perCall, perClient := client(t, p.address, opts...), client(t, p.address, opts...)
		perClient.SetFailFast()
		for c, ctx := range map[*ours.Client]context.Context{
			perCall: ours.WithFailFast(context.Background()), perClient: context.Background(),
		} {
			each(ctx, c, func(what string, err error) { wantUnavailable(t, what, err, udsipc.ErrNotStarted) })
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			each(ctx, c, func(what string, err error) { wantUnavailable(t, what, err, udsipc.ErrNoConsumer) })
			if err := c.Notify("echo", nil); err != nil { // Is queued as ever.
				t.Error(err)
			}
			s := p.serve(t, nil)
			ipctest.Until(t, "the calls succeed", func() bool {
				_, err := c.Call(ctx, "echo", nil)
				return err == nil
			})
			ipctest.Stop(t, s)
			ipctest.Until(t, "the client knows that the server has gone", func() bool {
				_, err := c.Call(ctx, "echo", nil)
				wantUnavailable(t, "Call", err, udsipc.ErrNotConnected)
				return errors.Is(err, udsipc.ErrNoConsumer)
			})
			each(ctx, c, func(what string, err error) { wantUnavailable(t, what, err, udsipc.ErrNoConsumer) })
			ipctest.Stop(t, c)
			each(ctx, c, func(what string, err error) {
				if ours.CodeOf(err) != ours.CodeStopped || !errors.Is(err, udsipc.ErrStopped) {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
	})
}

// TestFailFast_FirstAttempt_IsAwaited: a call right after Start gets the outcome of the attempt, with the error of the
// dialer, and the calls after it do not wait for the next attempt.
func TestFailFast_FirstAttempt_IsAwaited(t *testing.T) {
	t.Parallel()
	dialed, mine := make(chan error), errors.New("mine")
	c := client(t, ipctest.SocketPath(t), udsipc.WithDialTimeout(time.Minute), udsipc.WithDialer(
		func(ctx context.Context) (net.Conn, error) {
			select {
			case err := <-dialed:
				return nil, err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}))
	c.SetFailFast()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Call(short, "echo", nil); ours.CodeOf(err) != ours.CodeDeadlineExceeded ||
		!errors.Is(err, udsipc.ErrNotConnected) {
		t.Error(err)
	}
	result := make(chan error, 1)
	go func() { // Ends with the attempt.
		_, err := c.Call(t.Context(), "echo", nil)
		result <- err
	}()
	dialed <- errors.Join(mine, context.DeadlineExceeded) // As if the dialer's own time were over.
	wantUnavailable(t, "the call that waited", ipctest.Await(t, "the call returns", result), mine)
	each(t.Context(), c, func(what string, err error) { wantUnavailable(t, what, err, mine) })
}

// toUnreadingServer returns a client that is connected to a server that reads nothing, and a function that ends
// both the connection and the server.
func toUnreadingServer(t *testing.T) (address string, c *ours.Client, hangUp func()) {
	t.Helper()
	address = ipctest.SocketPath(t)
	l := ipctest.MustListen(t, address)
	c = client(t, address)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return address, c, func() { _, _ = l.Close(), conn.Close() }
}

// TestFailFast_ConnectionLost_FailsQueuedCalls: a call that a lost connection has not taken fails as well, and others
// wait for the next connection.
func TestFailFast_ConnectionLost_FailsQueuedCalls(t *testing.T) {
	t.Parallel()
	_, c, hangUp := toUnreadingServer(t)
	const calls = 8
	var fast sync.WaitGroup
	errs := make(chan error, 2*calls)
	for range calls {
		fast.Go(func() {
			_, err := c.Call(ours.WithFailFast(context.Background()), "echo", make([]byte, 1<<20))
			errs <- err
		})
		fast.Go(func() {
			stream, err := c.OpenStream(ours.WithFailFast(context.Background()), "echo", make([]byte, 1<<20))
			if err == nil {
				_, err = stream.Receive()
				stream.Close()
			}
			errs <- err
		})
	}
	waits := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // Ends with its context.
		_, err := c.Call(ctx, "echo", make([]byte, 1<<20))
		waits <- err
	}()
	ipctest.Until(t, "all are in flight", func() bool { return ours.PendingCalls(c) == 2*calls+1 })
	hangUp()
	queued := 0
	for range 2 * calls {
		err := ipctest.Await(t, "the calls fail", errs)
		if ours.CodeOf(err) != ours.CodeConnectionLost && ours.CodeOf(err) != ours.CodeUnavailable {
			t.Error(err)
		}
		if strings.Contains(err.Error(), "queued") {
			queued++
		}
	}
	if fast.Wait(); queued == 0 {
		t.Error("the connection has taken every call")
	}
	select {
	case err := <-waits:
		if ours.CodeOf(err) != ours.CodeConnectionLost { // It came first.
			t.Error(err)
		}
	default:
		cancel()
		if err := ipctest.Await(t, "the call ends", waits); ours.CodeOf(err) != ours.CodeCanceled {
			t.Error(err)
		}
	}
	cancel()
}

// TestFailFast_QueuedCalls_AreCancelledLater: a call that has failed is sent with what is in the queue, and its handler
// does not wait for ever, nor does Stop of the server.
func TestFailFast_QueuedCalls_AreCancelledLater(t *testing.T) {
	t.Parallel()
	address, c, hangUp := toUnreadingServer(t)
	for range 8 {
		if err := c.Notify("echo", make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	ctx := ours.WithFailFast(context.Background())
	called := make(chan error, 2)
	go func() { // Ends with the connection.
		_, err := c.Call(ctx, "wait", nil)
		called <- err
	}()
	stream, err := c.OpenStream(ctx, "stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	ipctest.Until(t, "both are in flight", func() bool { return ours.PendingCalls(c) == 2 })
	hangUp()
	_, err = stream.Receive()
	called <- err
	for range 2 {
		if err := ipctest.Await(t, "they fail", called); ours.CodeOf(err) != ours.CodeConnectionLost {
			t.Error(err)
		}
	}
	entered := make(chan struct{}, 2)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("wait", func(ctx context.Context, _ []byte) ([]byte, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		s.HandleStream("stream", func(ctx context.Context, _ *ours.Stream) error {
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
	})
	for range 2 {
		ipctest.Await(t, "the next connection takes them", entered)
	}
	ipctest.Until(t, "the handlers have returned", func() bool { return s.ActiveCalls() == 0 })
}

// TestFailFast_OverflowBlock_EndsWaitForSpace: what waits for space in the queue fails as well.
func TestFailFast_OverflowBlock_EndsWaitForSpace(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	l := ipctest.MustListen(t, address)
	c := client(t, address, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBufferedWrites(2))
	c.SetFailFast()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept() // It reads nothing.
	if err != nil {
		t.Fatal(err)
	}
	const calls = 6 // More than the kernel and the queue take.
	errs := make(chan error, 3*calls)
	for range calls {
		for _, call := range []func(context.Context, string, []byte) ([]byte, error){
			c.Call, c.CallIdempotent, func(ctx context.Context, method string, request []byte) ([]byte, error) {
				stream, err := c.OpenStream(ctx, method, request)
				if err != nil {
					return nil, err
				}
				defer stream.Close()
				return stream.Receive()
			},
		} {
			go func() { // Ends with the connection.
				_, err := call(context.Background(), "echo", make([]byte, 1<<20))
				errs <- err
			}()
		}
	}
	ipctest.Until(t, "all are in flight", func() bool { return ours.PendingCalls(c) == 3*calls })
	_, _ = l.Close(), conn.Close()
	for range 3 * calls {
		err := ipctest.Await(t, "the calls fail", errs)
		if ours.CodeOf(err) != ours.CodeConnectionLost && ours.CodeOf(err) != ours.CodeUnavailable {
			t.Error(err)
		}
	}
}

// TestFailFast_LostWhileAdmitted_IsNoticed: a call that has seen the connection does not wait for the next one.
func TestFailFast_LostWhileAdmitted_IsNoticed(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	var disconnected atomic.Bool
	s := serve(t, address, nil)
	c := dial(t, address, udsipc.WithStateCallback(func(state udsipc.State, _ error) {
		if state == udsipc.StateDisconnected {
			disconnected.Store(true)
		}
	}))
	if _, err := c.Call(t.Context(), "echo", nil); err != nil {
		t.Fatal(err)
	}
	if ours.IsAdmitted(c, func() {}) != true {
		t.Error("not registered with a connection")
	}
	if ours.IsAdmitted(c, func() {
		ipctest.Stop(t, s)
		ipctest.Until(t, "the client knows", disconnected.Load)
	}) {
		t.Error("registered without a connection")
	}
}

// TestCall_NotConnected_NamesReason: a call that waits until its deadline says why there was no connection.
func TestCall_NotConnected_NamesReason(t *testing.T) {
	t.Parallel()
	c := client(t, ipctest.SocketPath(t))
	for _, test := range []struct {
		cause error
		says  string
	}{{udsipc.ErrNotStarted, "not connected: "}, {udsipc.ErrNoConsumer, "no such file"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := c.Call(ctx, "echo", nil)
		if ours.CodeOf(err) != ours.CodeDeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) ||
			!errors.Is(err, udsipc.ErrNotConnected) || !errors.Is(err, test.cause) || errors.Is(err, os.ErrNotExist) ||
			!strings.Contains(err.Error(), test.says) {
			t.Errorf("%v, want %v, %q", err, test.cause, test.says)
		}
		cancel()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		_, err = c.Call(ours.WithFailFast(t.Context()), "echo", nil) // Awaits the first attempt.
		wantUnavailable(t, "Call", err, udsipc.ErrNoConsumer)
	}
}
